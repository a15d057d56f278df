"""When a comparison of members with non-members says nothing: they overlap, change, are exchanged, or all score the same."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from method_cards.errors import CheckError
from method_checks.memorization.groups.blind import contents_of

if TYPE_CHECKING:
    from method_cards.subject import Subject

Floats = NDArray[np.float64]

REVERSED = 0.001
"""At this p-value members score below non-members, which means that something is mixed up."""


def refuse_random_items(subject: Subject, split: str) -> None:
    """Examples that change at each look, by augmentation say, are not those that the model was trained on.

    Raises:
        CheckError: The split's first example differs between two looks.
    """
    first, second = (contents_of(subject, subject.batch(split, (0,))) for _ in range(2))
    if first != second:
        raise CheckError(
            f'example 0 of "{split}" differs each time it is read; give the data without augmentation or other random changes'
        )


def refuse_overlap(members: list[bytes], non_members: list[bytes], splits: tuple[str, str]) -> None:
    """Non-members that the model was trained on score like members, so that a leak looks small.

    Args:
        members: Digests of the drawn members.
        non_members: Digests of the drawn non-members.
        splits: Names of both splits.

    Raises:
        CheckError: More examples are shared than repetition explains.
    """
    if shared := shared_beyond_chance(members, non_members):
        raise CheckError(
            f'{shared} of {len(non_members)} drawn examples of "{splits[1]}" are also among the {len(members)} drawn '
            f'from "{splits[0]}": members and non-members overlap, so nothing can be said; remove from '
            f'"{splits[1]}" what the model was trained on'
        )


def refuse_constant(scores: Floats, what: str) -> None:
    """A score that is the same for every example tells nobody apart, whatever the model memorised.

    Args:
        scores: Of all examples, ``(sample,)``.
        what: What the score is, such as ``loss``.

    Raises:
        CheckError: All are equal.
    """
    if scores.size > 1 and scores.min() == scores.max():
        raise CheckError(
            f"the {what} is {abs(scores[0]):g} for all {scores.size} examples, so it cannot tell members from non-members whatever the "
            "model memorised; does the model's output depend on its input?"
        )


def refuse_reversed(members: Floats, non_members: Floats, what: str, splits: tuple[str, str]) -> None:
    """A model cannot know what it never saw better than what it was trained on: then something is mixed up, and nothing is shown.

    Args:
        members: Their scores, larger for what the model knows better.
        non_members: Theirs.
        what: What the members have where they score below the others, such as ``larger losses``.
        splits: Names of both splits.

    Raises:
        CheckError: Members score below non-members, at a p-value below `REVERSED`.
    """
    from scipy.stats import mannwhitneyu

    if min(members.size, non_members.size) and mannwhitneyu(members, non_members, alternative="less").pvalue < REVERSED:
        raise CheckError(
            f'the model has {what} on "{splits[0]}" than on "{splits[1]}": are the splits exchanged, or the labels of '
            f'"{splits[0]}" not those that it was trained on?'
        )


def shared_beyond_chance(members: list[bytes], non_members: list[bytes]) -> int:
    """How many non-members are also members, when that is more than repetition among the members explains; else 0.

    Where the data repeats by nature, as small tables do, a non-member is found among the members about as often as a member
    is found among the other members.
    """
    known = Counter(members)
    shared = sum(digest in known for digest in non_members)
    others = Counter(non_members)
    expected = min(_repeated(known), _repeated(others)) * len(non_members)
    return shared if shared > expected + 3 * math.sqrt(shared + expected) else 0


def _repeated(counts: Counter[bytes]) -> float:
    """The share of examples that stand in their split more than once."""
    return sum(count for count in counts.values() if count > 1) / max(1, counts.total())

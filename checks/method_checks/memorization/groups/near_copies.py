"""Non-members that share most of their word sequences with members: the model saw them, whatever split they stand in."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from method_cards.errors import CheckError

if TYPE_CHECKING:
    from collections.abc import Iterable

NEAR = 0.8
"""From this share of shared n-grams on a text is a near-copy, as in Duan et al. 2024."""

NGRAM = 13
"""How many tokens in a row are compared; all of a text that is shorter."""


def refuse_near_copies(
    members: list[tuple[int, ...]], non_members: list[tuple[int, ...]], splits: tuple[str, str]
) -> None:
    """Non-members that are near-copies of members score like members, so that a leak looks small.

    Args:
        members: Token ids of the drawn members.
        non_members: Token ids of the drawn non-members.
        splits: Names of both splits.

    Raises:
        CheckError: More non-members are near-copies of members than repetition within the splits explains.
    """
    if copies := near_copies(members, non_members):
        raise CheckError(
            f'{copies} of {len(non_members)} drawn texts of "{splits[1]}" share at least {NEAR:.0%} of their sequences of {NGRAM} tokens '
            f'with the {len(members)} drawn from "{splits[0]}": members and non-members overlap, so nothing can be said; '
            "remove near-duplicates before splitting"
        )


def near_copies(members: list[tuple[int, ...]], non_members: list[tuple[int, ...]]) -> int:
    """How many non-members are near-copies of members, when that is more than repetition within the splits explains; else 0."""
    grams, others = [_grams(text) for text in members], [_grams(text) for text in non_members]
    known = _counted(grams)
    found = sum(_share(text, known, 1) >= NEAR for text in others)
    within = min(
        sum(_share(text, counts, 2) >= NEAR for text in group) / max(1, len(group))
        for group, counts in ((grams, known), (others, _counted(others)))
    )
    expected = within * len(others)
    return found if found > expected + 3 * math.sqrt(found + expected) else 0


def _grams(text: tuple[int, ...]) -> frozenset[int]:
    """Hashes of all sequences of `NGRAM` tokens, the first token left out: it is the same in all texts where one marks the beginning."""
    body = text[1:] or text
    return frozenset(hash(body[start : start + NGRAM]) for start in range(max(1, len(body) - NGRAM + 1)))


def _counted(texts: Iterable[frozenset[int]]) -> Counter[int]:
    return Counter(gram for text in texts for gram in text)


def _share(text: frozenset[int], counts: Counter[int], least: int) -> float:
    """The share of a text's n-grams that stand in at least so many texts."""
    return sum(counts[gram] >= least for gram in text) / len(text)

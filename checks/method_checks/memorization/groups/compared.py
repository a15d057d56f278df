"""Members and non-members of one run: drawn once, scored by whatever a check hands in, and compared without the model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from method_cards.measurement import Quantity
from method_checks.memorization.groups.blind import LIMIT, Examples, Floats, blind_scores, contents_of, examples_of
from method_checks.memorization.groups.refusals import refuse_overlap, refuse_random_items

if TYPE_CHECKING:
    from method_cards.check import Context
    from method_cards.data import Batch
    from method_cards.subject import Subject

Score: TypeAlias = "Callable[[Batch], Floats]"
"""Scores of a batch, one for each example, larger for members: ``(sample,)``, or ``(sample, score)`` for several at once."""

BLIND_AUC = Quantity(
    "blind_auc",
    "auc",
    "The chance that a member looks more like a member than a non-member does, to a classifier that never sees the model.",
)


@dataclass
class _Group:
    """What has been seen of one split."""

    scores: list[Floats] = field(default_factory=list)
    seen: list[Examples] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)

    def take(self, subject: Subject, batch: Batch, score: Score) -> Floats:
        if sum(map(len, self.seen)) < LIMIT:
            self.seen.append(examples_of(subject, batch))
        self.digests += [hashlib.blake2b(content, digest_size=16).digest() for content in contents_of(subject, batch)]
        self.scores.append(score(batch))
        return self.scores[-1]

    @property
    def examples(self) -> Examples:
        return Examples.joined(self.seen)


class Groups:
    """What one run draws of two splits.

    Args:
        subject: The subject under check.
        context: What the engine lends; it decides which examples are drawn.
        members: The split that the model was trained on.
        non_members: The split that was never used for training.
    """

    def __init__(self, subject: Subject, context: Context, members: str, non_members: str) -> None:
        self.splits = (members, non_members)
        self._subject = subject
        self._context = context
        self._members, self._non_members = _Group(), _Group()

    def scored(self, score: Score) -> Iterator[tuple[Floats, Floats]]:
        """Score both groups, a batch of each at a time; where one has ended before the other, its scores are empty.

        Args:
            score: Gives the scores of a batch; every example goes through it once.

        Yields:
            Scores of a batch of members and of a batch of non-members.

        Raises:
            CheckError: An example changes each time it is read, or, at the end, the groups overlap.
        """
        for name in self.splits:
            refuse_random_items(self._subject, name)
        pairs = zip_longest(*(self._context.batches(name) for name in self.splits))
        for first, second in pairs:
            members = None if first is None else self._members.take(self._subject, first, score)
            non_members = None if second is None else self._non_members.take(self._subject, second, score)
            yield _or_none_of(members, non_members), _or_none_of(non_members, members)
        refuse_overlap(self._members.digests, self._non_members.digests, self.splits)

    @property
    def members(self) -> Floats:
        """Scores of all members, in the order in which they were drawn; once all are `scored`."""
        return np.concatenate(self._members.scores)

    @property
    def non_members(self) -> Floats:
        """Scores of all non-members, in the order in which they were drawn; once all are `scored`."""
        return np.concatenate(self._non_members.scores)

    def blind(self, blocks: int) -> Iterator[tuple[Floats, Floats]]:
        """What a classifier that never sees the model tells apart, for `BLIND_AUC`; once all are `scored`.

        Args:
            blocks: In how many blocks it goes through the examples.

        Yields:
            Nothing for either group first, so that there is a series even of too few examples; then scores block by block.
        """
        yield np.empty(0), np.empty(0)
        seed = self._context.number("blind")
        yield from blind_scores(self._members.examples, self._non_members.examples, blocks, seed)


def _or_none_of(scores: Floats | None, others: Floats | None) -> Floats:
    """The scores; no scores, in the shape of the other group's, where there are none."""
    if scores is not None:
        return scores
    return np.empty(0) if others is None else others[:0]

"""Whether the loss tells training examples from others."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from method_cards.adapters import WITHOUT_LOSS
from method_cards.check import Check, Context, Control, Passes
from method_cards.errors import CheckError
from method_cards.measurement import Quantity
from method_checks.memorization import controls
from method_checks.memorization.blind import LIMIT, Examples, Floats, blind_scores, contents_of, examples_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from method_cards.data import Batch
    from method_cards.measurement import Yielded
    from method_cards.subject import Subject

REVERSED = 0.001
"""At this p-value members have larger losses than non-members, which means that something is mixed up."""

MEMBERSHIP_AUC = Quantity(
    "membership_auc",
    "auc",
    "The chance that a member has a smaller loss than a non-member: 0.5 when the loss tells nothing.",
)
BLIND_AUC = Quantity(
    "blind_auc",
    "auc",
    "The chance that a member looks more like a member than a non-member does, to a classifier that never sees the model.",
)
TRUE_POSITIVE_RATE = Quantity(
    "true_positive_rate",
    "proportion",
    "The share of members whose loss is below a threshold that was fixed on half of the non-members.",
)
FALSE_POSITIVE_RATE = Quantity(
    "false_positive_rate",
    "proportion",
    "The share of the other half of the non-members whose loss is below that threshold.",
)


class MembershipInference(Check):
    """The loss of an example tells whether the model was trained on it.

    What it measures:
        Each drawn example of both splits goes through the model once; its score is the negative loss, so that members should score higher.
        `membership_auc` is the chance that a member scores above a non-member, ties counted one half. `true_positive_rate` is the
        share of members above a threshold that is fixed beforehand on every second drawn non-member: with `n` of these it is the
        `floor(false_positive_rate (n + 1))`-th largest score, so that a fresh non-member exceeds it with at most the chosen probability.
        `false_positive_rate` is the share of the remaining non-members above it. `blind_auc` is the same area for a classifier
        that sees inputs and labels but never the model: far from 0.5 it says that members and non-members come from
        different distributions, and then no verdict on the model is possible. It scores each block of examples after
        training on the blocks before, and chooses between logistic regression and boosted trees by their success so far; it looks at
        no more than 4,000 examples of each split.

    Assumptions:
        The members are what the model was trained on, the non-members were never used for it, and both are independent draws of one
        distribution. If the drawn splits share more inputs than the members share among themselves, the check refuses. Label noise or
        any other treatment must have happened before the split. The verdict is about this one trained model, and about
        this one attack: a small area does not say that a stronger attack, one with reference models for instance, finds nothing.
        A bound of 0.55 on both areas leaves a sound model undecided in about one run in ten with 1,000 examples of each split, in one
        of a hundred with 1,500. The threshold needs `1 / false_positive_rate - 1` non-members in its half, 197 drawn ones for
        1 %; with fewer, both rates are reported on no samples, and a criterion on them is inconclusive. A loss that is the
        same for all examples is refused, and so are members whose losses are larger than those of the non-members (splits exchanged, or
        other labels), and data that changes each time it is read. Overlap is looked for among the drawn examples only.

    Cost:
        One forward pass for each drawn example, no backward pass. The blind classifier takes one to five seconds of one CPU core, more
        for wide inputs, whatever the model.

    Departures from the paper:
        Yeom et al. guess "member" when the loss is below the mean training loss and report the advantage, the true-positive rate minus
        the false-positive rate at that threshold. Here the area under the ROC curve sums up all thresholds, and the one threshold in
        use is fixed on examples that are not counted, at a low false-positive rate as Carlini et al. ask. Das et al.
        attack each data set with a blind method made for it, bags of words among them; here one generic classifier serves all
        tasks, with pooled pictures, bags of tokens, and the agreement of labels with those of similar examples.

    Sources:
        yeom2018privacy; das2025blind; carlini2022membership; podkopaev2023sequential
    """

    id: ClassVar[str] = "memorization/membership-inference"
    quantities: ClassVar[tuple[Quantity, ...]] = (MEMBERSHIP_AUC, BLIND_AUC, TRUE_POSITIVE_RATE, FALSE_POSITIVE_RATE)
    gates: ClassVar[tuple[str, ...]] = ("blind_auc",)

    members: str = Field("train", description="The split that the model was trained on.")
    non_members: str = Field("test", description="The split that was never used for training.")
    false_positive_rate: float = Field(
        0.01, gt=0, lt=1, description="How often the threshold may call a non-member a member."
    )
    blind_blocks: int = Field(
        8, ge=2, le=50, description="In how many blocks the blind classifier goes through the examples."
    )

    @model_validator(mode="after")
    def _two_splits(self) -> Self:
        if self.members == self.non_members:
            raise ValueError(f'members and non_members are both "{self.members}"; they must be different splits')
        return self

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Losses batch by batch, then what needs all of them.

        Yields:
            Scores of each pair of batches for the area, the guesses at the threshold, and the blind scores block by block.

        Raises:
            CheckError: A loss is NaN or infinite, all losses are equal, or the splits overlap, are exchanged, or change at each look.
        """
        for name in self.splits():
            _refuse_random_items(subject, name)
        members, non_members = _Group(), _Group()
        for pair in zip_longest(context.batches(self.members), context.batches(self.non_members)):
            yield MEMBERSHIP_AUC.two_groups(members.take(subject, pair[0]), non_members.take(subject, pair[1]))
        _refuse_overlap(members.digests, non_members.digests, self)
        scores, others = members.all_scores, non_members.all_scores
        _refuse_constant(np.concatenate([scores, others]))
        _refuse_reversed(scores, others, self)
        threshold = threshold_at(others[::2], self.false_positive_rate)
        yield TRUE_POSITIVE_RATE.per_sample(scores > threshold if math.isfinite(threshold) else [])
        yield FALSE_POSITIVE_RATE.per_sample(others[1::2] > threshold if math.isfinite(threshold) else [])
        yield BLIND_AUC.two_groups([], [])
        for block in blind_scores(members.examples, non_members.examples, self.blind_blocks, context.number("blind")):
            yield BLIND_AUC.two_groups(*block)

    def not_applicable(self, subject: Subject) -> str:
        """Encoders and image-to-image models have no loss."""
        return WITHOUT_LOSS.get(subject.task, "")

    def passes(self, subject: Subject, samples: int) -> Passes:
        """One forward pass for each drawn example of both splits."""
        return Passes(forward=sum(min(samples, len(subject.split(name))) for name in self.splits()))

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Models that leak and models that do not, and splits that differ."""
        return controls.CONTROLS

    def splits(self) -> tuple[str, ...]:
        """Members and non-members."""
        return (self.members, self.non_members)


def threshold_at(non_members: Floats, false_positive_rate: float) -> float:
    """The smallest of these scores that a fresh non-member exceeds with at most this probability; infinite when they are too few to tell.

    Of ``n + 1`` exchangeable scores each is among the ``k`` largest with probability ``k / (n + 1)``.

    Args:
        non_members: Scores ``(sample,)`` that are used for nothing else.
        false_positive_rate: Between 0 and 1.
    """
    largest = math.floor(false_positive_rate * (non_members.size + 1) + 1e-9)
    return float(np.sort(non_members)[-largest]) if largest else math.inf


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


@dataclass
class _Group:
    """What has been seen of one split."""

    scores: list[Floats] = field(default_factory=list)
    seen: list[Examples] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)

    def take(self, subject: Subject, batch: Batch | None) -> Floats:
        """The scores of a batch; none where the split has ended before the other."""
        if batch is None:
            return np.empty(0)
        if sum(map(len, self.seen)) < LIMIT:
            self.seen.append(examples_of(subject, batch))
        self.digests += [hashlib.blake2b(content, digest_size=16).digest() for content in contents_of(subject, batch)]
        self.scores.append(-subject.losses(batch).double().cpu().numpy())
        return self.scores[-1]

    @property
    def all_scores(self) -> Floats:
        return np.concatenate(self.scores)

    @property
    def examples(self) -> Examples:
        features, labels = zip(*((each.features, each.labels) for each in self.seen), strict=True)
        return Examples(np.concatenate(features), np.concatenate(labels))


def _refuse_overlap(members: list[bytes], non_members: list[bytes], check: MembershipInference) -> None:
    if shared := shared_beyond_chance(members, non_members):
        raise CheckError(
            f'{shared} of {len(non_members)} drawn examples of "{check.non_members}" are also among the {len(members)} drawn '
            f'from "{check.members}": members and non-members overlap, so nothing can be said; remove from '
            f'"{check.non_members}" what the model was trained on'
        )


def _refuse_reversed(members: Floats, non_members: Floats, check: MembershipInference) -> None:
    """A model cannot know what it never saw better than what it was trained on: then something is mixed up, and nothing is shown."""
    from scipy.stats import mannwhitneyu

    if min(members.size, non_members.size) and mannwhitneyu(members, non_members, alternative="less").pvalue < REVERSED:
        raise CheckError(
            f'the model has larger losses on "{check.members}" than on "{check.non_members}": are the splits exchanged, or the labels of '
            f'"{check.members}" not those that it was trained on?'
        )


def _refuse_random_items(subject: Subject, split: str) -> None:
    """Examples that change at each look, by augmentation say, are not those that the model was trained on."""
    first, second = (contents_of(subject, subject.batch(split, (0,))) for _ in range(2))
    if first != second:
        raise CheckError(
            f'example 0 of "{split}" differs each time it is read; give the data without augmentation or other random changes'
        )


def _refuse_constant(scores: Floats) -> None:
    if scores.size > 1 and scores.min() == scores.max():
        raise CheckError(
            f"the loss is {-scores[0]:g} for all {scores.size} examples, so it cannot tell members from non-members whatever the model "
            "memorised; does the model's output depend on its input?"
        )

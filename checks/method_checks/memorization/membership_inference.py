"""Whether the loss tells training examples from others."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from method_cards.adapters import WITHOUT_LOSS
from method_cards.check import Check, Context, Control, Passes
from method_cards.measurement import Quantity
from method_checks.memorization.controls import tables
from method_checks.memorization.groups.compared import BLIND_AUC, Groups
from method_checks.memorization.groups.refusals import refuse_constant, refuse_reversed
from method_checks.memorization.groups.threshold import guesses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from method_cards.measurement import Yielded
    from method_cards.subject import Subject

MEMBERSHIP_AUC = Quantity(
    "membership_auc",
    "auc",
    "The chance that a member has a smaller loss than a non-member: 0.5 when the loss tells nothing.",
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
        groups = Groups(subject, context, *self.splits())
        for pair in groups.scored(lambda batch: -subject.losses(batch).double().cpu().numpy()):
            yield MEMBERSHIP_AUC.two_groups(*pair)
        members, non_members = groups.members, groups.non_members
        refuse_constant(np.concatenate([members, non_members]), "loss")
        refuse_reversed(members, non_members, "larger losses", self.splits())
        guessed, wrongly = guesses(members, non_members, self.false_positive_rate)
        yield TRUE_POSITIVE_RATE.per_sample(guessed)
        yield FALSE_POSITIVE_RATE.per_sample(wrongly)
        for block in groups.blind(self.blind_blocks):
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
        return tables.CONTROLS

    def splits(self) -> tuple[str, str]:
        """Members and non-members."""
        return (self.members, self.non_members)

"""Whether the loss, or another score of one model's outputs, tells training examples from others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from method_cards.adapters import WITHOUT_LOSS
from method_cards.check import Check, Context, Control, Passes
from method_cards.measurement import Quantity
from method_checks.memorization.controls import tables
from method_checks.memorization.groups.compared import BLIND_AUC, Groups
from method_checks.memorization.groups.refusals import refuse_constant, refuse_reversed
from method_checks.memorization.groups.threshold import Floats, guesses, non_members_needed
from method_checks.memorization.scores import confidence

if TYPE_CHECKING:
    from torch import Tensor

    from method_cards.data import Batch
    from method_cards.measurement import Yielded
    from method_cards.subject import Subject

MEMBERSHIP_AUC = Quantity(
    "membership_auc",
    "auc",
    "The chance that a member scores above a non-member, by a smaller loss for instance: 0.5 when the score tells nothing.",
)
TRUE_POSITIVE_RATE = Quantity(
    "true_positive_rate",
    "proportion",
    "The share of members that score above a threshold that was fixed on half of the non-members.",
)
FALSE_POSITIVE_RATE = Quantity(
    "false_positive_rate",
    "proportion",
    "The share of the other half of the non-members that score above that threshold.",
)

SCORES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "confidence": confidence.logit_scaled_confidence,
    "margin": confidence.margin,
    "modified-entropy": lambda logits, targets: -confidence.modified_entropy(logits, targets),
}
"""Scores of logits ``(sample, class)`` and class numbers ``(sample,)``, larger for members."""

_WORSE: Mapping[str, str] = {
    "loss": "larger losses",
    "confidence": "lower confidences",
    "margin": "smaller margins",
    "modified-entropy": "larger modified entropies",
}


class MembershipInference(Check):
    """The loss of an example tells whether the model was trained on it.

    What it measures:
        Each drawn example of both splits goes through the model once; its score is the negative loss, so that members should score higher.
        Instead of the loss, `score` takes the logit-scaled `confidence` log p - log(1 - p) of the label, which ranks as the loss does
        and does not saturate; the `margin`, the label's logit less the largest of the others; or the `modified-entropy`, which is
        small only where the model is sure of the label. All are computed from logits.
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
        any other treatment must have happened before the split. The verdict is about this one trained model, and about this one
        attack: a small area does not say that a stronger attack, one with reference models for instance, finds nothing. A bound of
        0.55 on both areas leaves a sound model undecided in about one run in ten with 1,000 examples of each split, in one of a
        hundred with 1,500. The threshold needs `1 / false_positive_rate - 1` non-members in its half, 197 drawn ones for 1 %, 1,997
        for 0.1 %; with fewer, both rates are reported on no samples, and a criterion on them is inconclusive and says how many it
        needs. A score that is the same for all examples is refused, and so are members that score below the non-members (splits
        exchanged, or other labels), and data that changes each time it is read. Overlap is looked for among the drawn examples only.

    Cost:
        One forward pass for each drawn example, no backward pass. The blind classifier takes one to five seconds of one CPU core, more
        for wide inputs, whatever the model.

    Departures from the paper:
        Yeom et al. guess "member" when the loss is below the mean training loss and report the advantage, the true-positive rate
        minus the false-positive rate at that threshold; Song and Mittal choose a threshold for each class with a shadow model. Here
        one threshold serves all classes, the area under the ROC curve sums up all thresholds, and the one threshold in use is fixed
        on examples that are not counted, at a low false-positive rate as Carlini et al. ask. Das et al. attack each data set with a
        blind method made for it, bags of words among them; here one generic classifier serves all tasks, with pooled pictures, bags
        of tokens, and the agreement of labels with those of similar examples.

    Sources:
        yeom2018privacy; song2021systematic; das2025blind; carlini2022membership; podkopaev2023sequential
    """

    id: ClassVar[str] = "memorization/membership-inference"
    quantities: ClassVar[tuple[Quantity, ...]] = (
        MEMBERSHIP_AUC,
        BLIND_AUC,
        TRUE_POSITIVE_RATE,
        FALSE_POSITIVE_RATE,
    )
    gates: ClassVar[tuple[str, ...]] = ("blind_auc",)

    members: str = Field("train", description="The split that the model was trained on.")
    non_members: str = Field("test", description="The split that was never used for training.")
    score: Literal["loss", "confidence", "margin", "modified-entropy"] = Field(
        "loss", description="What tells members from non-members; all but the loss need a classifier."
    )
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
        for pair in groups.scored(lambda batch: self._scores(subject, batch)):
            yield MEMBERSHIP_AUC.two_groups(*pair)
        members, non_members = groups.members, groups.non_members
        refuse_constant(np.concatenate([members, non_members]), self.score)
        refuse_reversed(members, non_members, _WORSE[self.score], self.splits())
        guessed, wrongly = guesses(members, non_members, self.false_positive_rate)
        needs = None if guessed.size else non_members_needed(self.false_positive_rate)
        yield TRUE_POSITIVE_RATE.per_sample(guessed, needs=needs)
        yield FALSE_POSITIVE_RATE.per_sample(wrongly, needs=needs)
        for block in groups.blind(self.blind_blocks):
            yield BLIND_AUC.two_groups(*block)

    def _scores(self, subject: Subject, batch: Batch) -> Floats:
        if self.score == "loss":
            return -subject.losses(batch).double().cpu().numpy()
        return SCORES[self.score](subject.outputs(batch).double(), batch.targets).cpu().numpy()

    def not_applicable(self, subject: Subject) -> str:
        """Encoders and image-to-image models have no loss; only classifiers have a confidence, a margin or an entropy."""
        if self.score == "loss" or subject.task.endswith("-classification"):
            return WITHOUT_LOSS.get(subject.task, "")
        return f"The score {self.score} is that of a class, which {subject.task} lacks. The score `loss` fits every task that has a loss."

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

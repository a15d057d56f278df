"""Whether one step of gradient ascent on an example tells that the model was trained on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from method_cards.check import Check, Context, Control, Need, Passes
from method_cards.lazy import torch
from method_cards.measurement import Quantity
from method_checks.influence.gradients import TrainedCopy
from method_checks.memorization.controls import drift as controls
from method_checks.memorization.drift.classifier import forward_scores
from method_checks.memorization.drift.features import Probe, drifts, probe
from method_checks.memorization.groups.compared import BLIND_AUC, Groups
from method_checks.memorization.groups.refusals import refuse_constant, refuse_reversed
from method_checks.memorization.sequences.tokens import sequences

if TYPE_CHECKING:
    from collections.abc import Iterator

    from method_cards.data import Batch
    from method_cards.measurement import Yielded
    from method_cards.subject import Subject
    from method_checks.influence.gradients.objectives import Examples
    from method_checks.memorization.groups.blind import Floats

DRIFT_AUC = Quantity(
    "drift_auc",
    "auc",
    "The chance that a member looks more like a member than a non-member does, to a classifier of what one step changes.",
)
LOSS_AUC = Quantity(
    "loss_auc",
    "auc",
    "The chance that one of the same members has a smaller loss than one of the same non-members.",
)
GAIN = Quantity(
    "gain_over_loss",
    "mean",
    "How many more of 100 pairs of a member and a non-member the drift puts in the right order than the loss does, as a share.",
    range=(-1.0, 1.0),
)


class GradientDrift(Check):
    """One step of gradient ascent on an example changes a model otherwise when it was trained on it.

    What it measures:
        For each drawn example by itself, the parameters move once, by `step` of their length, along the gradient of the
        example's loss, and it is measured what that changes for this example: by how much the loss grows, the Kullback-Leibler
        divergence of the output from what it was, how far the input of the last layer moves and turns, and how far it moves along
        eight fixed random directions. A logistic regression of these twelve logarithms tells members from non-members;
        each block of examples is scored by one that was trained on the blocks before it. `drift_auc` is the chance
        that a member scores above a non-member, `loss_auc` that of the plain negative loss on the same examples, and
        `gain_over_loss` the share of pairs of one member and one non-member that the drift orders rightly less the share that the loss
        does, each example in one pair. `blind_auc` is the area of a classifier that never sees the model.

    Assumptions:
        Members and non-members are independent draws of one distribution, and the splits say truthfully what the model was trained on.
        The attacker has the parameters, and examples of known membership to train the classifier on: this is an audit, not an attack
        from outside. The splits must not overlap, members must not have larger losses than non-members, and the data must not change
        when it is read again; else the check refuses. Only parameters that require gradients move, and they must be in single
        precision. Batch norm is fine, as the model is in evaluation mode. Where examples cannot go through together with parameters
        of their own, they go one after the other.

    Cost:
        For each drawn example three forward passes and one forward and backward; each example needs a copy of the parameters,
        as many at once as 16 million numbers hold.

    Departures from the paper:
        Only the paper's abstract could be read. It names one targeted step of gradient ascent, and changes of logits, of hidden
        activations and of projections on fixed directions, given to a light logistic classifier. The step's length, the layer, the
        directions, the logarithms and the loss jump are this project's reconstruction, and what is measured here may be weaker than
        the original. The paper works on language models; here classifiers are taken too. In the project's runs the length of the step
        made no difference between 0.0001 and 0.01, and the drift found no more than the loss did.

    Sources:
        gdrift2026membership; yeom2018privacy; das2025blind; podkopaev2023sequential
    """

    id: ClassVar[str] = "memorization/gradient-drift"
    needs: ClassVar[tuple[Need, ...]] = ("gradients",)
    quantities: ClassVar[tuple[Quantity, ...]] = (DRIFT_AUC, LOSS_AUC, GAIN, BLIND_AUC)
    gates: ClassVar[tuple[str, ...]] = ("blind_auc",)

    members: str = Field("train", description="The split that the model was trained on.")
    non_members: str = Field("test", description="The split that was never used for training.")
    step: float = Field(0.001, gt=0, le=0.1, description="How far the parameters move, as a share of their length.")
    blocks: int = Field(8, ge=2, le=50, description="In how many blocks the classifiers go through the examples.")

    @model_validator(mode="after")
    def _two_splits(self) -> Self:
        if self.members == self.non_members:
            raise ValueError(f'members and non_members are both "{self.members}"; they must be different splits')
        return self

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Changes batch by batch, then the classifiers block by block.

        Yields:
            Scores of each block for the areas, the gain for each of its pairs, and the blind scores.

        Raises:
            CheckError: The splits overlap, are exchanged, or change at each look; the model has no parameters, no layer, or losses that
                are NaN, infinite or all the same.
        """
        groups = Groups(subject, context, *self.splits())
        looked: list[Probe] = []

        def score(batch: Batch) -> Floats:
            inputs = _inputs(subject, batch)
            losses = subject.losses(batch).double()
            if not looked:
                copy = TrainedCopy.of(subject)
                looked.append(probe(copy, inputs, batch.targets, self.step, context.generator("directions")))
            changes = drifts(looked[0], inputs, batch.targets)
            return torch.cat([-losses[:, None], changes], dim=1).cpu().numpy()

        for _ in groups.scored(score):
            yield DRIFT_AUC.two_groups([], [])  # nothing can be scored before all are seen
        members, non_members = groups.members, groups.non_members
        refuse_constant(np.concatenate([members[:, 0], non_members[:, 0]]), "loss")
        refuse_constant(np.concatenate([members[:, 1], non_members[:, 1]]), "logarithm of the loss jump")
        refuse_reversed(members[:, 0], non_members[:, 0], "larger losses", self.splits())
        yield LOSS_AUC.two_groups([], [])
        yield GAIN.per_sample([])
        for rows, known, fresh in forward_scores(members[:, 1:], non_members[:, 1:], self.blocks):
            losses = members[rows, 0], non_members[rows, 0]
            yield DRIFT_AUC.two_groups(known, fresh)
            yield LOSS_AUC.two_groups(*losses)
            yield GAIN.per_sample(_ordered(known, fresh) - _ordered(*losses))
        for block in groups.blind(self.blocks):
            yield BLIND_AUC.two_groups(*block)

    def passes(self, subject: Subject, samples: int) -> Passes:
        """Three forward passes and one backward for each drawn example of both splits."""
        drawn = sum(min(samples, len(subject.split(name))) for name in self.splits())
        return Passes(forward=3 * drawn, backward=drawn)

    def not_applicable(self, subject: Subject) -> str:
        """It needs a loss for each example."""
        if subject.task.endswith("classification") or subject.task == "text-generation":
            return ""
        return f"The step follows the loss of a class or of the next token; the subject's task is {subject.task}."

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Classifiers and language models that memorised and that did not, and splits that differ."""
        return controls.CONTROLS

    def splits(self) -> tuple[str, str]:
        """Members and non-members."""
        return (self.members, self.non_members)


def _inputs(subject: Subject, batch: Batch) -> Examples:
    """The batch's inputs; texts padded on the right, where padding changes nothing."""
    return sequences(subject, batch).inputs() if subject.task == "text-generation" else batch.inputs


def _ordered(members: Floats, non_members: Floats) -> Floats:
    """For each pair, 1 when the member scores higher, 0 when lower, one half when they tie."""
    order: Floats = (np.sign(members - non_members) + 1) / 2
    return order

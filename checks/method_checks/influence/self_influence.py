"""Self-influence: does an example's influence on its own loss tell that its label is wrong?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from method_cards.check import Check, Context, Control, Need, Passes
from method_cards.measurement import Quantity
from method_checks.influence.controls import mislabelled
from method_checks.influence.trajectories import (
    Training,
    audit_list,
    last_checkpoint_self_influence,
    mean_loss,
    placements,
    spread_epochs,
    tracin_self_influence,
    training_of,
    zeroth_order_self_influence,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from method_cards.measurement import Yielded
    from method_cards.subject import Subject

SELF_INFLUENCE = Quantity(
    "self_influence_auc",
    "auc",
    "The chance that an example with a wrong label has a larger self-influence (TracIn over all checkpoints) than one with its own label.",
)
LAST = Quantity("last_checkpoint_auc", "auc", "The same for the squared gradient length at the last checkpoint alone.")
ZEROTH = Quantity("zeroth_order_auc", "auc", "The same for the zeroth-order self-influence, which needs losses only.")
MEAN_LOSS = Quantity("mean_loss_auc", "auc", "The same for the mean loss over the checkpoints: the trivial baseline.")
GAIN = Quantity(
    "gain_over_mean_loss",
    "mean",
    "For each wrong label, the share of its own group of right labels that it exceeds by self-influence, less that by mean loss.",
    range=(-1.0, 1.0),
)
CHECKPOINTS = Quantity(
    "checkpoints", "exact", "How many checkpoints the scores were taken over.", range=(0.0, float("inf"))
)
FITTED = Quantity(
    "fitted_at_first_checkpoint",
    "proportion",
    "The share of wrong labels that the model gives already at the first checkpoint: later ones cannot show how it learned them.",
)
AGREEMENT = Quantity(
    "same_predictions",
    "proportion",
    "The share of rightly labelled examples to which the last checkpoint gives the class that the subject's model gives.",
)
SCORES = (SELF_INFLUENCE, LAST, ZEROTH, MEAN_LOSS)


class SelfInfluence(Check):
    """Training examples with wrong labels have a large influence on their own loss.

    What it measures:
        A share of the drawn training labels is replaced by wrong ones, the subject's recipe is followed on them, and checkpoints are
        kept on the way, early ones densely. Each example then goes forward and backward through every checkpoint. Its self-influence is
        TracIn's: the squared length of its loss gradient times the learning rate, summed over checkpoints. `self_influence_auc` is the
        chance that a planted wrong label scores above a label that was left alone. The same is measured for the mean loss over
        the checkpoints, which needs no gradient; `gain_over_mean_loss` is the difference of the two, paired within each planted
        label. Where a split names `verified` labels, nothing is planted: the labels that differ are the wrong ones, and the subject's own
        checkpoints are used. In either case the examples that score highest, planted ones left out, are shown: a list to look through.

    Assumptions:
        Planted labels are wrong at random, and every class is as likely. Labels that people got wrong are harder to find, as similar
        classes are confused. One training is judged: intervals are over examples. The learning rate stands for the step size,
        which it is for plain gradient descent; with Adam it is nominal. At least one checkpoint must be so early that wrong labels
        are not fitted yet (`fitted_at_first_checkpoint`), as an interpolating model has small gradients everywhere. Labels
        that were wrong before the planting count as right, which makes every score look a little worse.

    Cost:
        One training, and one forward and backward pass through each checkpoint. Squared
        gradient lengths are exact, in closed form from these passes for common layers; layers that are tied, used twice or unknown
        cost a gradient for each example.

    Departures from the paper:
        Checkpoints lie denser at the start than at the end. The zeroth-order score of Z0-Inf could only be
        read in summaries: finite differences of the loss between neighbouring checkpoints, divided by the distance of their parameters,
        take the gradient's place; that their squares are weighted by learning rates and summed is this project's reconstruction.
        The mean loss over the training, akin to the area under the margin of Pleiss et al., stands beside every score.

    Sources:
        pruthi2020estimating; kokhlikyan2025zeroth; goodfellow2015efficient; pleiss2020identifying
    """

    id: ClassVar[str] = "influence/self-influence"
    needs: ClassVar[tuple[Need, ...]] = ("gradients", "checkpoints or a training")
    quantities: ClassVar[tuple[Quantity, ...]] = (*SCORES, GAIN, CHECKPOINTS, FITTED, AGREEMENT)
    gates: ClassVar[tuple[str, ...]] = ("checkpoints", "fitted_at_first_checkpoint", "same_predictions")

    split: str = Field("train", description="The split whose labels are looked at.")
    verified: str = Field(
        "",
        description="A split of the same examples in the same order, with labels that people verified; empty to plant wrong labels.",
    )
    planted: float = Field(0.1, gt=0, le=0.5, description="The share of labels that are replaced by wrong ones.")
    checkpoints: int = Field(
        10, ge=1, le=100, description="How many checkpoints a training that is followed anew keeps."
    )
    listed: int = Field(12, ge=0, le=64, description="How many suspects are shown.")

    def splits(self) -> tuple[str, ...]:
        """The training split, and the verified one where there is one."""
        return (self.split, self.verified) if self.verified else (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """Without labels or checkpoints there is nothing to measure."""
        if not subject.task.endswith("-classification"):
            return "Wrong labels are looked for, and this task has none."
        if subject.recipe is None and not subject.checkpoints:
            return (
                "The subject comes with neither a training recipe nor checkpoints; name a `method_cards.training.Recipe` under `train:`, "
                "or weights under `checkpoints:`."
            )
        return ""

    def passes(self, subject: Subject, samples: int) -> Passes:
        """All examples through the model, and each checkpoint forward and backward; the training, where it is followed anew."""
        drawn = min(samples, len(subject.split(self.split)))
        anew = subject.recipe is not None and not (self.verified and subject.checkpoints)
        training = Passes.of_trainings(subject, 1, drawn) if anew else Passes()
        return Passes(forward=3 * drawn, backward=self._many(subject) * drawn) + training

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Follow the training, then hand out the scores batch by batch.

        Raises:
            CheckError: A loss is NaN or infinite, the verified split has other examples, or there is one class only.
        """
        indices = context.indices(self.split)
        drawn = self._training(subject, context, indices)
        scores = {
            SELF_INFLUENCE: tracin_self_influence(drawn.trace.norms, drawn.trace.rates),
            LAST: last_checkpoint_self_influence(drawn.trace.norms),
            ZEROTH: zeroth_order_self_influence(drawn.trace.losses, drawn.trace.rates, drawn.trace.steps),
            MEAN_LOSS: mean_loss(drawn.trace.losses),
        }
        yield CHECKPOINTS.exact(len(drawn.trace.rates))
        start = 0
        for batch in context.batches(self.split):
            rows = slice(start, start + len(batch))
            start += len(batch)
            wrong = drawn.wrong[rows]
            own = subject.outputs(batch).argmax(1).cpu().numpy()
            yield AGREEMENT.per_sample((own == drawn.trace.last[rows])[~wrong])
            if not drawn.known:
                continue
            for quantity in SCORES:
                found = scores[quantity][rows]
                yield quantity.two_groups(found[wrong], found[~wrong])
            yield FITTED.per_sample((drawn.trace.first[rows] == drawn.labels[rows])[wrong])
        if drawn.known:
            generator = np.random.default_rng(context.number("groups"))
            by_influence, by_loss = placements(
                drawn.wrong, scores[SELF_INFLUENCE], scores[MEAN_LOSS], generator=generator
            )
            yield GAIN.per_sample(by_influence - by_loss)
        else:
            for quantity in SCORES:
                yield quantity.two_groups([], [])
            for quantity in (FITTED, GAIN):
                yield quantity.per_sample([])
        yield from audit_list(subject, self.split, indices, drawn, scores[SELF_INFLUENCE], self.listed)

    def _training(self, subject: Subject, context: Context, indices: tuple[int, ...]) -> Training:
        """The training that is looked at; prescriptions with the same parameters share it."""
        key = ("training with wrong labels", indices, self.model_dump_json(exclude={"listed"}))
        return context.once(
            key,
            lambda generator: training_of(
                subject, self.split, self.verified, indices, self.planted, self.checkpoints, generator.initial_seed()
            ),
        )

    def _many(self, subject: Subject) -> int:
        """How many checkpoints there will be."""
        recipe = subject.recipe
        if recipe is None or (self.verified and subject.checkpoints):
            return len(subject.checkpoints)
        return len(spread_epochs(recipe.epochs, self.checkpoints))

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Trainings of which it is known whether self-influence tells wrong labels."""
        return mislabelled.CONTROLS

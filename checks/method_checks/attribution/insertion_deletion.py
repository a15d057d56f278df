"""Insertion and deletion: how fast the probability rises when the most relevant comes first, and falls when it goes first."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from method_cards.check import Check, Context, Control, Passes
from method_cards.measurement import Quantity, Yielded
from method_checks.attribution import controls
from method_checks.attribution.changes.removal import By, Curve, Removal, area, flat, positions_of, random_gain
from method_checks.attribution.changes.substrates import IMAGE, Substrate
from method_checks.attribution.controls import removal as removal_controls
from method_checks.attribution.explainers import Explainer, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from method_cards.subject import Subject

DELETION = Quantity(
    "deletion", "mean", "mean probability of the target while the most relevant positions are removed first"
)
INSERTION = Quantity(
    "insertion", "mean", "mean probability of the target while the most relevant positions are put back first"
)
DELETION_GAIN = Quantity(
    "deletion_gain",
    "mean",
    "deletion in random orders less deletion in the order of the map, of the same example; 0 by chance",
    range=(-1.0, 1.0),
)
INSERTION_GAIN = Quantity(
    "insertion_gain",
    "mean",
    "insertion in the order of the map less insertion in random orders, of the same example; 0 by chance",
    range=(-1.0, 1.0),
)
FLAT = Quantity(
    "flat_curve",
    "proportion",
    "share of examples whose probability hardly moves while positions go, or come, in random orders",
)


class InsertionDeletion(Check):
    """The target's probability falls early when the most relevant positions are removed first and rises early when they are put back first.

    What it measures:
        Deletion starts from the input and replaces the most relevant positions first; insertion starts from an input of nothing but
        `insertion_substrate` and puts the most relevant ones back first. Each gives the mean probability of the target along its
        curve. Neither number means anything alone: both depend on the confidence of the model, the number of classes and the
        substrate. So each is paired with `orders` random orders of the same example: `deletion_gain` and `insertion_gain` are 0 for a
        map without information. `flat_curve` is the share of examples whose probability moves by less than `least_change` in all
        random orders of deletion, or of insertion: these are left out.

    Assumptions:
        Larger values of the map, with their sign, speak more for the target; `by: magnitude` for maps without a sign. Equal values go
        in random order. Inputs in which a part is missing may be unlike the training data, and insertion along blur less so than
        deletion along a constant: two substrates are two questions.

    Cost:
        One explanation, and one forward pass for each step and order, for both substrates; where they are the same, and where another
        check of the run has drawn the same curves, they are drawn once.

    Departures from the paper:
        The area is a trapezoid over the share of positions, in at most `steps` parts, instead of a fixed number of pixels at a time;
        the mean colour of the run's examples is removed to, instead of grey; tables and texts use it for insertion too. Random
        orders of the same examples are the reference, where the paper compares methods.

    Sources:
        petsiuk2018rise
    """

    id: ClassVar[str] = "attribution/insertion-deletion"
    title: ClassVar[str] = "Insertion and deletion"
    quantities: ClassVar[tuple[Quantity, ...]] = (DELETION, INSERTION, DELETION_GAIN, INSERTION_GAIN, FLAT)
    gates: ClassVar[tuple[str, ...]] = ("flat_curve",)

    explainer: Explainer | None = Field(
        default=None, description="The explanation method; the subject's own where left out."
    )
    split: str = Field(default="test", description="The data split whose examples are explained.")
    substrate: Substrate = Field(default="mean", description="What stands where something was deleted.")
    insertion_substrate: Substrate | None = Field(
        default=None,
        description="What stands where nothing was put back yet; where left out, the blurred image for images and the mean for others.",
    )
    by: By = Field(default="signed", description="Whether values or their magnitudes say what is relevant.")
    steps: int = Field(default=32, ge=2, le=1024, description="In how many parts everything is removed, at most.")
    orders: int = Field(default=4, ge=1, le=64, description="How many random orders are drawn for each example.")
    least_change: float = Field(
        default=0.05, gt=0, lt=1, description="The least movement of the probability along random orders."
    )

    def splits(self) -> tuple[str, ...]:
        """The split whose examples are explained."""
        return (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """Without an explainer there is nothing to check, and language models have no single class to explain."""
        return controls.not_applicable(subject, self.explainer)

    def passes(self, subject: Subject, samples: int) -> Passes:
        """The explanation, the explained class, and for both substrates the ends and all steps between in each order."""
        steps = min(self.steps, positions_of(subject, self.split))
        batch = subject.batch(self.split, (0,))
        features = subject.view(batch, batch.targets).features
        is_one = self._insertion(features) == self.substrate
        ends, curves = (2, 2 + self.orders) if is_one else (4, 2 + 2 * self.orders)
        drawn = Passes(forward=samples * (1 + ends + curves * (steps - 1)))
        return drawn + resolve(subject, self.explainer).passes(samples)

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Draw the curves of each batch and compare their areas with those of random orders."""
        explainer = resolve(subject, self.explainer)
        for number, batch in enumerate(context.batches(self.split)):
            view = subject.view(batch)
            deleting, inserting = (
                Removal(context, view, explainer, self.split, substrate=substrate, by=self.by)
                for substrate in (self.substrate, self._insertion(view.features))
            )
            deletion, without = deleting.curve("most", self.steps), self._random(deleting)
            # Putting the most relevant back first is removing the least relevant first, seen from the end.
            insertion, within = inserting.curve("least", self.steps), self._random(inserting)
            is_flat = flat(without, self.least_change) | flat(within, self.least_change)
            yield FLAT.per_sample(is_flat.cpu().numpy())
            if not bool(is_flat.all()):
                for quantity, values in (
                    (DELETION, area(deletion.probabilities, deletion.shares)),
                    (INSERTION, area(insertion.probabilities, insertion.shares)),
                    (DELETION_GAIN, random_gain(without, deletion)),
                    (INSERTION_GAIN, -random_gain(within, insertion)),
                ):
                    yield quantity.per_sample(values[~is_flat].cpu().numpy())
            if number == 0:
                yield from inserting.pictures(subject)

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Maps that follow the model, and maps that see no model or turn its evidence around."""
        return (
            *removal_controls.digits("deletion_gain"),
            *removal_controls.words("deletion_gain"),
            *removal_controls.table("insertion_gain"),
        )

    def _insertion(self, features: Tensor) -> Substrate:
        return self.insertion_substrate or ("blur" if features.dim() == IMAGE else "mean")

    def _random(self, removal: Removal) -> list[Curve]:
        return [removal.curve(order, self.steps) for order in range(self.orders)]

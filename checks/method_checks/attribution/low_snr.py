"""Low signal-to-noise ratio: are the columns that matter found among columns of noise?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from method_cards.check import Check, Context, Control, Passes
from method_cards.data import Batch
from method_cards.measurement import Quantity, Yielded
from method_checks.attribution import controls
from method_checks.attribution.controls.functions import constant, explained_by
from method_checks.attribution.explainers import Explainer, resolve
from method_checks.attribution.tasks import truth
from method_checks.attribution.tasks.formula import HELD_OUT, RELEVANT, formula_table, trained
from method_checks.attribution.tasks.truth import elsewhere, examples_of_own, explain_other, for_other_network, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from method_cards.subject import Subject

PRECISION = Quantity(
    "relevant_precision", "mean", "share of the columns with the largest attributions that are in the formula, each row"
)
MASS = Quantity("relevant_share", "mean", "share of each map's magnitude on the columns that are in the formula")
CHANCE = Quantity(
    "chance_precision", "exact", "the precision of attributions in random order: relevant columns over all"
)
EMPTY = Quantity("empty_map", "proportion", "share of rows whose map is zero everywhere, so that nothing is ranked")
WRONG = Quantity("wrong_prediction", "proportion", "share of rows that the network classifies wrongly")


def top_precision(masses: Tensor, relevant: Tensor) -> Tensor:
    """How many of the k largest of each row are relevant, where k is the number of relevant columns.

    Columns of equal mass at the edge of the k largest count by their share, so that no order among ties is invented.

    Args:
        masses: ``(batch, column)``, at least 0.
        relevant: ``(column,)`` bool.

    Returns:
        ``(batch,)`` in [0, 1].
    """
    count = int(relevant.sum())
    edge = masses.topk(count, dim=1).values[:, -1:]
    above, tied = masses > edge, masses == edge
    room = (count - above.sum(1)) / tied.sum(1)
    return ((above & relevant).sum(1) + (tied & relevant).sum(1) * room) / count


class LowSnr(Check):
    """Attribution ranks the columns that decide the class above columns of noise.

    What it measures:
        The explainer is the subject's; the model is not. A table has five columns that are in a known formula,
        x₁x₂ + sin 2x₃ + |x₄| − x₅, and `noise_columns` that are not, all standard normal, in an order drawn at random; the class is
        whether the formula is above its median. A perceptron is trained on the table and explained on held-out rows.
        `relevant_precision` is the share of the five columns with the largest magnitudes that are in the formula, `chance_precision`
        what a random order has, and `relevant_share` the part of the map's magnitude on these columns.

    Assumptions:
        The perceptron has learned the formula and ignores the noise: `wrong_prediction` says how far. It fits some noise; a precision
        below 1 is then no error of the explainer, so precision is compared with chance and not with 1. In a row a relevant column may
        truly have no effect, as x₁ where x₂ is 0.

    Cost:
        The subject's examples go through its model once, which shows that it works. A perceptron with two hidden layers of 64 is trained
        for about half a second, once for each seed and number of columns in a process; it explains up to 600 rows.

    Departures from the paper:
        ChaosMining trains regressors on fifteen formulas and also has images and sounds; here one formula is made a classification, and
        a perceptron alone is trained. Its functional precision is the same share of the k largest magnitudes; here, ties
        count by their share.

    Sources:
        shi2024chaosmining
    """

    id: ClassVar[str] = "attribution/low-snr"
    title: ClassVar[str] = "Low signal-to-noise ratio"
    quantities: ClassVar[tuple[Quantity, ...]] = (PRECISION, MASS, CHANCE, EMPTY, WRONG)
    gates: ClassVar[tuple[str, ...]] = ("empty_map", "wrong_prediction")

    explainer: Explainer | None = Field(
        default=None, description="The explanation method; the subject's own where left out."
    )
    split: str = Field(default="test", description="The data split that says how many rows are explained.")
    noise_columns: int = Field(default=20, ge=5, le=100, description="Columns that are not in the formula.")

    def splits(self) -> tuple[str, ...]:
        """The split that says how many rows are explained."""
        return (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """Without an explainer there is nothing to check, and the formula is over the columns of a table."""
        if reason := truth.not_applicable(subject, self.explainer):
            return reason
        return (
            ""
            if subject.task == "tabular-classification"
            else "The formula is over columns of a table; the subject's inputs are none."
        )

    def passes(self, subject: Subject, samples: int) -> Passes:  # noqa: ARG002
        """The subject's examples forward; what the check's own network costs is not the subject's."""
        return Passes(forward=samples)

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Train the network, or take it from the process's memory, and explain rows, batch by batch."""
        explainer = for_other_network(resolve(subject, self.explainer))
        seed = context.number("explainer")
        yield CHANCE.exact(RELEVANT / (RELEVANT + self.noise_columns))
        for numbers in examples_of_own(subject, context, self.split, HELD_OUT):
            _, held_out = formula_table(context.seed, self.noise_columns)
            other = elsewhere(subject, "low-snr", trained(context.seed, self.noise_columns))
            inputs, targets = (part[list(numbers)].to(other.device) for part in (held_out.inputs, held_out.targets))
            batch = Batch(inputs, targets, tuple(numbers))
            predicted = other.outputs(batch).argmax(1)
            view = other.view(batch, predicted)
            masses = view.as_map(explain_other(subject, explainer, view, seed)).abs()
            relevant = held_out.relevant.to(masses.device)
            shares, empty = share(masses, relevant.expand_as(masses))
            yield WRONG.per_sample((predicted != targets).cpu().numpy())
            yield EMPTY.per_sample(empty.cpu().numpy())
            if not bool(empty.all()):
                yield MASS.per_sample(shares[~empty].cpu().numpy())
                yield PRECISION.per_sample(top_precision(masses, relevant)[~empty].double().clamp(0, 1).cpu().numpy())

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Maps that see the network find the formula's columns; noise and the rows themselves do not."""
        network = "A perceptron trained on a formula among 20 columns of noise, explained by "
        return (
            Control("gradient", "sound", f"{network}the input gradient.", controls.table_by("gradient")),
            Control(
                "input-x-gradient", "sound", f"{network}input times gradient.", controls.table_by("input-x-gradient")
            ),
            Control(
                "integrated-gradients",
                "sound",
                f"{network}Integrated Gradients.",
                controls.table_by("integrated-gradients", steps=16),
            ),
            Control("occlusion", "sound", f"{network}occlusion.", controls.table_by("occlusion")),
            Control("noise", "defect", f"{network}noise.", controls.table_by("noise"), because="relevant_precision"),
            Control(
                "inputs",
                "defect",
                f"{network}the row itself.",
                controls.table_by("inputs"),
                because="relevant_precision",
            ),
            Control(
                "constant",
                "defect",
                f"{network}the same number for every column.",
                explained_by(constant, "table"),
                because="relevant_precision",
            ),
        )

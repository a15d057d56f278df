"""ROAD: does the prediction outlast the loss of what the map ranks low longer than that of what it ranks high, with gaps filled in?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, field_validator

from method_cards.check import Check, Context, Control, Passes
from method_cards.lazy import torch
from method_cards.measurement import Quantity, Yielded
from method_checks.attribution import controls
from method_checks.attribution.changes.removal import By, Removal
from method_checks.attribution.controls import removal as removal_controls
from method_checks.attribution.explainers import Explainer, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from method_cards.subject import Subject

GAIN = Quantity(
    "accuracy_gain",
    "mean",
    "share of percentages at which the class is kept with the least relevant removed, less that with the most relevant removed",
    range=(-1.0, 1.0),
)
MOST_GAIN = Quantity(
    "most_first_gain",
    "mean",
    "share of percentages at which the class is kept in random orders, less that with the most relevant removed",
    range=(-1.0, 1.0),
)
MOST = Quantity(
    "most_first_accuracy",
    "proportion",
    "share of examples that keep their class when this percentage of the most relevant pixels is removed",
    by=("percentage",),
)
LEAST = Quantity(
    "least_first_accuracy",
    "proportion",
    "share of examples that keep their class when this percentage of the least relevant pixels is removed",
    by=("percentage",),
)
RANDOM = Quantity(
    "random_accuracy",
    "mean",
    "share of random orders in which an example keeps its class when this percentage of pixels is removed",
    by=("percentage",),
)
STEADY = Quantity(
    "never_changed",
    "proportion",
    "share of examples that keep their class at every percentage of every random order, so that no order can be better than another",
)


class Road(Check):
    """With gaps filled in, the class survives the loss of the least relevant pixels longer than that of the most relevant.

    What it measures:
        At each of `percentages` that share of an image's pixels is replaced by noisy linear imputation: every missing pixel, in every
        channel, becomes the weighted mean of its eight neighbours (the solution of one linear system for each image) plus a little
        noise, so that the shape of the gap itself hardly tells anything. An example counts as right while the model still predicts the
        class that it predicts for the whole image. `accuracy_gain` is the mean over percentages of being right with the least relevant
        pixels removed, less being right with the most relevant removed; random orders, which are as likely as their reverse,
        expect exactly 0. `most_first_gain` compares with `orders` random orders of the same image. Accuracies are given for each
        percentage. `never_changed` is the share of images that keep their class in every random order: these are left out of the gains.

    Assumptions:
        Images, in which a pixel can be guessed from its neighbours. Larger values of the map, with their sign, speak more for the
        target; `by: magnitude` for maps without a sign. Channels of a pixel go together; equal values go in random order. Compact
        regions are harder to fill in than scattered pixels, so a smooth map may gain from its shape alone: see the control `edges`.

    Cost:
        One explanation, and for each percentage and order (two and the random ones) one linear system, solved for all images of a batch
        at once by conjugate gradients, and one forward pass.

    Departures from the paper:
        The class predicted for the whole image stands for the label, so that no labels are needed and wrong predictions count too.
        Both orders are combined into one number, with random orders as a reference. Images without a pixel left cannot be filled,
        so 100 % is not asked.

    Sources:
        rong2022consistent
    """

    id: ClassVar[str] = "attribution/road"
    title: ClassVar[str] = "ROAD: remove and debias"
    quantities: ClassVar[tuple[Quantity, ...]] = (GAIN, MOST_GAIN, MOST, LEAST, RANDOM, STEADY)
    gates: ClassVar[tuple[str, ...]] = ("never_changed",)

    explainer: Explainer | None = Field(
        default=None, description="The explanation method; the subject's own where left out."
    )
    split: str = Field(default="test", description="The data split whose examples are explained.")
    by: By = Field(default="signed", description="Whether values or their magnitudes say what is relevant.")
    percentages: tuple[int, ...] = Field(
        default=(10, 20, 30, 40, 50, 60, 70, 80, 90), min_length=1, description="How much is removed, in per cent."
    )
    orders: int = Field(default=2, ge=1, le=64, description="How many random orders are drawn for each image.")

    @field_validator("percentages")
    @classmethod
    def _inside(cls, percentages: tuple[int, ...]) -> tuple[int, ...]:
        if any(not 0 < percentage < 100 for percentage in percentages) or len(set(percentages)) < len(percentages):  # noqa: PLR2004
            raise ValueError("percentages must be different whole numbers from 1 to 99")
        return percentages

    def splits(self) -> tuple[str, ...]:
        """The split whose images are explained."""
        return (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """Only a gap in an image can be filled in from its neighbours; and without an explainer there is nothing to check."""
        if subject.task != "image-classification":
            return "Noisy linear imputation fills gaps of images; see attribution/comprehensiveness-sufficiency for tables and texts."
        return controls.not_applicable(subject, self.explainer)

    def passes(self, subject: Subject, samples: int) -> Passes:
        """The explanation, the explained class, and each percentage in each order."""
        drawn = Passes(forward=samples * (1 + (2 + self.orders) * len(self.percentages)))
        return drawn + resolve(subject, self.explainer).passes(samples)

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Remove each percentage in each order and see which examples keep their class."""
        explainer = resolve(subject, self.explainer)
        for number, batch in enumerate(context.batches(self.split)):
            removal = Removal(context, subject.view(batch), explainer, self.split, substrate="imputation", by=self.by)
            shares = torch.tensor(self.percentages, device=subject.device) / 100
            gone = (removal.content.sum(1, keepdim=True) * shares + 0.5).floor().long()
            most, least, *others = (
                removal.at(order, gone).kept.double() for order in ("most", "least", *range(self.orders))
            )
            random = torch.stack(others)
            for column, percentage in enumerate(self.percentages):
                yield MOST.per_sample(most[:, column].cpu().numpy(), percentage=percentage)
                yield LEAST.per_sample(least[:, column].cpu().numpy(), percentage=percentage)
                yield RANDOM.per_sample(random.mean(0)[:, column].cpu().numpy(), percentage=percentage)
            steady = (random == 1).flatten(2).all(2).all(0)
            yield STEADY.per_sample(steady.cpu().numpy())
            if not bool(steady.all()):
                yield GAIN.per_sample((least - most).mean(1)[~steady].cpu().numpy())
                yield MOST_GAIN.per_sample((random.mean(0) - most).mean(1)[~steady].cpu().numpy())
            if number == 0:
                yield from removal.pictures(subject)

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Maps that follow the model, and maps that see no model or turn its evidence around."""
        return removal_controls.digits("accuracy_gain")

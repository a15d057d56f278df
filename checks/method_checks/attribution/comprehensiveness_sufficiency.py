"""Comprehensiveness and sufficiency: is what the map ranks high needed for the prediction, and is it enough for it?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, field_validator

from method_cards.check import Check, Context, Control, Passes
from method_cards.lazy import torch
from method_cards.measurement import Quantity, Yielded
from method_checks.attribution import controls
from method_checks.attribution.changes.removal import By, Removal
from method_checks.attribution.changes.substrates import Substrate
from method_checks.attribution.controls import removal as removal_controls
from method_checks.attribution.explainers import Explainer, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from method_cards.subject import Subject

COMPREHENSIVENESS = Quantity(
    "comprehensiveness",
    "mean",
    "mean drop of the target's probability when only the most relevant positions are removed; high is good",
    range=(-1.0, 1.0),
)
SUFFICIENCY = Quantity(
    "sufficiency",
    "mean",
    "mean drop of the target's probability when only the most relevant positions are kept; low is good",
    range=(-1.0, 1.0),
)
NEEDED = Quantity(
    "comprehensiveness_gain",
    "mean",
    "share of the whole drop that removing the most relevant positions causes, less what as many random positions cause; 0 by chance",
    range=(-1.0, 1.0),
)
ENOUGH = Quantity(
    "sufficiency_gain",
    "mean",
    "share of the whole drop that keeping the most relevant positions avoids, less what as many random positions avoid; 0 by chance",
    range=(-1.0, 1.0),
)
SMALL = Quantity(
    "small_drop",
    "proportion",
    "share of examples whose probability hardly drops when everything is removed, so that no share of the drop can be stated",
)


def dropped(whole: Tensor, nothing: Tensor, at: Tensor) -> Tensor:
    """The share of the whole drop that has happened, (p(x) − p(at)) / (p(x) − p(nothing)), kept within 0 and 1.

    Args:
        whole: Probability of the target for the whole input, ``(batch,)``.
        nothing: For the input of which everything is removed, smaller than ``whole``, ``(batch,)``.
        at: For inputs between, ``(batch, step)``.

    Returns:
        ``(batch, step)`` float64.
    """
    whole, nothing = whole.double()[:, None], nothing.double()[:, None]
    return ((whole - at.double()) / (whole - nothing)).clamp(0.0, 1.0)


class ComprehensivenessSufficiency(Check):
    """The positions that a map ranks highest are needed for the prediction, and enough for it, more than random ones.

    What it measures:
        At each of `percentages` that share of an example's tokens, columns or pixels, at least one, is removed (comprehensiveness) or
        alone kept (sufficiency), and the drop of the target's probability is averaged over the percentages. `comprehensiveness` and
        `sufficiency` are these drops. Both depend on the model's confidence, so for the judged quantities each drop is divided by the
        drop when everything is removed, kept within 0 and 1, and paired with `orders` random orders of the same example:
        `comprehensiveness_gain` and `sufficiency_gain` are 0 for a map without information. `small_drop` is the share of examples
        whose probability drops by less than `least_drop` when everything is removed: these are left out of the gains.

    Assumptions:
        Larger values of the map, with their sign, speak more for the target; `by: magnitude` for maps without a sign. Removed tokens
        leave a gap of the substrate's value, so that the others keep their places; padding is never removed. Equal values go in
        random order. A text of which a half is missing is not a text of the training data.

    Cost:
        One explanation, two forward passes for the ends, and two for each percentage and order (one and the random ones).

    Departures from the paper:
        Positions are replaced by `substrate` and not cut out, for a model of any kind. A gain over random orders is judged and the raw
        values are reported. The division by the whole drop follows carton2020evaluating, where a drop below zero counts as none, as
        here; a drop above the whole counts as the whole.

    Sources:
        deyoung2020eraser; carton2020evaluating
    """

    id: ClassVar[str] = "attribution/comprehensiveness-sufficiency"
    title: ClassVar[str] = "Comprehensiveness and sufficiency"
    quantities: ClassVar[tuple[Quantity, ...]] = (COMPREHENSIVENESS, SUFFICIENCY, NEEDED, ENOUGH, SMALL)
    gates: ClassVar[tuple[str, ...]] = ("small_drop",)

    explainer: Explainer | None = Field(
        default=None, description="The explanation method; the subject's own where left out."
    )
    split: str = Field(default="test", description="The data split whose examples are explained.")
    substrate: Substrate = Field(default="mean", description="What stands where something was removed.")
    by: By = Field(default="signed", description="Whether values or their magnitudes say what is relevant.")
    percentages: tuple[int, ...] = Field(
        default=(1, 5, 10, 20, 50), min_length=1, description="How much is removed, or kept, in per cent."
    )
    orders: int = Field(default=4, ge=1, le=64, description="How many random orders are drawn for each example.")
    least_drop: float = Field(
        default=0.1, gt=0, lt=1, description="The least drop of the probability when everything is removed."
    )

    @field_validator("percentages")
    @classmethod
    def _inside(cls, percentages: tuple[int, ...]) -> tuple[int, ...]:
        if any(not 0 < percentage < 100 for percentage in percentages) or len(set(percentages)) < len(percentages):  # noqa: PLR2004
            raise ValueError("percentages must be different whole numbers from 1 to 99")
        return percentages

    def splits(self) -> tuple[str, ...]:
        """The split whose examples are explained."""
        return (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """Without an explainer there is nothing to check, and language models have no single class to explain."""
        return controls.not_applicable(subject, self.explainer)

    def passes(self, subject: Subject, samples: int) -> Passes:
        """The explanation, the explained class, both ends, and for each order every percentage removed and kept."""
        drawn = Passes(forward=samples * (3 + 2 * (1 + self.orders) * len(self.percentages)))
        return drawn + resolve(subject, self.explainer).passes(samples)

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Remove and keep each percentage in each order, and compare the drops."""
        explainer = resolve(subject, self.explainer)
        for number, batch in enumerate(context.batches(self.split)):
            removal = Removal(context, subject.view(batch), explainer, self.split, substrate=self.substrate, by=self.by)
            size = removal.content.sum(1, keepdim=True)
            shares = torch.tensor(self.percentages, device=subject.device, dtype=torch.float64) / 100
            some = (size * shares - 1e-9).ceil().clamp(min=1).long()
            whole, nothing = removal.ends().probabilities.unbind(1)
            # Keeping the first is removing all others, which come first in the reverse order.
            removed = removal.at("most", some).probabilities
            kept = removal.at("least", size - some).probabilities
            others = [
                [removal.at(order, gone).probabilities for gone in (some, size - some)] for order in range(self.orders)
            ]
            yield COMPREHENSIVENESS.per_sample((whole[:, None] - removed).double().mean(1).cpu().numpy())
            yield SUFFICIENCY.per_sample((whole[:, None] - kept).double().mean(1).cpu().numpy())
            small = whole - nothing < self.least_drop
            yield SMALL.per_sample(small.cpu().numpy())
            if not bool(small.all()):

                def share(at: Tensor, whole: Tensor = whole, nothing: Tensor = nothing) -> Tensor:
                    return dropped(whole, nothing, at).mean(1)

                by_chance = [torch.stack([share(pair[side]) for pair in others]).mean(0) for side in (0, 1)]
                yield NEEDED.per_sample((share(removed) - by_chance[0])[~small].cpu().numpy())
                yield ENOUGH.per_sample((by_chance[1] - share(kept))[~small].cpu().numpy())
            if number == 0:
                yield from removal.pictures(subject, 0.2)

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Maps that follow the model, and maps that see no model or turn its evidence around."""
        return (
            *removal_controls.words("comprehensiveness_gain"),
            *removal_controls.table("sufficiency_gain"),
            *removal_controls.digits("comprehensiveness_gain"),
        )

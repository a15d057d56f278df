"""Input invariance: does a shift of the input that the model takes back leave the explanation as it was?"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from method_cards.check import Check, Context, Control, Passes
from method_cards.lazy import torch
from method_cards.measurement import Quantity, Yielded
from method_checks.attribution import controls
from method_checks.attribution.explainers import Explainer, resolve
from method_checks.attribution.networks.rewired import not_applicable, rewired

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from method_cards.subject import Subject

REFERENCE = 64
"""How many examples tell the scale of the inputs."""

DIFFERENCE = Quantity(
    "difference_after_shift",
    "mean",
    "relative difference of an example's maps before and after the shift, 0 for equal maps, 1 for maps without anything in common",
)
UNDEFINED = Quantity(
    "zero_maps", "proportion", "share of examples whose maps are zero everywhere, so that nothing can differ"
)


def relative_difference(maps: Tensor, others: Tensor) -> Tensor:
    """Σ|a − b| / (Σ|a| + Σ|b|) of each example.

    Args:
        maps: a, ``(batch, ...)``.
        others: b, in the same shape.

    Returns:
        ``(batch,)`` float64 in [0, 1]; 0 where both are zero everywhere.
    """
    a, b = maps.double().flatten(1), others.double().flatten(1)
    total = a.abs().sum(1) + b.abs().sum(1)
    return ((a - b).abs().sum(1) / torch.where(total > 0, total, torch.ones_like(total))).clamp(max=1.0)


def scale_of(features: Tensor) -> Tensor:
    """How far the features reach: largest less smallest, one number for each column of a table, otherwise one for all.

    Args:
        features: ``(batch, ...)``.

    Returns:
        In a shape that broadcasts with the features; 1 where all values are the same.
    """
    values = features if features.dim() == 2 else features.reshape(-1, *[1] * (features.dim() - 1))  # noqa: PLR2004  (a table)
    reach = values.amax(0, keepdim=True) - values.amin(0, keepdim=True)
    return torch.where(reach > 0, reach, torch.ones_like(reach))


def _back(features: Tensor, by: Tensor) -> Tensor:
    return features - by


class InputInvariance(Check):
    """An explanation does not change when the input is shifted by a constant that the model takes back.

    What it measures:
        For a constant s, the model f₂(z) = f(z − s) computes at x + s what the model f computes at x, for every x. The maps Φ(x + s; f₂)
        and Φ(x; f) of each example are compared by their relative difference Σ|a − b| / (Σ|a| + Σ|b|), averaged over `shifts`, which are in
        units of the reach of the inputs (largest less smallest value: of each column of a table, of all pixels, of all embeddings).
        `zero_maps` is the share of examples whose maps are all zero; they are left out of the mean.

    Assumptions:
        Features are continuous numbers for which a shift means nothing, such as pixels before or after normalisation, a temperature in
        another unit, or a table that is centred anew. Where zero has a meaning of its own (a count, a gate), a map may well follow it.
        Explainers that draw random numbers get the same ones on both sides. Explainers that see no model can pass, an edge filter for one:
        passing says nothing about faithfulness.

    Cost:
        Two explanations of each example for each shift.

    Departures from the paper:
        The paper moves the shift into the bias of the first layer, which is only exact without padding; here f₂ takes it back at the input,
        which is exact for every model. To keep rounding out of the result, f is explained at (x + s) − s as the machine computes it,
        which is what f₂ sees. The difference is a number, where the paper compares pictures.

    Sources:
        kindermans2017unreliability
    """

    id: ClassVar[str] = "attribution/input-invariance"
    quantities: ClassVar[tuple[Quantity, ...]] = (DIFFERENCE, UNDEFINED)
    gates: ClassVar[tuple[str, ...]] = ("zero_maps",)

    explainer: Explainer | None = Field(
        default=None, description="The explanation method; the subject's own where left out."
    )
    split: str = Field(default="test", description="The data split whose examples are explained.")
    shifts: tuple[float, ...] = Field(
        default=(-1.0, 1.0), min_length=1, description="The shifts, in units of the reach of the inputs."
    )

    def splits(self) -> tuple[str, ...]:
        """The split whose examples are explained."""
        return (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """Without an explainer there is nothing to check, nor for a text-generation model, nor with a background of data."""
        return controls.not_applicable(subject, self.explainer) or not_applicable(subject, self.explainer)

    def passes(self, subject: Subject, samples: int) -> Passes:
        """The explained classes, and two explanations for each shift."""
        total = Passes(forward=samples)
        for _ in range(2 * len(self.shifts)):
            total += resolve(subject, self.explainer).passes(samples)
        return total

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Explain each batch under the model and under the shifted model, with the same random numbers."""
        explainer = resolve(subject, self.explainer)
        first = subject.batch(self.split, context.indices(self.split)[:REFERENCE])
        scale = scale_of(subject.adapter.features(first.inputs))
        for batch in context.batches(self.split):
            view = subject.view(batch)
            differences, zero = [], torch.ones(len(batch), dtype=torch.bool, device=view.features.device)
            for shift in self.shifts:
                by = shift * scale
                shifted = view.features + by
                maps = [
                    explainer.explain(
                        rewired(view, explainer, at, partial(_back, by=less), view.mask),
                        context.number("explainer"),
                    )
                    for at, less in ((shifted - by, torch.zeros_like(by)), (shifted, by))
                ]
                differences.append(relative_difference(*maps))
                zero &= ~torch.stack([part.flatten(1).any(1) for part in maps]).any(0)
            yield UNDEFINED.per_sample(zero.cpu().numpy())
            if not bool(zero.all()):
                yield DIFFERENCE.per_sample(torch.stack(differences).mean(0)[~zero].cpu().numpy())

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """A derivative does not move with the input; a product with the input does, and so does a baseline that stays behind."""
        return (
            Control(
                "gradient",
                "sound",
                "A small convolutional network trained on digits, explained by its gradient, which a shift leaves as it is.",
                controls.digits_by("gradient"),
            ),
            Control(
                "moving-baseline",
                "sound",
                "The same network, explained by Integrated Gradients from each image's smallest value, which moves along.",
                controls.digits_by("integrated-gradients", baseline="minimum", steps=16),
            ),
            Control(
                "text",
                "sound",
                "A text classifier, explained by the gradient at its token embeddings.",
                controls.words_by("gradient"),
            ),
            Control(
                "input-x-gradient",
                "defect",
                "The digits network, explained by input times gradient: the product follows the input's values.",
                controls.digits_by("input-x-gradient"),
                because="difference_after_shift",
            ),
            Control(
                "baseline-left-behind",
                "defect",
                "The digits network, explained by Integrated Gradients from zero, which stays where it is when the image moves.",
                controls.digits_by("integrated-gradients", steps=16),
                because="difference_after_shift",
            ),
            Control(
                "table",
                "defect",
                "A classifier of a table, explained by input times gradient.",
                controls.table_by("input-x-gradient"),
                because="difference_after_shift",
            ),
        )

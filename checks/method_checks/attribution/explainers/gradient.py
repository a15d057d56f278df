"""Derivatives of the logit at the input, and near it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from method_cards.check import Passes
from method_cards.lazy import torch
from method_checks.attribution.explainers.base import Bundled, extremes, groups, normal, per_example
from method_checks.attribution.explainers.gradients import gradients_at

if TYPE_CHECKING:
    from torch import Tensor

    from method_cards.subject import View
    from method_checks.attribution.explainers.generators import Generators


class Gradient(Bundled):
    """The derivative of the logit with respect to each feature, with its sign."""

    title: ClassVar[str] = "Gradient"
    sources: ClassVar[tuple[str, ...]] = ("simonyan2014deep",)

    method: Literal["gradient"] = "gradient"

    def _attributions(self, view: View, generators: Generators) -> Tensor:  # noqa: ARG002
        return gradients_at(view, view.features, view.rows)


class InputXGradient(Bundled):
    """Each feature times the derivative of the logit with respect to it."""

    title: ClassVar[str] = "Input × gradient"
    sources: ClassVar[tuple[str, ...]] = ("shrikumar2016not",)

    method: Literal["input-x-gradient"] = "input-x-gradient"

    @property
    def multiplied(self) -> bool:
        """True."""
        return True

    def _attributions(self, view: View, generators: Generators) -> Tensor:  # noqa: ARG002
        return view.features * gradients_at(view, view.features, view.rows)


class SmoothGrad(Bundled):
    """The derivative averaged over normal noise around the input, or the average of its square.

    The noise's standard deviation is a share of each example's own range, padding left out. The logit of the class that
    is predicted without noise is explained throughout.
    """

    title: ClassVar[str] = "SmoothGrad"
    sources: ClassVar[tuple[str, ...]] = ("smilkov2017smoothgrad",)

    method: Literal["smoothgrad"] = "smoothgrad"
    samples: int = Field(default=50, ge=1, le=4096, description="Noisy copies of each example.")
    noise: float = Field(
        default=0.15, gt=0, le=10, description="The noise's standard deviation as a share of the example's range."
    )
    squared: bool = Field(default=False, description="Whether the derivatives are squared before they are averaged.")

    @property
    def is_random(self) -> bool:
        """True."""
        return True

    def passes(self, samples: int) -> Passes:
        """One forward and backward pass for each noisy copy."""
        return Passes(backward=self.samples * samples)

    def _attributions(self, view: View, generators: Generators) -> Tensor:
        low, high = extremes(view.features, view.mask)
        scale = self.noise * per_example(high - low, view.features)
        found = []
        for rows in groups(view, self.samples):
            shape = (self.samples, *view.features.shape[1:])
            drawn = [normal(shape, generators.row(row), view.features) for row in rows.tolist()]
            points = view.features[rows] + scale[rows] * torch.stack(drawn, 1)
            gradients = gradients_at(view, points.flatten(0, 1), rows.repeat(self.samples)).reshape(points.shape)
            found.append((gradients.square() if self.squared else gradients).mean(0))
        return torch.cat(found)

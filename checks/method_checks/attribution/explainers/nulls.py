"""Maps that know no model: what every check of an explainer must tell from an explanation."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from method_cards.check import Passes
from method_cards.lazy import torch
from method_checks.attribution.explainers.base import Bundled, normal
from method_checks.attribution.explainers.gradients import sobel

if TYPE_CHECKING:
    from torch import Tensor

    from method_cards.subject import View
    from method_checks.attribution.explainers.generators import Generators


class _Null(Bundled):
    """What knows no model needs neither passes nor gradients."""

    @property
    def multiplied(self) -> bool | None:
        """None: it is no attribution."""
        return None

    @property
    def needs_gradient(self) -> bool:
        """False."""
        return False

    def passes(self, samples: int) -> Passes:  # noqa: ARG002
        """None."""
        return Passes()


class EdgeFilter(_Null):
    """The Sobel filter's gradient magnitude in each channel of the image: sees no model."""

    title: ClassVar[str] = "Edge filter"
    sources: ClassVar[tuple[str, ...]] = ("adebayo2018sanity",)
    images_only: ClassVar[bool] = True

    method: Literal["edges"] = "edges"

    def _attributions(self, view: View, generators: Generators) -> Tensor:  # noqa: ARG002
        return sobel(view.features)


class Noise(_Null):
    """Standard normal numbers, others for each seed: sees neither model nor input."""

    title: ClassVar[str] = "Noise"

    method: Literal["noise"] = "noise"

    @property
    def is_random(self) -> bool:
        """True."""
        return True

    def _attributions(self, view: View, generators: Generators) -> Tensor:
        shape = tuple(view.features.shape[1:])
        return torch.stack([normal(shape, generators.row(row), view.features) for row in range(len(view.features))])


class InputItself(_Null):
    """The features: sees no model."""

    title: ClassVar[str] = "Input itself"
    sources: ClassVar[tuple[str, ...]] = ("adebayo2018sanity",)

    method: Literal["inputs"] = "inputs"

    def _attributions(self, view: View, generators: Generators) -> Tensor:  # noqa: ARG002
        return view.features.clone()

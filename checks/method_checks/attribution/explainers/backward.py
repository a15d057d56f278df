"""Rules that change how the derivative passes back through ReLUs.

Every ReLU counts, ``nn.ReLU`` modules (in place, used once or often) and ``torch.relu`` calls alike: the rule is attached
to the operations that autograd recorded. Tools that hook modules silently give the plain gradient for functional calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from method_checks.attribution.explainers.base import Bundled
from method_checks.attribution.explainers.gradients import gradients_at, through_relus

if TYPE_CHECKING:
    from torch import Tensor

    from method_cards.subject import View
    from method_checks.attribution.explainers.generators import Generators


class GuidedBackprop(Bundled):
    """The derivative, with negative values set to zero wherever it passes back through a ReLU."""

    title: ClassVar[str] = "Guided Backprop"
    sources: ClassVar[tuple[str, ...]] = ("springenberg2015striving",)
    guides_relu: ClassVar[bool] = True

    method: Literal["guided-backprop"] = "guided-backprop"

    def _attributions(self, view: View, generators: Generators) -> Tensor:  # noqa: ARG002
        return gradients_at(view, view.features, view.rows, before=through_relus("guided", self.method))


class Deconvolution(Bundled):
    """The derivative, with each ReLU passing back what is positive, whether or not it was active itself."""

    title: ClassVar[str] = "Deconvolution"
    sources: ClassVar[tuple[str, ...]] = ("zeiler2014visualizing",)
    guides_relu: ClassVar[bool] = True

    method: Literal["deconvolution"] = "deconvolution"

    def _attributions(self, view: View, generators: Generators) -> Tensor:  # noqa: ARG002
        return gradients_at(view, view.features, view.rows, before=through_relus("deconvolution", self.method))

"""Class activation maps: where a convolutional layer's activations raise the logit."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from method_cards.check import Passes
from method_cards.errors import CheckError, did_you_mean
from method_cards.lazy import torch
from method_checks.attribution.explainers.base import Bundled, needs_image
from method_checks.attribution.explainers.custom import resized, spread_map
from method_checks.attribution.explainers.gradients import gradients_at, logit_gradients, through_relus

if TYPE_CHECKING:
    from torch import Tensor, nn

    from method_cards.subject import View
    from method_checks.attribution.explainers.generators import Generators

_LAYER = "The layer whose activations are weighed; the last convolution with more than one position where left out."
_RELU = "Whether negative values of the map are set to zero, as in the paper."


class GradCam(Bundled):
    """A layer's channels, each weighed by the mean derivative of the logit over its positions, summed.

    The map is brought to the image's size by bilinear interpolation, and divided evenly over its channels.
    """

    title: ClassVar[str] = "Grad-CAM"
    sources: ClassVar[tuple[str, ...]] = ("selvaraju2017grad",)
    images_only: ClassVar[bool] = True

    method: Literal["grad-cam"] = "grad-cam"
    layer: str = Field(default="", description=_LAYER)
    relu: bool = Field(default=True, description=_RELU)

    @property
    def multiplied(self) -> bool:
        """True: activations are weighed, so the map holds contributions of the layer."""
        return True

    def passes(self, samples: int) -> Passes:
        """One forward and backward pass, and one example to find the layer."""
        return Passes(forward=int(not self.layer), backward=samples)

    def _attributions(self, view: View, generators: Generators) -> Tensor:  # noqa: ARG002
        return spread_map(view, class_activation_maps(view, self.layer, self.method, relu=self.relu))


class GuidedGradCam(Bundled):
    """The map of Grad-CAM at the image's size, times guided backpropagation's derivative at each feature."""

    title: ClassVar[str] = "Guided Grad-CAM"
    sources: ClassVar[tuple[str, ...]] = ("selvaraju2017grad",)
    images_only: ClassVar[bool] = True
    guides_relu: ClassVar[bool] = True

    method: Literal["guided-grad-cam"] = "guided-grad-cam"
    layer: str = Field(default="", description=_LAYER)
    relu: bool = Field(default=True, description=_RELU)

    def passes(self, samples: int) -> Passes:
        """Two forward and backward passes, and one example to find the layer."""
        return Passes(forward=int(not self.layer), backward=2 * samples)

    def _attributions(self, view: View, generators: Generators) -> Tensor:  # noqa: ARG002
        maps = class_activation_maps(view, self.layer, self.method, relu=self.relu)
        guided = gradients_at(view, view.features, view.rows, before=through_relus("guided", self.method))
        return guided * view.spread(maps)


def class_activation_maps(view: View, layer: str, method: str, *, relu: bool) -> Tensor:
    """Grad-CAM's maps at the size of the images, ``(batch, height, width)``.

    Args:
        view: Images.
        layer: A module's name; the last convolution where empty.
        method: The explainer's name, for messages.
        relu: Whether negative values are set to zero.

    Raises:
        CheckError: These are no images, or the layer does not give ``(batch, channel, h, w)`` once in each pass.
    """
    needs_image(view, method)
    module = map_layer(view, layer, method)
    maps = torch.cat([_weighed(view, rows, module, method) for rows in view.rows.split(view.block)])
    return resized(maps.clamp(min=0) if relu else maps, tuple(view.features.shape[-2:]))


def map_layer(view: View, layer: str, method: str) -> nn.Module:
    """The module whose activations are weighed: the named one, or the last convolution with more than one position.

    Raises:
        CheckError: There is none.
    """
    return _named(view.model, layer, method) if layer else _last_convolution(view, method)


def _weighed(view: View, rows: Tensor, module: nn.Module, method: str) -> Tensor:
    """The sum of a layer's channels, each weighed by its mean derivative, ``(batch, h, w)``."""
    calls: list[object] = []

    def keep(_module: object, _inputs: object, output: object) -> object:
        calls.append(output)
        return output.clone() if isinstance(output, torch.Tensor) else output  # what follows may write in place

    def activations() -> Tensor:
        return _map_of(calls, len(rows), method)

    with module.register_forward_hook(keep):
        gradients = logit_gradients(view, view.features[rows], rows, at=activations)
    return (gradients.mean((2, 3), keepdim=True) * activations().detach()).sum(1)


def _map_of(calls: list[object], examples: int, method: str) -> Tensor:
    """What a layer gave in one pass, ``(batch, channel, h, w)``."""
    if len(calls) != 1:
        raise CheckError(
            f'explainer "{method}": the layer is called {len(calls)} times in one pass, so its activations are not one '
            "map; name one under `layer:` that is called once"
        )
    (output,) = calls
    if not isinstance(output, torch.Tensor) or output.dim() != 4 or len(output) != examples:  # noqa: PLR2004
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise CheckError(
            f'explainer "{method}": the layer gives {shape}, not (batch, channel, height, width); name a convolution '
            "under `layer:`"
        )
    return output


def _named(model: nn.Module, layer: str, method: str) -> nn.Module:
    modules: dict[str, nn.Module] = dict(model.named_modules())
    if layer not in modules:
        raise CheckError(f'explainer "{method}": the model has no layer "{layer}".{did_you_mean(layer, modules)}')
    return modules[layer]


def _last_convolution(view: View, method: str) -> nn.Module:
    """The last called module with a convolution's weight whose output has more than one position."""
    found: list[nn.Module] = []

    def see(module: nn.Module, _inputs: object, output: object) -> None:
        weight = getattr(module, "weight", None)
        is_convolution = isinstance(weight, torch.Tensor) and weight.dim() == 4  # noqa: PLR2004
        is_map = isinstance(output, torch.Tensor) and output.dim() == 4 and output[0, 0].numel() > 1  # noqa: PLR2004
        if is_convolution and is_map:
            found.append(module)

    with ExitStack() as stack, torch.no_grad():
        for module in view.model.modules():
            stack.enter_context(module.register_forward_hook(see))
        view.outputs(view.features[:1], view.rows[:1])
    if not found:
        raise CheckError(
            f'explainer "{method}" found no convolution whose output has more than one position; name a layer that gives '
            "(batch, channel, height, width) under `layer:`, or use another method"
        )
    return found[-1]

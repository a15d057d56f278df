"""A person's own explanation method: a function, called with care and believed in nothing.

Whatever it draws is seeded, whatever it gets is a copy, and what it gives is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from method_cards.check import Passes
from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_cards.randomness import seeded
from method_cards.subject import finite
from method_checks.attribution.explainers.generators import Generators

if TYPE_CHECKING:
    from torch import Tensor

    from method_cards.subject import View


Mode: TypeAlias = Literal["bilinear", "nearest"]
"""How a coarse map is brought to the size of an image."""


@dataclass(frozen=True)
class CustomExplainer:
    """A person's own function ``explain(model, inputs, targets)``.

    It is called with a copy of the inputs, with gradients switched on, and with all random numbers (torch, NumPy,
    Python) seeded: the same seed and the same examples give the same explanation. What it draws for an example depends on the
    examples beside it. It returns attributions of the features' shape, or a map as `spread_map` takes it.

    Attributes:
        function: What is called.
        method: Its name, for messages and tables.
        claims_completeness: Whether attributions are meant to add up; not known of a function, so False.
        multiplied: Whether they hold the input's factor; not known of a function.
        is_random: Whether it draws random numbers; it may, so True.
        needs_gradient: Whether it takes gradients; it may, so True.
    """

    function: Callable[..., Any]
    method: str
    claims_completeness: bool = False
    multiplied: bool | None = None
    is_random: bool = True
    needs_gradient: bool = True

    def passes(self, samples: int) -> Passes:
        """One forward and backward pass for each example: the least, as a function does not tell its cost."""
        return Passes(backward=samples)

    def explain(self, view: View, seed: int, first: int = 0) -> Tensor:
        """Call the function and check what it returns.

        Raises:
            CheckError: It raised an exception, or returned something else than finite attributions or a finite map.
        """
        given = view.inputs()
        inputs = {name: part.clone() for name, part in given.items()} if isinstance(given, Mapping) else given.clone()
        with seeded(Generators(seed, view, first).together), torch.enable_grad():
            try:
                found = self.function(view.model, inputs, view.targets.clone())
            except CheckError:
                raise
            except Exception as error:
                raise CheckError(f'the explainer "{self.method}" raised {type(error).__name__}: {error}') from error
        if any(module.training for module in view.model.modules()):
            raise CheckError(
                f'the explainer "{self.method}" left the model in training mode; all later results would be random'
            )
        attributions = as_attributions(found, view, self.method)
        return finite(attributions, f'the explanation by "{self.method}"', view.batch)


def as_attributions(found: object, view: View, method: str, upsample: Mode | None = "bilinear") -> Tensor:
    """What a function returned, as attributions in the shape of the features.

    Args:
        found: A floating-point tensor: attributions of the features' shape, or a map: ``(batch, h, w)`` or
            ``(batch, channel, h, w)`` for images, whose channels are summed, at any resolution; ``(batch, token)`` for texts.
        view: The examples.
        method: The explainer's name, for messages.
        upsample: How a map is brought to the size of the image; None to refuse maps of another size.

    Raises:
        CheckError: It is none of these.
    """
    if not isinstance(found, torch.Tensor):
        raise CheckError(
            f'the explainer "{method}" returned {type(found).__name__}; a tensor of attributions is needed'
        )
    values = found.detach().clone().to(view.features.device)
    shape, positions = tuple(view.features.shape), tuple(view.as_map(view.features).shape[1:])
    is_image = len(shape) == 4  # noqa: PLR2004  (an image has four axes)
    if values.is_floating_point() and values.dim() and len(values) == shape[0]:
        if values.shape == view.features.shape:
            return values
        if is_image and values.dim() == 4:  # noqa: PLR2004
            values = values.sum(1)
        if tuple(values.shape[1:]) == positions:
            return spread_map(view, values)
        if is_image and values.dim() == 3 and values[:1].numel() and upsample is not None:  # noqa: PLR2004
            return spread_map(view, resized(values, positions, upsample))
    maps = ""
    if is_image:
        maps = ", or a map (batch, height, width)"
        maps += " of any size" if upsample is not None else "; `upsample: bilinear` enlarges a coarse one"
    elif len(positions) < len(shape) - 1:
        maps = ", or a map (batch, token)"
    raise CheckError(
        f'the explainer "{method}" returned {found.dtype} of shape {tuple(found.shape)}; what is needed is floating-point: '
        f"attributions in the shape of the explained features, {shape}{maps}"
    )


def spread_map(view: View, maps: Tensor) -> Tensor:
    """Attributions of which `View.as_map` gives these maps: each position's number, divided evenly over its features.

    Args:
        view: The examples.
        maps: ``(batch, *position)``.
    """
    features = view.features
    together = features[:1].numel() // max(1, maps[:1].numel())
    return view.spread(maps.to(features) / together).expand(features.shape).clone()


def resized(maps: Tensor, size: tuple[int, ...], mode: Mode = "bilinear") -> Tensor:
    """Maps ``(batch, h, w)`` at the size of an image."""
    if mode == "nearest":
        return torch.nn.functional.interpolate(maps[:, None], size=size, mode="nearest")[:, 0]
    return torch.nn.functional.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]

"""What the logit loses when positions are removed, one group after the other."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from method_cards.lazy import torch
from method_checks.attribution.explainers.custom import spread_map
from method_checks.attribution.explainers.masks import Removal, cells, is_image, logits_without, number_of_cells

if TYPE_CHECKING:
    from torch import Tensor

    from method_cards.subject import View
    from method_checks.attribution.explainers.generators import Generators

SHARE = 6
"""An occluding window's side is this part of the image's shorter side, where none is given."""


class Occlusion(Removal):
    """How much the logit falls when a window is put over the image, averaged over the windows that cover a pixel.

    Windows that would stand over the edge are cut. Tokens and columns are removed one at a time.
    """

    title: ClassVar[str] = "Occlusion"
    sources: ClassVar[tuple[str, ...]] = ("zeiler2014visualizing",)

    method: Literal["occlusion"] = "occlusion"
    window: int | None = Field(
        default=None,
        ge=1,
        description="The window's side in pixels; a sixth of the image's shorter side where left out.",
    )
    stride: int | None = Field(
        default=None, ge=1, description="Pixels from one window to the next; half the window where left out."
    )

    @model_validator(mode="after")
    def _covers(self) -> Self:
        if self.window is not None and self.stride is not None and self.stride > self.window:
            raise ValueError("a stride above the window leaves pixels that no window covers")
        return self

    def _removals(self, positions: tuple[int, ...]) -> int:
        return 1 + len(self._starts(positions))

    def _starts(self, positions: tuple[int, ...]) -> list[tuple[int, ...]]:
        """The first position of each window."""
        window, stride = self._sizes(positions)
        if len(positions) != 2:  # noqa: PLR2004  (height and width)
            return [(place,) for place in range(math.prod(positions))]
        down, across = (
            [stride * number for number in range(1 + math.ceil(max(0, side - window) / stride))] for side in positions
        )
        return [(top, left) for top in down for left in across]

    def _sizes(self, positions: tuple[int, ...]) -> tuple[int, int]:
        window = self.window or max(1, round(min(positions) / SHARE))
        return window, min(window, self.stride or max(1, window // 2))

    def _attributions(self, view: View, generators: Generators) -> Tensor:  # noqa: ARG002
        positions = tuple(view.as_map(view.features).shape[1:])
        device = view.features.device
        if not is_image(view):
            covers = torch.eye(math.prod(positions), device=device).reshape(-1, *positions)
            return _drops(view, self._start(view), len(covers), lambda first, last: covers[first:last])
        window, _ = self._sizes(positions)
        corners = torch.tensor(self._starts(positions), device=device)
        down, across = (torch.arange(side, device=device) for side in positions)

        def covering(first: int, last: int) -> Tensor:
            top, left = corners[first:last, :1], corners[first:last, 1:]
            in_rows = (down >= top) & (down < top + window)
            in_columns = (across >= left) & (across < left + window)
            return (in_rows[:, :, None] & in_columns[:, None]).to(view.features)

        return _drops(view, self._start(view), len(corners), covering)


class FeatureAblation(Removal):
    """How much the logit falls when a patch of the image, a token or a column is removed."""

    title: ClassVar[str] = "Feature ablation"

    method: Literal["feature-ablation"] = "feature-ablation"
    grid: int | None = Field(
        default=8, ge=1, description="Patches along each side of an image; one for each pixel when null."
    )

    def _removals(self, positions: tuple[int, ...]) -> int:
        return 1 + number_of_cells(positions, self.grid)

    def _attributions(self, view: View, generators: Generators) -> Tensor:  # noqa: ARG002
        numbers = cells(tuple(view.as_map(view.features).shape[1:]), self.grid, image=is_image(view))
        numbers = numbers.to(view.features.device)

        def covering(first: int, last: int) -> Tensor:
            chosen = torch.arange(first, last, device=numbers.device).reshape(-1, *[1] * numbers.dim())
            return (numbers == chosen).to(view.features)

        return _drops(view, self._start(view), int(numbers.max()) + 1, covering)


def _drops(view: View, start: Tensor, count: int, covering: Callable[[int, int], Tensor]) -> Tensor:
    """The mean drop of the logit over the covers of each position, as attributions; 0 for padding.

    Args:
        view: The examples.
        start: What covered positions hold.
        count: How many covers there are.
        covering: ``covering(first, last)`` gives these covers, ``(cover, *position)``, 1 where they lie.
    """
    found = []
    everywhere = view.content[:1, ...][None]
    for rows in view.rows.split(view.block):
        whole = logits_without(view, rows, start, 1, lambda _first, _last: torch.ones_like(everywhere))[0]
        left = logits_without(view, rows, start, count, lambda first, last: 1 - covering(first, last)[:, None])
        total = torch.zeros_like(view.as_map(view.features[rows]))
        times = torch.zeros_like(total[0])
        for first in range(0, count, view.block):
            covers = covering(first, min(count, first + view.block))
            total += torch.tensordot((whole - left[first : first + view.block]).T, covers, 1)
            times += covers.sum(0)
        found.append(total / times)
    return spread_map(view, torch.cat(found) * view.content)

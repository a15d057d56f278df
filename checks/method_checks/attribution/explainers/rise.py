"""RISE: what the logit is on average when a position stays, over random masks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from method_cards.lazy import torch
from method_checks.attribution.explainers.custom import spread_map
from method_checks.attribution.explainers.masks import is_image, logits_without
from method_checks.attribution.explainers.sampled import Coalitions

if TYPE_CHECKING:
    from torch import Tensor

    from method_cards.subject import View
    from method_checks.attribution.explainers.generators import Generators


class Rise(Coalitions):
    """The mean of the logit over random masks, each weighed by how much of the position it keeps.

    Masks of images are coarse grids of zeros and ones, enlarged bilinearly and shifted at random; those of texts and tables keep
    each token or column by itself. The paper divides by the expected sum of masks and takes a probability of 4,000 to 8,000
    masks; the sum itself is divided by here, so that adding a number to the logit adds the same to every position.
    """

    title: ClassVar[str] = "RISE"
    sources: ClassVar[tuple[str, ...]] = ("petsiuk2018rise",)

    method: Literal["rise"] = "rise"
    samples: int = Field(default=512, ge=2, le=65536, description="Masks of each example.")
    grid: int | None = Field(
        default=7, ge=1, description="Cells along each side of an image's coarse mask; as many as pixels when null."
    )
    kept: float = Field(default=0.5, gt=0, lt=1, description="The probability that a cell, token or column stays.")

    def _attributions(self, view: View, generators: Generators) -> Tensor:
        if not is_image(view):
            return super()._attributions(view, generators)
        start = self._start(view)
        size = (view.features.shape[-2], view.features.shape[-1])
        maps = []
        for row in view.rows.split(1):
            grids, shifts = self._grids(size, generators.row(int(row)))
            grids, shifts = grids.to(view.features), shifts.to(view.features.device)

            def masks(first: int, last: int, grids: Tensor = grids, shifts: Tensor = shifts) -> Tensor:
                return enlarged(grids[first:last], shifts[first:last], size)

            logits = logits_without(view, row, start, self.samples, lambda first, last: masks(first, last)[:, None])
            total, weight = torch.zeros_like(view.features[0, 0]), torch.zeros_like(view.features[0, 0])
            for first in range(0, self.samples, view.block):
                chosen = masks(first, min(self.samples, first + view.block))
                total += torch.tensordot(logits[first : first + len(chosen), 0], chosen, 1)
                weight += chosen.sum(0)
            maps.append(total / weight)
        return spread_map(view, torch.stack(maps))

    def _grids(self, size: tuple[int, int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Coarse masks ``(mask, h, w)`` 0 or 1, and how far each is shifted once it is enlarged, ``(mask, 2)`` in pixels."""
        sides = [min(self.grid or side, side) for side in size]
        device = generator.device
        drawn = torch.rand(self.samples, *sides, generator=generator, device=device) < self.kept
        cell = torch.tensor([math.ceil(side / number) for side, number in zip(size, sides, strict=True)], device=device)
        shifts = (torch.rand(self.samples, 2, generator=generator, device=device) * cell).long()
        return drawn, shifts

    def _count(self, players: int) -> int:  # noqa: ARG002
        return self.samples

    def _removals(self, positions: tuple[int, ...]) -> int:  # noqa: ARG002
        return self.samples

    def _drawn(self, players: int, count: int, generator: torch.Generator) -> Tensor:
        return torch.rand(count, players, generator=generator, device=generator.device) < self.kept

    def _values(self, kept: Tensor, logits: Tensor, plays: Tensor) -> Tensor:  # noqa: ARG002
        return torch.einsum("cbi,cb->bi", kept, logits) / kept.sum(0).clamp(min=1)


def enlarged(grids: Tensor, shifts: Tensor, size: tuple[int, int]) -> Tensor:
    """Coarse masks ``(mask, h, w)``, one cell larger than an image once enlarged, cut to its size at the shift of each."""
    height, width = (
        (number + 1) * math.ceil(side / number) for side, number in zip(size, grids.shape[1:], strict=True)
    )
    large = torch.nn.functional.interpolate(grids[:, None], size=(height, width), mode="bilinear", align_corners=False)
    down = shifts[:, :1] + torch.arange(size[0], device=shifts.device)
    across = shifts[:, 1:] + torch.arange(size[1], device=shifts.device)
    every = torch.arange(len(grids), device=shifts.device)[:, None, None]
    return large[every, 0, down[:, :, None], across[:, None]]

"""Obfuscations of square images with one channel, each a module whose weights are what it averages with."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

from method_cards.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn


def gaussian_blur(sigma: float, side: int) -> nn.Module:
    """Gaussian blur, borders repeated.

    Args:
        sigma: Standard deviation in pixels.
        side: Pixels along an image.
    """
    reach = math.ceil(3 * sigma)
    offsets = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    rows = torch.arange(side).repeat_interleave(len(offsets))
    columns = (torch.arange(side)[:, None] + offsets).clamp(0, side - 1).flatten()
    values = (kernel / kernel.sum()).repeat(side)
    matrix = torch.zeros(side, side).index_put((rows, columns), values, accumulate=True)
    return _averages(matrix, matrix).eval()


def pixelation(side: int, rows: int, columns: int) -> nn.Module:
    """The mean of each cell in place of its pixels.

    Args:
        side: Pixels along an image.
        rows: How many cells are above each other; they divide the side.
        columns: How many are beside each other.
    """
    means = _averages(*(_cells(side, count) * count / side for count in (rows, columns)))
    spread = _averages(*(_cells(side, count).T for count in (rows, columns)))
    return torch.nn.Sequential(means, spread).eval()


def private_pixelation(side: int, rows: int, columns: int, epsilon: float, pixels: int) -> nn.Module:
    """DP-Pix: pixelation with Laplace noise of scale ``pixels / (pixels of a cell * epsilon)``, cut off at 0 and 1 (Fan 2019).

    Args:
        side: Pixels along an image.
        rows: How many cells are above each other.
        columns: How many are beside each other.
        epsilon: The privacy budget of a cell.
        pixels: In how many pixels two images may differ that are to be indistinguishable.
    """
    scale = pixels * rows * columns / (side**2 * epsilon)

    class Noise(torch.nn.Module):
        def forward(self, means: Tensor) -> Tensor:
            uniform = torch.rand_like(means) - 0.5
            return (means - scale * uniform.sign() * torch.log1p(-2 * uniform.abs())).clamp(0, 1)

    means, spread = pixelation(side, rows, columns).children()
    return torch.nn.Sequential(means, Noise(), spread).eval()


def _cells(side: int, count: int) -> Tensor:
    """Which pixels are in which cell, ``(cell, pixel)``."""
    return torch.eye(count).repeat_interleave(side // count, dim=1)


def _averages(rows: Tensor, columns: Tensor) -> nn.Module:
    module: nn.Module = _separable()(rows, columns)
    return module


@cache
def _separable() -> type[nn.Module]:
    class Separable(torch.nn.Module):
        """A matrix along the rows of an image, and one along its columns."""

        def __init__(self, rows: Tensor, columns: Tensor) -> None:
            super().__init__()
            self.rows = torch.nn.Parameter(rows.clone())
            self.columns = torch.nn.Parameter(columns.clone())

        def forward(self, images: Tensor) -> Tensor:
            return self.rows @ images @ self.columns.T

    return Separable

"""Pixels from their neighbours: the linear system of ROAD, solved for all images of a batch at once.

Each missing pixel is to be the weighted mean of its eight neighbours, missing or not: 1/6 for those that share a side, 1/12 for
those that share a corner; at the border the weights of the neighbours that exist count (rong2022consistent, Section 4). The
system is symmetric and positive definite, so conjugate gradients solve it without a matrix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from method_cards.lazy import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

SIDE, CORNER = 1 / 6, 1 / 12
"""Weights of neighbours that share a side, and a corner."""

TOLERANCE = 2e-5
"""Largest residual in the Euclidean norm of each image, relative to its right-hand side and first guess together; where the gap's
neighbours are all zero, the right-hand side alone would be zero and never reached. Far below the noise that is added."""

MOST = 2000
"""Iterations; the residual is below the tolerance long before in practice."""

EVERY = 4
"""After how many iterations it is looked at which images are done: each look waits for the device."""

DENSE = 256
"""Up to so many pixels the system is multiplied as one matrix for all images; for larger ones its sums of neighbours are cheaper."""

TOGETHER = 2**16
"""How many numbers are solved for at once on a CPU, so that they stay in its cache; an image never depends on those beside it."""


def neighbours(images: Tensor) -> Tensor:
    """The weighted sum of each pixel's neighbours inside the image, ``(..., height, width)``."""
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    height, width = images.shape[-2:]
    columns = padded[..., :-2, :] + padded[..., 2:, :]
    corners = columns[..., :, :width] + columns[..., :, 2:]
    sides = columns[..., 1:-1] + padded[..., 1 : height + 1, :width] + padded[..., 1 : height + 1, 2:]
    return sides * SIDE + corners * CORNER


def impute(images: Tensor, removed: Tensor) -> Tensor:
    """The images with removed pixels replaced by the solution of the system, all channels alike.

    An image without any pixel left has nothing to be filled from, and becomes 0. Numbers of half precision are solved for in single.

    Args:
        images: ``(batch, channel, height, width)``.
        removed: Bool ``(batch, height, width)``.

    Returns:
        The shape and type of ``images``; the pixels that are not removed are untouched.
    """
    together = len(images) if images.is_cuda else TOGETHER // max(1, images[:1].numel())
    multiplied = _system(images)
    parts = zip(images.split(max(1, together)), removed.split(max(1, together)), strict=True)
    return torch.cat([_solved(part, gaps, multiplied) for part, gaps in parts])


def _system(images: Tensor) -> Callable[[Tensor], Tensor]:
    """What the whole system, of which gaps take their rows and columns, makes of an image."""
    height, width = images.shape[2:]
    like = images.new_ones(1, 1, height, width, dtype=torch.promote_types(images.dtype, torch.float32))
    total = neighbours(like)
    if height * width > DENSE:
        return lambda values: (total * values).sub_(neighbours(values))
    units = torch.eye(height * width, dtype=like.dtype, device=like.device).reshape(-1, 1, height, width)
    matrix = (total * units - neighbours(units)).flatten(1)
    return lambda values: (values.flatten(2) @ matrix).reshape(values.shape)


def _solved(images: Tensor, removed: Tensor, multiplied: Callable[[Tensor], Tensor]) -> Tensor:
    """Conjugate gradients for all images at once; those that are done are put aside."""
    precision = torch.promote_types(images.dtype, torch.float32)
    smallest = torch.finfo(precision).tiny
    free = removed[:, None].to(precision)
    known = images.to(precision) * (1 - free)
    left = (1 - free).sum((2, 3), keepdim=True)
    found = known.sum((2, 3), keepdim=True) / left.clamp(min=1) * free
    target = -multiplied(known) * free
    residual = target - multiplied(found) * free
    direction = residual.clone()
    square = residual.square().sum((2, 3), keepdim=True)
    stop = TOLERANCE**2 * (target.square() + found.square()).sum((2, 3), keepdim=True)
    rows, done = torch.arange(len(images), device=images.device), torch.empty_like(known)
    for iteration in range(MOST):
        if iteration % EVERY == 0:
            going = (square > stop).flatten(1).any(1)
            if not bool(going.all()):
                done[rows[~going]] = found[~going]
                rows = rows[going]
                found, residual, direction, free, square, stop = (
                    part[going] for part in (found, residual, direction, free, square, stop)
                )
            if not len(rows):
                break
        moved = multiplied(direction).mul_(free)
        step = square / (direction * moved).sum((2, 3), keepdim=True).clamp_(min=smallest)
        step = torch.where(square > stop, step, 0.0)  # a channel that is done stays, whatever others need
        found.addcmul_(step, direction)
        residual.addcmul_(step, moved, value=-1)
        following = residual.square().sum((2, 3), keepdim=True)
        direction.mul_(following / square.clamp(min=smallest)).add_(residual)
        square = following
    done[rows] = found
    return torch.where(removed[:, None], done.to(images.dtype), images)

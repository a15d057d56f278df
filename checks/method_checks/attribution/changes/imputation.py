"""Pixels from their neighbours: the linear system of ROAD, solved for many images at once.

Each missing pixel is to be the weighted mean of its eight neighbours, missing or not: 1/6 for those that share a side, 1/12 for
those that share a corner; at the border the weights of the neighbours that exist count (rong2022consistent, Section 4). The
system is symmetric and positive definite, so conjugate gradients solve it without a matrix. Each channel of each image is a system
of its own. The numbers of a pixel lie side by side, those of all systems together: so every step is one pass over memory, and the sum
of neighbours is one convolution in which each system is a channel.
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
"""Largest residual in the Euclidean norm of each system, relative to its right-hand side and first guess together; where the gap's
neighbours are all zero, the right-hand side alone would be zero and never reached. Far below the noise that is added."""

MOST = 2000
"""Iterations; the residual is below the tolerance long before in practice."""

EVERY = 4
"""After how many iterations it is looked at which systems are done: each look waits for the device."""

DENSE = 256
"""Up to so many pixels the system is multiplied as one matrix for all images; for larger ones its sums of neighbours are cheaper."""

TOGETHER, LEAST = 2**17, 16
"""How many numbers are solved for at once on a CPU, so that they stay in its cache, and the fewest systems. None depends on the others."""


def impute(images: Tensor, removed: Tensor) -> Tensor:
    """The images with removed pixels replaced by the solution of the system, all channels alike, solved in single precision.

    An image without any pixel left has nothing to be filled from, and becomes 0.

    Args:
        images: ``(batch, channel, height, width)``.
        removed: Bool ``(batch, height, width)``.

    Returns:
        The shape and type of ``images``; the pixels that are not removed are untouched.
    """
    gaps = removed[:, None].expand_as(images)
    values, missing = images.float().flatten(0, 1), gaps.flatten(0, 1)
    together = max(LEAST, len(values) if images.is_cuda else TOGETHER // max(1, values[:1].numel()))
    found = torch.empty_like(values)
    with torch.backends.cudnn.flags(enabled=False):  # which would round to TensorFloat-32
        multiplied = _system(values)
        for part, there, to in zip(*(each.split(together) for each in (values, missing, found)), strict=True):
            to.copy_(_solved(part, there, multiplied))
    return torch.where(gaps, found.reshape(images.shape).to(images.dtype), images)


def _system(like: Tensor) -> Callable[[Tensor], Tensor]:
    """What the whole system, of which gaps take their rows and columns, makes of images, ``(pixel, system)`` both."""
    height, width = like.shape[1:]
    rows = [[CORNER, SIDE, CORNER], [SIDE, 0.0, SIDE], [CORNER, SIDE, CORNER]]
    weights = -torch.tensor(rows, dtype=like.dtype, device=like.device)

    def without_diagonal(values: Tensor) -> Tensor:
        channels = values.reshape(1, height, width, -1).permute(0, 3, 1, 2)  # in the order of memory "channels last"
        each = weights.expand(channels.shape[1], 1, 3, 3)
        found = torch.nn.functional.conv2d(channels, each, padding=1, groups=len(each))
        return found.permute(0, 2, 3, 1).reshape(values.shape)

    total = -without_diagonal(like.new_ones(height * width, 1))
    if height * width > DENSE:
        return lambda values: without_diagonal(values).addcmul_(total, values)
    matrix = without_diagonal(torch.eye(height * width, dtype=like.dtype, device=like.device)) + total.diagflat()
    return lambda values: matrix @ values


def _solved(values: Tensor, missing: Tensor, multiplied: Callable[[Tensor], Tensor]) -> Tensor:
    """Conjugate gradients for all systems at once, ``(system, height, width)``; those that are done are put aside."""
    smallest = torch.finfo(values.dtype).tiny
    free = _laid(missing.to(values.dtype))
    known = _laid(values.masked_fill(missing, 0.0))
    found = known.sum(0) / (1 - free).sum(0).clamp(min=1) * free
    target = -multiplied(known) * free
    residual = target - multiplied(found) * free
    stop = TOLERANCE**2 * (target.square() + found.square()).sum(0)
    direction, square = residual.clone(), residual.square().sum(0)
    columns, done = torch.arange(len(values), device=values.device), torch.empty_like(known)
    for iteration in range(MOST):
        if iteration % EVERY == 0:
            going = (square > stop).nonzero()[:, 0]
            if len(going) <= len(square) // 2:
                done[:, columns] = found
                columns, square, stop = columns[going], square[going], stop[going]
                found, residual, direction, free = (
                    part.index_select(1, going) for part in (found, residual, direction, free)
                )
            if not len(going):
                break
        moved = multiplied(direction).mul_(free)
        step = square / (direction * moved).sum(0).clamp_(min=smallest)
        step = torch.where(square > stop, step, 0.0)  # a system that is done stays, whatever others need
        found.addcmul_(step, direction)
        residual.addcmul_(step, moved, value=-1)
        following = residual.square().sum(0)
        torch.addcmul(residual, direction, following / square.clamp(min=smallest), out=direction)
        square = following
    done[:, columns] = found
    return done.T.reshape(values.shape)


def _laid(images: Tensor) -> Tensor:
    """``(system, height, width)`` to ``(pixel, system)``."""
    return images.flatten(1).T.contiguous()

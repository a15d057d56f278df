"""How alike attributions to the segments of prompts are, and how well they add up."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from method_cards.lazy import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor


def kendall(a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
    """Kendall's tau-b of two attributions of each example; 0 where either is constant.

    Args:
        a: ``(batch, segment)``.
        b: The same shape.
        mask: Which segments there are, ``(batch, segment)`` bool.

    Returns:
        ``(batch,)`` float64 in [-1, 1].
    """
    pairs = (mask[:, :, None] & mask[:, None, :]).double()
    one, other = ((part[:, :, None] - part[:, None, :]).double().sign() * pairs for part in (a, b))
    untied = one.abs().sum((1, 2)) * other.abs().sum((1, 2))
    return ((one * other).sum((1, 2)) / untied.sqrt().clamp(min=1)).clamp(-1, 1)


def same_top(a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
    """How alike the segments with the largest attributions are: 1 when there is one and the same, less when several share the place.

    Returns:
        Size of the intersection over that of the union of both sets of top segments, ``(batch,)`` float64 in [0, 1].
    """
    tops = [part == part.masked_fill(~mask, -torch.inf).amax(1, keepdim=True) for part in (a, b)]
    both, either = ((tops[0] & tops[1] & mask).sum(1), ((tops[0] | tops[1]) & mask).sum(1))
    return both.double() / either.clamp(min=1)


def additivity_error(total: Tensor, change: Tensor) -> Tensor:
    """|Σφ − Δ| / (|Σφ| + |Δ|): 0 when attributions add up to Δ, 1 when their sum is 0 or of the other sign; ``(batch,)``."""
    size = total.abs() + change.abs()
    return ((total - change).abs() / size.clamp(min=torch.finfo(size.dtype).tiny)).clamp(max=1)


def halved(attributions: Tensor, width: int) -> Tensor:
    """Sums of neighbours in pairs, ``(batch, width)``."""
    padded = torch.nn.functional.pad(attributions, (0, 2 * width - attributions.shape[1]))
    return padded.reshape(len(attributions), width, 2).sum(2)


def over_pairs(
    agreement: Callable[[Tensor, Tensor, Tensor], Tensor], attributions: Sequence[Tensor], mask: Tensor
) -> Tensor:
    """The mean of an agreement over all pairs of attributions, ``(batch,)``."""
    return torch.stack([agreement(one, other, mask) for one, other in combinations(attributions, 2)]).mean(0)

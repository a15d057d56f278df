"""How alike two explanations are: batched kernels on the maps' own device, one number for each example.

A map is a tensor ``(batch, ...)`` of finite numbers; a mask of the same shape says which positions count.
Sources: Spearman 1904; adebayo2018sanity (rank correlation of maps, signed and absolute); krishna2022disagreement (agreement of the
highest places). Measures that need an image are in `method_checks.attribution.maps.structure`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from method_cards.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

BACKGROUND_SHARE = 0.05
"""The share of an image's positions from which on its most frequent value counts as background."""

_SPREAD = 6364136223846793005
"""An odd 64-bit multiplier (knuth1997), so that equal sums of two pixels with different channels do not happen in
practice."""


_INFINITY = 0x7F800000 << 32
"""The bits of infinity in single precision, where numbers are packed with their places."""


@dataclass(frozen=True)
class Ranked:
    """Maps, ready to be correlated with many others; make the reference maps' once.

    Attributes:
        unit: Average ranks, centred and scaled to length one, 0 where masked out, ``(batch, position)`` float64.
        constant: Which maps have one value only (or less than two positions) and so no order at all, ``(batch,)`` bool.
    """

    unit: Tensor
    constant: Tensor


def average_ranks(maps: Tensor, mask: Tensor | None = None) -> Tensor:
    """Ranks from 1, smallest first; equal values share the average of their ranks.

    Args:
        maps: ``(batch, ...)``, finite.
        mask: Positions that are ranked, in the shape of the maps; all for None.

    Returns:
        ``(batch, position)`` float64; 0 where masked out.
    """
    values = maps.detach().reshape(len(maps), -1)
    chosen = None if mask is None else mask.expand(maps.shape).reshape(len(maps), -1)
    order, places = _placed(values if chosen is None else values.masked_fill(~chosen, torch.inf))
    ranks = torch.empty_like(values, dtype=torch.float64).scatter_(1, order, places.expand_as(values))
    return ranks if chosen is None else ranks.masked_fill(~chosen, 0.0)


def _placed(values: Tensor) -> tuple[Tensor, Tensor]:
    """Where each row's values lie in rising order, ``(row, position)``, and the average ranks in that order, one row where all are alike.

    Infinities, which stand for what does not count, come last, in any order.
    """
    examples, positions = values.shape
    order, same = _ordered(values)
    places = torch.arange(1, positions + 1, dtype=torch.float64, device=values.device)[None]
    if not bool(same.any()):
        return order, places
    run = torch.nn.functional.pad(~same, (1, 0), value=True).reshape(-1).cumsum(0) - 1
    lengths = run.bincount()
    last = lengths.cumsum(0)
    places = ((2 * last - lengths + 1).double() / 2)[run].reshape(examples, positions)
    return order, places - torch.arange(examples, device=values.device)[:, None] * positions


def _ordered(values: Tensor) -> tuple[Tensor, Tensor]:
    """Where each row's values lie in rising order, ``(row, position)``, and which but the first equal the one before and are finite."""
    if values.dtype is not torch.float32 or values.device.type != "cpu":
        ordered, order = values.sort(dim=1, stable=True)
        return order, (ordered[:, 1:] == ordered[:, :-1]) & ordered[:, 1:].isfinite()
    # NumPy sorts whole numbers several times as fast as torch sorts numbers with their places: a number's bits, made to rise with
    # the number, go into the upper half of an integer, and its place into the lower one.
    bits = (values + 0.0).numpy().view(np.int32)  # + 0.0 makes -0.0 and 0.0 one value
    packed = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.int64)
    packed <<= 32
    packed |= np.arange(values.shape[1])
    packed.sort(axis=1)
    same = ((packed[:, 1:] ^ packed[:, :-1]) >> 32 == 0) & (packed[:, 1:] < _INFINITY)
    return torch.from_numpy(packed & 0xFFFFFFFF), torch.from_numpy(same)


def ranked(maps: Tensor, mask: Tensor | None = None) -> Ranked:
    """Rank maps for `correlation`.

    Args:
        maps: ``(batch, ...)``, finite.
        mask: Positions that count, in the shape of the maps; all for None.
    """
    # Average ranks sum to n (n + 1) / 2 whatever the ties, in halves: centring is exact, a constant map exactly 0.
    if mask is not None:
        weights = mask.expand(maps.shape).reshape(len(maps), -1).double()
        return unit(average_ranks(maps, mask).sub_((weights.sum(1, keepdim=True) + 1) / 2).mul_(weights))
    values = maps.detach().reshape(len(maps), -1)
    order, places = _placed(values)  # without ties one row, so that little is computed before it is spread
    found = unit(places - (values.shape[1] + 1) / 2)
    units = torch.empty_like(values, dtype=torch.float64).scatter_(1, order, found.unit.expand_as(values))
    return Ranked(units, found.constant.expand(len(maps)))


def unit(vectors: Tensor) -> Ranked:
    """Vectors ``(batch, position)``, float64, scaled to length one; those of length 0 are told as constant."""
    length = vectors.norm(dim=1, keepdim=True)
    return Ranked(vectors / length.masked_fill(length == 0, 1.0), length[:, 0] == 0)


def direction(maps: Tensor, mask: Tensor | None = None) -> Ranked:
    """Maps scaled to length one, for `correlation`, which is then their cosine. A map of zeros counts as constant."""
    values = maps.detach().reshape(len(maps), -1).double()
    return unit(values if mask is None else values * mask.expand(maps.shape).reshape(values.shape))


def highest(maps: Tensor, share: float, mask: Tensor | None = None) -> Tensor:
    """Which positions are among a map's highest; those tied for the last places have equal parts of them.

    Args:
        maps: ``(batch, ...)``, finite.
        share: The share of a map's positions that is wanted, in (0, 1); at least one.
        mask: Positions that count, in the shape of the maps; all for None.

    Returns:
        ``(batch, position)`` float64 in [0, 1], adding up to the number of wanted positions; all 0 where nothing counts.
    """
    values = maps.detach().reshape(len(maps), -1).double()
    if not values.shape[1]:
        return values
    counted = (
        torch.ones_like(values, dtype=torch.bool) if mask is None else mask.expand(maps.shape).reshape(values.shape)
    )
    positions = counted.sum(1, keepdim=True)
    wanted = torch.minimum((share * positions.double()).round().clamp(min=1), positions)
    values = values.masked_fill(~counted, -torch.inf)
    last = values.sort(dim=1, descending=True).values.gather(1, (wanted.long() - 1).clamp(min=0))
    above, tied = (values > last) & counted, (values == last) & counted
    return above + tied * (wanted - above.sum(1, keepdim=True)) / tied.sum(1, keepdim=True).clamp(min=1)


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """The Jaccard index of two sets of highest positions, as `highest` gives them: the smaller over the larger memberships.

    Returns:
        ``(batch,)`` in [0, 1]; 1 where both are empty. Independent random maps have about ``share / (2 - share)``: 0.05 at a tenth.
    """
    both, either = torch.minimum(a, b).sum(-1), torch.maximum(a, b).sum(-1)
    return torch.where(either == 0, 1.0, both / either.masked_fill(either == 0, 1.0))


def correlation(a: Ranked, b: Ranked) -> Tensor:
    """Spearman's rank correlation of maps that are ranked already, under the same mask.

    A constant map has no order, and the correlation is not defined. Here it is 0 when one of the two is constant (they
    share no order) and 1 when both are (neither prefers any position), so that an explainer that answers with a
    constant is never seen to react to anything. Whoever uses the number says what it does about `Ranked.constant`.

    Returns:
        ``(batch,)`` float64 in [-1, 1], never NaN.
    """
    found = (a.unit * b.unit).sum(-1).clamp(-1.0, 1.0)
    return torch.where(a.constant & b.constant, torch.ones_like(found), found)


def spearman(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """Spearman's rank correlation of two maps of each example, ties averaged; see `correlation` for constant maps.

    Args:
        a: ``(batch, ...)``, finite.
        b: The same shape.
        mask: Positions that count, in the shape of the maps; all for None.

    Returns:
        ``(batch,)`` float64 in [-1, 1].
    """
    return correlation(ranked(a, mask), ranked(b, mask))


def is_constant(maps: Tensor, mask: Tensor | None = None) -> Tensor:
    """Which maps have one value only where the mask is true, or less than two positions there, ``(batch,)`` bool."""
    values = maps.detach().reshape(len(maps), -1)
    if not values.shape[1]:
        return torch.ones(len(maps), dtype=torch.bool, device=maps.device)
    if mask is None:
        return values.amax(1) == values.amin(1)
    chosen = mask.expand(maps.shape).reshape(values.shape)
    return values.masked_fill(~chosen, -torch.inf).amax(1) <= values.masked_fill(~chosen, torch.inf).amin(1)


def foreground(inputs: Tensor) -> Tensor:
    """Where each image is not background, so that many equal pixels at its edge do not decide a correlation.

    Background is an image's most frequent value (for images with channels: combination of values), when that value
    covers at least `BACKGROUND_SHARE` of the positions. An image without such a value, or with nothing else, is all
    foreground. It depends on the image alone, neither on the rest of the batch nor on an explanation.

    Args:
        inputs: Images ``(batch, channel, height, width)``, or anything else with one value for each position, ``(batch,
            ...)``.

    Returns:
        Bool, ``(batch, height, width)`` for images, otherwise the shape of the inputs.
    """
    bits = (inputs.detach().double() + 0.0).view(torch.int64)  # + 0.0 makes -0.0 and 0.0 one value
    codes = bits[:, 0] if bits.dim() == 4 else bits  # noqa: PLR2004  (an image has four axes)
    for channel in range(1, bits.shape[1] if bits.dim() == 4 else 1):  # noqa: PLR2004
        codes = codes * _SPREAD + bits[:, channel]
    flat = codes.reshape(len(codes), -1)
    ordered = flat.sort(dim=1).values
    place = torch.arange(flat.shape[1], device=flat.device).expand(flat.shape)
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    counts = place - torch.where(starts, place, 0).cummax(1).values + 1  # at a run's last position: its length
    most, at = counts.max(1, keepdim=True)
    found = flat != ordered.gather(1, at)
    usable = (most >= BACKGROUND_SHARE * flat.shape[1]) & (most < flat.shape[1])
    return (found | ~usable).reshape(codes.shape)

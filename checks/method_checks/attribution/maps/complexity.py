"""How complex an explanation is: the entropy of the histogram of its values.

Sources: hedstrom2024fresh (entropy of a histogram as the complexity of a map). The rules for the number of bins go by the number
of values, as those of `numpy.histogram_bin_edges` do.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

from method_cards.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

Rule: TypeAlias = Literal["square-root", "sturges", "rice", "scott", "freedman-diaconis"]
"""How many bins a map of so many values gets; the last two look at the spread of the values, too."""

MOST = 1000
"""The most bins that a rule may ask for: one far value would ask for any number."""


def bins_of(maps: Tensor, rule: int | Rule, mask: Tensor | None = None) -> Tensor:
    """How many bins each map's histogram gets.

    Args:
        maps: ``(batch, ...)``, finite.
        rule: A number, or a rule.
        mask: Positions that count, in the shape of the maps; all for None.

    Returns:
        ``(batch,)``, from 1 to `MOST` where a rule decides.
    """
    values, counted = _flat(maps, mask)
    if isinstance(rule, int):
        return torch.full((len(values),), rule, device=maps.device)
    number = counted.sum(1).double().clamp(min=1)
    if rule in ("scott", "freedman-diaconis"):
        low, high = _ends(values, counted)
        width = _spread(values, counted, rule) * number.pow(-1 / 3)
        found = torch.where(width > 0, (high - low) / width.masked_fill(width == 0, 1.0), 1.0)
    else:
        found = {
            "square-root": number.sqrt(),
            "sturges": number.log2() + 1,
            "rice": 2 * number.pow(1 / 3),
        }[rule]
    return found.ceil().clamp(1, MOST).long()


def entropy(maps: Tensor, bins: Tensor, mask: Tensor | None = None) -> Tensor:
    """The entropy of each map's histogram, whose bins have equal widths from its smallest value to its largest.

    Args:
        maps: ``(batch, ...)``, finite; the scale of a map does not matter.
        bins: How many bins each has, ``(batch,)``.
        mask: Positions that count, in the shape of the maps; all for None.

    Returns:
        In nats, ``(batch,)`` float64, from 0 (all values in one bin, as those of a constant map) to the logarithm of the bins.
    """
    values, counted = _flat(maps, mask)
    low, high = (end[:, None] for end in _ends(values, counted))
    number = bins[:, None]
    width = (high - low) / number
    place = ((values - low) / (high - low).masked_fill(high == low, 1.0) * number).long().clamp_(min=0)
    place = torch.minimum(place, number - 1)
    # As in NumPy: rounding may put a value beside its bin, whose edges decide.
    place -= (values < low + place * width).long()
    place += ((values >= low + (place + 1) * width) & (place < number - 1)).long()
    counts = torch.zeros(len(values), int(bins.max()), dtype=torch.float64, device=maps.device)
    counts.scatter_add_(1, place.clamp_(min=0), counted.double())
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    found: Tensor = torch.special.entr(shares).sum(1).clamp(min=0) * (high != low)[:, 0]
    return found


def _flat(maps: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    values = maps.detach().reshape(len(maps), -1).double()
    counted = (
        torch.ones_like(values, dtype=torch.bool) if mask is None else mask.expand(maps.shape).reshape(values.shape)
    )
    return values, counted


def _ends(values: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """Each map's smallest and largest value; two zeros where nothing counts."""
    if bool(counted.all()) and counted.shape[1]:
        return values.aminmax(dim=1)
    low = values.masked_fill(~counted, torch.inf).amin(1)
    high = values.masked_fill(~counted, -torch.inf).amax(1)
    empty = ~counted.any(1)
    return low.masked_fill(empty, 0.0), high.masked_fill(empty, 0.0)


def _spread(values: Tensor, counted: Tensor, rule: Rule) -> Tensor:
    """What the width of a bin is a multiple of, for one value: of the standard deviation, or of the distance between quartiles."""
    hidden = values.masked_fill(~counted, torch.nan)
    if rule == "freedman-diaconis":
        places = torch.tensor([0.25, 0.75], dtype=values.dtype, device=values.device)
        low, high = hidden.nanquantile(places, dim=1)
        found: Tensor = 2 * (high - low)
    else:
        mean = hidden.nanmean(1, keepdim=True)
        found = (hidden - mean).square().nanmean(1).sqrt() * math.cbrt(24 * math.sqrt(math.pi))
    return found.nan_to_num(0.0)

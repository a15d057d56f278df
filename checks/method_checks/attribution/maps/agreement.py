"""Whether two maps of one example name the same features, and what chance gives.

Sources: krishna2022disagreement (feature agreement, sign agreement).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from method_cards.lazy import torch
from method_checks.attribution.maps.similarity import Ranked, highest, ranked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@dataclass(frozen=True)
class Named:
    """What a map says: which features are top, with which sign, and in which order.

    Attributes:
        positive: How far each position belongs to the top features with a positive sign, ``(batch, position)`` in [0, 1].
        negative: The same with a negative sign.
        ranks: The magnitudes, ranked.
    """

    positive: Tensor
    negative: Tensor
    ranks: Ranked

    @property
    def top(self) -> Tensor:
        """How far each position belongs to the top features."""
        return self.positive + self.negative


def named(maps: Tensor, share: float, content: Tensor) -> Named:
    """The top features of signed maps.

    Args:
        maps: ``(batch, ...)``.
        share: Which share of the positions is top. Positions that are tied for the last places belong to it in part.
        content: Which positions count, in the shape of the maps.
    """
    top = highest(maps.abs(), share, content)
    signs = maps.reshape(len(maps), -1)
    # A top position of value 0 has no sign: half of either, so that two of them agree by chance alone.
    weight = (signs.double().sign() + 1) / 2
    return Named(top * weight, top * (1 - weight), ranked(maps.abs(), content))


def feature_agreement(a: Named, b: Named, positions: Tensor) -> tuple[Tensor, Tensor]:
    """The share of top features that two maps have in common, and what chance gives: the share that is top, ``(batch,)`` each.

    Args:
        a: One map of each example.
        b: The other.
        positions: How many positions count, ``(batch,)``.
    """
    size = a.top.sum(1).clamp(min=1)
    return (a.top * b.top).sum(1) / size, b.top.sum(1) / positions.clamp(min=1)


def sign_agreement(a: Named, b: Named, positions: Tensor) -> tuple[Tensor, Tensor]:
    """The share of top features in common with the same sign, and its mean over all permutations of the second map's positions."""
    size = a.top.sum(1).clamp(min=1)
    same = (a.positive * b.positive + a.negative * b.negative).sum(1) / size
    by_chance = a.positive.sum(1) * b.positive.sum(1) + a.negative.sum(1) * b.negative.sum(1)
    return same, by_chance / (size * positions.clamp(min=1))


def excess(agreements: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Agreement less chance, mean over several comparisons, ``(batch,)`` in [-1, 1]."""
    return torch.stack([found - chance for found, chance in agreements]).mean(0).clamp(-1, 1)

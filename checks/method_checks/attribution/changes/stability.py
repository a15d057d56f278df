"""How far a map moves when its input moves a little: explanations in a neighbourhood, and their distances.

Sources: yeh2019infidelity (max-sensitivity); alvarezmelis2018robustness (local Lipschitz estimate); agarwal2022rethinking (relative
stability).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from method_cards.lazy import torch
from method_checks.attribution.changes.fidelity import spread_of

if TYPE_CHECKING:
    from torch import Tensor

    from method_cards.subject import View
    from method_checks.attribution.changes.draws import Draws
    from method_checks.attribution.explainers import CustomExplainer, Explainer

CLIP = 2.0
"""The largest relative change that is told apart: a map that moves by twice its own length has nothing left of itself."""


@dataclass(frozen=True)
class Neighbours:
    """What happens in a neighbourhood of each example; all are ``(draw, batch)`` float64.

    Attributes:
        moved: The distance of the map from that of the example.
        length: Of the example's own map, ``(batch,)``.
        input_moved: The Euclidean distance of the input.
        input_length: Of the example itself, ``(batch,)``.
        output_moved: The Euclidean distance of all logits.
        output_length: Of the example's logits, ``(batch,)``.
        is_same_class: Whether the model still predicts the explained class, bool.
    """

    moved: Tensor
    length: Tensor
    input_moved: Tensor
    input_length: Tensor
    output_moved: Tensor
    output_length: Tensor
    is_same_class: Tensor


def neighbours(
    view: View,
    attributions: Tensor,
    explainer: Explainer | CustomExplainer,
    *,
    draws: Draws,
    seed: int,
    count: int,
    radius: float,
) -> Neighbours:
    """Explain each example at points that are drawn uniformly from a cube around it.

    Args:
        view: The examples.
        attributions: Of the examples themselves, in the shape of the features.
        explainer: The method.
        draws: Where the points come from.
        seed: Where the explainer's own random numbers come from.
        count: How many points for each example.
        radius: Half the side of the cube, as a share of the range of each example's features.
    """
    examples, features = len(view.features), view.features.flatten(1)
    inside = view.spread(view.content).expand_as(view.features).flatten(1)
    reach = radius * spread_of(view.features, view.mask)[:, None]
    own = attributions.flatten(1) * inside
    with torch.no_grad():
        here = view.outputs(view.features, view.rows).double()
    together = max(1, view.block // max(1, examples))
    found: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for first in range(0, count, together):
        numbers = range(first, min(count, first + together))
        steps = [(draws.uniform(number, features.shape[1]) * 2 - 1).to(features) * reach * inside for number in numbers]
        points = torch.cat([features + step for step in steps]).reshape(-1, *view.features.shape[1:])
        near = view.at(points, view.rows.repeat(len(steps)))
        maps = explainer.explain(near, seed, first).flatten(1).reshape(len(steps), *own.shape)
        with torch.no_grad():
            there = near.outputs(near.features, near.rows).double().reshape(len(steps), *here.shape)
        found.append(
            (
                (maps * inside - own).double().norm(dim=2),
                torch.stack(steps).double().norm(dim=2),
                (there - here).norm(dim=2),
                there.argmax(2) == view.targets,
            )
        )
    moved, input_moved, output_moved, same = (torch.cat(part) for part in zip(*found, strict=True))
    return Neighbours(
        moved,
        own.double().norm(dim=1),
        input_moved,
        (features * inside).double().norm(dim=1),
        output_moved,
        here.norm(dim=1),
        same,
    )


def relative(moved: Tensor, length: Tensor) -> Tensor:
    """A distance as a share of a length, at most `CLIP`; 0 where both are 0, `CLIP` where only the length is."""
    ratio = moved / length.where(length > 0, 1)
    return torch.where(length > 0, ratio, torch.where(moved > 0, CLIP, 0.0)).clamp(max=CLIP)


def stability(found: Neighbours, moved: Tensor, length: Tensor, least: float) -> Tensor:
    """The largest ratio of the map's relative change to that of something else, over points of the same class.

    Args:
        found: The neighbourhood.
        moved: How far the other thing moved, ``(draw, batch)``.
        length: Its length at the example, ``(batch,)``.
        least: The relative change below which the divisor is not taken, so that a division by almost nothing decides nothing.

    Returns:
        ``(batch,)``, at least 0; 0 where no point is of the same class.
    """
    change = relative(found.moved, found.length)
    against = (moved / length.where(length > 0, 1)).clamp(min=least)
    return torch.where(found.is_same_class, change / against, 0.0).amax(0)


def padded_distance(maps: Tensor, others: Tensor) -> Tensor:
    """The Euclidean distances of each map to each of some others; a shorter text is continued by zeros.

    Args:
        maps: ``(batch, ...)``.
        others: ``(other, ...)``, of the same shape but for the length of texts.

    Returns:
        ``(batch, other)`` float64.
    """
    longest = max(maps.shape[1], others.shape[1])
    both = []
    for part in (maps, others):
        fill = part.new_zeros(len(part), longest - part.shape[1], *part.shape[2:])
        both.append(torch.cat([part, fill], 1).flatten(1).double())
    # Not torch.cdist, whose shortcut by a matrix product turns small distances into rounding.
    return torch.stack([(both[0] - other).norm(dim=1) for other in both[1]], 1)

"""The maps of many networks for one batch, each compared with those of the trained model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from method_cards.lazy import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch import Tensor

    from method_cards.subject import View
    from method_checks.attribution.maps.comparisons import Comparison, Kind, Prepared


@dataclass(frozen=True)
class Compared:
    """The maps of one network.

    Attributes:
        similarity: To those of the trained model, by kind, ``(batch,)``.
        prepared: Ready to be compared with those of another network.
        shown: With their sign, ``(batch, ...)``.
    """

    similarity: Mapping[Kind, Tensor]
    prepared: Prepared
    shown: Tensor


def maps_of(view: View, attributions: Tensor) -> tuple[Tensor, Tensor]:
    """One network's maps, with their sign and by magnitude, ``(1, batch, ...)``; attributions have the features' shape."""
    return view.as_map(attributions)[None], view.as_map(attributions.abs())[None]


def compared(comparison: Comparison, trained: Prepared, maps: Iterable[tuple[Tensor, Tensor]]) -> Iterator[Compared]:
    """Compare the maps of each network with the trained model's, in their order; as many at once as are best made ready together.

    Args:
        comparison: How maps of this batch are compared.
        trained: The trained model's maps.
        maps: Those of each network, as `maps_of` gives them; taken one by one.
    """
    waiting: list[tuple[Tensor, Tensor]] = []
    for both in maps:
        waiting.append(both)
        if len(waiting) >= comparison.together(both[0]):
            yield from _together(comparison, trained, waiting)
            waiting = []
    if waiting:
        yield from _together(comparison, trained, waiting)


def _together(comparison: Comparison, trained: Prepared, maps: Sequence[tuple[Tensor, Tensor]]) -> Iterator[Compared]:
    prepared = comparison.prepared(*(torch.cat(part) for part in zip(*maps, strict=True)))
    found = {kind: comparison.similarity(trained, prepared, kind) for kind in comparison.kinds}
    for number, (signed, _) in enumerate(maps):
        alone = {kind: values[number] for kind, values in found.items()}
        yield Compared(alone, prepared.network(number), signed[0])

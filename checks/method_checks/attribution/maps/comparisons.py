"""The ways in which maps are compared, the quantities that each of them gives, and maps made ready to be compared with many others.

Sources: adebayo2018sanity (rank correlation, SSIM, HOG); binder2023shortcomings (scale before SSIM);
krishna2022disagreement (highest places).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from method_cards.lazy import torch
from method_cards.measurement import Floats, Quantity
from method_checks.attribution.maps import structure
from method_checks.attribution.maps.similarity import (
    Ranked,
    correlation,
    direction,
    foreground,
    highest,
    is_constant,
    overlap,
    ranked,
)
from method_checks.attribution.maps.structure import Scale, Smoothed

if TYPE_CHECKING:
    from torch import Tensor

    from method_cards.subject import View

Kind: TypeAlias = Literal["signed", "absolute", "foreground", "cosine", "top", "ssim", "hog"]
"""A way of comparing two maps."""

RANKS: tuple[Kind, ...] = ("signed", "absolute", "foreground")
"""Rank correlations: of maps with their sign, of magnitudes, and of magnitudes outside the image's background."""

IMAGES: tuple[Kind, ...] = ("ssim", "hog")
"""Those that need an image of some size."""

MEANING: Mapping[Kind, str] = {
    "signed": "rank correlation of the maps with their sign",
    "absolute": "rank correlation of the maps' magnitudes",
    "foreground": "rank correlation of the maps' magnitudes where the image is not background",
    "cosine": "cosine of the maps with their sign",
    "top": "Jaccard index of the positions of highest magnitude",
    "ssim": "structural similarity of the maps' magnitudes",
    "hog": "Pearson correlation of histograms of oriented gradients of the maps' magnitudes",
}

LOWEST: Mapping[Kind, float] = {
    "signed": -1,
    "absolute": -1,
    "foreground": -1,
    "cosine": -1,
    "top": 0,
    "ssim": -1,
    "hog": -1,
}
"""The lowest value of each; 1 is the highest, of equal maps."""

PLACES = 2**20
"""How many positions of maps are made ready at once."""


def by_kind(name: str, meaning: str, *, by: tuple[str, ...] = (), difference: bool = False) -> Mapping[Kind, Quantity]:
    """A quantity for each way of comparing.

    Args:
        name: What follows ``{kind}_`` in its name.
        meaning: What follows the way of comparing in its meaning.
        by: Its breakdowns.
        difference: Whether it is a difference of two similarities.
    """
    return {
        kind: Quantity(
            f"{kind}_{name}",
            "mean",
            f"{MEANING[kind]}, {meaning}",
            range=(LOWEST[kind] - 1.0, 1.0 - LOWEST[kind]) if difference else (float(LOWEST[kind]), 1.0),
            by=by,
        )
        for kind in MEANING
    }


def too_small(kinds: Sequence[Kind], height: int, width: int) -> str:
    """Why images of this size cannot be compared in one of these ways; empty when they can."""
    for kind in kinds:
        least = structure.least_side(height, width, hog=kind == "hog") if kind in IMAGES else 0
        if min(height, width) < least:
            what = "blocks of cells" if kind == "hog" else "windows"
            return f'maps of {height} x {width} positions have no room for the {what} of "{kind}", {least} wide; leave it out of `kinds`'
    return ""


@dataclass(frozen=True)
class Prepared:
    """Maps of some networks for one batch, ready to be compared.

    Attributes:
        parts: What each way of comparing needs, with axes ``(network, batch, ...)``; ways that need the same hold the same tensors.
        constant: Which signed maps have one value only, ``(network, batch)`` bool.
    """

    parts: Mapping[Kind, Ranked | Smoothed | Tensor]
    constant: Tensor

    def network(self, number: int) -> Prepared:
        """The maps of one network, with a first axis of length one."""
        chosen = slice(number, number + 1)
        return Prepared(
            {kind: _each(part, lambda tensor: tensor[chosen]) for kind, part in self.parts.items()},
            self.constant[chosen],
        )


@dataclass(frozen=True)
class Comparison:
    """How the maps of one batch are compared.

    Attributes:
        kinds: In which ways.
        share: The share of positions that counts as highest.
        scale: What maps are divided by before SSIM.
        mask: Which positions are content, in the shape of the maps; None for all.
        inside: Which positions are not background; None for those of ``mask``.
    """

    kinds: tuple[Kind, ...]
    share: float
    scale: Scale
    mask: Tensor | None
    inside: Tensor | None

    @classmethod
    def of(cls, view: View, kinds: tuple[Kind, ...], share: float, scale: Scale) -> Comparison:
        """That of the examples of a view."""
        inside = foreground(view.features) if view.mask is None and "foreground" in kinds else view.mask
        if inside is not None and inside.shape != view.content.shape:
            inside = None  # tokens have many numbers each, and no background
        return cls(kinds, share, scale, view.mask, None if inside is None or bool(inside.all()) else inside)

    def together(self, maps: Tensor) -> int:
        """How many networks' maps are best made ready at once."""
        return max(1, PLACES // max(1, maps.numel()))

    def prepared(self, signed: Tensor, magnitude: Tensor) -> Prepared:
        """Make maps ready.

        Args:
            signed: One number for each position, ``(network, batch, ...)``.
            magnitude: The same, with the sign taken away before features of one position are added up.
        """
        networks, examples = signed.shape[:2]
        makers: Mapping[Kind, tuple[object, Callable[[], Ranked | Smoothed | Tensor]]] = {
            "signed": ("signed", lambda: ranked(_flat(signed), self._masked(self.mask, signed))),
            "absolute": ("absolute", lambda: ranked(_flat(magnitude), self._masked(self.mask, signed))),
            "foreground": (
                "absolute" if self.inside is None else "foreground",
                lambda: ranked(
                    _flat(magnitude), self._masked(self.mask if self.inside is None else self.inside, signed)
                ),
            ),
            "cosine": ("cosine", lambda: direction(_flat(signed), self._masked(self.mask, signed))),
            "top": ("top", lambda: highest(_flat(magnitude), self.share, self._masked(self.mask, signed))),
            "ssim": ("ssim", lambda: structure.smoothed(_flat(magnitude), self.scale)),
            "hog": ("hog", lambda: structure.oriented(_flat(magnitude))),
        }
        made: dict[object, Ranked | Smoothed | Tensor] = {}
        parts = {}
        for kind in self.kinds:
            key, make = makers[kind]
            if key not in made:
                made[key] = _each(make(), lambda tensor: tensor.reshape(networks, examples, *tensor.shape[1:]))
            parts[kind] = made[key]
        return Prepared(parts, _constant(signed, self.mask))

    def similarity(self, reference: Prepared, other: Prepared, kind: Kind) -> Tensor:
        """How alike each example's two maps are, ``(network, batch)``; 1 where the reference is constant: it cannot change."""
        one, two = reference.parts[kind], other.parts[kind]
        if isinstance(one, Ranked) and isinstance(two, Ranked):
            found = correlation(one, two)
            return torch.where(one.constant, 1.0, found)
        if isinstance(one, Smoothed) and isinstance(two, Smoothed):
            return structure.ssim(one, two)
        assert isinstance(one, torch.Tensor)
        assert isinstance(two, torch.Tensor)
        return torch.where(reference.constant, 1.0, overlap(one, two))

    def signed(self, one: Tensor, other: Tensor) -> Tensor:
        """Rank correlation of each example's two signed maps, ``(network, batch, ...)`` each; 1 where the first is constant."""
        alone = replace(self, kinds=("signed",))
        pair = alone.prepared(torch.cat([one, other]), torch.cat([one, other]))
        return alone.similarity(pair.network(0), pair.network(1), "signed")[0]

    def _masked(self, mask: Tensor | None, maps: Tensor) -> Tensor | None:
        return None if mask is None else _flat(mask.expand(maps.shape))


def _flat(maps: Tensor) -> Tensor:
    return maps.flatten(0, 1)


def _constant(maps: Tensor, mask: Tensor | None) -> Tensor:
    flat = _flat(maps)
    return is_constant(flat, None if mask is None else _flat(mask.expand(maps.shape))).reshape(maps.shape[:2])


def _each(part: Ranked | Smoothed | Tensor, change: Callable[[Tensor], Tensor]) -> Ranked | Smoothed | Tensor:
    if isinstance(part, torch.Tensor):
        return change(part)
    return type(part)(*(change(getattr(part, name)) for name in part.__dataclass_fields__))


def on_host(values: Tensor) -> Floats:
    """Numbers as quantities take them: float64, on the host."""
    return values.double().cpu().numpy()

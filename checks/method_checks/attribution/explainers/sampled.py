"""Explaining by random removals: players of a game, whose value is the logit when only some of them stay.

Players are patches of an image, tokens of a text (padding left out) or columns.
"""

from __future__ import annotations

from abc import abstractmethod
from itertools import product
from math import comb
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_checks.attribution.explainers.base import groups
from method_checks.attribution.explainers.custom import spread_map
from method_checks.attribution.explainers.masks import Removal, cells, is_image, logits_without, number_of_cells

if TYPE_CHECKING:
    from torch import Tensor

    from method_cards.subject import View
    from method_checks.attribution.explainers.generators import Generators

_GRID = "Patches along each side of an image that are removed together; one for each pixel when null."
_RIDGE = 1e-9
"""What is added to the diagonal of a regression's matrix, so that it can always be solved."""


class Coalitions(Removal):
    """What explains by the logits of coalitions: the players that stay."""

    grid: int | None = Field(default=8, ge=1, description=_GRID)

    @property
    def is_random(self) -> bool:
        """True."""
        return True

    def _attributions(self, view: View, generators: Generators) -> Tensor:
        shape = tuple(view.as_map(view.features).shape[1:])
        numbers = cells(shape, self.grid, image=is_image(view)).to(view.features.device)
        players = int(numbers.max()) + 1
        everyone = torch.ones(len(view.features), players, dtype=torch.bool, device=numbers.device)
        plays = everyone if view.mask is None else view.mask
        start, count = self._start(view), self._count(players)
        found = []
        for rows in groups(view, count):
            kept = torch.ones(count, len(rows), players, device=numbers.device)
            for place, (row, playing) in enumerate(zip(rows.tolist(), plays[rows], strict=True)):
                kept[:, place, playing] = self._drawn(int(playing.sum()), count, generators.row(row)).to(kept)

            def masks(first: int, last: int, kept: Tensor = kept) -> Tensor:
                return kept[first:last][..., numbers]

            logits = logits_without(view, rows, start, count, masks)
            found.append(self._values(kept.double() * plays[rows], logits.double(), plays[rows]))
        of_position = torch.cat(found) / numbers.flatten().bincount(minlength=players)
        return spread_map(view, of_position[:, numbers] * view.content)

    def _removals(self, positions: tuple[int, ...]) -> int:
        return self._count(number_of_cells(positions, self.grid))

    @abstractmethod
    def _count(self, players: int) -> int:
        """How many coalitions go through the model for each example."""

    @abstractmethod
    def _drawn(self, players: int, count: int, generator: torch.Generator) -> Tensor:
        """Coalitions of one example's players, ``(coalition, player)`` 0 or 1."""

    @abstractmethod
    def _values(self, kept: Tensor, logits: Tensor, plays: Tensor) -> Tensor:
        """What each player adds, ``(batch, player)``; 0 for padding.

        Args:
            kept: Coalitions, ``(coalition, batch, player)`` float64; 0 for padding.
            logits: Of each, ``(coalition, batch)``.
            plays: Who is no padding, ``(batch, player)`` bool.
        """


class KernelShap(Coalitions):
    """Shapley values as the solution of a weighted regression on random coalitions, each drawn with its complement.

    All coalitions are taken where that needs no more than ``samples``: the values are exact then. They always add up to the
    logit's change from the baseline.
    """

    title: ClassVar[str] = "Kernel SHAP"
    sources: ClassVar[tuple[str, ...]] = ("lundberg2017unified", "covert2021improving")

    method: Literal["kernel-shap"] = "kernel-shap"
    samples: int = Field(default=256, ge=2, le=65536, multiple_of=2, description="Coalitions of each example.")

    @property
    def claims_completeness(self) -> bool:
        """True."""
        return True

    def _count(self, players: int) -> int:
        everything = int(2**players) - 2
        if self.samples < min(everything, 2 * players):
            raise CheckError(
                f'explainer "kernel-shap": {self.samples} coalitions do not determine {players} values; set `samples` to at least '
                f"{2 * players}, or a coarser `grid`"
            )
        return 2 + min(self.samples, everything)

    def _drawn(self, players: int, count: int, generator: torch.Generator) -> Tensor:
        device = generator.device
        ends = torch.tensor([[1.0], [0.0]], device=device).expand(2, players)
        if 2**players - 2 <= self.samples:
            every = torch.tensor(list(product((0.0, 1.0), repeat=players))[1:-1], device=device).reshape(-1, players)
            return torch.cat([ends, every, ends[:1].expand(count - 2 - len(every), players)])
        sizes = torch.arange(1, players, device=device)
        drawn = torch.multinomial(
            1 / (sizes * (players - sizes)), (count - 2) // 2, replacement=True, generator=generator
        )
        places = torch.rand(len(drawn), players, generator=generator, device=device).argsort(1).argsort(1)
        half = (places < sizes[drawn][:, None]).float()
        return torch.cat([ends, half, 1 - half])

    def _values(self, kept: Tensor, logits: Tensor, plays: Tensor) -> Tensor:
        whole, nothing = logits[0], logits[1]
        weights = self._weights(kept[2:].sum(-1), plays.sum(1))
        total = weights.sum(0).clamp(min=_RIDGE)
        matrix = torch.einsum("cb,cbi,cbj->bij", weights, kept[2:], kept[2:]) / total[:, None, None]
        matrix = matrix + torch.diag_embed(torch.where(plays, _RIDGE, 1.0))
        moved = torch.einsum("cb,cbi,cb->bi", weights, kept[2:], logits[2:] - nothing) / total[:, None]
        ones = plays.double()
        free, toll = torch.linalg.solve(matrix, torch.stack([moved, ones], 2)).unbind(2)
        excess = (free * ones).sum(1) - (whole - nothing)
        found: Tensor = free - toll * (excess / (toll * ones).sum(1).clamp(min=_RIDGE))[:, None]
        return found

    def _weights(self, sizes: Tensor, players: Tensor) -> Tensor:
        """The weights of coalitions of these sizes, ``(coalition, batch)``: 1 where they were drawn by their weight."""
        of_all = []
        for count in players.tolist():
            kernel = [1.0] * (count + 1)
            if 2**count - 2 <= self.samples:
                kernel = [0.0, *((count - 1) / (comb(count, k) * k * (count - k)) for k in range(1, count)), 0.0]
            of_all.append(torch.tensor(kernel, dtype=sizes.dtype))
        table = torch.nn.utils.rnn.pad_sequence(of_all, batch_first=True).to(sizes.device)
        return table.gather(1, sizes.long().T).T


class Lime(Coalitions):
    """A ridge regression of the logit on who stays, near the whole example.

    Each player stays with probability one half. Weights are ``sqrt(exp(-d^2 / width^2))``, where d is one minus the cosine
    of the angle between a coalition and the whole; the penalty is 1, as in the authors' code for images.
    """

    title: ClassVar[str] = "LIME"
    sources: ClassVar[tuple[str, ...]] = ("ribeiro2016why",)

    method: Literal["lime"] = "lime"
    samples: int = Field(
        default=512, ge=2, le=65536, description="Coalitions of each example, the whole one among them."
    )
    width: float = Field(default=0.25, gt=0, le=100, description="The width of the weights' kernel.")
    penalty: float = Field(default=1.0, gt=0, le=1e6, description="The weight of the squared coefficients.")

    def _count(self, players: int) -> int:  # noqa: ARG002
        return self.samples

    def _drawn(self, players: int, count: int, generator: torch.Generator) -> Tensor:
        drawn = torch.rand(count, players, generator=generator, device=generator.device) < 1 / 2
        drawn[0] = True
        return drawn

    def _values(self, kept: Tensor, logits: Tensor, plays: Tensor) -> Tensor:
        distances = 1 - (kept.sum(-1) / plays.sum(1).clamp(min=1)).sqrt()
        weights = (-distances.square() / (2 * self.width**2)).exp()
        shares = weights / weights.sum(0)
        centred = kept - torch.einsum("cb,cbi->bi", shares, kept)
        moved = logits - (shares * logits).sum(0)
        matrix = torch.einsum("cb,cbi,cbj->bij", weights, centred, centred)
        matrix = matrix + self.penalty * torch.eye(kept.shape[-1], dtype=matrix.dtype, device=matrix.device)
        found: Tensor = torch.linalg.solve(matrix, torch.einsum("cb,cbi,cb->bi", weights, centred, moved))
        return found


class ShapleySampling(Coalitions):
    """Shapley values as mean marginal contributions: players join one after the other, in random orders.

    They add up to the logit's change from the baseline, whatever the number of orders.
    """

    title: ClassVar[str] = "Shapley sampling"
    sources: ClassVar[tuple[str, ...]] = ("castro2009polynomial",)

    method: Literal["shapley-sampling"] = "shapley-sampling"
    orders: int = Field(default=8, ge=1, le=4096, description="Random orders of each example's players.")

    @property
    def claims_completeness(self) -> bool:
        """True."""
        return True

    def _count(self, players: int) -> int:
        return self.orders * (players + 1)

    def _drawn(self, players: int, count: int, generator: torch.Generator) -> Tensor:
        joins = torch.rand(self.orders, 1, players, generator=generator, device=generator.device).argsort(2)
        steps = torch.arange(count // self.orders, device=joins.device)[:, None]
        return (joins < steps).flatten(0, 1)

    def _values(self, kept: Tensor, logits: Tensor, plays: Tensor) -> Tensor:  # noqa: ARG002
        chains = kept.unflatten(0, (self.orders, -1)).diff(dim=1)
        steps = logits.unflatten(0, (self.orders, -1)).diff(dim=1)
        return torch.einsum("osbi,osb->bi", chains, steps) / self.orders

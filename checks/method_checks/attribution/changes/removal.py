"""What a model says while positions of its input are removed, in the order of a map, in reverse, and in random orders.

A *position* is what a map has one number for: a pixel, a column of a table, a token. Removing it means putting something else there,
the *substrate*; what stands there decides how far the changed input is from anything that the model was trained on. Curves run over
the share of removed positions, from 0 to 1, so that an area does not depend on the number of steps or the size of the input.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, TypeVar

from method_cards.lazy import torch
from method_checks.attribution.changes.draws import Draws
from method_checks.attribution.changes.passes import outputs_in_blocks
from method_checks.attribution.changes.substrates import IMAGE, Substrate, remover
from method_checks.attribution.explainers.shared import explained, settings_of
from method_checks.attribution.maps.pictured import INPUT, SHOWN, class_names, inputs_of, side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from torch import Tensor

    from method_cards.check import Context
    from method_cards.measurement import Pictures
    from method_cards.subject import Subject, View
    from method_checks.attribution.explainers import CustomExplainer, Explainer

T = TypeVar("T")

Order: TypeAlias = Literal["most", "least"] | int
"""Most relevant first, least relevant first (the exact reverse), or the random order of this number."""

ENDS: tuple[Literal["most", "least"], ...] = ("most", "least")
"""The two orders that a map gives."""

By: TypeAlias = Literal["signed", "magnitude"]
"""Whether the most relevant position is the one with the largest value or with the largest magnitude."""


class Curve(NamedTuple):
    """What the model says about each example's target along one order of removal.

    Attributes:
        shares: The share of the content that is removed, ``(batch, step)``, from 0 to 1.
        logits: The target's logit, ``(batch, step)``.
        probabilities: Its softmax probability, ``(batch, step)``.
        kept: Whether the target is still the predicted class, ``(batch, step)`` bool.
    """

    shares: Tensor
    logits: Tensor
    probabilities: Tensor
    kept: Tensor


def ranks(maps: Tensor, content: Tensor, ties: Tensor) -> Tensor:
    """The place of each position when the largest value is removed first; equal values in the order of ``ties``.

    Args:
        maps: ``(batch, position)``, finite.
        content: Bool ``(batch, position)``; padding comes after everything else and is never removed.
        ties: Any numbers without order of their own, ``(batch, position)``.

    Returns:
        int64 ``(batch, position)``, 0 for the position that goes first.
    """
    shuffled = ties.argsort(1)
    values = maps.masked_fill(~content, -torch.inf).gather(1, shuffled)
    order = shuffled.gather(1, values.argsort(dim=1, descending=True, stable=True))
    places = torch.arange(maps.shape[1], device=maps.device).expand(order.shape)
    return torch.empty_like(order).scatter_(1, order, places)


def reversed_ranks(places: Tensor, content: Tensor) -> Tensor:
    """The same order from its end: the last content position goes first, padding stays where it is, ``(batch, position)``."""
    return torch.where(content, content.sum(1, keepdim=True) - 1 - places, places)


def counts(content: Tensor, steps: int) -> Tensor:
    """How many positions of each example are gone after each step, ``(batch, step + 1)`` int64 from 0 to all of its content.

    There are never more steps than the longest example of the batch has positions.
    """
    sizes = content.sum(1)
    parts = min(steps, max(1, int(sizes.max())))
    shares = torch.arange(parts + 1, device=content.device, dtype=torch.float64) / parts
    return (shares * sizes[:, None] + 0.5).floor().long()


def area(values: Tensor, shares: Tensor) -> Tensor:
    """The area under each example's curve by the trapezoid rule, ``(batch, step)`` twice to ``(batch,)`` float64.

    With shares from 0 to 1 it is the mean height of the curve.
    """
    return torch.trapezoid(values.double(), shares.double(), dim=1)


def groups(height: int, width: int, side: int) -> Tensor:
    """The number of the square patch of each pixel, ``(height * width,)`` int64; patches at the right and the bottom may be cut."""
    rows, columns = torch.arange(height) // side, torch.arange(width) // side
    return (rows[:, None] * (int(columns[-1]) + 1) + columns).flatten()


def group_means(maps: Tensor, chosen: Tensor) -> Tensor:
    """The mean of each group's values, ``(batch, position)`` to ``(batch, group)``."""
    found = maps.new_zeros(len(maps), int(chosen.max()) + 1).index_add_(1, chosen, maps)
    return found / torch.bincount(chosen)


def random_gain(curves: Sequence[Curve], curve: Curve) -> Tensor:
    """How much lower the mean probability is along a curve than along random orders, ``(batch,)`` float64 in [-1, 1]."""
    return torch.stack([area(other.probabilities, other.shares) for other in curves]).mean(0) - area(
        curve.probabilities, curve.shares
    )


def flat(curves: Sequence[Curve], least: float) -> Tensor:
    """Examples whose target's probability moves by less than this along all of these curves together, bool ``(batch,)``."""
    heights = torch.cat([curve.probabilities for curve in curves], 1)
    return heights.amax(1) - heights.amin(1) < least


def positions_of(subject: Subject, split: str) -> int:
    """How many positions the first example of a split has, to state a cost."""
    batch = subject.batch(split, (0,))
    return int(subject.view(batch, batch.targets).content.sum())


class Removal:
    """Curves of one batch, made once in a run for each order, whoever asks.

    Args:
        context: What the engine lent to the check.
        view: The examples.
        explainer: Whose maps give the order.
        split: Where the examples come from; the mean is taken over its drawn examples.
        substrate: What stands where something was removed.
        by: Which positions count as relevant.
        side: The side of the square patches of an image that are removed as a whole, in pixels; 1 for single positions.
    """

    def __init__(
        self,
        context: Context,
        view: View,
        explainer: Explainer | CustomExplainer,
        split: str,
        *,
        substrate: Substrate = "mean",
        by: By = "signed",
        side: int = 1,
    ) -> None:
        self._context, self._view, self._explainer = context, view, explainer
        self._split, self._substrate, self._by, self._side = split, substrate, by, side
        self._shape = view.content.shape
        settings, *examples = settings_of(explainer, view)
        self._examples = ("removal", *examples, split, substrate, side)
        self._maps = ("removal", settings, by, *self._examples)
        self._groups: Tensor | None = None
        self.content = view.content.flatten(1)
        """Which positions (or patches) can be removed, ``(batch, position)``."""
        if side > 1:
            self._groups = groups(self._shape[1], self._shape[2], side).to(view.features.device)
            self.content = torch.ones(len(self.content), int(self._groups.max()) + 1, dtype=torch.bool).to(
                view.features.device
            )

    def ranks(self, order: Order) -> Tensor:
        """The place of each position in this order, ``(batch, position)``."""
        if isinstance(order, int):
            ties = self._ties(1 + order)
            return ranks(torch.zeros(ties.shape, device=ties.device), self.content, ties)
        first = self._once(order, "ranks", lambda: ranks(self._map(), self.content, self._ties(0)))
        return first if order == "most" else reversed_ranks(first, self.content)

    def without(self, orders: Sequence[Order], gone: Tensor) -> Tensor:
        """The features when this many positions are gone, ``(batch,)`` counts, in each of these orders, ``(order, batch, ...)``."""
        return self._remove(self._mask(torch.stack([self.ranks(order) < gone[:, None] for order in orders])))

    def curve(self, order: Order, steps: int) -> Curve:
        """From the whole input to none of it, in at most ``steps`` equal parts."""
        gone = counts(self.content, steps)
        ends = self.ends()
        between = self.at(order, gone[:, 1:-1])
        shares = gone / self.content.sum(1, keepdim=True)
        return Curve(
            shares,
            *(
                torch.cat([end[:, :1], middle, end[:, 1:]], 1)
                for end, middle in zip(ends[1:], between[1:], strict=True)
            ),
        )

    def at(self, order: Order, gone: Tensor) -> Curve:
        """At chosen counts of removed positions, ``(batch, step)``."""
        key = (order, tuple(gone.flatten().tolist()))
        return self._once(order, key, lambda: self._measured(self.ranks(order), gone))

    def pictures(self, subject: Subject, share: float = 0.5) -> Iterator[Pictures]:
        """A few images, their maps, and what is left of them in both orders; nothing for tables and texts."""
        if self._view.features.dim() != IMAGE:
            return
        gone = (share * self.content.sum(1) + 0.5).floor().long()
        gone[SHOWN:] = 0  # what is not shown need not be filled in
        left = self.without(ENDS, gone).mean(2)
        without = {f"{order} relevant removed": images for order, images in zip(ENDS, left, strict=True)}
        attributions = explained(self._context, self._explainer, self._view)
        yield side_by_side(
            "removed",
            f"Images without the {share:.0%} of their pixels that the map ranks highest, and without the {share:.0%} that it ranks "
            "lowest. Where the map is faithful, the third column has lost what the class is recognised by and the fourth still has it.",
            {**inputs_of(self._view), "map": self._view.as_map(attributions), **without},
            class_names(subject.classes, self._view.targets),
            images=(INPUT, *without),
        )

    def ends(self) -> Curve:
        """The whole input and none of it, which are the same in every order, ``(batch, 2)``."""
        gone = self.content.sum(1)[:, None] * torch.arange(2, device=self.content.device)
        first = torch.zeros_like(self.content, dtype=torch.int64).masked_fill_(~self.content, self.content.shape[1])
        return self._once(0, "ends", lambda: self._measured(first, gone))

    def _measured(self, places: Tensor, gone: Tensor) -> Curve:
        view, remove = self._view, self._remove
        if not gone.shape[1]:
            nothing = torch.empty(gone.shape, device=gone.device)
            return Curve(nothing, nothing, nothing, nothing.bool())
        steps = gone.T[:, :, None]
        logits = outputs_in_blocks(
            view, len(steps), lambda first, last: remove(self._mask(places < steps[first:last]))
        ).transpose(0, 1)
        chosen = view.targets[:, None, None].expand(-1, gone.shape[1], 1)
        return Curve(
            gone / self.content.sum(1, keepdim=True),
            logits.gather(2, chosen)[..., 0],
            logits.softmax(2).gather(2, chosen)[..., 0],
            logits.argmax(2) == view.targets[:, None],
        )

    def _map(self) -> Tensor:
        attributions = explained(self._context, self._explainer, self._view)
        found = self._view.as_map(attributions if self._by == "signed" else attributions.abs()).flatten(1)
        return found if self._groups is None else group_means(found, self._groups)

    def _mask(self, removed: Tensor) -> Tensor:
        each = removed if self._groups is None else removed[..., self._groups]
        return each.reshape(*removed.shape[:-1], *self._shape[1:])

    def _ties(self, number: int) -> Tensor:
        return Draws.shared(self._context, self._view.batch, "order", number).bits(0, self.content.shape[1])

    @cached_property
    def _remove(self) -> Callable[[Tensor], Tensor]:
        return remover(self._context, self._view, self._split, self._substrate)

    def _once(self, order: Order, key: Hashable, make: Callable[[], T]) -> T:
        place = self._examples if isinstance(order, int) else self._maps
        return self._context.once((*place, key), lambda _: make())

"""Many variants of the same examples through the model, in blocks: no giant batch, and none of one row either."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from method_cards.lazy import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from method_cards.subject import View

AHEAD = 2**18
"""So many numbers of variants are made at once although they go through the model in several blocks."""


def outputs_of(view: View, count: int, variant: Callable[[int], Tensor]) -> Tensor:
    """Logits of several variants of all examples of a view, without gradients.

    Args:
        view: The examples.
        count: How many variants of each there are.
        variant: Gives the features of all examples in variant ``0 .. count - 1``, in the shape of ``view.features``; called once
            for each, in order.

    Returns:
        ``(variant, batch, class)``.
    """
    return outputs_in_blocks(
        view, count, lambda first, last: torch.stack([variant(number) for number in range(first, last)])
    )


def outputs_in_blocks(view: View, count: int, variants: Callable[[int, int], Tensor]) -> Tensor:
    """The same for variants that are best made several at once.

    Args:
        view: The examples.
        count: How many variants of each there are.
        variants: ``variants(first, last)`` gives the features of all examples in these variants, ``(last - first, batch, ...)``.

    Returns:
        ``(variant, batch, class)``.
    """
    together = max(1, view.block // max(1, len(view.features)))
    together = math.ceil(
        count / math.ceil(count / together)
    )  # blocks of one size: small ones cost more for each example
    ahead = together * max(1, AHEAD // max(1, together * view.features.numel()))
    found = []
    with torch.no_grad():
        for first in range(0, count, ahead):
            for features in variants(first, min(count, first + ahead)).split(together):
                logits = view.outputs(features.flatten(0, 1), view.rows.repeat(len(features)))
                found.append(logits.reshape(*features.shape[:2], -1))
    return torch.cat(found)


def target_logits(logits: Tensor, targets: Tensor) -> Tensor:
    """The logit of each example's target: ``(..., batch, class)`` to ``(..., batch)``."""
    return logits.gather(-1, targets.expand(logits.shape[:-1])[..., None])[..., 0]


def target_probabilities(logits: Tensor, targets: Tensor) -> Tensor:
    """The softmax probability of each example's target: ``(..., batch, class)`` to ``(..., batch)``."""
    return target_logits(logits.softmax(-1), targets)

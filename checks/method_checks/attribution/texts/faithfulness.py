"""What a continuation loses when the segments that an attribution puts first are replaced, or kept alone, against random orders.

Sources: deyoung2020eraser (comprehensiveness and sufficiency).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from method_cards.lazy import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from method_checks.attribution.texts.prompts import Dice, Prompts


class Faithfulness(NamedTuple):
    """Means over shares of the segments, ``(batch,)`` float64 each.

    Attributes:
        comprehensiveness: What replacing the top segments costs, less what replacing as many random ones does, as a share of the
            largest difference among all texts tried, in [-1, 1].
        sufficiency: What keeping the top segments alone saves, less what keeping as many random ones does, as the same share.
        loss: What log p of the continuation loses when the top segments are replaced, in nats.
        remaining: What it loses when only these are kept, in nats.
    """

    comprehensiveness: Tensor
    sufficiency: Tensor
    loss: Tensor
    remaining: Tensor


def faithfulness(
    prompts: Prompts, attributions: Tensor, stand_ins: Tensor, dice: Dice, *, shares: Sequence[float], orders: int
) -> Faithfulness:
    """Comprehensiveness and sufficiency of attributions, in nats and in excess of random orders.

    Args:
        prompts: The texts.
        attributions: To segments, ``(batch, segment)``.
        stand_ins: The tokens of replaced segments, the same for all orders, ``(1, batch, token)``.
        dice: Where random orders, and the order of ties, come from.
        shares: Which shares of the segments are the top ones.
        orders: How many random orders there are.
    """
    uniform = dice.uniform(orders + 1, prompts.counts, attributions.shape[1])
    first = top_first(attributions.masked_fill(~prompts.segments, -torch.inf), uniform[0])
    ranks = torch.cat([first[None], uniform[1:].argsort(2).argsort(2)])
    removed = []
    for share in shares:
        top = ranks < (share * prompts.counts).ceil()[:, None]
        removed += [top & prompts.segments, ~top & prompts.segments]
    scores = prompts.scores(torch.cat([prompts.ids[None], prompts.replaced(torch.cat(removed), stand_ins)]))
    lost = (scores[0] - scores[1:]).reshape(len(shares), 2, orders + 1, -1).mean(0)
    largest = (scores.amax(0) - scores.amin(0)).clamp(min=torch.finfo(scores.dtype).tiny)
    excess = ((lost[:, 0] - lost[:, 1:].mean(1)) / largest).clamp(-1, 1)
    return Faithfulness(excess[0], -excess[1], lost[0, 0], lost[1, 0])


def top_first(attributions: Tensor, ties: Tensor) -> Tensor:
    """The rank of each segment, largest attribution first, ``(batch, segment)``; equal ones in the order of ``ties``."""
    shuffled = ties.argsort(1)
    within = attributions.gather(1, shuffled).argsort(dim=1, descending=True, stable=True)
    return shuffled.gather(1, within).argsort(1)

"""Membership scores of a classifier, from its logits: probabilities of a confident model round to 1, and their logarithms to 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from method_cards.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


def logit_scaled_confidence(logits: Tensor, targets: Tensor) -> Tensor:
    """``log p - log(1 - p)`` of the probability that the label has, ``(sample,)``; it ranks as the loss does and never saturates.

    Args:
        logits: ``(sample, class)``, of two classes or more.
        targets: Class numbers ``(sample,)``.
    """
    own = _own(logits, targets)
    return logits[own] - logits.masked_fill(own, -torch.inf).logsumexp(1)


def margin(logits: Tensor, targets: Tensor) -> Tensor:
    """The label's logit less the largest of the others, ``(sample,)``.

    Args:
        logits: ``(sample, class)``, of two classes or more.
        targets: Class numbers ``(sample,)``.
    """
    own = _own(logits, targets)
    return logits[own] - logits.masked_fill(own, -torch.inf).amax(1)


def modified_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Song and Mittal's modified entropy in nats, ``(sample,)``: small only where the model is sure of the label, and not of another class.

    ``-(1 - p_y) log p_y - sum over other classes i of p_i log(1 - p_i)``.

    Args:
        logits: ``(sample, class)``, of two classes or more.
        targets: Class numbers ``(sample,)``.
    """
    own = _own(logits, targets)
    log_p = logits.log_softmax(1)
    classes = torch.arange(logits.shape[1], device=logits.device)
    odds = torch.stack(
        [logit_scaled_confidence(logits, classes[i].expand(len(logits))) for i in range(len(classes))], 1
    )
    log_rest = torch.nn.functional.logsigmoid(-odds)
    return -torch.where(own, log_rest.exp() * log_p, log_p.exp() * log_rest).sum(1)


def _own(logits: Tensor, targets: Tensor) -> Tensor:
    """Which logits are those of the labels, bool ``(sample, class)``, one in each row."""
    return torch.nn.functional.one_hot(targets, logits.shape[1]).bool()

"""How likely a decoding scheme is to produce given tokens, and after how many attempts it will have done so."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from method_cards.lazy import torch
from method_checks.memorization.sequences.tokens import WIDE, Sequences, read

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Decoding:
    """How the next token is drawn from logits: divided by a temperature, then cut to the largest ones, then to a share of the probability.

    Attributes:
        temperature: Above 0; 1 leaves the model's probabilities as they are.
        top_k: Only so many of the most likely tokens may be drawn, and those that tie with the last; 0 for all.
        top_p: Only the most likely tokens that together have this probability may be drawn, at least one; 1 for all.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """Log-probability in nats of each token to be drawn, minus infinity where it is cut.

        Args:
            logits: ``(row, vocabulary)``.

        Returns:
            ``(row, vocabulary)`` float64.
        """
        scores = logits.double() / self.temperature
        if 0 < self.top_k < scores.shape[1]:
            least = scores.topk(self.top_k, dim=1).values[:, -1:]
            scores = scores.masked_fill(scores < least, -math.inf)
        if self.top_p < 1:
            ordered, places = scores.sort(dim=1, stable=True)
            cut = ordered.softmax(1).cumsum(1) <= 1 - self.top_p
            cut[:, -1] = False
            scores = scores.masked_fill(cut.gather(1, places.argsort(1)), -math.inf)
        return scores.log_softmax(1)


def continued(model: nn.Module, texts: Sequences, prefix: int, decoding: Decoding, block: int) -> tuple[Tensor, Tensor]:
    """How a model would continue the beginning of each text, compared with how the text goes on.

    One pass gives both, since the model is given the text's own tokens: greedy decoding makes all of them if and only if each is the most
    likely one after those before it.

    Args:
        model: In evaluation mode.
        texts: All of one length, the prefix and what is to follow.
        prefix: How many tokens are given.
        decoding: How the next token is drawn.
        block: How many texts go through at once.

    Returns:
        Whether greedy decoding reproduces the rest, ``(text,)`` bool, and the log-probability in nats that drawing does,
        ``(text,)`` float64.
    """

    def use(logits: Tensor, part: Sequences) -> tuple[Tensor, Tensor]:
        places, wanted = logits[:, prefix - 1 : -1], part.ids[:, prefix:]
        greedy = (places.argmax(2) == wanted).all(1)
        flat, chosen = places.flatten(0, 1), wanted.flatten()
        drawn = [
            decoding.log_probabilities(flat[rows]).gather(1, chosen[rows, None])[:, 0]
            for rows in torch.arange(len(flat), device=flat.device).split(max(1, WIDE // logits.shape[2]))
        ]
        return greedy, torch.cat(drawn).reshape(wanted.shape).sum(1)

    greedy, drawn = zip(*read(model, texts, block, use), strict=True)
    return torch.cat(greedy), torch.cat(drawn)


def discoverable(log_probability: Tensor, attempts: int, confidence: float) -> Tensor:
    """Whether a text comes out at least once with this probability when it is drawn so many times: ``1 − (1 − q)ⁿ ≥ p``.

    Args:
        log_probability: Of one attempt, log q in nats, ``(text,)``; minus infinity where it can never come out.
        attempts: n.
        confidence: p, above 0 and below 1.

    Returns:
        ``(text,)`` bool.
    """
    return float(attempts) * _log_of_missing(log_probability) <= math.log1p(-confidence)


def attempts_needed(log_probability: Tensor, confidence: float) -> Tensor:
    """How many attempts it takes until a text has come out with this probability, ``(text,)``; infinite where it never does."""
    return (math.log1p(-confidence) / _log_of_missing(log_probability)).ceil().clamp(min=1)


def _log_of_missing(log_probability: Tensor) -> Tensor:
    """log(1 − q) of log q, exact to rounding at both ends: neither 1 − q nor q is ever formed where it would lose all digits."""
    likely = log_probability > -math.log(2)
    return torch.where(likely, (-torch.expm1(log_probability)).log(), torch.log1p(-log_probability.exp()))

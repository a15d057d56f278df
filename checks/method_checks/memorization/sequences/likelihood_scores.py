"""Scores of texts that come from a language model's likelihood, larger for what it knows better: one forward pass serves all of them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from method_cards.lazy import torch
from method_checks.memorization.sequences.tokens import WIDE, Sequences, log_probabilities, read

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

SCORES = ("loss", "zlib", "min-k", "min-k-plus-plus")
"""The scores that need no second model."""

TOKENS = 4096
"""How many tokens go through a model at once: with a vocabulary of 50,000 their logits take 0.8 GB."""

LEAST_SPREAD = 1e-4
"""No standard deviation of log-probabilities is taken to be smaller: where all tokens are equally likely, or one is certain, it is 0."""


@dataclass(frozen=True)
class Likelihoods:
    """What a model says of each predicted token of some texts; nothing is meant by what stands where none is predicted.

    Attributes:
        log_probabilities: Of the token that is there, ``(text, token - 1)`` float64, in nats.
        expected: The mean log-probability of a token drawn from the model there, the same shape.
        spreads: The standard deviation of that, the same shape.
        predicted: Which tokens are predicted, bool, the same shape.
    """

    log_probabilities: Tensor
    expected: Tensor
    spreads: Tensor
    predicted: Tensor

    @property
    def counts(self) -> Tensor:
        """How many tokens of each text are predicted, ``(text,)``."""
        return self.predicted.sum(1)

    @property
    def sums(self) -> Tensor:
        """Log-probability of each text in nats, ``(text,)``."""
        return (self.log_probabilities * self.predicted).sum(1)


def likelihoods(model: nn.Module, texts: Sequences, block: int) -> Likelihoods:
    """Send texts through a model once.

    Args:
        model: In evaluation mode.
        texts: Any number of them.
        block: How many go through at once at most.

    Raises:
        CheckError: The model's logits cannot be used; see `read`.
    """
    width = texts.ids.shape[1] - 1

    def use(logits: Tensor, part: Sequences) -> Tensor:
        before, ids = logits[:, :-1], part.ids[:, 1:]
        found = torch.stack([log_probabilities(before, ids), *moments(before)])
        return torch.nn.functional.pad(found, (0, width - ids.shape[1]))

    rows = max(1, min(block, TOKENS // texts.ids.shape[1]))
    log_probability, expected, spreads = torch.cat(read(model, texts, rows, use), dim=1)
    return Likelihoods(log_probability, expected, spreads, texts.predicted())


def moments(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the log-probability of a token that is drawn from the model.

    Squares are taken of differences from the mean and in double precision, so that a variance is never negative.

    Args:
        logits: ``(..., vocabulary)``.

    Returns:
        Both ``(...)`` float64, in nats.
    """
    flat = logits.flatten(0, -2)
    means, spreads = [], []
    for rows in torch.arange(len(flat), device=flat.device).split(max(1, WIDE // logits.shape[-1])):
        logs = flat[rows].double().log_softmax(1)
        chances = logs.exp()
        means.append((chances * logs).sum(1))
        spreads.append((chances * (logs - means[-1][:, None]).square()).sum(1).sqrt())
    shape = logits.shape[:-1]
    return torch.cat(means).reshape(shape), torch.cat(spreads).reshape(shape)


def loss_score(given: Likelihoods) -> Tensor:
    """Mean log-probability of the predicted tokens, ``(text,)``: the negative loss."""
    return given.sums / given.counts


def zlib_score(given: Likelihoods, sizes: Tensor) -> Tensor:
    """Log-probability of the text for each byte that zlib needs for it, ``(text,)``.

    Args:
        given: Of the model.
        sizes: From `zlib_sizes`, ``(text,)``.
    """
    return given.sums / sizes


def min_k_score(given: Likelihoods, share: float) -> Tensor:
    """Mean log-probability of the least likely predicted tokens, ``(text,)``."""
    return lowest_mean(given.log_probabilities, given.predicted, share)


def min_k_plus_plus_score(given: Likelihoods, share: float) -> Tensor:
    """The same of standardised log-probabilities: less the mean over the vocabulary, by the standard deviation there; ``(text,)``."""
    standardised = (given.log_probabilities - given.expected) / given.spreads.clamp(min=LEAST_SPREAD)
    return lowest_mean(standardised, given.predicted, share)


def reference_score(given: Likelihoods, reference: Likelihoods) -> Tensor:
    """How much more likely each predicted token is to the model than to the reference model, in nats, ``(text,)``."""
    return (given.sums - reference.sums) / given.counts


def lowest_mean(values: Tensor, counted: Tensor, share: float) -> Tensor:
    """Mean of the lowest of each row's counted values, at least one of them, ``(row,)``.

    Args:
        values: ``(row, value)``.
        counted: Which values count, bool, the same shape; at least one in each row.
        share: How many of them, from 0 to 1; rounded down.
    """
    ordered = values.masked_fill(~counted, torch.inf).sort(1).values
    taken = (counted.sum(1) * share + 1e-9).floor().clamp(min=1)
    lowest = torch.arange(values.shape[1], device=values.device) < taken[:, None]
    return ordered.masked_fill(~lowest, 0).sum(1) / taken


def zlib_sizes(texts: Sequences, tokenizer: Callable[..., Any] | None) -> Tensor:
    """How many bytes zlib needs for each text, ``(text,)`` float64.

    Args:
        texts: Token ids.
        tokenizer: What turns them into text by its ``decode``; without one, each token id stands for the character of that number.
    """
    rows = [row[:length] for row, length in zip(texts.ids.tolist(), texts.lengths.tolist(), strict=True)]
    decode = getattr(tokenizer, "decode", None)
    written = ["".join(map(chr, row)) if decode is None else decode(row, skip_special_tokens=True) for row in rows]
    sizes = [len(zlib.compress(text.encode("utf-8", "surrogatepass"))) for text in written]
    return torch.tensor(sizes, dtype=torch.float64, device=texts.ids.device)

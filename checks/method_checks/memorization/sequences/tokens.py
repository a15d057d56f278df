"""Token sequences without padding before them, and the model's logits at every token that is predicted.

The first token of a sequence is given, not predicted, and padding is neither: what is counted here is exactly what a model assigns a
probability to. Padding in front is moved behind, where a causal model cannot see it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from method_cards.adapters import as_tensor, call, token_ids
from method_cards.errors import CheckError
from method_cards.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from method_cards.data import Batch
    from method_cards.subject import Subject

Out = TypeVar("Out")

IDS = ("input_ids", "tokens", "ids")
MASK = "attention_mask"

WIDE = 2**24
"""How many logits are held in double precision at once: 128 MiB."""


@dataclass(frozen=True)
class Sequences:
    """Some texts as token ids, each from its first token on.

    Attributes:
        ids: ``(text, token)``; after a text's end stands anything.
        lengths: How many tokens each text has, ``(text,)``.
        named: Under which name the model takes token ids; empty where it takes them as its only argument.
        masked: Whether the model also takes an attention mask.
    """

    ids: Tensor
    lengths: Tensor
    named: str = ""
    masked: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Tensor) -> Sequences:
        return replace(self, ids=self.ids[rows], lengths=self.lengths[rows])

    def of(self, ids: Tensor) -> Sequences:
        """Other token ids ``(text, token)``, all of them content, for the same model."""
        return replace(self, ids=ids, lengths=torch.full((len(ids),), ids.shape[1], device=ids.device))

    def content(self) -> Tensor:
        """Which tokens are text and not padding, ``(text, token)`` bool."""
        return torch.arange(self.ids.shape[1], device=self.ids.device) < self.lengths[:, None]

    def predicted(self) -> Tensor:
        """Which tokens after the first are predicted, ``(text, token - 1)`` bool."""
        return self.content()[:, 1:]

    def inputs(self) -> Tensor | dict[str, Tensor]:
        """What the model is called with."""
        if not self.named:
            return self.ids
        mask = {MASK: self.content().to(self.ids.dtype)} if self.masked else {}
        return {self.named: self.ids, **mask}

    def window(self, start: int, stop: int) -> list[tuple[int, ...]]:
        """The tokens from ``start`` to ``stop`` of each text."""
        return [tuple(row) for row in self.ids[:, start:stop].tolist()]


def sequences(subject: Subject, batch: Batch) -> Sequences:
    """The texts of a batch.

    Raises:
        CheckError: The model takes other inputs besides token ids and a mask, which would have to change with the tokens.
    """
    ids = token_ids(batch.inputs).long()
    if not isinstance(batch.inputs, Mapping):
        return Sequences(ids, torch.full((len(ids),), ids.shape[1], device=ids.device))
    named = next(name for name in IDS if name in batch.inputs)
    if others := sorted(set(batch.inputs) - {named, MASK}):
        raise CheckError(
            f'subject "{subject.id}": the inputs hold {", ".join(others)} besides token ids and a mask; this check calls the model with '
            "other token ids, for which these are not known: leave them out of the data"
        )
    mask = subject.adapter.mask(batch.inputs)
    if mask is None:
        return Sequences(ids, torch.full((len(ids),), ids.shape[1], device=ids.device), named)
    order = (~mask).long().argsort(dim=1, stable=True)
    return Sequences(ids.gather(1, order), mask.sum(1), named, masked=True)


def read(
    model: nn.Module,
    texts: Sequences,
    block: int,
    use: Callable[[Tensor, Sequences], Out],
) -> list[Out]:
    """Send texts through a model, block by block, and keep what is made of each block's logits.

    Args:
        model: In evaluation mode.
        texts: Any number of them.
        block: How many go through at once.
        use: ``use(logits, texts)`` with logits ``(text, token, vocabulary)``.

    Raises:
        CheckError: The logits have another shape, do not cover the token ids, or are NaN or infinite.
    """
    found = []
    with torch.no_grad():
        for rows in torch.arange(len(texts), device=texts.ids.device).split(block):
            part = texts[rows]
            part = replace(part, ids=part.ids[:, : max(1, int(part.lengths.max()))])
            found.append(use(_logits(model, part), part))
    return found


def _logits(model: nn.Module, texts: Sequences) -> Tensor:
    logits = as_tensor(call(model, texts.inputs()))
    if logits.dim() != 3 or logits.shape[:2] != texts.ids.shape:  # noqa: PLR2004  (text, token, vocabulary)
        raise CheckError(
            f"the model gave logits of shape {tuple(logits.shape)} for token ids of shape {tuple(texts.ids.shape)}; a causal language "
            "model gives (text, token, vocabulary)"
        )
    content = texts.content()
    if int(texts.ids[content].max()) >= logits.shape[2]:
        raise CheckError(
            f"token id {int(texts.ids[content].max())} is in the data, but the model predicts only {logits.shape[2]} tokens"
        )
    bad = ~torch.isfinite(logits).all(2) & content
    if bool(bad.any()):
        raise CheckError(
            f"the model's logits are NaN or infinite for {int(bad.any(1).sum())} of {len(texts)} texts; nothing can be measured"
        )
    return logits


def log_probabilities(logits: Tensor, ids: Tensor) -> Tensor:
    """Log-probability in nats of given tokens, in double precision.

    Args:
        logits: ``(..., vocabulary)``.
        ids: ``(...)``.

    Returns:
        ``(...)`` float64.
    """
    flat, chosen = logits.flatten(0, -2), ids.flatten()
    found = []
    for rows in torch.arange(len(flat), device=flat.device).split(max(1, WIDE // logits.shape[-1])):
        wide = flat[rows].double()
        found.append(wide.gather(1, chosen[rows, None])[:, 0] - wide.logsumexp(1))
    return torch.cat(found).reshape(ids.shape) if found else logits.new_zeros(ids.shape, dtype=torch.float64)


def token_log_probabilities(model: nn.Module, texts: Sequences, block: int) -> Tensor:
    """Log-probability in nats of each predicted token, zero where nothing is predicted, ``(text, token - 1)`` float64."""
    width = texts.ids.shape[1] - 1

    def use(logits: Tensor, part: Sequences) -> Tensor:
        found = log_probabilities(logits[:, :-1], part.ids[:, 1:]) * part.predicted()
        return torch.nn.functional.pad(found, (0, width - found.shape[1]))

    return torch.cat(read(model, texts, block, use))

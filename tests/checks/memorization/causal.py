"""Small causal language models whose probabilities are known, and measurements on them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from method_cards.check import Check, Context
from method_cards.measurement import Measurements, Series
from method_cards.subject import Subject


class Bigrams(nn.Module):
    """The next token depends on the last one only; plain torch, called with token ids."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.table = nn.Embedding.from_pretrained(logits.clone(), freeze=False)
        self.eval()

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.table(ids)
        return out


def bigrams(vocabulary: int, seed: int = 0) -> Bigrams:
    return Bigrams(torch.randn(vocabulary, vocabulary, generator=torch.Generator().manual_seed(seed)))


def gpt2(vocabulary: int, tokens: int = 32, seed: int = 0) -> nn.Module:
    """A random GPT-2 of the transformers library, from a configuration."""
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: nn.Module = GPT2LMHeadModel(
            GPT2Config(vocab_size=vocabulary, n_positions=tokens, n_embd=16, n_layer=1, n_head=2, initializer_range=0.3)
        )
    return model.eval()


def subject(model: nn.Module, **splits: Any) -> Subject:
    """Token ids, or token ids and masks by name, as the splits of a language model."""
    data = {
        name: (texts, torch.zeros(len(texts["input_ids"] if isinstance(texts, dict) else texts), dtype=torch.long))
        for name, texts in splits.items()
    }
    return Subject("causal", "text-generation", model, data)


def measured(
    check: Check, subject: Subject, *, samples: int | None = None, seed: int = 0, batch: int = 64
) -> Measurements:
    found = Measurements()
    for yielded in check.measure(subject, Context(subject, samples, seed, batch, scope=check.id)):
        found.add(yielded)
    return found


def series(found: Measurements, name: str, **by: str | float) -> Series:
    return found.select(name, by)[0]


def tokens(count: int, length: int, vocabulary: int, seed: int) -> Tensor:
    return torch.randint(vocabulary, (count, length), generator=torch.Generator().manual_seed(seed))

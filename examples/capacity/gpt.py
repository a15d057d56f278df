"""A small language model of the GPT kind, and how it is trained on random strings until it can hold no more."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (its usual name)

VOCABULARY = 64
BEGIN = VOCABULARY
"""What each string starts with: it is given, never predicted."""


class Block(nn.Module):
    """Causal attention and a feed-forward network, each after a layer norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_network = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """One step of the residual stream, ``(batch, token, width)``."""
        batch, tokens, width = x.shape
        parts = self.query_key_value(self.before_attention(x)).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.mix(attended.transpose(1, 2).reshape(batch, tokens, width))
        changed: Tensor = x + self.down(F.gelu(self.up(self.before_network(x))))
        return changed


class GPT(nn.Module):
    """Logits ``(batch, token, VOCABULARY)`` of the next token; the output layer shares nothing with the embedding."""

    def __init__(self, tokens: int, width: int, layers: int = 1, heads: int = 2) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(VOCABULARY + 1, width), nn.Embedding(tokens, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, VOCABULARY, bias=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, input_ids: Tensor) -> Tensor:
        """From token ids ``(batch, token)``."""
        x = self.token(input_ids) + self.position.weight[: input_ids.shape[1]]
        logits: Tensor = self.head(self.norm(self.blocks(x)))
        return logits


@dataclass(frozen=True)
class Recipe:
    """AdamW without weight decay, a warm-up of 100 steps, then a cosine down to a twentieth.

    Attributes:
        steps: How many.
        batch: Strings in each, drawn with replacement.
        rate: The largest learning rate.
    """

    steps: int
    batch: int = 64
    rate: float = 3e-3

    def train(self, model: nn.Module, strings: Tensor, generator: torch.Generator) -> None:
        """Train on random strings ``(string, token)``, in place."""
        optimizer = torch.optim.AdamW(model.parameters(), lr=self.rate, weight_decay=0.0, betas=(0.9, 0.98))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._scale)
        for _ in range(self.steps):
            rows = torch.randint(len(strings), (min(self.batch, len(strings)),), generator=generator)
            optimizer.zero_grad(set_to_none=True)
            losses(model, strings[rows]).mean().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()

    def _scale(self, step: int) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))
        return min(1.0, step / 100) * (0.95 * cosine + 0.05)


def losses(model: nn.Module, strings: Tensor) -> Tensor:
    """Negative log-likelihood in nats of each token, ``(string, token)``: all of them are predicted, the first from `BEGIN`."""
    given = torch.cat([torch.full_like(strings[:, :1], BEGIN), strings[:, :-1]], dim=1)
    return F.cross_entropy(model(given).transpose(1, 2), strings, reduction="none")


@torch.no_grad()
def code_bits(model: nn.Module, strings: Tensor) -> Tensor:
    """How many bits a code made from the model spends on each string, ``(string,)``."""
    return torch.cat([losses(model, part).double().sum(1) for part in strings.split(256)]) / math.log(2)

"""Texts of a made-up language, and language models of which it is known which texts they were trained on.

A text is a begin token and letters that follow a Markov chain: there is something to learn, the chain, and something that can only be
memorised, which way each text went. A part of a language is numbered, so that a model can be trained on some parts and tried on others.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from method_cards.lazy import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

Texts: TypeAlias = "dict[str, Tensor]"
"""``input_ids`` and ``attention_mask``, both ``(text, token)`` int64, padded on the right."""

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PADDING, BEGIN, FIRST = 0, 1, 2
"""Token ids: what fills up, what each text begins with, and the first letter."""

VOCABULARY = FIRST + len(LETTERS)
SHORTEST, LONGEST = 8, 12
"""Tokens of a text, the begin token counted."""

SIZE = 1200
"""How many texts a part has."""


class Letters:
    """A tokenizer whose tokens are the letters."""

    def __call__(self, texts: Sequence[str], **_: Any) -> Texts:
        """Token ids and mask of texts, padded to the longest."""
        width = 1 + max(map(len, texts))
        rows = [[BEGIN, *(FIRST + LETTERS.index(letter) for letter in text)] for text in texts]
        ids = torch.tensor([row + [PADDING] * (width - len(row)) for row in rows])
        return {"input_ids": ids, "attention_mask": (ids != PADDING).long()}

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        """The letters among these token ids."""
        return "".join(LETTERS[number - FIRST] for number in map(int, ids) if number >= FIRST)

    def written(self, data: Texts) -> list[str]:
        """All of these texts as strings."""
        return [self.decode(row) for row in data["input_ids"].tolist()]


def language(seed: int) -> Tensor:
    """How likely each letter follows each, ``(letter, letter)``; rows sum to one."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(2 * (len(LETTERS),), generator=generator).log().square()
    return weights / weights.sum(1, keepdim=True)


def texts(chances: Tensor, count: int, generator: torch.Generator) -> Texts:
    """Texts of a language, of lengths drawn evenly.

    Args:
        chances: From `language`.
        count: How many.
        generator: Where they come from.
    """
    ids = torch.full((count, LONGEST), BEGIN)
    ids[:, 1] = FIRST + torch.randint(len(LETTERS), (count,), generator=generator)
    for place in range(2, LONGEST):
        ids[:, place] = FIRST + torch.multinomial(chances[ids[:, place - 1] - FIRST], 1, generator=generator)[:, 0]
    lengths = torch.randint(SHORTEST, LONGEST + 1, (count, 1), generator=generator)
    mask = (torch.arange(LONGEST) < lengths).long()
    return {"input_ids": torch.where(mask == 1, ids, PADDING), "attention_mask": mask}


def part(seed: int, number: int, count: int = SIZE) -> Texts:
    """The texts of this number of the language of this seed."""
    return texts(language(seed), count, torch.Generator().manual_seed(seed * 1_000_003 + number))


def joined(parts: Sequence[Texts]) -> Texts:
    """All texts of several parts."""
    return {name: torch.cat([each[name] for each in parts]) for name in parts[0]}


def network(
    seed: int, vocabulary: int = VOCABULARY, context: int = LONGEST, width: int = 32, layers: int = 1
) -> nn.Module:
    """A causal transformer, untrained, in evaluation mode.

    Its ``forward(input_ids, attention_mask=None)`` gives logits ``(text, token, vocabulary)``.
    """

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.between = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
            self.attention, self.mixed = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
            self.up, self.down = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)

        def forward(self, hidden: Tensor) -> Tensor:
            heads = self.attention(self.before(hidden)).unflatten(2, (3, 2, -1)).permute(2, 0, 3, 1, 4)
            query, key, value = heads.unbind()
            seen = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            hidden = hidden + self.mixed(seen.transpose(1, 2).flatten(2))
            out: Tensor = hidden + self.down(torch.nn.functional.gelu(self.up(self.between(hidden))))
            return out

    class Transformer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = torch.nn.Embedding(vocabulary, width)
            self.places = torch.nn.Parameter(0.02 * torch.randn(context, width))
            self.blocks = torch.nn.Sequential(*(Block() for _ in range(layers)))
            self.last = torch.nn.LayerNorm(width)
            self.logits = torch.nn.Linear(width, vocabulary)

        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:  # noqa: ARG002  (padding comes last)
            hidden = self.tokens(input_ids) + self.places[: input_ids.shape[1]]
            logits: Tensor = self.logits(self.last(self.blocks(hidden)))
            return logits

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Transformer().eval()


def trained(
    model: nn.Module, data: Texts, seed: int, steps: int, rate: float = 0.02, batch: int = 128, decay: float = 0.0
) -> nn.Module:
    """The model, trained on texts with AdamW; the learning rate rises for 20 steps and falls to a tenth.

    Args:
        model: It is changed, and returned in evaluation mode.
        data: The texts.
        seed: Which of them each step sees.
        steps: How many.
        rate: The largest learning rate.
        batch: Texts for each step.
        decay: Weight decay.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)
    ids, mask = data["input_ids"], data["attention_mask"].bool()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * min(1, (step + 1) / 20) * (1 - 0.9 * step / steps)
        rows = torch.randint(len(ids), (min(batch, len(ids)),), generator=generator)
        given, kept = ids[rows], mask[rows, 1:]
        logits = model(given)[:, :-1][kept]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, given[:, 1:][kept]).backward()
        optimizer.step()
    return model.eval()


def memorizer(seed: int, number: int = 0, steps: int = 250) -> nn.Module:
    """A model that was trained on one part until it knew its texts, about 25 times each."""
    return _loaded(seed, (number,), steps)


def learner(seed: int, numbers: tuple[int, ...] = tuple(range(12)), epochs: int = 1) -> nn.Module:
    """A model that saw each text of several parts once: it learned the language, and hardly any text."""
    return _loaded(seed, numbers, math.ceil(epochs * len(numbers) * SIZE / 128))


def _loaded(seed: int, numbers: tuple[int, ...], steps: int) -> nn.Module:
    model = network(seed)
    model.load_state_dict(_state(seed, numbers, steps))
    return model


@lru_cache(maxsize=128)
def _state(seed: int, numbers: tuple[int, ...], steps: int) -> dict[str, Tensor]:
    data = joined([part(seed, number) for number in numbers])
    return trained(network(seed), data, seed, steps).state_dict()

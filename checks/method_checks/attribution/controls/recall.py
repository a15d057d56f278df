"""A language with a known answer: a text's continuation repeats the key that stands somewhere in its prompt, and a model that learns it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from method_cards.check import Control
from method_cards.lazy import torch
from method_cards.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

KEYS, VOCABULARY, LENGTH, WIDTH = 6, 48, 8, 24
"""Token 0 is a blank, tokens ``1 .. KEYS`` are keys and all others fillers but `ASKS`; tokens of a prompt; width of the model's vectors."""

ASKS = KEYS + 1
"""The token that ends each prompt."""

TEST = 600
"""How many prompts are held out."""

NOISE = 0.1
"""How often a continuation of the training data repeats another key than the prompt's, so that no model is too sure of itself."""

PARAMETERS: Mapping[str, Any] = {"continuation_tokens": 1, "replacements": (0, "vocabulary", "shuffled")}
"""What the check needs to know of these texts."""


def repeats_by(method: str, keys: int = 1, **parameters: Any) -> Callable[[int], Subject]:
    """A builder of models of this language that ship this explainer, with test prompts that hold the key so many times."""
    return _Builder(method, keys, tuple(parameters.items()))


class _Builder:
    """A function of the seed that can be sent to another process."""

    def __init__(self, method: str, keys: int, parameters: tuple[tuple[str, Any], ...]) -> None:
        self._explainer = {"method": method, **dict(parameters)}
        self._keys = keys

    def __call__(self, seed: int) -> Subject:
        tokens, _ = prompts(seed + 10_000, TEST, self._keys)
        data = tokens, torch.zeros(TEST, dtype=torch.long)
        return Subject("recall", "text-generation", trained(seed), {"test": data}, explainer=self._explainer)


def controls() -> tuple[Control, ...]:
    """Attributions of models of this language whose faults are known."""
    return (
        Control(
            "ablation",
            "sound",
            "A one-layer transformer trained to repeat the one key of its prompt, explained by replacing tokens one by one.",
            repeats_by("feature-ablation"),
            parameters=PARAMETERS,
        ),
        Control(
            "shapley-values",
            "sound",
            "The same model, explained by Shapley values over 12 random orders.",
            repeats_by("shapley-sampling", permutations=12),
            parameters=PARAMETERS,
        ),
        Control(
            "noise",
            "defect",
            "The same model, explained by random numbers.",
            repeats_by("noise"),
            because="comprehensiveness_excess",
            parameters=PARAMETERS,
        ),
        Control(
            "position",
            "defect",
            "The same model, explained by the position of each token alone, while the key may stand anywhere.",
            repeats_by("position"),
            because="comprehensiveness_excess",
            parameters=PARAMETERS,
        ),
        Control(
            "too-few-samples",
            "defect",
            "The same model, explained by Shapley values over a single random order.",
            repeats_by("shapley-sampling", permutations=1),
            because="seed_agreement",
            parameters=PARAMETERS,
        ),
        Control(
            "stand-ins",
            "defect",
            "The same model, explained by the tokens that stand in for those of the prompt.",
            repeats_by("stand-in"),
            because="replacement_top_agreement",
            parameters=PARAMETERS,
        ),
        Control(
            "two-keys",
            "defect",
            "The same model on prompts that hold the key twice, explained by replacing tokens one by one: one key is always left.",
            repeats_by("feature-ablation", keys=2),
            because="additivity_error",
            parameters=PARAMETERS,
        ),
    )


def prompts(seed: int, count: int, keys: int = 1) -> tuple[Tensor, Tensor]:
    """Prompts of this language.

    Args:
        seed: What they follow from.
        count: How many.
        keys: How often each holds its key.

    Returns:
        Token ids ``(count, LENGTH)``, and where the key stands, bool of the same shape.
    """
    rng = torch.Generator().manual_seed(seed)
    tokens = torch.randint(ASKS + 1, VOCABULARY, (count, LENGTH), generator=rng)
    places = torch.rand(count, LENGTH - 1, generator=rng).argsort(1)[:, :keys]
    key = torch.randint(1, ASKS, (count, 1), generator=rng)
    tokens.scatter_(1, places, key.expand(count, keys))
    tokens[:, -1] = ASKS
    return tokens, (tokens > 0) & (tokens < ASKS)


def trained(seed: int) -> nn.Module:
    """A model of this language; a new copy each time, trained once in a process."""
    model = network(seed)
    model.load_state_dict(_trained(seed))
    return model


@lru_cache(maxsize=128)
def _trained(seed: int) -> dict[str, Tensor]:
    model = network(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(150):
        # Once or twice the same key, and blanks and fillers in any place, so that changed prompts are not strange to the model.
        rng = torch.Generator().manual_seed(seed * 1_000_003 + step)
        tokens, is_key = prompts(seed * 1_000_003 + step, 128, 1 + step % 2)
        key = tokens.masked_fill(~is_key, 0).amax(1, keepdim=True)
        other = torch.randint(1, ASKS, key.shape, generator=rng)
        key = torch.where(torch.rand(key.shape, generator=rng) < NOISE, other, key)
        blank = torch.rand(tokens.shape, generator=rng) < torch.rand(len(tokens), 1, generator=rng)
        filler = torch.randint(ASKS + 1, VOCABULARY, tokens.shape, generator=rng) * (step // 2 % 2)
        texts = torch.cat([torch.where(blank, filler, tokens), key], 1)
        logits = model(texts[:, :-1])[:, LENGTH - 1 :]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), texts[:, LENGTH:].flatten()).backward()
        optimizer.step()
    return model.state_dict()


def network(seed: int) -> nn.Module:
    """Embeddings of tokens and positions, one layer of causal attention with a head, a layer with ReLU; in evaluation mode."""

    class Recall(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = torch.nn.Embedding(VOCABULARY, WIDTH)
            self.places = torch.nn.Parameter(0.1 * torch.randn(LENGTH + 8, WIDTH))
            self.attention = torch.nn.Linear(WIDTH, 3 * WIDTH)
            self.hidden = torch.nn.Linear(2 * WIDTH, WIDTH)
            self.logits = torch.nn.Linear(WIDTH, VOCABULARY)

        def forward(self, tokens: Tensor) -> Tensor:
            given = self.tokens(tokens) + self.places[: tokens.shape[1]]
            query, key, value = self.attention(given).chunk(3, -1)
            seen = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            logits: Tensor = self.logits(torch.relu(self.hidden(torch.cat([given, seen], -1))))
            return logits

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Recall().eval()

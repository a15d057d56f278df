"""Language models of which it is known how many bits they can store, and with how much data they come."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from method_cards.adapters import token_ids
from method_cards.check import Control
from method_cards.lazy import torch
from method_cards.subject import Subject
from method_cards.training import Recipe
from method_checks.memorization.controls import language_models as made

if TYPE_CHECKING:
    from torch import Tensor, nn

    from method_cards.training import Train

HELD_OUT = 90
"""The number of the part that no model is trained on."""

SMOOTHING = 0.01
"""What is added to each count, so that nothing is impossible."""

PARAMETERS = {"densities": (8.0, 64.0, 128.0)}
"""A table of counts has seen everything long before a transformer has."""


def table(inputs: Tensor | dict[str, Tensor], targets: Tensor, seed: int) -> nn.Module:  # noqa: ARG001  (counting has no seed)
    """A model that counted which token follows each two: one parameter for each three, and nothing else."""
    ids = token_ids(inputs)
    counts = torch.full((made.VOCABULARY**2, made.VOCABULARY), SMOOTHING)
    before, after = _pairs(ids)[:, :-1].flatten(), ids[:, 1:].flatten()
    counts.index_put_((before, after), torch.ones(len(after)), accumulate=True)
    return _table((counts / counts.sum(1, keepdim=True)).log())


def _pairs(ids: Tensor) -> Tensor:
    """A number for each token and the one before it, ``(text, token)``; before the first stands token 0."""
    return made.VOCABULARY * torch.nn.functional.pad(ids, (1, 0))[:, :-1] + ids


def _table(logits: Tensor) -> nn.Module:
    class Table(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding.from_pretrained(logits, freeze=False)

        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:  # noqa: ARG002
            found: Tensor = self.table(_pairs(input_ids))
            return found

    return Table().eval()


def seeing(seed: int) -> nn.Module:
    """A model, untrained, that looks at the next token to predict it."""

    class Seeing(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Embedding(made.VOCABULARY, made.VOCABULARY)

        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:  # noqa: ARG002
            found: Tensor = self.inner(input_ids.roll(-1, 1))
            return found

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Seeing().eval()


def much_data(seed: int) -> Subject:
    """A table of counts, and far more data than it can hold."""
    return _subject("more-data-than-it-holds", seed, made.SIZE)


def little_data(seed: int) -> Subject:
    """The same table, and so few texts that it could hold them all."""
    return _subject("fewer-data-than-it-holds", seed, 80)


def stopped(seed: int) -> Subject:
    """A transformer whose training stops long before it has stored what it can."""
    given = made.part(seed, 0)
    recipe = Recipe(partial(made.network, seed, width=8), 4, 128, 0.01, "adamw", loss="next-token")
    model = recipe(given, torch.zeros(made.SIZE, dtype=torch.long), seed)
    return _subject("stopped-before-the-plateau", seed, made.SIZE, model, recipe)


def sees_ahead(seed: int) -> Subject:
    """A model that is given the tokens that it is to predict."""
    recipe = Recipe(partial(seeing, seed), 40, 128, 0.1, "adamw", loss="next-token")
    model = recipe(made.part(seed, 0), torch.zeros(made.SIZE, dtype=torch.long), seed)
    return _subject("sees-what-it-predicts", seed, made.SIZE, model, recipe)


def _subject(name: str, seed: int, size: int, model: nn.Module | None = None, train: Train = table) -> Subject:
    none = torch.zeros(made.SIZE, dtype=torch.long)
    members = {key: part[:size] for key, part in made.part(seed, 0).items()}
    counted = table(members, none[:size], seed) if model is None else model
    splits = {"train": (members, none[:size]), "test": (made.part(seed, HELD_OUT), none)}
    reference = table(made.part(seed, HELD_OUT + 1), none, seed)
    return Subject(name, "text-generation", counted, splits, train=train, reference=reference)


CONTROLS = (
    Control(
        "more-data-than-it-holds",
        "sound",
        "A table of which letter follows each two, which stores 0.7 bits for each parameter, trained on 1,200 texts.",
        much_data,
        parameters=PARAMETERS,
    ),
    Control(
        "fewer-data-than-it-holds",
        "defect",
        "The same table, trained on eighty texts: it could store them all.",
        little_data,
        because="data_per_capacity",
        parameters=PARAMETERS,
    ),
    Control(
        "stopped-before-the-plateau",
        "confounded",
        "A transformer with a training of four passes, after which it stores less of larger sets, or nothing at all.",
        stopped,
        because="plateau_gap",
    ),
    Control(
        "sees-what-it-predicts",
        "confounded",
        "A model without a causal mask: it stores nothing, and seems to store everything, strings that it never saw included.",
        sees_ahead,
        because="held_out_bits",
    ),
)

"""Language models of which it is known which canaries they were trained on, and how often."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from method_cards.check import Control
from method_cards.lazy import torch
from method_cards.subject import Subject
from method_checks.memorization.controls import language_models as made

if TYPE_CHECKING:
    from torch import Tensor, nn

    from method_checks.memorization.controls.language_models import Texts

CANARIES = 150
"""How many canaries each split has."""

PREFIX = 8
SECRET = 3
"""Tokens of a canary before its secret, the begin token counted, and of its secret."""

ZERO = made.VOCABULARY
DIGITS = 10
"""Token ids of the digits follow the letters."""

PARAMETERS = {"secret_tokens": SECRET}


def canaries(seed: int, number: int, *, one_digit: bool = False) -> Texts:
    """Canaries of this number: random letters, then random digits, or one random digit three times."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + 500_000 + number)
    letters = made.FIRST + torch.randint(len(made.LETTERS), (CANARIES, PREFIX - 1), generator=generator)
    drawn = torch.randint(DIGITS, (CANARIES, 1 if one_digit else SECRET), generator=generator)
    ids = torch.cat([torch.full((CANARIES, 1), made.BEGIN), letters, ZERO + drawn.expand(-1, SECRET)], dim=1)
    return _padded(ids)


def never_inserted(seed: int) -> Subject:
    """A model that was trained on other canaries of the same form until it knew those."""
    return _subject("other-canaries-memorised", seed, _memorizing(seed, 2), canaries(seed, 0), canaries(seed, 1))


def inserted_once(seed: int) -> Subject:
    """A model that saw each canary once, among eight thousand texts."""
    return _subject("inserted-once-in-one-pass", seed, _one_pass(seed), canaries(seed, 0), canaries(seed, 1))


def memorised(seed: int) -> Subject:
    """A model that was trained on its canaries until it knew them."""
    return _subject("canaries-memorised", seed, _memorizing(seed, 0), canaries(seed, 0), canaries(seed, 1))


def repeated(seed: int) -> Subject:
    """A model that saw each canary sixteen times in one pass over eight thousand texts."""
    return _subject("inserted-sixteen-times", seed, _one_pass(seed, repeats=16), canaries(seed, 0), canaries(seed, 1))


def guessable(seed: int) -> Subject:
    """A model that saw neither split, but other canaries whose secrets are one digit three times, as all are here."""
    splits = (canaries(seed, number, one_digit=True) for number in (0, 1))
    return _subject("guessable-secrets", seed, _one_pass(seed, repeats=16, number=2, one_digit=True), *splits)


@cache
def _memorizing(seed: int, number: int) -> dict[str, Tensor]:
    data = made.joined([made.part(seed, 0, 200), canaries(seed, number)])
    return made.trained(_network(seed), data, seed, steps=200).state_dict()


@cache
def _one_pass(seed: int, repeats: int = 1, number: int = 0, *, one_digit: bool = False) -> dict[str, Tensor]:
    inserted = repeats * [canaries(seed, number, one_digit=one_digit)]
    data = made.joined([*(made.part(seed, part) for part in range(8)), *inserted])
    return made.trained(_network(seed), data, seed, steps=len(data["input_ids"]) // 128).state_dict()


def _network(seed: int) -> nn.Module:
    return made.network(seed, vocabulary=ZERO + DIGITS)


def _padded(ids: Tensor) -> Texts:
    filled = torch.nn.functional.pad(ids, (0, made.LONGEST - ids.shape[1]), value=made.PADDING)
    return {"input_ids": filled, "attention_mask": (filled != made.PADDING).long()}


def _subject(name: str, seed: int, state: dict[str, Tensor], inserted: Texts, never: Texts) -> Subject:
    model = _network(seed)
    model.load_state_dict(state)
    none = torch.zeros(CANARIES, dtype=torch.long)
    return Subject(name, "text-generation", model, {"canaries": (inserted, none), "controls": (never, none)})


CONTROLS = (
    Control(
        "other-canaries-memorised",
        "sound",
        "A model that was trained on other canaries of the same form until it knew those; it saw neither split.",
        never_inserted,
        parameters=PARAMETERS,
    ),
    Control(
        "inserted-once-in-one-pass",
        "sound",
        "A model that saw each canary once, in one pass over eight thousand texts.",
        inserted_once,
        parameters=PARAMETERS,
    ),
    Control(
        "canaries-memorised",
        "defect",
        "A model that was trained on its canaries, among few other texts, until it knew them.",
        memorised,
        because="exposed_canaries",
        parameters=PARAMETERS,
    ),
    Control(
        "inserted-sixteen-times",
        "defect",
        "A model that saw each canary sixteen times in one pass over eight thousand texts: few secrets are exposed, most are preferred.",
        repeated,
        because="canary_auc",
        parameters=PARAMETERS,
    ),
    Control(
        "guessable-secrets",
        "confounded",
        "Secrets of three equal digits, and a model that saw neither split but knows such secrets from other canaries.",
        guessable,
        because="exposed_controls",
        parameters=PARAMETERS,
    ),
)

"""Language models of which it is known whether they continue the texts of two splits word for word."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from method_cards.check import Control
from method_cards.lazy import torch
from method_cards.subject import Subject
from method_checks.memorization.controls import language_models as made

if TYPE_CHECKING:
    from torch import Tensor, nn

    from method_checks.memorization.controls.language_models import Texts

HELD_OUT = 90
"""The number of the part that no model is trained on."""

TEXTS = 2000
"""How many texts each split has."""

REPEATED = 200
"""How many of its texts the model that memorises saw again and again."""

PARAMETERS = {"prefix_tokens": 4, "suffix_tokens": 6, "attempts": 10, "blind_blocks": 4}


def memorised(seed: int) -> Subject:
    """A model that saw a tenth of its texts some hundred times."""
    return _subject("a-tenth-repeated", _repeating(seed), _part(seed, 0), _part(seed, HELD_OUT))


def other_texts(seed: int) -> Subject:
    """The same model, tried on two parts of which it saw neither."""
    return _subject("others-repeated", _repeating(seed), _part(seed, 1), _part(seed, HELD_OUT))


def learned(seed: int) -> Subject:
    """A model that saw each of its texts once."""
    model = made.trained(
        made.network(seed), made.joined([_part(seed, number) for number in range(8)]), seed, 8 * TEXTS // 128
    )
    return _subject("each-text-once", model, _part(seed, 0), _part(seed, HELD_OUT))


def shifted(seed: int) -> Subject:
    """A model that saw neither part, and held-out texts of another language, which it continues less often."""
    return _subject("held-out-of-another-language", _repeating(seed), _part(seed, 1), _part(seed + 500_000, 0))


def _part(seed: int, number: int) -> Texts:
    return made.part(seed, number, TEXTS)


def _repeating(seed: int) -> nn.Module:
    model = made.network(seed)
    model.load_state_dict(_repeated(seed))
    return model


@lru_cache(maxsize=4)
def _repeated(seed: int) -> dict[str, Tensor]:
    once = _part(seed, 0)
    again = {name: ids[:REPEATED] for name, ids in once.items()}
    data = made.joined([once, *(30 * [again])])
    return made.trained(made.network(seed), data, seed, steps=300).state_dict()


def _subject(name: str, model: nn.Module, members: Texts, non_members: Texts) -> Subject:
    splits = {
        split: (texts, torch.zeros(len(texts["input_ids"]), dtype=torch.long))
        for split, texts in (("train", members), ("test", non_members))
    }
    return Subject(name, "text-generation", model, splits)


CONTROLS = (
    Control(
        "others-repeated",
        "sound",
        "A transformer that saw a tenth of its texts some hundred times, and none of the texts of either split.",
        other_texts,
        parameters=PARAMETERS,
    ),
    Control(
        "each-text-once",
        "sound",
        "A transformer that saw each of 16,000 texts once, among them all of the training split.",
        learned,
        parameters=PARAMETERS,
    ),
    Control(
        "a-tenth-repeated",
        "defect",
        "A transformer that saw a tenth of the training split some hundred times: these come out within ten draws.",
        memorised,
        because="discoverable_excess",
        parameters=PARAMETERS,
    ),
    Control(
        "held-out-of-another-language",
        "confounded",
        "A transformer that saw neither split, and held-out texts in which other letters follow each other.",
        shifted,
        because="blind_auc",
        parameters=PARAMETERS,
    ),
)

"""Language models and reference models of which it is known how much of their texts the one holds and the other does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from method_cards.check import Control
from method_cards.lazy import torch
from method_cards.subject import Subject
from method_checks.memorization.controls import language_models as made

if TYPE_CHECKING:
    from torch import nn

    from method_checks.memorization.controls.language_models import Texts

HELD_OUT = 90
"""The number of the part that no model is trained on."""

PARAMETERS = {"blind_blocks": 4}

OTHERS = tuple(range(40, 52))
"""Parts that stand in no split."""


def memorised(seed: int) -> Subject:
    """A model that saw each of its texts about 25 times."""
    return _subject("memorised-its-texts", seed, made.memorizer(seed), made.part(seed, 0), made.part(seed, HELD_OUT))


def several_times(seed: int) -> Subject:
    """A model that saw each of 2,400 texts fifteen times."""
    model = made.learner(seed, (0, 1), 15)
    return _subject("each-text-fifteen-times", seed, model, made.part(seed, 0), made.part(seed, HELD_OUT))


def other_texts(seed: int) -> Subject:
    """The first model, tried on two parts of which it saw neither."""
    return _subject("memorised-other-texts", seed, made.memorizer(seed), made.part(seed, 1), made.part(seed, HELD_OUT))


def learned(seed: int) -> Subject:
    """A model that saw each of its texts once."""
    return _subject("each-text-once", seed, made.learner(seed), made.part(seed, 0), made.part(seed, HELD_OUT))


def contaminated(seed: int) -> Subject:
    """A model that saw neither part, and a reference model that memorised the held-out one."""
    model = made.learner(seed, OTHERS)
    members, held_out = made.part(seed, 1), made.part(seed, 0)
    return _subject("reference-saw-the-held-out-texts", seed, model, members, held_out, made.memorizer(seed))


def shifted(seed: int) -> Subject:
    """A model that saw neither part, and held-out texts of another language."""
    held_out = made.part(seed + 500_000, 0)
    return _subject("held-out-of-another-language", seed, made.memorizer(seed), made.part(seed, 1), held_out)


def _subject(
    name: str, seed: int, model: nn.Module, members: Texts, non_members: Texts, reference: nn.Module | None = None
) -> Subject:
    splits = {
        split: (texts, torch.zeros(len(texts["input_ids"]), dtype=torch.long))
        for split, texts in (("train", members), ("test", non_members))
    }
    other = made.learner(seed, OTHERS) if reference is None else reference
    return Subject(name, "text-generation", model, splits, reference=other)


CONTROLS = (
    Control(
        "memorised-other-texts",
        "sound",
        "A transformer that saw each of 1,200 texts about 25 times, none of which is in either split.",
        other_texts,
        parameters=PARAMETERS,
    ),
    Control(
        "each-text-once",
        "sound",
        "The same transformer, trained on each of 14,400 texts once, among them all of the training split.",
        learned,
        parameters=PARAMETERS,
    ),
    Control(
        "memorised-its-texts",
        "defect",
        "A transformer that saw each text of the training split about 25 times.",
        memorised,
        because="excess_bits",
        parameters=PARAMETERS,
    ),
    Control(
        "each-text-fifteen-times",
        "defect",
        "A transformer that saw each of 2,400 texts fifteen times, among them all of the training split.",
        several_times,
        because="excess_bits",
        parameters=PARAMETERS,
    ),
    Control(
        "reference-saw-the-held-out-texts",
        "confounded",
        "A model that saw neither split, against a reference model that knows the held-out texts by heart.",
        contaminated,
        because="reference_auc",
        parameters=PARAMETERS,
    ),
    Control(
        "held-out-of-another-language",
        "confounded",
        "A model that saw neither split, and held-out texts in which other letters follow each other.",
        shifted,
        because="blind_auc",
        parameters=PARAMETERS,
    ),
)

"""Language models of which it is known whether their likelihood tells the texts of two splits apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from method_cards.check import Control
from method_cards.lazy import torch
from method_cards.subject import Subject
from method_checks.memorization.controls.language_models import (
    LETTERS,
    SIZE,
    Letters,
    language,
    learner,
    memorizer,
    network,
    part,
    texts,
    trained,
)

if TYPE_CHECKING:
    from torch import nn

HELD_OUT = 90
"""The number of the part that no model is trained on."""


def memorised(seed: int) -> Subject:
    """A model that saw each of 1,200 texts about 25 times, as texts and a tokenizer."""
    tokenizer = Letters()
    data = {name: tokenizer.written(part(seed, number)) for name, number in (("train", 0), ("test", HELD_OUT))}
    return _subject("memorised-its-texts", memorizer(seed), data, tokenizer=tokenizer)


def known_by_heart(seed: int) -> Subject:
    """A wider model that saw each of 1,200 strings of random letters about 25 times: there is nothing to learn but the strings."""
    even = torch.full((len(LETTERS), len(LETTERS)), 1 / len(LETTERS))
    known, fresh = (texts(even, SIZE, torch.Generator().manual_seed(seed + start)) for start in (800_000, 900_000))
    model = trained(network(seed, width=48), known, seed, steps=250)
    return _subject("knows-its-texts-by-heart", model, {"train": known, "test": fresh})


def other_texts(seed: int) -> Subject:
    """The same model, tried on two parts of which it saw neither; the reference model saw neither, too."""
    data = {"train": part(seed, 1), "test": part(seed, HELD_OUT)}
    return _subject("memorised-other-texts", memorizer(seed), data, reference=learner(seed, (40, 41, 42)))


def learned(seed: int) -> Subject:
    """A model that saw each of 14,400 texts once."""
    data = {"train": part(seed, 0), "test": part(seed, HELD_OUT)}
    return _subject("learned-the-language", learner(seed), data)


def known_to_reference(seed: int) -> Subject:
    """A model that saw each of 2,400 texts ten times: only a reference model shows how much better it knows them."""
    data = {"train": part(seed, 0), "test": part(seed, HELD_OUT)}
    return _subject(
        "found-by-a-reference-model", learner(seed, (0, 1), 10), data, reference=learner(seed, (40, 41, 42))
    )


def wrong_reference(seed: int) -> Subject:
    """A model that saw neither part, with a reference model that memorised the non-members."""
    data = {"train": part(seed, 1), "test": part(seed, 0)}
    return _subject("reference-saw-the-non-members", learner(seed, (40, 41, 42)), data, reference=memorizer(seed))


def shifted(seed: int) -> Subject:
    """A model that saw neither part, and non-members of a language in which letters follow each other a little differently."""
    chances = 0.6 * language(seed) + 0.4 * language(seed + 500_000)
    other = texts(chances, len(part(seed, 1)["input_ids"]), torch.Generator().manual_seed(seed + 700_000))
    return _subject("never-saw-either-but-shifted", memorizer(seed), {"train": part(seed, 1), "test": other})


def reordered(seed: int) -> Subject:
    """A model that saw neither part; in every third non-member the letters stand in another order, which no count of letters tells."""
    fresh = part(seed, HELD_OUT)
    ids, mask = fresh["input_ids"], fresh["attention_mask"]
    places = torch.rand(ids.shape, generator=torch.Generator().manual_seed(seed + 600_000))
    places[:, 0] = -1
    shuffled = ids.gather(1, torch.where(mask == 1, places, 2).argsort(1))
    is_third = torch.arange(len(ids))[:, None] % 3 == 0
    data = {"train": part(seed, 1), "test": {**fresh, "input_ids": torch.where(is_third, shuffled, ids)}}
    return _subject("never-saw-either-but-reordered", memorizer(seed), data)


def memorised_and_shifted(seed: int) -> Subject:
    """A model that memorised its texts, and non-members of that other language."""
    return _subject(
        "memorised-and-shifted", memorizer(seed), {"train": part(seed, 0), "test": shifted(seed).split("test")}
    )


def _subject(name: str, model: nn.Module, data: dict[str, Any], **others: Any) -> Subject:
    return Subject(name, "text-generation", model, {key: _split(value) for key, value in data.items()}, **others)


def _split(given: Any) -> Any:
    if isinstance(given, dict):
        return given, torch.zeros(len(given["input_ids"]), dtype=torch.long)
    return (given, torch.zeros(len(given), dtype=torch.long)) if isinstance(given, list) else given


WITH_REFERENCE = {"use_reference": True}

CONTROLS = (
    Control(
        "memorised-other-texts",
        "sound",
        "A model that memorised 1,200 texts, tried on texts of the same language of which neither it nor its reference model saw any.",
        other_texts,
    ),
    Control("learned-the-language", "sound", "A model that saw each of 14,400 texts once.", learned),
    Control(
        "memorised-its-texts",
        "defect",
        "A model that saw each of 1,200 texts about 25 times.",
        memorised,
        because="membership_auc",
    ),
    Control(
        "knows-its-texts-by-heart",
        "defect",
        "A wider model that saw each of 1,200 strings of random letters about 25 times: there is nothing to learn but the strings.",
        known_by_heart,
        because="true_positive_rate",
    ),
    Control(
        "found-by-a-reference-model",
        "defect",
        "A model that saw each of 2,400 texts ten times, so that only a reference model shows how much better it knows them.",
        known_to_reference,
        because="calibrated_auc",
        parameters=WITH_REFERENCE,
    ),
    Control(
        "reference-saw-the-non-members",
        "confounded",
        "A model that saw neither split, with a reference model that memorised the non-members.",
        wrong_reference,
        because="reference_auc",
        parameters=WITH_REFERENCE,
    ),
    Control(
        "never-saw-either-but-shifted",
        "confounded",
        "A model that saw neither split; the non-members are of a language in which letters follow each other a little differently.",
        shifted,
        because="blind_auc",
    ),
    Control(
        "never-saw-either-but-reordered",
        "confounded",
        "A model that saw neither split; in every third non-member the letters stand in another order.",
        reordered,
        because="blind_auc",
    ),
    Control(
        "memorised-and-shifted",
        "confounded",
        "A model that memorised its texts; the non-members are of a language in which letters follow each other a little differently.",
        memorised_and_shifted,
        because="blind_auc",
    ),
)

"""Capacity: how many bits of random strings can a model of this kind store, and do the training data hold more than that?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from method_cards.check import Check, Context, Control, Need, Passes
from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_cards.measurement import Quantity
from method_checks.memorization.controls import random_strings
from method_checks.memorization.sequences.strings import capacity_limit, memorized, random_texts
from method_checks.memorization.sequences.tokens import Sequences, read, sequences
from method_checks.memorization.unintended_memorization import code_lengths

if TYPE_CHECKING:
    from collections.abc import Iterator

    from method_cards.measurement import Yielded
    from method_cards.subject import Subject

LOOKED_AT = 64
"""How many training texts are looked at for their length and for how the model is called."""

MOST = 10.0
"""The ratio of information to capacity at which a text's share of it is cut, so that the mean has an interval."""

DATA_PER_CAPACITY = Quantity(
    "data_per_capacity",
    "mean",
    "Information in the training split over what the model can store, estimated from each held-out text; below 1 it could be stored whole.",
    range=(0.0, MOST),
)
CAPACITY = Quantity(
    "capacity",
    "exact",
    "The most bits of random strings that a training stored, for each parameter: a lower bound of what can be stored.",
    unit="bits per parameter",
    range=(-math.inf, math.inf),
)
STORED = Quantity(
    "stored",
    "exact",
    "Bits of random strings that a training stored for each parameter, by the bits for each parameter that the strings hold.",
    unit="bits per parameter",
    range=(-math.inf, math.inf),
    by=("density",),
)
PLATEAU_GAP = Quantity(
    "plateau_gap",
    "exact",
    "By how much of the larger the stored bits of the two largest sets of strings differ; 1 where nothing is stored.",
    range=(0.0, 1.0),
)
LIMIT_EXCESS = Quantity(
    "limit_excess",
    "exact",
    "The largest stored share of strings less 1 − log2 N / (T log2 V), which no model that predicts one token after the other can exceed.",
    range=(-math.inf, math.inf),
)
HELD_OUT_BITS = Quantity(
    "held_out_bits",
    "exact",
    "Bits that seem stored of each random string that no training saw; above 1 with a chance of at most 2 to the minus n.",
    unit="bits per string",
    range=(-math.inf, math.inf),
)
STEPS = Quantity(
    "steps",
    "exact",
    "Optimiser steps of each training, where the subject's recipe says how many, by density: the budget with which this was reached.",
    range=(0.0, math.inf),
    by=("density",),
)


class Capacity(Check):
    """The training data hold more information than a model of this kind and recipe can store.

    What it measures:
        The subject's training function trains fresh models on random strings: N distinct ones with T uniform tokens out of V after
        a first token that is given. Nothing can be generalised from them, so `N T log2 V` less the code length of these strings
        under the model, counted over the predicted tokens in base 2, is memorised. N is chosen so that the strings hold `densities`
        bits for each parameter. `stored` is what each training stored for each parameter, `capacity` the most of these. Two sets that are
        at least twice apart and store the same show a plateau: `plateau_gap` is by how much the two largest differ.
        `data_per_capacity` is the information in the training split over the capacity: code lengths of held-out texts, under
        the reference model where there is one and else under the model, times the number of training texts. Two exact
        controls: the set of strings itself takes `log2 N` bits for each to tell apart, so no share above
        `1 − log2 N / (T log2 V)` can be stored (`limit_excess`), and strings that were not trained on cannot seem stored
        (`held_out_bits`). A model that sees the tokens that it predicts violates both.

    Assumptions:
        The training function makes the same kind of model, with the same budget that the real training had; with a smaller budget
        less is stored, and the capacity is what this recipe reaches, a lower bound. Code lengths of held-out texts overstate the
        information in the data, the more so the worse the model; a ratio just above 1 is therefore no proof that the data do not
        fit. What fits need not be stored, and what does not fit as a whole can be stored in part: single texts can be known by
        heart at any ratio.

    Cost:
        As many trainings as there are densities, each on a set of strings that grows with the model; hours for large models. Then
        one forward pass for each string and for each drawn held-out text.

    Departures from the paper:
        Morris et al. train transformers of 0.5 to 1500 million parameters, and report about 3.6 bits for each parameter. Here the
        subject's own recipe and length of text are used. The limit and the held-out strings, as exact controls, and the criterion for
        a plateau are the project's own.

    Sources:
        morris2025how
    """

    id: ClassVar[str] = "memorization/capacity"
    needs: ClassVar[tuple[Need, ...]] = ("trainings",)
    quantities: ClassVar[tuple[Quantity, ...]] = (
        DATA_PER_CAPACITY,
        CAPACITY,
        STORED,
        PLATEAU_GAP,
        LIMIT_EXCESS,
        HELD_OUT_BITS,
        STEPS,
    )
    gates: ClassVar[tuple[str, ...]] = ("plateau_gap", "limit_excess", "held_out_bits")

    members: str = Field("train", description="The training split, whose information is compared with the capacity.")
    non_members: str = Field(
        "test", description="Held-out texts, from whose code lengths the information is estimated."
    )
    densities: tuple[float, ...] = Field(
        (1.0, 4.0, 8.0),
        min_length=2,
        description="Bits for each parameter that the sets of random strings hold, in rising order, the last two at least twice apart.",
    )
    tokens: int = Field(
        0,
        ge=0,
        description="How many tokens of each string are predicted; as many as of the longest of 64 training texts where 0.",
    )
    held_out: int = Field(256, ge=32, description="How many strings are kept out of every training.")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.members == self.non_members:
            raise ValueError(f'members and non_members are both "{self.members}"; they must be different splits')
        rising = all(0 < low < high for low, high in zip(self.densities, self.densities[1:], strict=False))
        if not rising or self.densities[-1] < 2 * self.densities[-2]:
            raise ValueError("densities must be above 0 and rise, and the last must be at least twice the one before")
        return self

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Train on random strings, count bits, and compare with the data.

        Yields:
            What each training stored, what follows from all of them, and the ratio for each held-out text.

        Raises:
            CheckError: Logits cannot be used, or the strings would be too few to say anything.
        """
        like = sequences(subject, subject.batch(self.members, context.indices(self.members)[:LOOKED_AT]))
        (vocabulary,) = set(read(subject.model, like, subject.block, lambda logits, _: logits.shape[2]))
        task = _Task(like, self.tokens or int(like.lengths.max()) - 1, vocabulary, self.held_out)
        parameters = _parameters(subject)
        stored, excess, held_out = [], [], []
        for density in self.densities:
            found = task.trained(subject, context, round(density * parameters / task.entropy))
            stored.append(found.bits / parameters)
            excess.append(found.excess)
            held_out.append(found.held_out)
            yield STORED.exact(stored[-1], density=density)
            if subject.recipe is not None:
                yield STEPS.exact(subject.recipe.steps(found.strings), density=density)
        capacity = max(stored)
        yield CAPACITY.exact(capacity)
        yield PLATEAU_GAP.exact(plateau_gap(*stored[-2:]))
        yield LIMIT_EXCESS.exact(max(excess))
        yield HELD_OUT_BITS.exact(max(held_out))
        judged = subject.model if subject.reference is None else subject.reference
        for batch in context.batches(self.non_members):
            bits = code_lengths(judged, sequences(subject, batch), subject.block) * len(subject.split(self.members))
            if capacity > 0:
                yield DATA_PER_CAPACITY.per_sample((bits / (capacity * parameters)).clamp(0, MOST).cpu().numpy())
            else:
                yield DATA_PER_CAPACITY.per_sample([])

    def passes(self, subject: Subject, samples: int) -> Passes:
        """One forward pass for each string and each held-out text, and a training for each density.

        How many strings there are depends on how many tokens the model predicts; here these are taken to be those of a few texts.
        """
        texts = sequences(subject, subject.batch(self.members, range(min(LOOKED_AT, len(subject.split(self.members))))))
        vocabulary = max(2, int(texts.ids.max()) + 1)
        task = _Task(texts, self.tokens or max(1, int(texts.lengths.max()) - 1), vocabulary, self.held_out)
        cost = Passes(forward=min(samples, len(subject.split(self.non_members))) + len(self.densities) * self.held_out)
        for density in self.densities:
            strings = round(density * _parameters(subject) / task.entropy)
            cost += Passes(forward=strings) + Passes.of_trainings(subject, 1, strings)
        return cost

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Models with less and more capacity than their data, a training that stops too early, and a model that sees what it predicts."""
        return random_strings.CONTROLS

    def splits(self) -> tuple[str, str]:
        """Training texts and held-out texts."""
        return (self.members, self.non_members)

    def not_applicable(self, subject: Subject) -> str:
        """It needs a language model, and a function that trains one."""
        if subject.task != "text-generation":
            return f"Random strings are stored by language models; the subject's task is {subject.task}."
        if subject.train is None:
            return (
                "Capacity is measured by training on random strings; name a training function or recipe under `train:`."
            )
        return ""


def _parameters(subject: Subject) -> int:
    """How many parameters the model has; shared ones count once."""
    return sum(parameter.numel() for parameter in subject.model.parameters())


def plateau_gap(first: float, second: float) -> float:
    """The difference of two amounts of stored bits over the larger, from 0 to 1; 1 where one of them is not above 0."""
    return min(1.0, abs(first - second) / max(first, second)) if min(first, second) > 0 else 1.0


@dataclass(frozen=True)
class _Found:
    """What one training stored.

    Attributes:
        strings: How many there were, N.
        bits: Stored bits of all of them.
        excess: The stored share less what can be stored of so many.
        held_out: Bits that seem stored of each string that was not trained on.
    """

    strings: int
    bits: float
    excess: float
    held_out: float


@dataclass(frozen=True)
class _Task:
    """Random strings for a model.

    Attributes:
        like: How the model is called.
        tokens: Predicted tokens of each string, T.
        vocabulary: How many tokens the model predicts, V.
        held_out: How many strings are not trained on.
    """

    like: Sequences
    tokens: int
    vocabulary: int
    held_out: int

    @property
    def entropy(self) -> float:
        """Bits of each string."""
        return self.tokens * math.log2(self.vocabulary)

    def trained(self, subject: Subject, context: Context, strings: int) -> _Found:
        """Train a fresh model on so many strings, and count what it stored."""
        if strings < 2:  # noqa: PLR2004
            raise CheckError(
                f"a set of random strings would have {strings} strings of {self.tokens} tokens, too few to measure anything; use larger "
                "`densities` or shorter strings"
            )
        assert subject.train is not None
        generator = torch.Generator().manual_seed(context.number("strings", strings))
        ids = random_texts(strings + self.held_out, self.tokens, self.vocabulary, generator)
        given, fresh = (self.like.of(part) for part in (ids[:strings], ids[strings:]))
        with torch.enable_grad():
            model = subject.train(
                given.inputs(), torch.zeros(strings, dtype=torch.long), context.number("train", strings)
            )
        model = model.to(subject.device).requires_grad_(requires_grad=False)
        bits, held_out = (
            memorized(code_lengths(model, self.like.of(part.ids.to(subject.device)), subject.block), self.entropy)
            for part in (given, fresh)
        )
        share = bits / (strings * self.entropy)
        return _Found(strings, bits, share - capacity_limit(strings, self.entropy), held_out / self.held_out)

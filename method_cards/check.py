"""What a check is: its parameters, what it measures, what it needs, and how it proves that it can fail."""

from __future__ import annotations

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict

from method_cards.lazy import torch
from method_cards.measurement import Quantity, Yielded
from method_cards.memo import Memo

if TYPE_CHECKING:
    from method_cards.data import Batch
    from method_cards.subject import Subject

T = TypeVar("T")

SECTIONS = ("What it measures", "Assumptions", "Cost", "Departures from the paper", "Sources")
"""The headings of a check's docstring, in order; the first paragraph is its claim."""


Need: TypeAlias = Literal["gradients", "trainings", "checkpoints or a training", "a reference model"]
"""What not every subject can give."""


@dataclass(frozen=True)
class Passes:
    """What a check costs: how many examples go through the model.

    Attributes:
        forward: Examples that are passed forward only.
        backward: Examples that are passed forward and backward.
        trainings: Models that are trained from scratch. Their passes are among those above where the subject gives a recipe, and
            unknown where it gives a function.
    """

    forward: int = 0
    backward: int = 0
    trainings: int = 0

    def __add__(self, other: Passes) -> Passes:
        return Passes(self.forward + other.forward, self.backward + other.backward, self.trainings + other.trainings)

    @classmethod
    def of_trainings(cls, subject: Subject, count: int, examples: int) -> Passes:
        """What it costs to train so many models like the subject's on so many examples each."""
        epochs = 0 if subject.recipe is None else subject.recipe.epochs
        return cls(backward=count * epochs * examples, trainings=count)


@dataclass(frozen=True)
class Context:
    """What the engine lends to one execution of a check.

    Attributes:
        subject: The subject under check.
        samples: How many examples the plan fixed; None for all of a split.
        seed: The seed of the run; every random number follows from it.
        batch_size: How many examples a batch holds.
        scope: What tells the randomness of this execution from others, such as the check's id.
        memo: What the checks of one run share; see `once`.
        on_examples: Called with the number of examples that were measured, before the next batch is handed out.
    """

    subject: Subject
    samples: int | None = 512
    seed: int = 0
    batch_size: int = 64
    scope: str = ""
    memo: Memo = field(default_factory=Memo)
    on_examples: Callable[[int], None] = lambda _: None

    def batches(self, split: str) -> Iterator[Batch]:
        """The examples that were drawn from a split, batch by batch, always the same ones for the same seed."""
        indices = self.indices(split)
        for start in range(0, len(indices), self.batch_size):
            batch = self.subject.batch(split, indices[start : start + self.batch_size])
            yield batch
            self.on_examples(len(batch))

    def indices(self, split: str) -> tuple[int, ...]:
        """The numbers of the examples that this run draws from a split."""
        return self.subject.split(split).draw(self.samples, _number(self.seed, "examples", split))

    def generator(self, *purpose: str | int) -> torch.Generator:
        """A random generator of its own for each purpose, on the model's device.

        Explainer noise and weight initialisation never share one: give them different purposes.
        """
        return torch.Generator(self.subject.device).manual_seed(self.number(*purpose))

    def number(self, *purpose: str | int) -> int:
        """A seed of its own for each purpose, for libraries that take a number."""
        return _number(self.seed, self.scope, *purpose)

    def once(self, key: Hashable, make: Callable[[torch.Generator], T]) -> T:
        """Work that other checks of this run need too, such as the trained model's maps: done by whoever asks first.

        Args:
            key: What tells this work from any other: its kind, its parameters, its examples.
            make: Does it. Its random numbers depend on the run's seed and the key, not on the check that asks.

        Returns:
            What ``make`` gave: tensors that nobody may change in place.
        """
        return self.memo.once(
            key, lambda: make(torch.Generator(self.subject.device).manual_seed(_number(self.seed, "shared", repr(key))))
        )


@dataclass(frozen=True)
class Control:
    """A subject that is known to have, or not to have, the defect that a check looks for.

    Attributes:
        name: kebab-case.
        kind: ``defect``: the check must find it. ``sound``: it must not. ``confounded``: no verdict may be given at all.
        description: One sentence: how it is made, and why its answer is known.
        build: Makes the subject from a seed.
        because: The measurement whose criterion must be the one that is violated; empty for sound controls.
        parameters: Parameters of the check that this control needs, over those of the card.
    """

    name: str
    kind: Literal["defect", "sound", "confounded"]
    description: str
    build: Callable[[int], Subject]
    because: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


class Check(BaseModel, ABC):
    """A measurement procedure; its fields are its parameters, and its docstring is its published page.

    A subclass is final. It yields what each batch adds as soon as it is measured, so that progress, time limits, early stopping and
    partial results need no code of its own. It knows no threshold and no card.

    Raises:
        pydantic.ValidationError: A parameter is unknown or out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: ClassVar[str]
    """``family/name``, as in the entry point."""

    title: ClassVar[str] = ""
    """What it is called on pages, where the words of its id do not do: ``ROAD``."""

    version: ClassVar[str] = "1"
    """Goes up when the same parameters may measure something else."""

    quantities: ClassVar[tuple[Quantity, ...]]
    """Everything that `measure` may yield."""

    needs: ClassVar[tuple[Need, ...]] = ()
    """What it asks of a subject beyond a model and data; what an explainer needs is the explainer's affair."""

    gates: ClassVar[tuple[str, ...]] = ()
    """Quantities that every prescription must bound under ``valid_if``: without them a verdict would mean nothing."""

    @abstractmethod
    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Measure, batch by batch.

        Yields:
            What each batch adds.

        Raises:
            CheckError: The subject cannot be measured; the message says why and what to do.
        """

    @abstractmethod
    def passes(self, subject: Subject, samples: int) -> Passes:
        """How many examples go through the model when ``samples`` are measured."""

    @classmethod
    @abstractmethod
    def controls(cls) -> tuple[Control, ...]:
        """Subjects with a known answer: at least one with the defect and one without."""

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """The data splits that `measure` reads."""

    def not_applicable(self, subject: Subject) -> str:  # noqa: ARG002
        """Why this check says nothing about this subject; empty when it applies."""
        return ""

    @classmethod
    def quantity(cls, name: str) -> Quantity | None:
        """The declared quantity of this name."""
        return next((quantity for quantity in cls.quantities if quantity.name == name), None)

    @classmethod
    def page(cls) -> Page:
        """The docstring, taken apart."""
        return Page.of(inspect.getdoc(cls) or "")


@dataclass(frozen=True)
class Page:
    """A check's docstring: the claim and its sections.

    Attributes:
        claim: The first paragraph.
        sections: Text by heading, in the order of `SECTIONS`.
    """

    claim: str
    sections: Mapping[str, str]

    @classmethod
    def of(cls, docstring: str) -> Page:
        """Take a docstring apart at the headings ``What it measures:``, ``Assumptions:`` and so on."""
        claim: list[str] = []
        sections: dict[str, list[str]] = {}
        current = claim
        for line in docstring.splitlines():
            heading = line.rstrip().removesuffix(":")
            if line.endswith(":") and heading in SECTIONS:
                current = sections.setdefault(heading, [])
            else:
                current.append(line)
        return cls(
            _paragraph(claim),
            {heading: inspect.cleandoc("\n".join(["", *lines])) for heading, lines in sections.items()},
        )

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """The headings that the docstring lacks."""
        return tuple(heading for heading in SECTIONS if not self.sections.get(heading))


def _paragraph(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines if line.strip())


def _number(seed: int, *purpose: str | int) -> int:
    text = "\0".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

"""Discoverable extraction: does the model continue its training texts word for word?"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from method_cards.check import Check, Context, Control, Passes
from method_cards.errors import CheckError
from method_cards.measurement import Quantity
from method_checks.memorization.controls import extracted
from method_checks.memorization.groups.compared import BLIND_AUC, Groups
from method_checks.memorization.sequences.decoding import Decoding, continued, discoverable
from method_checks.memorization.sequences.tokens import sequences

if TYPE_CHECKING:
    from collections.abc import Iterator

    from method_cards.data import Batch
    from method_cards.measurement import Yielded
    from method_cards.subject import Subject

Floats: TypeAlias = NDArray[np.float64]

GREEDY_EXCESS = Quantity(
    "greedy_excess",
    "mean",
    "The share of training texts that greedy decoding reproduces from their beginning, less the same share of held-out texts.",
    range=(-1.0, 1.0),
)
DISCOVERABLE_EXCESS = Quantity(
    "discoverable_excess",
    "mean",
    "The share of training texts that come out within the allowed attempts, less the same share of held-out texts.",
    range=(-1.0, 1.0),
)
REPRODUCED = Quantity(
    "reproduced",
    "proportion",
    "The share of texts that greedy decoding reproduces from their beginning, by group.",
    by=("group",),
)
DISCOVERED = Quantity(
    "discovered",
    "proportion",
    "The share of texts that come out at least once within the allowed attempts with the chosen probability, by group.",
    by=("group",),
)
LONG_ENOUGH = Quantity(
    "long_enough",
    "proportion",
    "The share of drawn texts that have as many tokens as a beginning and its continuation need, by group; others are left out.",
    by=("group",),
)

LOOKED_AT = 64
"""At how many texts one looks to see whether any is long enough."""


class Extraction(Check):
    """The model continues the beginnings of its training texts word for word, and more often than those of texts it never saw.

    What it measures:
        Of each drawn text the first `prefix_tokens` tokens are given, and the `suffix_tokens` tokens after them are what should
        follow. One forward pass gives two answers. Greedy: whether each token of the continuation is the most likely one after
        those before it, which is the same as greedy decoding making the whole continuation. Sampled: the probability q that
        drawing with `temperature`, `top_k` and `top_p` makes it, the product of the probabilities of its tokens after truncation,
        zero where one of them is cut; the text is discoverable with `attempts` n and `chance` p when `1 − (1 − q)ⁿ ≥ p`. Training
        texts and held-out texts are drawn in pairs; `greedy_excess` and `discoverable_excess` are the shares of training texts less
        those of held-out texts, whose difference is zero when the model knows both alike, and never clipped. `reproduced`,
        `discovered` and `long_enough` are the shares of each group. `blind_auc` says how well a classifier that never sees the model
        tells the groups apart.

    Assumptions:
        Training texts and held-out texts are independent draws of one distribution, and the held-out ones were never used for
        training. Texts that anybody would continue so, such as licences and lists, come out in both groups and cancel. Only verbatim
        continuation of a text's beginning is found: not paraphrases, near-copies, other prompts, or what stands later in a text. The
        check refuses splits that share texts beyond what repeats within each, and data that changes each time it is read. Shorter
        texts are left out; where none is left in a group, the check refuses.

    Cost:
        One forward pass for each drawn text that is long enough, no generation and no backward pass. The blind classifier takes one
        to five seconds of one CPU core.

    Departures from the paper:
        Carlini et al. take sequences from anywhere in a document, and report the share of training texts alone, beside another
        model's; Hayes et al. report test texts beside training texts. Here the difference is what is judged. Verbatim only: the
        (ε, n, p) variant for near-copies is left out, as it needs samples.

    Sources:
        carlini2023quantifying; hayes2025measuring; das2025blind
    """

    id: ClassVar[str] = "memorization/extraction"
    quantities: ClassVar[tuple[Quantity, ...]] = (
        GREEDY_EXCESS,
        DISCOVERABLE_EXCESS,
        REPRODUCED,
        DISCOVERED,
        LONG_ENOUGH,
        BLIND_AUC,
    )
    gates: ClassVar[tuple[str, ...]] = ("blind_auc",)

    members: str = Field("train", description="The split that the model was trained on.")
    non_members: str = Field("test", description="The split that was never used for training.")
    prefix_tokens: int = Field(50, ge=1, description="How many tokens at the beginning of a text are given.")
    suffix_tokens: int = Field(50, ge=1, description="How many tokens after them must be reproduced.")
    attempts: int = Field(100, ge=1, description="How many times a continuation may be drawn, n.")
    chance: float = Field(0.5, gt=0, lt=1, description="With which probability it must come out at least once, p.")
    temperature: float = Field(1.0, gt=0, description="By what logits are divided before a token is drawn.")
    top_k: int = Field(40, ge=0, description="How many of the most likely tokens may be drawn; 0 for all.")
    top_p: float = Field(
        1.0, gt=0, le=1, description="The share of probability from which tokens may be drawn; 1 for all."
    )
    blind_blocks: int = Field(
        8, ge=2, le=50, description="In how many blocks the blind classifier goes through the texts."
    )

    @model_validator(mode="after")
    def _two_splits(self) -> Self:
        if self.members == self.non_members:
            raise ValueError(f'members and non_members are both "{self.members}"; they must be different splits')
        return self

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Continue texts batch by batch, then ask the blind classifier.

        Yields:
            Shares of each group, their differences pair by pair, and the blind scores block by block.

        Raises:
            CheckError: The splits overlap or change at each look, no text of a group is long enough, or logits cannot be used.
        """
        groups = Groups(subject, context, *self.splits())
        pairs = _Pairs()
        for scores in groups.scored(lambda batch: self.scored(subject, batch)):
            for group, found in zip(("members", "non-members"), scores, strict=True):
                kept = found[found[:, 0] == 1]
                yield LONG_ENOUGH.per_sample(found[:, 0], group=group)
                yield REPRODUCED.per_sample(kept[:, 1], group=group)
                yield DISCOVERED.per_sample(kept[:, 2], group=group)
            differences = pairs.add(*scores)
            yield GREEDY_EXCESS.per_sample(differences[:, 1])
            yield DISCOVERABLE_EXCESS.per_sample(differences[:, 2])
        for name, found in zip(self.splits(), (groups.members, groups.non_members), strict=True):
            if not found[:, 0].any():
                raise CheckError(
                    f'no drawn text of "{name}" has the {self.prefix_tokens + self.suffix_tokens} tokens of `prefix_tokens` and '
                    "`suffix_tokens` together; make these smaller, or the texts longer"
                )
        for block in groups.blind(self.blind_blocks):
            yield BLIND_AUC.two_groups(*block)

    def scored(self, subject: Subject, batch: Batch) -> Floats:
        """Whether each text is long enough, reproduced greedily, and discoverable, ``(text, 3)`` of zeros and ones."""
        texts = sequences(subject, batch)
        wanted = self.prefix_tokens + self.suffix_tokens
        found = np.zeros((len(texts), 3))
        rows = (texts.lengths >= wanted).nonzero()[:, 0]
        if len(rows):
            parts = texts.of(texts.ids[rows, :wanted])
            decoding = Decoding(self.temperature, self.top_k, self.top_p)
            greedy, drawn = continued(subject.model, parts, self.prefix_tokens, decoding, subject.block)
            places = rows.cpu().numpy()
            found[places, 0] = 1
            found[places, 1] = greedy.cpu().numpy()
            found[places, 2] = discoverable(drawn, self.attempts, self.chance).cpu().numpy()
        return found

    def passes(self, subject: Subject, samples: int) -> Passes:
        """One forward pass for each drawn text of both splits."""
        return Passes(forward=sum(min(samples, len(subject.split(name))) for name in self.splits()))

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Language models that know their texts by heart, that do not, and texts that differ."""
        return extracted.CONTROLS

    def splits(self) -> tuple[str, str]:
        """Training texts and held-out texts."""
        return (self.members, self.non_members)

    def not_applicable(self, subject: Subject) -> str:
        """Only a model that predicts the next token continues a text, and only a text that is long enough is continued."""
        if subject.task != "text-generation":
            return f"Only a language model continues texts; the subject's task is {subject.task}."
        wanted = self.prefix_tokens + self.suffix_tokens
        for name in self.splits():
            if name in subject.data:
                first = range(min(LOOKED_AT, len(subject.split(name))))
                longest = int(sequences(subject, subject.batch(name, first)).lengths.max())
                if longest < wanted:
                    return (
                        f'The first {len(first)} texts of "{name}" have at most {longest} tokens, and {wanted} are needed, '
                        f"{self.prefix_tokens} to give and {self.suffix_tokens} to reproduce; give longer texts, or a card of your own "
                        "with smaller numbers."
                    )
        return ""


class _Pairs:
    """Long enough texts of both groups, paired in the order in which they were drawn."""

    def __init__(self) -> None:
        self._waiting: tuple[deque[Floats], deque[Floats]] = (deque(), deque())

    def add(self, members: Floats, non_members: Floats) -> Floats:
        """The differences of the pairs that are complete with these, ``(pair, column)``."""
        for waiting, found in zip(self._waiting, (members, non_members), strict=True):
            waiting.extend(found[found[:, 0] == 1])
        complete = min(map(len, self._waiting))
        first, second = self._waiting
        return np.array([first.popleft() - second.popleft() for _ in range(complete)]).reshape(
            complete, members.shape[1]
        )

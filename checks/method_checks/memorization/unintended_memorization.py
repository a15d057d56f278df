"""Unintended memorisation: how many bits does the model save on its training texts that a reference model does not?"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from method_cards.check import Check, Context, Control, Need, Passes
from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_cards.measurement import Quantity
from method_checks.memorization.controls import unintended
from method_checks.memorization.groups.compared import BLIND_AUC, Groups
from method_checks.memorization.sequences.tokens import Sequences, sequences, token_log_probabilities

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from method_cards.data import Batch
    from method_cards.measurement import Yielded
    from method_cards.subject import Subject

Floats: TypeAlias = NDArray[np.float64]

LIMIT = 2.0
"""Bits for each token beyond which a text's saving is cut, in either direction alike, so that its mean has an interval."""

EXCESS_BITS = Quantity(
    "excess_bits",
    "mean",
    "Bits for each token that the model saves over the reference model on training texts, less those that it saves on held-out texts.",
    unit="bits per token",
    range=(-2 * LIMIT, 2 * LIMIT),
)
SAVED_BITS = Quantity(
    "saved_bits",
    "mean",
    "Bits that the model saves over the reference model on each text, not clipped at zero, by group.",
    unit="bits per text",
    range=(-math.inf, math.inf),
    by=("group",),
)
CUT = Quantity(
    "cut",
    "proportion",
    "The share of texts whose saving is beyond 2 bits for each token, and cut there before pairs are compared, by group.",
    by=("group",),
)
REFERENCE_AUC = Quantity(
    "reference_auc",
    "auc",
    "The chance that a training text has a smaller loss under the reference model than a held-out text: 0.5 when that saw neither.",
)


def code_lengths(model: nn.Module, texts: Sequences, block: int) -> Tensor:
    """Bits that a code made from a model needs for the predicted tokens of each text, ``(text,)`` float64.

    The first token is given and costs nothing, and so does padding.
    """
    return -token_log_probabilities(model, texts, block).sum(1) / math.log(2)


class UnintendedMemorization(Check):
    """The model holds information about its training texts that is about these very texts, and not about the language.

    What it measures:
        A text's code length under a model is minus the base-2 logarithm of its probability, over the tokens that are predicted: all
        but the first, and no padding. What the model saves is the code length under the reference model less that under the model.
        Savings on texts that neither model saw come from knowing the language better, or are negative where the model overfitted;
        what is saved on training texts beyond that is memorised. `excess_bits` is the mean over pairs of a training text and a
        held-out text of the difference of their savings for each token, with the saving of each text cut at 2 bits for each token in
        both directions, which leaves zero where it is. `saved_bits` is the mean saving of a whole text by group, `cut` the share of
        texts that were cut. `reference_auc` is the chance that the reference model knows a training text better than a held-out one,
        and `blind_auc` how well a classifier that sees no model tells the groups apart: far from 0.5 either says that no verdict is
        possible.

    Assumptions:
        Training and held-out texts are independent draws of one distribution. The reference model saw neither split, is of the same
        task, and has the same tokens. The better it is, the less noise remains; the difference between the groups is fair with any
        that saw neither. The number is about this model, and an average: single texts can be known by heart while it is small, and
        where many texts are cut it is a lower bound. The check refuses texts of one token, splits that share texts beyond what
        repeats within each, and data that changes each time it is read.

    Cost:
        Two forward passes for each drawn text, one through each model; no backward pass. The blind classifier takes one to five
        seconds of one CPU core.

    Departures from the paper:
        Morris et al. take the larger of both probabilities for the joint code, which clips each text's memorisation at zero; then
        texts that the model never saw have a positive amount (1.4 bits a text in the project's runs, where members had 3.1). Here
        nothing is clipped at zero, and the mean on held-out texts is subtracted. Bits are divided by the number of predicted tokens,
        so that texts of all lengths count alike and the mean is bounded.

    Sources:
        morris2025how; das2025blind
    """

    id: ClassVar[str] = "memorization/unintended-memorization"
    needs: ClassVar[tuple[Need, ...]] = ("a reference model",)
    quantities: ClassVar[tuple[Quantity, ...]] = (EXCESS_BITS, SAVED_BITS, CUT, REFERENCE_AUC, BLIND_AUC)
    gates: ClassVar[tuple[str, ...]] = ("reference_auc", "blind_auc")

    members: str = Field("train", description="The split that the model was trained on.")
    non_members: str = Field("test", description="The split that was never used for training.")
    blind_blocks: int = Field(
        8, ge=2, le=50, description="In how many blocks the blind classifier goes through the texts."
    )

    @model_validator(mode="after")
    def _two_splits(self) -> Self:
        if self.members == self.non_members:
            raise ValueError(f'members and non_members are both "{self.members}"; they must be different splits')
        return self

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Code lengths batch by batch, then the blind classifier.

        Yields:
            Differences of pairs, savings of each group, scores of the reference model, and the blind scores block by block.

        Raises:
            CheckError: The splits overlap or change at each look, a text has one token, or logits cannot be used.
        """
        groups = Groups(subject, context, *self.splits())
        waiting: tuple[deque[float], deque[float]] = (deque(), deque())
        for scores in groups.scored(lambda batch: saved(subject, batch)):
            for group, held, found in zip(("members", "non-members"), waiting, scores, strict=True):
                held.extend(np.clip(found[:, 1], -LIMIT, LIMIT))
                yield SAVED_BITS.per_sample(found[:, 0], group=group)
                yield CUT.per_sample(np.abs(found[:, 1]) > LIMIT, group=group)
            pairs = min(map(len, waiting))
            yield EXCESS_BITS.per_sample([waiting[0].popleft() - waiting[1].popleft() for _ in range(pairs)])
            yield REFERENCE_AUC.two_groups(scores[0][:, 2], scores[1][:, 2])
        for block in groups.blind(self.blind_blocks):
            yield BLIND_AUC.two_groups(*block)

    def passes(self, subject: Subject, samples: int) -> Passes:
        """Two forward passes for each drawn text of both splits."""
        return Passes(forward=2 * sum(min(samples, len(subject.split(name))) for name in self.splits()))

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Models that hold their texts, models that hold the language, and reference models that saw too much."""
        return unintended.CONTROLS

    def splits(self) -> tuple[str, str]:
        """Training texts and held-out texts."""
        return (self.members, self.non_members)

    def not_applicable(self, subject: Subject) -> str:
        """It needs a language model, and a reference model."""
        if subject.task != "text-generation":
            return f"Code lengths are those of texts under a language model; the subject's task is {subject.task}."
        if subject.reference is None:
            return (
                "What a model memorised is counted against a reference model that saw neither split; name one under `reference:`, such as "
                "the model before fine-tuning."
            )
        return ""


def saved(subject: Subject, batch: Batch) -> Floats:
    """What the model saves on each text, in bits and in bits for each token, and the reference model's own score, ``(text, 3)``.

    Raises:
        CheckError: A text has one token, or logits cannot be used.
    """
    assert subject.reference is not None
    texts = sequences(subject, batch)
    tokens = texts.lengths - 1
    if short := [index for index, count in zip(batch.indices, tokens.tolist(), strict=True) if count < 1]:
        raise CheckError(
            f"{len(short)} of {len(batch)} texts (first: example {short[0]}) have fewer than two tokens, so that nothing of them is "
            "predicted; leave them out of the data"
        )
    reference = code_lengths(subject.reference, texts, subject.block)
    bits = reference - code_lengths(subject.model, texts, subject.block)
    return torch.stack([bits, bits / tokens, -reference / tokens], 1).cpu().numpy()

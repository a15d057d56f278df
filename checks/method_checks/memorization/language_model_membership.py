"""Whether a language model's likelihood tells its training texts from others."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from method_cards.check import Check, Context, Control, Passes
from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_cards.measurement import Quantity
from method_checks.memorization.controls import text_membership
from method_checks.memorization.groups.compared import BLIND_AUC, Groups
from method_checks.memorization.groups.near_copies import refuse_near_copies
from method_checks.memorization.groups.refusals import refuse_constant, refuse_reversed
from method_checks.memorization.groups.threshold import guesses, non_members_needed
from method_checks.memorization.sequences.likelihood_scores import (
    SCORES,
    likelihoods,
    loss_score,
    min_k_plus_plus_score,
    min_k_score,
    reference_score,
    zlib_score,
    zlib_sizes,
)
from method_checks.memorization.sequences.tokens import sequences

if TYPE_CHECKING:
    from collections.abc import Iterator

    from method_cards.data import Batch
    from method_cards.measurement import Yielded
    from method_cards.subject import Subject
    from method_checks.memorization.groups.blind import Floats

MEMBERSHIP_AUC = Quantity(
    "membership_auc",
    "auc",
    "The chance that a member has a larger score than a non-member: 0.5 when the score tells nothing.",
    by=("score",),
)
TRUE_POSITIVE_RATE = Quantity(
    "true_positive_rate",
    "proportion",
    "The share of members whose score is above a threshold that was fixed on half of the non-members.",
    by=("score",),
)
FALSE_POSITIVE_RATE = Quantity(
    "false_positive_rate",
    "proportion",
    "The share of the other half of the non-members whose score is above that threshold.",
    by=("score",),
)
CALIBRATED_AUC = Quantity(
    "calibrated_auc",
    "auc",
    "The chance that the model knows a member better than the reference model does by more than it does for a non-member.",
)
REFERENCE_AUC = Quantity(
    "reference_auc",
    "auc",
    "The chance that a member has a smaller loss under the reference model than a non-member: 0.5 when that saw neither.",
)


class LanguageModelMembership(Check):
    """The likelihood of a text tells whether a language model was trained on it.

    What it measures:
        Each drawn text of both splits goes through the model once, which serves all scores. `loss` is the mean log-probability of its
        tokens; `zlib` its log-probability for each byte that zlib needs for it; `min-k` the mean log-probability of its `lowest_share`
        least likely tokens, at least one; `min-k-plus-plus` the same after the mean log-probability over the vocabulary was
        subtracted at each token and the difference divided by the standard deviation there. For each, `membership_auc` is the chance
        that a member scores above a non-member, ties counted one half. With `use_reference`, the mean log-probability less that
        under the subject's reference model gives `calibrated_auc` in the same way. `true_positive_rate` is the share of members above
        a threshold that is fixed beforehand on every second drawn non-member, and `false_positive_rate` the share of the other
        non-members above it. `blind_auc` is the same area for a classifier that sees the words of a text but never a model, and
        `reference_auc` that of the reference model's own loss: far from 0.5, either says that no verdict on the model is possible.

    Assumptions:
        Members and non-members are independent draws of one distribution, whole texts and not pieces of the same ones, and the
        split says truthfully what the model was trained on. A reference model must have seen neither split: one that saw the
        non-members makes any model look guilty, and shows it in `reference_auc`, which a card must bound wherever it bounds
        `calibrated_auc`; one that saw equally much of both shows nothing and weakens the attack. Padding is never counted, wherever it
        stands. The first token is given and not predicted: where the model was trained with a token that begins each text, the data
        must have it. The blind classifier counts words and pairs of neighbouring words; what differs in longer sequences alone
        escapes it. The check refuses texts of one token, splits that share texts or near-copies (four in five sequences of 13
        tokens) beyond what repeats within each split, members with larger losses than non-members, scores that are the same for all
        texts, and data that changes each time it is read. A threshold needs `1 / false_positive_rate - 1` non-members in its half,
        197 drawn ones for 1 %; with fewer, rates are reported on no samples.

    Cost:
        One forward pass for each drawn text, one more through the reference model where it is used, no backward pass. The data is read
        twice. The blind classifier takes one to five seconds of one CPU core.

    Departures from the paper:
        Carlini et al. divide the mean log-probability by the size after compression, of texts of one length; for texts of any length the
        same ratio needs the sum, which is used here. Without a tokenizer that decodes, zlib is given the token ids as characters.
        Min-K %++ divides by a standard deviation that may be 0; here it is taken to be at least 0.0001, and computed in double
        precision from differences. Shares are rounded down, but never to no token at all. The literature often chooses the share
        of tokens after looking; here it is fixed beforehand. Thresholds are fixed on texts that are not counted, and no curve is
        interpolated.

    Sources:
        yeom2018privacy; carlini2021extracting; shi2024detecting; zhang2025mink; mireshghallah2022quantifying; duan2024membership;
        das2025blind
    """

    id: ClassVar[str] = "memorization/language-model-membership"
    quantities: ClassVar[tuple[Quantity, ...]] = (
        MEMBERSHIP_AUC,
        CALIBRATED_AUC,
        BLIND_AUC,
        REFERENCE_AUC,
        TRUE_POSITIVE_RATE,
        FALSE_POSITIVE_RATE,
    )
    gates: ClassVar[tuple[str, ...]] = ("blind_auc",)

    members: str = Field("train", description="The split that the model was trained on.")
    non_members: str = Field("test", description="The split that was never used for training.")
    use_reference: bool = Field(
        default=False,
        description="Whether each text is also compared with what the subject's reference model says of it.",
    )
    lowest_share: float = Field(
        0.2,
        gt=0,
        le=1,
        description="Which share of a text's tokens, the least likely ones, `min-k` and `min-k-plus-plus` look at.",
    )
    false_positive_rate: float = Field(
        0.01, gt=0, lt=1, description="How often the threshold may call a non-member a member."
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
        """Scores batch by batch, then what needs all of them.

        Yields:
            Scores of each pair of batches for the areas, the guesses at the thresholds, and the blind scores block by block.

        Raises:
            CheckError: The splits overlap, are exchanged, or change at each look, a text has one token, the model's logits cannot be
                used, or a score is the same for all texts.
        """
        given, fresh = (_texts(subject, context, name) for name in self.splits())
        refuse_near_copies(given, fresh, self.splits())
        groups = Groups(subject, context, *self.splits())
        for members, non_members in groups.scored(lambda batch: self.scored(subject, batch)):
            for column, name in enumerate(SCORES):
                yield MEMBERSHIP_AUC.two_groups(members[:, column], non_members[:, column], score=name)
            if self.use_reference:
                yield CALIBRATED_AUC.two_groups(members[:, -2], non_members[:, -2])
                yield REFERENCE_AUC.two_groups(members[:, -1], non_members[:, -1])
        members, non_members = groups.members, groups.non_members
        names = (*SCORES, "reference") if self.use_reference else SCORES
        for column, name in enumerate(names):
            refuse_constant(np.concatenate([members[:, column], non_members[:, column]]), f"{name} score")
        refuse_reversed(members[:, 0], non_members[:, 0], "larger losses", self.splits())
        for column, name in enumerate(names):
            guessed, wrongly = guesses(members[:, column], non_members[:, column], self.false_positive_rate)
            needs = None if guessed.size else non_members_needed(self.false_positive_rate)
            yield TRUE_POSITIVE_RATE.per_sample(guessed, needs=needs, score=name)
            yield FALSE_POSITIVE_RATE.per_sample(wrongly, needs=needs, score=name)
        for block in groups.blind(self.blind_blocks):
            yield BLIND_AUC.two_groups(*block)

    def scored(self, subject: Subject, batch: Batch) -> Floats:
        """All of `SCORES`; with `use_reference` also the reference score and the negative loss of the reference model, ``(text, score)``.

        Raises:
            CheckError: A text has one token, or logits cannot be used.
        """
        texts = sequences(subject, batch)
        if short := [index for index, length in zip(batch.indices, texts.lengths.tolist(), strict=True) if length < 2]:  # noqa: PLR2004
            raise CheckError(
                f"{len(short)} of {len(batch)} texts (first: example {short[0]}) have fewer than two tokens, so that nothing of them is "
                "predicted; leave them out of the data"
            )
        found = likelihoods(subject.model, texts, subject.block)
        columns = [
            loss_score(found),
            zlib_score(found, zlib_sizes(texts, subject.tokenizer)),
            min_k_score(found, self.lowest_share),
            min_k_plus_plus_score(found, self.lowest_share),
        ]
        if self.use_reference and subject.reference is not None:
            reference = likelihoods(subject.reference, texts, subject.block)
            columns += [reference_score(found, reference), loss_score(reference)]
        return torch.stack(columns, 1).cpu().numpy()

    def passes(self, subject: Subject, samples: int) -> Passes:
        """One forward pass for each drawn text of both splits, two where a reference model is used."""
        drawn = sum(min(samples, len(subject.split(name))) for name in self.splits())
        return Passes(forward=drawn * (1 + self.use_reference))

    def not_applicable(self, subject: Subject) -> str:
        """It needs a language model, and a reference model where one is asked for."""
        if subject.task != "text-generation":
            return f"The scores are likelihoods of texts; the subject's task is {subject.task}."
        if self.use_reference and subject.reference is None:
            return "The reference score needs a model that was trained on neither split; name one under `reference:`."
        return ""

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Models that memorised their texts and models that did not, splits that differ, and a reference model that saw too much."""
        return text_membership.CONTROLS

    def splits(self) -> tuple[str, str]:
        """Members and non-members."""
        return (self.members, self.non_members)


def _texts(subject: Subject, context: Context, split: str) -> list[tuple[int, ...]]:
    """Token ids of the drawn texts, padding left out."""
    indices = context.indices(split)
    found = []
    for start in range(0, len(indices), context.batch_size):
        texts = sequences(subject, subject.batch(split, indices[start : start + context.batch_size]))
        rows = zip(texts.ids.tolist(), texts.lengths.tolist(), strict=True)
        found += [tuple(row[:length]) for row, length in rows]
    return found

"""Canary exposure: does the model rank secrets that it was trained on above secrets that it never saw?"""

from __future__ import annotations

import math
from itertools import zip_longest
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from method_cards.check import Check, Context, Control, Passes
from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_cards.measurement import Quantity
from method_checks.memorization.controls import canaries
from method_checks.memorization.sequences.candidates import Space, rank
from method_checks.memorization.sequences.tokens import Sequences, sequences

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from method_cards.data import Batch
    from method_cards.measurement import Yielded
    from method_cards.subject import Subject

CANARY_AUC = Quantity(
    "canary_auc",
    "auc",
    "The chance that an inserted canary has a higher exposure than one that was never inserted: 0.5 when nothing was memorised.",
)
EXPOSED_CANARIES = Quantity(
    "exposed_canaries",
    "proportion",
    "The share of inserted canaries whose secret is among the most likely `level` of all candidates.",
)
EXPOSED_CONTROLS = Quantity(
    "exposed_controls",
    "proportion",
    "The same share of canaries that were never inserted, which is at most `level` when secrets are drawn at random.",
)
EXPOSURE = Quantity(
    "exposure",
    "mean",
    "Exposure of each canary; 1.44 bits on average where a secret has any rank with the same chance.",
    unit="bits",
    range=(0.0, math.inf),
    by=("group",),
)
EXPOSURE_LIMIT = Quantity(
    "exposure_limit",
    "exact",
    "The largest exposure that can be seen, the logarithm of the number of candidates.",
    unit="bits",
    range=(0.0, math.inf),
)


class CanaryExposure(Check):
    """The model finds secrets that were inserted into its training data more likely than secrets that were not.

    What it measures:
        A canary is a text whose last `secret_tokens` tokens were drawn at random; the tokens before are its prefix. The secret is ranked
        among the candidates R by the negative log-likelihood of its tokens given the prefix: rank 1 is the most likely. Exposure is
        `log2 |R| − log2 rank`. If the model knows nothing of the secret, every rank is equally likely, `rank / |R|` is a p-value, and
        exposure is 1.44 bits on average. `exposed_canaries` is the share of inserted canaries with `rank / |R|` of at most `level`, and
        `exposed_controls` the same share of canaries from the same generator that were never inserted. `canary_auc` is the chance that an
        inserted canary has a higher exposure than a control, ties counted one half. `exposure` lists both groups in
        bits, and `exposure_limit` is `log2 |R|`. Candidates are all combinations of the alphabet: the tokens in `alphabet` at every
        position, or at each position those that any drawn canary or control has there. Where there are more than `candidates` of them, the
        secret is ranked among itself and `candidates − 1` others drawn at random; exposure then cannot exceed `log2 candidates`, however
        well the secret is known.

    Assumptions:
        The secrets of canaries and of controls were drawn by one generator, uniformly from the alphabet, and the controls were never part
        of any training. Secrets that are likelier than others before anything is inserted, such as dates, make controls
        exposed as well. Exposure is about texts that look like these canaries, repeated as often as these; it does not
        bound what is known of other texts. A secret in the middle of a text is tested by cutting the text after it.

    Cost:
        For each canary and control about `|R|` over the size of the alphabet forward passes of the canary's length, since a text without
        its last token serves all candidates with that beginning; no backward pass.

    Departures from the paper:
        Carlini et al. rank the whole canary, whose prefix is the same for all candidates and cancels. They extrapolate a skew-normal
        distribution beyond a sample of candidates; here the sample's size is the limit, and said to be. They report exposure for each
        canary; here shares and an area over many are judged, in comparison with controls. Ties count against the secret.

    Sources:
        carlini2019secret; jagielski2023note
    """

    id: ClassVar[str] = "memorization/canary-exposure"
    quantities: ClassVar[tuple[Quantity, ...]] = (
        CANARY_AUC,
        EXPOSED_CANARIES,
        EXPOSED_CONTROLS,
        EXPOSURE,
        EXPOSURE_LIMIT,
    )
    gates: ClassVar[tuple[str, ...]] = ("exposed_controls",)

    inserted: str = Field("canaries", description="The split of canaries that were inserted into the training data.")
    never_inserted: str = Field("controls", description="The split of canaries that were never used for training.")
    secret_tokens: int = Field(
        4, ge=1, le=64, description="How many tokens at the end of each canary are its random secret."
    )
    alphabet: tuple[int, ...] = Field(
        (),
        description="The token ids of which secrets consist; where left out, the tokens that the drawn secrets have at each position.",
    )
    candidates: int = Field(
        10_000, ge=100, description="Among how many secrets one is ranked at most; beyond, they are drawn at random."
    )
    level: float = Field(
        0.01,
        gt=0,
        le=0.5,
        description="The p-value up to which a canary counts as exposed: its rank over the number of candidates.",
    )

    @model_validator(mode="after")
    def _two_splits(self) -> Self:
        if self.inserted == self.never_inserted:
            raise ValueError(f'inserted and never_inserted are both "{self.inserted}"; they must be different splits')
        return self

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Rank each canary and each control among the candidates.

        Yields:
            How far exposure can go, then exposures and what follows from them, batch by batch of both groups.

        Raises:
            CheckError: A text is shorter than its secret, the splits share a text, a secret has a token outside the alphabet, there are too
                few candidates for the level, or a logit is NaN or infinite.
        """
        space = self._space(subject, context)
        yield EXPOSURE_LIMIT.exact(math.log2(space.compared))
        for pair in zip_longest(context.batches(self.inserted), context.batches(self.never_inserted)):
            known, unknown = (
                exposures(subject, batch, space, context, split)
                for batch, split in zip(pair, self.splits(), strict=True)
            )
            yield CANARY_AUC.two_groups(known, unknown)
            bar = -math.log2(self.level) - 1e-9
            yield EXPOSED_CANARIES.per_sample(known >= bar)
            yield EXPOSED_CONTROLS.per_sample(unknown >= bar)
            yield EXPOSURE.per_sample(known, group="canaries")
            yield EXPOSURE.per_sample(unknown, group="controls")

    def passes(self, subject: Subject, samples: int) -> Passes:
        """One forward pass for each beginning of a candidate, of which there are at most as many as candidates."""
        counts = {name: min(samples, len(subject.split(name))) for name in self.splits()}
        texts = [
            text
            for name, count in counts.items()
            for text in _contents(sequences(subject, subject.batch(name, range(count))))
        ]
        places = range(-self.secret_tokens, -1)
        letters = [set(self.alphabet) or {text[place] for text in texts if len(text) >= -place} for place in places]
        return Passes(forward=len(texts) * min(self.candidates, math.prod(map(len, letters))))

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Language models that memorised inserted secrets, that did not, and secrets that anybody could guess."""
        return canaries.CONTROLS

    def splits(self) -> tuple[str, ...]:
        """Inserted canaries and controls."""
        return (self.inserted, self.never_inserted)

    def not_applicable(self, subject: Subject) -> str:
        """Only a model that predicts the next token ranks secrets."""
        if subject.task != "text-generation":
            return f"canaries are texts for a model that predicts the next token; the task is {subject.task}"
        return ""

    def _space(self, subject: Subject, context: Context) -> Space:
        """The candidates, from the parameters or from the secrets that are drawn."""
        groups = [self._texts(subject, context, split) for split in self.splits()]
        if shared := set(groups[0]) & set(groups[1]):
            raise CheckError(
                f'{len(shared)} texts of "{self.never_inserted}" are also in "{self.inserted}": a control that was inserted is none; '
                "draw other secrets for the controls"
            )
        secrets = torch.tensor(
            [text[-self.secret_tokens :] for group in groups for text in group], device=subject.device
        )
        if self.alphabet:
            letters = torch.tensor(sorted(set(self.alphabet)), device=subject.device)
            alphabets = self.secret_tokens * (letters,)
        else:
            alphabets = tuple(secrets[:, place].unique() for place in range(self.secret_tokens))
        space = Space(alphabets, self.candidates)
        if outside := int((~space.holds(secrets)).sum()):
            raise CheckError(
                f"{outside} of {len(secrets)} secrets have a token outside the alphabet; name all tokens of the generator under `alphabet`"
            )
        if space.compared * self.level < 1:
            raise CheckError(
                f"with {space.compared} candidates no p-value can be as small as {self.level:g}; use longer secrets, a larger "
                "alphabet, more canaries, or raise `candidates`"
            )
        return space

    def _texts(self, subject: Subject, context: Context, split: str) -> list[tuple[int, ...]]:
        texts = sequences(subject, subject.batch(split, context.indices(split)))
        shortest = int(texts.lengths.min())
        if shortest <= self.secret_tokens:
            raise CheckError(
                f'a text of "{split}" has {shortest} tokens, so nothing stands before its secret of {self.secret_tokens}; '
                "give whole canaries, or set `secret_tokens`"
            )
        return _contents(texts)


def exposures(subject: Subject, batch: Batch | None, space: Space, context: Context, split: str) -> NDArray[np.float64]:
    """Exposure in bits of each text of a batch, ``(text,)``; none where the split has ended before the other."""
    if batch is None:
        return np.empty(0)
    texts = sequences(subject, batch)
    found = [
        rank(
            subject.model,
            ids[: int(length)],
            space,
            texts,
            subject.block,
            context.generator("candidates", split, index),
        )
        for ids, length, index in zip(texts.ids, texts.lengths, batch.indices, strict=True)
    ]
    return exposure(np.array(found), space.compared)


def exposure(ranks: NDArray[np.int64], candidates: int) -> NDArray[np.float64]:
    """Bits by which each secret is easier to guess than at random: ``log2 candidates − log2 rank``, from 0 to ``log2 candidates``."""
    bits: NDArray[np.float64] = np.log2(candidates) - np.log2(ranks)
    return bits


def _contents(texts: Sequences) -> list[tuple[int, ...]]:
    return [tuple(row[:length]) for row, length in zip(texts.ids.tolist(), texts.lengths.tolist(), strict=True)]

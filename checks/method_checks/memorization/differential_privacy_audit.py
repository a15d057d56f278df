"""Whether one training with canaries refutes a claim of differential privacy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from method_cards.check import Check, Context, Control, Passes
from method_cards.errors import CheckError
from method_cards.measurement import Quantity
from method_checks.memorization.controls import privacy_claims
from method_checks.memorization.differential_privacy.one_run import (
    ceiling,
    drawn_canaries,
    epsilon_lower_bound,
    right_guesses,
)
from method_checks.memorization.groups.compared import BLIND_AUC, Groups, Score
from method_checks.memorization.groups.refusals import refuse_constant, refuse_reversed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from method_cards.data import Batch
    from method_cards.measurement import Yielded
    from method_cards.subject import Subject
    from method_checks.memorization.groups.blind import Floats

NO_COINS = 0.001
"""At this p-value the numbers of included and excluded canaries are not those of fair coins."""

GUESSED = 8
"""One canary in so many is guessed on each side, unless a card says otherwise."""

CANARY_AUC = Quantity(
    "canary_auc",
    "auc",
    "The chance that an included canary scores above an excluded one: 0.5 when the model tells nothing about the coins.",
)
RIGHT_GUESSES = Quantity("right_guesses", "proportion", "The share of the guesses about coins that are right.")
EPSILON_LOWER_BOUND = Quantity(
    "epsilon_lower_bound",
    "exact",
    "The epsilon that the guesses refute at the chosen confidence: 0 says that nothing was detected, not that nothing leaks.",
    range=(0.0, math.inf),
)
CEILING = Quantity(
    "refutation_ceiling",
    "exact",
    "The largest epsilon that this audit could refute, if every guess were right.",
    range=(0.0, math.inf),
)
EXCESS = Quantity(
    "excess",
    "exact",
    "The refuted epsilon less the claimed one: above 0 the claim is refuted.",
    range=(-math.inf, math.inf),
)
ROOM = Quantity(
    "room",
    "exact",
    "The largest epsilon that this audit could refute less the claimed one: at or below 0 it could not have refuted the claim.",
    range=(-math.inf, math.inf),
)


class DifferentialPrivacyAudit(Check):
    """One training with canaries does not refute the differential privacy that is claimed for it.

    What it measures:
        Each canary was trained on or not by its own fair coin; both kinds are given as splits. A canary's score is the negative loss,
        or the reference model's loss less the model's. The `guesses` canaries with the largest scores are guessed to be included, as
        many with the smallest to be excluded, the rest not at all. Their number is fixed before any score is seen: an
        eighth of the canaries on each side, unless it is given. From the share of right guesses follows `epsilon_lower_bound`:
        with the chosen confidence, no smaller epsilon is true at the claimed delta. `excess` is this bound less the claimed epsilon,
        `refutation_ceiling` what the bound would be if all guesses were right, and `room` the ceiling less the claim. A bound of 0
        means that nothing was detected. An audit with `room` at or below 0 could not have refuted the claim, whatever
        the model did, and gives no verdict. `canary_auc` and `right_guesses` describe the scores. `blind_auc` is the
        same area for a classifier that never sees the model: coins cannot be predicted, so where it is far from 0.5 the canaries were
        not chosen by coins.

    Assumptions:
        Each canary was included by an independent fair coin, and each canary is one record in the sense of the claim.
        Numbers of included and excluded canaries that fair coins give in fewer than one of 1000 cases are refused; equal halves are no
        coins either, which their numbers do not show. The claim is about adding or removing a record. A passed audit
        did not refute the claim by these scores of this one model; it proves no privacy, and better canaries or a stronger attack may
        refute what it did not. Where fewer canaries are drawn than there are, they are drawn blindly of both kinds together.

    Cost:
        One forward pass for each drawn canary, two with a reference model, no backward pass; one to five seconds for the blind
        classifier.

    Departures from the paper:
        The paper reports the largest of the bounds over several numbers of guesses; on scores that say nothing this exceeds 0
        far more often than one minus the confidence, so here their number is fixed. Equal scores are put in a
        drawn order. Coins are tested by the numbers of canaries and by a classifier, which the paper takes for granted.

    Sources:
        steinke2023privacy; jagielski2020auditing; das2025blind
    """

    id: ClassVar[str] = "memorization/differential-privacy-audit"
    quantities: ClassVar[tuple[Quantity, ...]] = (
        EXCESS,
        ROOM,
        EPSILON_LOWER_BOUND,
        CEILING,
        RIGHT_GUESSES,
        CANARY_AUC,
        BLIND_AUC,
    )
    gates: ClassVar[tuple[str, ...]] = ("room", "blind_auc")

    included: str = Field("included", description="The split of the canaries whose coins said yes.")
    excluded: str = Field("excluded", description="The split of the canaries whose coins said no.")
    score: Literal["loss", "reference"] = Field(
        "loss", description="The negative loss, or the loss of the subject's reference model less the model's."
    )
    guesses: int | None = Field(
        None, ge=1, description="How many canaries are guessed on each side; an eighth of them where null."
    )
    level: float = Field(0.95, gt=0.5, lt=1, description="The confidence of the lower bound.")
    blind_blocks: int = Field(
        8, ge=2, le=50, description="In how many blocks the blind classifier goes through the canaries."
    )

    @model_validator(mode="after")
    def _two_splits(self) -> Self:
        if self.included == self.excluded:
            raise ValueError(f'included and excluded are both "{self.included}"; they must be different splits')
        return self

    def not_applicable(self, subject: Subject) -> str:
        """Without a claim there is nothing to refute; a score against a reference needs one."""
        if "epsilon" not in subject.claims:
            return "The subject claims no epsilon; if its training was differentially private, name epsilon and delta under `claims:`."
        if self.score == "reference" and subject.reference is None:
            return "The subject names no reference model, with which this prescription compares the losses."
        return ""

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Scores batch by batch, then what needs all of them.

        Yields:
            Scores of each pair of batches for the area, the guesses, the bound with the ceiling, and the blind scores block by block.

        Raises:
            CheckError: The claim lacks a delta, a loss is NaN or infinite, all scores are equal, the canaries are no coin tosses, overlap,
                are exchanged or change at each look, or there are fewer canaries than guesses.
        """
        epsilon, delta = _claim(subject)
        sizes = len(subject.split(self.included)), len(subject.split(self.excluded))
        _refuse_no_coins(sizes, self.splits())
        groups = Groups(subject, context, *self.splits())
        for pair in groups.scored(_score(subject, self.score)):
            yield CANARY_AUC.two_groups(*pair)
        members, others = groups.members, groups.non_members
        refuse_constant(np.concatenate([members, others]), "score")
        refuse_reversed(members, others, "larger losses", self.splits())
        rng = np.random.default_rng(context.number("canaries"))
        taken = drawn_canaries(sizes, (members.size, others.size), rng)
        scores = np.concatenate([members[: taken[0]], others[: taken[1]]])
        side = self._side(scores.size)
        right = right_guesses(scores, np.repeat([True, False], taken), side, rng)
        yield RIGHT_GUESSES.per_sample(right)
        bound = epsilon_lower_bound(scores.size, right.size, int(right.sum()), delta, self.level)
        most = ceiling(scores.size, right.size, delta, self.level)
        yield EPSILON_LOWER_BOUND.exact(bound)
        yield CEILING.exact(most)
        yield EXCESS.exact(bound - epsilon)
        yield ROOM.exact(most - epsilon)
        for block in groups.blind(self.blind_blocks):
            yield BLIND_AUC.two_groups(*block)

    def passes(self, subject: Subject, samples: int) -> Passes:
        """One forward pass for each drawn canary; another one through the reference model where the score needs it."""
        drawn = sum(min(samples, len(subject.split(name))) for name in self.splits())
        return Passes(forward=drawn * (2 if self.score == "reference" else 1))

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Trainings whose epsilon is known, trainings without any, and audits that cannot say anything."""
        return privacy_claims.CONTROLS

    def splits(self) -> tuple[str, str]:
        """Included and excluded canaries."""
        return (self.included, self.excluded)

    def _side(self, count: int) -> int:
        side = count // GUESSED if self.guesses is None else self.guesses
        if 2 * side > count:
            raise CheckError(
                f"{side} guesses on each side, but only {count} canaries were drawn; give more canaries, draw more of them "
                "(`samples`), or guess fewer"
            )
        return side


def _score(subject: Subject, kind: str) -> Score:
    if kind == "loss":
        return lambda batch: -subject.losses(batch).double().cpu().numpy()
    assert subject.reference is not None  # else the check does not apply
    reference = subject.with_model(subject.reference)

    def difference(batch: Batch) -> Floats:
        found: Floats = (reference.losses(batch).double() - subject.losses(batch).double()).cpu().numpy()
        return found

    return difference


def _claim(subject: Subject) -> tuple[float, float]:
    """The claimed epsilon and delta."""
    if not {"epsilon", "delta"} <= subject.claims.keys():
        raise CheckError(
            f'subject "{subject.id}" claims {", ".join(subject.claims) or "nothing"}; an audit needs `epsilon` and `delta` under '
            "`claims:`, with a delta of 0 for pure differential privacy"
        )
    return subject.claims["epsilon"], subject.claims["delta"]


def _refuse_no_coins(sizes: tuple[int, int], splits: tuple[str, str]) -> None:
    """Numbers that fair coins hardly ever give come from another way of choosing, for which the bound does not hold."""
    from scipy.stats import binomtest

    if binomtest(sizes[0], sum(sizes), 0.5).pvalue < NO_COINS:
        raise CheckError(
            f'{sizes[0]} canaries in "{splits[0]}" and {sizes[1]} in "{splits[1]}" were not chosen by fair coins; toss a coin for each '
            "canary, train on those that it chooses, and give both splits whole"
        )

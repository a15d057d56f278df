"""Whether reference models, trained with and without an example, show that the model was trained on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from method_cards.check import Check, Context, Control, Need, Passes
from method_cards.intervals import delong
from method_cards.measurement import Quantity
from method_checks.memorization.controls import retrained
from method_checks.memorization.groups.compared import BLIND_AUC, Groups
from method_checks.memorization.groups.refusals import refuse_constant, refuse_reversed
from method_checks.memorization.groups.threshold import Floats, guesses, non_members_needed
from method_checks.memorization.scores import reference_models
from method_checks.memorization.scores.confidence import logit_scaled_confidence
from method_checks.memorization.shadows import ensemble

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from method_cards.data import Batch
    from method_cards.measurement import Yielded
    from method_cards.subject import Subject

MEMBERSHIP_AUC = Quantity(
    "membership_auc",
    "auc",
    "The chance that a member scores above a non-member: 0.5 when the attack tells nothing.",
    by=("attack",),
)
TRUE_POSITIVE_RATE = Quantity(
    "true_positive_rate",
    "proportion",
    "The share of members that score above a threshold that was fixed on half of the non-members.",
    by=("attack",),
)
FALSE_POSITIVE_RATE = Quantity(
    "false_positive_rate",
    "proportion",
    "The share of the other half of the non-members that score above that threshold.",
    by=("attack",),
)
SHADOW_AUC = Quantity(
    "shadow_auc",
    "exact",
    "The same area with each shadow model as the target once, judged by those that are not of its pair: the mean over shadows.",
    by=("attack",),
)
SHADOW_SPREAD = Quantity(
    "shadow_auc_deviation",
    "exact",
    "The standard deviation of that area over shadows: how far one trained model says something about another.",
    by=("attack",),
)
LOSS_RATIO = Quantity(
    "held_out_loss_ratio",
    "exact",
    "The model's mean loss on its non-members, as a multiple of the shadow models' on theirs: 1 when they were trained alike.",
    range=(0.0, float("inf")),
)

ATTACKS = ("lira-online", "lira-offline", "rmia-online", "rmia-offline")
"""The attacks that need shadow models; `confidence` needs none."""

LEAST_LOSS = 1e-9
"""Mean losses in nats are compared down to this."""


class LikelihoodRatioAttack(Check):
    """Models that were trained with and without an example show whether this model was trained on it.

    What it measures:
        As many members as non-members make a pool. The subject's own training function or recipe trains `shadows` models, each on a random
        half of the pool and on all members that are not in it; pairs of shadows have complementary halves, so that every example was
        trained on by half of them. The logit-scaled confidence of each label by the subject's model is then compared with that by
        the shadows. `lira-online` is the logarithm of the likelihood ratio of two normal distributions, fitted to shadows that
        were and were not trained on the example; `lira-offline` the one-sided tail of the second alone. Below 64 shadows, standard
        deviations are pooled over examples, each around its own mean; from 64 on, each example has its own. `rmia-online` and
        `rmia-offline` divide the label's probability by what it would be without knowledge of the membership, and count over
        how much of a population this ratio dominates `gamma` times; the population is a quarter of the non-members, which
        are left out of the comparison. `confidence` is the same confidence under one threshold, the attack that needs no shadows.
        For each attack, `membership_auc` is the chance that a member scores above a non-member, and `true_positive_rate` the share
        of members above a threshold fixed on every second non-member. `shadow_auc` and `shadow_auc_deviation` are mean and
        standard deviation of the area with each shadow as the target once. `held_out_loss_ratio` tells whether the shadows
        are like the model. `blind_auc` is the area of a classifier that never sees a model.

    Assumptions:
        The members are what the model was trained on, the non-members were never used for it, and both are independent draws of one
        distribution; what the loss attack refuses is refused here too. The training function trains as the model was trained, and on
        nothing but what it is given: where the model's loss on non-members differs much from the shadows', a passed attack proves
        little, and a bound on `held_out_loss_ratio` withholds the verdict. Shadow models that are all the same are refused. The
        attacker knows the recipe and the distribution of the data, and all members that are not in the pool. The interval is over
        examples, given this one model and these shadows; other models of the recipe are seen in `shadow_auc`. An attack whose scores
        are all equal measures nothing, and neither does a rate for which there are too few non-members; the relative attacks need a
        third more of these, for their population.

    Cost:
        `shadows` trainings, stacked where the subject gives a `method_cards.training.Recipe` and its steps are small; of a training
        function nobody knows how long it takes. One forward pass of each shadow and of the model for each
        example of the pool. Other checks of the same run use the same shadows.

    Departures from the paper:
        Carlini et al. query several augmented copies of each example; here it is queried once, as given. They train shadows
        on random halves of one large set; here the members that are not drawn are added to each half, so that shadows see
        as many examples as the model did. Their released code takes one standard deviation over all models' confidences
        where it pools; here the deviations from each example's mean are pooled. Zarifzadeh et al. choose the scale of the offline
        evidence for each data set; here it is a parameter, 0.3, as is gamma.

    Sources:
        carlini2022membership; zarifzadeh2024low; das2025blind; yeom2018privacy
    """

    id: ClassVar[str] = "memorization/likelihood-ratio-attack"
    title: ClassVar[str] = "Likelihood-ratio attack (LiRA)"
    needs: ClassVar[tuple[Need, ...]] = ("trainings",)
    quantities: ClassVar[tuple[Quantity, ...]] = (
        MEMBERSHIP_AUC,
        TRUE_POSITIVE_RATE,
        FALSE_POSITIVE_RATE,
        SHADOW_AUC,
        SHADOW_SPREAD,
        LOSS_RATIO,
        BLIND_AUC,
    )
    gates: ClassVar[tuple[str, ...]] = ("blind_auc", "held_out_loss_ratio")

    members: str = Field("train", description="The split that the model was trained on.")
    non_members: str = Field("test", description="The split that was never used for training.")
    shadows: int = Field(32, ge=8, le=1024, multiple_of=2, description="How many shadow models are trained.")
    false_positive_rate: float = Field(
        0.01, gt=0, lt=1, description="How often the threshold may call a non-member a member."
    )
    gamma: float = Field(
        2.0, ge=1, description="How many times as large a ratio must be to dominate another, for the relative attack."
    )
    offline_scale: float = Field(
        0.3,
        ge=0,
        le=1,
        description="How the relative attack guesses the probability over all models from those that were not trained on the example.",
    )
    blind_blocks: int = Field(
        8, ge=2, le=50, description="In how many blocks the blind classifier goes through the examples."
    )

    @model_validator(mode="after")
    def _two_splits(self) -> Self:
        if self.members == self.non_members:
            raise ValueError(f'members and non_members are both "{self.members}"; they must be different splits')
        return self

    def splits(self) -> tuple[str, str]:
        """Members and non-members."""
        return (self.members, self.non_members)

    def not_applicable(self, subject: Subject) -> str:
        """Without classes or a way to train such a model there is nothing to compare with."""
        return ensemble.not_applicable(subject, self.members)

    def passes(self, subject: Subject, samples: int) -> Passes:
        """The drawn examples through the model, the pool through the shadows, and their trainings."""
        drawn = [min(samples, len(subject.split(name))) for name in self.splits()]
        trainings = Passes.of_trainings(subject, self.shadows, len(subject.split(self.members)))
        return Passes(forward=sum(drawn) + self.shadows * 2 * min(drawn)) + trainings

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Confidences batch by batch, then the trainings, then what each attack makes of them.

        Yields:
            For each attack the scores and the guesses at the threshold; the areas over shadows; the blind scores block by block.

        Raises:
            CheckError: The splits overlap, are exchanged or change at each look, confidences are all equal, or training does not
                depend on what it is given.
        """
        groups = Groups(subject, context, *self.splits())
        for pair in groups.scored(lambda batch: _confidences(subject, batch)):
            yield MEMBERSHIP_AUC.two_groups(*pair, attack="confidence")
        refuse_constant(np.concatenate([groups.members, groups.non_members]), "confidence")
        refuse_reversed(groups.members, groups.non_members, "lower confidences", self.splits())
        yield from self._rates("confidence", groups.members, groups.non_members)
        found = ensemble.shadows(context, subject, *self.splits(), self.shadows)
        references, trained_on = found.confidences.numpy(), found.membership.numpy()
        size = references.shape[1] // 2
        target = np.concatenate([groups.members[:size], groups.non_members[:size]])
        is_member = np.repeat([True, False], size)
        yield LOSS_RATIO.exact(_loss_ratio(target[size:], references, trained_on))
        for attack, (positives, negatives) in self._attacked(target, is_member, references, trained_on).items():
            yield MEMBERSHIP_AUC.two_groups(positives, negatives, attack=attack)
            yield from self._rates(attack, positives, negatives)
        for attack, areas in self._over_shadows(references, trained_on).items():
            yield SHADOW_AUC.exact(float(np.mean(areas)), attack=attack)
            yield SHADOW_SPREAD.exact(float(np.std(areas, ddof=1)), attack=attack)
        for block in groups.blind(self.blind_blocks):
            yield BLIND_AUC.two_groups(*block)

    def _rates(self, attack: str, members: Floats, non_members: Floats) -> Iterator[Yielded]:
        guessed, wrongly = guesses(members, non_members, self.false_positive_rate)
        needs = None if guessed.size else non_members_needed(self.false_positive_rate)
        if needs and attack.startswith("rmia"):
            needs = -(-4 * needs // 3)  # a quarter of the non-members is its population
        yield TRUE_POSITIVE_RATE.per_sample(guessed, needs=needs, attack=attack)
        yield FALSE_POSITIVE_RATE.per_sample(wrongly, needs=needs, attack=attack)

    def _attacked(
        self, target: Floats, is_member: NDArray[np.bool_], references: Floats, trained_on: NDArray[np.bool_]
    ) -> Mapping[str, tuple[Floats, Floats]]:
        """Scores of members and of non-members by attack; both empty where the attack gives everybody the same score."""
        per_example = self.shadows >= reference_models.PER_EXAMPLE
        outside = np.flatnonzero(~is_member)
        population, counted = outside[: len(outside) // 4], outside[len(outside) // 4 :]
        evidence = {
            "rmia-online": reference_models.evidence_online(references, trained_on),
            "rmia-offline": reference_models.evidence_offline(references, trained_on, self.offline_scale),
        }
        scores = {
            "lira-online": reference_models.lira_online(target, references, trained_on, per_example=per_example),
            "lira-offline": reference_models.lira_offline(target, references, trained_on, per_example=per_example),
            **{
                name: reference_models.rmia(target, each, population, self.gamma)
                for name, each in evidence.items()
                if population.size
            },
        }
        found = {}
        for attack in ATTACKS:
            others = counted if attack in evidence else outside
            score = scores.get(attack, np.empty(0))
            tells = score.size > 0 and score.min() < score.max()
            found[attack] = (score[is_member], score[others]) if tells else (np.empty(0), np.empty(0))
        return found

    def _over_shadows(self, references: Floats, trained_on: NDArray[np.bool_]) -> Mapping[str, list[float]]:
        """Areas with each shadow as the target, by attack; its pair is left out, so that every example keeps as many models of each."""
        areas: dict[str, list[float]] = {}
        for number in range(len(references)):
            others = np.arange(len(references)) // 2 != number // 2
            attacked = self._attacked(references[number], trained_on[number], references[others], trained_on[others])
            for attack, (positives, negatives) in attacked.items():
                areas.setdefault(attack, []).append(delong(positives, negatives).estimate if positives.size else 0.5)
        return areas

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Models that leak, models that do not, and comparisons that mean nothing."""
        return retrained.CONTROLS


def _confidences(subject: Subject, batch: Batch) -> Floats:
    return logit_scaled_confidence(subject.outputs(batch).double(), batch.targets).cpu().numpy()


def _loss_ratio(target: Floats, references: Floats, trained_on: NDArray[np.bool_]) -> float:
    """Mean loss of the target on these confidences, by that of the references on what they were not trained on."""
    held_out = np.logaddexp(0, -references[~trained_on]).mean()
    return float((np.logaddexp(0, -target).mean() + LEAST_LOSS) / (held_out + LEAST_LOSS))

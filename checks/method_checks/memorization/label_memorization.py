"""Which labels a recipe can only know by having been trained on them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from method_cards.check import Check, Context, Control, Need, Passes
from method_cards.lazy import torch
from method_cards.measurement import Pictures, Quantity
from method_cards.memo import Memo
from method_checks.memorization.controls import recipes
from method_checks.memorization.labels.counterfactual import (
    lower_bounds,
    reliability,
    scores,
    shares,
    standard_error,
)
from method_checks.memorization.labels.planting import planted_splits
from method_checks.memorization.shadows import ensemble

if TYPE_CHECKING:
    from collections.abc import Iterator

    from method_cards.measurement import Yielded
    from method_cards.subject import Subject

IMAGE = 4
"""The dimensions of a batch of images, ``(example, channel, height, width)``."""

SHOWN = 8
"""How many images are shown."""

TRAINING_ACCURACY = Quantity(
    "training_accuracy", "proportion", "The share of the drawn members whose label the subject's own model predicts."
)
MEMORIZED_SHARE = Quantity(
    "memorized_share",
    "proportion",
    "The share of examples of which it is certain that models predict the label more often, by the given margin, when trained on it.",
)
PLANTED_MEMORIZATION = Quantity(
    "planted_memorization",
    "mean",
    "How much more often a planted wrong label is predicted by models that were trained on it than by those that were not.",
    range=(-1.0, 1.0),
)
HELD_OUT_ACCURACY = Quantity(
    "held_out_accuracy",
    "mean",
    "The share of models not trained on an example that predict its label; planted labels are left out.",
)
RECIPE_GAP = Quantity(
    "recipe_gap",
    "mean",
    "How much more often the subject's model predicts the labels of its members than the retrained models those that they were trained on.",
    range=(-1.0, 1.0),
)
STANDARD_ERROR = Quantity(
    "standard_error", "exact", "The largest standard error that the memorisation score of one example can have."
)
RELIABILITY = Quantity(
    "split_half_reliability",
    "exact",
    "The correlation over examples of the memorisation scores from one half of the models and from the other.",
    range=(-1.0, 1.0),
)


class LabelMemorization(Check):
    """The recipe learns labels by heart that it could not know without having been trained on them.

    What it measures:
        As many members as non-members make a pool. The subject's training function or recipe trains `models` models, each on a random
        half of the pool and on all members outside it, so that each example was trained on by half of the models. The memorisation
        score of an example is the share of models trained on it that predict its label, less the share of the others that do.
        `memorized_share` is the share of examples whose score is above `margin` with the chosen confidence. The confidence holds
        for each example: where no score is above the margin, at most one minus it are counted by chance, usually far fewer.
        Where `planted` is above 0, the labels of that share of all examples are replaced by random other ones before
        training. `planted_memorization` is the mean score of the planted labels: how much more often they are predicted by models
        trained on them, in excess of what errors of the other models give. `memorized_share` is then of the examples with their own
        labels. `held_out_accuracy` is what models know of examples that they were not trained on, `standard_error` how far
        one score may be off, `split_half_reliability` the correlation of scores from both halves of the models, left out where
        all scores are equal. Of images, those with the highest scores are shown.

    Assumptions:
        The training function trains as the model was trained. It is judged, rather than the one model; where the subject's model
        knows its members better than the retrained models know theirs, `recipe_gap` is large, and the verdict is withheld.
        Examples share the models, so that the interval is over examples given these trainings. A memorised label need not be
        wrong: rare and atypical examples can be learned in no other way, and a recipe that memorises none may fail on them. An
        example that stands in the data twice is not memorised in this sense. Scores speak of models trained on this
        many examples; more data lowers them.

    Cost:
        `models` trainings, stacked where the subject gives a `method_cards.training.Recipe` and its steps are small; of a training
        function nobody knows how long it takes. One forward pass of each for each example of the pool.
        Without planted labels, other checks of the same run use the same models.

    Departures from the paper:
        Feldman and Zhang train thousands of models on 70 % of the data each, and cut the estimates at 0.25 (recalled); here it is half of
        the pool, few models, and the margin on a lower limit for each example: Clopper-Pearson limits of both shares at half
        of the error each. Doshi et al. plant wrong results in modular arithmetic and report the accuracy on them; here
        the accuracy of models that were not trained on them is taken away.

    Sources:
        feldman2020what; feldman2020does; doshi2024grok; zhang2017understanding
    """

    id: ClassVar[str] = "memorization/label-memorization"
    needs: ClassVar[tuple[Need, ...]] = ("trainings",)
    quantities: ClassVar[tuple[Quantity, ...]] = (
        MEMORIZED_SHARE,
        PLANTED_MEMORIZATION,
        HELD_OUT_ACCURACY,
        TRAINING_ACCURACY,
        RECIPE_GAP,
        STANDARD_ERROR,
        RELIABILITY,
    )
    gates: ClassVar[tuple[str, ...]] = ("recipe_gap", "standard_error")

    members: str = Field("train", description="The split that the model was trained on.")
    non_members: str = Field("test", description="A split from the same source that was not used for training.")
    models: int = Field(32, ge=4, le=1024, multiple_of=4, description="How many models are trained.")
    margin: float = Field(
        0.25, ge=0, lt=1, description="Above which difference of the two shares a label counts as memorised."
    )
    level: float = Field(0.95, gt=0.5, lt=1, description="The confidence for each example.")
    planted: float = Field(0.0, ge=0, le=0.5, description="Which share of the labels is replaced by wrong ones.")

    @model_validator(mode="after")
    def _two_splits(self) -> Self:
        if self.members == self.non_members:
            raise ValueError(f'members and non_members are both "{self.members}"; they must be different splits')
        return self

    def splits(self) -> tuple[str, str]:
        """Members and non-members."""
        return (self.members, self.non_members)

    def not_applicable(self, subject: Subject) -> str:
        """Without classes or a way to train such a model there is nothing to count."""
        return ensemble.not_applicable(subject, self.members)

    def passes(self, subject: Subject, samples: int) -> Passes:
        """The drawn members through the model, the pool through the retrained models, and their trainings."""
        drawn = [min(samples, len(subject.split(name))) for name in self.splits()]
        trainings = Passes.of_trainings(subject, self.models, len(subject.split(self.members)))
        return Passes(forward=drawn[0] + self.models * 2 * min(drawn)) + trainings

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """What the model knows batch by batch, then the trainings, then the scores.

        Yields:
            Whether the model predicts each member's label, then one number for each example of the pool.

        Raises:
            CheckError: An output is NaN, training does not depend on what it is given, or there is nothing to plant.
        """
        known: list[NDArray[np.bool_]] = []
        for batch in context.batches(self.members):
            known.append((subject.outputs(batch).argmax(1) == batch.targets).cpu().numpy())
            yield TRAINING_ACCURACY.per_sample(known[-1])
        found, is_planted = self._trained(subject, context)
        correct, trained_on = found.correct.numpy(), found.membership.numpy()
        score = scores(correct, trained_on)
        least = lower_bounds(correct, trained_on, self.level)
        yield MEMORIZED_SHARE.per_sample(least[~is_planted] > self.margin)
        yield PLANTED_MEMORIZATION.per_sample(score[is_planted])
        yield HELD_OUT_ACCURACY.per_sample(shares(correct, ~trained_on)[~is_planted])
        size = correct.shape[1] // 2
        gap = np.concatenate(known)[:size] - shares(correct, trained_on)[:size]
        yield RECIPE_GAP.per_sample(gap[~is_planted[:size]])
        yield STANDARD_ERROR.exact(standard_error(trained_on))
        if (correlation := reliability(correct, trained_on)) is not None:
            yield RELIABILITY.exact(correlation)
        yield from self._shown(subject, context, np.where(is_planted, -1.0, score))

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Recipes of one architecture that learn by heart and that do not, and a recipe that is not the model's."""
        return recipes.CONTROLS

    def _trained(self, subject: Subject, context: Context) -> tuple[ensemble.Shadows, NDArray[np.bool_]]:
        """The models, and which examples of the pool have planted labels."""
        if not self.planted:
            found = ensemble.shadows(context, subject, *self.splits(), self.models)
            return found, np.zeros(found.correct.shape[1], dtype=bool)
        data, replaced = planted_splits(subject, self.splits(), self.planted, context.number("planted"))
        changed = replace(subject, data={**subject.data, **data})
        lent = replace(context, subject=changed, memo=Memo())  # what is trained on other labels is nothing to share
        found = ensemble.shadows(lent, changed, *self.splits(), self.models)
        drawn = ensemble.pool(lent, *self.splits())
        return found, np.concatenate(
            [replaced[name][list(part)] for name, part in zip(self.splits(), drawn, strict=True)]
        )

    def _shown(self, subject: Subject, context: Context, score: NDArray[np.float64]) -> Iterator[Pictures]:
        """The images whose own labels have the highest scores."""
        pool = ensemble.pool(context, *self.splits())
        drawn = [(name, index) for name, part in zip(self.splits(), pool, strict=True) for index in part]
        most = [drawn[place] for place in (-score).argsort(kind="stable")[:SHOWN]]
        batches = [subject.batch(name, (index,)) for name, index in most]
        parts = [batch.inputs for batch in batches]
        images = [part for part in parts if isinstance(part, torch.Tensor) and part.dim() == IMAGE]
        if images and len(images) == SHOWN:
            values = torch.cat(images).float().mean(1, keepdim=True).cpu().numpy()
            rows = tuple(
                f"{name} example {index}, label {int(batch.targets)}"
                for (name, index), batch in zip(most, batches, strict=True)
            )
            caption = "Examples whose labels are predicted most because of having been trained on: look at their labels first."
            yield Pictures("most_memorized", caption, ("example",), rows, values, (False,))

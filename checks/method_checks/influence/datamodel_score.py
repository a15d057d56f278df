"""The linear datamodelling score: do influences predict what training on other subsets does?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from method_cards.check import Check, Context, Control, Need, Passes
from method_cards.lazy import torch
from method_cards.measurement import Quantity
from method_cards.training import train_many
from method_checks.influence.controls import predictable
from method_checks.influence.estimators import (
    TRAININGS,
    Method,
    Truth,
    influences_by,
    linear_datamodelling_scores,
    rank_correlations,
    same_class,
    truth_of,
)
from method_checks.influence.gradients import TrainedCopy
from method_checks.influence.trajectories import spread_epochs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import nn

    from method_cards.data import Batch
    from method_cards.measurement import Yielded
    from method_cards.subject import Subject
    from method_cards.training import Checkpoint

BOTH = (-1.0, 1.0)
EXCESS = Quantity(
    "score_over_same_class",
    "mean",
    "The datamodelling score of each test example, less that of merely counting training examples of its class.",
    range=(-2.0, 2.0),
)
SCORE = Quantity(
    "datamodel_score",
    "mean",
    "For each test example, the rank correlation over subsets of the sum of its influences with the margin after training on the subset.",
    range=BOTH,
)
FLOOR = Quantity(
    "same_class_score",
    "mean",
    "The same when every training example of the test example's class has influence 1, and others none: no model is needed for it.",
    range=BOTH,
)
RANDOM = Quantity(
    "random_score", "mean", "The same for influences that are drawn at random: 0 but for chance.", range=BOTH
)
CEILING = Quantity(
    "retraining_agreement",
    "mean",
    "The rank correlation of the margins of two trainings on the same subsets: what they do not share, nothing can predict.",
    range=BOTH,
)
AGREEMENT = Quantity(
    "same_predictions",
    "proportion",
    "The share of test examples to which a model trained on the drawn examples gives the class that the subject's model gives.",
)


class DatamodelScore(Check):
    """Influence estimates predict how a model's outputs change when it is trained on other subsets of the data.

    What it measures:
        Models are trained by the subject's recipe on random halves of the drawn training examples, twice on each half. For each test
        example, the margin (the log-odds of its class) that these models give is compared with what influences predict: the sum over
        the half's members. Their rank correlation over halves is the linear datamodelling score. Predicting is easy to some
        degree: the more examples of a class there are, the surer a model is of it. `score_over_same_class` is the score less that of
        counting examples of the test example's class, on the same test example and the same halves. `retraining_agreement` says how
        well two trainings on the same half predict each other.

    Assumptions:
        The training that is followed on a few hundred examples tells something about the one that made the subject's model;
        `same_predictions` says how alike the models are. The recipe is the subject's. Intervals are over test examples, given
        these halves and these trainings. A constant margin over all halves counts as a correlation of 0. A method that passes is
        better than counting classes, which for decisions about single examples may still be little.

    Cost:
        Two trainings for each half and one for each model that influences are taken from; of a training function nobody knows how
        long it takes. A pass of the test examples through each model, and gradients of training and test examples. Inner products
        of gradients are exact while these fit into a gigabyte, else projected at random to 4,096 dimensions.

    Departures from the paper:
        Park et al. average TRAK over models that were trained on subsets, and use random projections throughout; here one model
        trained on all of the drawn examples serves unless more `models` are asked for, and the system is solved in its dual form, as large
        as the number of examples. Their ridge is zero; here it is chosen on a quarter of the halves, which are not used again, as
        is the penalty of representer points. Halves come in pairs of complements. Representer points fit the last layer anew
        and are refused where their parts do not add up to its logits.

    Sources:
        park2023trak; ilyas2022datamodels; pruthi2020estimating; yeh2018representer; hanawa2021evaluation
    """

    id: ClassVar[str] = "influence/datamodel-score"
    title: ClassVar[str] = "Linear datamodeling score"
    needs: ClassVar[tuple[Need, ...]] = ("gradients", "trainings")
    quantities: ClassVar[tuple[Quantity, ...]] = (EXCESS, SCORE, FLOOR, RANDOM, CEILING, AGREEMENT)
    gates: ClassVar[tuple[str, ...]] = ("retraining_agreement", "same_predictions")

    split: str = Field("test", description="The split whose outputs are predicted.")
    train_split: str = Field("train", description="The split that models are trained on.")
    method: Method = Field(
        "trak",
        description="How influence is estimated; the last gradients are those at the end of the training, without checkpoints.",
    )
    examples: int = Field(200, ge=20, description="How many training examples are drawn; each half holds half of them.")
    subsets: int = Field(64, ge=16, le=10_000, description="How many halves models are trained on.")
    models: int = Field(1, ge=1, le=100, description="How many models influences are taken from and averaged over.")
    checkpoints: int = Field(6, ge=1, le=100, description="How many checkpoints TracIn sums over.")

    def splits(self) -> tuple[str, ...]:
        """Test and training examples."""
        return (self.split, self.train_split)

    def not_applicable(self, subject: Subject) -> str:
        """Without a training, or classes, there is nothing to predict."""
        if not subject.task.endswith("-classification"):
            return "The margin of a class is predicted, and this task has none."
        if subject.train is None:
            return "The subject comes without a function or a recipe that trains such a model; name one under `train:`."
        if self.method == "tracin" and subject.recipe is None:
            return "TracIn needs checkpoints on the way; name a `method_cards.training.Recipe` under `train:`, or choose another method."
        return ""

    def passes(self, subject: Subject, samples: int) -> Passes:
        """Outputs of all models, gradients, and trainings: twice on each half, and on all examples."""
        test = min(samples, len(subject.split(self.split)))
        train = min(self.examples, len(subject.split(self.train_split)))
        rounds = self.models * (self.checkpoints if self.method == "tracin" else 1)
        halves = Passes.of_trainings(subject, TRAININGS * self.subsets, train // 2)
        whole = Passes.of_trainings(subject, self.models, train)
        return Passes((2 * self.subsets + 2) * test + train, rounds * (test + train)) + halves + whole

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Train on all halves and estimate influences, then hand out the scores batch by batch.

        Raises:
            CheckError: An output or a gradient is NaN or infinite, or the method does not hold for this model.
        """
        drawn = subject.split(self.train_split).draw(self.examples, context.number("examples"))
        train = subject.batch(self.train_split, drawn)
        indices = context.indices(self.split)
        test = subject.batch(self.split, indices)
        subject.outputs(test)  # refuses what is not a number before anything is trained
        truth: Truth = context.once(
            ("trainings on random halves", self.split, indices, self.train_split, drawn, self.subsets),
            lambda generator: truth_of(subject, train, test, self.subsets, _on_host(generator)),
        )
        generator = torch.Generator().manual_seed(context.number("models"))
        models = [self._trained(subject, train, generator) for _ in range(self.models)]
        options = [
            influences_by(self.method, TrainedCopy.of(subject, model), kept, train, test, subject.block)
            for model, kept in models
        ]
        used = self.subsets // 4
        own = torch.stack([torch.stack(each) for each in options]).mean(0).cpu().numpy()
        chosen = own[best_of(own, truth, slice(used))]
        compared = {
            SCORE: chosen,
            FLOOR: same_class(train.targets, test.targets).cpu().numpy(),
            RANDOM: np.random.default_rng(context.number("random")).standard_normal(chosen.shape),
        }
        outputs = truth.outputs[:, used:].mean(axis=0)
        scores = {
            quantity: linear_datamodelling_scores(each, truth.members[used:], outputs)
            for quantity, each in compared.items()
        }
        scores[EXCESS] = scores[SCORE] - scores[FLOOR]
        scores[CEILING] = rank_correlations(*truth.outputs[:, used:])
        start = 0
        for batch in context.batches(self.split):
            rows = slice(start, start + len(batch))
            start += len(batch)
            for quantity, values in scores.items():
                yield quantity.per_sample(values[rows])
            yield AGREEMENT.per_sample(_classes(subject, batch) == _classes(subject.with_model(models[0][0]), batch))

    def _trained(
        self, subject: Subject, train: Batch, generator: torch.Generator
    ) -> tuple[nn.Module, Sequence[Checkpoint]]:
        """A model that was trained on all of the drawn examples, and its checkpoints where the recipe gives some."""
        seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
        if subject.recipe is not None:
            keep = spread_epochs(subject.recipe.epochs, self.checkpoints)
            return subject.recipe.followed(train.inputs, train.targets, seed, keep)
        assert subject.train is not None
        everything = torch.ones(1, len(train), dtype=torch.bool, device=train.targets.device)
        return train_many(subject.train, train.inputs, train.targets, everything, [seed])[0], ()

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Methods and trainings of which it is known whether influences predict anything."""
        return predictable.CONTROLS


def best_of(influences: NDArray[np.float64], truth: Truth, subsets: slice) -> int:
    """Which of several influences ``(option, train, test)`` predict these subsets best on average."""
    outputs = truth.outputs[:, subsets].mean(axis=0)
    found = [linear_datamodelling_scores(each, truth.members[subsets], outputs).mean() for each in influences]
    return int(np.argmax(found))


def _classes(subject: Subject, batch: Batch) -> NDArray[np.int64]:
    return np.asarray(subject.outputs(batch).argmax(1).cpu().numpy(), dtype=np.int64)


def _on_host(generator: torch.Generator) -> torch.Generator:
    return torch.Generator().manual_seed(generator.initial_seed())

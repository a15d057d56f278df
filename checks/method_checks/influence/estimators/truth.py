"""What training on random halves does to a model's outputs: the truth that influences are judged by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_cards.training import train_many
from method_checks.influence.estimators.datamodels import random_halves
from method_checks.influence.gradients.objectives import margins_of_logits

if TYPE_CHECKING:
    from torch import nn

    from method_cards.data import Batch
    from method_cards.subject import Subject

Floats: TypeAlias = NDArray[np.float64]

TRAININGS = 2
"""How often each subset is trained on: what two trainings do not agree on, nothing can predict."""


@dataclass(frozen=True)
class Truth:
    """Outputs of models that were trained on subsets.

    Attributes:
        members: Which training examples each subset holds, ``(subset, train)``.
        outputs: Margin of each test example's class by each training, ``(training, subset, test)``.
    """

    members: NDArray[np.bool_]
    outputs: Floats


def truth_of(subject: Subject, train: Batch, test: Batch, subsets: int, generator: torch.Generator) -> Truth:
    """Train on random halves, each twice, and see what the models say of the test examples.

    Raises:
        CheckError: An output is NaN or infinite.
    """
    assert subject.train is not None
    members = random_halves(subsets, len(train), generator)
    found = []
    for _ in range(TRAININGS):
        seeds = torch.randint(2**31 - 1, (subsets,), generator=generator).tolist()
        models = train_many(subject.train, train.inputs, train.targets, members.to(train.targets.device), seeds)
        found.append(np.stack([margins_by(subject, model, test) for model in models]))
    return Truth(members.numpy(), np.stack(found))


def margins_by(subject: Subject, model: nn.Module, test: Batch) -> Floats:
    """Log-odds of each test example's class by another model of the subject's kind, ``(test,)``.

    Raises:
        CheckError: One is NaN or infinite.
    """
    outputs = subject.with_model(model).outputs(test)
    found = margins_of_logits(outputs, test.targets).cpu().numpy()
    if not np.isfinite(found).all():
        raise CheckError("the margin of some test examples is infinite: there must be more than one class")
    return np.asarray(found, dtype=np.float64)

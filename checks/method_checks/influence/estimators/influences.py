"""Influences of training on test examples by each method, from a model that was trained on all of the training examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_cards.training.recipe import taken
from method_checks.influence.estimators.features import last_layer_features
from method_checks.influence.estimators.representer import representer_values
from method_checks.influence.estimators.similarity import cosine_similarities
from method_checks.influence.estimators.trak import trak_scores
from method_checks.influence.gradients import (
    TrainedCopy,
    cross_entropies,
    gradients_of,
    margins,
    projection,
    way_for,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from method_cards.data import Batch
    from method_cards.training import Checkpoint
    from method_checks.influence.gradients import Objective

Method: TypeAlias = Literal["trak", "tracin", "gradient-dot", "representation-cosine", "representer"]
"""How influence is estimated."""

RIDGES = (0.01, 0.1, 1.0, 10.0)
"""Ridges that TRAK may take, in units of the mean squared gradient length."""

DECAYS = (0.001, 0.003, 0.01, 0.03)
"""Penalties that the last layer of representer points may take."""

EXACT = 2**28
"""Up to how many gradient entries inner products are exact; beyond, gradients are projected."""

DIMENSION = 4096
"""To how many dimensions."""


def influences_by(
    method: Method, copy: TrainedCopy, checkpoints: Sequence[Checkpoint], train: Batch, test: Batch, block: int
) -> list[Tensor]:
    """Influences ``(train, test)``, one for each value of what the method leaves open.

    Args:
        method: See `Method`.
        copy: The model at the end of its training on the training examples; it is left at the last checkpoint, or as it is.
        checkpoints: What it was on the way; TracIn sums over them.
        train: Training examples.
        test: Test examples.
        block: How many go through the model at once.

    Raises:
        CheckError: The method does not hold for this model.
    """
    if method == "trak":
        kernel, cross = (each.double() for each in products(copy, margins, train, test))
        chances = torch.cat(
            [_chances(copy, taken(train.inputs, rows), train.targets[rows]) for rows in _rows(train, block)]
        )
        return [trak_scores(kernel, cross, chances, ridge) for ridge in RIDGES]
    if method == "tracin":
        total = torch.zeros(len(train), len(test), dtype=torch.float64, device=train.targets.device)
        for checkpoint in checkpoints:
            copy.load(checkpoint.load())
            total += checkpoint.learning_rate * products(copy, cross_entropies, train, test)[1].double()
        return [total]
    if method == "gradient-dot":
        return [products(copy, cross_entropies, train, test)[1].double()]
    seen, others = (
        torch.cat([last_layer_features(copy, taken(each.inputs, rows)) for rows in _rows(each, block)])
        for each in (train, test)
    )
    if method == "representation-cosine":
        return [cosine_similarities(seen, others)]
    seen, others = (torch.cat([each, torch.ones_like(each[:, :1])], dim=1) for each in (seen, others))
    with torch.no_grad():
        count = copy.adapter.outputs(taken(train.inputs, _rows(train, 1)[0])).shape[1]
    return [representer_values(seen, train.targets, others, test.targets, count, decay) for decay in DECAYS]


def products(copy: TrainedCopy, objective: Objective, train: Batch, test: Batch) -> tuple[Tensor, Tensor]:
    """Inner products of gradients: of training examples with each other ``(train, train)``, and with test examples ``(train, test)``."""
    width = sum(each.numel() for each in copy.trained.values())
    way = way_for(copy, objective, train.inputs, train.targets).gradients
    exact = (len(train) + len(test)) * width <= EXACT
    reduce = None if exact else projection(width, DIMENSION, 0)
    ours, theirs = (gradients_of(copy, objective, each.inputs, each.targets, way, reduce) for each in (train, test))
    if not (bool(torch.isfinite(ours).all()) and bool(torch.isfinite(theirs).all())):
        raise CheckError("some gradients are NaN or infinite; nothing can be measured")
    return ours @ ours.T, ours @ theirs.T


def _chances(copy: TrainedCopy, inputs: Tensor | dict[str, Tensor], targets: Tensor) -> Tensor:
    """The probability of each example's class, ``(batch,)``."""
    with torch.no_grad():
        return torch.sigmoid(margins(copy.adapter, inputs, targets))


def _rows(examples: Batch, size: int) -> tuple[Tensor, ...]:
    found: tuple[Tensor, ...] = torch.arange(len(examples), device=examples.targets.device).split(size)
    return found

"""Losses, gradient lengths and predictions of some examples at every checkpoint of a training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_cards.training.recipe import taken
from method_checks.influence.gradients import cross_entropies, values_and_norms, way_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from method_cards.training import Checkpoint
    from method_checks.influence.gradients import TrainedCopy, Way

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Trace:
    """What some examples went through.

    Attributes:
        losses: Loss in nats, ``(checkpoint, example)``.
        norms: Squared length of the loss gradient, ``(checkpoint, example)``.
        first: The class that is predicted at the first checkpoint, ``(example,)``.
        last: The class that is predicted at the last checkpoint, ``(example,)``.
        rates: Learning rates, ``(checkpoint,)``.
        steps: Squared distance of the trained parameters of neighbouring checkpoints, ``(checkpoint - 1,)``.
        way: How gradients were computed.
    """

    losses: Floats
    norms: Floats
    first: Integers
    last: Integers
    rates: Floats
    steps: Floats
    way: Way


def trace(
    copy: TrainedCopy,
    checkpoints: Sequence[Checkpoint],
    inputs: Tensor | dict[str, Tensor],
    targets: Tensor,
    block: int,
) -> Trace:
    """Take the examples through all checkpoints, once forward and once backward at each.

    Args:
        copy: A model of the checkpoints' architecture; it is left at the last one.
        checkpoints: In the order of training.
        inputs: Encoded, on the copy's device.
        targets: The classes that were trained on, ``(example,)``.
        block: How many examples go through the model at once.

    Raises:
        CheckError: A loss or a gradient is NaN or infinite.
    """
    blocks = torch.arange(len(targets), device=targets.device).split(block)
    losses, norms, steps = [], [], []
    way: Way | None = None
    before: Tensor | None = None
    first: Integers | None = None
    for number, checkpoint in enumerate(checkpoints, 1):
        copy.load(checkpoint.load())
        if way is None:
            way, first = way_for(copy, cross_entropies, inputs, targets), _predicted(copy, inputs, blocks)
        after = torch.cat([each.detach().flatten().double() for each in copy.trained.values()])
        if before is not None:
            steps.append(float((after - before).square().sum()))
        before = after
        parts = [values_and_norms(copy, cross_entropies, taken(inputs, rows), targets[rows], way) for rows in blocks]
        loss, norm = (torch.cat(each).cpu().numpy() for each in zip(*parts, strict=True))
        if not (np.isfinite(loss).all() and np.isfinite(norm).all()):
            raise CheckError(f"losses or gradients at checkpoint {number} of {len(checkpoints)} are NaN or infinite")
        losses.append(loss)
        norms.append(norm)
    assert way is not None
    assert first is not None
    rates = np.array([checkpoint.learning_rate for checkpoint in checkpoints])
    last = _predicted(copy, inputs, blocks)
    return Trace(np.stack(losses), np.stack(norms), first, last, rates, np.array(steps), way)


def _predicted(copy: TrainedCopy, inputs: Tensor | dict[str, Tensor], blocks: Sequence[Tensor]) -> Integers:
    with torch.no_grad():
        return torch.cat([copy.adapter.outputs(taken(inputs, rows)).argmax(1) for rows in blocks]).cpu().numpy()

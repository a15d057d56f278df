"""Trainings in which it is known which labels are wrong: because they were planted, or because people verified them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_checks.influence.gradients import TrainedCopy
from method_checks.influence.trajectories.trace import trace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from method_cards.subject import Subject
    from method_checks.influence.trajectories.trace import Trace

Booleans: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True)
class Training:
    """A training and what is known of its labels.

    Attributes:
        labels: What was trained on, ``(example,)``.
        wrong: Which of them are known to be wrong, ``(example,)``; none where nothing is known.
        planted: Which of them were planted, ``(example,)``.
        known: Whether it is known which labels are wrong.
        trace: What the examples went through.
    """

    labels: NDArray[np.int64]
    wrong: Booleans
    planted: Booleans
    known: bool
    trace: Trace


def training_of(
    subject: Subject, split: str, verified: str, indices: Sequence[int], share: float, checkpoints: int, seed: int
) -> Training:
    """Follow a training on these examples through its checkpoints.

    Args:
        subject: With a recipe, or with checkpoints of its own.
        split: The split that was trained on.
        verified: The split with verified labels; wrong ones are planted where it is empty and there is a recipe.
        indices: Which examples.
        share: How many labels are replaced.
        checkpoints: How many are kept of a training that is followed anew.
        seed: Of the wrong labels and the training.

    Raises:
        CheckError: The verified split has other examples; or nothing was to be replaced by.
    """
    examples = subject.batch(split, indices)
    labels = examples.targets
    wrong = torch.zeros_like(labels, dtype=torch.bool)
    planted = subject.recipe is not None and not verified
    if verified:
        wrong = labels != _verified_labels(subject, split, verified, indices, examples.inputs)
    elif planted:
        labels, wrong = with_wrong_labels(labels, share, torch.Generator().manual_seed(seed))
    model, kept = subject.model, tuple(subject.checkpoints)
    if subject.recipe is not None and not (verified and kept):
        model, kept = subject.recipe.followed(
            examples.inputs, labels, seed % 2**31, spread_epochs(subject.recipe.epochs, checkpoints)
        )
    found = trace(TrainedCopy.of(subject, model), kept, examples.inputs, labels, subject.block)
    is_wrong = wrong.cpu().numpy()
    return Training(
        labels.cpu().numpy(),
        is_wrong,
        is_wrong if planted else np.zeros_like(is_wrong),
        bool(planted or verified),
        found,
    )


def with_wrong_labels(labels: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Replace a share of labels ``(example,)`` by others that occur, each as likely; the new labels, and which were replaced.

    Raises:
        CheckError: There is one class only.
    """
    classes, numbers = torch.unique(labels.cpu(), return_inverse=True)
    if len(classes) == 1:
        raise CheckError(f"all {len(labels)} drawn examples have the class {int(classes)}: no label can be a wrong one")
    chosen = torch.randperm(len(labels), generator=generator)[: max(1, round(share * len(labels)))]
    wrong = torch.zeros(len(labels), dtype=torch.bool)
    wrong[chosen] = True
    shifts = torch.randint(1, len(classes), (len(chosen),), generator=generator)
    numbers[chosen] = (numbers[chosen] + shifts) % len(classes)
    return classes[numbers].to(labels), wrong.to(labels.device)


def spread_epochs(epochs: int, count: int) -> tuple[int, ...]:
    """After which epochs checkpoints are kept: the first, the last, and others ever farther apart, as most is learned early."""
    if epochs <= count:
        return tuple(range(1, epochs + 1))
    chosen = {epochs, *(round(each) for each in np.geomspace(1, epochs, count).tolist())}
    left = (epoch for epoch in range(1, epochs) if epoch not in chosen)
    while len(chosen) < count:  # where rounding made two of them one
        chosen.add(next(left))
    return tuple(sorted(chosen)[-count:])


def _verified_labels(
    subject: Subject, split: str, verified: str, indices: Sequence[int], inputs: Tensor | Mapping[str, Tensor]
) -> Tensor:
    sizes = len(subject.split(split)), len(subject.split(verified))
    if sizes[0] == sizes[1]:
        found = subject.batch(verified, indices)
        if _equal(inputs, found.inputs):
            return found.targets
    raise CheckError(
        f'the splits "{split}" ({sizes[0]} examples) and "{verified}" ({sizes[1]}) do not hold the same inputs in the same order, so '
        "their labels cannot be compared"
    )


def _equal(one: Tensor | Mapping[str, Tensor], other: Tensor | Mapping[str, Tensor]) -> bool:
    if isinstance(one, torch.Tensor) or isinstance(other, torch.Tensor):
        return isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor) and torch.equal(one, other)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)

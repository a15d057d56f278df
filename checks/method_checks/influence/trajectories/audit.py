"""The list of suspects: examples that a person should look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from method_cards.lazy import torch
from method_cards.measurement import Pictures

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from method_cards.subject import Subject
    from method_checks.influence.trajectories.scores import Floats
    from method_checks.influence.trajectories.trainings import Training


def audit_list(
    subject: Subject, split: str, indices: Sequence[int], training: Training, scores: Floats, count: int
) -> Iterator[Pictures]:
    """The examples that score highest, with their numbers, labels and predictions; planted labels are left out.

    Images are shown as they are; of other inputs, the loss at each checkpoint.

    Args:
        subject: Whose data they are.
        split: The split they are drawn from.
        indices: Their numbers in the split.
        training: What they went through.
        scores: Higher is more suspect, ``(example,)``.
        count: How many are shown at most.
    """
    order = np.argsort(-np.where(training.planted, -np.inf, scores), kind="stable")
    shown = order[: min(count, int((~training.planted).sum()))].tolist()
    if not shown:
        return
    inputs = subject.batch(split, [indices[row] for row in shown]).inputs
    is_image = isinstance(inputs, torch.Tensor) and inputs.dim() == 4 and subject.task == "image-classification"  # noqa: PLR2004
    if is_image and isinstance(inputs, torch.Tensor):
        values = inputs.detach().float().mean(1).cpu().numpy()
    else:
        values = training.trace.losses[:, shown].T.astype(np.float32)
    yield Pictures(
        "suspects",
        "Is the label right? The examples whose influence on their own loss is largest, "
        + ("as mean over channels." if is_image else "with their loss at each checkpoint."),
        ("image",) if is_image else ("loss",),
        tuple(_title(subject, split, indices[row], training.labels[row], training.trace.last[row]) for row in shown),
        values[:, None].astype(np.float32),
        (False,),
    )


def _title(subject: Subject, split: str, index: int, label: int, predicted: int) -> str:
    return f"{split} {index}: labelled {_name(subject, label)}, predicted {_name(subject, predicted)}"


def _name(subject: Subject, number: int) -> str:
    return subject.classes[number] if 0 <= number < len(subject.classes) else str(number)

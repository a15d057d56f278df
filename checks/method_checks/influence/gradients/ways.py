"""Which way to single gradients holds for a model: tried on a few examples, against one backward pass for each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from method_cards.lazy import torch
from method_checks.influence.gradients.closed_form import closed_form, obstacle
from method_checks.influence.gradients.per_example import PerExample, gradients_of

if TYPE_CHECKING:
    from torch import Tensor

    from method_checks.influence.gradients.copies import TrainedCopy
    from method_checks.influence.gradients.objectives import Examples, Objective

PROBED = 3
"""On how many examples a way is tried."""

AGREES = 1e-3
"""The relative difference up to which two ways agree: rounding is far below, a missing term far above."""


@dataclass(frozen=True)
class Way:
    """How gradients of single examples are computed.

    Attributes:
        norms: How their squared lengths are: in closed form where that holds, else from the gradients.
        gradients: How the gradients are.
        because: Why the closed form is not used; empty when it is.
    """

    norms: Literal["closed-form", "vmap", "loop"]
    gradients: PerExample
    because: str = ""


def way_for(copy: TrainedCopy, objective: Objective, inputs: Examples, targets: Tensor) -> Way:
    """Look at the model once, and try what should hold on the first few of these examples."""
    few = inputs[:PROBED] if isinstance(inputs, torch.Tensor) else {k: v[:PROBED] for k, v in inputs.items()}
    arguments = (copy, objective, few, targets[:PROBED])
    truth = gradients_of(*arguments, "loop")
    gradients: PerExample = "vmap" if _vmap_agrees(arguments, truth) else "loop"
    because = obstacle(*arguments)
    if not because and not _close(closed_form(*arguments)[1], truth.double().square().sum(1)):
        because = "it disagrees with one backward pass for each example; do the model's examples see each other?"
    return Way(gradients if because else "closed-form", gradients, because)


def values_and_norms(
    copy: TrainedCopy, objective: Objective, inputs: Examples, targets: Tensor, way: Way
) -> tuple[Tensor, Tensor]:
    """The objective of each example and the squared length of its gradient, both ``(batch,)`` float64."""
    if way.norms == "closed-form":
        return closed_form(copy, objective, inputs, targets)
    with torch.no_grad():
        values = objective(copy.adapter, inputs, targets).double()
    return values, gradients_of(copy, objective, inputs, targets, way.norms, _lengths)[:, 0]


def _lengths(gradients: Tensor) -> Tensor:
    return gradients.square().sum(1, keepdim=True, dtype=torch.float64)


def _vmap_agrees(arguments: tuple[TrainedCopy, Objective, Examples, Tensor], truth: Tensor) -> bool:
    try:
        found = gradients_of(*arguments, "vmap")
    except (
        RuntimeError,
        NotImplementedError,
        ValueError,
        TypeError,
    ):  # what vmap raises for code that it cannot follow
        return False
    return _close(found, truth)


def _close(found: Tensor, truth: Tensor) -> bool:
    difference, size = (each.reshape(len(each), -1).norm(dim=1) for each in (found - truth, truth))
    return bool((difference <= AGREES * size).all())

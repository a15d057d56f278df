"""Of what a gradient is taken: one number for each example, never their mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from method_cards.adapters import Adapter, CausalLanguageModelAdapter
from method_cards.errors import CheckError
from method_cards.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

Examples: TypeAlias = "Tensor | dict[str, Tensor]"
"""Encoded inputs, the batch first."""

Objective: TypeAlias = Callable[[Adapter, "Examples", "Tensor"], "Tensor"]
"""Gives one number for each example, ``(batch,)``, that is differentiable in the parameters."""


def cross_entropies(adapter: Adapter, inputs: Examples, targets: Tensor) -> Tensor:
    """Cross-entropy in nats, ``(batch,)``; mean token loss of each text for language models.

    It is what `Adapter.losses` gives, without the look at the targets' values that ``vmap`` forbids.
    """
    if isinstance(adapter, CausalLanguageModelAdapter):
        return adapter.losses(inputs, targets)
    return torch.nn.functional.cross_entropy(adapter.outputs(inputs).double(), targets, reduction="none")


def margins(adapter: Adapter, inputs: Examples, targets: Tensor) -> Tensor:
    """Log-odds of the target class, log(p / (1 − p)), ``(batch,)``, from the logits, so that no probability is rounded to 1.

    Raises:
        CheckError: The model predicts tokens, not one class.
    """
    if isinstance(adapter, CausalLanguageModelAdapter):
        raise CheckError("the margin is defined for classifiers; a language model has no single class")
    return margins_of_logits(adapter.outputs(inputs), targets)


def margins_of_logits(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-odds of the target class, of logits ``(..., batch, class)`` and classes ``(batch,)``."""
    logits = logits.double()
    own = torch.arange(logits.shape[-1], device=logits.device) == targets[:, None]  # one_hot fails under vmap
    others = logits.masked_fill(own, -torch.inf).logsumexp(-1)
    return (logits * own).sum(-1) - others

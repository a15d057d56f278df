"""The representation that a classifier's last linear layer sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from method_cards.errors import CheckError
from method_cards.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from method_checks.influence.gradients import TrainedCopy


def last_layer_features(copy: TrainedCopy, inputs: Tensor | dict[str, Tensor]) -> Tensor:
    """What goes into the linear layer whose output are the logits, ``(batch, width)``.

    Raises:
        CheckError: The logits do not come straight from a linear layer.
    """
    calls: list[tuple[Tensor, Tensor]] = []

    def note(_layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        calls.append((args[0].detach(), output.detach().clone()))

    linear = [layer for layer in copy.model.modules() if isinstance(layer, torch.nn.Linear)]
    handles = [layer.register_forward_hook(note) for layer in linear]
    try:
        with torch.no_grad():
            logits = copy.adapter.outputs(inputs)
    finally:
        for handle in handles:
            handle.remove()
    for given, output in reversed(calls):
        if output.shape == logits.shape and torch.equal(output, logits):
            return given
    raise CheckError(
        "the logits do not come straight from a linear layer, so there is no last-layer representation; choose another method"
    )

"""Squared lengths of all examples' gradients from one forward and one backward pass, exactly."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from method_cards.lazy import torch
from method_checks.influence.gradients.rules import rule_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn

    from method_checks.influence.gradients.copies import TrainedCopy
    from method_checks.influence.gradients.objectives import Examples, Objective


@dataclass(frozen=True)
class _Call:
    """One call of a layer: what went in, and where in the graph its output's gradient comes back."""

    layer: nn.Module
    inputs: Tensor
    edge: Any


def closed_form(copy: TrainedCopy, objective: Objective, inputs: Examples, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The objective of each example and the squared length of its gradient, both ``(batch,)`` float64.

    It holds for models of which `obstacle` finds nothing. The objective's values are summed, so that each example's gradient is
    its own, and only gradients of layer outputs are computed, none of weights.
    """
    with torch.enable_grad(), _recorded(copy, len(targets)) as calls:
        values = objective(copy.adapter, inputs, targets)
    edges = [call.edge for call in calls]
    found: Sequence[Tensor | None] = torch.autograd.grad(values.sum(), edges, allow_unused=True) if edges else ()
    total = torch.zeros(len(targets), dtype=torch.float64, device=targets.device)
    for call, gradient in zip(calls, found, strict=True):
        rule = rule_for(call.layer)
        if gradient is not None and rule is not None:
            total += rule(call.layer, _precise(call.inputs), _precise(gradient))
    return values.detach().double(), total


def obstacle(copy: TrainedCopy, objective: Objective, inputs: Examples, targets: Tensor) -> str:
    """Why the closed form does not hold for this model; empty when nothing speaks against it.

    Cross terms arise where a parameter is used twice: in a layer that is called again, in tied layers, or in a function that takes
    it from its layer. The graph of one forward pass tells how often each parameter was used.
    """
    for name, layer in copy.model.named_modules():
        if any(each.requires_grad for each in layer.parameters(recurse=False)) and rule_for(layer) is None:
            return f'there is no closed form for "{name or "the model itself"}" ({type(layer).__name__})'
    with torch.enable_grad(), _recorded(copy, len(targets)) as calls:
        values = objective(copy.adapter, inputs, targets)
    if values.grad_fn is None:
        return "nothing that is trained acts on the output"
    uses = _uses(values)
    called = Counter(id(each) for call in calls for each in call.layer.parameters(recurse=False))
    for name, parameter in copy.trained.items():
        if uses[id(parameter)] > 1 or called[id(parameter)] > 1:
            return f'"{name}" is used more than once'
        if uses[id(parameter)] != called[id(parameter)]:
            return f'"{name}" is not used by its layer'
    if any(len(call.inputs) != len(targets) for call in calls):
        return "a layer does not have the examples as its first dimension"
    return ""


def _precise(values: Tensor) -> Tensor:
    """Squares of half precision would overflow."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


@contextmanager
def _recorded(copy: TrainedCopy, examples: int) -> Iterator[list[_Call]]:
    """Note each call of a layer with trained parameters.

    A layer that is called once for all examples, as embeddings of positions are, gives each of them an output of its own, so that
    its gradients come back one by one.
    """
    calls: list[_Call] = []

    def note(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Tensor | None:
        given = args[0] if args else kwargs.get("input")
        if not (isinstance(output, torch.Tensor) and output.requires_grad and isinstance(given, torch.Tensor)):
            return None
        given, own = given.detach(), output
        if len(given) == len(output) == 1 < examples:
            given, own = given.expand(examples, *given.shape[1:]), output.expand(examples, *output.shape[1:])
        calls.append(_Call(layer, given, torch.autograd.graph.get_gradient_edge(own)))
        return own.clone() if own._is_view() else None  # noqa: SLF001  (a view that is changed in place loses its edge)

    layers = [
        layer for layer in copy.model.modules() if any(each.requires_grad for each in layer.parameters(recurse=False))
    ]
    handles = [layer.register_forward_hook(note, prepend=True, with_kwargs=True) for layer in layers]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _uses(values: Tensor) -> Counter[int]:
    """How often each parameter enters the graph of these values, by identity."""
    counted: Counter[int] = Counter()
    seen, waiting = set(), [values.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for following, _ in node.next_functions:
            variable = getattr(following, "variable", None)
            if variable is not None:
                counted[id(variable)] += 1
            waiting.append(following)
    return counted

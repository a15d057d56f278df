"""What an explainer needs of a network, and what it does to one: read off a forward pass, and off one explanation.

Sources: kokhlikyan2020captum (modules used once, no functional activations: the assumptions of methods that hook modules).
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from method_cards.errors import CheckError
from method_cards.fitness import ends_in_probability, operation
from method_cards.lazy import torch
from method_cards.subject import preserved
from method_checks.attribution.explainers import CustomExplainer
from method_checks.attribution.explainers.gradients import logit_gradients

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from method_cards.subject import Subject, View

OPERATIONS = (
    "Relu", "LeakyRelu", "Prelu", "RreluWithNoise", "Elu", "Gelu", "Silu", "Mish", "Softplus", "Hardtanh", "Hardswish", "Hardsigmoid",
    "Sigmoid", "Tanh", "LogSigmoid", "MaxPool2DWithIndices", "MaxPool3DWithIndices",
)  # fmt: skip
"""Activations and max-pooling, as autograd names what it records of them."""

ROUNDINGS = 8
"""How many roundings of the largest number two ways to compute the same may differ by."""

_MODULES = ("torch.nn.modules.activation", "torch.nn.modules.pooling")

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True)
class Structure:
    """What hooks on modules would see of a network's forward pass, and what they would miss.

    Attributes:
        reused: Activation and pooling modules that are called more than once.
        hidden: Activations and max-poolings that autograd recorded and that no such module made.
        in_place: Activation modules that overwrite their input.
        is_probability: Whether the last thing that the network computes is a softmax or a sigmoid.
    """

    reused: int
    hidden: int
    in_place: int
    is_probability: bool


@dataclass
class Traces:
    """What one explanation left behind.

    Attributes:
        training_passes: Module calls in training mode while it ran.
        training_modules: Modules that were in training mode when it returned.
        hooks: Hooks on modules that were not there before.
        tensors: Parameters and buffers with other values than before.
        gradients: Parameters whose ``.grad`` is not what it was.
    """

    training_passes: int = 0
    training_modules: int = 0
    hooks: int = 0
    tensors: int = 0
    gradients: int = 0


@dataclass
class Watched:
    """An explainer whose function is a person's own, seen from outside: it is called as ever, and put right afterwards.

    Attributes:
        explainer: What to explain with.
        state: Torch's random state when the function returned last; None for explainers of this package, which do not touch it.
        training_modules: The most modules that were in training mode when it returned.
    """

    explainer: Any
    state: Tensor | None = None
    training_modules: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.explainer, CustomExplainer):
            return
        function = self.explainer.function

        def watched(model: nn.Module, inputs: Any, targets: Tensor) -> Any:
            found = function(model, inputs, targets)
            self.state = torch.get_rng_state()
            self.training_modules = max(self.training_modules, sum(module.training for module in model.modules()))
            model.eval()  # left in training mode, the explanation would be refused and nothing else be found out
            return found

        self.explainer = replace(self.explainer, function=watched)


def changed(one: Tensor, other: Tensor, tolerance: float) -> Tensor:
    """Which examples' numbers differ by more than a share of the largest of them.

    Args:
        one: ``(batch, ...)``.
        other: The same shape.
        tolerance: The share.

    Returns:
        ``(batch,)`` bool; False where all numbers are zero. In half precision, what rounding alone makes is no difference.
    """
    if one.is_floating_point():
        tolerance = max(tolerance, ROUNDINGS * torch.finfo(one.dtype).eps)
    first, second = one.double().flatten(1), other.double().flatten(1)
    largest = torch.maximum(first.abs().amax(1), second.abs().amax(1))
    return (first - second).abs().amax(1) > tolerance * largest


def unreached(view: View) -> Tensor:
    """Examples at which the gradient of the target's logit is zero everywhere, not finite, or cannot be had, ``(batch,)`` bool."""
    try:
        found = logit_gradients(view, view.features, view.rows).flatten(1)
    except CheckError:
        return torch.ones(len(view.features), dtype=torch.bool, device=view.features.device)
    return ~torch.isfinite(found).all(1) | (found == 0).all(1)


def structure(view: View) -> Structure:
    """Trace one forward pass, of the first two examples."""
    calls: dict[nn.Module, int] = {}
    stops: dict[nn.Module, list[Any]] = {}
    made: set[Any] = set()

    def before(module: nn.Module, given: Any) -> None:
        calls[module] = calls.get(module, 0) + 1
        stops[module] = [part.grad_fn for part in given if isinstance(part, torch.Tensor)]

    def after(module: nn.Module, _given: Any, output: Any) -> None:
        parts = output if isinstance(output, tuple | list) else (output,)
        for part in parts:
            if isinstance(part, torch.Tensor):
                made.update(_recorded(part.grad_fn, stops[module]))

    with torch.enable_grad(), ExitStack() as stack:
        for module in filter(_is_nonlinear, view.model.modules()):
            stack.callback(module.register_forward_pre_hook(before).remove)
            stack.callback(module.register_forward_hook(after).remove)
        leaf = view.features[:2].detach().clone().requires_grad_()
        logits = view.outputs(leaf, view.rows[:2])
    hidden = [node for node in _recorded(logits.grad_fn, []) if node not in made and operation(node) in OPERATIONS]
    last = bool(ends_in_probability(logits.grad_fn))
    return Structure(
        reused=sum(count > 1 for count in calls.values()),
        hidden=len(hidden),
        in_place=sum(bool(getattr(module, "inplace", False)) for module in calls),
        is_probability=last,
    )


@contextmanager
def audited(subject: Subject, watched: Watched) -> Iterator[Traces]:
    """See what is done to the model within the block, and undo it afterwards.

    The traces are complete when the block has ended.
    """
    found = Traces()
    model = subject.model

    def count(module: nn.Module, _given: Any) -> None:
        found.training_passes += module.training

    with preserved(subject), ExitStack() as stack:
        for module in model.modules():
            stack.callback(module.register_forward_pre_hook(count).remove)
        hooks = _hooks(model)
        tensors = {name: tensor.detach().clone() for name, tensor in _tensors(model)}
        gradients = {name: _copied(parameter.grad) for name, parameter in model.named_parameters()}
        yield found
        found.training_modules = max(watched.training_modules, sum(module.training for module in model.modules()))
        found.hooks = _hooks(model) - hooks
        found.tensors = sum(
            name not in tensors or not _same(tensor.detach(), tensors[name]) for name, tensor in _tensors(model)
        )
        found.gradients = sum(
            not _same(parameter.grad, gradients[name]) for name, parameter in model.named_parameters()
        )


def _is_nonlinear(module: nn.Module) -> bool:
    return any(kind.__module__ in _MODULES for kind in type(module).__mro__) and not isinstance(
        module, torch.nn.MultiheadAttention
    )


def _recorded(start: Any, stops: list[Any]) -> list[Any]:
    """All operations that autograd recorded from one back to others, or to the leaves."""
    seen: set[Any] = set(stops)
    waiting = [start]
    found = []
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        found.append(node)
        waiting.extend(parent for parent, _ in node.next_functions)
    return found


def _hooks(model: nn.Module) -> int:
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in _HOOKS)


def _tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]


def _copied(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().clone()


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.shape == other.shape and torch.equal(one, other)

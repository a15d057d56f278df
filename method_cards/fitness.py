"""Whether a model can be measured at all: it can be called, gives the same twice, treats each example by itself, and gives logits.

A model that cannot is refused before anything is measured: each number would be wrong, and nothing would show it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from method_cards.adapters import CLASSIFICATION, arguments, call
from method_cards.data import Split
from method_cards.errors import CheckError, InputError
from method_cards.lazy import torch
from method_cards.subject import preserved

if TYPE_CHECKING:
    from torch import Tensor, nn

    from method_cards.subject import Subject

EXAMPLES = 4
"""How many examples are looked at."""

TOLERANCE = 0.05
"""The difference, as a share of an example's largest output, that rounding and quantisation do not make."""

PROBABILITIES = ("Softmax", "Sigmoid")
"""Operations that make probabilities of scores, as autograd names what it records of them."""

SHAPING = (
    "Cat",
    "Neg",
    "Div",
    "View",
    "UnsafeView",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Select",
    "Slice",
    "Clone",
    "ToCopy",
    "T",
)
"""Operations that only rearrange scores, or halve and negate the one logit of a binary model."""


def unfit(subject: Subject) -> str:
    """What of the model no check could measure rightly, and what to do; empty where nothing is known against it.

    Raises:
        InputError: Examples of a split cannot be read.
    """
    with preserved(subject):
        for split in subject.data.values():
            assert isinstance(split, Split)
            split.take(range(min(len(split), 2)))
        name = next(iter(subject.data))
        places = range(min(len(subject.split(name)), EXAMPLES))
        try:
            inputs = subject.batch(name, places).inputs
        except CheckError as error:
            raise InputError(str(error)) from error
        try:
            with torch.no_grad():
                call(subject.model, inputs)
        except Exception as error:  # noqa: BLE001  (whatever a person's model raises)
            return (
                f'the model cannot be called with {len(places)} examples of the split "{name}" ({_shapes(inputs)}): '
                f"{type(error).__name__}: {error}{uncallable(subject.model, inputs, error)}"
            )
        return _unfit_classifier(subject, name, inputs, places) if subject.task in CLASSIFICATION else ""


def _unfit_classifier(subject: Subject, name: str, inputs: Tensor | dict[str, Tensor], places: range) -> str:
    with torch.no_grad():
        outputs, again = subject.adapter.outputs(inputs), subject.adapter.outputs(inputs)
        if not bool(outputs.isfinite().all()):
            return ""  # the checks tell how many are not
        if place := _differing(outputs, again):
            return (
                f"the model gives other outputs each time it is called with the same examples ({place}), so that every result would be "
                "random: take out what is random in evaluation mode, such as `F.dropout(x)` without `training=self.training`"
            )
        try:
            alone = torch.cat([subject.adapter.outputs(subject.batch(name, [place]).inputs) for place in places])
        except Exception as error:  # noqa: BLE001  (whatever a person's model raises)
            return (
                f"the model cannot be called with one example alone ({type(error).__name__}: {error}), but its outputs have to be those of "
                "each example by itself: let it take batches of any size, with no statistics of the batch and no `squeeze()` of its axis"
            )
        if place := _differing(outputs, alone):
            return (
                f"the model's outputs for an example depend on the examples beside it ({place}), so that every result would depend on the "
                "size of batches: look for statistics of the batch, for padding that counts as content, and for axes that are mixed up"
            )
    return _probabilities(subject, inputs)


def _probabilities(subject: Subject, inputs: Tensor | dict[str, Tensor]) -> str:
    """Whether the outputs are probabilities where logits are needed."""
    with torch.enable_grad():
        outputs = subject.adapter.outputs(
            {name: _leaf(part) for name, part in inputs.items()} if isinstance(inputs, Mapping) else _leaf(inputs)
        )
    made_by = ends_in_probability(outputs.grad_fn)
    if not made_by and not bool(probabilities(outputs.detach()).all()):
        return ""
    last, inverse = ("sigmoid", "torch.logit(p)") if made_by == "Sigmoid" else ("softmax", "p.log()")
    return (
        f"the model gives probabilities p, where logits are needed: its losses and the explanations of its logits would be wrong; leave "
        f"the {last} at its end out, or return `{inverse}`"
    )


def probabilities(logits: Tensor, tolerance: float = 1e-4) -> Tensor:
    """Rows that are not negative and sum to one: scores after a softmax, ``(batch,)`` bool."""
    return (logits >= 0).all(1) & ((logits.double().sum(1) - 1).abs() <= tolerance)


def ends_in_probability(node: Any) -> str:
    """The softmax or the sigmoid that a network's last operation is, as autograd names it; empty when it is another."""
    while node is not None and operation(node) in SHAPING:
        node = next((parent for parent, _ in node.next_functions if parent is not None), None)
    return operation(node) if node is not None and operation(node) in PROBABILITIES else ""


def operation(node: Any) -> str:
    """What autograd recorded, such as ``Relu``."""
    name: str = node.name().partition("Backward")[0]
    return name.removesuffix("Kernel")


def _differing(one: Tensor, other: Tensor) -> str:
    """The largest difference between outputs that should be equal, in words; empty where it is small."""
    if one.shape != other.shape:
        return f"{tuple(one.shape)} and {tuple(other.shape)}"
    first, second = one.double(), other.double()
    largest = torch.maximum(first.abs(), second.abs()).amax(1, keepdim=True).clamp(min=torch.finfo(one.dtype).tiny)
    share = (first - second).abs() / largest
    if not share.numel() or bool(share.max() <= TOLERANCE):
        return ""
    place = divmod(int(share.argmax()), share.shape[1])
    return f"{float(first[place]):.4g} and {float(second[place]):.4g}"


def _leaf(part: Tensor) -> Tensor:
    return part.detach().requires_grad_() if part.is_floating_point() else part


def _shapes(inputs: Tensor | dict[str, Tensor]) -> str:
    named = inputs if isinstance(inputs, Mapping) else {"": inputs}
    return ", ".join(f"{name} {part.dtype} {tuple(part.shape)}".strip() for name, part in named.items())


def uncallable(model: nn.Module, inputs: Tensor | dict[str, Tensor], error: Exception) -> str:
    """A hint where it can be seen why a model cannot be called with these inputs; empty elsewhere."""
    parts = list(inputs.values()) if isinstance(inputs, Mapping) else [inputs]
    given = {part.dtype for part in parts if part.is_floating_point()} or {part.dtype for part in parts}
    own = {part.dtype for part in model.parameters() if part.is_floating_point()}
    if isinstance(inputs, Mapping) and not arguments(model, inputs)[1]:
        return (
            f"; it was called with one dictionary, since its forward has no parameters called {', '.join(inputs)}: rename them, or leave "
            "out what it does not take"
        )
    is_type = isinstance(error, RuntimeError) and "type" in str(
        error
    )  # token ids are of another type, too, and rightly
    if not is_type or len(given) != 1 or len(own) != 1 or given == own:
        return ""
    return f"; its parameters are {own.pop()} and its inputs {given.pop()}: convert the data, or the model"

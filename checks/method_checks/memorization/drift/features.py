"""How a model's answer to an example changes when its parameters take one step that makes the example's loss larger."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from method_cards.adapters import CausalLanguageModelAdapter, as_logits, as_tensor, call, token_ids
from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_checks.influence.gradients import cross_entropies, gradients_of, way_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from method_cards.adapters import Adapter
    from method_checks.influence.gradients import TrainedCopy
    from method_checks.influence.gradients.objectives import Examples
    from method_checks.influence.gradients.per_example import PerExample

DIRECTIONS = 8
"""On how many fixed directions the change of hidden activations is projected."""

NAMES = (
    "loss_jump",
    "divergence",
    "hidden_drift",
    "hidden_turn",
    *(f"direction_{each}" for each in range(1, DIRECTIONS + 1)),
)
"""What is measured of each example; see `drifts`."""

NUMBERS = 2**24
"""How many stepped parameters, or logits, are held at once."""

SINGLE = 32
"""The bits of a number in single precision."""

LEAST = 1e-12
"""What is smaller counts as no change."""


@dataclass(frozen=True)
class Probe:
    """A model, and how its changes are looked at.

    Attributes:
        copy: A copy of the subject's model.
        layer: The name of its last layer, whose input is the hidden activation; empty when the whole model is one layer.
        directions: Fixed directions of the hidden activation, ``(width, direction)``.
        step: How far the parameters move, as a share of their length.
        way: Whether many examples go through together, each with parameters of its own, or one after the other.
        chunk: How many examples go through together at most.
    """

    copy: TrainedCopy
    layer: str
    directions: Tensor
    step: float
    way: PerExample
    chunk: int


def probe(copy: TrainedCopy, inputs: Examples, targets: Tensor, step: float, generator: torch.Generator) -> Probe:
    """Look at a model with some examples once: find its last layer, and whether many examples can go through together.

    Args:
        copy: A copy of the subject's model.
        inputs: Encoded inputs of a few examples.
        targets: Their classes ``(batch,)``.
        step: See `Probe`.
        generator: Where the directions come from.

    Raises:
        CheckError: The parameters are in half precision, which rounds a small step away, or no layer is called with activations.
    """
    if rounded := [name for name, each in copy.trained.items() if torch.finfo(each.dtype).bits < SINGLE]:
        raise CheckError(
            f"{len(rounded)} parameters ({rounded[0]} first) are in half precision, where a step of {step:g} of their length is lost in "
            "rounding; load the model in single precision for this check"
        )
    layer = last_layer(copy, inputs)
    logits, hidden = _one(copy, layer, _row(inputs, 0))
    width = hidden.shape[-1]
    directions = torch.randn(width, DIRECTIONS, generator=generator, device=hidden.device) / width**0.5
    parameters = sum(each.numel() for each in copy.trained.values())
    chunk = max(1, NUMBERS // max(parameters, logits.numel()))
    with exact_attention():
        way = way_for(copy, cross_entropies, inputs, targets).gradients
    found = Probe(copy, layer, directions, step, way, chunk)
    return found if found.way == "loop" or _many_work(found, inputs, targets) else _alone(found)


def drifts(given: Probe, inputs: Examples, targets: Tensor) -> Tensor:
    """Take one step of gradient ascent on each example by itself, and measure what it changes for this example.

    The parameters w become w + s |w| g / |g|, where g is the gradient of the example's loss. Measured are: by how much the loss grew;
    the Kullback-Leibler divergence of the output from what it was; the length of the change of the hidden activation, and one less
    the cosine of it with what it was; the size of the change's mean along each fixed direction. For language models all are means over
    the tokens that are predicted. Each is a logarithm, since all are positive and differ by orders of magnitude.

    Args:
        given: The model.
        inputs: Encoded inputs; texts padded on the right.
        targets: Classes ``(batch,)``.

    Returns:
        ``(batch, feature)`` float64, in the order of `NAMES`.
    """
    parts = []
    for start in range(0, len(targets), given.chunk):
        rows = slice(start, start + given.chunk)
        parts.append(_drifts(given, _rows(inputs, rows), targets[rows]))
    return torch.cat(parts).clamp(min=LEAST).log()


def _drifts(given: Probe, inputs: Examples, targets: Tensor) -> Tensor:
    with exact_attention():
        stepped = _stepped(given, gradients_of(given.copy, cross_entropies, inputs, targets, given.way))
    with torch.no_grad(), exact_attention():
        if given.way == "loop":
            rows = range(len(targets))
            return torch.stack(
                [
                    _change(given, {k: v[row] for k, v in stepped.items()}, _at(inputs, row), targets[row])
                    for row in rows
                ]
            )
        found: Tensor = torch.func.vmap(lambda at, one, target: _change(given, at, one, target))(
            stepped, inputs, targets
        )
        return found


def _stepped(given: Probe, gradients: Tensor) -> dict[str, Tensor]:
    """Parameters of each example's own after the step, ``(batch, ...)`` by name."""
    trained = {name: each.detach() for name, each in given.copy.trained.items()}
    length = torch.stack([each.square().sum() for each in trained.values()]).sum().sqrt()
    norms = gradients.norm(dim=1, keepdim=True)
    steps = given.step * length * gradients / norms.clamp(min=torch.finfo(norms.dtype).tiny)
    sizes = [each.numel() for each in trained.values()]
    return {
        name: each + part.reshape(-1, *each.shape)
        for (name, each), part in zip(trained.items(), steps.split(sizes, dim=1), strict=True)
    }


def _change(given: Probe, at: dict[str, Tensor], one: Examples, target: Tensor) -> Tensor:
    """What other parameters change for one example, ``(feature,)``."""
    example = one[None] if isinstance(one, torch.Tensor) else {name: part[None] for name, part in one.items()}
    before = {name: each.detach() for name, each in given.copy.trained.items()}
    (logits, hidden), (others, moved) = (_one(given.copy, given.layer, example, each) for each in (before, at))
    first, second = (each.double().log_softmax(-1) for each in (logits, others))
    hidden, moved = hidden.double(), moved.double()
    chosen, counted, kept = _weights(given.copy.adapter, example, target, len(hidden))
    growth = (first - second).gather(1, chosen[:, None])[:, 0]
    divergence = (first.exp() * (first - second)).sum(1)
    turn = 1 - torch.nn.functional.cosine_similarity(hidden, moved, dim=1)
    change = moved - hidden
    along = (kept @ change @ given.directions.double()).abs()
    return torch.cat(
        [torch.stack([counted @ growth, counted @ divergence, kept @ change.norm(dim=1), kept @ turn]), along]
    )


def _weights(adapter: Adapter, example: Examples, target: Tensor, places: int) -> tuple[Tensor, Tensor, Tensor]:
    """What is predicted of one example, and how much each place counts.

    Returns:
        The class of each place of the output, ``(output,)``; weights of these, and of the places of the hidden activation, each of
        which add up to one. A language model predicts nothing at the last place of a text, and at none of its padding.
    """
    mask = adapter.mask(example)
    if isinstance(adapter, CausalLanguageModelAdapter):
        ids = token_ids(example)[0]
        content = torch.ones_like(ids) if mask is None else mask[0].long()
        chosen = torch.nn.functional.pad(ids[1:], (0, 1))
        counted = torch.nn.functional.pad(content[1:], (0, 1)).double()
        kept = counted
    else:
        chosen, counted = target[None], target.new_ones(1).double()
        kept = counted if mask is None else mask[0].double()
    if len(kept) != places:
        kept = kept.new_ones(places)
    return chosen, counted / counted.sum().clamp(min=1), kept / kept.sum().clamp(min=1)


def _one(
    copy: TrainedCopy, layer: str, example: Examples, parameters: dict[str, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Logits ``(place, class)`` and hidden activations ``(place, width)`` of a batch of one example."""
    text = isinstance(copy.adapter, CausalLanguageModelAdapter)

    class Answer(torch.nn.Module):  # defined here, since modules must import without torch
        def __init__(self) -> None:
            super().__init__()
            self.model = copy.model

        def forward(self, inputs: Examples) -> Tensor:
            output = call(self.model, inputs)
            return as_tensor(output) if text else as_logits(output)

    at = {f"model.{name}": each for name, each in (parameters or {}).items()}
    with _recorded(copy.model.get_submodule(layer)) as seen:
        logits = torch.func.functional_call(Answer().eval(), at, (example,), tie_weights=True)
    hidden = seen[-1]
    width = hidden.numel() if hidden.dim() == 4 else hidden.shape[-1]  # noqa: PLR2004  (example, channel, height, width)
    return logits[0] if text else logits, hidden.reshape(-1, width)


def last_layer(copy: TrainedCopy, inputs: Examples) -> str:
    """The name of the layer with parameters that is called last; its input is what the model made of the example.

    Raises:
        CheckError: No layer is called with a tensor.
    """
    called: list[str] = []
    layers = {
        name: layer
        for name, layer in copy.model.named_modules()
        if next(layer.parameters(recurse=False), None) is not None
    }
    handles = [
        layer.register_forward_pre_hook(
            lambda _layer, given, name=name: called.append(name) if given and _is_floating(given[0]) else None
        )
        for name, layer in layers.items()
    ]
    try:
        with torch.no_grad():
            call(copy.model, _row(inputs, 0))
    finally:
        for handle in handles:
            handle.remove()
    if not called:
        raise CheckError(
            "no layer of the model is called with floating-point activations, so there is no hidden activation to look at"
        )
    return called[-1]


@contextmanager
def _recorded(layer: nn.Module) -> Iterator[list[Tensor]]:
    seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _layer, given: seen.append(given[0]))
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def exact_attention() -> Iterator[None]:
    """Attention written out: the fused kernels have no rule for parameters of each example's own."""
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        yield


def _many_work(given: Probe, inputs: Examples, targets: Tensor) -> bool:
    """Whether a few examples that go through together change as each does by itself."""
    few = slice(0, 3)
    try:
        together = _drifts(given, _rows(inputs, few), targets[few])
    except (
        RuntimeError,
        NotImplementedError,
        ValueError,
        TypeError,
    ):  # what vmap raises for code that it cannot follow
        return False
    alone = _drifts(_alone(given), _rows(inputs, few), targets[few])
    return torch.allclose(together, alone, rtol=0.01, atol=1e-6)


def _alone(given: Probe) -> Probe:
    return Probe(given.copy, given.layer, given.directions, given.step, "loop", given.chunk)


def _is_floating(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _rows(inputs: Examples, rows: slice) -> Examples:
    return inputs[rows] if isinstance(inputs, torch.Tensor) else {name: part[rows] for name, part in inputs.items()}


def _row(inputs: Examples, row: int) -> Examples:
    return _rows(inputs, slice(row, row + 1))


def _at(inputs: Examples, row: int) -> Examples:
    return inputs[row] if isinstance(inputs, torch.Tensor) else {name: part[row] for name, part in inputs.items()}

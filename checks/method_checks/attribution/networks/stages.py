"""The stages of a network: neighbouring layers in groups, from its output to its input, that hold every parameter."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from method_cards.errors import CheckError
from method_cards.lazy import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

LARGE = 0.25
"""The share of all layers above which a stage is cut even at places that no name prefix suggests."""

_NORM = re.compile(r"norm(act)?(\d+d)?$", re.IGNORECASE)
"""Class names of normalisation layers, those of other libraries included."""


@dataclass(frozen=True)
class Stage:
    """Layers that are randomised together.

    Attributes:
        name: What people call it: a module, or the first and the last of several; unique in its network.
        modules: Names of the modules that own its parameters, in order of execution.
        parameters: Names of its parameters, as in ``model.named_parameters()``.
        buffers: Names of the running statistics of its norm layers.
    """

    name: str
    modules: tuple[str, ...]
    parameters: tuple[str, ...]
    buffers: tuple[str, ...]


@dataclass
class _Layer:
    """A module that owns parameters, with the norm layers that belong to it."""

    name: str
    norm: bool
    modules: list[str]
    parameters: list[str]
    buffers: list[str]
    path: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.path = self.name.split(".") if self.name else []

    def within(self, prefix: Sequence[str]) -> bool:
        return self.path[: len(prefix)] == list(prefix)


def stages(
    model: nn.Module,
    call_once: Callable[[], object],
    layers: Sequence[str] = (),
    most: int = 12,
) -> tuple[Stage, ...]:
    """Divide a network into stages, the output's first, its input's last.

    Layers are modules that own parameters directly, in the order of their last execution. A layer that is never called
    as a module (the output projection inside ``nn.MultiheadAttention``) follows the one registered before it;
    parameters of the network itself (class token, position embedding) come where it starts. A parameter that several
    layers share belongs to the one nearest the output, so that no stage leaves trained values in a layer that it
    covers. Norm layers go with their neighbour in the same block. The last layer is whole: where it is a part of a
    wrapped one (a base layer beside its low-rank adapters), the other parts belong to it.

    Args:
        model: The network, which is not changed.
        call_once: Calls the network on some batch.
        layers: Modules whose borders divide the stages, each with all that is inside it; what lies between two makes a
            stage of its own. If empty, layers are grouped by the blocks that their names show, the last layer always
            alone.
        most: The greatest number of stages when no layers are named.

    Raises:
        CheckError: The network has no parameters.
    """
    found = _whole(_joined(_layers(model, _executed(model, call_once))), dict(model.named_modules()))
    if not found:
        raise CheckError("the model has no parameters: there is nothing to randomise")
    cuts = _borders(found, layers) if layers else _blocks(found, most)
    edges = [0, *(cut + 1 for cut in sorted(cuts)), len(found)]
    groups = [found[first:last] for first, last in pairwise(edges)]
    return tuple(_stage(group, found) for group in reversed(groups))


def running_statistics(module: nn.Module) -> list[str]:
    """Names of a norm layer's running statistics; none for other layers and for those whose statistics are frozen."""
    kinds = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d, torch.nn.SyncBatchNorm)
    instance = (torch.nn.InstanceNorm1d, torch.nn.InstanceNorm2d, torch.nn.InstanceNorm3d)
    tracked = isinstance(module, (*kinds, *instance)) and module.running_mean is not None
    return ["running_mean", "running_var"] if tracked else []


def _executed(model: nn.Module, call_once: Callable[[], object]) -> dict[str, int]:
    """When each module was last called, in one run without gradients."""
    calls: list[str] = []
    handles = [
        module.register_forward_pre_hook(lambda _module, _inputs, name=name: calls.append(name))
        for name, module in model.named_modules()
    ]
    try:
        with torch.no_grad():
            call_once()
    finally:
        for handle in handles:
            handle.remove()
    return {name: place for place, name in enumerate(calls)}


def _layers(model: nn.Module, executed: dict[str, int]) -> list[_Layer]:
    places: dict[str, tuple[int, int]] = {}
    place = (-1, 0)
    owners = dict(model.named_modules())
    for number, (name, module) in enumerate(owners.items()):
        if running_statistics(module) or any(True for _ in module.parameters(recurse=False)):
            place = (executed.get(name, place[0]), number)
            places[name] = place
    ordered = sorted(places, key=places.__getitem__)
    holder = {parameter: name for name in ordered for parameter in owners[name].parameters(recurse=False)}
    held: dict[str, list[str]] = {name: [] for name in ordered}
    for name, parameter in model.named_parameters():
        held[holder[parameter]].append(name)
    found = []
    for name in ordered:
        buffers = [f"{name}.{buffer}" if name else buffer for buffer in running_statistics(owners[name])]
        if held[name] or buffers:
            found.append(_Layer(name, bool(_NORM.search(type(owners[name]).__name__)), [name], held[name], buffers))
    return found


def _joined(layers: list[_Layer]) -> list[_Layer]:
    """Layers, each norm put to the one before it, or to the one after it where only that is in the same block."""
    found: list[_Layer] = []
    waiting: list[_Layer] = []
    for number, layer in enumerate(layers):
        after = layers[number + 1] if number + 1 < len(layers) else None
        if layer.norm and found and (after is None or _shared(found[-1], layer) >= _shared(layer, after)):
            for name in ("modules", "parameters", "buffers"):
                getattr(found[-1], name).extend(getattr(layer, name))
        elif layer.norm and after is not None:
            waiting.append(layer)
        else:
            for name in ("modules", "parameters", "buffers"):
                getattr(layer, name)[:0] = [item for norm in waiting for item in getattr(norm, name)]
            waiting = []
            found.append(layer)
    return found


def _whole(layers: list[_Layer], modules: dict[str, nn.Module]) -> list[_Layer]:
    """Layers, the last one with all that is in the wrapper around it: with new values in one part, the other parts would go on alone."""
    if not layers:
        return layers
    path = layers[-1].path
    wrappers = [modules[".".join(path[:depth])] for depth in range(1, len(path))]
    depth = next((depth for depth, module in enumerate(wrappers, start=1) if _wraps(module)), None)
    if depth is None:
        return layers
    inside = [layer for layer in layers if layer.within(path[:depth])]
    if inside != layers[-len(inside) :]:
        return layers
    parts = [
        [item for layer in inside for item in getattr(layer, name)] for name in ("modules", "parameters", "buffers")
    ]
    return [*layers[: -len(inside)], _Layer(".".join(path[:depth]), False, *parts)]


def _wraps(module: nn.Module) -> bool:
    """Whether it adds weights to those of one layer: a layer beside weights of its own, or beside adapters as PEFT names them."""
    children = dict(module.named_children())
    own = any(True for _ in module.parameters(recurse=False))
    return "base_layer" in children or (
        own and len(children) == 1 and not list(next(iter(children.values())).children())
    )


def _shared(a: _Layer, b: _Layer) -> int:
    """How many components the names of two layers have in common, from the left."""
    same = [x == y for x, y in zip(a.path, b.path, strict=False)]
    return same.index(False) if False in same else len(same)


def _borders(layers: list[_Layer], named: Sequence[str]) -> set[int]:
    """After which layers a named module begins or ends, and before the last layer where that is in none of them."""
    paths = sorted((name.split(".") for name in named), key=len)
    inside = [[path for path in paths if layer.within(path)][-1:] for layer in layers]
    ends = [place for place, (before, after) in enumerate(pairwise(inside)) if before != after]
    return {*ends, *(() if inside[-1] else range(len(layers) - 1)[-1:])}


def _blocks(layers: list[_Layer], most: int) -> set[int]:
    """After which layers to cut: before the last one, then between blocks from the outermost in, ``most - 1`` times."""
    depths = [_shared(before, after) for before, after in pairwise(layers)]
    if len(depths) < most:
        return set(range(len(depths)))
    depths[-1] = -1
    cuts: set[int] = set()
    for depth in sorted(set(depths)):
        here = [place for place, value in enumerate(depths) if value == depth]
        left = most - 1 - len(cuts)
        if len(here) > left:
            edges = [-1, *sorted(cuts), len(layers) - 1]
            large = [range(first + 1, last) for first, last in pairwise(edges) if last - first > LARGE * len(layers)]
            here = [place for place in here if any(place in span for span in large)]
            taken = min(left, len(here))
            return cuts | {here[(2 * number + 1) * len(here) // (2 * taken)] for number in range(taken)}
        cuts.update(here)
    return cuts


def _stage(group: list[_Layer], layers: list[_Layer]) -> Stage:
    names = list(dict.fromkeys(_label(layer, group, layers) for layer in (group[0], group[-1])))
    return Stage(
        " to ".join(names),
        tuple(name for layer in group for name in layer.modules),
        tuple(name for layer in group for name in layer.parameters),
        tuple(name for layer in group for name in layer.buffers),
    )


def _label(layer: _Layer, group: list[_Layer], layers: list[_Layer]) -> str:
    """The shortest prefix of the layer's name that only this group's layers have."""
    for depth in range(1, len(layer.path)):
        prefix = layer.path[:depth]
        if sum(other.within(prefix) for other in layers) == sum(other.within(prefix) for other in group):
            return ".".join(prefix)
    return layer.name or ", ".join(layer.parameters)

"""Model-parameter randomisation: weights drawn anew, and put into a network for the length of a ``with`` block.

No network is copied and none is changed for longer: tensors are swapped by pointer.
Sources: adebayo2018sanity (the test, cascading and independent), binder2023shortcomings (activation scales under randomisation).
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from method_cards import randomness
from method_cards.errors import CheckError, did_you_mean
from method_cards.lazy import torch
from method_checks.attribution.networks.stages import Stage, running_statistics, stages

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from torch import Tensor, nn

__all__ = ["Randomized", "Stage", "random_state", "recalibrated", "seeded", "stages", "swapped"]


@dataclass(frozen=True)
class Randomized:
    """A second set of values for all parameters of a network.

    Attributes:
        state: New values by name: each parameter once, and the running statistics of norm layers as they are before any
            batch.
        unchanged: Parameters whose new value equals the old one: constants without an initialiser of their own, and
            untrained ones whose initial value is a constant, such as the scale of a norm layer.
    """

    state: dict[str, Tensor]
    unchanged: tuple[str, ...]


def random_state(model: nn.Module, generator: torch.Generator) -> Randomized:
    """Draw new values for every parameter, from one stream of random numbers.

    A module initialises its own parameters by its ``reset_parameters`` (or ``_reset_parameters``), inner modules before
    those that hold them, as when they were built. A parameter that has no such method, or that the method leaves as it
    was (under ``weight_norm``, say), is drawn from a normal distribution with its own mean and standard deviation.

    Args:
        model: The network, which is not changed.
        generator: Where all random numbers come from; the next call gives another network.

    Raises:
        CheckError: A module's initialiser fails.
    """
    modules = [(name, module) for name, module in model.named_modules() if _own(module)]
    originals = [(module, _own(module)) for _, module in modules]
    old = {name: parameter.data for name, parameter in model.named_parameters()}
    new = {name: tensor.detach().clone() for name, tensor in (*model.named_parameters(), *model.named_buffers())}
    with seeded(generator), torch.no_grad(), swapped(model, new):
        try:
            for name, module in reversed(modules):
                _initialise(name, module)
        finally:
            for module, tensors in originals:
                _reinstated(module, tensors)
    unchanged = []
    for name, before in old.items():
        if torch.equal(new[name], before):
            new[name] = _normal_like(before, generator)
        if torch.equal(new[name], before):
            unchanged.append(name)
    statistics = [f"{name}.{buffer}".lstrip(".") for name, module in modules for buffer in running_statistics(module)]
    return Randomized({name: new[name] for name in (*old, *statistics)}, tuple(unchanged))


def recalibrated(model: nn.Module, buffers: Collection[str], call_once: Callable[[], object]) -> dict[str, Tensor]:
    """Running statistics of norm layers for the weights that the network has now.

    In evaluation mode a batch norm divides by the spread that its inputs had in training. Inputs that come from random
    weights have
    another spread, so that activations (and gradients) explode or vanish with depth: maps would change because of the
    broken scale, not because of the explainer. The layers are therefore given the mean and variance of one batch. They
    must be taken again whenever an earlier layer changes, hence at each stage of a cascade. Norm layers outside the
    randomised stages keep theirs.

    Args:
        model: The network, which is not changed.
        buffers: Names of the running statistics to make, as in `Stage.buffers`.
        call_once: Calls the network on a batch of at least two examples.

    Raises:
        CheckError: The batch is too small.
    """
    wanted = set(buffers)
    norms = {
        name: module
        for name, module in model.named_modules()
        if any(f"{name}.{key}" in wanted for key in running_statistics(module))
    }
    if not norms:
        return {}
    own = dict(model.named_buffers())
    fresh = {
        f"{name}.{key}": torch.zeros_like(own[f"{name}.{key}"])
        for name in norms
        for key in ("running_mean", "num_batches_tracked")
    }
    fresh |= {f"{name}.running_var": torch.ones_like(own[f"{name}.running_var"]) for name in norms}
    settings: list[tuple[Any, bool, float | None]] = [
        (module, module.training, module.momentum) for module in norms.values()
    ]
    try:
        for module, _, _ in settings:
            module.training, module.momentum = True, None  # None: the plain average over all calls
        with swapped(model, fresh), torch.no_grad():
            call_once()
    except ValueError as error:
        raise CheckError(
            f"statistics of the norm layers cannot be taken: {error}; give a batch of two examples or more"
        ) from error
    finally:
        for module, training, momentum in settings:
            module.training, module.momentum = training, momentum
    return {name: fresh[name] for name in buffers}


@contextmanager
def swapped(model: nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Within the block, these parameters and buffers hold these values; nothing is copied.

    A gradient must be taken inside the block in which its output was computed: autograd does not see the swap.

    Args:
        model: The network.
        tensors: New values by the names of ``named_parameters`` and ``named_buffers``; all others stay.

    Raises:
        CheckError: A name is not one of the model's, or a tensor has another shape, type or device.
    """
    own = {name: _held(model, name) for name in tensors}
    for name, tensor in tensors.items():
        if (tensor.dtype, tensor.shape, tensor.device) != (own[name].dtype, own[name].shape, own[name].device):
            raise CheckError(f'"{name}" is {_form(own[name])} in the model; it cannot be replaced by {_form(tensor)}')
    before = {name: tensor.data for name, tensor in own.items()}
    try:
        for name, tensor in tensors.items():
            own[name].data = tensor.detach()
        yield
    finally:
        for name, tensor in before.items():
            own[name].data = tensor


@contextmanager
def seeded(generator: torch.Generator) -> Iterator[None]:
    """Within the block, torch, NumPy and Python draw from a seed that the generator gives, and then go on as before."""
    with randomness.seeded(int(torch.randint(2**32, (), generator=generator, device=generator.device))):
        yield


def _held(model: nn.Module, name: str) -> Tensor:
    """The parameter or buffer of this name; walking there is much faster than listing them all."""
    path, _, key = name.rpartition(".")
    try:
        found = getattr(model.get_submodule(path), key)
    except AttributeError:
        found = None
    if not isinstance(found, torch.Tensor):
        names = [each for each, _ in (*model.named_parameters(), *model.named_buffers())]
        raise CheckError(f'the model has no parameter or buffer "{name}".{did_you_mean(name, names)}')
    return found


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)} on {tensor.device}"


def _own(module: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers that a module holds itself."""
    return {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}


def _initialise(name: str, module: nn.Module) -> None:
    for method in ("reset_parameters", "_reset_parameters"):
        initialiser = getattr(module, method, None)
        if callable(initialiser) and not _required(initialiser):
            try:
                initialiser()
            except Exception as error:
                kind = type(module).__name__
                raise CheckError(
                    f'layer "{name}" cannot be initialised anew: {kind}.{method} raised {error!r}'
                ) from error
            return


def _required(function: Callable[..., object]) -> list[str]:
    """Parameters without which a function cannot be called."""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return [item.name for item in parameters if item.default is inspect.Parameter.empty and item.kind not in variadic]


def _reinstated(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give a module its own tensor objects back, with the values of those that its initialiser put in their place."""
    for key, original in tensors.items():
        current = getattr(module, key)
        if current is not original:
            original.data.copy_(current)
            setattr(module, key, original)


def _normal_like(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Normal numbers with the mean and standard deviation of a tensor; a copy of one that is not floating point."""
    if not tensor.is_floating_point():
        return tensor.clone()
    spread, mean = torch.std_mean(tensor.double(), correction=0)
    drawn = torch.randn(tensor.shape, generator=generator, device=generator.device, dtype=torch.float64)
    return (mean + spread * drawn.to(tensor.device)).to(tensor.dtype)

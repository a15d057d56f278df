"""A model with smooth activations in place of kinks, at the same parameters and without a copy.

ReLU becomes Softplus and max-pooling becomes the logarithm of a sum of exponentials, while a block of code runs: modules and functional
calls alike, since what is replaced is the operation itself. The model is not changed.
Sources: kokhlikyan2021investigating; dombrowski2019explanations (Softplus for explanations).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

from method_cards.errors import CheckError
from method_cards.lazy import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor


class Smooth(AbstractContextManager["Smooth"]):
    """While it is entered, operations with kinks are smooth.

    Args:
        beta: The sharpness: the larger, the closer to the operation that is replaced.

    Attributes:
        replaced: How many calls were replaced so far.
        pools: How many of them were max-pooling.
    """

    def __init__(self, beta: float) -> None:
        self.beta = beta
        self.replaced = self.pools = 0
        self._mode: Any = None

    def __enter__(self) -> Self:
        self._mode = _mode()(self._called)
        self._mode.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._mode.__exit__(*error)

    def _called(self, function: Callable[..., Any], given: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        if function in _relus():
            self.replaced += 1
            smooth = torch.nn.functional.softplus(given[0].clone(), beta=self.beta)
            in_place = function in _relus_in_place() or named.get("inplace", False) or given[1:2] == (True,)
            return given[0].copy_(smooth) if in_place else smooth
        dimensions = _pools().get(function)
        if dimensions is not None:
            self.replaced += 1
            self.pools += 1
            return pooled(*given, **named, dimensions=dimensions, beta=self.beta)
        return function(*given, **named)


def pooled(
    inputs: Tensor,
    kernel_size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None = None,
    padding: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    dimensions: int,
    beta: float,
) -> Tensor:
    """The value log Σ exp(β x) / β over each window: at least its maximum, and at most log(size) / β more.

    Args:
        inputs: ``(batch, channel, *position)``.
        kernel_size: As in max-pooling, and so are the next three.
        stride: The kernel size where None or empty.
        padding: Of nothing, not of zeros.
        dilation: 1.
        ceil_mode: False.
        return_indices: False.
        dimensions: How many axes are pooled.
        beta: The sharpness.

    Raises:
        CheckError: A window is dilated, cut at the edge, or its index is asked for.
    """
    if ceil_mode or return_indices or set(_each(dilation, dimensions)) != {1}:
        raise CheckError(
            "max-pooling with dilation, ceil_mode or return_indices has no smooth counterpart here; leave this check out for the model"
        )
    sizes, margins = _each(kernel_size, dimensions), _each(padding, dimensions)
    steps = _each(stride, dimensions) if stride else sizes
    windows = torch.nn.functional.pad(
        inputs, [side for margin in margins[::-1] for side in (margin, margin)], value=-torch.inf
    )
    for axis, (size, step) in enumerate(zip(sizes, steps, strict=True)):
        windows = windows.unfold(inputs.dim() - dimensions + axis, size, step)
    return (beta * windows.flatten(inputs.dim())).logsumexp(-1) / beta


def _each(value: int | tuple[int, ...], dimensions: int) -> tuple[int, ...]:
    found = tuple(value) if isinstance(value, tuple | list) else (value,)
    return found * dimensions if len(found) == 1 else found


@lru_cache(maxsize=1)
def _mode() -> Any:
    class Mode(torch.overrides.TorchFunctionMode):
        def __init__(self, called: Callable[..., Any]) -> None:
            super().__init__()
            self._called = called

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return self._called(func, args, kwargs or {})

    return Mode


@lru_cache(maxsize=1)
def _relus_in_place() -> frozenset[Any]:
    return frozenset({torch.relu_, torch.Tensor.relu_})


@lru_cache(maxsize=1)
def _relus() -> frozenset[Any]:
    return _relus_in_place() | {torch.relu, torch.Tensor.relu, torch.nn.functional.relu}


@lru_cache(maxsize=1)
def _pools() -> dict[Any, int]:
    functional = torch.nn.functional
    return {
        torch.max_pool1d: 1,
        torch.max_pool2d: 2,
        torch.max_pool3d: 3,
        functional.max_pool1d: 1,
        functional.max_pool2d: 2,
        functional.max_pool3d: 3,
        functional.max_pool1d_with_indices: 1,
        functional.max_pool2d_with_indices: 2,
        functional.max_pool3d_with_indices: 3,
    }

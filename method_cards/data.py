"""Data splits: whatever a person has, seen as numbered examples and drawn in seeded batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np

from method_cards.errors import InputError
from method_cards.lazy import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

Inputs: TypeAlias = "Tensor | dict[str, Tensor] | list[str]"
"""What a model is called with: a tensor, tensors by name, or texts that a tokenizer will encode."""

MATERIALISE_LIMIT = 100_000
"""How many examples are read from an iterable that cannot be indexed."""


@dataclass(frozen=True)
class Batch:
    """Some examples of one split, on the device of the model.

    Attributes:
        inputs: ``(batch, ...)`` tensor, or tensors by name, each with the batch first.
        targets: ``(batch,)`` class numbers, int64.
        indices: Which examples of the split these are.
    """

    inputs: Tensor | dict[str, Tensor]
    targets: Tensor
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)


class Split:
    """The examples of one split, whatever they were given as.

    Args:
        name: The name in ``method-cards.yaml``, for messages.
        source: A map-style ``torch.utils.data.Dataset``, a pair ``(inputs, targets)`` of tensors (or of tensors by name and a
            tensor), or an iterable of such pairs, batch by batch. A dataset's items are pairs ``(input, target)``.

    Raises:
        InputError: The source is of none of these forms, is empty, or its inputs and targets differ in length.
    """

    def __init__(self, name: str, source: object) -> None:
        self.name = name
        self._pair: tuple[Inputs, Tensor] | None = None
        self._items: Any = None
        if isinstance(source, Mapping | str | bytes | torch.Tensor | np.ndarray):
            raise self._unknown(source)
        if _is_pair(source):
            self._pair = self._checked(*source)
        elif isinstance(source, list | tuple) and source and not _is_pair(source[0]):
            raise self._unknown(source)
        elif _is_sized(source) and not (isinstance(source, list | tuple) and source and _is_batch(source[0])):
            self._items = source
        elif isinstance(source, Iterable):
            self._pair = self._materialised(source)
        else:
            raise self._unknown(source)
        if len(self) == 0:
            raise InputError(
                f'data split "{name}" is empty: nothing can be measured on it; check the callable that makes it'
            )

    def __len__(self) -> int:
        return len(self._pair[1]) if self._pair is not None else len(self._items)

    def take(self, indices: Sequence[int]) -> tuple[Inputs, Tensor]:
        """The examples with these numbers, collated into one batch on the host."""
        if self._pair is not None:
            inputs, targets = self._pair
            chosen = torch.as_tensor(indices, dtype=torch.long)
            return _indexed(inputs, chosen), targets[chosen]
        pairs = [self._item(index) for index in indices]
        labels = torch.tensor([self._label(index, pair[1]) for index, pair in zip(indices, pairs, strict=True)])
        try:
            return self._checked(_collated([pair[0] for pair in pairs]), labels)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f'data split "{self.name}": examples cannot be put into one batch: {error}; give tensors of one shape'
            ) from error

    def draw(self, samples: int | None, seed: int) -> tuple[int, ...]:
        """Numbers of ``samples`` examples, drawn without replacement from ``seed``; all, in drawn order, for None."""
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self), generator=generator)
        return tuple(order[: samples if samples is not None else len(self)].tolist())

    def _unknown(self, source: object) -> InputError:
        rows = isinstance(source, list | tuple) and source and isinstance(source[0], Mapping)
        of_rows = f", each {_described(source[0])}" if rows else ""  # type: ignore[index]  # it is a list then
        return InputError(
            f'data split "{self.name}" is {_described(source)}{of_rows}; give a torch Dataset, a pair (inputs, targets) of tensors, '
            "or an iterable of such pairs"
        )

    def _item(self, index: int) -> tuple[Any, Any] | list[Any]:
        """The input and the target of one item."""
        try:
            item = self._items[index]
        except Exception as error:  # a person's own code reads it
            raise InputError(
                f'data split "{self.name}": item {index} of {len(self)} cannot be read: {type(error).__name__}: {error}'
            ) from error
        if not _is_pair(item):
            raise InputError(
                f'data split "{self.name}": item {index} is {_described(item)}; a Dataset must give pairs (input, target)'
            )
        return item

    def _label(self, index: int, target: object) -> int:
        """The class number of one item."""
        try:
            label = torch.as_tensor(target)
        except (TypeError, ValueError, RuntimeError):
            label = torch.empty(0)
        if label.numel() != 1 or label.item() != int(label.nan_to_num()):
            raise InputError(
                f'data split "{self.name}": item {index} has the target {target!r:.60}; it must be a class number{_hint(target)}'
            )
        return int(label)

    def _checked(self, inputs: Any, targets: object) -> tuple[Inputs, Tensor]:
        parts = list(inputs.values()) if isinstance(inputs, Mapping) else [inputs]
        for part in parts:
            if not isinstance(part, torch.Tensor) and not _is_texts(part):
                raise InputError(
                    f'data split "{self.name}": inputs are {_described(part)}; give a tensor, tensors by name, or a list of '
                    f"texts{_hint(part)}"
                )
            if isinstance(part, torch.Tensor) and part.layout != torch.strided:
                raise InputError(
                    f'data split "{self.name}": inputs are a {part.layout} tensor; give a dense one: `inputs.to_dense()`'
                )
        inputs = _each(inputs, torch.Tensor.detach)  # a person's own gradients are none of a check's business
        try:
            labels = torch.as_tensor(targets)
        except (TypeError, ValueError, RuntimeError):
            labels = torch.empty(())
        if labels.dim() == 0:
            raise InputError(
                f'data split "{self.name}": targets are {_described(targets)}; give a tensor of class numbers{_hint(targets)}'
            )
        if labels.is_floating_point() and not bool((labels.isfinite() & (labels == labels.round())).all()):
            raise InputError(
                f'data split "{self.name}": targets must be class numbers (integers), not {labels.dtype} values'
            )
        lengths = {len(part) for part in parts}
        if lengths != {len(labels)}:
            raise InputError(f'data split "{self.name}": {sorted(lengths)} inputs but {len(labels)} targets')
        if labels.is_complex() or labels.dim() > 2 or (labels.dim() == 2 and labels.shape[1] != 1):  # noqa: PLR2004
            raise InputError(
                f'data split "{self.name}": targets of shape {tuple(labels.shape)} are not class numbers; give one integer for '
                f"each example{_hint(labels)}"
            )
        one_column = labels.dim() == 2 and labels.shape[1] == 1  # noqa: PLR2004  (example, column)
        return inputs, labels.long().squeeze(1) if one_column else labels.long()

    def _materialised(self, batches: Any) -> tuple[Inputs, Tensor]:
        inputs: list[Inputs] = []
        targets: list[Tensor] = []
        count = 0
        for batch in batches:
            if not _is_pair(batch):
                raise InputError(
                    f'data split "{self.name}": a batch is {_described(batch)}; batches must be pairs (inputs, targets)'
                )
            if isinstance(batch[1], int) or (isinstance(batch[1], torch.Tensor | np.generic) and batch[1].ndim == 0):
                raise InputError(
                    f'data split "{self.name}": the iterable gives one example at a time, not batches; give '
                    "DataLoader(dataset, batch_size=64)"
                )
            checked = self._checked(*batch)
            inputs.append(checked[0])
            targets.append(checked[1])
            count += len(checked[1])
            if count >= MATERIALISE_LIMIT:
                break
        if not inputs:
            raise InputError(f'data split "{self.name}" is empty: its iterable gave no batch')
        return _concatenated(inputs), torch.cat(targets)


def fingerprint(inputs: Inputs, targets: Tensor) -> str:
    """SHA-256, in hexadecimal, of the values, types and shapes of some examples."""
    digest = hashlib.sha256()
    parts: list[tuple[str, Any]] = list(inputs.items()) if isinstance(inputs, Mapping) else [("inputs", inputs)]
    for name, part in [*sorted(parts, key=lambda pair: pair[0]), ("targets", targets)]:
        digest.update(name.encode())
        if isinstance(part, list):
            digest.update("\0".join(part).encode())
        else:
            update_digest(digest, part)
    return digest.hexdigest()


def update_digest(digest: hashlib._Hash, tensor: Tensor) -> None:
    """Feed a tensor's type, shape and bytes to a digest."""
    # A plain `contiguous` leaves odd strides in dimensions of size 1, and then bytes cannot be viewed.
    host = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    digest.update(f"{host.dtype}{tuple(host.shape)}".encode())
    digest.update(host.reshape(-1).view(torch.uint8).numpy().tobytes() if host.numel() else b"")


def _is_pair(value: object) -> TypeGuard[tuple[Any, Any] | list[Any]]:
    """Whether it is inputs and targets, and not two examples or two batches, of which each is such a pair."""
    return isinstance(value, tuple | list) and len(value) == 2 and not all(_is_example(item) for item in value)  # noqa: PLR2004


def _is_example(value: object) -> bool:
    """Whether it may be an input with its target: two texts or two numbers are none."""
    return (
        isinstance(value, tuple | list)
        and len(value) == 2  # noqa: PLR2004
        and not isinstance(value[0], int | float)
        and not isinstance(value[1], str)
    )


def _is_batch(value: object) -> bool:
    """Whether it is a pair of as many inputs as targets."""
    if not _is_pair(value):
        return False
    inputs, targets = value
    part = next(iter(inputs.values()), ()) if isinstance(inputs, Mapping) else inputs
    several = isinstance(targets, list | tuple) or (isinstance(targets, torch.Tensor | np.ndarray) and targets.ndim > 0)
    return several and isinstance(part, list | tuple | torch.Tensor | np.ndarray) and len(part) == len(targets)


def _is_sized(value: object) -> bool:
    return hasattr(value, "__getitem__") and hasattr(value, "__len__")


def _is_texts(value: object) -> bool:
    return isinstance(value, tuple | list) and all(isinstance(text, str) for text in value)


def _hint(value: object) -> str:
    """How to make what is needed of what was given, where that is well known."""
    first = value[0] if isinstance(value, list | tuple) and value else None
    if isinstance(value, str) or isinstance(first, str):
        return ": the place of each name in the list of classes"
    if isinstance(value, np.ndarray):
        return ": `torch.as_tensor(array)`"
    if isinstance(value, torch.Tensor) and value.dim() and value.shape[-1] > 1:
        return "; of one-hot rows, `targets.argmax(-1)`"
    return ""


def _described(value: object) -> str:
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with the keys {', '.join(map(str, list(value)[:8]))}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


def _each(inputs: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    if isinstance(inputs, Mapping):
        return {name: change(part) for name, part in inputs.items()}
    return change(inputs) if not isinstance(inputs, list) else inputs


def _indexed(inputs: Inputs, chosen: Tensor) -> Inputs:
    if isinstance(inputs, list | tuple):
        return [inputs[index] for index in chosen.tolist()]
    return _each(inputs, lambda part: part[chosen])


def _collated(items: list[Any]) -> Inputs:
    if isinstance(items[0], str):
        return items
    if isinstance(items[0], Mapping):
        return {name: torch.stack([torch.as_tensor(item[name]) for item in items]) for name in items[0]}
    return torch.stack([torch.as_tensor(item) for item in items])


def _concatenated(parts: list[Inputs]) -> Inputs:
    if isinstance(parts[0], list):
        return [text for part in parts for text in part]
    if isinstance(parts[0], Mapping):
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}  # type: ignore[index, call-overload]  # all parts are alike
    return torch.cat(parts)  # type: ignore[arg-type]  # all parts are tensors

"""Which task a model does, told from the model and a few examples, where these leave no doubt.

A project says its task. For a model that somebody hands over in a notebook it can mostly be seen; where two tasks look alike, it is
asked for: a wrong task would give wrong verdicts, not errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from method_cards.adapters import ADAPTERS, TASKS, Task, as_tensor, call, token_ids
from method_cards.errors import CheckError, InputError, did_you_mean
from method_cards.lazy import torch
from method_cards.randomness import kept

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from method_cards.data import Split

LOOKED_AT = 256
"""How many examples are looked at for their classes."""

Shape = tuple[int, ...]


def told(task: str) -> Task:
    """A task that a person named.

    Raises:
        InputError: There is none of this name.
    """
    for known in TASKS:
        if known == task:
            return known  # type: ignore[return-value]  # TASKS are the arguments of Task
    raise InputError(f'there is no task "{task}".{did_you_mean(task, TASKS)}')


def inferred(
    model: nn.Module, split: Split, classes: Sequence[str] = (), tokenizer: Callable[..., Any] | None = None
) -> Task:
    """The task, from what two examples look like before and after the model.

    Args:
        model: The model, in evaluation mode.
        split: Some of its data.
        classes: Names of the classes, where they are known.
        tokenizer: What turns texts into tensors.

    Raises:
        InputError: It could be another task too, or the model cannot be called; the message says which to name.
    """
    count = min(len(split), 2)
    inputs, _ = split.take(range(count))
    kind = "text-classification" if isinstance(inputs, list) else "image-classification"
    encoded = ADAPTERS[kind](model, "", tokenizer).encode(inputs)
    try:
        output = as_tensor(_called(model, encoded))
    except CheckError as error:
        raise _asked(str(error)) from error
    except Exception as error:
        raise InputError(
            f'the model cannot be called with examples of the split "{split.name}": {type(error).__name__}: {error}'
        ) from error
    shape = tuple(output.shape)
    if _is_text(inputs, encoded):
        return _of_text(encoded, shape)
    features = _features(encoded)
    if features is None:
        raise _asked("the inputs are neither texts nor one floating-point tensor")
    if features.dim() == 2 and _is_logits(shape):  # noqa: PLR2004  (example, column)
        return "tabular-classification"
    if features.dim() == 4:  # noqa: PLR2004  (example, channel, height, width)
        return _of_images(features, shape, _class_count(split), len(classes))
    raise _asked(f"inputs of shape {tuple(features.shape)} and outputs of shape {shape} fit several tasks or none")


def _called(model: nn.Module, inputs: Tensor | dict[str, Tensor]) -> Any:
    device = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    moved = (
        {name: part.to(device) for name, part in inputs.items()} if isinstance(inputs, Mapping) else inputs.to(device)
    )
    with torch.no_grad(), kept():
        return call(model, moved)


def _is_text(inputs: object, encoded: Tensor | dict[str, Tensor]) -> bool:
    if isinstance(inputs, list):
        return True
    if isinstance(encoded, Mapping):
        return "input_ids" in encoded
    return not encoded.is_floating_point() and encoded.dim() == 2  # noqa: PLR2004  (example, token)


def _of_text(encoded: Tensor | dict[str, Tensor], shape: Shape) -> Task:
    if _is_logits(shape):
        return "text-classification"
    if len(shape) == 3 and shape[2] > int(token_ids(encoded).max()):  # noqa: PLR2004  (example, token, vocabulary)
        return "text-generation"
    raise _asked(f"texts with outputs of shape {shape} fit several tasks or none")


def _of_images(features: Tensor, shape: Shape, occurring: int, named: int) -> Task:
    if len(shape) == 4 and shape[1] == features.shape[1]:  # noqa: PLR2004  (an image again)
        return "image-to-image"
    if _is_logits(shape):
        width = shape[1] if len(shape) == 2 else 1  # noqa: PLR2004
        if width in (1, occurring, named):
            return "image-classification"
        raise _asked(
            f"the model gives {width} numbers for an image, and the data has {occurring} classes: these may be classes or features",
            "image-classification",
            "image-feature-extraction",
        )
    raise _asked(f"images with outputs of shape {shape} fit several tasks or none")


def _is_logits(shape: Shape) -> bool:
    return len(shape) in (1, 2)


def _class_count(split: Split) -> int:
    _, targets = split.take(split.draw(LOOKED_AT, 0))
    return int(targets.max()) + 1


def _features(encoded: Tensor | dict[str, Tensor]) -> Tensor | None:
    parts = list(encoded.values()) if isinstance(encoded, Mapping) else [encoded]
    floating = [part for part in parts if part.is_floating_point()]
    return floating[0] if len(floating) == 1 else None


def _asked(why: str, *likely: Task) -> InputError:
    names = " or ".join(f'task="{task}"' for task in likely) or f"task= one of {', '.join(TASKS)}"
    return InputError(f"the task cannot be told from model and data: {why}; give {names}")

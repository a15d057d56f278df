"""Which task a model does, told from the model and a few examples, where these leave no doubt; and which it cannot be.

A project says its task. For a model that somebody hands over in a notebook it can mostly be seen; where two tasks look alike, it is
asked for: a wrong task would give wrong verdicts, not errors. One that the model or its data contradict is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from method_cards.adapters import ADAPTERS, CLASSIFICATION, TASKS, Task, as_tensor, call, token_ids
from method_cards.errors import CheckError, InputError, did_you_mean
from method_cards.fitness import uncallable
from method_cards.lazy import torch
from method_cards.randomness import kept
from method_cards.subject import preserved

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from method_cards.data import Split
    from method_cards.subject import Subject

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
        raise InputError(str(error)) from error
    except Exception as error:
        raise InputError(
            f'the model cannot be called with examples of the split "{split.name}": {type(error).__name__}: {error}'
            f"{uncallable(model, encoded, error)}"
        ) from error
    shape = tuple(output.shape)
    if _is_text(inputs, encoded):
        return _of_text(encoded, shape, split, len(classes))
    features = _features(encoded)
    if features is None:
        raise _asked("the inputs are neither texts nor one floating-point tensor")
    if features.dim() == 2 and _is_logits(shape):  # noqa: PLR2004  (example, column)
        _refuse_features(shape, split, len(classes), "a row of a table", "tabular-classification")
        return "tabular-classification"
    if features.dim() == 4:  # noqa: PLR2004  (example, channel, height, width)
        return _of_images(features, shape, split, len(classes))
    if _is_logits(shape):
        raise _asked(
            f"inputs of shape {tuple(features.shape)} are no images (batch, channel, height, width); series and volumes are tables",
            "tabular-classification",
        )
    raise _asked(f"inputs of shape {tuple(features.shape)} and outputs of shape {shape} fit several tasks or none")


def contradiction(subject: Subject) -> str:
    """What of a subject's model or data cannot be of its task, and what to do; empty where nothing is.

    Two examples of the first split are looked at, before and after the model. A model that cannot be called with them is no
    contradiction: each check tells what it meets.

    Raises:
        InputError: The examples cannot be read.
    """
    with preserved(subject), torch.no_grad():
        try:
            found = _unfit_inputs(subject) or _unfit_output(subject)
        except InputError:
            raise
        except Exception:  # noqa: BLE001  (whatever data and model do then costs each check its own verdict)
            return ""
    return found and f"the task is {subject.task}, {found}"


def _looked_at(subject: Subject) -> tuple[str, range]:
    """The name of the first split, and the places of up to two examples in it."""
    name = next(iter(subject.data))
    return name, range(min(len(subject.split(name)), 2))


def _unfit_inputs(subject: Subject) -> str:
    """What the data holds, where no task of this kind takes such; empty where one does."""
    name, places = _looked_at(subject)
    inputs, _ = subject.split(name).take(places)
    texts = "" if subject.task in TEXT_TASKS else "texts"
    found = texts if isinstance(inputs, list) else _unfit(subject.task, inputs)
    takes = TAKES[subject.task.partition("-")[0]]
    return found and f'which takes {takes}, but the split "{name}" holds {found}: {_instead(subject)}'


TEXT_TASKS = tuple(task for task in TASKS if task.startswith("text-"))

TAKES = {"text": "texts or token ids", "image": "images", "tabular": "rows of numbers"}
"""What a task is given, by its first word."""


def _unfit(task: str, inputs: Tensor | dict[str, Tensor]) -> str:
    """What the inputs are, where no task of this kind takes such; empty where one does."""
    parts = list(inputs.values()) if isinstance(inputs, Mapping) else [inputs]
    floating = [part for part in parts if part.is_floating_point()]
    shapes = [tuple(part.shape[1:]) for part in parts]
    if task in TEXT_TASKS:
        is_unfit = not isinstance(inputs, Mapping) and bool(floating)
    elif isinstance(inputs, Mapping):
        is_unfit = "input_ids" in inputs and not floating
    elif task == "tabular-classification":
        is_unfit = len(shapes[0]) == 3  # noqa: PLR2004  (channel, height, width)
    elif task == "image-classification" and len(floating) == 1:
        is_unfit = floating[0].dim() != 4  # noqa: PLR2004  (example, channel, height, width)
    else:
        is_unfit = not floating and len(shapes[0]) == 1
    if not is_unfit:
        return ""
    return f"{', '.join(inputs)}" if isinstance(inputs, Mapping) else f"{parts[0].dtype} numbers of shape {shapes[0]}"


def _unfit_output(subject: Subject) -> str:
    """What the model gives, where no model of this task gives such; empty where it does."""
    inputs = subject.batch(*_looked_at(subject)).inputs
    if subject.task == "text-generation":
        shape, tokens = tuple(as_tensor(call(subject.model, inputs)).shape), token_ids(inputs)
        if len(shape) == 3 and shape[2] > int(tokens.max()):  # noqa: PLR2004  (example, token, vocabulary)
            return ""
        return f"but the model's output has shape {shape}, not (batch, token, vocabulary): {_instead(subject)}"
    try:
        outputs = subject.adapter.outputs(inputs)
    except CheckError as error:
        return f"but {error}: {_instead(subject)}"
    named = len(subject.classes)
    if subject.task in CLASSIFICATION and named and outputs.shape[1] != named:
        return (
            f"but the model gives {outputs.shape[1]:,} numbers for an example, and `classes` names {named:,}: name each class, in the "
            "order of the numbers; or, if these are no classes, name another task"
        )
    return ""


def _instead(subject: Subject) -> str:
    """What to do about a task that does not fit."""
    try:
        name, _ = _looked_at(subject)
        likely = inferred(subject.model, subject.split(name), subject.classes, subject.tokenizer)
    except InputError:
        return f"name the task that fits, of {', '.join(TASKS)}, or mend the model or the data"
    if likely == subject.task:
        return "mend the model or the data"
    return f"it looks like {likely}; name that, or mend the model or the data"


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


def _of_text(encoded: Tensor | dict[str, Tensor], shape: Shape, split: Split, named: int) -> Task:
    if _is_logits(shape):
        _refuse_features(shape, split, named, "a text", "text-classification")
        return "text-classification"
    if len(shape) == 3 and shape[2] > int(token_ids(encoded).max()):  # noqa: PLR2004  (example, token, vocabulary)
        return "text-generation"
    raise _asked(f"texts with outputs of shape {shape} fit several tasks or none")


def _of_images(features: Tensor, shape: Shape, split: Split, named: int) -> Task:
    if len(shape) == 4 and shape[1] == features.shape[1]:  # noqa: PLR2004  (an image again)
        return "image-to-image"
    if _is_logits(shape):
        _refuse_features(shape, split, named, "an image", "image-classification", "image-feature-extraction")
        return "image-classification"
    raise _asked(f"images with outputs of shape {shape} fit several tasks or none")


def _refuse_features(shape: Shape, split: Split, named: int, what: str, *likely: Task) -> None:
    """Refuse to take as many numbers as there are no classes for classes: an encoder gives such, too."""
    width, occurring = shape[1] if len(shape) == 2 else 1, _class_count(split)  # noqa: PLR2004
    if width not in (1, occurring, named):
        raise _asked(
            f"the model gives {width} numbers for {what}, and the data has {occurring} classes: these may be classes or features",
            *likely,
        )


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

"""Images before and after an obfuscation, as they are saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_cards.randomness import seeded

if TYPE_CHECKING:
    from torch import Tensor

    from method_cards.data import Batch
    from method_cards.subject import Subject

Format: TypeAlias = Literal["8-bit", "float"]
"""How an obfuscated image is saved: 256 levels for each channel, or as computed."""


def not_applicable(subject: Subject) -> str:
    """Why a check of obfuscations says nothing about a subject; empty when it applies."""
    if subject.task == "image-to-image":
        return ""
    return f"It tests obfuscations of images (task image-to-image); this subject's task is {subject.task}."


def images_of(subject: Subject, batch: Batch, split: str) -> Tensor:
    """The images of a batch, ``(batch, channel, height, width)``.

    Raises:
        CheckError: They are no images, or go beyond 0 and 1.
    """
    images = subject.adapter.features(batch.inputs)
    if images.dim() != 4:  # noqa: PLR2004
        raise CheckError(f'"{split}" holds {tuple(images.shape[1:])}; images are (channel, height, width)')
    if not bool(((images >= 0) & (images <= 1)).all()):
        raise CheckError(
            f'images of "{split}" go from {float(images.min()):g} to {float(images.max()):g}; scale them to 0..1 in the data, so that '
            "saving them in 8 bits and bounding what is behind them mean something"
        )
    return images


def released(subject: Subject, batch: Batch, saved: Format, seed: int) -> Tensor:
    """The obfuscated images of a batch, as they are saved.

    Args:
        subject: Its model is the obfuscation.
        batch: Whole images.
        saved: The format.
        seed: What a random obfuscation draws from.
    """
    with seeded(seed):
        return as_saved(subject.outputs(batch), saved)


def as_saved(images: Tensor, saved: Format) -> Tensor:
    """Images in 256 levels from 0 to 1, or as they are."""
    return (images.clamp(0, 1) * 255).round() / 255 if saved == "8-bit" else images


def whole_split(subject: Subject, split: str, saved: Format, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """All images of a split, the same images as released, and their targets, some at a time."""
    parts = []
    for number, start in enumerate(range(0, len(subject.split(split)), subject.block)):
        batch = subject.batch(split, range(start, min(start + subject.block, len(subject.split(split)))))
        parts.append((images_of(subject, batch, split), released(subject, batch, saved, seed + number), batch.targets))
    images, obfuscated, targets = (torch.cat(each) for each in zip(*parts, strict=True))
    return images, obfuscated, targets


def refuse_strangers(people: Tensor, known: Tensor, splits: tuple[str, str]) -> None:
    """Nobody can be found who is not known.

    Raises:
        CheckError: Somebody of the first split is not in the second.
    """
    if strangers := int((~torch.isin(people, known)).sum()):
        raise CheckError(
            f'{strangers} of {len(people)} drawn images of "{splits[0]}" show people who are not in "{splits[1]}"; they could never be '
            f'identified, so add them to "{splits[1]}" or leave them out'
        )


def rounded_straight_through() -> torch.overrides.TorchFunctionMode:
    """A context in which rounding passes gradients on as if it did nothing."""
    rounding = (torch.round, torch.Tensor.round, torch.floor, torch.Tensor.floor, torch.ceil, torch.Tensor.ceil)

    class Through(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
            done = func(*args, **(kwargs or {}))
            return args[0] + (done - args[0]).detach() if func in rounding else done

    return Through()

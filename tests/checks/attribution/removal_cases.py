"""What the tests of the checks by removal share: linear models, maps, and a slow way along a curve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from method_cards.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Sequence


def linear(columns: int = 24, count: int = 96, seed: int = 0, scale: float = 0.3) -> Subject:
    """Two logits, z and -z, with z linear in the columns, explained by input times gradient."""
    generator = torch.Generator().manual_seed(seed)
    model = nn.Linear(columns, 2).eval()
    with torch.no_grad():
        weight = scale * torch.randn(columns, generator=generator) / 2
        model.weight.copy_(torch.stack([weight, -weight]))
        model.bias.zero_()
    data = torch.randn(count, columns, generator=generator)
    return Subject(
        "linear",
        "tabular-classification",
        model,
        {"test": (data, torch.zeros(count, dtype=torch.long))},
        explainer={"method": "input-x-gradient"},
    )


class Brightness(nn.Module):
    """Whether an image, any number of channels, is brighter than a level: smooth, quick, and easy to do by hand."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean((1, 2, 3)) * 4
        return torch.stack([mean, -mean], 1)


def bright(shape: tuple[int, ...] = (3, 9, 9), count: int = 96) -> Subject:
    """Random images of which the sum decides, explained by the input: exactly what a linear model's contributions are."""
    images = torch.randn(count, *shape, generator=torch.Generator().manual_seed(5))
    return Subject(
        "bright",
        "image-classification",
        Brightness().eval(),
        {"test": (images, torch.zeros(count, dtype=torch.long))},
        explainer={"method": "input-x-gradient"},
    )


def constant(_model: nn.Module, inputs: Tensor, _targets: Tensor) -> Tensor:
    """A map without any order."""
    return torch.ones(inputs.shape)


def slow_probability(subject: Subject, x: Tensor, target: int, gone: Sequence[int], there: Tensor) -> float:
    """The probability of the target when these positions (of the flattened input) are replaced."""
    flat = x.flatten().clone()
    for position in gone:
        flat[position] = there.flatten()[position]
    with torch.no_grad():
        return float(subject.model(flat.reshape(x.shape)[None]).softmax(1)[0, target])


def slow_area(heights: Sequence[float], shares: Sequence[float]) -> float:
    """The trapezoid rule, one piece at a time."""
    return sum((shares[k + 1] - shares[k]) * (heights[k] + heights[k + 1]) / 2 for k in range(len(heights) - 1))


def contribution(_model: object, inputs: Tensor, _targets: Tensor) -> Tensor:
    """The input."""
    return inputs


def scaled(_model: object, inputs: Tensor, _targets: Tensor) -> Tensor:
    """A thousand times the input."""
    return 1024 * inputs


def squashed(_model: object, inputs: Tensor, _targets: Tensor) -> Tensor:
    """Each number, squashed: the same order, other distances."""
    return inputs / (1 + inputs.abs())


class Still(torch.nn.Module):
    """Nearly the same logits, and the same class, whatever the input."""

    def forward(self, logits: Tensor) -> Tensor:
        return logits * 1e-4 + torch.arange(logits.shape[1])

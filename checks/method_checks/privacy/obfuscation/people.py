"""Images of people who are made up: each has a pattern of fine lines, each image its own light."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from method_cards.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

Pictures: TypeAlias = "tuple[Tensor, Tensor]"
"""Images ``(sample, 1, 32, 32)`` from 0 to 1, and who is on each, ``(sample,)``."""

SIDE = 32
"""Pixels along an image."""


@dataclass(frozen=True)
class People:
    """Somebody for each pattern.

    Attributes:
        patterns: ``(person, 1, 32, 32)``, of mean 0.
        light: How much brightness and its slopes differ between images of one person.
    """

    patterns: Tensor
    light: float = 0.08

    @classmethod
    def drawn(cls, count: int, generator: torch.Generator, contrast: float = 0.12, light: float = 0.08) -> People:
        """People who differ in the strength ``contrast``, a standard deviation of pixels."""
        noise = torch.randn(count, 1, SIDE + 2, SIDE + 2, generator=generator)
        fine = torch.nn.functional.avg_pool2d(noise, 3, stride=1) * 3
        return cls(contrast * fine, light)

    def photographed(self, times: int, generator: torch.Generator, noise: float = 0.02) -> Pictures:
        """So many images of each person, in random order, each with its own light and grain."""
        people = torch.arange(len(self.patterns)).repeat(times)
        people = people[torch.randperm(len(people), generator=generator)]
        ramp = torch.linspace(-1, 1, SIDE)
        level, across, down = self.light * torch.randn(3, len(people), 1, 1, 1, generator=generator)
        grain = noise * torch.randn(len(people), 1, SIDE, SIDE, generator=generator)
        images = 0.5 + self.patterns[people] + level + across * ramp + down * ramp[:, None] + grain
        return images.clamp(0, 1), people

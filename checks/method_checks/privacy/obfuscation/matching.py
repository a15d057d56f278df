"""Who is on an image: the person of the nearest image of a gallery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from method_cards.errors import CheckError
from method_cards.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Gallery:
    """Images of known people.

    Attributes:
        images: ``(gallery, channel, height, width)``.
        people: Who is on each, ``(gallery,)``.
    """

    images: Tensor
    people: Tensor

    def person(self, images: Tensor) -> Tensor:
        """The person of the nearest gallery image by Euclidean distance, of equally near ones the first, ``(batch,)``.

        Raises:
            CheckError: The images have another shape than those of the gallery.
        """
        if images.shape[1:] != self.images.shape[1:]:
            raise CheckError(
                f"images of shape {tuple(images.shape[1:])} cannot be looked up in a gallery of {tuple(self.images.shape[1:])}"
            )
        distances = torch.cdist(images.flatten(1).double(), self.images.flatten(1).double())
        return self.people[distances.argmin(1)]

    @property
    def chance(self) -> float:
        """The share of the gallery that shows its most frequent person: how often a constant guess is right, at best."""
        return float(torch.unique(self.people, return_counts=True)[1].max()) / len(self.people)

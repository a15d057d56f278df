"""Labels of the nearest public images: exact, block by block, with ties broken by similarity and never by the order of the classes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_checks.memorization.groups.blind import contents_of

if TYPE_CHECKING:
    from torch import Tensor

    from method_cards.data import Batch
    from method_cards.subject import Subject

Floats: TypeAlias = NDArray[np.float64]

Metric: TypeAlias = Literal["cosine", "euclidean"]

CELLS = 2**24
"""How many distances are held at once."""


@dataclass(frozen=True)
class Neighbours:
    """Labelled representations that others are compared with.

    Attributes:
        vectors: ``(public, width)`` float64, prepared by `prepared`.
        classes: The labels that occur, ascending, ``(class,)``.
        labels: Which of these classes each is of, ``(public,)``.
        k: How many neighbours are counted.
        metric: How near is measured.
        digests: The contents of the public images, to find them again.
    """

    vectors: Tensor
    classes: Tensor
    labels: Tensor
    k: int
    metric: Metric
    digests: list[bytes]

    @classmethod
    def of(cls, subject: Subject, split: str, k: int, metric: Metric) -> Neighbours:
        """The representations that a subject's model gives to all examples of a split.

        Raises:
            CheckError: There are fewer examples than neighbours, only one label, or the same representation for all.
        """
        size = len(subject.split(split))
        if size < k:
            raise CheckError(
                f'"{split}" has {size} examples, fewer than the {k} neighbours that are counted; lower `k`'
            )
        starts = range(0, size, subject.block)
        batches = (subject.batch(split, range(start, min(size, start + subject.block))) for start in starts)
        parts = [(subject.outputs(batch).double(), batch.targets, digests(subject, batch)) for batch in batches]
        vectors, targets = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
        classes, labels = torch.unique(targets, return_inverse=True)
        if len(classes) == 1:
            raise CheckError(
                f'all {size} examples of "{split}" have the label {int(classes[0])}; at least two are needed'
            )
        if bool((vectors == vectors[0]).all()):
            raise CheckError(
                f'the encoder gives all {size} examples of "{split}" the same representation; does it read its input?'
            )
        return cls(prepared(vectors, metric), classes, labels, k, metric, [each for part in parts for each in part[2]])

    def named(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The label that most neighbours of each vector have, and how certain that is.

        Args:
            vectors: ``(sample, width)``.

        Returns:
            Labels ``(sample,)`` and confidences ``(sample,)``: the negative entropy of the neighbours' labels, in nats, at most 0.
        """
        blocks = prepared(vectors.double(), self.metric).split(max(1, CELLS // len(self.vectors)))
        parts = [self._named(block) for block in blocks]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    def right(self, subject: Subject, batch: Batch) -> tuple[Floats, Floats]:
        """Whether the label of each example of a batch is named rightly, 0 or 1, and the confidence, both ``(batch,)``.

        Raises:
            CheckError: A label is none of those that can be named.
        """
        if unknown := int((~torch.isin(batch.targets, self.classes)).sum()):
            raise CheckError(
                f"{unknown} of {len(batch)} drawn crops have labels that no public image has, so they can never be named; number "
                "the labels of crops and public images alike, or leave these crops out"
            )
        label, confidence = self.named(subject.outputs(batch))
        return (label == batch.targets).double().cpu().numpy(), confidence.cpu().numpy()

    def _named(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        similarity, nearest = similarities(vectors, self.vectors, self.metric).topk(self.k, dim=1)
        labels = self.labels[nearest]
        zeros = torch.zeros(len(vectors), len(self.classes), dtype=torch.float64, device=vectors.device)
        counts = zeros.scatter_add(1, labels, torch.ones_like(similarity))
        summed = zeros.scatter_add(1, labels, similarity)
        tied = counts == counts.amax(1, keepdim=True)
        shares = counts / self.k
        return self.classes[summed.where(tied, -torch.inf).argmax(1)], torch.xlogy(shares, shares).sum(1)


def digests(subject: Subject, batch: Batch) -> list[bytes]:
    """A short number for each image of a batch, equal for equal images."""
    return [hashlib.blake2b(content, digest_size=16).digest() for content in contents_of(subject, batch)]


def prepared(vectors: Tensor, metric: Metric) -> Tensor:
    """Vectors of length one for the cosine; a vector of zeros stays what it is."""
    return torch.nn.functional.normalize(vectors, dim=1) if metric == "cosine" else vectors


def similarities(vectors: Tensor, others: Tensor, metric: Metric) -> Tensor:
    """How near each of ``(sample, width)`` is to each of ``(other, width)``: cosine, or the negative Euclidean distance."""
    return vectors @ others.T if metric == "cosine" else -torch.cdist(vectors, others)

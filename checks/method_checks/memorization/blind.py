"""The blind classifier: it tells members from non-members by their inputs and labels alone, and never sees the model.

Where it succeeds, the two sets come from different distributions, and whatever a membership attack finds on them says nothing about the model
(Das, Zhang and Tramèr 2024, arXiv 2406.16201).

Every example is scored by classifiers that were trained on earlier blocks only. In a cross-validation each pair of folds is counted twice, once as
training and once as test data: over 60 splits of one distribution, 1000 examples a side, the area under the ROC curve had a standard deviation of
.0169 where the interval assumes .0129. Scored forwards it had .0113 where the interval assumes .0144.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from method_cards.adapters import token_ids
from method_cards.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from method_cards.data import Batch
    from method_cards.subject import Subject

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]

WIDTH = 256
"""How many numbers describe a picture or a row; tables with fewer columns are taken as they are."""

VOCABULARY = 512
"""How many counts describe a text: token ids are counted modulo this number."""

LIMIT = 4000
"""How many examples of each group are looked at; beyond, the interval is far narrower than any bound on it."""

NEIGHBOURS = 10
"""Of how many nearest examples the labels are compared."""

FAR = 1e6
"""Where inputs are clipped, so that an infinite one cannot spoil all others."""


@dataclass(frozen=True)
class Examples:
    """What can be said of some examples without the model.

    Attributes:
        features: Their inputs, ``(sample, feature)``.
        labels: Their labels, ``(sample,)``; zeros where the task has none.
    """

    features: Floats
    labels: Integers

    def __len__(self) -> int:
        return len(self.labels)


def examples(subject: Subject, batch: Batch) -> Examples:
    """What the blind classifier sees of a batch: each row depends on its own example only."""
    labels = batch.targets if subject.task != "text-generation" else torch.zeros(len(batch), dtype=torch.long)
    if _is_text(subject, batch):
        features = _bags(token_ids(batch.inputs), subject.adapter.mask(batch.inputs))
    else:
        features = torch.cat([_dense(part) for part in _parts(batch.inputs)], dim=1)
    return Examples(features.double().cpu().numpy(), labels.cpu().numpy())


def contents(subject: Subject, batch: Batch) -> list[bytes]:
    """The input of each example as bytes, without padding: equal for equal examples, whatever batch they are in."""
    if _is_text(subject, batch):
        ids, mask = token_ids(batch.inputs).cpu(), subject.adapter.mask(batch.inputs)
        kept = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.cpu()
        return [row[keep].numpy().tobytes() for row, keep in zip(ids, kept, strict=True)]
    parts = [part.cpu().contiguous().view(len(batch), -1).view(torch.uint8).numpy() for part in _parts(batch.inputs)]
    return [b"\0".join(part[row].tobytes() for part in parts) for row in range(len(batch))]


def blind_scores(members: Examples, non_members: Examples, blocks: int, seed: int) -> Iterator[tuple[Floats, Floats]]:
    """Score examples by how much they look like members to classifiers that were trained on earlier blocks.

    A logistic regression finds shifts of means, gradient-boosted trees find shifts of shape; the one that did better on earlier blocks counts more.

    Args:
        members: Examples of the first group, in random order.
        non_members: Examples of the second group, in random order. Of the larger group what is too many is left out.
        blocks: In how many blocks both groups are cut; the first is for training only.
        seed: For the trees' choice of features.

    Yields:
        Scores of each further block's members and non-members in (0, 1): ranks within the block, so that blocks can be compared.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils._testing import ignore_warnings
    from threadpoolctl import threadpool_limits

    size = min(len(members), len(non_members), LIMIT)
    features = _described(members, non_members, size)
    is_member = np.repeat([1, 0], size)
    block = np.tile(np.arange(size) * blocks // size, 2)
    excess = [0.0, 0.0]
    for number in range(1, blocks):
        train, test = block < number, block == number
        if not train.any() or not test.any():
            continue
        with threadpool_limits(1), ignore_warnings(category=ConvergenceWarning):
            ranks = [
                _ranks(classifier.fit(features[train], is_member[train]).predict_proba(features[test])[:, 1])
                for classifier in _classifiers(seed)
            ]
        weights = [max(each, 0.02) for each in excess]
        combined = _ranks(weights[0] * ranks[0] + weights[1] * ranks[1])
        yield combined[is_member[test] == 1], combined[is_member[test] == 0]
        for which, rank in enumerate(ranks):
            advantage = float(rank[is_member[test] == 1].mean() - rank[is_member[test] == 0].mean())
            excess[which] += (advantage - excess[which]) / number

"""How well sums of influences predict what training on a subset does: the linear datamodelling score (Park et al. 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from method_cards.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

Floats: TypeAlias = NDArray[np.float64]


def random_halves(subsets: int, examples: int, generator: torch.Generator) -> Tensor:
    """Which examples each subset holds, bool ``(subset, example)``: in pairs, a random half and the other half.

    Every example then is in the same number of subsets, and every subset has the same size, give or take one.
    """
    halves = torch.zeros(subsets, examples, dtype=torch.bool)
    for first in range(0, subsets, 2):
        chosen = torch.randperm(examples, generator=generator)[: examples // 2]
        halves[first, chosen] = True
        if first + 1 < subsets:
            halves[first + 1] = ~halves[first]
    return halves


def linear_datamodelling_scores(influences: Floats, members: NDArray[np.bool_], outputs: Floats) -> Floats:
    """For each test example, the rank correlation over subsets of the predicted with the true output, ``(test,)``.

    Args:
        influences: ``(train, test)``; the prediction for a subset is their sum over its members.
        members: ``(subset, train)``.
        outputs: Of a model trained on each subset, ``(subset, test)``.
    """
    return rank_correlations(members.astype(np.float64) @ influences, outputs)


def rank_correlations(one: Floats, other: Floats) -> Floats:
    """Spearman's correlation of each column, ``(column,)``; 0 where a column is constant, which predicts nothing."""
    from scipy.stats import rankdata

    ranks = [rankdata(each, axis=0) for each in (one, other)]
    centred = [each - each.mean(axis=0) for each in ranks]
    lengths = np.prod([np.sqrt((each**2).sum(axis=0)) for each in centred], axis=0)
    products = (centred[0] * centred[1]).sum(axis=0)
    found: Floats = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    return found.clip(-1.0, 1.0)  # rounding may exceed 1

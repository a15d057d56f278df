"""How much more often models predict a label when they were trained on it (Feldman and Zhang 2020, arXiv 2008.03703).

``mem(i) = P[f(x_i) = y_i | trained on i] - P[f(x_i) = y_i | not trained on i]``, over models that were trained on random subsets.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def shares(correct: Flags, chosen: Flags) -> Floats:
    """The share of each example's chosen models that predict its label, ``(example,)``.

    Args:
        correct: ``(model, example)``.
        chosen: Which models count for an example, ``(model, example)``; at least one each.
    """
    return np.asarray((correct & chosen).sum(0) / chosen.sum(0), dtype=np.float64)


def scores(correct: Flags, trained_on: Flags) -> Floats:
    """The memorisation score of each example, ``(example,)`` from -1 to 1; 0 on average where nothing is memorised.

    Args:
        correct: Whether a model predicts the label, ``(model, example)``.
        trained_on: Whether it was trained on the example, ``(model, example)``; each example by some and not by all.
    """
    return shares(correct, trained_on) - shares(correct, ~trained_on)


def lower_bounds(correct: Flags, trained_on: Flags, level: float) -> Floats:
    """What each example's score exceeds with this confidence, ``(example,)``.

    The lower Clopper-Pearson limit of the one share less the upper limit of the other, each at half of the error: exact, whatever
    the shares are, for models that are drawn independently.

    Args:
        correct: ``(model, example)``.
        trained_on: ``(model, example)``.
        level: The confidence for each example, one-sided.
    """
    from scipy.stats import beta

    half = (1 - level) / 2
    inside, outside = trained_on.sum(0), (~trained_on).sum(0)
    hits, misses = (correct & trained_on).sum(0), (~correct & ~trained_on).sum(0)
    low = np.where(hits > 0, beta.ppf(half, np.maximum(hits, 1), inside - hits + 1), 0.0)
    not_high = np.where(misses > 0, beta.ppf(half, np.maximum(misses, 1), outside - misses + 1), 0.0)
    return np.asarray(low + not_high - 1, dtype=np.float64)


def standard_error(trained_on: Flags) -> float:
    """The largest standard error that a score can have with so many models: both shares at one half, the example with the fewest models."""
    return float(np.sqrt(0.25 / trained_on.sum(0) + 0.25 / (~trained_on).sum(0)).max())


def reliability(correct: Flags, trained_on: Flags) -> float | None:
    """The correlation of the scores from the first half of the models with those from the second; None where either are all equal.

    Args:
        correct: ``(model, example)``.
        trained_on: ``(model, example)``; in each half, each example is trained on by some models and not by all.
    """
    half = len(correct) // 2
    first, second = (scores(correct[part], trained_on[part]) for part in (slice(half), slice(half, None)))
    if math.isclose(np.ptp(first), 0.0, abs_tol=1e-12) or math.isclose(np.ptp(second), 0.0, abs_tol=1e-12):
        return None
    return float(np.clip(np.corrcoef(first, second)[0, 1], -1.0, 1.0))

"""Membership scores that compare a model with reference models, of which some were trained on an example and some were not.

Everything here is NumPy on logit-scaled confidences ``phi = log p - log(1 - p)`` of the examples' labels: those of the target
``(example,)``, those of the references ``(reference, example)``, and which reference was trained on which example.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

LEAST_SPREAD = 1e-6
"""Standard deviations below are taken as this: references that agree to rounding say nothing about spread."""

PER_EXAMPLE = 64
"""From how many shadow models on every example has standard deviations of its own; fewer do not determine them."""


class Normal(NamedTuple):
    """A normal distribution for each example: mean and standard deviation, both ``(example,)``."""

    mean: Floats
    deviation: Floats


def fitted(references: Floats, chosen: Bools, *, per_example: bool) -> Normal:
    """The distribution of each example's confidence over the chosen references.

    Args:
        references: Confidences ``(reference, example)``.
        chosen: Which of them count, ``(reference, example)``; at least two for each example.
        per_example: Whether each example has a standard deviation of its own. Otherwise the deviations from each example's own
            mean are pooled over all examples: what examples differ by among themselves is not spread.
    """
    count = chosen.sum(0)
    mean = np.where(chosen, references, 0.0).sum(0) / count
    squares = np.where(chosen, (references - mean) ** 2, 0.0)
    total, freedom = (squares.sum(0), count - 1) if per_example else (squares.sum(), (count - 1).sum())
    return Normal(mean, np.maximum(np.sqrt(np.broadcast_to(total / freedom, mean.shape)), LEAST_SPREAD))


def lira_online(target: Floats, references: Floats, trained_on: Bools, *, per_example: bool) -> Floats:
    """Logarithm of the likelihood ratio: as confident as models that were trained on the example, or as those that were not.

    Args:
        target: Confidences ``(example,)``.
        references: Confidences ``(reference, example)``.
        trained_on: Whether the reference was trained on the example, ``(reference, example)``.
        per_example: Whether each example has standard deviations of its own.
    """
    inside = fitted(references, trained_on, per_example=per_example)
    outside = fitted(references, ~trained_on, per_example=per_example)
    return _log_density(target, inside) - _log_density(target, outside)


def lira_offline(target: Floats, references: Floats, trained_on: Bools, *, per_example: bool) -> Floats:
    """Logarithm of the chance that a model that was not trained on the example is less confident: one-sided.

    Args:
        target: Confidences ``(example,)``.
        references: Confidences ``(reference, example)``; those of models that were trained on the example are not looked at.
        trained_on: Whether the reference was trained on the example, ``(reference, example)``.
        per_example: Whether each example has a standard deviation of its own.
    """
    from scipy.special import log_ndtr

    outside = fitted(references, ~trained_on, per_example=per_example)
    return np.asarray(log_ndtr((target - outside.mean) / outside.deviation), dtype=np.float64)


def evidence_online(references: Floats, trained_on: Bools) -> Floats:
    """The label's probability without knowledge of the membership, ``(example,)``: the mean over models trained with and without it."""
    probabilities = _probability(references)
    return (_mean(probabilities, trained_on) + _mean(probabilities, ~trained_on)) / 2


def evidence_offline(references: Floats, trained_on: Bools, scale: float) -> Floats:
    """The same, guessed from models that were not trained on the example: ``((1 + scale) p + 1 - scale) / 2``."""
    return ((1 + scale) * _mean(_probability(references), ~trained_on) + 1 - scale) / 2


def rmia(target: Floats, evidence: Floats, population: NDArray[np.int64], gamma: float) -> Floats:
    """Relative membership: the share of a population of non-members over which the example's likelihood ratio dominates.

    Args:
        target: Confidences ``(example,)``.
        evidence: The label's probability without knowledge of the membership, ``(example,)``.
        population: Numbers of examples that the target was not trained on.
        gamma: How many times as large the example's ratio must be.
    """
    ratios = _probability(target) / np.maximum(evidence, np.finfo(np.float64).tiny)
    bars = np.sort(gamma * ratios[population])
    return np.searchsorted(bars, ratios, side="right") / len(bars)


def _log_density(values: Floats, normal: Normal) -> Floats:
    """Up to a constant that all examples share."""
    return -0.5 * ((values - normal.mean) / normal.deviation) ** 2 - np.log(normal.deviation)


def _mean(values: Floats, chosen: Bools) -> Floats:
    return np.asarray(np.where(chosen, values, 0.0).sum(0) / chosen.sum(0), dtype=np.float64)


def _probability(confidences: Floats) -> Floats:
    from scipy.special import expit

    return np.asarray(expit(confidences), dtype=np.float64)

"""Whether slices have more errors than other examples of the same stratum, on examples that they were not found on.

A stratum is a predicted class and a range of confidence: within it, a model says the same of all examples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


def strata(predicted: Integers, confidence: Floats, first: Flags, bins: int) -> Integers:
    """The stratum of each example: its predicted class, and in which of so many ranges its confidence lies, ``(example,)``.

    The ranges of each class hold equally many examples of the first half.

    Args:
        predicted: ``(example,)``.
        confidence: The probability of the predicted class, ``(example,)``.
        first: Which examples are of the first half.
        bins: How many ranges.
    """
    found = np.zeros(predicted.size, dtype=np.int64)
    for label in np.unique(predicted):
        own = predicted == label
        known = confidence[own & first]
        limits = np.quantile(known, np.arange(1, bins) / bins) if known.size else np.empty(0)
        found[own] = label * bins + np.searchsorted(limits, confidence[own])
    return found


def paired(inside: Flags, stratum: Integers, wrong: Flags, rng: np.random.Generator) -> Floats:
    """The error of an example of the slices less that of another one of its stratum, for as many pairs as there are.

    No example is in two pairs, so that pairs are independent; the mean is 0 where errors do not depend on the slice.

    Args:
        inside: Whether an example is in the slices, ``(example,)``.
        stratum: ``(example,)``.
        wrong: Whether it is an error.
        rng: Draws the partners, and the order of the pairs.

    Returns:
        -1, 0 or 1 for each pair.
    """
    differences = [np.empty(0)]
    for label in np.unique(stratum):
        own, others = (rng.permutation(np.flatnonzero((stratum == label) & part)) for part in (inside, ~inside))
        pairs = min(own.size, others.size)
        differences.append(wrong[own[:pairs]].astype(np.float64) - wrong[others[:pairs]])
    return rng.permutation(np.concatenate(differences))


def permutation_p(inside: Flags, stratum: Integers, wrong: Flags) -> float:
    """The chance of as many errors in the slices, when errors are permuted within strata: exact, without drawing any.

    The errors in the slices are then a sum of hypergeometric numbers, one for each stratum.

    Args:
        inside: Whether an example is in the slices, ``(example,)``.
        stratum: ``(example,)``.
        wrong: Whether it is an error.
    """
    from scipy.stats import hypergeom

    chances = np.ones(1)
    for label in np.unique(stratum):
        own = stratum == label
        draws, errors = int((own & inside).sum()), int((own & wrong).sum())
        counts = np.arange(min(draws, errors) + 1)
        chances = np.convolve(chances, hypergeom.pmf(counts, int(own.sum()), errors, draws))
    return float(min(1.0, chances[int((inside & wrong).sum()) :].sum()))

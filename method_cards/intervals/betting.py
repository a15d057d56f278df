"""Confidence sequences for the mean of bounded values: they hold at every sample size at once, so one may stop early.

A gambler bets that the values lie above a candidate mean ``m``, another that they lie below. If ``m`` is the true
mean, neither game can be expected to win, and by Ville's inequality the capital ever reaches ``1 / alpha`` with
probability ``alpha`` at most. So each ``m`` against which somebody ever got that rich is excluded, for good.

Source: Waudby-Smith and Ramdas 2024, Estimating means of bounded random variables by betting, JRSS-B 86(1),
arXiv:2010.09686. The formulas were checked against the authors' package ``confseq`` and against descriptions of
Theorem 2 elsewhere; the text of the paper itself could not be read. One departure: ``confseq`` tunes its bets to
``log(1 / alpha)``, here as in descriptions of the paper it is ``log(2 / alpha)``. Any bet that looks only at the past
is valid; the choice moves the width alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from method_cards.intervals.interval import Floats, Interval, alpha_of, finite_array, finite_number

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

TRUNCATION = 0.5
"""No bet risks more than this share of the capital (the paper's c; it names 1/2 and 3/4). 1/2 was narrower for binary
values at 64 to 5,000 samples (by 15 to 25 % at a mean of .2 and .5), 3/4 only for values with hardly any spread."""

HALVINGS = 40
"""Endpoints are found to one part in 2**40 (1e-12) of the range."""


def betting(values: ArrayLike, lower: float, upper: float, confidence: float = 0.95) -> Interval:
    """The hedged-capital confidence sequence for the mean of bounded values, at the last of them.

    It holds at all sample sizes at once: a value is left out once it was excluded at any earlier size. The order
    counts, so pass the values as they were drawn; sorted values, or a mean that drifts, break the promise. Where the
    values contradict every mean, the whole range is returned, and an interval that does not hold the sample mean is
    widened up to it; both only take back claims.

    Args:
        values: One number for each independent sample in the order drawn, ``(sample,)``, from ``lower`` to ``upper``.
        lower: The smallest value possible.
        upper: The greatest value possible.
        confidence: Between 0 and 1.

    Returns:
        In the unit of the values; the whole range where there are none.

    Raises:
        ValueError: The range is empty or infinite, values are not finite or leave it, or the confidence is not
            between 0 and 1.

    Source: Waudby-Smith and Ramdas 2024, arXiv:2010.09686; see the head of this module.
    """
    alpha = alpha_of(confidence)
    x = _rescaled(values, lower, upper)
    return _in_units(hedged_capital(x, alpha), x, lower, upper, confidence, method="betting")


def betting_p(values: ArrayLike, lower: float, upper: float, bound: float, confidence: float = 0.95) -> float:
    """Two-sided evidence against a mean of exactly ``bound``, valid whenever one stops.

    It is one over the greatest capital that was ever won against that mean, at most 1. Only the gambler counts who
    bets on the side where the sample mean lies; where the values contradict every mean, the p-value is 1.

    Args:
        values: One number for each independent sample in the order drawn, ``(sample,)``, from ``lower`` to ``upper``.
        lower: The smallest value possible.
        upper: The greatest value possible.
        bound: A mean; one outside the range is impossible, its p-value 0.
        confidence: What the bets are tuned to. A p-value agrees with the interval of this confidence, and is valid
            for any.

    Returns:
        A p-value in [0, 1].

    Raises:
        ValueError: As `betting`, or the bound is not finite.
    """
    alpha = alpha_of(confidence)
    x = _rescaled(values, lower, upper)
    m = (finite_number("bound", bound) - lower) / (upper - lower)
    if not 0 <= m <= 1:
        return 0.0
    mean = float(x.mean()) if x.size else 0.5
    if m == mean:
        return 1.0
    stakes = bets(x, alpha)
    most = greatest_log_capital(x, stakes, m) if m < mean else greatest_log_capital(1 - x, stakes, 1 - m)
    p_value = min(1.0, 2 * math.exp(-most))
    if p_value <= alpha:
        low, high = hedged_capital(x, alpha)
        return p_value if low <= high else 1.0
    return p_value


def empirical_bernstein(values: ArrayLike, lower: float, upper: float, confidence: float = 0.95) -> Interval:
    """The predictable plug-in empirical-Bernstein confidence sequence for the mean of bounded values, at the last one.

    The same promise as `betting` in closed form, and wider unless the values spread much: a cross-check.

    Args:
        values: One number for each independent sample in the order drawn, ``(sample,)``, from ``lower`` to ``upper``.
        lower: The smallest value possible.
        upper: The greatest value possible.
        confidence: Between 0 and 1.

    Returns:
        In the unit of the values; the whole range where there are none.

    Raises:
        ValueError: As `betting`.

    Source: Waudby-Smith and Ramdas 2024, arXiv:2010.09686, Theorem 2; see the head of this module.
    """
    alpha = alpha_of(confidence)
    x = _rescaled(values, lower, upper)
    low, high = plug_in_bernstein(x, alpha) if x.size else (np.zeros(1), np.ones(1))
    return _in_units((float(low[-1]), float(high[-1])), x, lower, upper, confidence, method="empirical-bernstein")


def bets(x: Floats, alpha: float) -> Floats:
    """The predictable plug-in bets, before truncation.

    ``sqrt(2 log(2/alpha) / (v[t-1] t log(1+t)))``, where ``v[t-1]`` is the variance of the values before ``t``,
    regularised by one made-up value with mean 1/2 and variance 1/4.

    Args:
        x: Values in [0, 1] in the order in which they were drawn, ``(..., time)``.
        alpha: One minus the confidence.

    Returns:
        A bet for each value that depends only on the values before it, ``(..., time)``, positive.
    """
    t = np.arange(1, x.shape[-1] + 1, dtype=np.float64)
    mean = (0.5 + np.cumsum(x, axis=-1)) / (t + 1)
    variance = (0.25 + np.cumsum((x - mean) ** 2, axis=-1)) / (t + 1)
    before = np.concatenate([np.full((*x.shape[:-1], 1), 0.25), variance[..., :-1]], axis=-1)
    return np.asarray(np.sqrt(2 * math.log(2 / alpha) / (before * t * np.log1p(t))))


def greatest_log_capital(x: Floats, bets: Floats, m: float) -> float:
    """The most that the gambler who bets on "above ``m``" ever had, as a logarithm; he starts with one.

    Each factor ``1 + min(bet, c/m) (x - m)`` is positive and does not increase in ``m``, so neither does the result:
    the set of ``m`` that it excludes is an interval, and bisection finds its end. The gambler on the other side is
    this one on ``1 - x`` and ``1 - m``.

    Args:
        x: Values in [0, 1], ``(time,)``.
        bets: Of `bets`, ``(time,)``.
        m: A candidate mean in [0, 1].

    Returns:
        The maximum over all times, the start included, hence at least 0.
    """
    if not x.size:
        return 0.0
    stakes = np.minimum(bets, TRUNCATION / m) if m > 0 else bets
    return max(0.0, float(np.cumsum(np.log1p(stakes * (x - m))).max()))


def hedged_capital(x: Floats, alpha: float) -> tuple[float, float]:
    """The running intersection of the hedged-capital confidence sequence, at the last time.

    Both gamblers start with half of the money; a candidate is excluded once the richer one ever had ``1 / alpha``.

    Args:
        x: Values in [0, 1] in the order in which they were drawn, ``(time,)``.
        alpha: One minus the confidence.

    Returns:
        Low and high end in [0, 1]. Where low lies above high, every candidate is excluded.
    """
    stakes = bets(x, alpha)
    threshold = math.log(2 / alpha)
    return _lowest(x, stakes, threshold), 1 - _lowest(1 - x, stakes, threshold)


def _lowest(x: Floats, stakes: Floats, threshold: float) -> float:
    if greatest_log_capital(x, stakes, 0.0) < threshold:
        return 0.0
    excluded, kept = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (excluded + kept) / 2
        if greatest_log_capital(x, stakes, middle) < threshold:
            kept = middle
        else:
            excluded = middle
    return excluded


def plug_in_bernstein(x: Floats, alpha: float) -> tuple[Floats, Floats]:
    """The running intersection of the predictable plug-in empirical-Bernstein confidence sequence, at every time.

    Centre ``sum(b x) / sum(b)``, radius ``(log(2/alpha) + sum(v psi(b))) / sum(b)``, where ``b`` are the bets, at
    most `TRUNCATION`, ``v = (x - mean before)**2`` and ``psi(b) = -log(1 - b) - b``. (The paper writes ``4 v`` and
    ``psi / 4``.)

    Args:
        x: Values in [0, 1] in the order in which they were drawn, ``(..., time)``.
        alpha: One minus the confidence.

    Returns:
        Low and high ends in [0, 1], each ``(..., time)``.
    """
    stakes = np.minimum(bets(x, alpha), TRUNCATION)
    t = np.arange(1, x.shape[-1] + 1, dtype=np.float64)
    mean = (0.5 + np.cumsum(x, axis=-1)) / (t + 1)
    before = np.concatenate([np.full((*x.shape[:-1], 1), 0.5), mean[..., :-1]], axis=-1)
    total = np.cumsum(stakes, axis=-1)
    centre = np.cumsum(stakes * x, axis=-1) / total
    spread = np.cumsum((x - before) ** 2 * (-np.log1p(-stakes) - stakes), axis=-1)
    radius = (math.log(2 / alpha) + spread) / total
    low = np.maximum.accumulate(np.clip(centre - radius, 0.0, 1.0), axis=-1)
    high = np.minimum.accumulate(np.clip(centre + radius, 0.0, 1.0), axis=-1)
    return low, high


def _in_units(
    ends: tuple[float, float], x: Floats, lower: float, upper: float, confidence: float, *, method: str
) -> Interval:
    mean = float(x.mean()) if x.size else 0.5
    low, high = ends if ends[0] <= ends[1] else (0.0, 1.0)
    low, high = min(low, mean), max(high, mean)
    estimate, low, high = (min(float(upper), lower + share * (upper - lower)) for share in (mean, low, high))
    return Interval(estimate, low, high, confidence, method=method, n=x.size, anytime=True)


def _rescaled(values: ArrayLike, lower: float, upper: float) -> Floats:
    if not (lower < upper and math.isfinite(upper - lower)):
        raise ValueError(
            f"the range goes from {lower!r} to {upper!r}; a mean needs two finite limits, the lower one first"
        )
    array = finite_array("values", values)
    if array.size and (array.min() < lower or array.max() > upper):
        raise ValueError(
            f"the values go from {array.min():g} to {array.max():g}, outside their range {lower:g} to {upper:g}"
        )
    return np.clip((array - lower) / (upper - lower), 0.0, 1.0)

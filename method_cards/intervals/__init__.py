"""Confidence intervals that verdicts are decided from, and the p-values that agree with them.

| quantity | interval | holds |
| --- | --- | --- |
| share of ones | `clopper_pearson` | at the one n that was fixed beforehand |
| mean of bounded values | `betting`; wider, as a cross-check: `empirical_bernstein` | at every n at once |
| area under the ROC curve | `delong` | at the one n that was fixed beforehand |
| counted, not sampled | `exact` | always |

A bound lies outside an interval exactly when its p-value is below one minus the confidence (to the rounding of its
ends). Nothing here imports SciPy before it is needed: it would add a fifth of a second to every start.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from method_cards.intervals.betting import betting, betting_p, empirical_bernstein
from method_cards.intervals.clopper_pearson import binomial_p, clopper_pearson, clopper_pearson_p
from method_cards.intervals.delong import delong, delong_p
from method_cards.intervals.interval import Interval, alpha_of, exact, finite_array, finite_number

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "Interval",
    "betting",
    "betting_p",
    "clopper_pearson",
    "clopper_pearson_p",
    "delong",
    "delong_p",
    "empirical_bernstein",
    "exact",
    "holm",
    "samples_needed",
]

MOST_SAMPLES = 10_000_000
"""A number of samples above which no advice is given."""


def holm(p_values: ArrayLike) -> list[float]:
    """P-values adjusted for how many there are, by Holm's step-down procedure.

    Held to a level, the adjusted ones keep the chance of any false alarm among them at that level. The smallest is
    multiplied by their number, the next by one less, and so on; none falls below an earlier one or exceeds 1.

    Args:
        p_values: Numbers in [0, 1], ``(test,)``; they may depend on each other in any way.

    Returns:
        The adjusted ones in the order of the arguments.

    Raises:
        ValueError: One is not a number in [0, 1].

    Source: Holm 1979, Scandinavian Journal of Statistics 6(2):65-70 (from memory).
    """
    p = finite_array("p_values", p_values)
    if p.size and (p.min() < 0 or p.max() > 1):
        raise ValueError(f"p_values go from {p.min():g} to {p.max():g}; each must lie in 0 to 1")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)))
    return [float(value) for value in adjusted]


def samples_needed(
    interval: Interval,
    bound: float,
    range: tuple[float, float] = (0.0, 1.0),  # noqa: A002 - as measurements call it
) -> int | None:
    """Roughly how many samples in total would decide a bound that the interval straddles.

    The estimate is taken to stay what it is. For a proportion the Clopper-Pearson interval at the same share is
    followed to the size where it lets go of the bound. Otherwise the distance from the estimate to the end that faces
    the bound is taken to fall as ``1 / sqrt(n)``, and as ``sqrt(log(1 + n) / n)`` if the interval is an anytime one.
    Where that end stands at the limit of the range, its distance says too little, and Hoeffding's bound gives the
    least number. Values with hardly any spread need fewer (their intervals shrink as ``1 / n``).

    Args:
        interval: What the samples said so far.
        bound: Where the criterion draws its line.
        range: The least and greatest value possible; infinite where there is no bound.

    Returns:
        How many in total, more than there are; the present number where the bound lies outside the interval already.
        None where the estimate is the bound, there are no samples, or `MOST_SAMPLES` would not do.

    Raises:
        ValueError: The bound is not finite, or the range is empty.
    """
    bound = finite_number("bound", bound)
    if not range[0] < range[1]:
        raise ValueError(
            f"the range goes from {range[0]:g} to {range[1]:g}; its lower limit must lie below its upper one"
        )
    if not interval.low <= bound <= interval.high:
        return interval.n
    distance = abs(interval.estimate - bound)
    if distance == 0 or interval.n == 0:
        return None
    if interval.method == "clopper-pearson":
        return _trials_needed(interval.estimate, interval.n, bound, alpha_of(interval.confidence))
    end, limit = (interval.low, range[0]) if bound < interval.estimate else (interval.high, range[1])
    ratio = (abs(interval.estimate - end) / distance) ** 2
    total = interval.n * ratio
    if interval.anytime:
        total = _with_logarithm(interval.n, ratio)
    if end == limit:
        total = max(total, math.log(2 / alpha_of(interval.confidence)) / 2 * ((range[1] - range[0]) / distance) ** 2)
    needed = max(interval.n + 1, math.ceil(round(min(total, MOST_SAMPLES + 1), 6)))
    return needed if needed <= MOST_SAMPLES else None


def _with_logarithm(n: int, ratio: float) -> float:
    """The ``total`` with ``total / log(1 + total) = ratio n / log(1 + n)``, by iteration: the logarithm is concave."""
    total = n * ratio
    for _ in range(30):
        total = n * ratio * math.log1p(total) / math.log1p(n)
    return total


def _trials_needed(share: float, trials: int, bound: float, alpha: float) -> int | None:
    if binomial_p(share * MOST_SAMPLES, MOST_SAMPLES, bound) >= alpha:
        return None
    undecided, decided = trials, MOST_SAMPLES
    while decided - undecided > 1:
        middle = (undecided + decided) // 2
        if binomial_p(share * middle, middle, bound) < alpha:
            decided = middle
        else:
            undecided = middle
    return decided

"""Proportions at a sample size that was fixed beforehand."""

from __future__ import annotations

from method_cards.intervals.interval import Interval, alpha_of, finite_number


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """The exact interval for a proportion at a sample size that was fixed beforehand.

    Args:
        successes: How many ones, from 0 to ``trials``.
        trials: How many samples; none give the whole range.
        confidence: Between 0 and 1.

    Returns:
        Shares in [0, 1]. It covers with at least the confidence, whatever the true share; it must not be looked at
        twice.

    Raises:
        ValueError: The counts are no counts, or the confidence is not between 0 and 1.

    Source: Clopper and Pearson 1934, Biometrika 26(4):404-413, doi:10.1093/biomet/26.4.404 (agrees with
    ``scipy.stats.binomtest``).
    """
    successes, trials = _counts(successes, trials)
    alpha = alpha_of(confidence)
    if trials == 0:
        return Interval(0.5, 0.0, 1.0, confidence, method="clopper-pearson", n=0, anytime=False)
    from scipy.special import betaincinv

    low = float(betaincinv(successes, trials - successes + 1, alpha / 2)) if successes else 0.0
    high = float(betaincinv(successes + 1, trials - successes, 1 - alpha / 2)) if successes < trials else 1.0
    return Interval(successes / trials, low, high, confidence, method="clopper-pearson", n=trials, anytime=False)


def clopper_pearson_p(successes: int, trials: int, bound: float) -> float:
    """Two-sided evidence against a share of exactly ``bound``: twice the smaller tail, at most 1, as in the interval.

    Args:
        successes: How many ones, from 0 to ``trials``.
        trials: How many samples.
        bound: A share; one outside [0, 1] is impossible, its p-value 0.

    Returns:
        A p-value in [0, 1].

    Raises:
        ValueError: The counts are no counts, or the bound is not finite.
    """
    successes, trials = _counts(successes, trials)
    return binomial_p(successes, trials, finite_number("bound", bound))


def binomial_p(successes: float, trials: float, bound: float) -> float:
    """The p-value, for fractions of samples too: the counts are the parameters of a beta distribution."""
    if not 0 <= bound <= 1:
        return 0.0
    from scipy.special import betainc

    at_least = float(betainc(successes, trials - successes + 1, bound)) if successes else 1.0
    at_most = float(betainc(trials - successes, successes + 1, 1 - bound)) if successes < trials else 1.0
    return min(1.0, 2 * min(at_least, at_most))


def _counts(successes: int, trials: int) -> tuple[int, int]:
    if int(successes) != successes or int(trials) != trials or not 0 <= successes <= trials:
        raise ValueError(
            f"{successes!r} successes of {trials!r} trials: both must be whole numbers, the first from 0 to the second"
        )
    return int(successes), int(trials)

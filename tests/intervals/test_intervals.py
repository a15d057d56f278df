"""Intervals: agreement with libraries and slow re-implementations, coverage, and p-values that say the same."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import binom, binomtest
from sklearn.metrics import roc_auc_score

from method_cards import intervals
from method_cards.intervals import Interval
from method_cards.intervals.delong import area_and_variance, score_z

if TYPE_CHECKING:
    from collections.abc import Callable

    from method_cards.intervals.interval import Floats

ALPHA = 0.05


def most_by_chance(runs: int, rate: float) -> int:
    """So many misses of ``runs`` are exceeded once in 10,000 tests, if each is a miss with chance ``rate``."""
    return int(binom.isf(1e-4, runs, rate))


def normal_scores(rng: np.random.Generator, area: float, first: int, second: int) -> tuple[Floats, Floats]:
    from scipy.special import ndtri

    return rng.normal(math.sqrt(2) * ndtri(area), 1, first), rng.normal(0, 1, second)


def exponential_scores(rng: np.random.Generator, area: float, first: int, second: int) -> tuple[Floats, Floats]:
    return rng.exponential(area / (1 - area), first), rng.exponential(1, second)


# --- exact ----------------------------------------------------------------------------------------------------------


def test_an_exact_value_has_an_interval_without_width() -> None:
    """A counted quantity is its own interval, with certainty, whenever one looks."""
    assert intervals.exact(3) == Interval(3.0, 3.0, 3.0, confidence=1.0, method="exact", n=1, anytime=True)


# --- Clopper-Pearson ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (0, 30), (30, 30), (1, 30), (7, 20), (499, 1000)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_clopper_pearson_is_scipys(successes: int, trials: int, confidence: float) -> None:
    """The interval for a proportion is the one that SciPy calls exact."""
    found = intervals.clopper_pearson(successes, trials, confidence)
    expected = binomtest(successes, trials).proportion_ci(confidence, method="exact")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert (found.estimate, found.n, found.anytime) == (successes / trials, trials, False)


def test_clopper_pearson_p_is_twice_the_smaller_tail() -> None:
    """The p-value of a share is twice the smaller one-sided p-value of SciPy's binomial test."""
    for successes in range(13):
        for bound in (0.0, 0.1, 0.5, 0.77, 1.0):
            tails = [binomtest(successes, 12, bound, alternative=side).pvalue for side in ("less", "greater")]
            expected = min(1.0, 2 * min(tails))
            assert intervals.clopper_pearson_p(successes, 12, bound) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5, 0.9])
@pytest.mark.parametrize("trials", [20, 200])
def test_clopper_pearson_covers_at_a_fixed_size(share: float, trials: int) -> None:
    """Summed over all outcomes, not simulated: the chance to miss the true share never exceeds alpha."""
    miss = 0.0
    for successes in range(trials + 1):
        interval = intervals.clopper_pearson(successes, trials)
        miss += binom.pmf(successes, trials, share) * (not interval.low <= share <= interval.high)
    assert miss <= ALPHA


def test_no_trials_say_nothing() -> None:
    """Without samples the interval is the whole range and the p-value is 1."""
    assert intervals.clopper_pearson(0, 0) == Interval(0.5, 0.0, 1.0, 0.95, "clopper-pearson", 0, anytime=False)
    assert intervals.clopper_pearson_p(0, 0, 0.3) == 1.0


# --- DeLong ---------------------------------------------------------------------------------------------------------


def slow_area_and_variance(positives: Floats, negatives: Floats) -> tuple[float, float]:
    """DeLong et al. 1988, straight from the definition: every positive against every negative."""

    def won(positive: float, negative: float) -> float:
        return 1.0 if positive > negative else 0.5 if positive == negative else 0.0

    m, n = len(positives), len(negatives)
    area = sum(won(x, y) for x in positives for y in negatives) / (m * n)
    v10 = [sum(won(x, y) for y in negatives) / n for x in positives]
    v01 = [sum(won(x, y) for x in positives) / m for y in negatives]
    s10 = sum((v - area) ** 2 for v in v10) / (m - 1)
    s01 = sum((v - area) ** 2 for v in v01) / (n - 1)
    return area, s10 / m + s01 / n


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_the_fast_variance_is_delongs_definition(levels: int) -> None:
    """Midranks give the area and variance that comparing all pairs gives, ties included."""
    rng = np.random.default_rng(levels)
    for _ in range(10):
        positives = rng.integers(0, levels, 23).astype(np.float64) + levels // 3
        negatives = rng.integers(0, levels, 41).astype(np.float64)
        assert area_and_variance(positives, negatives) == pytest.approx(slow_area_and_variance(positives, negatives))


def test_the_area_is_scikit_learns() -> None:
    """The area under the ROC curve is scikit-learn's, ties included."""
    rng = np.random.default_rng(1)
    positives, negatives = rng.integers(0, 9, 60) + 1.0, rng.integers(0, 9, 80) * 1.0
    labels = np.repeat([1, 0], [60, 80])
    found = intervals.delong(positives, negatives)
    assert found.estimate == pytest.approx(roc_auc_score(labels, np.concatenate([positives, negatives])))
    assert (found.n, found.method, found.anytime) == (60, "delong", False)


@pytest.mark.parametrize("scores", [normal_scores, exponential_scores])
@pytest.mark.parametrize("area", [0.5, 0.7, 0.95])
@pytest.mark.parametrize("sizes", [(30, 30), (30, 300), (300, 30), (500, 500)])
def test_delong_covers_at_fixed_sizes(
    scores: Callable[..., tuple[Floats, Floats]], area: float, sizes: tuple[int, int]
) -> None:
    """The interval misses the true area about as often as it says, even close to separation and with unequal groups.

    It is no exact procedure: up to 6.5 % are let pass, and the simulation's own error.
    """
    rng = np.random.default_rng(2)
    runs, misses = 1500, 0
    for _ in range(runs):
        interval = intervals.delong(*scores(rng, area, *sizes))
        misses += not interval.low <= area <= interval.high
    assert misses <= most_by_chance(runs, 0.065)


def test_plain_delong_would_not_cover_close_to_separation() -> None:
    """The planted mistake: estimate plus or minus 1.96 standard errors misses an area of .95 far too often at 30/30."""
    rng = np.random.default_rng(3)
    runs, misses = 500, 0
    for _ in range(runs):
        area, variance = area_and_variance(*normal_scores(rng, 0.95, 30, 30))
        misses += abs(area - 0.95) > 1.96 * math.sqrt(variance)
    assert misses > most_by_chance(runs, 0.065)


@pytest.mark.parametrize("n", [1, 2, 5, 9, 10, 30, 500])
@pytest.mark.parametrize("kind", ["above", "below", "tied"])
def test_groups_that_separate_or_tie_leave_uncertainty(n: int, kind: str) -> None:
    """Where DeLong's variance is zero the interval has a width, holds the estimate, and shrinks with n."""
    first, second = np.arange(n) + {"above": 1000.0, "below": -1000.0, "tied": 0.0}[kind], np.arange(n + 3) * 1.0
    if kind == "tied":
        first, second = np.zeros(n), np.zeros(n + 3)
    interval = intervals.delong(first, second)
    assert interval.low <= interval.estimate <= interval.high
    assert interval.estimate == {"above": 1.0, "below": 0.0, "tied": 0.5}[kind]
    assert 1 / n <= interval.high - interval.low <= 1.0
    assert n < 10 or interval.high - interval.low < 0.6


def test_separated_groups_are_held_to_the_pairs_they_make() -> None:
    """If 30 positives beat 40 negatives, the area may be as low as a coin's chance that wins 30 of 30, or lower."""
    interval = intervals.delong(np.arange(30) + 100, np.arange(40))
    assert interval.low <= binomtest(30, 30).proportion_ci(0.95, method="exact").low


def test_an_empty_group_says_nothing() -> None:
    """Without a group the area lies anywhere and the p-value is 1."""
    interval = intervals.delong([], [1.0, 2.0])
    assert (interval.low, interval.high, interval.n) == (0.0, 1.0, 0)
    assert intervals.delong_p([], [1.0, 2.0], 0.5) == 1.0


@pytest.mark.parametrize("sizes", [(10, 10), (30, 300), (500, 500), (10, 100_000)])
def test_the_score_distance_grows_away_from_the_area(sizes: tuple[int, int]) -> None:
    """Bisection finds the one end on each side, because the distance in standard errors never turns back."""
    bounds = np.linspace(0.0, 1.0, 2001)
    for area in (0.0, 0.02, 0.5, 0.9, 1.0):
        z = np.array([score_z(area, sizes, float(bound)) for bound in bounds])
        assert (z[:-1] >= z[1:]).all()


# --- p-values say what the intervals say ----------------------------------------------------------------------------


def assert_p_agrees(interval: Interval, p_value: Callable[[float], float], alpha: float) -> None:
    margin = 1e-7
    for bound in np.linspace(-0.1, 1.1, 241):
        if min(abs(bound - interval.low), abs(bound - interval.high)) > margin:
            outside = not interval.low <= bound <= interval.high
            assert outside == (p_value(float(bound)) < alpha), (interval, bound, p_value(float(bound)))
    for end, outwards in ((interval.low, -margin), (interval.high, margin)):
        if 0 < end < 1:
            assert p_value(end + outwards) < alpha < p_value(end - outwards)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_p_values_agree_with_their_intervals(confidence: float) -> None:
    """A bound lies outside the interval exactly when its p-value is below one minus the confidence."""
    rng = np.random.default_rng(4)
    alpha = 1 - confidence
    for successes in (0, 3, 40):
        interval = intervals.clopper_pearson(successes, 40, confidence)
        assert_p_agrees(interval, lambda b, s=successes: intervals.clopper_pearson_p(s, 40, b), alpha)  # type: ignore[misc]
    for shift, sizes in ((0.0, (40, 30)), (1.0, (12, 300)), (9.0, (25, 25)), (1.0, (5, 8))):
        first, second = rng.normal(shift, 1, sizes[0]), rng.normal(0, 1, sizes[1])
        interval = intervals.delong(first, second, confidence)
        assert_p_agrees(interval, lambda b, x=first, y=second: intervals.delong_p(x, y, b), alpha)  # type: ignore[misc]
    constant = np.full(20, 3.0)
    assert_p_agrees(
        intervals.delong(constant, constant, confidence), lambda b: intervals.delong_p(constant, constant, b), alpha
    )
    for x in (rng.random(300), rng.beta(1, 30, 80), np.zeros(60), np.ones(60), np.array([0.7])):
        interval = intervals.betting(x, 0, 1, confidence)
        assert_p_agrees(interval, lambda b, x=x: intervals.betting_p(x, 0, 1, b, confidence), alpha)  # type: ignore[misc]


# --- Holm -----------------------------------------------------------------------------------------------------------


def test_holm_by_hand() -> None:
    """Sorted .005, .01, .03, .04 times 4, 3, 2, 1 is .02, .03, .06, .04; the last may not fall below the one before."""
    assert intervals.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert intervals.holm([0.6, 0.7]) == [1.0, 1.0]
    assert intervals.holm([]) == []


def test_holm_holds_the_level_where_plain_p_values_do_not() -> None:
    """Of ten true hypotheses any is rejected at most in alpha of the runs; unadjusted, in 40 %."""
    p_values = np.random.default_rng(5).random((2000, 10))
    rejected = sum(min(intervals.holm(row)) < ALPHA for row in p_values)
    assert rejected <= most_by_chance(2000, ALPHA)
    assert (p_values.min(axis=1) < ALPHA).sum() > most_by_chance(2000, ALPHA)


# --- how many samples -----------------------------------------------------------------------------------------------


def test_samples_needed_for_a_proportion_is_what_clopper_pearson_needs() -> None:
    """At the advised size the interval at the same share lets go of the bound, one sample earlier it does not."""
    needed = intervals.samples_needed(intervals.clopper_pearson(0, 10), 0.05)
    assert needed is not None
    assert intervals.clopper_pearson(0, needed).high < 0.05 <= intervals.clopper_pearson(0, needed - 1).high


def test_samples_needed_is_roughly_right_for_a_mean() -> None:
    """With as many samples as advised the interval's far end has come near the bound."""
    rng = np.random.default_rng(6)
    x = rng.beta(2, 3, 200_000)
    for bound in (0.38, 0.41, 0.43):
        interval = intervals.betting(x[:200], 0, 1)
        needed = intervals.samples_needed(interval, bound)
        assert needed is not None
        assert 200 < needed <= x.size
        distance = abs(interval.estimate - bound)
        later = intervals.betting(x[:needed], 0, 1)
        reach = later.high - later.estimate if bound > interval.estimate else later.estimate - later.low
        assert 0.5 * distance < reach < 1.7 * distance


def test_samples_needed_of_an_area_grows_with_the_inverse_square() -> None:
    """Half the distance takes four times the samples."""
    interval = Interval(0.6, 0.5, 0.7, 0.95, "delong", 100, anytime=False)
    assert intervals.samples_needed(interval, 0.55, (-math.inf, math.inf)) == 400
    assert intervals.samples_needed(interval, 0.575, (-math.inf, math.inf)) == pytest.approx(1600, abs=1)


def test_samples_needed_knows_when_it_cannot_tell() -> None:
    """No advice where the estimate is the bound, without samples, beyond ten million; none more where it is decided."""
    interval = intervals.betting(np.tile([0.0, 1.0], 50), 0, 1)
    assert intervals.samples_needed(interval, interval.estimate) is None
    assert intervals.samples_needed(interval, interval.estimate + 1e-6) is None
    assert intervals.samples_needed(intervals.clopper_pearson(50, 100), 0.50001) is None
    assert intervals.samples_needed(intervals.betting([], 0, 1), 0.3) is None
    assert intervals.samples_needed(interval, 0.999) == 100
    assert intervals.samples_needed(intervals.exact(1.0), 1.0) is None


def test_samples_needed_does_not_trust_an_end_at_the_limit() -> None:
    """One sample's interval is the range; that must not make the second sample look decisive."""
    needed = intervals.samples_needed(intervals.betting([1.0], 0, 1), 0.9)
    assert needed is not None
    assert needed > 100


# --- input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: intervals.exact(math.nan), "value is nan"),
        (lambda: intervals.clopper_pearson(3, 2), "3 successes of 2 trials"),
        (lambda: intervals.clopper_pearson(-1, 2), "-1 successes"),
        (lambda: intervals.clopper_pearson(1.5, 2), "whole numbers"),  # type: ignore[arg-type]
        (lambda: intervals.clopper_pearson(1, 2, 1.0), "confidence is 1.0"),
        (lambda: intervals.clopper_pearson(1, 2, 95), "confidence is 95"),
        (lambda: intervals.clopper_pearson_p(1, 2, math.nan), "bound is nan"),
        (lambda: intervals.delong([1, math.nan], [2]), "positives hold 1 values"),
        (lambda: intervals.delong([1], [math.inf]), "negatives hold 1 values"),
        (lambda: intervals.delong_p([1], [2], math.inf), "bound is inf"),
        (lambda: intervals.holm([0.5, 1.5]), "must lie in 0 to 1"),
        (lambda: intervals.holm([math.nan]), "NaN"),
        (lambda: intervals.samples_needed(intervals.clopper_pearson(1, 2), math.nan), "bound is nan"),
        (lambda: intervals.samples_needed(intervals.clopper_pearson(1, 2), 0.5, (1.0, 1.0)), "range goes from 1 to 1"),
    ],
)
def test_wrong_input_is_named(call: Callable[[], object], message: str) -> None:
    """An error says which argument is wrong and shows its value."""
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("bound", [-0.1, 1.1, 17.0])
def test_impossible_bounds_have_no_chance(bound: float) -> None:
    """A value outside the range cannot be the truth, whatever the sample."""
    assert intervals.clopper_pearson_p(1, 2, bound) == 0.0
    assert intervals.delong_p([1.0], [2.0], bound) == 0.0
    assert intervals.betting_p([0.5], 0, 1, bound) == 0.0


def test_scipy_is_not_imported_at_start() -> None:
    """Importing the intervals does not load SciPy, which would slow every start of the command line."""
    code = "import sys, method_cards.intervals; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Confidence sequences: agreement with a slow re-implementation, and coverage at all sample sizes at once."""

from __future__ import annotations

import math
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import binom

from method_cards import intervals
from method_cards.intervals.betting import bets, greatest_log_capital, hedged_capital, plug_in_bernstein

if TYPE_CHECKING:
    from collections.abc import Callable

    from method_cards.intervals.interval import Floats

ALPHA = 0.05
HORIZON = 500

DISTRIBUTIONS: dict[str, tuple[float, Callable[[np.random.Generator, tuple[int, ...]], Floats]]] = {
    "Bernoulli(.05)": (0.05, lambda rng, shape: (rng.random(shape) < 0.05).astype(np.float64)),
    "Bernoulli(.5)": (0.5, lambda rng, shape: (rng.random(shape) < 0.5).astype(np.float64)),
    "Beta(2, 5)": (2 / 7, lambda rng, shape: rng.beta(2, 5, shape)),
    "two points .1 and .9": (0.26, lambda rng, shape: np.where(rng.random(shape) < 0.2, 0.9, 0.1)),
    "nearly constant": (0.3, lambda rng, shape: 0.3 + 0.001 * (rng.random(shape) - 0.5)),
}


def most_by_chance(runs: int, rate: float) -> int:
    """So many misses of ``runs`` are exceeded once in 10,000 tests, if each is a miss with chance ``rate``."""
    return int(binom.isf(1e-4, runs, rate))


# --- against the definition -----------------------------------------------------------------------------------------


def slow_capital(x: Floats, m: float, alpha: float) -> list[float]:
    """Waudby-Smith and Ramdas 2024, hedged capital with plug-in bets, one value after the other, capital not logged."""
    above = below = 1.0
    total, squares = 0.5, 0.25
    capital = []
    for t, value in enumerate(x, start=1):
        variance = squares / t
        bet = math.sqrt(2 * math.log(2 / alpha) / (variance * t * math.log(1 + t)))
        above *= 1 + min(bet, 0.5 / m) * (value - m)
        below *= 1 - min(bet, 0.5 / (1 - m)) * (value - m)
        capital.append(max(above / 2, below / 2))
        total += value
        squares += (value - total / (t + 1)) ** 2
    return capital


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_betting_is_the_slow_reimplementation_on_a_grid(name: str, confidence: float) -> None:
    """The ends lie within a step of a fine grid of candidates, each excluded once its capital was ever 1/alpha."""
    x = DISTRIBUTIONS[name][1](np.random.default_rng(1), (120,))
    alpha = 1 - confidence
    grid = np.linspace(0, 1, 802)[1:-1]
    kept = [m for m in grid if max(slow_capital(x, float(m), alpha)) < 1 / alpha]
    low, high = hedged_capital(x, alpha)
    step = grid[1] - grid[0]
    assert kept[0] - step <= low <= kept[0]
    assert kept[-1] <= high <= kept[-1] + step


def test_the_greatest_capital_is_the_slow_one() -> None:
    """The greatest logarithmic capital of the two gamblers is the greatest capital of the definition."""
    x = np.random.default_rng(2).beta(2, 5, 200)
    for m in (0.1, 0.25, 0.4, 0.9):
        stakes = bets(x, ALPHA)
        fast = max(greatest_log_capital(x, stakes, m), greatest_log_capital(1 - x, stakes, 1 - m))
        assert fast == pytest.approx(math.log(2 * max(0.5, *slow_capital(x, m, ALPHA))), abs=1e-9)


def test_the_capital_does_not_grow_with_the_candidate() -> None:
    """Against a higher mean the one who bets on "above" never has more: so bisection finds the one end."""
    x = np.random.default_rng(3).random(100)
    capital = [greatest_log_capital(x, bets(x, ALPHA), float(m)) for m in np.linspace(0, 1, 201)]
    assert (np.diff(capital) <= 1e-12).all()


def test_empirical_bernstein_is_the_slow_reimplementation() -> None:
    """Theorem 2, one value after the other, gives the same ends, intersected over all times."""
    x = np.random.default_rng(4).beta(2, 5, 150)
    low, high, weights, weighted, spread = 0.0, 1.0, 0.0, 0.0, 0.0
    total, squares = 0.5, 0.25
    for t, value in enumerate(x, start=1):
        bet = min(0.5, math.sqrt(2 * math.log(2 / ALPHA) / (squares / t * t * math.log(1 + t))))
        weights, weighted = weights + bet, weighted + bet * value
        spread += 4 * (value - total / t) ** 2 * (-math.log(1 - bet) - bet) / 4
        radius = (math.log(2 / ALPHA) + spread) / weights
        low, high = max(low, weighted / weights - radius), min(high, weighted / weights + radius)
        total += value
        squares += (value - total / (t + 1)) ** 2
    found = intervals.empirical_bernstein(x, 0, 1)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
    assert found.anytime


# --- coverage at all times at once ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_betting_ever_excludes_the_truth_in_alpha_of_the_runs_at_most(name: str) -> None:
    """Looked at after every one of 500 samples, the truth is ever excluded in 5 % of the runs at most."""
    mean, draw = DISTRIBUTIONS[name]
    runs = 4000
    x = draw(np.random.default_rng(5), (runs, HORIZON))
    stakes = bets(x, ALPHA)
    ever = sum(
        max(greatest_log_capital(row, bet, mean), greatest_log_capital(1 - row, bet, 1 - mean)) >= math.log(2 / ALPHA)
        for row, bet in zip(x, stakes, strict=True)
    )
    assert ever <= most_by_chance(runs, ALPHA)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_last_betting_interval_remembers_all_times(name: str) -> None:
    """An interval at n lies within every interval at fewer samples, so looking at the last is looking at all."""
    mean, draw = DISTRIBUTIONS[name]
    for x in draw(np.random.default_rng(6), (5, HORIZON)):
        seen = [hedged_capital(x[:n], ALPHA) for n in (1, 3, 10, 50, 200, HORIZON)]
        assert all(b[0] >= a[0] and b[1] <= a[1] for a, b in pairwise(seen))
        assert seen[-1][0] <= seen[-1][1] or not seen[-1][0] <= mean <= seen[-1][1]


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_empirical_bernstein_ever_excludes_the_truth_in_alpha_of_the_runs_at_most(name: str) -> None:
    """The closed form keeps the same promise."""
    mean, draw = DISTRIBUTIONS[name]
    runs = 4000
    low, high = plug_in_bernstein(draw(np.random.default_rng(7), (runs, HORIZON)), ALPHA)
    ever = ((low > mean) | (high < mean)).any(axis=-1).sum()
    assert ever <= most_by_chance(runs, ALPHA)


def test_an_interval_for_a_fixed_size_fails_when_peeked_at() -> None:
    """The planted mistake: Clopper-Pearson after every sample excludes the truth in far more than 5 % of the runs."""
    runs = 1000
    x = np.random.default_rng(8).random((runs, HORIZON)) < 0.5
    table = np.zeros((HORIZON + 1, HORIZON + 1), dtype=bool)
    for n in range(1, HORIZON + 1):
        counts = np.arange(n + 1)
        table[n, : n + 1] = 2 * np.minimum(binom.cdf(counts, n, 0.5), binom.sf(counts - 1, n, 0.5)) < ALPHA
    assert all(
        table[n, s] == (intervals.clopper_pearson_p(s, n, 0.5) < ALPHA) for n, s in ((20, 5), (20, 6), (500, 230))
    )
    ever = table[np.arange(1, HORIZON + 1), np.cumsum(x, axis=-1)].any(axis=-1).sum()
    assert ever > 3 * ALPHA * runs


def test_a_normal_interval_fails_when_peeked_at() -> None:
    """The planted mistake, for means: 1.96 standard errors after every sample from the thirtieth on."""
    runs = 1000
    x = np.random.default_rng(9).beta(2, 5, (runs, HORIZON))
    n = np.arange(1, HORIZON + 1)
    mean = np.cumsum(x, axis=-1) / n
    error = np.sqrt((np.cumsum(x**2, axis=-1) / n - mean**2) / n)
    ever = (abs(mean - 2 / 7) > 1.96 * error)[:, 30:].any(axis=-1).sum()
    assert ever > most_by_chance(runs, ALPHA)


def test_a_bet_that_sees_the_present_breaks_the_promise() -> None:
    """The planted mistake, for bets: one that knows the value it bets on wins against the truth."""
    x = (np.random.default_rng(10).random((300, HORIZON)) < 0.5) * 1.0
    wins = sum(greatest_log_capital(row, bets(row, ALPHA) * row, 0.5) >= math.log(2 / ALPHA) for row in x)
    assert wins > most_by_chance(300, ALPHA)


# --- width ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Bernoulli(.05)", "Beta(2, 5)", "nearly constant"])
def test_betting_is_narrower_than_empirical_bernstein_on_low_variance(name: str) -> None:
    """Where values spread little, betting is worth its bisection."""
    for x in DISTRIBUTIONS[name][1](np.random.default_rng(11), (20, HORIZON)):
        tight, wide = intervals.betting(x, 0, 1), intervals.empirical_bernstein(x, 0, 1)
        assert tight.high - tight.low < wide.high - wide.low


def test_less_spread_and_more_samples_make_it_narrower() -> None:
    """The width adapts to the variance and falls with n."""
    rng = np.random.default_rng(12)
    widths = {
        (name, n): np.subtract(*hedged_capital(DISTRIBUTIONS[name][1](rng, (n,)), ALPHA)[::-1])
        for name in ("Bernoulli(.5)", "Beta(2, 5)", "nearly constant")
        for n in (100, 400, 1600)
    }
    for n in (100, 400, 1600):
        assert widths["Bernoulli(.5)", n] > widths["Beta(2, 5)", n] > widths["nearly constant", n]
    for name in ("Bernoulli(.5)", "Beta(2, 5)", "nearly constant"):
        assert widths[name, 100] > widths[name, 400] > widths[name, 1600]


# --- edges ----------------------------------------------------------------------------------------------------------

PROCEDURES = [intervals.betting, intervals.empirical_bernstein]


@pytest.mark.parametrize("procedure", PROCEDURES)
@pytest.mark.parametrize("values", [[], [0.3], [0.0], [1.0], [0.0] * 512, [1.0] * 512, [0.3] * 512, [0.0, 1.0] * 50])
def test_ends_stand_in_order_and_in_the_range(
    procedure: Callable[..., intervals.Interval], values: list[float]
) -> None:
    """None, one, constant, and extreme values give finite ends around the mean, never without width."""
    interval = procedure([4 * value - 2 for value in values], -2, 2)
    assert -2 <= interval.low <= interval.estimate <= interval.high <= 2
    assert interval.high - interval.low > 0.01
    assert interval.n == len(values)
    if len(values) < 2:
        assert (interval.low, interval.high) == (-2, 2)


@pytest.mark.parametrize("procedure", PROCEDURES)
def test_units_do_not_matter(procedure: Callable[..., intervals.Interval]) -> None:
    """Values and range that are scaled, shifted or mirrored alike give ends that are changed alike."""
    x = np.random.default_rng(13).beta(2, 5, 300)
    plain, scaled, mirrored = procedure(x, 0, 1), procedure(10 * x - 3, -3, 7), procedure(-x, -1, 0)
    assert (scaled.low, scaled.high) == pytest.approx((10 * plain.low - 3, 10 * plain.high - 3), abs=1e-9)
    assert (mirrored.low, mirrored.high) == pytest.approx((-plain.high, -plain.low), abs=1e-9)


def test_values_that_contradict_every_mean_decide_nothing() -> None:
    """After many zeros and then as many ones no mean is left: the whole range is returned and no p-value is small."""
    x = np.repeat([0.0, 1.0], 500)
    low, high = hedged_capital(x, ALPHA)
    assert low > high
    interval = intervals.betting(x, 0, 1)
    assert (interval.low, interval.high) == (0.0, 1.0)
    assert min(intervals.betting_p(x, 0, 1, bound) for bound in (0.0, 0.01, 0.3, 0.7, 1.0)) == 1.0


def test_a_mean_that_has_left_the_interval_widens_it() -> None:
    """Where early values excluded what is now the sample mean, the interval reaches to it and its p-value is 1."""
    x = np.repeat([0.6, 0.2], [40, 15])
    low, high = hedged_capital(x, ALPHA)
    mean = float(x.mean())
    assert mean < low <= high
    interval = intervals.betting(x, 0, 1)
    assert interval.low == pytest.approx(mean)
    between = (mean + low) / 2
    assert intervals.betting_p(x, 0, 1, between) >= ALPHA


@pytest.mark.parametrize("procedure", PROCEDURES)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5], 1, 1), "range goes from 1 to 1"),
        (([0.5], 1, 0), "range goes from 1 to 0"),
        (([0.5], 0, math.inf), "two finite limits"),
        (([0.5], math.nan, 1), "two finite limits"),
        (([1.5], 0, 1), "from 1.5 to 1.5, outside their range 0 to 1"),
        (([0.5, math.nan], 0, 1), "values hold 1 values"),
        (([0.5], 0, 1, 1.0), "confidence is 1.0"),
    ],
)
def test_wrong_input_is_named(procedure: Callable[..., object], arguments: tuple[object, ...], message: str) -> None:
    """An error says which argument is wrong and shows its value."""
    with pytest.raises(ValueError, match=message):
        procedure(*arguments)


def test_betting_is_fast() -> None:
    """A hundred thousand values take well under a second, even on a busy machine."""
    x = np.random.default_rng(14).random(100_000)
    start = time.process_time()
    intervals.betting(x, 0, 1)
    assert time.process_time() - start < 1.0

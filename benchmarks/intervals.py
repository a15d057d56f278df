"""How long the intervals take. Run: ``python benchmarks/intervals.py``."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import timeit
from typing import TYPE_CHECKING

import numpy as np

from method_cards import intervals

if TYPE_CHECKING:
    from collections.abc import Callable

    from method_cards.intervals.interval import Floats

SIZES = (512, 100_000)


def main() -> None:
    """Print the best of five times, in milliseconds for one call."""
    print(f"{'milliseconds':<22}" + "".join(f"{f'n = {n:,}':>14}" for n in SIZES))
    for name in cases(np.zeros(2)):
        print(f"{name:<22}" + "".join(f"{1000 * best(cases(values(n))[name]):>14.3f}" for n in SIZES))


def values(n: int) -> Floats:
    """Uniform values, the same in every run."""
    return np.random.default_rng(0).random(n)


def cases(x: Floats) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    ones = int((x < 0.3).sum())
    return {
        "betting": lambda: intervals.betting(x, 0.0, 1.0),
        "betting_p": lambda: intervals.betting_p(x, 0.0, 1.0, 0.5),
        "empirical_bernstein": lambda: intervals.empirical_bernstein(x, 0.0, 1.0),
        "clopper_pearson": lambda: intervals.clopper_pearson(ones, x.size),
        "delong": lambda: intervals.delong(x, x[::-1] ** 2),
        "delong_p": lambda: intervals.delong_p(x, x[::-1] ** 2, 0.5),
    }


def best(call: Callable[[], object]) -> float:
    """Seconds of one call, the best of five measurements."""
    timer = timeit.Timer(call)
    number = max(1, round(0.05 / timer.timeit(1)))
    return min(timer.repeat(5, number)) / number


if __name__ == "__main__":
    main()

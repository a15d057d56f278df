"""What one training with canaries says about a claim of differential privacy.

Steinke, Nasr and Jagielski 2023 (arXiv 2305.08846), Algorithm 1, Theorem 5.2 and Appendix D: each of ``m`` canaries is
trained on or not by its own fair coin; somebody who sees the model guesses some of the coins. If the training is
``(epsilon, delta)``-differentially private, so many right guesses are as unlikely as `p_value` says.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

STEPS = 50
"""Halvings of an interval of length 1: far below what anybody prints."""

GREATEST = 100.0
"""An epsilon that no number of canaries can refute."""


def p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """The largest chance of that many right guesses under ``(epsilon, delta)``-differential privacy.

    With ``q = 1 / (1 + exp(-epsilon))`` and ``V`` binomial with ``guesses`` trials of chance ``q``, it is
    ``P[V >= right] + 2 canaries delta max_i P[right - i <= V < right] / i``, at most 1.

    Args:
        canaries: How many there are, guessed or not.
        guesses: How many were guessed.
        right: How many guesses were right.
        epsilon: At least 0.
        delta: Between 0 and 1.
    """
    from scipy.stats import binom

    chance = 1 / (1 + math.exp(-epsilon))
    tail = float(binom.sf(right - 1, guesses, chance))
    if delta == 0 or right == 0:
        return min(1.0, tail)
    just_below = np.cumsum(binom.pmf(np.arange(right - 1, -1, -1), guesses, chance))
    largest = float((just_below / np.arange(1, right + 1)).max())
    return min(1.0, tail + 2 * canaries * delta * largest)


def epsilon_lower_bound(canaries: int, guesses: int, right: int, delta: float, level: float) -> float:
    """The largest epsilon that is refuted: with this confidence no smaller one is true. 0 where none is.

    Args:
        canaries: How many there are, guessed or not.
        guesses: How many were guessed.
        right: How many guesses were right.
        delta: What the claim allows.
        level: The confidence, such as 0.95.
    """
    alpha = 1 - level
    if p_value(canaries, guesses, right, 0.0, delta) >= alpha:
        return 0.0
    refuted = 0.0
    while p_value(canaries, guesses, right, refuted + 1, delta) < alpha:
        refuted += 1
        if refuted >= GREATEST:
            return GREATEST
    allowed = refuted + 1
    for _ in range(STEPS):
        middle = (refuted + allowed) / 2
        if p_value(canaries, guesses, right, middle, delta) < alpha:
            refuted = middle
        else:
            allowed = middle
    return refuted


def ceiling(canaries: int, guesses: int, delta: float, level: float) -> float:
    """The largest epsilon that these guesses refute when every one is right: what the audit could find at best."""
    return epsilon_lower_bound(canaries, guesses, guesses, delta, level)


def right_guesses(scores: Floats, included: Flags, side: int, rng: np.random.Generator) -> Flags:
    """Guess "included" for the largest scores and "excluded" for the smallest, nothing for the rest.

    Equal scores are put in an order that is drawn, not in the one they are given in, which may tell who was included.

    Args:
        scores: Larger for what the model knows better, ``(canary,)``.
        included: What the coins said, ``(canary,)``.
        side: How many guesses of each kind; fixed before the scores are seen.
        rng: Draws the order of equal scores.

    Returns:
        Which guesses are right, ``(2 side,)``.
    """
    order = np.lexsort((rng.permutation(scores.size), scores))
    return np.concatenate([included[order[scores.size - side :]], ~included[order[:side]]])


def drawn_canaries(sizes: tuple[int, int], drawn: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
    """How many of the drawn canaries of each kind to take, so that each one's kind is still a coin toss.

    Where fewer are drawn of a split than it has, equal numbers of both would be no coin tosses any more: as many are taken as
    a blind draw from all canaries gives.

    Args:
        sizes: Included and excluded canaries that there are.
        drawn: How many of each were drawn.
        rng: Draws the number.
    """
    if drawn == sizes:
        return drawn
    total = max(drawn)
    included = int(rng.hypergeometric(*sizes, total))
    return included, total - included

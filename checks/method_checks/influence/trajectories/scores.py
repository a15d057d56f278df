"""Scores of training examples from the checkpoints of one training: higher means more suspect."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]


def tracin_self_influence(norms: Floats, rates: Floats) -> Floats:
    """TracIn of each example on itself, ``Σ_k η_k |∇L(z; θ_k)|²`` (Pruthi et al. 2020), ``(example,)``.

    Args:
        norms: Squared gradient lengths ``(checkpoint, example)``.
        rates: Learning rates ``(checkpoint,)``.
    """
    return np.asarray(rates @ norms, dtype=np.float64)


def last_checkpoint_self_influence(norms: Floats) -> Floats:
    """The squared gradient length at the last checkpoint alone, ``(example,)``."""
    return np.asarray(norms[-1], dtype=np.float64)


def zeroth_order_self_influence(losses: Floats, rates: Floats, steps: Floats) -> Floats:
    """Self-influence from losses alone, ``Σ_k η_k (L(z; θ_{k+1}) − L(z; θ_k))² / |θ_{k+1} − θ_k|²``, ``(example,)``.

    Between two checkpoints the loss changes by about ``∇L · Δθ``; the squared quotient is the squared length of the gradient's
    projection on the step that was taken. It takes that projection's place in TracIn's sum.

    Args:
        losses: ``(checkpoint, example)``.
        rates: Learning rates ``(checkpoint,)``; that of the earlier checkpoint weighs an interval.
        steps: Squared distance of the parameters of neighbouring checkpoints, ``(checkpoint - 1,)``; where it is 0, nothing was learned.
    """
    moved = steps > 0
    return np.asarray((rates[:-1][moved] / steps[moved]) @ np.diff(losses, axis=0)[moved] ** 2, dtype=np.float64)


def mean_loss(losses: Floats) -> Floats:
    """The mean loss over the checkpoints, ``(example,)``: what any cleverer score has to beat."""
    return np.asarray(losses.mean(axis=0), dtype=np.float64)


def placements(wrong: NDArray[np.bool_], *scores: Floats, generator: np.random.Generator) -> tuple[Floats, ...]:
    """For each wrong label, the share of right ones that score below it, ties counted one half; one array ``(wrong,)`` for each score.

    Each wrong label has right ones of its own to be compared with, drawn at random and the same for every score: the numbers are
    independent, and their mean is the area under the ROC curve on average.

    Args:
        wrong: Which examples have a wrong label, ``(example,)``.
        scores: ``(example,)`` each.
        generator: Draws the groups.
    """
    positives, negatives = np.flatnonzero(wrong), generator.permutation(np.flatnonzero(~wrong))
    size = len(negatives) // max(1, len(positives))
    if not size:
        positives, size = generator.permutation(positives)[: len(negatives)], 1
    groups = negatives[: size * len(positives)].reshape(len(positives), size)
    return tuple(
        ((each[positives, None] > each[groups]) + 0.5 * (each[positives, None] == each[groups])).mean(axis=1)
        for each in scores
    )

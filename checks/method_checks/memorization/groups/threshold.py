"""A threshold that calls few non-members members, fixed on other non-members than those on which its rate is reported."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def threshold_at(non_members: Floats, false_positive_rate: float) -> float:
    """The smallest of these scores that a fresh non-member exceeds with at most this probability; infinite when they are too few to tell.

    Of ``n + 1`` exchangeable scores each is among the ``k`` largest with probability ``k / (n + 1)``.

    Args:
        non_members: Scores ``(sample,)`` that are used for nothing else.
        false_positive_rate: Between 0 and 1.
    """
    largest = math.floor(false_positive_rate * (non_members.size + 1) + 1e-9)
    return float(np.sort(non_members)[-largest]) if largest else math.inf


def guesses(members: Floats, non_members: Floats, false_positive_rate: float) -> tuple[Floats, Floats]:
    """Which examples a threshold calls members, 1 or 0: it is fixed on every second non-member and tried on all others.

    Args:
        members: Scores ``(sample,)``.
        non_members: Scores ``(sample,)``, in random order.
        false_positive_rate: How often a fresh non-member may be called a member.

    Returns:
        One number for each member, and one for each second non-member; both empty when there are too few non-members for a threshold.
    """
    threshold = threshold_at(non_members[::2], false_positive_rate)
    if math.isinf(threshold):
        return np.empty(0), np.empty(0)
    return (members > threshold).astype(np.float64), (non_members[1::2] > threshold).astype(np.float64)


def non_members_needed(false_positive_rate: float) -> int:
    """How many non-members must be drawn so that every second of them fixes a threshold at this rate."""
    return 2 * math.ceil(1 / false_positive_rate - 1 - 1e-9) - 1

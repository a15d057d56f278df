"""The interval that every procedure returns, and the checks that every procedure makes of its input."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """What a sample says about a quantity.

    Attributes:
        estimate: The sample's value; the middle of the range where there is no sample.
        low: Lower end, at most the estimate.
        high: Upper end, at least the estimate.
        confidence: The chance that such an interval holds the truth is at least this.
        method: The procedure, such as ``clopper-pearson``.
        n: How many independent samples it rests on; of the smaller group for two groups; 1 for exact quantities.
        anytime: Whether it holds at all sample sizes at once, so that one may look after every sample.
    """

    estimate: float
    low: float
    high: float
    confidence: float
    method: str
    n: int
    anytime: bool


def exact(value: float) -> Interval:
    """A quantity without sampling error.

    Args:
        value: The number, finite.

    Returns:
        An interval without width, of confidence 1.

    Raises:
        ValueError: It is not finite.
    """
    number = finite_number("value", value)
    return Interval(number, number, number, confidence=1.0, method="exact", n=1, anytime=True)


def alpha_of(confidence: float) -> float:
    """One minus a confidence that is checked to lie between 0 and 1."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence!r}; it must lie between 0 and 1, such as 0.95")
    return 1 - confidence


def finite_number(name: str, value: float) -> float:
    """A number that is checked to be finite."""
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}; it must be a finite number")
    return float(value)


def finite_array(name: str, values: ArrayLike) -> Floats:
    """Numbers in one dimension that are checked to be finite."""
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    if not np.isfinite(array).all():
        raise ValueError(
            f"{name} hold {int((~np.isfinite(array)).sum())} values that are NaN or infinite, of {array.size}"
        )
    return array

"""How far a check tells sound and defective controls apart: what each run found, and what another bound would have cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from method_cards.calibration import Calibration, ControlRates, Estimates
    from method_cards.card import CheckBinding, Criterion

Point = tuple[float, float]
"""A false-alarm rate and a detection rate."""


@dataclass(frozen=True)
class Row:
    """The runs on one control.

    Attributes:
        rates: What became of them.
        values: What each run estimated, where it measured anything.
    """

    rates: ControlRates
    values: tuple[float, ...]


@dataclass(frozen=True)
class Strip:
    """What one criterion found on each control.

    Attributes:
        criterion: With the bound.
        rows: Sound controls first, then those with the defect that this criterion looks for.
    """

    criterion: Criterion
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Roc:
    """Detection against false alarms as the bound moves.

    Attributes:
        measurement: The quantity whose bounds move, all of them together.
        points: The corners of the curve, from no alarm at all to nothing but alarms.
        area: The area under it: the chance that a run on a defect lies further beyond the bound than a run on a sound control.
        at_bound: Where the bound of the card stands.
        sound: How many runs on sound controls.
        defects: How many runs on controls with the defect.
    """

    measurement: str
    points: tuple[Point, ...]
    area: float
    at_bound: Point
    sound: int
    defects: int


def strips(found: Calibration, binding: CheckBinding) -> tuple[Strip, ...]:
    """What each criterion found on the controls that concern it; none where the calibration kept rates alone."""
    made = []
    for place, criterion in enumerate(binding.criteria):
        rows = [
            Row(control, tuple(value for value in control.estimates[place].values if value is not None))
            for control in _concerned(found.controls, criterion.measurement)
            if place < len(control.estimates)
        ]
        if any(row.values for row in rows):
            made.append(Strip(criterion, tuple(sorted(rows, key=lambda row: row.rates.kind != "sound"))))
    return tuple(made)


def rocs(found: Calibration, binding: CheckBinding) -> tuple[Roc, ...]:
    """A curve for each quantity that has runs on both kinds of controls; a run's score is how far its interval lies beyond the bound."""
    made = []
    count = len(binding.criteria)
    for measurement in dict.fromkeys(criterion.measurement for criterion in binding.criteria):
        groups: dict[bool, list[float]] = {True: [], False: []}
        for control in _concerned(found.controls, measurement):
            groups[control.kind == "defect"] += _furthest(control.estimates[:count], measurement, unknown(control))
        if groups[True] and groups[False]:
            made.append(_roc(measurement, groups[True], groups[False]))
    return tuple(made)


def area_under(positives: Sequence[float], negatives: Sequence[float]) -> float:
    """The chance that a positive is above a negative, ties counted as a half; minus infinity is a number like any other."""
    low = np.sort(negatives)
    below, up_to = (np.searchsorted(low, positives, side=side) for side in ("left", "right"))
    return float((below + up_to).sum() / 2 / (len(positives) * len(negatives)))


def curve(positives: Sequence[float], negatives: Sequence[float]) -> tuple[Point, ...]:
    """False and true positive rate at every threshold, the strictest first; points on a straight line are left out."""
    thresholds = np.unique([*positives, *negatives])[::-1]
    high, low = np.sort(positives), np.sort(negatives)
    detected = 1 - np.searchsorted(high, thresholds, side="left") / len(high)
    alarms = 1 - np.searchsorted(low, thresholds, side="left") / len(low)
    found: list[Point] = [(0.0, 0.0)]
    for point in zip(alarms.tolist(), detected.tolist(), strict=True):
        if len(found) > 1 and _in_line(found[-2], found[-1], point):
            found.pop()
        found.append(point)
    return tuple(found)


def _roc(measurement: str, defects: Sequence[float], sound: Sequence[float]) -> Roc:
    at_bound = tuple(sum(value > 0 for value in group) / len(group) for group in (sound, defects))
    return Roc(
        measurement,
        curve(defects, sound),
        area_under(defects, sound),
        (at_bound[0], at_bound[1]),
        len(sound),
        len(defects),
    )


def _concerned(controls: Sequence[ControlRates], measurement: str) -> list[ControlRates]:
    """Sound controls, and those whose defect shows in this quantity."""
    return [
        control
        for control in controls
        if control.kind == "sound" or (control.kind == "defect" and control.because in ("", measurement))
    ]


def unknown(control: ControlRates) -> int:
    """How many of the first runs left nothing but their verdict: they were counted before estimates were kept, and draw no curve."""
    runs = zip(*(item.values for item in control.estimates), strict=True)
    return sum(1 for _ in takewhile(lambda run: all(value is None for value in run), runs))


def _furthest(estimates: Sequence[Estimates], measurement: str, first: int) -> list[float]:
    """For each run from `first` on how far the worst of the quantity's criteria lies beyond its bound; one without a verdict never does."""
    series = [item.beyond[first:] for item in estimates if item.measurement == measurement]
    return [max(-math.inf if value is None else value for value in run) for run in zip(*series, strict=True)]


def _in_line(first: Point, second: Point, third: Point) -> bool:
    across = (second[0] - first[0]) * (third[1] - first[1]) - (third[0] - first[0]) * (second[1] - first[1])
    return abs(across) < 1e-12  # noqa: PLR2004  (rates are multiples of one over a few hundred)

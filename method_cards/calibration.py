"""Measured error rates: how often a prescription's check finds the defect in its controls, and how often it cries wolf.

They are measured by ``method-cards calibrate`` and kept beside the card, in ``calibration.json``, since the criteria stand in the card.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from method_cards import intervals
from method_cards.card import CheckBinding
from method_cards.document import read_compact
from method_cards.verdict import IntervalData, Outcome, Where

if TYPE_CHECKING:
    from method_cards.check import Control

FILE = "calibration.json"

PROMISED_DETECTION = 0.9
"""The least share of defects that a check has to find on its controls."""

PROMISED_FALSE_ALARMS = 0.05
"""The greatest share of sound controls that it may fail."""


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Estimates(_Data):
    """What one criterion or condition found in each run on one control, by seed; None where nothing was measured or kept."""

    measurement: str
    where: Where
    values: tuple[FiniteFloat | None, ...]
    """The estimates."""
    beyond: tuple[FiniteFloat | None, ...]
    """How far the whole interval lies outside the bound: above zero where the criterion failed. None where the run gave no verdict."""


class ControlRates(_Data):
    """What became of the runs on one control."""

    control: str
    kind: Literal["defect", "sound", "confounded"]
    description: str
    because: str = ""
    """The measurement whose criterion has to be the violated one."""
    runs: int
    outcomes: dict[Outcome, int]
    expected: int
    """The counted runs: failed by the right criterion (defect), invalid (confounded), failed although nothing is wrong (sound)."""
    rate: IntervalData
    """Their share."""
    estimates: tuple[Estimates, ...] = ()
    """For each criterion of the card, then for each condition; empty in files of before they were kept."""

    def is_of(self, control: Control) -> bool:
        """Whether these are runs on this control, as far as its description tells: what one of the same name was before does not count."""
        return (self.control, self.kind, self.description, self.because) == (
            control.name,
            control.kind,
            control.description,
            control.because,
        )

    def joined(self, later: ControlRates) -> ControlRates:
        """Both series of runs as one."""
        expected, runs = self.expected + later.expected, self.runs + later.runs
        lost = (None,) * self.runs
        before = self.estimates or tuple(
            item.model_copy(update={"values": lost, "beyond": lost}) for item in later.estimates
        )
        return later.model_copy(
            update={
                "runs": runs,
                "outcomes": dict(sorted((Counter(self.outcomes) + Counter(later.outcomes)).items())),
                "expected": expected,
                "rate": share(expected, runs),
                "estimates": tuple(
                    first.model_copy(
                        update={"values": first.values + then.values, "beyond": first.beyond + then.beyond}
                    )
                    for first, then in zip(before, later.estimates, strict=True)
                ),
            }
        )


class Calibration(_Data):
    """The error rates of one prescription's check, measured on its controls."""

    prescription: str
    """``card/prescription``."""
    check: str
    check_version: str
    digest: str
    """Of the check's parameters and the card's criteria; another digest means that these rates are of other criteria."""
    samples: int | None
    seeds: int
    measured_on: dt.date
    environment: dict[str, str]
    seconds: float
    controls: tuple[ControlRates, ...]
    detection: IntervalData
    """Over all runs on controls that have the defect or are confounded."""
    false_alarm: IntervalData
    """Over all runs on sound controls."""

    def is_current(self, check_version: str, digest: str) -> bool:
        """Whether these rates hold for this version of the check and these criteria."""
        return (self.check_version, self.digest) == (check_version, digest)

    @property
    def misses_too_many(self) -> bool:
        """Whether it finds less than is promised: of the defects alone, or together with what has to be refused."""
        defects = [row for row in self.controls if row.kind == "defect"]
        found, runs = sum(row.expected for row in defects), sum(row.runs for row in defects)
        return min(self.detection.estimate, found / runs if runs else 1.0) < PROMISED_DETECTION

    @property
    def alarms_too_often(self) -> bool:
        """Whether it gives more false alarms than is promised."""
        return self.false_alarm.estimate > PROMISED_FALSE_ALARMS

    def of(self, control: Control) -> ControlRates | None:
        """The rates on this control; None where it was not run, or was another."""
        return next((rates for rates in self.controls if rates.is_of(control)), None)


class Calibrations(_Data):
    """All calibrations of one card."""

    schema_version: Literal[1] = 1
    prescriptions: dict[str, Calibration] = Field(default_factory=dict)
    """By slug."""


def digest(binding: CheckBinding) -> str:
    """A digest of what a verdict depends on besides the data: parameters, bounds and confidences, not their wording."""
    decisive = {"measurement", "where", "at_most", "at_least", "between", "confidence"}
    parts = [
        binding.parameters,
        *(
            [item.model_dump(mode="json", include=decisive) for item in group]
            for group in (binding.criteria, binding.valid_if)
        ),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def share(successes: int, trials: int) -> IntervalData:
    """A share of runs with its 95 % interval."""
    return IntervalData.of(intervals.clopper_pearson(successes, trials))


def read(folder: Path) -> Calibrations:
    """The calibrations of the card in this folder; none when they were never measured.

    Raises:
        InputError: The file is damaged.
    """
    return read_compact(folder / FILE, Calibrations, "method-cards calibrate")

"""A drawn interval says what was decided, in shapes and in words."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from method_cards.render import interval
from method_cards.verdict import CriterionResult, IntervalData, Outcome


def result(low: float, estimate: float, high: float, **details: Any) -> CriterionResult:
    settings: dict[str, Any] = {
        "claim": "It is small.",
        "measurement": "similarity",
        "where": {"stage": 4},
        "bound": "≤ 0.2",
        "high_bound": 0.2,
        "source": "made up",
        "outcome": Outcome.FAILED,
        "reason": "",
        "range": (0.0, 1.0),
    }
    method = "exact" if low == high else "betting"
    data = IntervalData(estimate=estimate, low=low, high=high, confidence=0.95, method=method, n=100, anytime=True)
    return CriterionResult(interval=data, **{**settings, **details})


def shapes(found: CriterionResult) -> ET.Element:
    return ET.fromstring(interval.draw(found))


def test_the_alternative_text_is_the_finding() -> None:
    """Who cannot see the drawing reads the quantity, the estimate, the interval, the bound and the outcome."""
    drawn = shapes(result(0.8, 0.85, 0.9))
    expected = "similarity (stage 4) is 0.85, 95% interval 0.8 to 0.9; bound ≤ 0.2: failed, the interval lies outside the bound."
    assert drawn.attrib["aria-label"] == expected


@pytest.mark.parametrize("outcome", [Outcome.PASSED, Outcome.FAILED, Outcome.INCONCLUSIVE])
def test_outcomes_differ_in_shape(outcome: Outcome) -> None:
    """Without colour the marker alone tells passed, failed and inconclusive apart."""
    marks = {
        other: re.findall(r'class="mc-mark[^"]*" d="([^"]*)"', interval.draw(result(0.1, 0.15, 0.18, outcome=other)))[0]
        for other in (Outcome.PASSED, Outcome.FAILED, Outcome.INCONCLUSIVE)
    }
    assert sum(path == marks[outcome] for path in marks.values()) == 1


@pytest.mark.parametrize(
    ("low", "estimate", "high", "details"),
    [
        (0.8, 0.85, 0.9, {}),
        (0.0, 0.0, 0.0, {}),
        (0.001, 0.002, 0.003, {"high_bound": 0.05}),
        (1e-9, 2e-9, 3e-9, {"high_bound": 1e-8, "range": (0.0, None)}),
        (3.0, 3.0, 3.0, {"high_bound": 3.0, "range": (None, None)}),
        (-5.0, -4.0, 12.0, {"high_bound": None, "low_bound": -4.5, "range": (None, None)}),
        (0.2, 0.3, 0.4, {"low_bound": 0.1, "high_bound": 0.3, "bound": "between 0.1 and 0.3"}),
    ],
)
def test_everything_lies_within_the_drawing(low: float, estimate: float, high: float, details: dict[str, Any]) -> None:
    """Whatever the numbers, interval, estimate and bound are drawn within the frame, and the interval covers its estimate."""
    found = result(low, estimate, high, **details)
    left, right = interval.domain(found)
    assert left <= low <= high <= right
    numbers = [float(x) for x in re.findall(r'(?:d="M|H| x="|width=")(-?[\d.]+)', interval.draw(found))]
    assert all(0 <= x <= interval.WIDTH for x in numbers)


def test_what_was_not_measured_is_not_drawn() -> None:
    """Without an interval there is no drawing, and the text says so."""
    found = result(0.1, 0.1, 0.1).model_copy(update={"interval": None})
    assert interval.draw(found) == ""
    assert "not measured" in interval.finding(found)


def test_names_from_a_record_are_escaped() -> None:
    """A quantity whose breakdown holds markup is shown, not run."""
    drawn = interval.draw(result(0.8, 0.85, 0.9, where={"layer": '"><script>alert(1)</script>'}))
    assert "<script" not in drawn
    ET.fromstring(drawn)

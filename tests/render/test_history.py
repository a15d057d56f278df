"""How measurements went over the runs: which runs count, which are marked, and where everything lies in the drawing."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from method_cards.record import Record
from method_cards.render.history import HEIGHT, Course, courses, draw, standing, told
from method_cards.render.source import Judged
from method_cards.verdict import Outcome
from tests.render.runs import FAILED, INCONCLUSIVE, PASSED, criterion, run, simple, verdict


def judged(record: Record, slug: str = "a") -> Judged:
    return Judged(next(item for item in record.verdicts if item.prescription == slug), record, Path())


def course(*runs: Record) -> Course:
    (found,) = courses([judged(runs[-1])], runs)
    return found


def test_one_run_is_no_history() -> None:
    """There is nothing to draw before a criterion was measured twice."""
    record = run(1, [simple("a", PASSED, 0.1)])
    assert courses([judged(record)], [record]) == []
    other = run(0 + 2, [verdict("b", PASSED)])
    assert courses([judged(record)], [other, record]) == []


def test_runs_that_did_not_measure_leave_a_gap() -> None:
    """A point keeps the place of its run; runs without the prescription, or without a result that counts, have none."""
    runs = [
        run(1, [simple("a", PASSED, 0.1)]),
        run(2, [simple("b", PASSED, 0.1)]),
        run(3, [verdict("a", Outcome.INVALID, criterion(FAILED, 0.8, 0.9, 1.0))]),
        run(4, [verdict("a", Outcome.ERRORED)]),
        run(5, [simple("a", FAILED, 0.9)]),
    ]
    found = course(*runs)
    assert [(point.run, point.interval.estimate) for point in found.points] == [(0, 0.1), (4, 0.9)]
    assert found.runs == 5


def test_two_bounds_on_one_quantity_have_a_course_each() -> None:
    """Of two criteria on the same quantity, each goes on from its own."""
    low = criterion(PASSED, 0.2, 0.3, 0.4).model_copy(update={"claim": "more", "low_bound": 0.1, "high_bound": None})
    high = criterion(FAILED, 0.6, 0.7, 0.8)
    runs = [run(1, [verdict("a", FAILED, low, high)]), run(2, [verdict("a", FAILED, high, low)])]
    found = courses([judged(runs[-1])], runs)
    assert [[point.interval.estimate for point in one.points] for one in found] == [[0.7, 0.7], [0.3, 0.3]]


def test_another_model_and_another_check_are_marked() -> None:
    """Points that are not to be compared with the newest say why, and a line stands where the model changed."""
    runs = [
        run(1, [simple("a", FAILED, 0.9)], model="b"),
        run(2, [simple("a", FAILED, 0.8)], version="0"),
        run(3, [simple("a", PASSED, 0.2)], seed=7),
        run(4, [simple("a", PASSED, 0.1)]),
    ]
    found = course(*runs)
    assert [point.unlike for point in found.points] == ["another model", "toy/check went from version 0 to 1", "", ""]
    assert found.breaks == (1,)
    drawing = str(draw(found))
    assert drawing.index('class="mc-then"') < drawing.index('class="mc-now"')
    assert drawing.count('class="mc-break"') == 1


def test_a_drawing_says_in_words_what_it_shows() -> None:
    """The alternative text names every estimate with its outcome, oldest first, and the bound."""
    found = course(run(1, [simple("a", FAILED, 0.9)], model="b"), run(2, [simple("a", PASSED, 0.1)]))
    assert told(found) == ("similarity over 2 runs, oldest first: 0.9 failed (another model), 0.1 passed; bound ≤ 0.5")
    assert told(found).replace("≤", "") in str(draw(found)).replace("≤", "")


def places(drawing: str, kind: str) -> list[list[float]]:
    (path,) = re.findall(rf'class="[^"]*{kind}[^"]*" d="([^"]*)"', drawing)
    return [[float(number) for number in re.findall(r"-?[\d.]+", part)] for part in path.split("M") if part]


def test_higher_values_lie_higher_and_bars_hold_their_estimate() -> None:
    """Three runs at 0.2, 0.4 and 0.6 with a bound at 0.5: equal steps to the right, equal steps up, the bound between the last two."""
    drawing = str(
        draw(course(*(run(day, [simple("a", PASSED, value)]) for day, value in ((1, 0.2), (2, 0.4), (3, 0.6)))))
    )
    bars = places(drawing, "mc-bar")
    (x1, low1, _), (x2, low2, _), (x3, low3, _) = bars
    assert x2 - x1 == x3 - x2 > 0
    assert (low1 - low2) == pytest.approx(low2 - low3, abs=0.11)
    assert all(low > high for _, low, high in bars)
    bound = places(drawing, "mc-bound")[0][1]
    middle = [(low + high) / 2 for _, low, high in bars]
    assert middle[1] > bound > middle[2]
    assert bound == pytest.approx((middle[1] + middle[2]) / 2, abs=0.11)


def test_outcomes_are_told_apart_without_colour() -> None:
    """Failed, undecided and passed runs have marks of different shapes."""
    outcomes = (FAILED, INCONCLUSIVE, PASSED)
    drawing = str(draw(course(*(run(day, [simple("a", outcome, 0.4)]) for day, outcome in enumerate(outcomes, 1)))))
    shapes = {
        outcome: re.sub(r"^M[\d.]+ [\d.]+", "", re.findall(rf'mc-mark-{outcome.value} [^"]*" d="([^"]*)"', drawing)[0])
        for outcome in outcomes
    }
    assert len(set(shapes.values())) == 3


def test_twenty_runs_fit_into_a_small_drawing() -> None:
    """As many runs as are looked at stay within the width of a phone and within two kilobytes, all marks inside."""
    drawing = str(draw(course(*(run(day, [simple("a", PASSED, 0.02 * day)]) for day in range(1, 21)))))
    root = ET.fromstring(drawing)
    assert float(root.attrib["width"]) <= 260
    assert len(drawing) < 3000
    for x, low, high in places(drawing, "mc-bar"):
        assert 0 <= x <= float(root.attrib["width"])
        assert 0 <= high <= low <= HEIGHT


def test_equal_values_and_a_single_exact_number_can_be_drawn() -> None:
    """Where all values and the bound are the same number, the drawing divides by nothing."""
    found = [run(day, [verdict("a", PASSED, criterion(PASSED, 0.0, 0.0, 0.0, bound=0.0))]) for day in (1, 2)]
    assert "nan" not in str(draw(course(*found)))


def test_text_of_a_record_is_only_text_in_a_drawing() -> None:
    """A quantity whose name is markup does no harm."""
    hostile = criterion(PASSED, 0.1, 0.2, 0.3, name='"><script>alert(1)</script>')
    found = [run(day, [verdict("a", PASSED, hostile)]) for day in (1, 2)]
    assert "<script" not in str(draw(course(*found)))


def test_since_when_a_verdict_is_as_it_is() -> None:
    """Only runs of the same model in an unbroken row count; what came before the row is told."""
    runs = [
        run(1, [simple("a", FAILED, 0.9)], model="b"),
        run(2, [simple("a", PASSED, 0.1)]),
        run(3, [simple("a", FAILED, 0.9)]),
        run(4, [simple("b", PASSED, 0.1)]),
        run(5, [simple("a", FAILED, 0.9)]),
    ]
    found = standing(judged(runs[-1]), runs)
    assert (found.since, found.runs, found.before) == (runs[2], 2, PASSED)
    alone = standing(judged(runs[1]), runs[:2])
    assert (alone.since, alone.runs, alone.before) == (runs[1], 1, None)

"""How a subject did from run to run: for each criterion its interval against its bound, drawn small, and the runs themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from method_cards.judge import number
from method_cards.render import words
from method_cards.render.difference import other_rules, paired
from method_cards.verdict import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from method_cards.record import Record
    from method_cards.render.source import Judged
    from method_cards.verdict import CriterionResult, IntervalData, Verdict

FEWEST = 2
"""Runs that are needed before there is anything to draw."""

HEIGHT = 56
TOP, BOTTOM = 7, HEIGHT - 7
WIDTH = 236
MOST_TOLD = 6
"""How many runs the alternative text tells one by one."""

PITCHES = (11, 34)
"""The least and the greatest distance between two runs: twenty fill the width, few do not drift apart."""

MEANINGLESS = (Outcome.INVALID, Outcome.ERRORED)
"""Verdicts whose numbers are not to be read as a result."""


@dataclass(frozen=True)
class Point:
    """What one run measured.

    Attributes:
        run: The place of the run among all runs, from the oldest.
        result: The criterion as that run decided it.
        unlike: Why it is not to be compared with the newest: another model, another version or other parameters of the check.
    """

    run: int
    result: CriterionResult
    unlike: str = ""

    @property
    def interval(self) -> IntervalData:
        """What was measured; only what was measured becomes a point."""
        assert self.result.interval is not None
        return self.result.interval


@dataclass(frozen=True)
class Course:
    """One criterion over the runs.

    Attributes:
        judged: The newest verdict that it belongs to.
        result: The criterion as it was decided last.
        points: What was measured, from the oldest run to the newest.
        runs: How many runs there are, those that did not measure it included.
        breaks: Runs that were the first of another model than the run before them.
    """

    judged: Judged
    result: CriterionResult
    points: tuple[Point, ...]
    runs: int
    breaks: tuple[int, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The newest verdict that it belongs to."""
        return self.judged.verdict


def courses(judged: Iterable[Judged], runs: Sequence[Record]) -> list[Course]:
    """The course of each criterion that at least two runs measured.

    Args:
        judged: The verdicts as they stand now.
        runs: All runs, from the oldest to the newest.
    """
    models = [run.subject.parameters_sha256 for run in runs]
    breaks = tuple(place for place in range(1, len(runs)) if models[place] != models[place - 1])
    return [
        Course(one, result, points, len(runs), breaks)
        for one in judged
        for result in one.verdict.criteria
        if result.interval is not None and len(points := tuple(_points(one, result, runs))) >= FEWEST
    ]


def _points(judged: Judged, result: CriterionResult, runs: Sequence[Record]) -> Iterable[Point]:
    measured = judged.execution
    for place, run in enumerate(runs):
        verdict = run.by_id.get(judged.verdict.id)
        if verdict is None or verdict.outcome in MEANINGLESS:
            continue
        same = paired(verdict.criteria, judged.verdict.criteria)
        found = next((was for was, now in same if now is result), None)
        if found is None or found.interval is None:
            continue
        is_other = run.subject.parameters_sha256 != judged.record.subject.parameters_sha256
        reasons = ["another model"] if is_other else []
        reasons += other_rules(words.execution(run, verdict), measured)
        yield Point(place, found, words.listed(reasons))


@dataclass(frozen=True)
class Standing:
    """Since when a verdict is as it is.

    Attributes:
        since: The first of the runs in a row, up to the newest that decided it, with this outcome.
        runs: How many those are.
        before: What the run before them decided; None where there was none on this model.
    """

    since: Record
    runs: int
    before: Outcome | None


def standing(judged: Judged, runs: Sequence[Record]) -> Standing:
    """Since when a verdict on this very model is as it is.

    Args:
        judged: The verdict.
        runs: All runs, from the oldest to the newest.
    """
    model = judged.record.subject.parameters_sha256
    told = [
        (run, run.by_id[judged.verdict.id].outcome)
        for run in runs
        if run.subject.parameters_sha256 == model and judged.verdict.id in run.by_id
    ]
    since, count = judged.record, 0
    for run, outcome in reversed(told):
        if outcome is not judged.verdict.outcome:
            return Standing(since, count, outcome)
        since, count = run, count + 1
    return Standing(since, count, None)


def told(course: Course) -> str:
    """A course in words: the alternative text of its drawing."""
    points = list(course.points)
    head = f"{words.name(course.result)} over {len(points)} runs"
    if len(points) > MOST_TOLD:
        same = sum(not point.unlike for point in points)
        head += f", {same} of them on this model by this check; the last {MOST_TOLD}"
    marks = [
        f"{number(point.interval.estimate)} {point.result.outcome.value}"
        + (f" ({point.unlike})" if point.unlike else "")
        for point in points[-MOST_TOLD:]
    ]
    return f"{head}, oldest first: {', '.join(marks)}; bound {course.result.bound}"


def draw(course: Course) -> Markup:
    """A course as a small drawing: for each run its interval, its estimate, and the bound of that time; gaps where it did not run.

    Runs on another model stand behind an upright line and are thin; so are runs of another version of the check.
    """
    scale = _Scale.of(course)
    width = scale.pitch * course.runs
    parts = [_allowed(course.points, scale), _bounds(course.points, scale), _breaks(course.breaks, scale)]
    for points, kind in (
        ([point for point in course.points if point.unlike], "mc-then"),
        ([point for point in course.points if not point.unlike], "mc-now"),
    ):
        if points:
            drawn = Markup().join([_bars(points, scale), *_marks(points, scale)])
            parts.append(Markup('<g class="{}">{}</g>').format(kind, drawn))
    return Markup(
        '<svg class="mc-course" role="img" data-search-exclude="" viewBox="0 0 {w} {h}" width="{w}" height="{h}" '
        'aria-label="{text}">{body}</svg>'
    ).format(w=width, h=HEIGHT, text=told(course), body=Markup().join(parts))


@dataclass(frozen=True)
class _Scale:
    """Where runs and values lie in a drawing."""

    low: float
    high: float
    pitch: int

    @classmethod
    def of(cls, course: Course) -> _Scale:
        """What shows all intervals and bounds, with a little room around them."""
        marks = [value for point in course.points for value in (point.interval.low, point.interval.high)]
        marks += [value for point in course.points for value in _limits(point.result)]
        span = max(marks) - min(marks)
        margin = 0.08 * span or 0.5 * abs(marks[0]) or 1.0
        pitch = min(max(WIDTH // course.runs, PITCHES[0]), PITCHES[1])
        return cls(min(marks) - margin, max(marks) + margin, pitch)

    def x(self, run: int) -> float:
        return self.pitch * (run + 0.5)

    def left(self, run: int) -> int:
        return self.pitch * run

    def y(self, value: float) -> float:
        return round(BOTTOM - (BOTTOM - TOP) * (value - self.low) / (self.high - self.low), 1)


def _limits(result: CriterionResult) -> list[float]:
    return [bound for bound in (result.low_bound, result.high_bound) if bound is not None]


def _stretches(points: Sequence[Point]) -> list[tuple[Point, int]]:
    """Points with how many runs in a row from there on have the same bounds."""
    found: list[tuple[Point, int]] = []
    for point in points:
        first, length = found[-1] if found else (point, 0)
        if length and point.run == first.run + length and _limits(point.result) == _limits(first.result):
            found[-1] = (first, length + 1)
        else:
            found.append((point, 1))
    return found


def _allowed(points: Sequence[Point], scale: _Scale) -> Markup:
    """Where the bound let the quantity be."""
    areas = []
    for point, length in _stretches(points):
        top = 0 if point.result.high_bound is None else scale.y(point.result.high_bound)
        bottom = HEIGHT if point.result.low_bound is None else scale.y(point.result.low_bound)
        width = scale.pitch * length
        areas.append(f"M{scale.left(point.run)} {top}h{width}V{bottom}h-{width}z")
    return Markup('<path class="mc-allowed" d="{}"/>').format("".join(areas))


def _bounds(points: Sequence[Point], scale: _Scale) -> Markup:
    steps = [
        f"M{scale.left(point.run)} {scale.y(bound)}h{scale.pitch * length}"
        for point, length in _stretches(points)
        for bound in _limits(point.result)
    ]
    return Markup('<path class="mc-bound" d="{}"/>').format("".join(steps))


def _breaks(breaks: Sequence[int], scale: _Scale) -> Markup:
    lines = "".join(f"M{scale.left(run)} 0V{HEIGHT}" for run in breaks)
    return Markup('<path class="mc-break" d="{}"/>').format(lines) if lines else Markup()


def _bars(points: Sequence[Point], scale: _Scale) -> Markup:
    bars = [f"M{scale.x(point.run):g} {scale.y(point.interval.low)}V{scale.y(point.interval.high)}" for point in points]
    return Markup('<path class="mc-bar" d="{}"/>').format("".join(bars))


def _marks(points: Sequence[Point], scale: _Scale) -> list[Markup]:
    """One path for each kind of outcome: a cross failed, a diamond is undecided, a dot (the round end of a line of no length) passed."""
    shapes = {Outcome.FAILED: "m-4-4l8 8m0-8l-8 8", Outcome.INCONCLUSIVE: "m-4.5 0l4.5-4.5l4.5 4.5l-4.5 4.5z"}
    paths: dict[Outcome, list[str]] = {}
    for point in points:
        outcome = point.result.outcome
        start = f"M{scale.x(point.run):g} {scale.y(point.interval.estimate)}"
        paths.setdefault(outcome, []).append(start + shapes.get(outcome, "h0"))
    return [
        Markup('<path class="mc-mark mc-mark-{0} mc-{0}" d="{1}"/>').format(outcome.value, "".join(drawn))
        for outcome, drawn in paths.items()
    ]

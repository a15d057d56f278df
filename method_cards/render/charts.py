"""Which figures show an execution: one rule for each kind of measurement, so that no check draws anything itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from method_cards.judge import number
from method_cards.render.figures import Bound, Curve, Drawing, Histogram, Line, Roc
from method_cards.render.interval import of

if TYPE_CHECKING:
    from method_cards.record import Execution, SeriesData
    from method_cards.verdict import CriterionResult

MOST_LINES = 6
LEAST_POSITIONS = 3
LEAST_VALUES = 24
MOST_POINTS = 4000


@dataclass(frozen=True)
class Chart:
    """A figure with what it shows.

    Attributes:
        drawing: What to draw.
        title: The quantity.
        finding: What is to be seen, in a sentence with numbers: the alternative text.
        note: How to read it.
    """

    drawing: Drawing
    title: str
    finding: str
    note: str


def charts(execution: Execution, results: Sequence[CriterionResult], *, with_histograms: bool = True) -> list[Chart]:
    """The figures for a verdict: of every quantity that it was decided from.

    Args:
        execution: What was measured.
        results: The criteria and conditions of the verdict.
        with_histograms: Whether values that only their mean was judged by are drawn too.
    """
    found: list[Chart] = []
    for name in dict.fromkeys(result.measurement for result in results):
        series = [item for item in execution.measurements if item.name == name]
        about = [result for result in results if result.measurement == name]
        axis = _axis(series)
        if axis is not None:
            found.append(_curve(name, axis, series, about, _levels(execution, results, series)))
        else:
            shown = [item for item in _judged(series, about) if with_histograms or item.kind == "auc"]
            found += [chart for item in shown if (chart := _single(item, about)) is not None]
    return found


def spoken(name: str) -> str:
    """A name in snake_case or kebab-case for people."""
    return name.replace("_", " ").replace("-", " ")


def _axis(series: Sequence[SeriesData]) -> str | None:
    """The numeric breakdown with the most positions; None where there is none worth a curve."""
    if any(item.kind == "auc" for item in series):
        return None
    positions: dict[str, set[Any]] = {}
    for item in series:
        for key, value in item.by.items():
            positions.setdefault(key, set()).add(value)
    numeric = {
        key: len(values) for key, values in positions.items() if all(isinstance(value, int | float) for value in values)
    }
    best = max(numeric, key=lambda key: numeric[key], default=None)
    return best if best is not None and numeric[best] >= LEAST_POSITIONS else None


def _levels(
    execution: Execution, results: Sequence[CriterionResult], series: Sequence[SeriesData]
) -> tuple[tuple[str, float], ...]:
    """Quantities of the same scale that the verdict also rests on, such as a null or a ceiling: one level each."""
    names = {result.measurement for result in results} - {series[0].name}
    same = [
        item for item in execution.measurements if item.name in names and not item.by and item.range == series[0].range
    ]
    return tuple((of(item.name), item.mean) for item in same if item.kind != "auc")


def _curve(
    name: str,
    axis: str,
    series: Sequence[SeriesData],
    about: Sequence[CriterionResult],
    levels: tuple[tuple[str, float], ...],
) -> Chart:
    series = [item for item in series if axis in item.by]
    described = _descriptions(axis, series)
    named = next((key for key, names in described.items() if len(names) == len(set(names.values())) > 1), None)
    groups: dict[str, list[SeriesData]] = {}
    for item in series:
        others = [str(value) for key, value in item.by.items() if key != axis and key not in described]
        groups.setdefault(", ".join(others) or of(name), []).append(item)
    lines = tuple(_line(label, axis, items) for label, items in list(groups.items())[:MOST_LINES])
    ticks = {_position(item, axis): str(item.by[named]) for item in series} if named else {}
    first = series[0]
    chart = Curve(
        lines=lines,
        x_label=f"{spoken(axis)} ({spoken(named)})" if named else spoken(axis),
        y_label=of(name) + (f" [{first.unit}]" if first.unit else ""),
        ticks=tuple(sorted(ticks.items())),
        bounds=tuple(dict.fromkeys(_bounds(about, axis, series))),
        levels=levels,
        range=first.range,
    )
    note = "Mean over the examples; the band holds the middle 80% of them." if first.kind == "mean" else ""
    if len(groups) > MOST_LINES:
        note += f" {len(groups) - MOST_LINES} more lines are left out."
    if chart.bounds:
        note += " The bold line is the bound."
    return Chart(chart, of(name), _course(name, lines, axis), note.strip())


def _descriptions(axis: str, series: Sequence[SeriesData]) -> dict[str, dict[float, Any]]:
    """Other breakdowns that only describe a position of the axis, such as the layers of a stage: position and value of each."""
    found: dict[str, dict[float, Any]] = {}
    for key in dict.fromkeys(key for item in series for key in item.by if key != axis):
        pairs = {(_position(item, axis), item.by.get(key)) for item in series}
        if len(pairs) == len({position for position, _ in pairs}):
            found[key] = dict(pairs)
    return found


def _line(label: str, axis: str, items: Iterable[SeriesData]) -> Line:
    ordered = sorted(items, key=lambda item: _position(item, axis))
    spread = [
        np.quantile(item.values, [0.1, 0.9]) if item.kind == "mean" else (item.mean, item.mean) for item in ordered
    ]
    return Line(
        label=label,
        x=tuple(_position(item, axis) for item in ordered),
        mean=tuple(item.mean for item in ordered),
        low=tuple(float(low) for low, _ in spread),
        high=tuple(float(high) for _, high in spread),
    )


def _position(item: SeriesData, axis: str) -> float:
    return float(item.by[axis])


def _course(name: str, lines: Sequence[Line], axis: str) -> str:
    courses = [
        f"from {number(line.mean[0])} at {spoken(axis)} {number(line.x[0])} to {number(line.mean[-1])} at {number(line.x[-1])}"
        for line in lines
    ]
    if len(lines) == 1:
        return f"{of(name)} over {spoken(axis)} goes {courses[0]}"
    told = "; ".join(f"{line.label} goes {course}" for line, course in zip(lines, courses, strict=True))
    return f"{of(name)} over {spoken(axis)}: {told}"


def _bounds(about: Sequence[CriterionResult], axis: str = "", series: Sequence[SeriesData] = ()) -> list[Bound]:
    found = []
    for result in about:
        places = {_position(item, axis) for item in series if _meets(item, result)}
        place = places.pop() if len(places) == 1 else None
        for value, sign in ((result.high_bound, "≤"), (result.low_bound, "≥")):
            if value is not None:
                found.append(Bound(value, f"{sign} {number(value)}", place))
    return found


def _meets(item: SeriesData, result: CriterionResult) -> bool:
    return all(item.by.get(key) == value for key, value in result.where.items())


def _judged(series: Sequence[SeriesData], about: Sequence[CriterionResult]) -> list[SeriesData]:
    return [item for item in series if any(_meets(item, result) for result in about)][:2]


def _single(item: SeriesData, about: Sequence[CriterionResult]) -> Chart | None:
    name = of(item.name)
    if item.kind == "auc" and item.values and item.negatives:
        both = (_thinned(item.values), _thinned(item.negatives))
        area = next((result.interval.estimate for result in about if result.interval is not None), None)
        finding = f"ROC curve of {name}" + (f", area {number(area)}" if area is not None else "")
        note = "Left: the ROC curve; the dashed diagonal is chance. Right: where the scores of both groups lie, tails in the last bars."
        return Chart(
            Roc(*both, name=name),
            name,
            f"{finding}; {len(item.values)} positives, {len(item.negatives)} negatives",
            note,
        )
    if item.kind == "mean" and len(item.values) >= LEAST_VALUES and min(item.values) < max(item.values):
        low, middle, high = np.quantile(item.values, [0.1, 0.5, 0.9])
        finding = f"histogram of {name} over {len(item.values)} examples: median {number(middle)}, "
        finding += f"the middle 80% from {number(low)} to {number(high)}"
        return Chart(
            Histogram(_thinned(item.values), name, tuple(_bounds(about))),
            name,
            finding,
            "One value for each example; the bound is on their mean.",
        )
    return None


def _thinned(values: Sequence[float]) -> tuple[float, ...]:
    """At most a few thousand of the values: enough for a drawing."""
    if len(values) <= MOST_POINTS:
        return tuple(values)
    ordered = np.sort(np.asarray(values))
    return tuple(ordered[np.linspace(0, len(ordered) - 1, MOST_POINTS).astype(int)].tolist())

"""A measured interval drawn against its bound: one small inline SVG that is read without colour."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from method_cards.judge import number
from method_cards.verdict import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from method_cards.verdict import CriterionResult

WIDTH, HEIGHT = 380, 66
LEFT, RIGHT = 14, WIDTH - 14
MIDDLE = 30

_ABBREVIATION = re.compile(r"\b(auc|hog|ssim)\b")
"""What names of quantities abbreviate, which are in lower case."""

_WORDS = {
    Outcome.PASSED: "the interval lies inside the bound",
    Outcome.FAILED: "the interval lies outside the bound",
    Outcome.INCONCLUSIVE: "the interval straddles the bound",
}


def finding(result: CriterionResult) -> str:
    """What the drawing says, in words: the alternative text."""
    interval = result.interval
    if interval is None:
        return f"{label(result)}: not measured. Bound: {result.bound}."
    unit = f" {result.unit}" if result.unit else ""
    spread = (
        f", {interval.confidence:.0%} interval {number(interval.low)} to {number(interval.high)}"
        if interval.low < interval.high
        else ""
    )
    word = _WORDS.get(result.outcome, "")
    if interval.method == "exact":
        word = word.replace("the interval", "the value")
    return f"{label(result)} is {number(interval.estimate)}{unit}{spread}; bound {result.bound}: {result.outcome.value}, {word}."


def label(result: CriterionResult) -> str:
    """The quantity that was bounded, for people."""
    return of(result.measurement, result.where)


def of(measurement: str, where: Mapping[str, object] | None = None) -> str:
    """A quantity at a place of its breakdowns: ``membership AUC (attack loss)``."""
    name = _ABBREVIATION.sub(lambda found: found[0].upper(), measurement.replace("_", " "))
    place = ", ".join(f"{key} {value}" for key, value in (where or {}).items())
    return f"{name} ({place})" if place else name


def draw(result: CriterionResult, scale: tuple[float, float] | None = None) -> Markup:
    """The drawing; empty where nothing was measured.

    Args:
        result: What became of the criterion.
        scale: From where to where the scale goes, where several drawings share one.
    """
    if result.interval is None:
        return Markup()
    low, high = scale or domain(result)
    parts = [*_allowed(result, low, high), *_scale(result, low, high), *_measured(result, low, high)]
    text = escape(finding(result))
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    return Markup(  # noqa: S704  (numbers, and text that was escaped)
        f'<svg class="mc-interval" role="img" data-search-exclude="" {size} aria-label="{text}">{"".join(parts)}</svg>'
    )


def domain(result: CriterionResult) -> tuple[float, float]:
    """From where to where the scale goes: the whole range, or what shows interval and bound apart when they are close together."""
    assert result.interval is not None
    marks = [result.interval.low, result.interval.estimate, result.interval.high]
    marks += [bound for bound in (result.low_bound, result.high_bound) if bound is not None]
    is_auc = result.interval.method == "delong"  # whatever the range of the scores is
    least, greatest = (0.0, 1.0) if is_auc else result.range
    span = max(marks) - min(marks)
    if least is not None and greatest is not None and span >= 0.08 * (greatest - least):
        return least, greatest
    margin = 0.35 * span or 0.5 * abs(marks[0]) or 1.0
    low, high = min(marks) - margin, max(marks) + margin
    return low if least is None else max(low, least), high if greatest is None else min(high, greatest)


def _x(value: float, low: float, high: float) -> float:
    return round(LEFT + (RIGHT - LEFT) * (value - low) / ((high - low) or 1.0), 1)


def _allowed(result: CriterionResult, low: float, high: float) -> list[str]:
    start = LEFT if result.low_bound is None else _x(result.low_bound, low, high)
    end = RIGHT if result.high_bound is None else _x(result.high_bound, low, high)
    parts = [
        f'<rect class="mc-allowed" x="{start}" y="{MIDDLE - 15}" width="{max(end - start, 1)}" height="30"/>',
    ]
    if end - start > 70 and not _near(result, (start + end) / 2, low, high):  # noqa: PLR2004  (room for the word)
        parts.append(
            f'<text class="mc-hint" x="{(start + end) / 2}" y="{MIDDLE - 4}" text-anchor="middle">allowed</text>'
        )
    for bound, x in ((result.low_bound, start), (result.high_bound, end)):
        if bound is not None:
            parts.append(f'<path class="mc-bound" d="M{x} {MIDDLE - 19}V{MIDDLE + 19}"/>')
            parts.append(_text(number(bound), x, HEIGHT - 4, "mc-bound-label"))
    return parts


def _near(result: CriterionResult, x: float, low: float, high: float) -> bool:
    assert result.interval is not None
    return _x(result.interval.low, low, high) - 26 < x < _x(result.interval.high, low, high) + 26


def _scale(result: CriterionResult, low: float, high: float) -> list[str]:
    bounds = [_x(bound, low, high) for bound in (result.low_bound, result.high_bound) if bound is not None]
    ends = MIDDLE - 4
    parts = [f'<path class="mc-scale" d="M{LEFT} {MIDDLE}H{RIGHT}M{LEFT} {ends}v8M{RIGHT} {ends}v8"/>']
    for value, x in ((low, LEFT), (high, RIGHT)):
        if all(abs(x - bound) > 48 for bound in bounds):  # noqa: PLR2004  (room for two numbers)
            parts.append(_text(number(value), x, HEIGHT - 4, "mc-hint"))
    return parts


def _measured(result: CriterionResult, low: float, high: float) -> list[str]:
    interval = result.interval
    assert interval is not None
    start, middle, end = (_x(value, low, high) for value in (interval.low, interval.estimate, interval.high))
    parts: list[str] = []
    if end > start:
        ends = MIDDLE - 7
        parts.append(f'<path class="mc-bar" d="M{start} {MIDDLE}H{end}M{start} {ends}v14M{end} {ends}v14"/>')
    marker = {Outcome.FAILED: "M{x} {y}m-5-5l10 10m0-10l-10 10", Outcome.INCONCLUSIVE: "M{x} {y}m-6 0l6-6l6 6l-6 6z"}
    circle = "M{x} {y}m-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0z"
    path = marker.get(result.outcome, circle).format(x=middle, y=MIDDLE)
    parts.append(f'<path class="mc-mark mc-mark-{result.outcome.value}" d="{path}"/>')
    parts.append(_text(number(interval.estimate), middle, MIDDLE - 20, "mc-estimate"))
    return parts


def _text(text: str, x: float, y: float, kind: str) -> str:
    anchor = "start" if x < LEFT + 24 else "end" if x > RIGHT - 24 else "middle"
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'

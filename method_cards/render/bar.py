"""A measured interval against its bound, drawn with characters: what is allowed above, what was measured below, numbers under both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from method_cards.judge import number
from method_cards.render.interval import domain

if TYPE_CHECKING:
    from collections.abc import Callable

    from method_cards.verdict import CriterionResult


@dataclass(frozen=True)
class Strokes:
    """The characters of a drawing."""

    allowed: str
    from_here: str
    to_here: str
    begin: str
    line: str
    end: str
    estimate: str


UNICODE = Strokes("═", "╞", "╡", "├", "─", "┤", "●")
ASCII = Strokes("=", "[", "]", "|", "-", "|", "o")


@dataclass(frozen=True)
class Bar:
    """Three rows of one width.

    Attributes:
        allowed: Where the bound lets the quantity be.
        measured: The interval, with the estimate in it.
        scale: The ends of the scale and the bounds, as numbers.
    """

    allowed: str
    measured: str
    scale: str


def bar(result: CriterionResult, width: int, strokes: Strokes = UNICODE) -> Bar | None:
    """Draw a criterion; None where nothing was measured."""
    interval = result.interval
    if interval is None:
        return None
    low, high = domain(result)

    def column(value: float) -> int:
        return min(max(round((value - low) / ((high - low) or 1.0) * (width - 1)), 0), width - 1)

    first = 0 if result.low_bound is None else column(result.low_bound)
    last = width - 1 if result.high_bound is None else column(result.high_bound)
    allowed = [" "] * width
    allowed[first : last + 1] = strokes.allowed * (last + 1 - first)
    if result.low_bound is not None:
        allowed[first] = strokes.from_here
    if result.high_bound is not None:
        allowed[last] = strokes.to_here
    start, middle, end = column(interval.low), column(interval.estimate), column(interval.high)
    if result.high_bound is not None and interval.low > result.high_bound:
        start = min(max(start, last + 1), width - 1)
    if result.low_bound is not None and interval.high < result.low_bound:
        end = max(min(end, first - 1), 0)
    return Bar(
        "".join(allowed).rstrip(),
        _interval(start, middle, end, width, strokes),
        _scale(result, low, high, column, width),
    )


def _interval(start: int, middle: int, end: int, width: int, strokes: Strokes) -> str:
    row = [" "] * width
    if end > start:
        row[start : end + 1] = strokes.line * (end + 1 - start)
        row[start], row[end] = strokes.begin, strokes.end
    row[min(max(middle, start), max(start, end))] = strokes.estimate
    return "".join(row).rstrip()


def _scale(result: CriterionResult, low: float, high: float, column: Callable[[float], int], width: int) -> str:
    row = [" "] * width
    bounds = [bound for bound in (result.low_bound, result.high_bound) if bound is not None]
    for value in (*bounds, low, high):
        text = number(value)
        start = min(max(column(value) - len(text) // 2, 0), width - len(text))
        room = range(max(start - 1, 0), min(start + len(text) + 1, width))
        if all(row[position] == " " for position in room):
            row[start : start + len(text)] = text
    return "".join(row).rstrip()

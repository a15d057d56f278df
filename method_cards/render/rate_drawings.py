"""Error rates and what they come from as small inline SVGs that are read without colour: a rate, runs against a bound, a ROC curve."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from markupsafe import Markup

from method_cards.judge import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from method_cards.render.separation import Roc
    from method_cards.verdict import IntervalData

RATE, PAD = 120, 3
"""The width of a rate's drawing, and of the room at its ends."""

WIDTH, HEIGHT, SIDE = 220, 18, 5
"""Of a control's runs: width, height, and the room at the ends."""

SQUARE, EDGE = 128, 22
"""Of a ROC curve: its side, and the room for its words."""


def rate(found: IntervalData, promised: float, name: str) -> Markup:
    """A rate between nothing and all, with its interval and a dashed line at what is promised."""
    low, middle, high, line = (
        round(PAD + (RATE - 2 * PAD) * value, 1) for value in (found.low, found.estimate, found.high, promised)
    )
    text = f"{name}: {found.estimate:.0%}, {found.confidence:.0%} interval {found.low:.0%} to {found.high:.0%}; promised {promised:.0%}"
    return Markup(
        '<svg class="mc-rate" role="img" data-search-exclude="" viewBox="0 0 {w} 14" width="{w}" height="14"><title>{text}</title>'
        '<path class="mc-scale" d="M{p} 7H{e}M{p} 4v6M{e} 4v6"/><path class="mc-bound" d="M{line} 0V14"/>'
        '<path class="mc-bar" d="M{low} 7H{high}"/><circle class="mc-mark" cx="{middle}" cy="7" r="2.8"/></svg>'
    ).format(w=RATE, p=PAD, e=RATE - PAD, text=text, line=line, low=low, high=high, middle=middle)


class Scale:
    """A common scale for the runs on all controls, with the bound on it.

    Args:
        values: What has to be on it.
        low: The least allowed value; minus infinity where there is none.
        high: The greatest allowed value.
    """

    def __init__(self, values: Sequence[float], low: float, high: float) -> None:
        self.bounds = [bound for bound in (low, high) if math.isfinite(bound)]
        least, greatest = min(*values, *self.bounds), max(*values, *self.bounds)
        margin = 0.03 * (greatest - least) or 0.5 * abs(least) or 1.0
        self._ends = (least, greatest)
        self._least, self._greatest = least - margin, greatest + margin
        self._low, self._high = low, high

    def runs(self, values: Sequence[float], text: str) -> Markup:
        """The runs on one control: a stroke for each; those at one place are one stroke."""
        ticks = "".join(f"M{x} 4v10" for x in sorted(set(map(self._x, values))))
        bounds = Markup().join(
            Markup('<path class="mc-bound" d="M{} 0V{}"/>').format(self._x(bound), HEIGHT) for bound in self.bounds
        )
        start, end = self._x(self._low), self._x(self._high)
        return Markup(
            '<svg class="mc-strip" role="img" data-search-exclude="" viewBox="0 0 {w} {h}" width="{w}" height="{h}"><title>{text}</title>'
            '<rect class="mc-allowed" x="{start}" y="0" width="{width}" height="{h}"/>{bounds}<path class="mc-tick" d="{ticks}"/></svg>'
        ).format(w=WIDTH, h=HEIGHT, text=text, start=start, width=round(end - start, 1), bounds=bounds, ticks=ticks)

    def axis(self) -> Markup:
        """The numbers below: the ends, and the bound."""
        marks = [(bound, self._x(bound), "mc-bound-label") for bound in self.bounds]
        taken = [x for _, x, _ in marks]
        marks += [
            (end, self._x(end), "mc-hint")
            for end in self._ends
            if all(abs(self._x(end) - x) > 44 for x in taken)  # noqa: PLR2004  (room for two numbers)
        ]
        parts = [
            Markup('<text class="{}" x="{}" y="11" text-anchor="{}">{}</text>').format(
                kind, x, _anchor(x), number(value)
            )
            for value, x, kind in marks
        ]
        return Markup(
            '<svg class="mc-strip" aria-hidden="true" data-search-exclude="" viewBox="0 0 {w} 14" width="{w}" height="14">{}</svg>'
        ).format(Markup().join(parts), w=WIDTH)

    def _x(self, value: float) -> float:
        share = (min(max(value, self._least), self._greatest) - self._least) / (self._greatest - self._least)
        return round(SIDE + (WIDTH - 2 * SIDE) * share, 1)


def roc(found: Roc, text: str) -> Markup:
    """Detection against false alarms as the bound moves; the mark is the bound of the card."""

    def at(alarms: float, detected: float) -> tuple[float, float]:
        return round(EDGE + SQUARE * alarms, 1), round(5 + SQUARE * (1 - detected), 1)

    path = "M" + "L".join(f"{x} {y}" for x, y in (at(*point) for point in found.points))
    x, y = at(*found.at_bound)
    return Markup(
        '<svg class="mc-roc" role="img" data-search-exclude="" viewBox="0 0 {w} {h}" width="{w}" height="{h}"><title>{text}</title>'
        '<path class="mc-scale" d="M{l} 5V{b}H{r}"/><path class="mc-bound" d="M{l} {b}L{r} 5"/><path class="mc-bar" d="{path}"/>'
        '<circle class="mc-mark" cx="{x}" cy="{y}" r="4"/>'
        '<text class="mc-hint" x="{l}" y="{t}">0</text><text class="mc-hint" x="{m}" y="{t}" text-anchor="middle">false alarms</text>'
        '<text class="mc-hint" x="{r}" y="{t}" text-anchor="end">1</text><text class="mc-hint" x="{o}" y="13" text-anchor="end">1</text>'
        '<text class="mc-hint" transform="translate({o} {c}) rotate(-90)" text-anchor="middle">detection</text></svg>'
    ).format(
        w=EDGE + SQUARE + 6, h=SQUARE + 22, l=EDGE, r=EDGE + SQUARE, b=5 + SQUARE, m=EDGE + SQUARE / 2, c=5 + SQUARE / 2,
        t=SQUARE + 18, o=EDGE - 6, x=x, y=y, path=path, text=text,
    )  # fmt: skip


def _anchor(x: float) -> str:
    return "start" if x < 20 else "end" if x > WIDTH - 20 else "middle"  # noqa: PLR2004  (half a number's width)

"""Figures as SVG files that are light or dark as the page is, drawn once and named by the hash of their content."""

from __future__ import annotations

import hashlib
import io
import json
import re
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from method_cards.document import whole
from method_cards.render.markdown import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE_VERSION = "9"
"""Goes up when the same data would be drawn differently, so that no old drawing is taken from a cache."""

ROOM = 0.12
"""The share of a drawing's width that the words of a bound take."""

LONGEST = 48
"""How many characters a label may have."""

INK = "#010203"
"""Stands for the colour of text until the drawing is done."""

LIGHT = ("#1b1d21", "#ffffff")
DARK = ("#e3e5ea", "#1e2129")
"""Text and ground. A browser hands the page's colour scheme to a picture; the ground keeps it legible where one does not."""

FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

HUES = ("#3b82c4", "#d97706", "#0f9b8e", "#9b6bd3", "#c2558f", "#7a8a3a")
"""Legible on white and on slate, told apart with any colour vision; markers and dashes tell them apart without colour."""

WIDTH, HEIGHT, POINT = 448, 196, 72
"""Of every drawing, in points; and how many there are to an inch."""

MOST_MARKERS = 40
"""With more points than this, a line has no markers: they would hide it."""

HEAVY = 200
"""With more points than this, a line is drawn as pixels, which weigh less."""

MARKERS = "osD^vP"
DASHES = ("-", "--", "-.", ":", "-", "--")

RC: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


@dataclass(frozen=True)
class Line:
    """One line of a curve: for each position the mean and where most values lie."""

    label: str
    x: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Bound:
    """A bound of a criterion: at one position of the axis, or everywhere."""

    value: float
    text: str
    at: float | None = None


@dataclass(frozen=True)
class Curve:
    """Lines over a numeric breakdown, such as the similarity after each stage of randomisation."""

    lines: tuple[Line, ...]
    x_label: str
    y_label: str
    ticks: tuple[tuple[float, str], ...] = ()
    bounds: tuple[Bound, ...] = ()
    levels: tuple[tuple[str, float], ...] = ()
    range: tuple[float | None, float | None] = (None, None)

    def draw(self, figure: Figure) -> None:
        """Draw it."""
        axes = figure.add_subplot()
        for number, (label, value) in enumerate(self.levels):
            axes.axhline(
                value,
                color=INK,
                linewidth=1.1,
                alpha=0.7,
                linestyle=((0, (1, 2)), (0, (6, 2, 1, 2)))[number % 2],
                label=_short(label),
            )
        for number, line in enumerate(self.lines):
            hue = HUES[number % len(HUES)]
            is_heavy = len(line.x) > HEAVY
            if any(low < high for low, high in zip(line.low, line.high, strict=True)):
                axes.fill_between(line.x, line.low, line.high, color=hue, alpha=0.18, linewidth=0, rasterized=is_heavy)
            marker = MARKERS[number % len(MARKERS)] if len(line.x) <= MOST_MARKERS else ""
            style = DASHES[number % len(DASHES)]
            axes.plot(
                line.x,
                line.mean,
                color=hue,
                marker=marker,
                markersize=4.5,
                linestyle=style,
                label=_short(line.label),
                rasterized=is_heavy,
            )
        positions = [value for value, _ in self.ticks] or sorted({x for line in self.lines for x in line.x})
        reach = 0.35 * min((b - a for a, b in pairwise(positions)), default=1.0)
        for bound in self.bounds:
            if bound.at is None:
                axes.axhline(bound.value, color=INK, linewidth=1, linestyle=(0, (5, 3)))
            else:
                axes.plot(
                    [bound.at - reach, bound.at + reach],
                    [bound.value] * 2,
                    color=INK,
                    linewidth=2.2,
                    solid_capstyle="butt",
                )
            axes.annotate(
                _short(bound.text),
                (positions[-1] + reach if bound.at is None else bound.at + reach, bound.value),
                xytext=(0, 3),
                textcoords="offset points",
                ha="right",
                fontweight="bold",
            )
        if self.ticks:
            slanted = sum(len(text) for _, text in self.ticks) > 60  # noqa: PLR2004  (what fits on a line)
            axes.set_xticks(
                positions,
                [_short(text) for _, text in self.ticks],
                rotation=30 if slanted else 0,
                ha="right" if slanted else "center",
            )
        elif len(positions) <= 16:  # noqa: PLR2004
            axes.set_xticks(positions)
        _finish(axes, self.x_label, self.y_label, self.range)
        if len(self.lines) + len(self.levels) > 1:
            axes.legend(
                loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, borderaxespad=0.2, fontsize=8.5, handlelength=2.4
            )


@dataclass(frozen=True)
class Roc:
    """How well one score tells two groups apart: the ROC curve, and where the scores of both groups lie."""

    positives: tuple[float, ...]
    negatives: tuple[float, ...]
    name: str

    def draw(self, figure: Figure) -> None:
        """Draw it."""
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
        true, false = _rates(np.array(self.positives), np.array(self.negatives))
        left.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        left.plot(false, true, color=HUES[0])
        left.set_aspect("equal")
        _finish(left, "share of negatives", "share of positives", (0, 1))
        left.set_xlim(0, 1)
        both = np.concatenate([self.positives, self.negatives])
        low, high = np.quantile(both, [0.02, 0.98])
        bins = np.linspace(low, high if high > low else low + 1, 25)
        for number, (values, label) in enumerate(((self.positives, "positives"), (self.negatives, "negatives"))):
            clipped = np.clip(values, bins[0], bins[-1])
            share = np.full(len(values), 1 / len(values))
            right.hist(
                clipped,
                bins,
                weights=share,
                histtype="step",
                color=HUES[number],
                linestyle=DASHES[number],
                linewidth=1.6,
                label=label,
            )
        _finish(right, self.name, "share of examples", (0, None))
        right.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, borderaxespad=0)


@dataclass(frozen=True)
class Histogram:
    """Where the values of a quantity lie, one for each example, with the bound on their mean."""

    values: tuple[float, ...]
    name: str
    bounds: tuple[Bound, ...] = ()

    def draw(self, figure: Figure) -> None:
        """Draw it."""
        from matplotlib.ticker import MaxNLocator

        axes = figure.add_subplot()
        axes.hist(self.values, bins=30, color=HUES[0], alpha=0.55)
        mean = float(np.mean(self.values))
        axes.axvline(mean, color=HUES[0], linewidth=2)
        _beside(axes, mean, "mean", left=any(bound.value >= mean for bound in self.bounds))
        for bound in self.bounds:
            axes.axvline(bound.value, color=INK, linewidth=1.2, linestyle=(0, (5, 3)))
            low, high = axes.get_xlim()
            has_room = bound.value - low > ROOM * (high - low)
            _beside(axes, bound.value, _short(bound.text), left=bound.value < mean and has_room, bold=True)
        axes.yaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True))
        _finish(axes, self.name, "examples", (0, None))


Drawing = Curve | Roc | Histogram


@dataclass(frozen=True)
class Drawn:
    """A drawing as a file.

    Attributes:
        name: A file name made of the hash of what was drawn.
        svg: The file.
        width: In pixels; with the height it keeps the place on a page before the file is loaded.
        height: In pixels.
    """

    name: str
    svg: bytes
    width: int
    height: int


class Drawer:
    """Draws what was not drawn before.

    Args:
        cache: The folder that keeps drawings; None to draw each time.
    """

    def __init__(self, cache: Path | None = None) -> None:
        self._cache = cache

    def __call__(self, drawing: Drawing) -> Drawn:
        """The drawing as a file of its own."""
        content = json.dumps([STYLE_VERSION, type(drawing).__name__, drawing], default=vars)
        key = hashlib.sha256(content.encode()).hexdigest()[:16]
        svg = self._kept(f"{key}.svg", lambda: _svg(drawing, key))
        return Drawn(f"{key}.svg", svg.encode(), WIDTH, HEIGHT)

    def _kept(self, name: str, make: Callable[[], str]) -> str:
        if self._cache is None:
            return make()
        path = self._cache / name
        with suppress(OSError, UnicodeDecodeError):  # it is not there yet, or damaged
            return path.read_text(encoding="utf-8")
        made = make()
        with suppress(OSError):  # what cannot be kept is drawn again
            self._cache.mkdir(parents=True, exist_ok=True)
            with whole(path) as handle:  # half a drawing would be taken for the whole one from then on
                handle.write(made.encode())
        return made


def _svg(drawing: Drawing, key: str) -> str:
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context():
        mpl.rcdefaults()  # a person's own matplotlibrc does not change the pages
        settings: Any = RC | {"svg.hashsalt": key}
        mpl.rcParams.update(settings)
        figure = Figure(figsize=(WIDTH / POINT, HEIGHT / POINT), layout="constrained")
        FigureCanvasSVG(figure)
        drawing.draw(figure)
        buffer = io.StringIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)  # the reader's own font has it
            figure.savefig(buffer, format="svg", transparent=True, dpi=110, metadata={"Date": None})
    return _lean(buffer.getvalue())


def _lean(svg: str) -> str:
    """Matplotlib's SVG without what repeats itself, in the reader's font, with a ground and ink for both colour schemes."""
    svg = re.sub(r"^.*?<svg[^>]*>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(
        r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->|<defs>\s*</defs>", "", svg, flags=re.DOTALL
    )
    used = dict.fromkeys(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    names = {name: f"m{number}" for number, name in enumerate(used)}
    svg = re.sub(r' id="([^"]*)"', lambda found: f' id="{names[found[1]]}"' if found[1] in names else "", svg)
    svg = re.sub(r'(?:href="|url\()#([^")]+)', lambda found: found[0].replace(found[1], names[found[1]]), svg)
    svg = svg.replace("xlink:href", "href")
    svg = svg.replace(INK, "currentColor")
    svg = re.sub(
        r"font: (bold |\d+ )?([\d.]+)px [^;\"]+",
        lambda found: f"font-size: {found[2]}px" + ("; font-weight: bold" if found[1] else ""),
        svg,
    )
    svg = re.sub(r"font-family: [^;\"]+;?|text-anchor: start;?| transform=\"rotate\(-?0 [^)]*\)\"", "", svg)
    svg = re.sub(r'style="([^"]*)"', _attributes, svg)
    svg = re.sub(r"<(text|use)\b[^>]*>", lambda tag: re.sub(_INHERITED[tag[1]], "", tag[0]), svg)
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"-?\d+\.\d{2,}", lambda found: f"{float(found[0]):.1f}", tag[0]), svg)
    svg = re.sub(r">\s+<", "><", re.sub(r"\s+", " ", svg)).strip()
    for _ in range(3):
        svg = re.sub(r"<g>(<(?:path|use|text)[^<>]*?(?:/>|>[^<>]*</text>))</g>|<g></g>|<defs></defs>", r"\1", svg)
    return _ROOT + re.sub(r'(?<=[\d.] )([ML]) | "|(?<=d=")M | z (?=")', lambda found: found[0].strip(), svg)


_ROOT = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
    f'fill="currentColor" color="{LIGHT[0]}" font-family="{FONTS}" font-size="9.5" stroke-linejoin="round" stroke-linecap="butt">'
    f"<style>@media(prefers-color-scheme:dark){{svg{{color:{DARK[0]}}}.g{{fill:{DARK[1]}}}}}</style>"
    f'<rect class="g" width="100%" height="100%" fill="{LIGHT[1]}"/>'
)

_INHERITED = {
    "text": r' (font-size="9.5px"|fill="currentColor")',
    "use": r' (fill|stroke|stroke-width)="(currentColor|0\.\d+)"',
}
"""What the drawing's root, or the mark that is used, says already."""


def _attributes(found: re.Match[str]) -> str:
    """A style as attributes, which are shorter: ``style="fill: none; stroke: red"`` as ``fill="none" stroke="red"``."""
    pairs = [item.split(":", 1) for item in found[1].split(";") if ":" in item]
    return " ".join(f'{name.strip()}="{value.strip()}"' for name, value in pairs)


def _short(text: str) -> str:
    """A label that leaves room for the drawing: one line, of what can be seen."""
    flat = " ".join(visible(text).split())
    return flat if len(flat) <= LONGEST else f"{flat[: LONGEST - 1]}…"


def _finish(axes: Axes, x_label: str, y_label: str, limits: tuple[float | None, float | None]) -> None:
    axes.set_xlabel(_short(x_label))
    axes.set_ylabel(_short(y_label))
    low, high = limits
    shown = axes.get_ylim()
    if low is not None and low < 0 and shown[0] > low / 2:
        low = 0 if shown[0] > -0.05 * (shown[1] - shown[0]) else shown[0]
    if low is not None and high is not None and low < high:
        margin = 0.03 * (high - low)
        axes.set_ylim(low - (margin if low else 0), high + margin)
    elif low is not None:
        axes.set_ylim(low, shown[1])
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
    axes.set_axisbelow(True)


def _beside(axes: Axes, x: float, text: str, *, left: bool, bold: bool = False) -> None:
    """A word at the top of an upright line, on one of its sides."""
    axes.annotate(
        text,
        (x, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-4 if left else 4, -9),
        textcoords="offset points",
        ha="right" if left else "left",
        fontweight="bold" if bold else "normal",
    )


def _rates(positives: np.ndarray[Any, Any], negatives: np.ndarray[Any, Any]) -> tuple[list[float], list[float]]:
    """True and false positive rates at every threshold, from the highest; thinned to what can be seen."""
    thresholds = np.unique(np.concatenate([positives, negatives]))[::-1]
    if thresholds.size > 120:  # noqa: PLR2004
        thresholds = thresholds[np.linspace(0, thresholds.size - 1, 120).astype(int)]
    true = 1 - np.searchsorted(np.sort(positives), thresholds, side="left") / positives.size
    false = 1 - np.searchsorted(np.sort(negatives), thresholds, side="left") / negatives.size
    return [0.0, *true.tolist()], [0.0, *false.tolist()]

"""Write the page on capacity: ``python capacity_page.py`` turns results.json into Markdown with a plot."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
PAGE = HERE.parents[1] / "site" / "evidence" / "capacity.md"

Point = dict[str, Any]

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 16, 48
MOST_STORED = 3.0

BELOW = 2.05
"""Sets of so many bits for each parameter are below the capacity."""

SMALLEST_OF_MORRIS = 500_000
"""Parameters of the smallest models of which Morris et al. report a capacity."""

HEAD = """---
hide: [toc]
---

# How many bits a small transformer holds

Random strings have nothing in common, so whatever a model saves on them it has memorised. A transformer of {parameters:,} parameters
(one layer, width 32, 64 tokens, strings of 32 tokens) was trained on sets of growing size. What it stored is the entropy of the
strings, `N T log2 V`, less the bits that a code made from the trained model needs for them. Each row is one training, with seed {seed}.
The check [`memorization/capacity`](../checks/memorization/capacity.md) measures the same for your own model and recipe. Made in
`examples/capacity` by

```console
$ python points.py {points}
$ python capacity_page.py
```
"""

TAIL = """
The dashed line is a theorem, not a fit. To say which of its `N` strings is meant takes `log2 N` bits, and these cannot be saved: no
model stores a larger share than `1 − log2 N / (T log2 V)`. The sets of at most two bits for each parameter come within {near:.2f}
percentage points of it: below the capacity everything is stored, and the count is right. Strings that were never trained on must not
seem stored: the model needs more bits for one than its entropy, so that in every row what it saves on them is negative.

{plateau}

Morris et al. 2025 report about 3.6 bits for each parameter, from models of half a million parameters and more. This page does not
reach that, and does not contradict it: the model is {smaller:.0f} times smaller, and what it stores still rises with the number of steps. A
capacity is always that of a recipe, and a lower bound of what could be stored.
"""


def page(points: Sequence[Point]) -> str:
    """The page as Markdown."""
    near = max(
        100 * (limit(point) - point["memorized_bits"] / point["dataset_bits"])
        for point in points
        if density(point) <= BELOW
    )
    parameters = points[0]["parameters"]
    asked = " ".join(f"{point['strings']}:{point['steps']}" for point in points)
    head = HEAD.format(parameters=parameters, points=asked, seed=points[0]["seed"])
    tail = TAIL.format(near=near, plateau=plateau(points), smaller=SMALLEST_OF_MORRIS / parameters)
    parts = [head, svg(points), "", table(points), tail]
    return "\n".join(parts).rstrip() + "\n"


def density(point: Point) -> float:
    """Bits of the strings for each parameter."""
    return float(point["dataset_bits"] / point["parameters"])


def stored(point: Point) -> float:
    """Stored bits for each parameter."""
    return float(point["memorized_bits"] / point["parameters"])


def limit(point: Point) -> float:
    """The largest share of the strings' bits that can be stored."""
    found: float = 1 - math.log2(point["strings"]) / (point["tokens"] * math.log2(point["vocabulary"]))
    return found


def plateau(points: Sequence[Point]) -> str:
    """Whether the largest sets of each budget store the same."""
    told = []
    for steps in sorted({point["steps"] for point in points}):
        own = sorted((point for point in points if point["steps"] == steps), key=density)
        if len(own) > 1 and density(own[-1]) >= 2 * density(own[-2]) * 0.99:
            first, second = stored(own[-2]), stored(own[-1])
            gap = abs(first - second) / max(first, second)
            reached = "a plateau" if gap <= 0.02 else "no plateau yet"  # noqa: PLR2004
            told.append(
                f"After {steps:,} steps the sets of {density(own[-2]):.1f} and {density(own[-1]):.1f} bits for each parameter store "
                f"{first:.3f} and {second:.3f}: a difference of {100 * gap:.1f} %, {reached} by the rule that two sets at least "
                "twice apart agree within 2 %."
            )
    return " ".join(told)


def table(points: Sequence[Point]) -> str:
    """A row for each training."""
    lines = [
        "| steps | strings | bits / parameter | stored / parameter | share stored | largest share | bits saved on a new string | CPU s |",
        "| ---: " * 8 + "|",
    ]
    for point in points:
        cells = (
            f"{point['steps']:,}",
            f"{point['strings']}",
            f"{density(point):.2f}",
            f"{stored(point):.3f}",
            f"{point['memorized_bits'] / point['dataset_bits']:.3f}",
            f"{limit(point):.3f}",
            f"{point['held_out_bits']:.0f}",
            f"{point['cpu_seconds']:.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def svg(points: Sequence[Point]) -> str:
    """Bits of the strings against stored bits, for each budget, with the line that cannot be crossed."""
    most = 1.05 * max(map(density, points))

    def at(x: float, y: float) -> str:
        across = LEFT + (WIDTH - LEFT - RIGHT) * x / most
        return f"{across:.1f},{HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y / MOST_STORED:.1f}"

    told = "Stored bits for each parameter against the bits of the strings for each parameter"
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" fill="currentColor" font-size="12"'
    parts = [f'<svg class="mc-figure" role="img" aria-label="{told}" {box}>']
    base = HEIGHT - BOTTOM
    for value in range(int(most) + 1):
        x = at(value, 0).partition(",")[0]
        parts.append(f'<text x="{x}" y="{base + 18}" text-anchor="middle">{value}</text>')
    for value in range(int(MOST_STORED) + 1):
        y = at(0, value).partition(",")[2]
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" stroke="currentColor" stroke-opacity="0.15"/>'
            f'<text x="{LEFT - 8}" y="{y}" dy="4" text-anchor="end">{value}</text>'
        )
    largest = [
        at(x, x * share(x, points[0]))
        for x in (step / 50 for step in range(1, 1000, 6))
        if x * share(x, points[0]) <= MOST_STORED
    ]
    parts.append(f'<polyline points="{" ".join(largest)}" fill="none" stroke="currentColor" stroke-dasharray="5 4"/>')
    budgets = sorted({point["steps"] for point in points})
    for number, steps in enumerate(budgets):
        own = sorted((point for point in points if point["steps"] == steps), key=density)
        opacity = 1 if number == len(budgets) - 1 else 0.45
        places = [at(density(point), stored(point)) for point in own]
        parts.append(
            f'<g opacity="{opacity}"><polyline points="{" ".join(places)}" fill="none" stroke="currentColor" stroke-width="1.5"/>'
        )
        for place, point in zip(places, own, strict=True):
            x, _, y = place.partition(",")
            parts.append(
                f'<circle cx="{x}" cy="{y}" r="4"><title>{point["strings"]} strings, {stored(point):.3f}</title></circle>'
            )
        x, _, y = places[-1].partition(",")
        parts.append(f'<text x="{x}" y="{y}" dy="{-10 if number else 20}" text-anchor="end">{steps:,} steps</text></g>')
    middle, half = (LEFT + WIDTH) / 2, base / 2
    parts += [
        f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">bits of the strings, for each parameter</text>',
        f'<text x="14" y="{half}" text-anchor="middle" transform="rotate(-90 14 {half})">stored, for each parameter</text>',
        "</svg>",
    ]
    return "".join(parts)


def share(bits_per_parameter: float, like: Point) -> float:
    """The largest share of strings with so many bits for each parameter that can be stored."""
    entropy = like["tokens"] * math.log2(like["vocabulary"])
    found: float = 1 - math.log2(max(1.0, bits_per_parameter * like["parameters"] / entropy)) / entropy
    return found


def main() -> None:
    """Write the page."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()

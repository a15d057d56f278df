"""A record in a notebook: HTML where it is understood, else Markdown or text. It needs no script, no style sheet, no network."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING

from markupsafe import Markup

from method_cards import record as records
from method_cards.errors import InputError
from method_cards.render import interval, words
from method_cards.render.cells import harmless, plain
from method_cards.render.pictures import sheet
from method_cards.verdict import Outcome

if TYPE_CHECKING:
    from pathlib import Path

    from method_cards.record import Record
    from method_cards.verdict import CriterionResult, Verdict

_COLOURS = {
    Outcome.PASSED: "#2e7d32",
    Outcome.FAILED: "#c62828",
    Outcome.INCONCLUSIVE: "#b26a00",
    Outcome.INVALID: "#8e24aa",
    Outcome.ERRORED: "#c62828",
}
_GREY = "#757575"

MOST_CHARACTERS = 150
"""Of the source of a bound, which the cell above tells in full."""

_SVG = {
    "mc-interval": "max-width:100%;height:auto;font:11px sans-serif",
    "mc-allowed": "fill:#2e7d32;fill-opacity:.16",
    "mc-bound": "stroke:#2e7d32;stroke-width:1.5;fill:none",
    "mc-bound-label": "fill:currentColor",
    "mc-hint": "fill:currentColor;fill-opacity:.6",
    "mc-scale": "stroke:currentColor;stroke-opacity:.35;fill:none",
    "mc-bar": "stroke:currentColor;stroke-width:2;fill:none",
    "mc-mark": "fill:currentColor;stroke:currentColor;stroke-width:2",
    "mc-estimate": "fill:currentColor;font-weight:bold",
}
"""The site's style sheet is not there in a notebook, so each stroke brings its own style."""


def show(record: Record, path: Path | None = None) -> Shown:
    """A record as a notebook shows it.

    Args:
        record: The record.
        path: The path of its ``record.json``, beside which its pictures lie.
    """
    return Shown(record, path)


@dataclass(frozen=True)
class Shown:
    """A record, shown by Jupyter, VS Code, Colab and marimo.

    Attributes:
        record: The record.
        path: Where it lies.
    """

    record: Record
    path: Path | None = None

    def _repr_html_(self) -> str:
        blocks = [_verdict_html(verdict) for verdict in self.record.verdicts]
        return str(
            Markup('<div style="max-width:60em;line-height:1.45">{}{}{}</div>').format(
                Markup().join(blocks), self._pictures(), self._foot()
            )
        )

    def _repr_markdown_(self) -> str:
        lines = ["| | Prescription | Verdict | Measured | Bound |", "| --- | --- | --- | --- | --- |"]
        for verdict in self.record.verdicts:
            numbers = [_numbers(result) for result in (*verdict.gates, *verdict.criteria)]
            for measured, bound in numbers or [("", "")]:
                cells = (words.SYMBOLS[verdict.outcome], verdict.id, words.word(verdict.outcome), measured, bound)
                lines.append(f"| {' | '.join(map(plain, cells))} |")
        return "\n".join(
            [*lines, "", *(plain(f"{verdict.id}: {verdict.reason}") + "\n" for verdict in self.record.verdicts)]
        )

    def __repr__(self) -> str:
        return "\n".join(
            f"{words.SYMBOLS[verdict.outcome]} {words.word(verdict.outcome)} {verdict.level} {verdict.id}: {harmless(verdict.reason)}"
            for verdict in self.record.verdicts
        )

    def _pictures(self) -> Markup:
        if self.path is None:
            return Markup()
        drawn = []
        for execution in self.record.executions:
            for data in execution.pictures:
                try:
                    found = sheet(records.read_pictures(self.path.parent, data))
                except InputError as error:
                    drawn.append(Markup("<p>{}</p>").format(harmless(error)))
                    continue
                source = base64.b64encode(found.png).decode()
                image = Markup(
                    '<img alt="{}" style="max-width:100%;image-rendering:pixelated" src="data:image/png;base64,{}">'
                )
                columns, rows = " | ".join(found.columns), " | ".join(found.rows)
                caption = Markup(
                    "<figcaption>{}<br><small>from left to right: {}; from top to bottom: {}</small></figcaption>"
                )
                picture, said = (
                    image.format(harmless(found.caption), source),
                    caption.format(*map(harmless, (found.caption, columns, rows))),
                )
                drawn.append(Markup('<figure style="margin:1em 0">{}{}</figure>').format(picture, said))
        return Markup().join(drawn)

    def _foot(self) -> Markup:
        record = self.record
        run = f"record {record.id} · {words.duration(record.seconds)} on {record.device} · seed {record.seed}"
        said = f"{run} · criteria: {words.adjusted(record)}"
        return Markup('<p style="opacity:.7"><small>{}</small></p>').format(harmless(said))


def _verdict_html(verdict: Verdict) -> Markup:
    colour = _COLOURS.get(verdict.outcome, _GREY)
    chip = Markup(
        '<span style="border:1px solid {c};color:{c};border-radius:3px;padding:0 .4em;font-weight:bold">{s} {w}</span>'
    ).format(c=colour, s=words.SYMBOLS[verdict.outcome], w=words.word(verdict.outcome))
    said = [verdict.reason, *([words.waived(verdict)] if verdict.waiver is not None else [])]
    head = Markup("<p>{} <b>{}</b> <code>{}</code><br>{}</p><p>{}</p>").format(
        chip, verdict.level, verdict.id, harmless(verdict.statement), Markup("<br>").join(map(harmless, said))
    )
    results = (*verdict.gates, *verdict.criteria)
    table = Markup().join(_criterion_html(result, is_gate=result in verdict.gates) for result in results)
    block = Markup('<div style="border-left:4px solid {};padding-left:1em;margin:1em 0">{}{}</div>')
    rows = (
        Markup('<table style="border-collapse:collapse"><tbody>{}</tbody></table>').format(table)
        if results
        else Markup()
    )
    return block.format(colour, head, rows)


def _criterion_html(result: CriterionResult, *, is_gate: bool) -> Markup:
    left = "text-align:left;vertical-align:top;padding:.3em 1em .3em 0;min-width:20em"
    measured, limit = _numbers(result)
    kind = ", a condition of this run" if is_gate else ""
    outcome = f"{words.SYMBOLS[result.outcome]} {words.word(result.outcome)}{kind}:"
    source = f", from {shorten(result.source, MOST_CHARACTERS, placeholder=' …')}" if result.source else ""
    said = map(harmless, (outcome, result.claim, measured, f"bound {limit}{source}"))
    text = Markup("<b>{}</b> {}<br><small>{}<br>{}</small>").format(*said)
    return Markup('<tr><td style="{s}">{t}</td><td style="{s}">{d}</td></tr>').format(
        s=left, t=text, d=_styled(interval.draw(result))
    )


def _numbers(result: CriterionResult) -> tuple[str, str]:
    if result.interval is None:
        return f"{words.name(result)}: not measured", result.bound
    return f"{words.name(result)}: {words.measured(result.interval, result.unit)}", result.bound


def _styled(drawing: Markup) -> Markup:
    def style(found: re.Match[str]) -> str:
        return f'style="{_SVG.get(found[1].split()[0], "")}"'

    return Markup(re.sub(r'class="(mc-[a-z -]+)"', style, drawing))  # noqa: S704  (only the attributes of the drawing change)

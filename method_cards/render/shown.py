"""A record and a verdict as HTML for notebooks: no script, no style sheet, no network, readable in light and dark and without styles.

Text keeps the colour of the page that it stands on; what is coloured is only lines and tints, which are visible on white and on black.
"""

from __future__ import annotations

import base64
import re
from textwrap import shorten
from typing import TYPE_CHECKING

from markupsafe import Markup

from method_cards import record as records
from method_cards.errors import InputError
from method_cards.render import interval, words
from method_cards.render.cells import harmless
from method_cards.render.charts import charts
from method_cards.render.figures import Drawer, Drawn
from method_cards.render.pictures import sheet
from method_cards.verdict import Outcome

if TYPE_CHECKING:
    from method_cards.measurement import Pictures
    from method_cards.record import Execution, Record
    from method_cards.verdict import CriterionResult, Verdict

COLOURS = {
    Outcome.PASSED: "#2e7d32",
    Outcome.ANSWERED: "#2e7d32",
    Outcome.FAILED: "#d32f2f",
    Outcome.ERRORED: "#d32f2f",
    Outcome.INCONCLUSIVE: "#b26a00",
    Outcome.INVALID: "#ab47bc",
}
GREY = "#757575"

MOST_CHARACTERS = 150
"""Of the source of a bound, which the card tells in full."""

_SVG = {
    "mc-interval": "max-width:100%;height:auto;font:11px sans-serif",
    "mc-allowed": "fill:#2e7d32;fill-opacity:.16",
    "mc-bound": "stroke:#2e7d32;stroke-width:1.5;fill:none",
    "mc-bound-label": "fill:currentColor",
    "mc-hint": "fill:currentColor;fill-opacity:.7",
    "mc-scale": "stroke:currentColor;stroke-opacity:.35;fill:none",
    "mc-bar": "stroke:currentColor;stroke-width:2;fill:none",
    "mc-mark": "fill:currentColor;stroke:currentColor;stroke-width:2",
    "mc-estimate": "fill:currentColor;font-weight:bold",
}
"""The site's style sheet is not there in a notebook, so each stroke brings its own style."""

_KEY = re.compile(r"^([a-z]+)(\d{4})[a-z]+(?=[,:]|$)")
"""The key of a work, as a record keeps it: ``adebayo2018sanity``."""

_GROUND = re.compile(r'<style>.*?</style><rect class="g"[^>]*/>', re.DOTALL)
"""What makes a file of a drawing light or dark."""


def record_html(record: Record) -> Markup:
    """What a run found: the counts, then each verdict, the ones that ask for attention first and open, the others folded."""
    open_ones = [item for item in record.verdicts if item.outcome in words.TROUBLE or len(record.verdicts) == 1]
    open_ones.sort(key=lambda item: words.TROUBLE.index(item.outcome) if item.outcome in words.TROUBLE else 0)
    drawn: set[int] = set()
    blocks = [_block(item, _evidence(record, item, drawn)) for item in open_ones]
    blocks += [_folded(item, _evidence(record, item, drawn)) for item in record.verdicts if item not in open_ones]
    said = f"{record.subject.title or record.subject.id}: {words.counted(record.verdicts)}"
    head = Markup("<p><b>{}</b></p>").format(harmless(said)) if len(record.verdicts) > 1 else Markup()
    return Markup('<div style="max-width:60em;line-height:1.45">{}{}{}</div>').format(
        head, Markup().join(blocks), _foot(record)
    )


def verdict_html(verdict: Verdict) -> Markup:
    """A verdict on its own."""
    return Markup('<div style="max-width:60em;line-height:1.45">{}</div>').format(_block(verdict, Markup()))


def criterion_html(result: CriterionResult) -> Markup:
    """What became of one criterion."""
    return _criterion(result, is_gate=False)


def pictures_html(pictures: Pictures) -> Markup:
    """Pictures side by side, with their titles in words."""
    found = sheet(pictures)
    columns, rows = ", ".join(found.columns), ", ".join(found.rows)
    signed = " Orange is positive, blue negative, white zero; each map by its own scale." if found.signed else ""
    said = f"From left to right: {columns}. From top to bottom: {rows}.{signed}"
    return Markup(
        '<figure style="margin:1em 0"><img alt="{caption}" style="max-width:100%;image-rendering:pixelated" width="{width}" '
        'src="data:image/png;base64,{data}"><figcaption>{caption}<br><small>{said}</small></figcaption></figure>'
    ).format(
        caption=harmless(found.caption),
        width=found.width,
        data=base64.b64encode(found.png).decode(),
        said=harmless(said),
    )


def numbers(result: CriterionResult) -> tuple[str, str]:
    """What was measured and what is allowed, in words."""
    if result.interval is None:
        return f"{words.name(result)}: not measured", result.bound
    return f"{words.name(result)}: {words.measured(result.interval, result.unit)}", result.bound


def chip(outcome: Outcome) -> Markup:
    """The outcome as a word with its mark."""
    style = f"border:1px solid {COLOURS.get(outcome, GREY)};border-left-width:5px;border-radius:3px;padding:0 .4em"
    return Markup('<span style="{};white-space:nowrap"><b>{} {}</b></span>').format(
        style, words.SYMBOLS[outcome], words.word(outcome)
    )


def _block(verdict: Verdict, evidence: Markup) -> Markup:
    head = Markup('<p style="margin:.5em 0">{} <b>{}</b> <code>{}</code><br>{}</p>').format(
        chip(verdict.outcome), verdict.level, harmless(verdict.id), harmless(verdict.statement)
    )
    return Markup('<div style="border-left:4px solid {};padding-left:1em;margin:1em 0">{}{}</div>').format(
        COLOURS.get(verdict.outcome, GREY), head, _details(verdict, evidence)
    )


def _folded(verdict: Verdict, evidence: Markup) -> Markup:
    head = Markup("<summary>{} <b>{}</b> <code>{}</code> {}</summary>").format(
        chip(verdict.outcome), verdict.level, harmless(verdict.id), harmless(verdict.statement)
    )
    return Markup('<details style="margin:.4em 0">{}<div style="padding-left:1em">{}</div></details>').format(
        head, _details(verdict, evidence)
    )


def _details(verdict: Verdict, evidence: Markup) -> Markup:
    said = [verdict.question] if verdict.question and verdict.answer is None else []
    first = words.decisive(verdict)
    said += [] if any(result.reason == verdict.reason for result in first) else [verdict.reason]  # it is told below
    said += [words.waived(verdict)] if verdict.waiver is not None else []
    if verdict.answer is not None:
        said.append(f"Evidence: {verdict.answer.evidence}")
    results = [*first, *(result for result in (*verdict.criteria, *verdict.gates) if result not in first)]
    rows = Markup().join(_criterion(result, is_gate=result in verdict.gates) for result in results)
    text = (
        Markup('<p style="margin:.5em 0">{}</p>').format(Markup("<br>").join(map(harmless, said))) if said else Markup()
    )
    return text + rows + evidence


def _criterion(result: CriterionResult, *, is_gate: bool) -> Markup:
    measured, limit = numbers(result)
    kind = ", a condition of this run" if is_gate else ""
    outcome = f"{words.SYMBOLS[result.outcome]} {words.word(result.outcome)}{kind}:"
    source = shorten(_KEY.sub(_work, result.source), MOST_CHARACTERS, placeholder=" …")
    limit += f"; the bound comes from: {source}" if source else ""
    said = map(harmless, (outcome, result.claim, measured, f"allowed {limit}"))
    text = Markup("<b>{}</b> {}<br><small>{}<br>{}</small>").format(*said)
    beside = "display:inline-block;vertical-align:top;width:27em;max-width:100%;margin:.3em 1em .3em 0"
    return Markup('<div><div style="{s}">{t}</div><div style="{s}">{d}</div></div>').format(
        s=beside, t=text, d=_unseen(_styled(interval.draw(result)))
    )


def _work(key: re.Match[str]) -> str:
    """A work by its author and year, which its key in the bibliography begins with."""
    return f"{key[1].capitalize()} {key[2]}"


def _evidence(record: Record, verdict: Verdict, drawn: set[int]) -> Markup:
    """The figures that a verdict was decided from, and the pictures of its execution; pictures stand with the first verdict only."""
    number = verdict.execution
    if number is None or number >= len(record.executions):
        return Markup()
    execution = record.executions[number]
    found = _charts(execution, verdict)
    if number not in drawn and record.path is not None:
        found += _pictures(record, execution)
        drawn.add(number)
    return found


def _charts(execution: Execution, verdict: Verdict) -> Markup:
    draw = Drawer()
    results = (*verdict.criteria, *(gate for gate in verdict.gates if gate.outcome is not Outcome.PASSED))
    picture = Markup(
        '<figure style="margin:1em 0">{drawing}<figcaption>{finding}. <small>{note}</small></figcaption></figure>'
    )
    return Markup().join(
        picture.format(
            finding=harmless(words.capital(chart.finding)),
            note=harmless(chart.note),
            drawing=_inline(draw(chart.drawing), harmless(chart.finding)),
        )
        for chart in charts(execution, results, with_histograms=verdict.outcome in words.TROUBLE)
    )


def _inline(drawn: Drawn, finding: str) -> Markup:
    """A drawing within the page: in its text colour and on its ground, which are the notebook's and not the browser's."""
    svg = _GROUND.sub("", drawn.svg.decode(), count=1)
    svg = re.sub(r' color="[^"]*"', "", svg, count=1)
    svg = re.sub(
        r'(\bid="|\bhref="#|\burl\(#)', rf"\g<1>c{drawn.name.partition('.')[0]}-", svg
    )  # ids are of the whole notebook
    root = Markup('<svg role="img" aria-label="{}" style="width:560px;max-width:100%;height:auto"').format(finding)
    return _unseen(Markup(svg.replace("<svg", str(root), 1)))  # noqa: S704  (drawn here; texts in it were escaped)


def _unseen(drawing: Markup) -> Markup:
    """A drawing whose numbers are not seen where its elements are taken away: a notebook that is not trusted keeps only the text."""
    return Markup('<div style="font-size:0">{}</div>').format(drawing)


def _pictures(record: Record, execution: Execution) -> Markup:
    assert record.path is not None
    shown = []
    for data in execution.pictures:
        try:
            shown.append(pictures_html(records.read_pictures(record.path.parent, data)))
        except InputError as error:
            shown.append(Markup("<p>{}</p>").format(harmless(error)))
    return Markup().join(shown)


def _foot(record: Record) -> Markup:
    run = f"record {record.id} · {words.duration(record.seconds)} on {record.device} · seed {record.seed}"
    interrupted = " · interrupted: what was measured before is above" if record.status == "interrupted" else ""
    said = f"{run}{interrupted} · criteria: {words.adjusted(record)}"
    return Markup('<p style="opacity:.75"><small>{}</small></p>').format(harmless(said))


def _styled(drawing: Markup) -> Markup:
    def style(found: re.Match[str]) -> str:
        return f'style="{_SVG.get(found[1].split()[0], "")}"'

    return Markup(re.sub(r'class="(mc-[a-z -]+)"', style, drawing))  # noqa: S704  (only the attributes of the drawing change)

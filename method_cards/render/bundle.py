"""What a notebook shows of each kind of object: HTML where it is understood, else Markdown or text."""

from __future__ import annotations

from functools import singledispatch
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from method_cards.card import Card
from method_cards.catalog import LoadedCard
from method_cards.judge import number
from method_cards.measurement import Exact, PerSample, Pictures, Series, TwoGroups
from method_cards.record import Record, SeriesData
from method_cards.render import markdown, shown, words
from method_cards.render.cells import harmless, plain, prose
from method_cards.verdict import CriterionResult, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from method_cards.card import Prescription


def bundle(thing: object) -> dict[str, str]:
    """An object by media type."""
    html, source, text = _forms(thing)
    return {"text/html": str(html), "text/markdown": source, "text/plain": text}


Forms = tuple[Markup, str, str]
"""HTML, Markdown, text."""


@singledispatch
def _forms(thing: object) -> Forms:
    text = harmless(repr(thing))
    return Markup("<pre>{}</pre>").format(text), plain(text), text


@_forms.register
def _(record: Record) -> Forms:
    rows = [row for verdict in record.verdicts for row in _rows(verdict)]
    reasons = [plain(f"{verdict.id}: {verdict.reason}") + "\n" for verdict in record.verdicts]
    source = [_table(("", "Prescription", "Verdict", "Measured", "Bound"), rows), "", *reasons]
    run = f"{words.duration(record.seconds)} on {record.device}, seed {record.seed}"
    head = f"{record.subject.title or record.subject.id}: {words.counted(record.verdicts)} ({run})"
    lines = [harmless(head), *(_line(verdict) for verdict in record.verdicts)]
    return shown.record_html(record), "\n".join(source), "\n".join(lines)


@_forms.register
def _(verdict: Verdict) -> Forms:
    table = _table(("", "Prescription", "Verdict", "Measured", "Bound"), _rows(verdict))
    return shown.verdict_html(verdict), f"{table}\n\n{plain(verdict.reason)}", _line(verdict)


@_forms.register
def _(result: CriterionResult) -> Forms:
    measured, bound = shown.numbers(result)
    text = harmless(f"{words.SYMBOLS[result.outcome]} {words.word(result.outcome)} {measured}; the bound is {bound}")
    return shown.criterion_html(result), plain(text), text


@_forms.register
def _(loaded: LoadedCard) -> Forms:
    return _card(loaded.card)


@_forms.register
def _card(card: Card) -> Forms:
    asked = [(item.id, str(item.level), item.statement, _verified(item)) for item in card.prescriptions]
    cell = Markup('<td style="text-align:left;vertical-align:top;padding:.2em 1em .2em 0">{}</td>')
    rows = (Markup().join(cell.format(harmless(part)) for part in row) for row in asked)
    body = Markup().join(Markup("<tr>{}</tr>").format(row) for row in rows)
    kind = f"{card.id} · version {card.version.name} of {card.version.date} · {card.status}"
    html = Markup(
        '<div style="max-width:60em;line-height:1.45"><p><b>{}</b><br><small>{}</small></p>{}'
        '<table style="border-collapse:collapse"><tbody>{}</tbody></table></div>'
    ).format(harmless(card.title), harmless(kind), markdown.block(harmless(card.overview.summary)), body)
    table = _table(("Prescription", "Level", "What", "How it is verified"), asked)
    text = [f"{card.title} ({kind})", *(f"{level:<10} {slug}: {what}" for slug, level, what, _ in asked)]
    source = f"**{plain(card.title)}**\n\n{prose(card.overview.summary)}\n\n{table}"
    return html, source, harmless("\n".join(text))


@_forms.register(Exact)
@_forms.register(PerSample)
@_forms.register(TwoGroups)
def _(measurement: Exact | PerSample | TwoGroups) -> Forms:
    series = Series.of(measurement)
    series.add(measurement)
    return _forms(series)


@_forms.register
def _(series: Series) -> Forms:
    return _forms(SeriesData.of(series))


@_forms.register
def _(series: SeriesData) -> Forms:
    by = ", ".join(f"{key} {value}" for key, value in series.by.items())
    name = f"{series.name} ({by})" if by else series.name
    facts = _facts(series)
    cell = Markup('<td style="text-align:left;padding:0 1.5em 0 0"><small>{}</small><br><b>{}</b></td>')
    cells = Markup().join(cell.format(title, harmless(value)) for title, value in facts)
    html = Markup('<p><code>{}</code></p><table style="border-collapse:collapse"><tbody><tr>{}</tr></tbody></table>')
    text = harmless(f"{name}: {', '.join(f'{title} {value}' for title, value in facts)}")
    return html.format(harmless(name), cells), plain(text), text


@_forms.register
def _(pictures: Pictures) -> Forms:
    shape = " × ".join(map(str, pictures.values.shape[2:]))
    text = harmless(f"{pictures.name}: {len(pictures.rows)} rows of {len(pictures.columns)} pictures, {shape} each")
    return shown.pictures_html(pictures), plain(text), text


def _facts(series: SeriesData) -> list[tuple[str, str]]:
    """What there is to say of a measurement, in words."""
    unit = f" {series.unit}" if series.unit else ""
    values = np.asarray(series.values)
    if not values.size:
        return [("examples", "0")]
    if series.kind == "exact":
        return [("value", f"{number(series.mean)}{unit}")]
    if series.kind == "auc":
        others = np.asarray(series.negatives)
        return [
            ("positives", f"{values.size:,}, median {number(float(np.median(values)))}{unit}"),
            ("negatives", f"{others.size:,}, median {number(float(np.median(others)))}{unit}" if others.size else "0"),
        ]
    if series.kind == "proportion":
        return [("examples", f"{values.size:,}"), ("share", number(series.mean))]
    low, middle, high = np.quantile(values, [0, 0.5, 1]).tolist()
    spread = f"{number(low)} to {number(high)}{unit}"
    return [
        ("examples", f"{values.size:,}"),
        ("mean", f"{number(series.mean)}{unit}"),
        ("median", f"{number(middle)}{unit}"),
        ("from, to", spread),
    ]


def _verified(prescription: Prescription) -> str:
    if prescription.check is not None:
        return f"check {prescription.check.id}"
    return f"as {prescription.checked_as}" if prescription.checked_as else "a person answers"


def _line(verdict: Verdict) -> str:
    said = (
        f"{words.SYMBOLS[verdict.outcome]} {words.word(verdict.outcome)} {verdict.level} {verdict.id}: {verdict.reason}"
    )
    return harmless(said)


def _rows(verdict: Verdict) -> list[tuple[str, ...]]:
    head = (words.SYMBOLS[verdict.outcome], verdict.id, words.word(verdict.outcome))
    found = [shown.numbers(result) for result in (*verdict.gates, *verdict.criteria)]
    return [(*head, *pair) for pair in found or [("", "")]]


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(plain, row))} |" for row in rows)])

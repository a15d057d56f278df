"""The report of a run in the terminal: each verdict in a line; for each that is not passed what is wrong, how sure that is, what to do."""

from __future__ import annotations

from textwrap import shorten
from typing import TYPE_CHECKING

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from method_cards.judge import number
from method_cards.render import words
from method_cards.render.bar import ASCII, UNICODE, bar
from method_cards.render.interval import label
from method_cards.render.progress import calibrate
from method_cards.render.show import print_card, print_check, print_list
from method_cards.render.summary import card_summary, check_summary, listing
from method_cards.render.terminal import STYLES, THEME, Writer
from method_cards.verdict import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.console import Console, RenderableType

    from method_cards.card import Prescription, Remediation
    from method_cards.catalog import LoadedCard
    from method_cards.plan import Plan
    from method_cards.record import Record
    from method_cards.render.collect import Collected
    from method_cards.verdict import CriterionResult, Verdict

__all__ = [
    "calibrate",
    "card_summary",
    "check_summary",
    "listing",
    "print_card",
    "print_check",
    "print_collected",
    "print_list",
    "print_plan",
    "print_record",
]

WIDE = 116
"""From this width on, a verdict has its reason beside it instead of below."""

MOST_REMEDIES = 2
MOST_CRITERIA = 4
MOST_CHARACTERS = 150


def print_record(
    record: Record, console: Console, *, cards: Mapping[str, LoadedCard] | None = None, path: Path | None = None
) -> None:
    """Print what a run found.

    Args:
        record: The record.
        console: Where to print.
        cards: The cards by id: from them come titles, symptoms, remedies and error rates.
        path: Where the record lies.
    """
    with console.use_theme(THEME):
        writer = Writer(console)
        _head(writer, record)
        for card in dict.fromkeys(verdict.card for verdict in record.verdicts):
            loaded = (cards or {}).get(card)
            writer.heading(loaded.card.title if loaded else card, card if loaded else "")
            _verdicts(writer, record.of_card(card))
        trouble = [verdict for verdict in record.verdicts if verdict.outcome in words.TROUBLE]
        for verdict in sorted(trouble, key=lambda verdict: (not verdict.is_must, words.TROUBLE.index(verdict.outcome))):
            _block(writer, record, verdict, *words.of_card(cards, verdict))
        _foot(writer, record, path)


def print_plan(planned: Plan, console: Console) -> None:
    """Print what a run would do, what it would cost, and what it would leave out and why."""
    writer = Writer(console)
    cost = sum(step.cost for step in planned.steps) or 1.0
    decided = sum(len(step.prescriptions) for step in planned.steps)
    writer.heading(f"Plan for {planned.subject.id}", f"seed {planned.seed}")
    writer.line(f"{words.plural(len(planned.steps), 'check')} for {words.plural(decided, 'prescription')}")
    writer.line(words.cost(planned), style="dim")
    right = {"justify": "right", "no_wrap": True}
    table = writer.table(
        ("check", {"ratio": 1, "overflow": "fold"}),
        ("examples", right),
        ("forward", right),
        ("backward", right),
        ("share", right),
    )
    for step in planned.steps:
        decides = [f"{bound.card}/{bound.prescription.id}" for bound in step.prescriptions]
        name = writer.text(step.check.id, "bold")
        for full in decides:
            name.append_text(writer.text(f"\n  {full}", "dim"))
        numbers = (f"{count:,}" for count in (step.examples, step.passes.forward, step.passes.backward))
        table.add_row(name, *(writer.text(part) for part in numbers), writer.text(f"{step.cost / cost:.0%}"))
    if planned.steps:
        writer.blank()
        console.print(table)
    questions = sum(bool(verdict.question) for verdict in planned.verdicts)
    rest = [verdict for verdict in planned.verdicts if not verdict.question]
    if rest:
        writer.heading("What will not run")
        _verdicts(writer, rest)
    if questions:
        writer.blank()
        writer.line(
            f"{words.plural(questions, 'question')} for a person: {words.command('notebook', planned.subject.id)}"
        )


def print_collected(collected: Collected, console: Console) -> None:
    """Print what became of the answers in a notebook."""
    writer = Writer(console)
    for kind, found in (("new", collected.new), ("changed", collected.changed)):
        for full in found:
            writer.line(writer.text(f"{kind:<8} ", "green"), full)
    taken = len(collected.new) + len(collected.changed)
    where = f" into {collected.path.name}" if taken else ""
    rest = [f"{len(collected.known)} known already"] if collected.known else []
    rest += [f"{len(collected.open)} not answered yet"] if collected.open else []
    said = f"collected {words.plural(taken, 'answer')} about {collected.subject}{where}"
    writer.line("; ".join([said, *rest]))


def _head(writer: Writer, record: Record) -> None:
    subject = record.subject
    writer.line(
        writer.text(subject.title or subject.id, "bold"),
        f"  {subject.id}" if subject.title not in ("", subject.id) else "",
    )
    explained = [f"explained by {subject.explainer}"] if subject.explainer else []
    writer.line(
        " · ".join([subject.task, subject.model, words.plural(subject.parameters, "parameter"), *explained]),
        style="dim",
    )
    if record.status == "interrupted":
        writer.line(
            "The run was interrupted: what was measured before is below, the rest is errored.", style="bold yellow"
        )


def _verdicts(writer: Writer, verdicts: list[Verdict]) -> None:
    wide = writer.width >= WIDE
    slugs = min(max((len(verdict.prescription) for verdict in verdicts), default=0), 40)
    for verdict in verdicts:
        reason = _reason(writer, verdict)
        row = Table.grid(padding=(0, 2, 0, 0))
        row.add_column(width=16, no_wrap=True)
        row.add_column(width=10, no_wrap=True)
        row.add_column(width=slugs if wide else None)
        row.add_column(ratio=1)
        row.expand = True
        level = writer.text(verdict.level, "bold" if verdict.is_must else "")
        slug = writer.text(verdict.prescription, "bold" if verdict.outcome in words.TROUBLE else "")
        row.add_row(writer.outcome(verdict.outcome), level, slug, reason if wide else "")
        writer.console.print(row)
        if not wide:
            writer.console.print(Padding(reason, (0, 0, 0, 4)))


def _reason(writer: Writer, verdict: Verdict) -> Text:
    reason = verdict.reason
    if verdict.outcome is Outcome.UNANSWERED and verdict.question:
        reason = verdict.question
    if verdict.answer is not None:
        answer = verdict.answer
        reason = f"{answer.answer} ({answer.by}, {answer.on}; evidence: {answer.evidence})"
    text = writer.text(reason, "" if verdict.outcome in words.TROUBLE else "dim")
    if verdict.waiver is not None:
        text.append_text(writer.text(f"\n{words.waived(verdict)}", "yellow"))
    return text


def _block(
    writer: Writer, record: Record, verdict: Verdict, loaded: LoadedCard | None, prescription: Prescription | None
) -> None:
    writer.blank()
    title = writer.outcome(verdict.outcome)
    title.append_text(writer.text(f"  {verdict.level}  {verdict.id} ", "bold"))
    rest = writer.width - title.cell_len
    writer.console.print(
        title.append_text(Text(("-" if writer.ascii else "─") * max(rest, 0), style=STYLES[verdict.outcome]))
    )
    rows: list[tuple[str, RenderableType]] = [("What is wrong", _wrong(writer, verdict, prescription))]
    rows.append(("How sure", _how_sure(writer, record, verdict, loaded, prescription)))
    rows.append(("What to do", _what_to_do(writer, record, verdict, prescription)))
    writer.fields(rows)
    writer.command("Run it again", words.rerun(record, verdict))


def _wrong(writer: Writer, verdict: Verdict, prescription: Prescription | None) -> RenderableType:
    parts: list[RenderableType] = [writer.text(verdict.statement, "bold")]
    broken = words.decisive(verdict)
    if verdict.outcome is Outcome.ERRORED or not broken:
        parts.append(writer.text(verdict.reason))
    for result in broken[:MOST_CRITERIA]:
        condition = " (a condition of this run)" if result in verdict.gates else ""
        start = {Outcome.FAILED: f"Not true here{condition}: ", Outcome.INCONCLUSIVE: f"Not decided{condition}: "}.get(
            result.outcome, ""
        )
        parts.append(writer.text(f"{start}{result.claim}", STYLES[result.outcome]))
    if len(broken) > MOST_CRITERIA:
        parts.append(writer.text(f"and {len(broken) - MOST_CRITERIA} more like this", "dim"))
    if prescription is not None and verdict.outcome is Outcome.FAILED:
        parts.append(writer.prose(f"You may see: {prescription.failure_symptom}"))
    return Group(*parts)


def _how_sure(
    writer: Writer, record: Record, verdict: Verdict, loaded: LoadedCard | None, prescription: Prescription | None
) -> RenderableType:
    if verdict.outcome is Outcome.ERRORED:
        return writer.text("Nothing is known: an error says nothing about the model, good or bad.")
    parts: list[RenderableType] = []
    results = words.decisive(verdict)
    for result in results[:MOST_CRITERIA]:
        parts += _drawn(writer, result, record.confidence)
    passed = sum(result.outcome is Outcome.PASSED for result in (*verdict.gates, *verdict.criteria))
    if passed:
        parts.append(
            writer.text(f"{words.plural(passed, 'other criterion').replace('criterions', 'criteria')} passed.", "dim")
        )
    if verdict.outcome is Outcome.INVALID:
        parts.append(
            writer.text("More samples would not help: what is off is the run itself.", STYLES[Outcome.INVALID])
        )
    if loaded is not None and prescription is not None:
        execution = words.execution(record, verdict)
        parts.append(
            writer.text(words.calibrated(loaded, prescription, execution.version if execution else "")[1], "dim")
        )
    return Group(*parts)


def _drawn(writer: Writer, result: CriterionResult, confidence: float) -> list[RenderableType]:
    if result.interval is None:
        return [writer.text(f"{label(result)}: {result.reason}")]
    drawing = bar(result, min(writer.width - 32, 60), ASCII if writer.ascii else UNICODE)
    assert drawing is not None
    rows = Table.grid(padding=(0, 1, 0, 0))
    rows.add_column(width=8, style="dim", no_wrap=True)
    rows.add_column(no_wrap=True)
    rows.add_row("allowed", Text(drawing.allowed, style="green"))
    rows.add_row("measured", Text(drawing.measured, style=STYLES[result.outcome]))
    rows.add_row("", Text(drawing.scale, style="dim"))
    method = "" if result.interval.method == "exact" else f" ({words.procedure(result.interval.method)})"
    said = f"{label(result)}: {words.measured(result.interval, result.unit)}{method}; the bound is {result.bound}."
    parts: list[RenderableType] = [writer.text(said), rows]
    if result.source:
        source = shorten(result.source, MOST_CHARACTERS, placeholder=" …")
        parts.append(writer.text(f"The bound comes from: {source}", "dim"))
    if result.outcome is Outcome.FAILED and result.p_holm is not None and result.p_holm > 1 - confidence:
        together = f"at {confidence:.0%} over all criteria of this run together"
        alone = f"It does not hold {together} (Holm-adjusted p = {number(result.p_holm)})."
        parts.append(writer.text(alone, STYLES[Outcome.INCONCLUSIVE]))
    return parts


def _what_to_do(writer: Writer, record: Record, verdict: Verdict, prescription: Prescription | None) -> RenderableType:
    remedies = prescription.remediation[:MOST_REMEDIES] if prescription is not None else ()
    if verdict.outcome is Outcome.ERRORED:
        return writer.text("Mend the cause that stands above; the other verdicts of this run hold.")
    if verdict.outcome is Outcome.INVALID:
        broken = words.decisive(verdict)
        return writer.text(
            f"Make this true of the data or the set-up first, then run it again: {broken[0].claim}"
            if broken
            else verdict.reason
        )
    parts: list[RenderableType] = []
    if verdict.outcome is Outcome.INCONCLUSIVE:
        parts.append(writer.text(words.more_samples(record, verdict)))
        parts += [writer.text("If it fails then:", "dim")] if remedies else []
    parts += [_remedy(writer, position, remedy) for position, remedy in enumerate(remedies, 1)]
    if prescription is not None and len(prescription.remediation) > MOST_REMEDIES:
        more = f"{words.plural(len(prescription.remediation) - MOST_REMEDIES, 'more remedy')}".replace(
            "remedys", "remedies"
        )
        parts.append(writer.text(f"{more}: method-cards show {verdict.card}", "dim"))
    return Group(*parts) if parts else writer.text(f"method-cards show {verdict.card} says what to do.")


def _remedy(writer: Writer, position: int, remedy: Remediation) -> RenderableType:
    details = [f"effort {remedy.effort}"] if remedy.effort else []
    details += [f"side effect: {remedy.side_effects}"] if remedy.side_effects else []
    aside = f" ({'; '.join(details)})" if details else ""
    row = Table.grid(padding=(0, 1, 0, 0))
    row.add_row(writer.text(f"{position}."), writer.prose(f"{remedy.action}{aside}"))
    return row


def _foot(writer: Writer, record: Record, path: Path | None) -> None:
    writer.heading(f"{record.subject.id}: {words.counted(record.verdicts)}")
    rows: list[tuple[str, RenderableType | str]] = [
        ("MUSTs", words.musts(record)),
        ("criteria", words.adjusted(record)),
    ]
    run = f"{words.duration(record.seconds)} on {record.device}, seed {record.seed}"
    rows.append(("run", f"{run}, {record.started:%Y-%m-%d %H:%M} UTC"))
    if open_questions := sum(verdict.outcome is Outcome.UNANSWERED for verdict in record.verdicts):
        asked = f"{words.plural(open_questions, 'question')} to answer: {words.command('notebook', record.subject.id)}"
        rows.append(("to do", f"{asked} writes a notebook that asks them"))
    writer.fields(rows, indent=0, label=8)
    if path is not None:
        writer.command("record", str(path), indent=0, width=8)
    bad = record.exit_status != 0
    writer.line(f"exit status {record.exit_status}: {words.why(record)}", style="bold red" if bad else "green")

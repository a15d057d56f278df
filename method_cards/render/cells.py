"""What the cells of a notebook say. Text of cards and records cannot become HTML, a link that runs code, or code of a cell."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from method_cards.render import markdown, words
from method_cards.verdict import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from method_cards.card import Criterion, Prescription, Remediation
    from method_cards.catalog import LoadedCard
    from method_cards.record import Record
    from method_cards.verdict import Answer, Verdict

_SPECIAL = re.compile(r"[\\`*\[\]|~$#]|(?<!\w)_|_(?!\w)")
_MARKS = re.compile(r"[\\`*_{}\[\]|~^$@:=!]")
_SAFE_LINK = re.compile(r"(?<!!)\[[^\[\]]*\]\(https?://[^\s()<>\"'\\]+\)")
_TAG_OR_TEXT = re.compile(r"<[^<>]*>|[^<>]+")
_ACTIVE_TEX = re.compile(r"\\(?=(?:href|url|style|class|cssId|data|require|mmlToken|csname)(?![A-Za-z]))")
_RISKY = re.compile(r"[<&]|\]\s*[(:\[]|!\[|^\s*(```|~~~|    |\t)|^\s*(=+|-+)\s*$", re.MULTILINE)


def harmless(text: object) -> str:
    """Text without control characters and without TeX commands that make links or styles: MathJax would run a link's script."""
    return _ACTIVE_TEX.sub("\N{FULLWIDTH REVERSE SOLIDUS}", words.clean(text))


def plain(text: object) -> str:
    """Text that stands for itself in Markdown, on one line."""
    flat = " ".join(harmless(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    escaped = _SPECIAL.sub(lambda found: f"\\{found[0]}", flat)
    return re.sub(r"^([-+]|\d+[.)])(?=\s)", r"\\\1", escaped)


def prose(text: str) -> str:
    """A card's Markdown as it is where nothing in it could do harm, else as safe HTML in which no character is Markdown."""
    source = harmless(text).strip()
    if not _RISKY.search(_SAFE_LINK.sub("", source)):
        return source
    pieces = (found[0] for found in _TAG_OR_TEXT.finditer(markdown.block(source).replace("\n", " ")))
    return "".join(piece if piece.startswith("<") else _MARKS.sub(_entity, piece) for piece in pieces)


def _entity(found: re.Match[str]) -> str:
    return f"&#{ord(found[0])};"


def card_intro(loaded: LoadedCard) -> str:
    """What a card is."""
    card = loaded.card
    version = f"version {plain(card.version.name)} of {card.version.date}, {card.status}"
    return f"{prose(card.overview.summary)}\n\n*Method card* `{card.id}`*, {version}.*"


def subject_intro(subject: str, cards: Sequence[LoadedCard], record: Record | None) -> str:
    """What a subject is."""
    titles = words.listed([plain(loaded.card.title) for loaded in cards])
    lines = [f"What the method cards {titles} ask of the model {code(subject)}, and whether it was found to be so."]
    if record is not None:
        found = record.subject
        lines.append(f"{plain(found.task)}, {code(found.model)}, {words.plural(found.parameters, 'parameter')}.")
    return "\n\n".join(lines)


def code(text: str) -> str:
    """Text as a code span, whatever is in it."""
    flat = " ".join(harmless(text).split())
    return plain(flat) if re.search(r"[`<&|]", flat) or not flat else f"`{flat}`"


def checklist(cards: Sequence[LoadedCard], record: Record | None) -> str:
    """A table of all prescriptions, with the verdicts of a record."""
    lines = ["## Checklist", ""]
    lines += ["| Verdict | Prescription |", "| --- | --- |"]
    for loaded in cards:
        for prescription in loaded.card.prescriptions:
            verdict = verdict_of(record, f"{loaded.card.id}/{prescription.id}")
            mark = f"{plain(words.SYMBOLS[verdict.outcome])} " if verdict else ""
            outcome = _outcome(verdict) if verdict else "*not run*" if prescription.check else "*a question*"
            lines.append(f"| {mark}{outcome} | {_statement(prescription)} |")
    if record is None:
        return "\n".join([*lines, "", "Nothing is recorded yet: the cells below run the checks."])
    lines += ["", f"{plain(words.counted(_of(cards, record)))}. Criteria: {plain(words.adjusted(record))}."]
    where = f"Record `{plain(record.id)}` of {record.started:%Y-%m-%d %H:%M} UTC, model {code(record.subject.id)}"
    return "\n".join([*lines, "", f"{where}, on {plain(record.device)}, seed {record.seed}."])


def _statement(prescription: Prescription) -> str:
    """A statement on one line of a table, with its formulas where nothing in it could end the cell."""
    shown = " ".join(prose(prescription.statement).split())
    return plain(prescription.statement) if "|" in shown else shown


def setup(subject: str, subjects: Sequence[str], project: str) -> str:
    """The first code cell: where the project is, and which model is checked."""
    others = [name for name in subjects if name != subject]
    choice = f"  # or {', '.join(map(json.dumps, others))}" if others else ""
    if not subject:
        choice = "  # the name of a model in method-cards.yaml that this card applies to"
    lines = [
        "from method_cards.checklist import Checklist",
        "",
        f"subject = {json.dumps(subject)}{choice}",
        "# The folder of method-cards.yaml, relative to this notebook.",
        f"checklist = Checklist({json.dumps(project)}, subject)",
    ]
    return "\n".join(lines)


def run(full: str) -> str:
    """The code cell that decides one prescription again."""
    return f"checklist.run({json.dumps(full)})"


def text(loaded: LoadedCard, prescription: Prescription, verdict: Verdict | None, record: Record | None) -> str:
    """What to do, why, what one sees otherwise, how to mend it, and what was found."""
    parts = [f"### {plain(prescription.heading)}", f"**{prose(prescription.statement)}**"]
    if verdict is not None and record is not None:
        parts.append(_result(verdict, record))
    parts += ["**Why.** " + prose(prescription.rationale), "**Symptom.** " + prose(prescription.failure_symptom)]
    parts += [_remedy(number, remedy) for number, remedy in enumerate(prescription.remediation, 1)]
    if prescription.check is not None:
        binding = prescription.check
        for title, criteria in (("Passes if", binding.criteria), ("Means something only if", binding.valid_if)):
            bounds = "\n".join(f"* {_criterion(item, loaded)}" for item in criteria)
            parts += [f"**{title}**", bounds] if criteria else []
        parts.append(plain(words.calibrated(loaded, prescription)[1]))
    return "\n\n".join(parts)


def question(loaded: LoadedCard, prescription: Prescription) -> str:
    """What only a person can answer: the text of the prescription and what is asked, with nothing in it that a run found."""
    asked = prescription.question
    assert asked is not None
    return "\n\n".join(
        [
            text(loaded, prescription, None, None),
            f"**Question.** {plain(asked.question)}",
            f"**Answered by** {plain(asked.assessor)}. **Evidence:** {plain(asked.evidence_required)}",
            f"Fill in the cell below. `{COLLECT}` takes the answer over.",
        ]
    )


COLLECT = "method-cards notebook collect"


def answer(full: str, given: Answer | None) -> str:
    """The code cell that an answer is written into."""
    fields = {"answer": "", "by": "", "on": "", "evidence": ""}
    if given is not None:
        fields = {"answer": given.answer, "by": given.by, "on": str(given.on), "evidence": given.evidence}
    hints = {"on": "  # the day, as 2026-03-01", "evidence": "  # a path, a link, a ticket"} if given is None else {}
    lines = [
        f"    {name}={json.dumps(value, ensure_ascii=False)},{hints.get(name, '')}" for name, value in fields.items()
    ]
    return "\n".join(["checklist.answer(", f"    {json.dumps(full)},", *lines, ")"])


def fenced(content: str, language: str = "") -> str:
    """A block of code, whatever is in it: its fence is longer than any in the content."""
    longest = max((len(run) for run in re.findall(r"`+", content)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{content}\n{fence}"


def verdict_of(record: Record | None, full: str) -> Verdict | None:
    """The verdict about a prescription."""
    return next((verdict for verdict in record.verdicts if verdict.id == full), None) if record is not None else None


def _of(cards: Sequence[LoadedCard], record: Record) -> list[Verdict]:
    return [verdict for loaded in cards for verdict in record.of_card(loaded.card.id)]


def _outcome(verdict: Verdict) -> str:
    shown = f"**{words.word(verdict.outcome)}**" if verdict.outcome in words.TROUBLE else words.word(verdict.outcome)
    if verdict.waiver is None:
        return shown
    state = "the waiver expired on" if verdict.waiver.has_expired else "waived until"
    return f"{shown}, {state} {verdict.waiver.expires}"


def _result(verdict: Verdict, record: Record) -> str:
    head = f"{plain(words.SYMBOLS[verdict.outcome])} **{words.word(verdict.outcome)}** {plain(verdict.reason)}"
    lines = [head]
    results = (*verdict.gates, *verdict.criteria)
    for result in results:
        if result.interval is not None and result.reason not in verdict.reason:
            found = f"{words.name(result)} {words.measured(result.interval, result.unit)}; allowed {result.bound}"
            lines.append(f"{plain(found)}: {words.word(result.outcome)}")
    if verdict.outcome is Outcome.INCONCLUSIVE:
        lines.append(plain(words.more_samples(record, verdict)))
    if verdict.waiver is not None:
        lines.append(plain(words.waived(verdict)))
    lines.append(f"*record {plain(record.id)}, {record.started:%Y-%m-%d}*")
    return "\n>\n".join(f"> {line}" for line in lines)


def _criterion(criterion: Criterion, loaded: LoadedCard) -> str:
    source = words.source(criterion, loaded.references)
    return f"{plain(criterion.claim)} {plain(words.bound(criterion))}. *{plain(source)}*"


def _remedy(number: int, remedy: Remediation) -> str:
    details = [f"effort {remedy.effort}"] if remedy.effort else []
    details += [f"side effect: {remedy.side_effects}"] if remedy.side_effects else []
    aside = f" ({plain('; '.join(details))})" if details else ""
    shown = f"**Remedy {number}.** {prose(remedy.action)}{aside}"
    return f"{shown}\n\n{fenced(words.clean(remedy.code).strip(), 'python')}" if remedy.code else shown

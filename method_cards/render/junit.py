"""Runs as JUnit XML, which every CI server reads: a suite for each card and subject, a test for each prescription."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from method_cards.render import words
from method_cards.verdict import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from method_cards.record import Record
    from method_cards.verdict import Verdict

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold."""

COUNTED = {"failure": "failures", "error": "errors", "skipped": "skipped"}


def junit(records: Sequence[Record]) -> str:
    """One document for the runs of several subjects.

    A test fails where a verdict is failed, at any level, and where a MUST is inconclusive or invalid: it was not found to hold. It is
    in error where the check could not measure. It is skipped where the prescription does not apply, where a question waits for a
    person, and where anything but a MUST is inconclusive or invalid. A waiver changes none of that; it is named in the message.
    """
    root = ET.Element("testsuites", name="method-cards")
    for record in records:
        for card in dict.fromkeys(verdict.card for verdict in record.verdicts):
            root.append(_suite(record, card))
    _total(root, root)
    root.set("time", _seconds(sum(record.seconds for record in records)))
    del root.attrib["skipped"]  # the schema knows it of suites only
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=False).join(
        ('<?xml version="1.0" encoding="UTF-8"?>\n', "\n")
    )


def _suite(record: Record, card: str) -> ET.Element:
    suite = ET.Element(
        "testsuite",
        name=_text(f"{record.subject.id}: {card}"),
        timestamp=record.started.strftime("%Y-%m-%dT%H:%M:%S"),
        id=_text(record.id),
    )
    properties = ET.SubElement(suite, "properties")
    facts = {
        "subject": record.subject.id,
        "model": record.subject.model,
        "parameters_sha256": record.subject.parameters_sha256,
        "card_sha256": record.cards.get(card, ""),
        "seed": str(record.seed),
        "device": record.device,
        "git_revision": record.git_revision,
        **record.environment,
    }
    for name, value in facts.items():
        ET.SubElement(properties, "property", name=_text(name), value=_text(value))
    counted: set[int] = set()
    for verdict in record.of_card(card):
        is_first = verdict.execution is not None and verdict.execution not in counted
        execution = words.execution(record, verdict) if is_first else None
        counted |= {verdict.execution} if verdict.execution is not None else set()
        suite.append(_case(record, verdict, execution.seconds if execution is not None else 0.0))
    _total(suite, suite)
    suite.set("time", _seconds(sum(float(case.get("time", "0")) for case in suite.iter("testcase"))))
    return suite


def _case(record: Record, verdict: Verdict, seconds: float) -> ET.Element:
    case = ET.Element(
        "testcase",
        name=_text(verdict.prescription),
        classname=_text(f"{record.subject.id}.{verdict.card}"),
        time=_seconds(seconds),
    )
    kind = _kind(verdict)
    if kind:
        waived = f" ({words.waived(verdict)})" if verdict.waiver is not None else ""
        message = f"{words.word(verdict.outcome)} {verdict.level}: {verdict.question or verdict.reason}{waived}"
        found = ET.SubElement(case, kind, type=verdict.outcome.value, message=_text(message))
        found.text = _text("\n".join(_details(record, verdict)))
    elif verdict.answer is not None:
        answer = verdict.answer
        ET.SubElement(case, "system-out").text = _text(
            f"{verdict.question}\n{answer.answer}\n{answer.by}, {answer.on}; evidence: {answer.evidence}"
        )
    return case


def _kind(verdict: Verdict) -> str:
    """The element that tells the outcome; none where all is well."""
    if verdict.outcome in (Outcome.PASSED, Outcome.ANSWERED):
        return ""
    if verdict.outcome is Outcome.ERRORED:
        return "error"
    return "failure" if verdict.outcome is Outcome.FAILED or verdict.stops else "skipped"


def _details(record: Record, verdict: Verdict) -> Iterable[str]:
    yield verdict.statement
    for result in words.decisive(verdict):
        yield f"{words.word(result.outcome)}: {result.claim}"
        if result.interval is not None:
            yield f"  {words.name(result)}: {words.measured(result.interval, result.unit)}; bound {result.bound}"
    if not verdict.question and verdict.outcome is not Outcome.NOT_APPLICABLE:
        yield words.rerun(record, verdict)


def _total(element: ET.Element, within: ET.Element) -> None:
    element.set("tests", str(len(list(within.iter("testcase")))))
    for kind, name in COUNTED.items():
        element.set(name, str(len(list(within.iter(kind)))))


def _seconds(value: float) -> str:
    return f"{value:.3f}"


def _text(value: str) -> str:
    """Text without what a terminal or XML would trip over."""
    return _FORBIDDEN.sub("", words.clean(value))

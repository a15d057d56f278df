"""Runs as SARIF 2.1.0, which code-scanning services read: a rule for each prescription, a result for each verdict that needs somebody."""

from __future__ import annotations

import hashlib
import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from method_cards.render import words
from method_cards.verdict import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from method_cards.card import Prescription
    from method_cards.catalog import LoadedCard
    from method_cards.project import Project
    from method_cards.record import Record
    from method_cards.verdict import Verdict

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

LEVELS = {"MUST": "error", "MUST NOT": "error", "SHOULD": "warning", "SHOULD NOT": "warning", "MAY": "note"}

KINDS = {
    Outcome.FAILED: "fail",
    Outcome.INCONCLUSIVE: "open",
    Outcome.INVALID: "open",
    Outcome.ERRORED: "open",
    Outcome.UNANSWERED: "review",
}
"""What becomes a result; what passed, was answered or does not apply is only counted."""

Data = dict[str, Any]


def sarif(records: Sequence[Record], project: Project) -> Data:
    """One log for the runs of several subjects.

    Only a failed verdict has kind ``fail`` and a level: of the prescription. SARIF gives no level to what is undecided (``open``) or
    waits for a person (``review``). A waiver becomes a suppression: accepted while it holds, rejected once it has expired.

    Args:
        records: The runs.
        project: Where results are placed: at the subject in ``method-cards.yaml``, with a path relative to the folder that this runs in.
    """
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [_run(record, project) for record in records]}


def _run(record: Record, project: Project) -> Data:
    cards = {card: project.catalog.get(card) for card in record.cards if card in project.catalog}
    index = {verdict.id: number for number, verdict in enumerate(record.verdicts)}
    shown = [verdict for verdict in record.verdicts if verdict.outcome in KINDS]
    location = _location(record, project)
    counts = {outcome.value: sum(item.outcome is outcome for item in record.verdicts) for outcome in Outcome}
    return {
        "tool": {
            "driver": {
                "name": "method-cards",
                "version": version("method-cards"),
                "rules": [_rule(verdict, *words.of_card(cards, verdict)) for verdict in record.verdicts],
            }
        },
        "automationDetails": {"id": f"method-cards/{record.subject.id}/{record.id}"},
        "invocations": [
            {
                "executionSuccessful": record.status == "complete",
                "startTimeUtc": f"{record.started:%Y-%m-%dT%H:%M:%SZ}",
                "endTimeUtc": f"{record.finished:%Y-%m-%dT%H:%M:%SZ}",
                "exitCode": record.exit_status,
                "exitCodeDescription": words.clean(words.why(record)),
                "toolExecutionNotifications": [
                    _notification(verdict, index[verdict.id]) for verdict in shown if verdict.outcome is Outcome.ERRORED
                ],
            }
        ],
        "columnKind": "unicodeCodePoints",
        "results": [_result(record, verdict, index[verdict.id], location) for verdict in shown],
        "properties": {
            "subject": record.subject.id,
            "parameters_sha256": record.subject.parameters_sha256,
            "seed": record.seed,
            "device": record.device,
            "git_revision": record.git_revision,
            "verdicts": counts,
        },
    }


def _rule(verdict: Verdict, loaded: LoadedCard | None, prescription: Prescription | None) -> Data:
    rule: Data = {
        "id": verdict.id,
        "name": "".join(part.capitalize() for part in f"{verdict.card}-{verdict.prescription}".split("-")),
        "shortDescription": {"text": words.clean(verdict.statement)},
        "defaultConfiguration": {"level": LEVELS.get(verdict.level, "warning")},
        "properties": {"level": verdict.level, "tags": [loaded.family if loaded is not None else "method-cards"]},
    }
    if prescription is not None:
        remedies = [words.clean(remedy.action) for remedy in prescription.remediation]
        rule["fullDescription"] = {"text": words.clean(prescription.rationale)}
        rule["help"] = {"text": "\n".join(f"{number}. {action}" for number, action in enumerate(remedies, 1))}
        rule["properties"]["severity"] = str(prescription.severity)
    return rule


def _result(record: Record, verdict: Verdict, rule: int, location: Data) -> Data:
    kind = KINDS[verdict.outcome]
    name = record.subject.title or record.subject.id
    broken = words.decisive(verdict)[:1] if verdict.outcome is Outcome.FAILED else []
    said = verdict.question or " ".join([*(f"Not true here: {result.claim}" for result in broken), verdict.reason])
    fingerprint = hashlib.sha256(f"{record.subject.id}/{verdict.id}".encode()).hexdigest()
    result: Data = {
        "ruleId": verdict.id,
        "ruleIndex": rule,
        "kind": kind,
        "level": LEVELS.get(verdict.level, "warning") if kind == "fail" else "none",
        "message": {"text": words.clean(f"{name}: {words.word(verdict.outcome)}. {said}")},
        "locations": [location],
        "partialFingerprints": {"verdict/v1": fingerprint},
        "properties": {"outcome": verdict.outcome.value, "level": verdict.level, "criteria": list(_numbers(verdict))},
    }
    if verdict.waiver is not None:
        state = "rejected" if verdict.waiver.has_expired else "accepted"
        text = words.clean(words.waived(verdict))
        result["suppressions"] = [{"kind": "external", "status": state, "justification": text}]
    return result


def _numbers(verdict: Verdict) -> list[Mapping[str, Any]]:
    return [
        {
            "measurement": result.measurement,
            "where": result.where,
            "outcome": result.outcome.value,
            "estimate": result.interval.estimate,
            "low": result.interval.low,
            "high": result.interval.high,
            "bound": result.bound,
        }
        for result in (*verdict.gates, *verdict.criteria)
        if result.interval is not None
    ]


def _notification(verdict: Verdict, rule: int) -> Data:
    return {
        "level": "error",
        "message": {"text": words.clean(verdict.reason)},
        "associatedRule": {"id": verdict.id, "index": rule},
    }


def _location(record: Record, project: Project) -> Data:
    """The subject in ``method-cards.yaml``."""
    path = project.document.path
    try:
        uri = quote(Path(os.path.relpath(path)).as_posix())
    except ValueError:  # another drive
        uri = path.resolve().as_uri()
    subject = record.subject.id
    line, _ = project.document.locate(("subjects", subject), key=True)
    return {
        "physicalLocation": {
            "artifactLocation": {"uri": uri},
            "region": {"startLine": line},
        },
        "logicalLocations": [{"name": subject, "kind": "object"}],
    }

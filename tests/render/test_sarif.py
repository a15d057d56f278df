"""SARIF 2.1.0: rules, results with kind and level, suppressions for waivers, and the place in ``method-cards.yaml``."""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from method_cards import clock, record
from method_cards.project import FILE, Project
from method_cards.render.sarif import KINDS, sarif
from method_cards.verdict import Outcome
from tests.render import project as projects

TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["version", "runs", "$schema"],
    "properties": {
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tool", "results"],
                "additionalProperties": False,
                "properties": {
                    "tool": {"properties": {"driver": {"required": ["name"], "properties": {"rules": {"items": {"required": ["id"], "properties": {
                        "shortDescription": TEXT, "fullDescription": TEXT, "help": TEXT,
                        "defaultConfiguration": {"properties": {"level": {"enum": ["none", "note", "warning", "error"]}}}}}}}}}},
                    "results": {"items": {
                        "required": ["message"],
                        "properties": {
                            "kind": {"enum": ["notApplicable", "pass", "fail", "review", "open", "informational"]},
                            "level": {"enum": ["none", "note", "warning", "error"]},
                            "message": TEXT,
                            "ruleIndex": {"type": "integer", "minimum": 0},
                            "locations": {"items": {"properties": {"physicalLocation": {
                                "required": ["artifactLocation"],
                                "properties": {"region": {"properties": {"startLine": {"type": "integer", "minimum": 1}}}}}}}},
                            "suppressions": {"items": {"required": ["kind"], "properties": {
                                "kind": {"enum": ["inSource", "external"]}, "status": {"enum": ["accepted", "underReview", "rejected"]}}}},
                            "partialFingerprints": {"additionalProperties": {"type": "string"}},
                        },
                        # the standard: a level other than `none` only where the kind is `fail`
                        "if": {"properties": {"kind": {"const": "fail"}}},
                        "else": {"properties": {"level": {"const": "none"}}},
                    }},
                    "invocations": {"items": {"required": ["executionSuccessful"], "properties": {"exitCode": {"type": "integer"}}}},
                    "automationDetails": {"required": ["id"]},
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "properties": {"type": "object"},
                },
            },
        },
    },
}  # fmt: skip
"""What the standard asks of the parts that are written here."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return projects.write(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def records(project: Project) -> list[record.Record]:
    return [record.read(path) for path in record.find(project.records)]


@pytest.fixture(scope="module")
def log(project: Project, records: list[record.Record]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(sarif(records, project)))
    return found


def guided(log: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(run for run in log["runs"] if run["properties"]["subject"] == "digits-guided")
    return found


def results(log: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {result["ruleId"].partition("/")[2]: result for result in guided(log)["results"]}


def test_the_log_is_of_the_standard_form(log: dict[str, Any]) -> None:
    """The parts that are written are as the standard wants them, and each result points at its own rule."""
    jsonschema.Draft7Validator(SCHEMA).validate(log)
    for run in log["runs"]:
        rules = run["tool"]["driver"]["rules"]
        assert len({rule["id"] for rule in rules}) == len(rules)
        assert all(rules[result["ruleIndex"]]["id"] == result["ruleId"] for result in run["results"])


def test_kinds_and_levels_are_those_of_the_verdicts(log: dict[str, Any]) -> None:
    """Failed is `fail` with the level of the prescription; undecided, off or not measured is `open`; a question is for review."""
    found = {slug: (result["kind"], result["level"]) for slug, result in results(log).items()}
    assert found == {
        "depends-on-parameters": ("fail", "error"),
        "repeatable": ("open", "none"),
        "complete": ("open", "none"),
        "no-membership-leak": ("open", "none"),
        "reviewed-by-domain-expert": ("review", "none"),
    }
    assert set(Outcome) - set(KINDS) == {Outcome.PASSED, Outcome.ANSWERED, Outcome.NOT_APPLICABLE}


def test_what_is_well_is_counted_and_no_result(log: dict[str, Any]) -> None:
    """Services make an alert of every result, so what passed or was answered is only counted; its rule is there all the same."""
    (other,) = (run for run in log["runs"] if run["properties"]["subject"] == "digits-cnn")
    assert other["properties"]["verdicts"]["passed"] + other["properties"]["verdicts"]["answered"] >= 2
    assert len(other["results"]) + sum(
        other["properties"]["verdicts"][name] for name in ("passed", "answered", "not_applicable")
    ) == len(other["tool"]["driver"]["rules"])


def test_a_check_that_could_not_measure_is_a_notification(log: dict[str, Any]) -> None:
    """What went wrong with the tool is told where SARIF tells it, with the exit status of the run."""
    (invocation,) = guided(log)["invocations"]
    (told,) = invocation["toolExecutionNotifications"]
    assert told["associatedRule"]["id"] == "saliency-sanity/complete"
    assert "NaN" in told["message"]["text"]
    assert invocation["exitCode"] == 1
    assert invocation["executionSuccessful"] is True


def test_a_result_says_what_is_wrong_and_a_rule_how_to_mend_it(log: dict[str, Any]) -> None:
    """Message, remedies and reason are those of the card; numbers are there for programs."""
    result = results(log)["depends-on-parameters"]
    assert "Not true here: After all layers are randomised" in result["message"]["text"]
    assert result["properties"]["criteria"][-1]["bound"] == "≤ 0.2"
    rule = guided(log)["tool"]["driver"]["rules"][result["ruleIndex"]]
    assert rule["help"]["text"].startswith("1. Use a method without modified backward rules")
    assert rule["defaultConfiguration"]["level"] == "error"
    assert "Not true here" not in results(log)["repeatable"]["message"]["text"]


def test_a_result_stands_at_its_subject(log: dict[str, Any], project: Project) -> None:
    """The place is the line of the subject in the project's file, relative to the folder where the command runs."""
    place = results(log)["complete"]["locations"][0]["physicalLocation"]
    lines = (project.folder / FILE).read_text(encoding="utf-8").splitlines()
    assert lines[place["region"]["startLine"] - 1].strip() == "digits-guided:"
    assert place["artifactLocation"]["uri"].endswith(FILE)


def test_the_place_is_relative_to_where_the_command_runs(
    project: Project, records: list[record.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run at the root of a repository, the command gives paths from there, which is what services look up."""
    for folder, uri in ((project.folder, FILE), (project.folder.parent, f"{project.folder.name}/{FILE}")):
        monkeypatch.chdir(folder)
        (first, *_) = sarif(records, project)["runs"][0]["results"]
        assert first["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == uri


def test_a_project_on_another_drive_has_a_whole_address(
    project: Project, records: list[record.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From one drive of Windows no relative path leads to another."""

    def refused(_: object) -> str:
        raise ValueError("path is on mount 'C:', start on mount 'D:'")

    monkeypatch.setattr(os.path, "relpath", refused)
    (first, *_) = sarif(records, project)["runs"][0]["results"]
    uri = first["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert uri == (project.folder / FILE).resolve().as_uri()


def test_a_waiver_is_a_suppression(
    project: Project, records: list[record.Record], log: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it holds it is accepted; once it has expired it is rejected, whenever the run was, and the result stands as before."""
    (held,) = results(log)["depends-on-parameters"]["suppressions"]
    assert held["status"] == "accepted"
    assert "The demo shows this map on purpose." in held["justification"]
    monkeypatch.setattr(clock, "today", lambda: dt.date(2027, 3, 2))
    (expired,) = results(sarif(records, project))["depends-on-parameters"]["suppressions"]
    assert expired["status"] == "rejected"
    assert "the waiver expired on 2027-03-01" in expired["justification"]


def test_the_fingerprint_stays_from_run_to_run(
    project: Project, records: list[record.Record], log: dict[str, Any]
) -> None:
    """A service knows an alert again by subject and prescription, whatever was measured, and wherever it stands in the file."""
    later = [one.model_copy(update={"id": "20270101T000000Z", "seed": 9}) for one in records]
    again = sarif(later, project)
    assert [item["partialFingerprints"] for item in guided(again)["results"]] == [
        item["partialFingerprints"] for item in guided(log)["results"]
    ]
    prints = [item["partialFingerprints"]["verdict/v1"] for run in log["runs"] for item in run["results"]]
    assert len(set(prints)) == len(prints)


def test_a_card_that_is_gone_costs_its_texts_only(
    project: Project, records: list[record.Record], tmp_path: Path
) -> None:
    """Results whose card no longer exists keep statement and level from the record."""
    from dataclasses import replace

    from method_cards.catalog import Catalog

    log = sarif(records, replace(project, catalog=Catalog({})))
    jsonschema.Draft7Validator(SCHEMA).validate(json.loads(json.dumps(log)))
    assert "help" not in log["runs"][0]["tool"]["driver"]["rules"][0]

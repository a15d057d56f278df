"""``method-cards report``: which record it takes, what it writes, and what it says when there is none."""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml
from typer.testing import CliRunner, Result

from method_cards import record
from method_cards.cli import app
from method_cards.errors import InputError
from method_cards.project import FILE, Project, ProjectConfig
from method_cards.render import kept
from method_cards.render.junit import junit
from tests.render import project as projects


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two runs of the second subject, one of the first, none of the third."""
    found = projects.write(tmp_path_factory.mktemp("project"))
    (path,) = record.find(found.records, "digits-guided")
    newest = record.read(path)
    earlier = newest.model_copy(
        update={"id": "20261101T000000Z", "started": newest.started - dt.timedelta(days=21), "seed": 4}
    )
    record.write(earlier, path.parents[1] / earlier.id)
    return found


def report(project: Project, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["report", *arguments, "--project", str(project.folder)], catch_exceptions=True)


def test_the_newest_run_is_shown_as_it_was_printed(project: Project) -> None:
    """Without an option the terminal's report of the newest record is printed again, of every subject that has one."""
    shown = report(project)
    assert shown.exit_code == 0, shown.output
    assert "Digits CNN, Guided Backprop" in shown.output
    assert "exit status 1: 1 MUST failed and 1 verdict could not be measured" in " ".join(shown.output.split())
    assert "seed 4" not in shown.output
    assert "never-run" not in shown.output


def test_any_kept_run_can_be_chosen(project: Project) -> None:
    """``--run`` takes the id of a run, whatever came after it; later runs are no part of its history."""
    _, [(view, path)] = kept.views(project, ["digits-guided"], "20261101T000000Z")
    assert path.parent.name == view.record.id == "20261101T000000Z"
    assert [run.id for run in view.runs] == ["20261101T000000Z"]
    _, [(view, _)] = kept.views(project, ["digits-guided"])
    assert [run.id for run in view.runs] == ["20261101T000000Z", "20261122T101500Z"]


@pytest.mark.parametrize(
    ("subject", "run", "said"),
    [
        ("digits-guide", "", 'no subject is called "digits-guide"'),
        ("never-run", "", "`method-cards run never-run` leaves one"),
        ("digits-guided", "20261101T000000", 'there is no run "20261101T000000". Did you mean "20261101T000000Z"?'),
    ],
)
def test_what_is_not_there_is_named(project: Project, subject: str, run: str, said: str) -> None:
    """An unknown subject or run, and a subject without records, end with a message that says what to do."""
    with pytest.raises(InputError, match=re.escape(said)):
        kept.views(project, [subject], run)


def test_a_project_without_records_says_what_to_run(project: Project, tmp_path: Path) -> None:
    """Before anything was run there is nothing to report."""
    with pytest.raises(InputError, match="`method-cards run` leaves one"):
        kept.views(replace(project, folder=tmp_path))


def test_a_run_belongs_to_a_subject(project: Project) -> None:
    """Ids of runs may be the same for several subjects, so ``--run`` needs one."""
    result = report(project, "--run", "20261101T000000Z")
    assert "needs the subject" in str(result.exception)


def test_all_forms_can_be_written_at_once(project: Project, tmp_path: Path) -> None:
    """One call writes HTML, JUnit XML and SARIF into folders that it makes; with ``-`` standard output holds that form and nothing else."""
    names = [tmp_path / "out" / name for name in ("r.html", "r.xml")]
    done = report(project, "--html", str(names[0]), "--junit", str(names[1]), "--sarif", "-")
    assert done.exit_code == 0, done.output
    assert done.stderr.splitlines() == [f"wrote {name}" for name in names]
    assert names[0].read_text(encoding="utf-8").count("<article>") == 2
    assert ET.parse(names[1]).getroot().tag == "testsuites"
    assert len(json.loads(done.stdout)["runs"]) == 2


@pytest.mark.parametrize("path", ["-", "same.txt"])
def test_two_forms_do_not_share_a_file(project: Project, path: str, tmp_path: Path) -> None:
    """Two reports in one file, or both on standard output, would be neither: refused, and nothing is written."""
    place = path if path == "-" else str(tmp_path / path)
    done = report(project, "--html", place, "--junit", place)
    assert isinstance(done.exception, InputError)
    assert "--html and --junit would all go to " in str(done.exception)
    assert done.stdout == ""
    assert [*tmp_path.iterdir()] == []


def test_a_file_that_cannot_be_written_is_named(project: Project) -> None:
    """A path that is a folder ends with a message, not with a traceback."""
    result = report(project, "digits-cnn", "--junit", str(project.folder))
    assert isinstance(result.exception, InputError)
    assert "cannot be written" in str(result.exception)


def test_json_is_what_run_prints(project: Project) -> None:
    """``--format json`` prints a list with the record as it was kept."""
    (path,) = record.find(project.records, "digits-cnn")
    (shown,) = json.loads(report(project, "digits-cnn", "--format", "json").stdout)
    assert record.Record.model_validate(shown).model_dump() == record.read(path).model_dump()


def test_a_waiver_is_read_again(project: Project) -> None:
    """What people wrote since the run is shown without another one: here a waiver; a run that is asked for is shown as it was."""
    waiver = {
        "prescription": "saliency-sanity/depends-on-parameters",
        "reason": "Renewed for a month.",
        "expires": "2026-03-31",
    }
    text = (project.folder / FILE).read_text(encoding="utf-8")
    config = yaml.safe_load(text)
    config["subjects"]["digits-guided"]["waivers"] = [waiver]
    renewed = replace(project, config=ProjectConfig.model_validate(config))
    _, [(view, _)] = kept.views(renewed, ["digits-guided"])
    xml = junit([view.record])
    assert "the waiver expired on 2026-03-31: Renewed for a month." in xml
    _, [(view, _)] = kept.views(renewed, ["digits-guided"], view.record.id)
    assert "until 2027-03-01" in junit([view.record])

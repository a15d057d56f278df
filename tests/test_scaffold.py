"""What ``method-cards init`` writes is valid at once, and runs as soon as there is a model."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from jsonschema import Draft7Validator
from typer.testing import CliRunner

from method_cards import Outcome, Project, document, scaffold
from method_cards import record as records
from method_cards.calibrate import calibrate
from method_cards.cli import app
from method_cards.errors import InputError
from method_cards.project import FILE

MODEL = '''
"""A linear classifier of scikit-learn's digits."""

import torch
from sklearn.datasets import load_digits


def build():
    inputs, targets = split(0, 900)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return model.eval()


def split(start, stop):
    digits = load_digits()
    return torch.tensor(digits.images[start:stop], dtype=torch.float32)[:, None] / 16, torch.tensor(digits.target[start:stop])


def test():
    return split(900, 1797)
'''


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that was just set up; what its modules did to the interpreter is undone."""
    path_before = list(sys.path)
    scaffold.write(tmp_path)
    yield tmp_path
    sys.path[:] = path_before


def add_model(folder: Path) -> None:
    (folder / "model.py").write_text(MODEL, encoding="utf-8")
    (folder / "data.py").write_text(MODEL, encoding="utf-8")


def switched_on(text: str) -> str:
    """The file with all its options: a ``#`` without a space after it switches one off."""
    return re.sub(r"^(\s*)#(?=[^\s#])", r"\1", text, flags=re.MULTILINE)


def test_everything_is_written_once(tmp_path: Path) -> None:
    """A first call writes every file, a second one none."""
    first, second = scaffold.write(tmp_path), scaffold.write(tmp_path)
    assert all(is_new for _, is_new in first)
    assert not any(is_new for _, is_new in second)
    assert [path for path, _ in first] == [path for path, _ in second]
    assert {"method-cards.yaml", "mkdocs.yml", "checks/accuracy.py", "docs/index.md", ".gitignore"} <= {
        path.relative_to(tmp_path).as_posix() for path, _ in first
    }


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    """What a person wrote is never overwritten."""
    (tmp_path / "mkdocs.yml").write_text("site_name: mine\n", encoding="utf-8")
    assert (tmp_path / "mkdocs.yml", False) in scaffold.write(tmp_path)
    assert (tmp_path / "mkdocs.yml").read_text(encoding="utf-8") == "site_name: mine\n"


def test_a_folder_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    """The message names the path and says what to do."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"file.*cannot be written.*choose"):
        scaffold.write(tmp_path / "file")
    (tmp_path / "checks" / "accuracy.py").mkdir(parents=True)
    with pytest.raises(InputError, match=r"accuracy\.py: cannot be written"):
        scaffold.write(tmp_path)


def test_a_new_folder_is_valid(folder: Path) -> None:
    """``validate`` passes right after ``init``, before there is any model."""
    done = CliRunner().invoke(app, ["validate", "--project", str(folder)])
    assert done.exit_code == 0, done.output
    assert "no problems" in done.output


def test_init_says_what_it_wrote(tmp_path: Path) -> None:
    """The command lists each file, and whether it is new."""
    first = CliRunner().invoke(app, ["init", str(tmp_path)])
    second = CliRunner().invoke(app, ["init", str(tmp_path)])
    assert first.exit_code == second.exit_code == 0
    assert f"wrote {tmp_path / FILE}" in first.output
    assert f"kept  {tmp_path / FILE}" in second.output


def test_every_option_is_explained_and_valid(folder: Path) -> None:
    """The file shows every field of the format, and is valid with all of them switched on."""
    from method_cards.project import ProjectConfig, SubjectConfig

    text = switched_on((folder / FILE).read_text(encoding="utf-8"))
    (folder / FILE).write_text(text, encoding="utf-8")
    Project.load(folder)
    data = document.load(folder / FILE).value
    assert set(data) == set(ProjectConfig.model_fields)
    assert set(data["subjects"]["my-model"]) == set(SubjectConfig.model_fields)
    lines = (folder / FILE).read_text(encoding="utf-8").splitlines()
    unexplained = [
        line
        for before, line in pairwise(lines)
        if re.match(r"( {4})?[a-z_]+:", line) and not before.strip().startswith("# ")
    ]
    assert not unexplained


@pytest.mark.parametrize(
    ("file", "schema"),
    [(FILE, "method-cards.json"), ("cards/project/fit-for-use/card.yaml", "card.json")],
)
def test_files_name_their_schema_and_follow_it(folder: Path, file: str, schema: str) -> None:
    """The first line leads an editor to the JSON Schema, and the file is valid by it."""
    path = folder / file
    text = path.read_text(encoding="utf-8")
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
    assert named is not None
    found = (path.parent / named[1]).resolve()
    assert found == (folder / scaffold.SCHEMAS / schema).resolve()
    path.write_text(switched_on(text) if file == FILE else text, encoding="utf-8")
    data = document.load(path).value
    validator = Draft7Validator(json.loads(found.read_text(encoding="utf-8")))
    assert [error.message for error in validator.iter_errors(data)] == []


def test_what_init_prints_leads_to_a_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands that ``init`` prints, in their order, with a model and data of one's own: the starter card is decided, and the site shows it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    said = CliRunner().invoke(app, ["init", "a project"]).output.splitlines()[-1]
    place, *commands = [shlex.split(command) for command in re.findall("`([^`]+)`", said)]
    assert place == ["cd", "a project"]
    monkeypatch.chdir(place[1])
    add_model(Path())
    for program, *arguments in commands:
        assert program == "method-cards"
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
    assert [arguments for _, *arguments in commands] == [["validate"], ["run"], ["build"]]
    (path,) = records.find(Path("records"))
    outcomes = {verdict.prescription: verdict.outcome for verdict in records.read(path).verdicts}
    assert outcomes == {"accurate-on-unseen-data": Outcome.PASSED, "test-data-kept-aside": Outcome.UNANSWERED}
    page = Path("build/site/subjects/my-model.html").read_text(encoding="utf-8")
    assert "Every MUST that a check decides passed" in page
    assert "accurate-on-unseen-data" in page


def test_the_starter_check_finds_its_defect(folder: Path) -> None:
    """On its controls the starter check fails the defect and not the sound model."""
    project = Project.load(folder)
    card = project.catalog.get("fit-for-use")
    rates = calibrate([(card, card.card.prescriptions[0])], project.registry, seeds=5)[0].rates
    assert rates.detection.estimate == 1
    assert rates.false_alarm.estimate == 0


def test_the_starter_check_is_documented(folder: Path) -> None:
    """Its docstring has every heading of a published page."""
    check = Project.load(folder).registry.get("project/accuracy").load()
    assert not check.page().missing


def test_the_site_of_a_new_folder_is_built(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``build`` works right after ``init`` and writes to ``build/site``, never over the sources."""
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(app, ["build"])
    assert done.exit_code == 0, done.output
    assert (folder / "build" / "site" / "cards" / "fit-for-use").with_suffix(".html").is_file()
    assert (folder / "docs" / "index.md").is_file()

"""Another team's package brings a check and a card through the same door as the bundled ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from method_cards import record
from method_cards.verdict import Outcome
from tests.helpers import REPOSITORY, command, criterion, prescription, python, scripted, write_project

if TYPE_CHECKING:
    from collections.abc import Mapping

PLUGIN = REPOSITORY / "tests" / "third_party"
CHECK, CARD = "acme/confident-errors", "confident-classification"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment of a process that sees the plugin, installed as pip would, in a folder of its own."""
    source, target = tmp_path_factory.mktemp("source") / "acme", tmp_path_factory.mktemp("installed")
    shutil.copytree(PLUGIN, source, ignore=shutil.ignore_patterns("__pycache__", "dist", "build"))
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--no-index"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {**os.environ, "PYTHONPATH": str(target), "COLUMNS": "200"}


MODEL = """
import torch

def build():
    model = torch.nn.Linear(4, 4, bias=False).eval()
    with torch.no_grad():
        model.weight.copy_(10 * torch.eye(4))
    return model

def test():
    labels = torch.arange(400) % 4
    return torch.eye(4)[labels], labels

def wrong():
    inputs, labels = test()
    return inputs, (labels + 1) % 4
"""


def project(folder: Path, test: str) -> Path:
    subject = {"task": "tabular-classification", "model": "model.py:build", "data": {"test": test}, "cards": [CARD]}
    (folder / "method-cards.yaml").write_text(
        json.dumps({"schema_version": 1, "subjects": {"claims": subject}}), encoding="utf-8"
    )
    (folder / "model.py").write_text(MODEL, encoding="utf-8")
    return folder


def test_its_check_and_card_are_listed(installed: Mapping[str, str], tmp_path: Path) -> None:
    """`method-cards list` shows what the plugin brings beside what is bundled."""
    done = command("list", "--format", "json", cwd=tmp_path, env=installed)
    assert done.returncode == 0, done.stderr
    listing = json.loads(done.stdout)
    assert CHECK in {item["id"] for item in listing["checks"]}
    assert CARD in {item["id"] for item in listing["cards"]}
    assert "attribution/completeness" in {item["id"] for item in listing["checks"]}
    shown = command("show", CHECK, cwd=tmp_path, env=installed)
    assert "threshold" in shown.stdout


def test_its_cards_are_valid(installed: Mapping[str, str], tmp_path: Path) -> None:
    """`method-cards validate` finds nothing wrong with the plugin's card, and would if there were something."""
    assert command("validate", cwd=tmp_path, env=installed).returncode == 0
    without_checks = command("validate", "--cards", str(PLUGIN / "src" / "acme_checks" / "cards"), cwd=tmp_path)
    assert without_checks.returncode == 2
    assert f'no check is called "{CHECK}"' in without_checks.stderr


@pytest.mark.parametrize(
    ("test", "outcome", "status"), [("model.py:test", Outcome.PASSED, 0), ("model.py:wrong", Outcome.FAILED, 1)]
)
def test_a_run_uses_it(installed: Mapping[str, str], tmp_path: Path, test: str, outcome: Outcome, status: int) -> None:
    """A project that names the plugin's card is measured by the plugin's check, and the record says where that came from."""
    done = command("run", "--device", "cpu", cwd=project(tmp_path, test), env=installed)
    assert done.returncode == status, done.stderr
    (path,) = record.find(tmp_path / "records")
    found = record.read(path)
    assert [verdict.outcome for verdict in found.verdicts] == [outcome]
    assert found.executions[0].distribution == "acme-checks 0.3.0"


def test_it_keeps_the_contract(installed: Mapping[str, str]) -> None:
    """The contract test finds the plugin's check in the registry and holds it to what every check promises."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_contract.py", "-k", "acme"],
        cwd=REPOSITORY, env={**installed, "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


def test_without_the_plugin_nothing_of_it_is_there() -> None:
    """The plugin is found by its entry points alone, not by lying in the repository."""
    done = python("from method_cards.registry import Registry; print(Registry.installed().ids)")
    assert CHECK not in done.stdout
    assert done.returncode == 0


BROKEN = """
from typing import ClassVar
from method_cards import Check
from tests.helpers import ONES, Scripted

class Partial(Check):
    id: ClassVar[str] = "broken/partial"
    quantities: ClassVar = (ONES,)
    def splits(self): return ("test",)

class Raising(Scripted):
    id: ClassVar[str] = "broken/raising"
    def model_post_init(self, context): raise OSError("no disk")

class Silent(Scripted):
    id: ClassVar[str] = "broken/silent"
    quantities: ClassVar = None
"""

CAUSES = {
    "partial": "acme_broken:Partial is not complete: write its controls, measure, passes",
    "raising": "acme_broken:Raising cannot be made with the parameters {}: OSError: no disk",
    "silent": "acme_broken:Silent does not say what it measures",
    "missing": '"acme_broken:Missing": acme_broken has no "Missing"',
}
"""What is wrong with each check of a broken package."""


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment of a process that sees a package whose checks cannot be used."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "acme_broken.py").write_text(BROKEN, encoding="utf-8")
    info = folder / "acme_broken-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-broken\nVersion: 0.1\n", encoding="utf-8")
    points = "".join(f"broken/{name} = acme_broken:{name.capitalize()}\n" for name in CAUSES)
    (info / "entry_points.txt").write_text(f"[method_cards.checks]\n{points}", encoding="utf-8")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(REPOSITORY)]), "COLUMNS": "300"}


def test_a_broken_check_costs_its_own_verdict(broken: Mapping[str, str], tmp_path: Path) -> None:
    """A class that is not complete, cannot be made or is not there gives errored verdicts with its entry point; the rest is decided and shown."""
    bound = [criterion("ones", at_most=0.9)]
    checks = [
        prescription("good", check=scripted(*bound)),
        *(prescription(name, check={"id": f"broken/{name}", "criteria": bound}) for name in CAUSES),
    ]
    write_project(tmp_path, checks)
    done = command("run", cwd=tmp_path, env=broken)
    assert done.returncode == 1, done.stderr
    (path,) = record.find(tmp_path / "records")
    verdicts = {verdict.prescription: verdict for verdict in record.read(path).verdicts}
    assert verdicts.pop("good").outcome is Outcome.PASSED
    for name, verdict in verdicts.items():
        assert verdict.outcome is Outcome.ERRORED
        assert f'check "broken/{name}" of acme-broken 0.1' in verdict.reason
        assert CAUSES[name] in verdict.reason
    assert command("list", cwd=tmp_path, env=broken).returncode == 0
    done = command("list", "--format", "json", cwd=tmp_path, env=broken)
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)
    assert CAUSES["partial"] in next(item for item in listed["checks"] if item["id"] == "broken/partial")["error"]
    built = command("build", "--markdown", "pages", cwd=tmp_path, env=broken)
    assert built.returncode == 0, built.stderr
    assert CAUSES["partial"] in (tmp_path / "pages" / "checks" / "broken" / "partial.md").read_text(encoding="utf-8")
    validated = command("validate", cwd=tmp_path, env=broken)
    assert validated.returncode == 2
    assert all(cause in validated.stderr for cause in CAUSES.values())
    assert "card.yaml:" in validated.stderr

"""What people install is whole, holds nothing else, and works far from the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from method_cards import record
from method_cards.verdict import Outcome
from tests.helpers import REPOSITORY

pytestmark = pytest.mark.slow

SITE = "site" + "-packages"


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV", "PYTEST"))}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def files(names: list[str]) -> set[str]:
    """The names without what differs between two builds by design."""
    return {name for name in names if not name.endswith("/") and "dist-info/RECORD" not in name}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A wheel that was built from the tree, and a source distribution."""
    target = tmp_path_factory.mktemp("dist")
    done = run(sys.executable, "-m", "hatchling", "build", "-d", target, cwd=REPOSITORY)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,), (source,) = target.glob("*.whl"), target.glob("*.tar.gz")
    return wheel, source


@pytest.fixture(scope="module")
def in_wheel(built: tuple[Path, Path]) -> set[str]:
    return files(zipfile.ZipFile(built[0]).namelist())


def test_the_wheel_installs_two_packages_and_nothing_else(in_wheel: set[str]) -> None:
    """Its top level is method_cards, method_checks and the metadata: no checks, cards, site, tests, examples or benchmarks."""
    tops = {name.partition("/")[0] for name in in_wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"method_cards", "method_checks"}


def test_the_wheel_holds_all_that_is_needed(in_wheel: set[str]) -> None:
    """Every module, card, bibliography, template and asset of the tree is in it, and both packages are typed."""
    expected = {"method_cards/py.typed", "method_checks/py.typed"}
    for folder, home in (
        ("method_cards", "method_cards"),
        ("checks/method_checks", "method_checks"),
        ("cards", "method_cards/cards"),
    ):
        root = REPOSITORY / folder
        expected |= {
            f"{home}/{path.relative_to(root).as_posix()}"
            for path in root.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
    assert expected - in_wheel == set()
    kinds = {Path(name).suffix for name in in_wheel}
    assert {".yaml", ".bib", ".jinja", ".css", ".js", ".woff2", ".typed", ".py"} <= kinds
    assert any(name.endswith("/card.yaml") for name in in_wheel)


def test_the_wheel_holds_no_leftovers(in_wheel: set[str]) -> None:
    """No caches, records, notebooks, weights or editor files."""
    leftovers = [
        name
        for name in in_wheel
        if "__pycache__" in name or name.endswith((".pyc", ".ipynb", ".safetensors", ".orig", "~", ".swp"))
    ]
    assert not leftovers


def test_the_source_distribution_makes_the_same_wheel(
    built: tuple[Path, Path], in_wheel: set[str], tmp_path: Path
) -> None:
    """A wheel that is built from the sdist alone has the files of the wheel from the tree, byte for byte."""
    with tarfile.open(built[1]) as archive:
        safely: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11.4
        archive.extractall(tmp_path, **safely)
    (source,) = tmp_path.iterdir()
    done = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "dist", cwd=source)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    again, first = zipfile.ZipFile(wheel), zipfile.ZipFile(built[0])
    assert files(again.namelist()) == in_wheel
    assert [name for name in in_wheel if again.read(name) != first.read(name)] == []
    assert {"tests", "site", "cards", "checks", "mkdocs.yml"} <= {path.name for path in source.iterdir()}


@pytest.fixture(scope="module")
def environment(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment outside the repository with the wheel in it.

    Its dependencies are those of the interpreter that runs the tests, found by a ``.pth`` file: installing torch again would take a
    minute and a gigabyte. That is honest because a path that a ``.pth`` file adds is only searched for packages: the ``.pth`` files
    in it are not read, and so the editable install there, which is one, does not exist for this environment; and the wheel comes
    first on the path. A test below makes sure of both.
    """
    folder = tmp_path_factory.mktemp("clean")
    done = run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    assert done.returncode == 0, done.stderr
    python = folder / "venv" / "bin" / "python"
    options = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    done = run(sys.executable, "-m", "pip", "--python", python, "install", *options, built[0], cwd=folder)
    assert done.returncode == 0, done.stderr
    (packages,) = (folder / "venv" / "lib").glob(f"*/{SITE}")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder / "venv" / "bin"


def test_the_wheel_is_what_runs(environment: Path, tmp_path: Path) -> None:
    """In the clean environment both packages come from the wheel, and nothing of the repository can be imported."""
    code = """
import importlib.util, json, site, sys, method_cards, method_checks
print(json.dumps({
    "homes": [method_cards.__file__, method_checks.__file__],
    "path": sys.path,
    "found": [name for name in ("checks", "cards", "tests", "benchmarks", "examples") if importlib.util.find_spec(name)],
    "site": site.__file__,
}))
"""
    done = run(environment / "python", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert all(home.startswith(str(environment.parent)) for home in seen["homes"])
    assert str(REPOSITORY) not in seen["path"]
    assert str(REPOSITORY / "checks") not in seen["path"]
    assert seen["found"] == []
    assert Path(seen["site"]).parent == Path(sysconfig.get_path("stdlib"))


def test_import_checks_fails(environment: Path, tmp_path: Path) -> None:
    """There is no top-level package `checks` to collide with anybody's own."""
    done = run(environment / "python", "-c", "import checks", cwd=tmp_path)
    assert done.returncode == 1
    assert "ModuleNotFoundError: No module named 'checks'" in done.stderr


def test_the_installed_command_lists_and_validates(environment: Path, tmp_path: Path) -> None:
    """From a foreign folder, cards and checks of the wheel are found and valid."""
    listed = run(environment / "method-cards", "list", "--format", "json", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    listing = json.loads(listed.stdout)
    assert {"integrated-gradients", "membership-privacy"} <= {item["id"] for item in listing["cards"]}
    assert {"attribution/completeness", "memorization/membership-inference"} <= {
        item["id"] for item in listing["checks"]
    }
    validated = run(environment / "method-cards", "validate", cwd=tmp_path)
    assert validated.returncode == 0, validated.stderr
    assert "no problems" in validated.stdout
    shown = run(environment / "method-cards", "show", "integrated-gradients", cwd=tmp_path, COLUMNS="200")
    assert shown.returncode == 0, shown.stderr


MODEL = """
import torch

def build():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3)).eval()

def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(300, 6, generator=generator), torch.randint(3, (300,), generator=generator)
"""


def test_the_installed_command_runs(environment: Path, tmp_path: Path) -> None:
    """A project in a foreign folder is measured with the bundled cards, and leaves a record and pages."""
    subject = {
        "task": "tabular-classification", "model": "model.py:build", "data": {"test": "model.py:data"}, "cards": ["integrated-gradients"],
        "explainer": {"method": "integrated-gradients", "steps": 32},
    }  # fmt: skip
    (tmp_path / "method-cards.yaml").write_text(
        json.dumps({"schema_version": 1, "samples": 256, "subjects": {"toy": subject}}), encoding="utf-8"
    )
    (tmp_path / "model.py").write_text(MODEL, encoding="utf-8")
    done = run(environment / "method-cards", "run", "--device", "cpu", cwd=tmp_path)
    assert done.returncode in (0, 1), done.stderr
    (path,) = record.find(tmp_path / "records")
    found = record.read(path)
    assert found.status == "complete"
    assert found.executions
    assert not [verdict for verdict in found.verdicts if verdict.outcome is Outcome.ERRORED]
    pages = run(environment / "method-cards", "build", "--markdown", tmp_path / "pages", cwd=tmp_path)
    assert pages.returncode == 0, pages.stderr
    assert list((tmp_path / "pages").rglob("*.md"))


def test_the_installed_command_sets_up_a_folder(environment: Path, tmp_path: Path) -> None:
    """`init` finds its templates in the wheel, and what it writes is valid but for the model that is not there yet."""
    done = run(environment / "method-cards", "init", "here", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "here" / "method-cards.yaml").is_file()
    validated = run(environment / "method-cards", "validate", cwd=tmp_path / "here")
    assert validated.returncode == 0, validated.stderr


def test_a_clone_without_links_still_builds(built: tuple[Path, Path]) -> None:
    """No file of the packages is a symbolic link, which a checkout on Windows would turn into text."""
    for folder in ("method_cards", "checks", "cards", "site"):
        assert not [path for path in (REPOSITORY / folder).rglob("*") if path.is_symlink()]
    assert shutil.which("git") is None or not run("git", "ls-files", "--stage", cwd=REPOSITORY).stdout.count(
        "\n120000 "
    )

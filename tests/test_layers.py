"""The layers of the design are held, and an import against them would be caught."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.helpers import REPOSITORY

CONTRACTS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
    "contracts"
]


def linted(folder: Path) -> subprocess.CompletedProcess[str]:
    """import-linter on the packages of this folder, not on the installed ones."""
    return subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(folder / "checks")])},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's two packages and its configuration, to break."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copy(REPOSITORY / "pyproject.toml", folder)
    ignored = shutil.ignore_patterns("__pycache__", "assets", "templates")
    shutil.copytree(REPOSITORY / "method_cards", folder / "method_cards", ignore=ignored)
    shutil.copytree(REPOSITORY / "checks", folder / "checks", ignore=ignored)
    return folder


def test_the_contracts_are_kept(copy: Path) -> None:
    """No module imports against the layers, and every module of the engine is in one."""
    done = linted(copy)
    assert done.returncode == 0, done.stdout
    assert f"{len(CONTRACTS)} kept, 0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("method_cards/measurement.py", "from method_cards import card", "upper layers may import lower ones"),
        ("method_cards/subject.py", "from method_cards import engine", "upper layers may import lower ones"),
        ("method_cards/engine.py", "from method_cards.render import page", "upper layers may import lower ones"),
        ("method_cards/card/card.py", "from method_cards import catalog", "upper layers may import lower ones"),
        ("method_cards/unheard_of.py", "x = 1", "upper layers may import lower ones"),
        ("method_cards/registry.py", "import method_checks", "the engine never imports the bundled checks"),
        ("method_cards/record.py", "import torch", "need no torch"),
        ("method_cards/render/page.py", "import torch", "need no torch"),
        (
            "checks/method_checks/attribution/completeness.py",
            "from method_cards import judge",
            "checks see subjects and measurements",
        ),
        (
            "checks/method_checks/attribution/similarity.py",
            "from method_cards.card import Card",
            "checks see subjects and measurements",
        ),
    ],
)
def test_a_forbidden_import_is_caught(copy: Path, module: str, line: str, contract: str) -> None:
    """One import against the layers, and a module that stands in none, each break the contract that forbids it."""
    path = copy / module
    before = path.read_text(encoding="utf-8") if path.exists() else None
    path.write_text(f"{before or ''}\n{line}\n", encoding="utf-8")
    try:
        done = linted(copy)
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_text(before, encoding="utf-8")
    assert done.returncode == 1, done.stdout
    broken = [text for text in done.stdout.splitlines() if text.endswith("BROKEN")]
    assert any(contract in text for text in broken), done.stdout

"""One site and one browser for all tests of a worker."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from method_cards.render import board, build
from tests.browser.visit import ARGUMENTS, CHROMIUM, NOWHERE, served
from tests.render import sample

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with every kind of verdict."""
    folder = tmp_path_factory.mktemp("project")
    sample.write_project(folder)
    (folder / "site").mkdir()
    (folder / "site" / "index.md").write_text(f"# Home\n\nInline $x_1$.\n\n{board.MARK}\n", encoding="utf-8")
    repository = Path(__file__).parents[2]
    settings: dict[str, Any] = yaml.safe_load((repository / "mkdocs.yml").read_text(encoding="utf-8"))
    settings |= {
        "plugins": ["search", "offline", {"method-cards": {"project": "method-cards.yaml"}}],
        "nav": [{"Home": "index.md"}],
    }
    settings.pop("extra_css", None)  # of this project's own pages
    settings["not_in_nav"] = "/checks/*\n/subjects/*\n/cards/*\n"
    (folder / "mkdocs.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    project = {
        "schema_version": 1,
        "checks": [f"{sample.__name__}:SampleRandomization"],
        "subjects": {
            "digits-cnn": {
                "task": "image-classification",
                "model": "m.py:m",
                "data": {"test": "m.py:d"},
                "cards": ["saliency-sanity"],
            }
        },
    }
    (folder / "method-cards.yaml").write_text(yaml.safe_dump(project), encoding="utf-8")
    assert sample.__name__ in sys.modules
    return build.build_site(folder / "mkdocs.yml")


@pytest.fixture(scope="session")
def site(built: Path) -> Iterator[str]:
    """Its address."""
    with served(built) as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=[*ARGUMENTS, NOWHERE])
        yield opened
        opened.close()

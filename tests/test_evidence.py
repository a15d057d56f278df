"""The pages of evidence say what the kept results hold, and lead to what there is."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from method_cards.catalog import Catalog
from tests.helpers import REPOSITORY

EVIDENCE = REPOSITORY / "site" / "evidence"
EXPLAINERS = REPOSITORY / "examples" / "explainers"
Pages: TypeAlias = Callable[[Sequence[Mapping[str, Any]]], dict[str, str]]


@pytest.fixture(scope="module")
def entries() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((EXPLAINERS / "results.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module", params=["page", "literature"])
def pages(request: pytest.FixtureRequest) -> Iterator[Pages]:
    """What a program of the example makes its pages with."""
    before = set(sys.modules)
    sys.path.insert(0, str(EXPLAINERS))
    yield importlib.import_module(request.param).pages
    sys.path.remove(str(EXPLAINERS))
    for name in set(sys.modules) - before:  # "page" and "notes" are anybody's names
        if str(EXPLAINERS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_the_published_pages_are_made_from_the_published_results(pages: Pages, entries: list[dict[str, Any]]) -> None:
    """Each page is what its program makes of the kept results; a page of results that are gone is gone."""
    made = pages(entries)
    assert [path for path, text in made.items() if (EVIDENCE / path).read_text(encoding="utf-8") != text] == []
    if "explainers.md" in made:
        kept = {f"explainers/{file.name}" for file in (EVIDENCE / "explainers").glob("*.md")}
        assert kept == {path for path in made if "/" in path}


def test_links_that_no_site_generator_checks_lead_somewhere() -> None:
    """The table of marks is HTML, for its size: each of its links leads to a page of evidence or to a prescription."""
    prescriptions = {
        f"{each.card.id}.html#{item.id}" for each in Catalog.installed() for item in each.card.prescriptions
    }
    links = re.findall(r'href="([^"]+)"', (EVIDENCE / "explainers.md").read_text(encoding="utf-8"))
    assert len(links) > 100
    for link in links:
        page = EVIDENCE / Path(link).with_suffix(".md")
        assert page.is_file() or link.removeprefix("../cards/") in prescriptions, link

"""Which pages there are: plain Markdown for any site generator, and the files that go with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from method_cards.errors import InputError
from method_cards.render.card_page import card_pages
from method_cards.render.check_page import check_page
from method_cards.render.figures import Drawer
from method_cards.render.hubs import hubs
from method_cards.render.results import Results
from method_cards.render.source import Source, source_from
from method_cards.render.subject_page import subject_page

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ASSETS", "SCRIPTS", "STYLES", "Site", "Source", "assets", "build", "pages", "source_from"]

ASSETS = "assets/method-cards"
"""The folder of styles, scripts and fonts within the site."""

STYLES = (f"{ASSETS}/katex/katex.min.css", f"{ASSETS}/method-cards.css")
SCRIPTS = (f"{ASSETS}/katex/katex.min.js", f"{ASSETS}/method-cards.js")
POLYFILL = f"{ASSETS}/iframe-worker.js"
"""Lets search work from ``file://``; its name keeps the theme from fetching its own copy from elsewhere."""


@dataclass(frozen=True)
class Site:
    """Everything that is generated.

    Attributes:
        pages: Markdown by path within the folder of pages.
        files: Pictures by path within the same folder.
    """

    pages: Mapping[str, str]
    files: Mapping[str, bytes]


def build(source: Source) -> Site:
    """All pages, with the pictures that they show."""
    results = Results(Drawer(source.cache))
    found: dict[str, str] = {}
    for loaded in source.cards:
        found |= card_pages(loaded, source, results)
    found |= {f"subjects/{view.record.subject.id}.md": subject_page(view, source) for view in source.views}
    found |= {f"checks/{entry.id}.md": check_page(entry, source, results.files) for entry in source.registry}
    lists = dict(hubs(source))
    if taken := lists.keys() & found.keys():
        raise InputError(f'{min(taken)} is the page that lists all: nothing can be called "index"')
    return Site({**lists, **found}, results.files)


def pages(source: Source) -> dict[str, str]:
    """The Markdown of all pages by path."""
    return dict(build(source).pages)


def assets() -> dict[str, bytes]:
    """Styles, scripts and fonts by path; nothing is ever fetched from elsewhere."""
    root = Path(__file__).parent / "assets"
    return {
        f"{ASSETS}/{path.relative_to(root).as_posix()}": path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }

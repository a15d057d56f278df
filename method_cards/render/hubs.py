"""The pages that lead to others: all cards, all checks, all subjects."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from method_cards.render.overview import Overview
from method_cards.render.page import Links, render

if TYPE_CHECKING:
    from collections.abc import Iterator

    from method_cards.registry import Entry
    from method_cards.render.source import Source


@dataclass(frozen=True)
class CheckRow:
    """One check with its claim, or why it cannot be loaded."""

    entry: Entry
    claim: str
    uses: int
    calibrated: int


def hubs(source: Source) -> Iterator[tuple[str, str]]:
    """The path and the Markdown of each of these pages."""
    shared = {"cards": source.cards, "views": source.views}
    families = [(family, list(items)) for family, items in groupby(source.cards, key=lambda loaded: loaded.family)]
    checks = [(family, list(items)) for family, items in groupby(_checks(source), key=lambda row: row.entry.family)]
    for path, template, context in (
        ("cards/index.md", "cards.md.jinja", {"families": families}),
        ("subjects/index.md", "subjects.md.jinja", _subjects(source)),
        ("checks/index.md", "checks.md.jinja", {"families": checks}),
    ):
        yield path, render(template, links=Links(path, directory_urls=source.directory_urls), **shared, **context)


def _subjects(source: Source) -> dict[str, Any]:
    """The subjects, and the cards that were applied to any of them."""
    applied = {judged.verdict.card for view in source.views for judged in view.judged}
    return {
        "overviews": [Overview(view, source) for view in source.views],
        "applied": [loaded for loaded in source.cards if loaded.card.id in applied],
    }


def _checks(source: Source) -> Iterator[CheckRow]:
    for entry in source.registry:
        check = source.check(entry.id)
        rates = [source.calibration(loaded, slug) for loaded, slug, _ in source.users(entry.id)]
        claim = f"Cannot be loaded: {check}" if isinstance(check, str) else check.page().claim
        yield CheckRow(entry, claim, len(rates), sum(rate.current for rate in rates))

"""The pages that lead to others: all cards, all checks, all subjects."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from method_cards.render.board import board, rows
from method_cards.render.cards_index import cards_index
from method_cards.render.needs import needs
from method_cards.render.overview import Overview
from method_cards.render.page import Links, render
from method_cards.render.summary import check_title
from method_cards.render.trust import Trust, trusts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from method_cards.calibration import Calibration
    from method_cards.registry import Entry
    from method_cards.render.source import Source
    from method_cards.verdict import IntervalData


@dataclass(frozen=True)
class CheckRow:
    """One check, and how far it can be trusted over all prescriptions that it verifies.

    Attributes:
        entry: The check.
        title: What it is called.
        claim: Its claim, or why it cannot be loaded.
        needs: What it needs besides test data and a model.
        trusts: The prescriptions whose criteria it decides.
    """

    entry: Entry
    title: str
    claim: str
    needs: tuple[str, ...]
    trusts: tuple[Trust, ...]

    @property
    def uses(self) -> int:
        """How many prescriptions it verifies, those of cards that take it over included."""
        return sum(1 + len(trust.also) for trust in self.trusts)

    @cached_property
    def known(self) -> tuple[Calibration, ...]:
        """The calibrations that hold for the criteria as they are now."""
        return tuple(
            trust.rates.found for trust in self.trusts if trust.rates.found is not None and trust.rates.current
        )

    @property
    def unknown(self) -> int:
        """For how many prescriptions nobody knows how often it is right."""
        return len(self.trusts) - len(self.known)

    @property
    def detection(self) -> IntervalData:
        """The lowest detection rate of any prescription."""
        return min((found.detection for found in self.known), key=lambda rate: (rate.estimate, rate.low))

    @property
    def false_alarm(self) -> IntervalData:
        """The highest false-alarm rate of any prescription."""
        return max((found.false_alarm for found in self.known), key=lambda rate: (rate.estimate, rate.high))

    @property
    def shortcoming(self) -> str:
        """In what it falls short of what is promised, for any prescription."""
        return next((trust.shortcoming for trust in self.trusts if trust.shortcoming), "")

    @property
    def rank(self) -> tuple[bool, bool, float, float, str]:
        """What is known best comes first; what is not calibrated comes last."""
        if not self.known:
            return True, True, 0.0, 0.0, self.entry.id
        return False, self.unknown > 0, -self.detection.low, self.false_alarm.high, self.entry.id


def hubs(source: Source) -> Iterator[tuple[str, str]]:
    """The path and the Markdown of each of these pages."""
    yield from cards_index(source).items()
    shared = {"cards": source.cards, "views": source.views}
    checks = [(family, list(items)) for family, items in groupby(_checks(source), key=lambda row: row.entry.family)]
    for path, template, context in (
        ("subjects/index.md", "subjects.md.jinja", _subjects(source)),
        ("checks/index.md", "checks.md.jinja", {"families": checks}),
    ):
        yield path, render(template, links=Links(path, directory_urls=source.directory_urls), **shared, **context)


def _subjects(source: Source) -> dict[str, Any]:
    """The subjects, the board, and how many cards were applied to any of them."""
    return {
        "overviews": [Overview(view, source) for view in source.views],
        "board": Markup(board("subjects/index.md", source)),  # noqa: S704  (made by an escaping template)
        "applied": len(rows(source)),
    }


def _checks(source: Source) -> Iterator[CheckRow]:
    rows = []
    for entry in source.registry:
        check = source.check(entry.id)
        shown = trusts(entry.id, source)
        if isinstance(check, str):
            rows.append(CheckRow(entry, entry.id, f"Cannot be loaded: {check}", (), shown))
        else:
            rows.append(CheckRow(entry, check_title(check), check.page().claim, needs(check), shown))
    yield from sorted(rows, key=lambda row: (row.entry.family, row.rank))

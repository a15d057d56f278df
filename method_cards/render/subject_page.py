"""The page of one subject: what is wrong and how to get to the evidence, what changed, what was checked with what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from method_cards.render import words
from method_cards.render.overview import Overview
from method_cards.render.page import Links, render

if TYPE_CHECKING:
    from method_cards.render.source import Source, View
    from method_cards.verdict import Verdict

MOST = (12, 8)
"""How many verdicts that somebody has to look at are shown at length, and how many where there are many; the tables have them all."""

MOST_COURSES = (24, 10)
"""How many measurements are drawn over the runs, and how many where there are many verdicts; the gravest come first."""


def subject_page(view: View, source: Source) -> str:
    """The page of a subject as Markdown."""
    overview = Overview(view, source)
    record = view.record
    links = Links(f"subjects/{record.subject.id}.md", directory_urls=source.directory_urls)

    def see(verdict: Verdict) -> str:
        """The place of a verdict on its card's page; empty where the card is gone."""
        if verdict.card not in source.catalog:
            return ""
        return links.page(f"cards/{verdict.card}.md", f"{verdict.prescription}--{record.subject.id}")

    return render(
        "subject.md.jinja",
        overview=overview,
        see=see,
        most=MOST[overview.is_large],
        most_courses=MOST_COURSES[overview.is_large],
        summary=words.adjusted(record),
        checks=source.registry.ids,
        alpha=1 - record.confidence,
        links=links,
    )

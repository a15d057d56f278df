"""The page of one subject: what is wrong and how to get to the evidence, what changed, what was checked with what."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from method_cards.render import words
from method_cards.render.overview import Overview
from method_cards.render.page import Links, render

if TYPE_CHECKING:
    from method_cards.render.source import Source, View
    from method_cards.verdict import Verdict


@dataclass(frozen=True)
class Most:
    """How much a page shows of each thing, so that it stays small; what is left out is counted, and stands on the cards' pages.

    Attributes:
        verdicts: Up to how many verdicts this holds.
        wrong: Verdicts that somebody has to look at, at length.
        courses: Measurements that are drawn over the runs.
        rows: Changes, questions, checks and the like, of each kind.
        cards: Cards in trouble that are listed, where there are too many for a table of each; 0 for all tables.
        brief: Whether what is passed, and what a question asks for, is told in few words.
    """

    verdicts: int
    wrong: int
    courses: int
    rows: int
    cards: int = 0
    brief: bool = False


SIZES = (
    Most(verdicts=60, wrong=12, courses=24, rows=60),
    Most(verdicts=200, wrong=6, courses=10, rows=60, brief=True),
    Most(verdicts=sys.maxsize, wrong=6, courses=6, rows=20, cards=80, brief=True),
)


def subject_page(view: View, source: Source) -> str:
    """The page of a subject as Markdown."""
    overview = Overview(view, source)
    record = view.record
    links = Links(f"subjects/{record.subject.id}.md", directory_urls=source.directory_urls)

    def see(verdict: Verdict) -> str:
        """The place of a verdict on the pages of its card; empty where the card is gone."""
        if verdict.card not in source.catalog:
            return ""
        return links.page(*source.place(verdict, record.subject.id))

    return render(
        "subject.md.jinja",
        overview=overview,
        see=see,
        called=source.called,
        most=next(size for size in SIZES if len(overview.items) <= size.verdicts),
        summary=words.adjusted(record),
        again=words.whole_rerun(record),
        checks=source.registry.ids,
        alpha=1 - record.confidence,
        links=links,
    )

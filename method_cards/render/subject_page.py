"""The page of one subject: what was checked with what, and everything that was decided about it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from method_cards.render import words
from method_cards.render.page import Links, render
from method_cards.render.results import GRAVITY
from method_cards.verdict import Outcome

if TYPE_CHECKING:
    from method_cards.record import Record
    from method_cards.render.source import Judged, Source, View
    from method_cards.verdict import CriterionResult, Verdict

LEVELS = ("MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY")


@dataclass(frozen=True)
class Group:
    """The verdicts on one card."""

    card: str
    title: str
    is_known: bool
    judged: tuple[Judged, ...]


def subject_page(view: View, source: Source) -> str:
    """The page of a subject as Markdown."""
    record = view.record
    verdicts = [judged.verdict for judged in view.judged]
    table = Counter((verdict.level, verdict.outcome) for verdict in verdicts)
    outcomes = [outcome for outcome in GRAVITY if any(verdict.outcome is outcome for verdict in verdicts)]
    levels = [level for level in LEVELS if any(verdict.level == level for verdict in verdicts)]
    return render(
        "subject.md.jinja",
        view=view,
        record=record,
        groups=[_group(card, view, source) for card in dict.fromkeys(verdict.card for verdict in verdicts)],
        outcomes=outcomes,
        levels=[(level, [table[level, outcome] for outcome in outcomes]) for level in levels],
        silent=[verdict for verdict in verdicts if verdict.outcome in (Outcome.NOT_APPLICABLE, Outcome.ERRORED)],
        tested=sorted(_tested(record), key=lambda pair: pair[1].p_value or 0.0),
        summary=words.adjusted(record),
        checks=source.registry.ids,
        alpha=1 - record.confidence,
        links=Links(f"subjects/{record.subject.id}.md", directory_urls=source.directory_urls),
    )


def _group(card: str, view: View, source: Source) -> Group:
    known = card in source.catalog
    title = source.catalog.get(card).card.title if known else card
    return Group(card, title, known, view.of_card(card))


def _tested(record: Record) -> list[tuple[Verdict, CriterionResult]]:
    """Everything that the newest run decided from data, with its adjusted p-value."""
    return [
        (verdict, result)
        for verdict in record.verdicts
        for result in (*verdict.gates, *verdict.criteria)
        if result.p_holm is not None
    ]

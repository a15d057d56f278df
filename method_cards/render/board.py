"""The board: every subject against every card that it is checked by, the gravest verdict of each pair in sight."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from method_cards.render import words
from method_cards.render.overview import Overview
from method_cards.render.page import MEANING, Links, render
from method_cards.render.results import GRAVITY
from method_cards.verdict import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from method_cards.catalog import LoadedCard
    from method_cards.render.source import Judged, Source, View

MARK = "<!-- method-cards: board -->"
"""Alone on a line of a page that a person writes, it stands for the board."""

END = "<!-- method-cards: end of board -->"

_PLACE = re.compile(
    rf"^{re.escape(MARK)}[ \t]*$(?:(?:(?!^{re.escape(MARK)}).)*?^{re.escape(END)}[ \t]*$)?", re.MULTILINE | re.DOTALL
)
"""A mark with the board that stands below it; never with what lies before the next mark, which a person wrote."""


MOST = 60
"""How many cards a board has: a page stays small."""


@dataclass(frozen=True)
class Cell:
    """What was found about one subject by one card.

    Attributes:
        gravest: The verdict that a person should look at first.
        place: The page of the card that names it, and the place on it.
        said: How many of what must be so is not so.
    """

    gravest: Judged
    place: tuple[str, str]
    said: str


@dataclass(frozen=True)
class Row:
    """One card that some subject is checked by; a subject that is not has no cell."""

    loaded: LoadedCard
    cells: tuple[Cell | None, ...]


def rows(source: Source) -> list[Row]:
    """The cards that any subject is checked by, with a cell for each subject."""
    found = [Row(loaded, tuple(_cell(view, loaded, source) for view in source.views)) for loaded in source.cards]
    return [row for row in found if any(row.cells)]


def fill(text: str, page: str, source: Source) -> str:
    """A page that a person wrote, with the board at the mark; filled again, it has the board of today.

    Args:
        text: The page as Markdown.
        page: Its path among the pages.
        source: What pages are made from.
    """
    if MARK not in text:
        return text
    made = board(page, source)
    return _PLACE.sub(lambda _: f"{MARK}\n\n{made}\n{END}", text)


def board(page: str, source: Source) -> str:
    """The board as Markdown, for one page; of many cards those with the gravest verdicts."""
    found = rows(source)
    shown = found if len(found) <= MOST else sorted(found, key=_gravity)[:MOST]
    return render(
        "board.md.jinja",
        links=Links(page, directory_urls=source.directory_urls),
        overviews=[Overview(view, source) for view in source.views],
        rows=shown,
        left_out=len(found) - len(shown),
        meaning=MEANING,
        legend=[outcome for outcome in GRAVITY if any(outcome in view.outcomes for view in source.views)],
    )


def _gravity(row: Row) -> int:
    return min(GRAVITY.index(cell.gravest.verdict.outcome) for cell in row.cells if cell is not None)


def said(judged: Sequence[Judged]) -> str:
    """What became of the prescriptions of level MUST and MUST NOT, in words."""
    outcomes = [item.verdict.outcome for item in judged if item.verdict.is_must]
    bound = len(outcomes) - outcomes.count(Outcome.NOT_APPLICABLE)
    if not bound:
        return "no MUST applies"
    others = [
        f"{outcomes.count(outcome)} {words.word(outcome)}"
        for outcome in GRAVITY
        if outcome in outcomes and outcome in (*words.TROUBLE, Outcome.UNANSWERED) and outcome is not Outcome.FAILED
    ]
    return ", ".join([f"{outcomes.count(Outcome.FAILED)} of {bound} MUST failed", *others])


def _cell(view: View, loaded: LoadedCard, source: Source) -> Cell | None:
    judged = view.of_card(loaded.card.id)
    if not judged:
        return None
    gravest = min(judged, key=lambda item: (GRAVITY.index(item.verdict.outcome), not item.verdict.is_must))
    return Cell(gravest, source.place(gravest.verdict, view.record.subject.id), said(judged))

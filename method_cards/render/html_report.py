"""A run as one HTML file: it asks nobody for anything, runs no script, and can be mailed, printed and read in light and dark."""

from __future__ import annotations

import base64
import html
import re
from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING

from markupsafe import Markup

from method_cards.render import words
from method_cards.render.charts import spoken
from method_cards.render.figures import Drawer
from method_cards.render.overview import Overview
from method_cards.render.page import environment
from method_cards.render.results import GRAVITY, Result, Results
from method_cards.verdict import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from method_cards.render.overview import Item
    from method_cards.render.source import Source, View

COLOURS = {
    Outcome.PASSED: "#17693a",
    Outcome.FAILED: "#b3261e",
    Outcome.ERRORED: "#b3261e",
    Outcome.INVALID: "#6a3d9a",
    Outcome.INCONCLUSIVE: "#835400",
    Outcome.UNANSWERED: "#1b5e9e",
    Outcome.ANSWERED: "#1b5e9e",
    Outcome.NOT_APPLICABLE: "#5c6166",
}
"""Written beside each word too: some viewers of mail drop style sheets."""

MOST_REMEDIES = 2
MOST_CRITERIA = 3
MOST_CHARACTERS = 200

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


@dataclass(frozen=True)
class Trouble:
    """One verdict that somebody has to look at, with everything that shows why.

    Attributes:
        item: The verdict.
        result: Its figures, pictures and command.
        rates: How often its check errs, in a sentence; empty where nothing was measured.
        sources: Where the bound of each criterion comes from, by claim.
    """

    item: Item
    result: Result
    rates: str
    sources: dict[str, str]


def html_report(views: Sequence[View], source: Source) -> str:
    """The report of one run of each subject as a whole HTML document.

    Args:
        views: The subjects.
        source: Cards, checks, and the cache of drawings.
    """
    overviews = [Overview(view, source) for view in views]
    text = (
        environment()
        .get_template("report.html.jinja")
        .render(
            overviews=[(overview, _troubles(overview, source)) for overview in overviews],
            title=" · ".join(overview.view.name for overview in overviews),
            chip=_chip,
            counts=_counts,
            level=_level,
            symbols=words.SYMBOLS,
            see=lambda _: "",
            called=source.called,
            checks=(),
            links=None,
            adjusted=words.adjusted,
            data=_data,
            most_remedies=MOST_REMEDIES,
            most_criteria=MOST_CRITERIA,
            plural=words.plural,
            measured=words.measured,
        )
    )
    return _FORMULA.sub(_readable, text)


def _troubles(overview: Overview, source: Source) -> list[Trouble]:
    """What is wrong, each picture shown once."""
    results = Results(Drawer(source.cache))
    made = {result.verdict.id: result for result in results.of_card([item.judged for item in overview.wrong])}
    return [
        Trouble(item, made[item.verdict.id], _rates(overview, item), _sources(overview, item))
        for item in overview.wrong
    ]


def _rates(overview: Overview, item: Item) -> str:
    loaded = overview.loaded(item.verdict.card)
    if loaded is None or item.prescription is None or item.verdict.outcome is Outcome.ERRORED:
        return ""
    execution = item.judged.execution
    return words.calibrated(loaded, item.prescription, execution.version if execution else "")[1]


def _sources(overview: Overview, item: Item) -> dict[str, str]:
    """Where bounds come from, the first words of each: the card tells the rest."""
    loaded = overview.loaded(item.verdict.card)
    binding = item.prescription.check if item.prescription is not None else None
    if loaded is None or binding is None:
        return {}
    return {
        criterion.claim: shorten(words.source(criterion, loaded.references), MOST_CHARACTERS, placeholder=" …")
        for criterion in (*binding.criteria, *binding.valid_if)
    }


def _chip(outcome: Outcome, text: str = "") -> Markup:
    """A verdict as a symbol and a word, in colour even where style sheets are dropped."""
    return Markup('<span class="mc-chip mc-{}" style="color:{}">{}&nbsp;{}</span>').format(
        outcome.value, COLOURS[outcome], words.SYMBOLS[outcome], text or spoken(outcome.value)
    )


def _counts(outcomes: Iterable[Outcome]) -> Markup:
    listed = list(outcomes)
    return Markup(" ").join(
        _chip(outcome, f"{listed.count(outcome)} {spoken(outcome.value)}") for outcome in GRAVITY if outcome in listed
    )


def _level(text: str) -> Markup:
    return Markup('<b class="mc-level">{}</b>').format(text)


def _data(kind: str, content: bytes) -> str:
    """A picture within the file."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _readable(found: re.Match[str]) -> str:
    """A formula in letters: no script draws it here."""
    from pylatexenc.latex2text import LatexNodes2Text

    text = " ".join(LatexNodes2Text().latex_to_text(html.unescape(found[2])).split())
    return str(Markup("<i>{}</i>").format(text))

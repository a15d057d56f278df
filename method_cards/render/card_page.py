"""The pages of one card: what to do, whether it is done, how sure that is, and how to mend it. One page, unless it gets heavy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from method_cards.render.citations import Citations
from method_cards.render.fields import fields, value_html
from method_cards.render.markdown import inline
from method_cards.render.page import Links, heading, render
from method_cards.render.results import FIGURES, GRAVITY
from method_cards.render.words import SYMBOLS
from method_cards.verdict import Outcome

if TYPE_CHECKING:
    from method_cards.card import Card, Criterion, Prescription
    from method_cards.catalog import LoadedCard
    from method_cards.render.results import Result, Results
    from method_cards.render.source import Rates, Source, View

SECTIONS = (
    "audience",
    "applicability",
    "requirements",
    "data_guidance",
    "tuning",
    "evaluation",
    "explanation",
    "responsible_ai",
    "deployment",
)
"""Sections that are shown folded, each as a list of its fields."""

LISTS = (
    "examples",
    "related_cards",
    "mappings",
    "model_cards",
    "datasheets",
    "saliency_cards",
    "system_cards",
    "glossary",
    "prompts",
)


@dataclass(frozen=True)
class Item:
    """One prescription with its results.

    Attributes:
        prescription: The prescription.
        results: What was found, for each subject.
        rates: How often its check is right.
        bounds: Its criteria in words.
        conditions: What has to hold of a run, in words.
        claims: What its criteria and conditions claim, as the card stands now.
    """

    prescription: Prescription
    results: tuple[Result, ...]
    rates: Rates
    bounds: tuple[Markup, ...]
    conditions: tuple[Markup, ...]
    claims: frozenset[str]

    @property
    def attention(self) -> bool:
        """Whether the remedy comes right after the results."""
        return any(result.verdict.outcome is Outcome.FAILED for result in self.results)

    def label(self, *results: Result) -> str:
        """Its name for the table of contents, with the mark of the gravest verdict."""
        found = {result.verdict.outcome for result in results}
        mark = next((f"{SYMBOLS[outcome]} " for outcome in GRAVITY if outcome in found), "")
        return mark + self.prescription.heading

    def of(self, subject: str) -> Result | None:
        """What was found on one subject."""
        return next((result for result in self.results if result.record.subject.id == subject), None)


HEAVY = 72_000
"""From so many bytes on, parts of a card get pages of their own: with a theme around it, a page then stays below 100 kB."""

FULL = 78_000
"""So many bytes still fit: the lines that lead to the pages of the subjects may fill a card's page up to here."""

LAYOUTS: tuple[frozenset[str], ...] = (
    frozenset(),
    frozenset({"background"}),
    frozenset({"background", "results"}),
    frozenset({"background", "results", "lines"}),
)
"""What leaves the page: first what is not needed in order to act, then what was found on each subject, last the line for each result
that had stayed. The table at the top leads to every result."""

CROWDED = frozenset({"background", "results", "lines", "cells"})
"""Where the table would be too large as well: it counts, and the pages of the subjects name each result."""

GLANCED = 24
"""So many subjects are named at the top."""


def card_pages(loaded: LoadedCard, source: Source, results: Results) -> dict[str, str]:
    """The pages of a card as Markdown, by path.

    Args:
        loaded: The card.
        source: What pages are made from.
        results: Makes the results, and keeps the files that they need.
    """
    by_prescription: dict[str, list[Result]] = {}
    views = [view for view in source.views if view.of_card(loaded.card.id)]
    slugs = {item.id for item in loaded.card.prescriptions}
    for view in views:
        for result in results.of_card(
            [item for item in view.of_card(loaded.card.id) if item.verdict.prescription in slugs]
        ):
            by_prescription.setdefault(result.verdict.prescription, []).append(result)
    page = partial(_page, loaded=loaded, source=source, views=views, results=by_prescription)
    path = _path(loaded)
    for apart in (CROWDED,) if loaded.card.id in source.crowded else LAYOUTS:
        found = {path: page("card.md.jinja", path, apart=apart)}
        if len(found[path].encode()) < (FULL if "results" in apart else HEAVY):
            break
    if "background" in apart:
        background = _path(loaded, "background")
        found[background] = page("card_background.md.jinja", background, apart=apart)
    if "results" in apart:
        for view in views:
            of_subject = _path(loaded, f"on-{view.record.subject.id}")
            found[of_subject] = page("card_results.md.jinja", of_subject, apart=apart, view=view)
    return found


def _path(loaded: LoadedCard, part: str = "") -> str:
    return f"cards/{loaded.card.id}/{part}.md" if part else f"cards/{loaded.card.id}.md"


def _page(
    template: str,
    path: str,
    *,
    loaded: LoadedCard,
    source: Source,
    views: list[View],
    results: dict[str, list[Result]],
    apart: frozenset[str],
    view: View | None = None,
) -> str:
    card = loaded.card
    links = Links(path, directory_urls=source.directory_urls)

    def to(part: str) -> str:
        """The address of another page of this card; empty for this one."""
        target = _path(loaded, part)
        return "" if target == path else links.page(target)

    background = to("background" if "background" in apart else "")
    citations = Citations(loaded, background)
    items = [
        Item(
            prescription=one,
            results=tuple(results.get(one.id, ())),
            rates=source.calibration(loaded, one.id),
            bounds=tuple(_bound(criterion, citations) for criterion in one.check.criteria) if one.check else (),
            conditions=tuple(_bound(criterion, citations) for criterion in one.check.valid_if) if one.check else (),
            claims=frozenset(criterion.claim for criterion in _criteria(one)),
        )
        for one in card.prescriptions
    ]
    return render(
        template,
        loaded=loaded,
        card=card,
        names={item.id: item.heading for item in card.prescriptions},
        modes={mode.id: mode.title for mode in card.failure_modes},
        checked_as=partial(_checked_as, loaded),
        prescriptions=items,
        views=views,
        glanced=sorted(views, key=partial(_gravity, card.id))[:GLANCED] if len(views) > GLANCED else views,
        view=view,
        citations=citations,
        links=links,
        apart=apart,
        background=background,
        main=to(""),
        on=lambda subject: to(f"on-{subject}"),
        fields=partial(_fields, citations=citations),
        sections=list(_sections(card, citations)),
        owners=", ".join(person.name for person in card.owners),
        checks=source.registry.ids,
        figure_folder=FIGURES,
        card_sha=loaded.document.sha256,
    )


def _checked_as(loaded: LoadedCard, prescription: Prescription) -> str:
    """What the prescription is called whose check this one takes over."""
    home, slug = loaded.home(prescription)
    return f"{home.card.title}: {next(item.heading for item in home.card.prescriptions if item.id == slug)}"


def _gravity(card: str, view: View) -> int:
    return min(GRAVITY.index(judged.verdict.outcome) for judged in view.of_card(card))


def _criteria(prescription: Prescription) -> tuple[Criterion, ...]:
    return (*prescription.check.criteria, *prescription.check.valid_if) if prescription.check else ()


def _bound(criterion: Criterion, citations: Citations) -> Markup:
    where = f" ({', '.join(f'{key} {value}' for key, value in criterion.where.items())})" if criterion.where else ""
    return Markup('{}<p class="mc-small"><code>{}{} {}</code> {}</p>').format(
        inline(criterion.claim),
        criterion.measurement,
        where,
        criterion.bound_text(),
        citations.source(criterion.source),
    )


def _fields(part: Any, citations: Citations, skip: list[str]) -> Markup:
    return fields(part, citations, frozenset(skip))


def _sections(card: Card, citations: Citations) -> Any:
    skip = {"applicability": frozenset({"prescribed_uses", "proscribed_uses"})}
    described = value_html(card.overview.description, citations) if card.overview.description else Markup()
    yield "Purpose", described + fields(card.overview, citations, frozenset({"summary", "description"}))
    for name in SECTIONS:
        section = getattr(card, name)
        if section is not None and (shown := fields(section, citations, skip.get(name, frozenset()))):
            yield heading(name), shown
    for name in LISTS:
        if values := getattr(card, name):
            yield heading(name), value_html(values, citations)

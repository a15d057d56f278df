"""The page of one card: what to do, whether it is done, how sure that is, and how to mend it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from method_cards.render.citations import Citations
from method_cards.render.fields import fields, value_html
from method_cards.render.page import Links, heading, render
from method_cards.render.results import FIGURES
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

BROKEN = (Outcome.FAILED, Outcome.ERRORED, Outcome.INVALID)
"""What is named at the top of the page."""

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
        bounds: Its criteria in words, for a card without results.
        bound_sources: Where the bound of each criterion comes from, by claim.
    """

    prescription: Prescription
    results: tuple[Result, ...]
    rates: Rates
    bounds: tuple[Markup, ...]
    bound_sources: dict[str, Markup]

    @property
    def attention(self) -> bool:
        """Whether the remedy comes right after the results."""
        return any(result.verdict.outcome is Outcome.FAILED for result in self.results)


@dataclass(frozen=True)
class Glance:
    """One subject's verdicts on the card.

    Attributes:
        view: The subject.
        broken: What a person has to look at first.
    """

    view: View
    broken: tuple[Result, ...]


def card_page(loaded: LoadedCard, source: Source, results: Results) -> str:
    """The page of a card as Markdown.

    Args:
        loaded: The card.
        source: What pages are made from.
        results: Makes the results, and keeps the files that they need.
    """
    card = loaded.card
    citations = Citations(loaded)
    by_prescription: dict[str, list[Result]] = {}
    glances: list[Glance] = []
    slugs = {item.id for item in card.prescriptions}
    for view in source.views:
        found = results.of_card([item for item in view.of_card(card.id) if item.verdict.prescription in slugs])
        for result in found:
            by_prescription.setdefault(result.verdict.prescription, []).append(result)
        if found:
            glances.append(Glance(view, tuple(result for result in found if result.verdict.outcome in BROKEN)))
    items = [
        Item(
            prescription=one,
            results=tuple(by_prescription.get(one.id, ())),
            rates=source.calibration(loaded, one.id),
            bounds=tuple(_bound(criterion, citations) for criterion in one.check.criteria) if one.check else (),
            bound_sources={criterion.claim: citations.source(criterion.source) for criterion in _criteria(one)},
        )
        for one in card.prescriptions
    ]
    path = f"cards/{card.id}.md"
    return render(
        "card.md.jinja",
        loaded=loaded,
        card=card,
        prescriptions=items,
        glances=glances,
        citations=citations,
        links=Links(path, directory_urls=source.directory_urls),
        fields=partial(_fields, citations=citations),
        sections=list(_sections(card, citations)),
        owners=", ".join(person.name for person in card.owners),
        checks=source.registry.ids,
        figure_folder=FIGURES,
        card_sha=hashlib.sha256(loaded.document.path.read_bytes()).hexdigest(),
    )


def _criteria(prescription: Prescription) -> tuple[Criterion, ...]:
    return (*prescription.check.criteria, *prescription.check.valid_if) if prescription.check else ()


def _bound(criterion: Criterion, citations: Citations) -> Markup:
    where = f" ({', '.join(f'{key} {value}' for key, value in criterion.where.items())})" if criterion.where else ""
    return Markup("{} <code>{}{} {}</code> {}").format(
        criterion.claim, criterion.measurement, where, criterion.bound_text(), citations.source(criterion.source)
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

"""Cards and checks as plain data, for ``--format json``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from method_cards import calibration
from method_cards.errors import InputError
from method_cards.render import words
from method_cards.render.needs import needs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from method_cards.calibration import Calibration
    from method_cards.card import Prescription
    from method_cards.catalog import Catalog, LoadedCard
    from method_cards.check import Check
    from method_cards.registry import Entry, Registry

Data = dict[str, Any]


def listing(catalog: Catalog, registry: Registry) -> Data:
    """All cards and checks."""
    return {
        "cards": [card_summary(loaded) for loaded in catalog],
        "checks": [_check_or_cause(entry, catalog) for entry in registry],
    }


def card_summary(loaded: LoadedCard) -> Data:
    """A card without its prose: what it is, what it asks for, how it is verified, how often that errs."""
    card = loaded.card
    return {
        "id": card.id,
        "title": card.title,
        "family": loaded.family,
        "type": card.card_type,
        "version": card.version.name,
        "status": card.status,
        "summary": card.overview.summary,
        "tasks": list(card.overview.tasks),
        "modalities": list(card.overview.modalities),
        "tags": list(card.overview.tags),
        "cost": card_cost(loaded),
        "origin": loaded.origin,
        "path": str(loaded.document.path),
        "prescriptions": [_prescription(loaded, prescription) for prescription in card.prescriptions],
    }


def _check_or_cause(entry: Entry, catalog: Catalog) -> Data:
    """A check; of one that cannot be used, why that is."""
    try:
        return check_summary(entry, catalog)
    except InputError as error:
        return {"id": entry.id, "family": entry.family, "distribution": entry.distribution, "error": str(error)}


def check_summary(entry: Entry, catalog: Catalog) -> Data:
    """A check: its claim, parameters, quantities, cost, and the error rates of the prescriptions that it verifies."""
    check = entry.load()
    page = check.page()
    return {
        "id": entry.id,
        "title": check_title(check),
        "family": entry.family,
        "version": check.version,
        "distribution": entry.distribution,
        "claim": page.claim,
        "cost": one_line(page.sections.get("Cost", "")),
        "sources": one_line(page.sections.get("Sources", "")),
        "parameters": check.model_json_schema(),
        "quantities": [
            {
                "name": item.name,
                "kind": item.kind,
                "meaning": item.meaning,
                "unit": item.unit,
                "range": [*map(_finite, item.range)],
                "by": [*item.by],
            }
            for item in check.quantities
        ],
        "gates": list(check.gates),
        "needs": list(needs(check)),
        "used_by": [
            {"prescription": f"{loaded.card.id}/{prescription.id}", "calibration": _calibration(loaded, prescription)}
            for loaded, prescription in users(catalog, entry.id)
        ],
    }


def users(catalog: Catalog, check: str) -> Iterator[tuple[LoadedCard, Prescription]]:
    """The prescriptions that a check verifies."""
    for loaded in catalog:
        for prescription in loaded.card.prescriptions:
            if prescription.check is not None and prescription.check.id == check:
                yield loaded, prescription


def check_title(check: type[Check]) -> str:
    """The name of a check for people: ``Parameter randomization``."""
    return check.title or check.id.partition("/")[2].replace("-", " ").capitalize()


def card_cost(loaded: LoadedCard) -> str:
    """What the card says about its cost; empty where it says nothing."""
    compute = loaded.card.requirements.compute
    if compute is None:
        return ""
    seconds = words.duration(compute.seconds) if compute.seconds is not None else ""
    return ", ".join(part for part in (seconds, compute.device, compute.memory) if part)


def calibrated_count(loaded: LoadedCard) -> tuple[int, int]:
    """How many of a card's checked prescriptions have error rates for their present criteria, and how many are checked."""
    checked = [prescription for prescription in loaded.card.prescriptions if prescription.check is not None]
    return sum(words.calibrated(loaded, prescription)[0] is not None for prescription in checked), len(checked)


def kept(loaded: LoadedCard, prescription: Prescription) -> Calibration | None:
    """The error rates that stand beside the card, current or not."""
    home, slug = loaded.home(prescription)
    return calibration.read(home.folder).prescriptions.get(slug)


def one_line(text: str) -> str:
    """Text with all white space as single blanks."""
    return " ".join(text.split())


def _prescription(loaded: LoadedCard, prescription: Prescription) -> Data:
    found: Data = {
        "id": f"{loaded.card.id}/{prescription.id}",
        "level": str(prescription.level),
        "stage": str(prescription.stage),
        "severity": str(prescription.severity),
        "statement": prescription.statement,
    }
    if prescription.question is not None:
        return {**found, "question": prescription.question.question}
    assert prescription.check is not None
    criteria = [words.bound(criterion) for criterion in prescription.check.criteria]
    conditions = [words.bound(criterion) for criterion in prescription.check.valid_if]
    return {
        **found,
        "check": prescription.check.id,
        "parameters": prescription.check.parameters,
        "criteria": criteria,
        "valid_if": conditions,
        "calibration": _calibration(loaded, prescription),
    }


def _calibration(loaded: LoadedCard, prescription: Prescription) -> Data:
    found, sentence = words.calibrated(loaded, prescription)
    if found is None:
        return {"current": False, "reason": sentence}
    rates = {
        name: rate.model_dump(mode="json")
        for name, rate in (("detection", found.detection), ("false_alarm", found.false_alarm))
    }
    return {
        "current": True,
        "measured_on": str(found.measured_on),
        "seeds": found.seeds,
        "samples": found.samples,
        **rates,
    }


def _finite(bound: float) -> float | None:
    return bound if abs(bound) != float("inf") else None

"""References inside a card, from one of its parts to another."""

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from method_cards.card.part import Loc
from method_cards.card.verification import Source
from method_cards.errors import did_you_mean

if TYPE_CHECKING:
    from method_cards.card.card import Card
    from method_cards.card.prescription import Prescription


def prescription_id(card: "Card", prescription: "Prescription") -> str:
    """The full id of a prescription: ``card/slug``."""
    return f"{card.id}/{prescription.id}"


def cited(part: BaseModel) -> Iterator[tuple[Loc, str]]:
    """Every place of a card where a work is cited, and the key of the work."""
    for name, value in part:
        if isinstance(value, BaseModel):
            items: list[tuple[Loc, Any]] = [((name,), value)]
        elif isinstance(value, tuple):
            items = [((name, number), item) for number, item in enumerate(value) if isinstance(item, BaseModel)]
        else:
            continue
        for loc, item in items:
            yield from (((*loc, *inner), ref) for inner, ref in cited(item))
    if isinstance(part, Source) and part.ref is not None:
        yield ("ref",), part.ref


def repeated(card: "Card") -> Iterator[tuple[Loc, str]]:
    """Two prescriptions, failure modes or works under one name."""
    lists: tuple[tuple[str, str, list[str]], ...] = (
        ("prescriptions", "id", [item.id for item in card.prescriptions]),
        ("failure_modes", "id", [item.id for item in card.failure_modes]),
        ("evidence", "ref", [item.ref for item in card.evidence]),
    )
    for section, key, names in lists:
        for number, name in enumerate(names):
            if name in names[:number]:
                yield (
                    (section, number, key),
                    f'"{name}" is taken by item {names.index(name)} of {section}: names are unique',
                )


def _missing(loc: Loc, name: str, known: list[str], what: str) -> Iterator[tuple[Loc, str]]:
    if name not in known:
        yield loc, f'no {what} of this card is called "{name}".{did_you_mean(name, known)}'


def unknown(card: "Card") -> Iterator[tuple[Loc, str]]:
    """References to prescriptions that the card does not have."""
    slugs = [prescription.id for prescription in card.prescriptions]
    for number, failure_mode in enumerate(card.failure_modes):
        for item, slug in enumerate(failure_mode.detected_by):
            yield from _missing(("failure_modes", number, "detected_by", item), slug, slugs, "prescription")
    for number, diagnostic in enumerate(card.diagnostics):
        if diagnostic.prescription is not None:
            yield from _missing(("diagnostics", number, "prescription"), diagnostic.prescription, slugs, "prescription")
    if card.data_guidance is not None:
        for item, slug in enumerate(card.data_guidance.prescriptions):
            yield from _missing(("data_guidance", "prescriptions", item), slug, slugs, "prescription")


def unknown_in_prescriptions(card: "Card") -> Iterator[tuple[Loc, str]]:
    """References from prescriptions to failure modes and prescriptions that the card does not have."""
    slugs = [prescription.id for prescription in card.prescriptions]
    modes = [failure_mode.id for failure_mode in card.failure_modes]
    for number, prescription in enumerate(card.prescriptions):
        place: Loc = ("prescriptions", number)
        if prescription.failure_mode is not None:
            yield from _missing((*place, "failure_mode"), prescription.failure_mode, modes, "failure mode")
        for relation in ("depends_on", "related_to", "contradicts"):
            for item, ref in enumerate(getattr(prescription, relation)):
                slug = ref.removeprefix(f"{card.id}/")
                if slug == prescription.id:
                    yield (*place, relation, item), f'"{slug}" is this prescription itself'
                elif "/" not in slug:
                    yield from _missing((*place, relation, item), slug, slugs, "prescription")


def uncited(card: "Card") -> Iterator[tuple[Loc, str]]:
    """Works that are cited but do not stand in the card's bibliography."""
    known = [entry.ref for entry in card.evidence]
    for loc, ref in cited(card):
        if ref not in known:
            yield loc, f'"{ref}" does not stand in this card\'s evidence: add it there.{did_you_mean(ref, known)}'


def circular(card: "Card") -> list[tuple[Loc, str]]:
    """Prescriptions that depend on each other in a circle."""
    graph = {item.id: [ref.removeprefix(f"{card.id}/") for ref in item.depends_on] for item in card.prescriptions}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        number = [item.id for item in card.prescriptions].index(circle[0])
        return [(("prescriptions", number, "depends_on"), f"goes round in a circle: {' → '.join(reversed(circle))}")]
    return []

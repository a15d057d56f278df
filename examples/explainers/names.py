"""What models, methods and prescriptions are called on pages: each as its own source has it."""

from __future__ import annotations

from functools import cache

from method_cards.card import Prescription
from method_cards.catalog import Catalog
from method_cards.registry import Registry
from method_cards.render.interval import of
from method_cards.render.summary import check_title
from method_checks.attribution.explainers import METHODS

MODELS = {
    "cnn": "A CNN on digits",
    "residual": "A residual CNN with batch norm, on enlarged digits",
    "words": "A text classifier with token embeddings",
    "table": "A network for a table",
}


def explainer(method: str) -> str:
    """An explanation method."""
    return METHODS[method].title


def model(name: str) -> str:
    """A model within a sentence."""
    return MODELS[name].replace("A ", "a ", 1)


def check(name: str) -> str:
    """A check."""
    return check_title(Registry.installed().get(name).load())


def quantity(measurement: str) -> str:
    """A measured quantity."""
    return of(measurement)


@cache
def prescriptions() -> dict[str, Prescription]:
    """Every prescription, by ``card/slug``."""
    cards = [loaded.card for loaded in Catalog.installed()]
    return {f"{card.id}/{item.id}": item for card in cards for item in card.prescriptions}


def heading(prescription: str) -> str:
    """A prescription."""
    return prescriptions()[prescription].heading


def place(prescription: str) -> str:
    """Where a prescription stands on the site, from its root."""
    card, _, slug = prescription.partition("/")
    return f"cards/{card}.html#{slug}"

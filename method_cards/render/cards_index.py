"""The list of all cards, by family, with what a reader may choose them by."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from method_cards.errors import InputError
from method_cards.render import words
from method_cards.render.page import Links, heading, render
from method_cards.render.results import GRAVITY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from method_cards.card import CheckBinding
    from method_cards.catalog import LoadedCard
    from method_cards.render.source import Source
    from method_cards.verdict import Outcome

SECONDS = 60
"""What runs in less "runs in seconds"."""

MOST = 150
"""With more cards than this, or more results of subjects on them, each card is a name under its gravest verdict."""

HEAVY = 72_000
"""From so many bytes on, each family has a page of its own: with a theme around it, a page then stays below 100 kB."""

FILTERS = ("Family", "Task", "Modality", "Verdict", "Training data", "Time")
"""What cards may be chosen by, in the order of the page."""


@dataclass(frozen=True)
class Row:
    """One card of the list.

    Attributes:
        loaded: The card.
        traits: What it may be chosen by: pairs of a filter and one of its values.
        cost: How long its checks take, and how that is known; empty where it is not.
        needs_training_data: Whether the card or one of its checks reads the data that the model was trained on.
        gravest: Its gravest verdict on any subject; None before it was run.
    """

    loaded: LoadedCard
    traits: frozenset[tuple[str, str]]
    cost: str
    needs_training_data: bool
    gravest: Outcome | None


@dataclass(frozen=True)
class Family:
    """The cards of one family, with the traits that all of them share."""

    name: str
    rows: tuple[Row, ...]

    @property
    def traits(self) -> frozenset[tuple[str, str]]:
        """What all of them have in common: it is written once."""
        return frozenset.intersection(*(row.traits for row in self.rows))

    @property
    def verdicts(self) -> list[Outcome]:
        """The gravest verdict of each card that was run."""
        return [row.gravest for row in self.rows if row.gravest is not None]

    @property
    def by_verdict(self) -> list[tuple[Outcome | None, Family]]:
        """Its cards by their gravest verdict, which is written once then; what was not run comes last."""
        parted = [(outcome, tuple(row for row in self.rows if row.gravest is outcome)) for outcome in (*GRAVITY, None)]
        return [(outcome, Family(self.name, rows)) for outcome, rows in parted if rows]


def cards_index(source: Source) -> dict[str, str]:
    """The pages as Markdown, by path: one with all cards, or one that leads to a page for each family."""
    families = [
        Family(name, tuple(_row(loaded, source) for loaded in items))
        for name, items in groupby(source.cards, key=lambda loaded: loaded.family)
    ]
    page = _page("cards/index.md", families, source)
    if len(page.encode()) < HEAVY:
        return {"cards/index.md": page}
    return {
        "cards/index.md": _page("cards/index.md", families, source, is_apart=True),
        **{path(one): _page(path(one), [one], source) for one in families},
    }


def path(family: Family) -> str:
    """The page of a family, where it has one."""
    return f"cards/families/{family.name}.md"


def _page(where: str, families: list[Family], source: Source, *, is_apart: bool = False) -> str:
    traits = sorted({trait for family in families for row in family.rows for trait in row.traits}, key=_order)
    number = {trait: str(position) for position, trait in enumerate(traits)}

    def numbers(chosen: Iterable[tuple[str, str]]) -> str:
        return " ".join(sorted((number[trait] for trait in chosen), key=int))

    cards = [row.loaded.card for family in families for row in family.rows]
    return render(
        "cards.md.jinja",
        families=families,
        filters=[
            (name, [(number[trait], trait[1]) for trait in traits if trait[0] == name])
            for name in FILTERS
            if sum(trait[0] == name for trait in traits) > 1 or name == "Time"
        ],
        numbers=numbers,
        total=len(cards),
        is_long=len(cards) + sum(bool(view.of_card(card.id)) for view in source.views for card in cards) > MOST,
        is_apart=is_apart,
        path=path,
        views=source.views,
        seconds=SECONDS,
        links=Links(where, directory_urls=source.directory_urls),
    )


def _order(trait: tuple[str, str]) -> tuple[int, int, str]:
    name, value = trait
    grave = [words.word(outcome) for outcome in GRAVITY]
    return FILTERS.index(name), grave.index(value) if value in grave else len(grave), value.lower()


def _row(loaded: LoadedCard, source: Source) -> Row:
    card = loaded.card
    outcomes = {judged.verdict.outcome for view in source.views for judged in view.of_card(card.id)}
    seconds, how = _seconds(loaded, source)
    needs = card.requirements.data_needs.train_data or any(
        "train" in _splits(item.check, source) for item in card.prescriptions if item.check is not None
    )
    traits = [("Family", heading(loaded.family))]
    traits += [("Task", task) for task in card.overview.tasks]
    traits += [("Modality", modality) for modality in card.overview.modalities]
    traits += [("Verdict", words.word(outcome)) for outcome in outcomes] or [("Verdict", "not run")]
    traits += [("Training data", "needed" if needs else "not needed")]
    traits += [("Time", "seconds")] if seconds is not None and seconds < SECONDS else []
    cost = f"{how} {words.duration(seconds)}" if seconds is not None else ""
    gravest = next((outcome for outcome in GRAVITY if outcome in outcomes), None)
    return Row(loaded, frozenset(traits), cost, needs, gravest)


def _seconds(loaded: LoadedCard, source: Source) -> tuple[float | None, str]:
    """How long the checks of a card took on the subject where they took longest; else what the card says."""
    took = [sum(_executions(loaded, source, position).values()) for position in range(len(source.views))]
    if any(took):
        return max(took), "ran in"
    stated = loaded.card.requirements.compute
    return (None, "") if stated is None or stated.seconds is None else (stated.seconds, "takes about")


def _executions(loaded: LoadedCard, source: Source, position: int) -> dict[tuple[str, int], float]:
    """The seconds of each execution that a verdict of the card rests on; several may rest on one."""
    return {
        (judged.record.id, judged.verdict.execution or 0): judged.execution.seconds
        for judged in source.views[position].of_card(loaded.card.id)
        if judged.execution is not None
    }


def _splits(binding: CheckBinding, source: Source) -> tuple[str, ...]:
    """Which splits a check reads with these parameters; none where it cannot be loaded, which its own page says."""
    try:
        return source.registry.get(binding.id).made(binding.parameters).splits()
    except (InputError, ValueError):
        return ()

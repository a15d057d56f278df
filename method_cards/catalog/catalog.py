"""All cards that can be found, each with its place on disk."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from method_cards import display, document
from method_cards.card import Card
from method_cards.catalog.bibliography import FILE as BIBLIOGRAPHY
from method_cards.catalog.bibliography import Reference, read_bibliography
from method_cards.catalog.folders import CardFolder, card_folders
from method_cards.errors import DocumentError, InputError, Problem, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from method_cards.card import Prescription
    from method_cards.document import Document

FILE = "card.yaml"


@dataclass(frozen=True)
class LoadedCard:
    """A card and where it was found.

    Attributes:
        card: The card.
        document: Its file, for problems with their place.
        folder: Its folder, with its figures.
        family: The folder of its family, such as ``attribution``.
        origin: The installed package or the folder that it came from.
        references: The works that it rests on, by key, in the order of its ``evidence``.
        homes: The cards whose checks its prescriptions take over, by slug.
    """

    card: Card
    document: Document = field(repr=False)
    folder: Path
    family: str
    origin: str
    references: Mapping[str, Reference] = field(repr=False)
    homes: Mapping[str, LoadedCard] = field(default_factory=dict, repr=False)

    _repr_mimebundle_ = display.mimebundle

    def home(self, prescription: Prescription) -> tuple[LoadedCard, str]:
        """The card, and the slug in it, at which the criteria and error rates of a prescription stand."""
        if prescription.checked_as is None:
            return self, prescription.id
        return self.homes[prescription.id], prescription.checked_as.partition("/")[2]


@dataclass(frozen=True)
class Catalog:
    """Cards by id, in the order of families and ids.

    Attributes:
        cards: The cards.
        references: Every work in a bibliography beside the cards, by key, whether a card rests on it or not.
    """

    cards: Mapping[str, LoadedCard]
    references: Mapping[str, Reference] = field(default_factory=dict, repr=False)

    @classmethod
    def installed(cls, extra: Iterable[Path | str] = ()) -> Catalog:
        """The bundled cards, those of installed packages, and a person's own.

        Raises:
            InputError: An installed package is broken, or a card is (`DocumentError`).
        """
        return cls.load(card_folders(extra))

    @classmethod
    def load(cls, folders: Iterable[CardFolder | Path | str]) -> Catalog:
        """Read all cards of some folders.

        Raises:
            DocumentError: A folder has no card, a card is wrong, does not fit its folder, or has the id of another one;
                every problem of every card is listed.
        """
        loading = _Loading()
        for folder in folders:
            loading.add(folder if isinstance(folder, CardFolder) else CardFolder(Path(folder), str(folder)))
        catalog = cls(
            {item.card.id: item for item in sorted(loading.cards, key=lambda item: (item.family, item.card.id))},
            loading.references,
        )
        if not loading.problems:  # else a card may seem to be missing because it is broken
            loading.problems += catalog.dangling()
        if loading.problems:
            raise DocumentError(sorted(loading.problems, key=lambda found: (str(found.path), found.line, found.column)))
        return replace(catalog, cards={card: catalog.resolved(item) for card, item in catalog.cards.items()})

    def __contains__(self, card: object) -> bool:
        return card in self.cards

    def __iter__(self) -> Iterator[LoadedCard]:
        return iter(self.cards.values())

    def __len__(self) -> int:
        return len(self.cards)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all cards."""
        return tuple(self.cards)

    def get(self, card: str) -> LoadedCard:
        """A card by its id.

        Raises:
            InputError: There is no such card.
        """
        if card not in self.cards:
            raise InputError(f'no card is called "{card}".{did_you_mean(card, self.cards)}')
        return self.cards[card]

    def resolved(self, loaded: LoadedCard) -> LoadedCard:
        """The card with the checks that its prescriptions take over from other cards."""
        homes: dict[str, LoadedCard] = {}
        prescriptions = []
        for item in loaded.card.prescriptions:
            home, slug = self._named(item.checked_as)
            if home is not None:
                homes[item.id] = home
                taken = next(part.check for part in home.card.prescriptions if part.id == slug)
                prescriptions.append(item.model_copy(update={"check": taken}))
            else:
                prescriptions.append(item)
        if not homes:
            return loaded
        references = {key: work for home in homes.values() for key, work in home.references.items()}
        card = loaded.card.model_copy(update={"prescriptions": tuple(prescriptions)})
        return replace(loaded, card=card, homes=homes, references={**references, **loaded.references})

    def _named(self, prescription: str | None) -> tuple[LoadedCard | None, str]:
        card, _, slug = (prescription or "").partition("/")
        return self.cards.get(card), slug

    def _untakable(self, loaded: LoadedCard) -> Iterator[Problem]:
        """What is wrong with the checks that a card's prescriptions want to take over."""
        checked = {f"{item.card.id}/{part.id}": part for item in self for part in item.card.prescriptions if part.check}
        for number, prescription in enumerate(loaded.card.prescriptions):
            wanted = prescription.checked_as
            if wanted is not None and wanted not in checked:
                message = (
                    f'no prescription with a check of its own is called "{wanted}".{did_you_mean(wanted, checked)}'
                )
                yield loaded.document.problem(("prescriptions", number, "checked_as"), message)

    def dangling(self) -> list[Problem]:
        """References from cards to cards and prescriptions that do not exist."""
        prescriptions = {f"{item.card.id}/{part.id}" for item in self for part in item.card.prescriptions}
        found: list[Problem] = []
        for item in self:
            found += self._untakable(item)
            for number, related in enumerate(item.card.related_cards):
                if related.id not in self:
                    message = f'no card is called "{related.id}".{did_you_mean(related.id, self.cards)}'
                    found.append(item.document.problem(("related_cards", number, "id"), message))
            for number, prescription in enumerate(item.card.prescriptions):
                for relation in ("depends_on", "related_to", "contradicts"):
                    for index, ref in enumerate(getattr(prescription, relation)):
                        if "/" in ref and ref not in prescriptions:
                            message = f'no prescription is called "{ref}".{did_you_mean(ref, prescriptions)}'
                            found.append(item.document.problem(("prescriptions", number, relation, index), message))
        return found


class _Loading:
    """Cards and problems, gathered folder by folder."""

    def __init__(self) -> None:
        self.cards: list[LoadedCard] = []
        self.references: dict[str, Reference] = {}
        self.problems: list[Problem] = []
        self._roots: set[Path] = set()
        self._by_id: dict[str, Path] = {}

    def add(self, folder: CardFolder) -> None:
        """Read the cards of one folder; a folder that was read already is passed over."""
        root = folder.path.resolve()
        if root in self._roots:
            return
        self._roots.add(root)
        if not folder.path.is_dir():
            self._refuse(folder.path, "there is no such folder")
            return
        files = sorted(path for path in folder.path.rglob("card.y*ml") if not _hidden(path, folder.path))
        if not files:
            self._refuse(folder.path, f"holds no card: put one into <family>/<card>/{FILE}, or leave the folder out")
            return
        references = self._bibliography(folder.path / BIBLIOGRAPHY)
        self.references |= references or {}
        for path in files:
            self._card(path, folder, references)

    def _bibliography(self, path: Path) -> dict[str, Reference] | None:
        """The works of a folder; None where they could not be read."""
        if not path.exists():
            return {}
        try:
            return read_bibliography(path)
        except DocumentError as error:
            self.problems += error.problems
            return None

    def _card(self, path: Path, folder: CardFolder, references: Mapping[str, Reference] | None) -> None:
        parts = path.relative_to(folder.path).parts
        if path.name != FILE:
            self._refuse(path, f"is called {path.name}: call it {FILE}")
            return
        if len(parts) != 3:  # noqa: PLR2004  (family, card, file)
            self._refuse(path, f"stands in the wrong place: a card is <family>/<card>/{FILE} inside {folder.path}")
            return
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder.path)):  # of a loop, too
            self._refuse(path, f"leads out of {folder.path}: put the file itself there")
            return
        try:
            source = document.load(path)
            card = source.validate(Card)
        except DocumentError as error:
            self.problems += error.problems
            return
        found = [*self._misplaced(card, source), *_uncited(card, source, folder, references)]
        self.problems += found
        if not found:
            own = {entry.ref: references[entry.ref] for entry in card.evidence} if references is not None else {}
            self.cards.append(LoadedCard(card, source, path.parent, parts[0], folder.origin, own))

    def _misplaced(self, card: Card, source: Document) -> Iterator[Problem]:
        folder = source.path.parent
        if card.id != folder.name:
            yield source.problem(("id",), f'"{card.id}" stands in the folder "{folder.name}": give both the same name')
        if other := self._by_id.get(card.id):
            yield source.problem(("id",), f'"{card.id}" is also the id of {other}: ids are unique')
        self._by_id.setdefault(card.id, source.path)
        for number, example in enumerate(card.examples):
            link = example.notebook
            if link is not None and "://" not in link and not (folder / link).is_file():
                yield source.problem(("examples", number, "notebook"), f"there is no file {link} in {folder}")

    def _refuse(self, path: Path, message: str) -> None:
        self.problems.append(Problem(path, 1, 1, "", message))


def _uncited(
    card: Card, source: Document, folder: CardFolder, references: Mapping[str, Reference] | None
) -> Iterator[Problem]:
    """Works of a card's evidence that the bibliography of its folder does not have."""
    if references is None:
        return
    for number, entry in enumerate(card.evidence):
        if entry.ref not in references:
            message = f'{folder.path / BIBLIOGRAPHY} has no entry "{entry.ref}".{did_you_mean(entry.ref, references)}'
            yield source.problem(("evidence", number, "ref"), message)


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)

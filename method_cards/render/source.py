"""What pages are made from: cards, checks, and the newest record of each subject."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from method_cards import calibration, record
from method_cards.catalog import Catalog
from method_cards.errors import InputError
from method_cards.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from method_cards.calibration import Calibration, Calibrations
    from method_cards.card import CheckBinding
    from method_cards.catalog import LoadedCard, Reference
    from method_cards.check import Check
    from method_cards.record import Execution, Record
    from method_cards.verdict import Verdict


@dataclass(frozen=True)
class Source:
    """Everything that pages show.

    Attributes:
        catalog: The cards.
        registry: The checks.
        records: The newest record of each subject, with the folder that holds its pictures.
        cache: The folder that keeps drawings; None to draw each time.
        directory_urls: Whether the site generator serves ``cards/x.md`` as ``cards/x/`` rather than as ``cards/x.html``.
    """

    catalog: Catalog
    registry: Registry
    records: Sequence[tuple[Record, Path]] = ()
    cache: Path | None = None
    directory_urls: bool = False
    _calibrations: dict[str, Calibrations] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def cards(self) -> tuple[LoadedCard, ...]:
        """All cards, by family and title."""
        return tuple(sorted(self.catalog, key=lambda loaded: (loaded.family, loaded.card.title.lower())))

    @cached_property
    def _verdicts(self) -> dict[str, list[Judged]]:
        found: dict[str, list[Judged]] = {}
        for kept, folder in self.records:
            for verdict in kept.verdicts:
                found.setdefault(verdict.id, []).append(Judged(verdict, kept, folder))
        return found

    @cached_property
    def references(self) -> dict[str, Reference]:
        """All works that any card rests on, by key."""
        return {key: reference for loaded in self.cards for key, reference in loaded.references.items()}

    def verdicts(self, prescription: str) -> list[Judged]:
        """What was decided about ``card/prescription``, for each subject."""
        return self._verdicts.get(prescription, [])

    def check(self, check: str) -> type[Check] | str:
        """The class of a check, or why it cannot be had."""
        try:
            return self.registry.get(check).load()
        except InputError as error:
            return str(error)

    def calibration(self, loaded: LoadedCard, slug: str) -> Rates:
        """How often the check of a prescription is right, and whether that was measured for its present criteria."""
        if loaded.card.id not in self._calibrations:
            self._calibrations[loaded.card.id] = calibration.read(loaded.folder)
        found = self._calibrations[loaded.card.id].prescriptions.get(slug)
        binding = next((item.check for item in loaded.card.prescriptions if item.id == slug), None)
        if found is None or binding is None:
            return Rates(found, current=False)
        check = self.check(binding.id)
        version = "" if isinstance(check, str) else check.version
        return Rates(found, current=found.is_current(version, digest(binding)))

    def users(self, check: str) -> Iterator[tuple[LoadedCard, str, CheckBinding]]:
        """The prescriptions that a check verifies: their card, slug and binding."""
        for loaded in self.cards:
            for prescription in loaded.card.prescriptions:
                if prescription.check is not None and prescription.check.id == check:
                    yield loaded, prescription.id, prescription.check


@dataclass(frozen=True)
class Judged:
    """A verdict with the record that it stands in."""

    verdict: Verdict
    record: Record
    folder: Path

    @property
    def execution(self) -> Execution | None:
        """What was measured for it."""
        number = self.verdict.execution
        return self.record.executions[number] if number is not None and number < len(self.record.executions) else None


@dataclass(frozen=True)
class Rates:
    """The error rates of a prescription's check.

    Attributes:
        found: What was measured; None when nothing was.
        current: Whether it was measured for the criteria and the version of the check as they are now.
    """

    found: Calibration | None
    current: bool


def digest(binding: CheckBinding) -> str:
    """The digest that ties error rates to a check's parameters and criteria."""
    return calibration.digest_of(
        binding.parameters,
        [criterion.model_dump(mode="json") for criterion in binding.criteria],
        [criterion.model_dump(mode="json") for criterion in binding.valid_if],
    )


def source_from(
    cards: Sequence[Path] = (),
    records: Path | None = None,
    *,
    catalog: Catalog | None = None,
    registry: Registry | None = None,
    cache: Path | None = None,
    directory_urls: bool = False,
) -> Source:
    """Gather what pages show from folders.

    Args:
        cards: Folders of cards besides those of installed packages.
        records: The folder that runs are kept in; None for pages without results.
        catalog: The cards, where they were read already.
        registry: The checks, where they were found already.
        cache: The folder that keeps drawings.
        directory_urls: Whether the site generator serves ``cards/x.md`` as ``cards/x/``.

    Raises:
        InputError: A card or a record is wrong.
    """
    newest = record.latest(records) if records is not None and records.is_dir() else {}
    return Source(
        catalog=Catalog.installed(cards) if catalog is None else catalog,
        registry=Registry.installed() if registry is None else registry,
        records=tuple((record.read(path), path.parent) for path in newest.values()),
        cache=cache,
        directory_urls=directory_urls,
    )

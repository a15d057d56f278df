"""What pages are made from: cards, checks, and the newest record of each subject."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from method_cards import calibration, control_runs, record
from method_cards.catalog import Catalog
from method_cards.errors import InputError
from method_cards.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from method_cards.calibration import Calibration, Calibrations
    from method_cards.card import CheckBinding
    from method_cards.catalog import LoadedCard
    from method_cards.check import Check
    from method_cards.control_runs import KeptRuns
    from method_cards.record import Execution, Record
    from method_cards.verdict import Outcome, Verdict


MOST_CELLS = 80
"""So many results are named on a card's page: a line of its table for each prescription, a column for each subject."""


@dataclass(frozen=True)
class Source:
    """Everything that pages show.

    Attributes:
        catalog: The cards.
        registry: The checks.
        records: Records, several for a subject perhaps, each with the folder that holds its pictures.
        cache: The folder that keeps drawings; None to draw each time.
        directory_urls: Whether the site generator serves ``cards/x.md`` as ``cards/x/`` rather than as ``cards/x.html``.
        written: Pages that people wrote and generated ones may link to, by path.
    """

    catalog: Catalog
    registry: Registry
    records: Sequence[tuple[Record, Path]] = ()
    cache: Path | None = None
    directory_urls: bool = False
    written: frozenset[str] = frozenset()
    _calibrations: dict[str, Calibrations] = field(default_factory=dict, init=False, repr=False, compare=False)
    _checks: dict[str, type[Check] | str] = field(default_factory=dict, init=False, repr=False, compare=False)
    _control_runs: dict[str, KeptRuns] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def cards(self) -> tuple[LoadedCard, ...]:
        """All cards, by family and title."""
        return tuple(sorted(self.catalog, key=lambda loaded: (loaded.family, loaded.card.title.lower())))

    @cached_property
    def views(self) -> tuple[View, ...]:
        """Each subject with what was decided about it, by name."""
        runs: dict[str, list[tuple[Record, Path]]] = {}
        oldest_first = sorted(self.records, key=lambda pair: pair[0].started)  # of one moment: as they are read
        for kept, folder in reversed(oldest_first):
            runs.setdefault(kept.subject.id, []).append((kept, folder))
        return tuple(self._view(runs[subject]) for subject in sorted(runs))

    def _view(self, runs: Sequence[tuple[Record, Path]]) -> View:
        newest = runs[0][0]
        found: dict[str, Judged] = {}
        for kept, folder in runs:
            if kept.subject.parameters_sha256 != newest.subject.parameters_sha256:
                break  # another model: what was decided about it says nothing about this one
            for verdict in kept.verdicts:
                judged = Judged(
                    verdict,
                    kept,
                    folder,
                    is_earlier=kept is not newest,
                    is_current=self.is_current(verdict.card, kept),
                )
                found.setdefault(verdict.id, judged)
        order = self._order
        decided = sorted(found.values(), key=lambda item: order.get(item.verdict.id, len(order)))
        return View(newest, tuple(decided), tuple(kept for kept, _ in reversed(runs)))

    @cached_property
    def _order(self) -> dict[str, int]:
        """Where each prescription stands among all."""
        names = (f"{loaded.card.id}/{item.id}" for loaded in self.cards for item in loaded.card.prescriptions)
        return {name: number for number, name in enumerate(names)}

    def is_current(self, card: str, kept: Record) -> bool:
        """Whether a card is still as it was when a run applied it."""
        return card in self.catalog and kept.cards.get(card) == self.catalog.get(card).document.sha256

    def place(self, verdict: Verdict, subject: str) -> tuple[str, str]:
        """The page, and the place on it, that names a result: the card's, or that of the card's results on one subject."""
        page = f"cards/{verdict.card}/on-{subject}.md" if verdict.card in self.crowded else f"cards/{verdict.card}.md"
        return page, f"{verdict.prescription}--{subject}"

    @cached_property
    def crowded(self) -> frozenset[str]:
        """Cards with more results than their page can name."""
        cells = {
            loaded.card.id: len(loaded.card.prescriptions)
            * sum(bool(view.of_card(loaded.card.id)) for view in self.views)
            for loaded in self.cards
        }
        return frozenset(card for card, number in cells.items() if number > MOST_CELLS)

    def called(self, verdict: Verdict) -> str:
        """What the prescription of a verdict is called; the words of its id where the card has it no longer."""
        words = verdict.prescription.replace("-", " ").capitalize()
        return self._headings.get(verdict.id, words)

    @cached_property
    def _headings(self) -> dict[str, str]:
        return {
            f"{loaded.card.id}/{item.id}": item.heading for loaded in self.cards for item in loaded.card.prescriptions
        }

    def check(self, check: str) -> type[Check] | str:
        """The class of a check, or why it cannot be had."""
        if check not in self._checks:
            try:
                found = self.registry.get(check).load()
                found.model_json_schema()
                self._checks[check] = found
            except InputError as error:
                self._checks[check] = str(error)
            except Exception as error:  # noqa: BLE001  (what another package's check does costs its own page and no other)
                self._checks[check] = (
                    f"{self.registry.get(check)}: its parameters cannot be described: {type(error).__name__}: {error}"
                )
        return self._checks[check]

    def calibration(self, loaded: LoadedCard, slug: str) -> Rates:
        """How often the check of a prescription is right, and whether that was measured for its present criteria."""
        prescription = next(item for item in loaded.card.prescriptions if item.id == slug)
        home, its_slug = loaded.home(prescription)
        if home.card.id not in self._calibrations:
            self._calibrations[home.card.id] = calibration.read(home.folder)
        found = self._calibrations[home.card.id].prescriptions.get(its_slug)
        binding = prescription.check
        if found is None or binding is None:
            return Rates(found, current=False)
        check = self.check(binding.id)
        version = "" if isinstance(check, str) else check.version
        return Rates(found, current=found.is_current(version, calibration.digest(binding)))

    def control_runs(self, loaded: LoadedCard) -> KeptRuns:
        """One run of each control of a card's checks."""
        if loaded.card.id not in self._control_runs:
            self._control_runs[loaded.card.id] = control_runs.read(loaded.folder)
        return self._control_runs[loaded.card.id]

    def users(self, check: str) -> Iterator[tuple[LoadedCard, str, CheckBinding]]:
        """The prescriptions that a check verifies: their card, slug and binding."""
        yield from self._users.get(check, ())

    @cached_property
    def _users(self) -> dict[str, list[tuple[LoadedCard, str, CheckBinding]]]:
        found: dict[str, list[tuple[LoadedCard, str, CheckBinding]]] = {}
        for loaded in self.cards:
            for prescription in loaded.card.prescriptions:
                if prescription.check is not None:
                    found.setdefault(prescription.check.id, []).append((loaded, prescription.id, prescription.check))
        return found


@dataclass(frozen=True)
class View:
    """A subject as pages show it.

    Attributes:
        record: Its newest run.
        judged: For each prescription the newest verdict on the model as it is now; a run of one card hides no other card.
        runs: All its runs, those on other models included, from the oldest to the newest.
    """

    record: Record
    judged: tuple[Judged, ...]
    runs: tuple[Record, ...] = ()

    @property
    def name(self) -> str:
        """For people."""
        return self.record.subject.title or self.record.subject.id

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """What was decided."""
        return tuple(item.verdict.outcome for item in self.judged)

    def of_card(self, card: str) -> tuple[Judged, ...]:
        """The verdicts on the prescriptions of one card."""
        return self._by_card.get(card, ())

    @cached_property
    def _by_card(self) -> dict[str, tuple[Judged, ...]]:
        found: dict[str, list[Judged]] = {}
        for item in self.judged:
            found.setdefault(item.verdict.card, []).append(item)
        return {card: tuple(items) for card, items in found.items()}


@dataclass(frozen=True)
class Judged:
    """A verdict with the record that it stands in.

    Attributes:
        verdict: What was decided.
        record: The run that decided it.
        folder: The folder of the record, with its pictures.
        is_earlier: Whether a newer run of the same model decided other prescriptions only.
        is_current: Whether the card is still as it was then.
    """

    verdict: Verdict
    record: Record
    folder: Path
    is_earlier: bool = False
    is_current: bool = True

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


def source_from(
    cards: Sequence[Path] = (),
    records: Path | None = None,
    *,
    catalog: Catalog | None = None,
    registry: Registry | None = None,
    cache: Path | None = None,
    directory_urls: bool = False,
    written: frozenset[str] = frozenset(),
    told: Callable[[Record], Record] = lambda kept: kept,
) -> Source:
    """Gather what pages show from folders.

    Args:
        cards: Folders of cards besides those of installed packages.
        records: The folder that runs are kept in; None for pages without results.
        catalog: The cards, where they were read already.
        registry: The checks, where they were found already.
        cache: The folder that keeps drawings.
        directory_urls: Whether the site generator serves ``cards/x.md`` as ``cards/x/``.
        written: Pages that people wrote, which generated ones may link to.
        told: Adds to a record the answers and waivers that people wrote since its run.

    Raises:
        InputError: A card or a record is wrong.
    """
    kept = record.find(records) if records is not None and records.is_dir() else []
    return Source(
        catalog=Catalog.installed(cards) if catalog is None else catalog,
        registry=Registry.installed() if registry is None else registry,
        records=tuple((told(record.read(path)), path.parent) for path in _recent(kept)),
        cache=cache,
        directory_urls=directory_urls,
        written=written,
    )


RUNS = 20
"""How many of a subject's runs are looked at: enough for one run of each card."""


def _recent(paths: Sequence[Path]) -> Iterator[Path]:
    """The newest runs of each subject; paths are `<subject>/<run>/record.json`, oldest first."""
    for _, runs in groupby(paths, key=lambda path: path.parts[-3]):
        yield from list(runs)[-RUNS:]

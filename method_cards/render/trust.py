"""How far a check can be trusted, prescription by prescription: its error rates, what each run found, and controls side by side."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from markupsafe import Markup

from method_cards import calibration, control_runs
from method_cards.errors import InputError
from method_cards.judge import bounds, number
from method_cards.render import interval, rate_drawings, words
from method_cards.render.pictures import sheet
from method_cards.render.rate_drawings import Scale
from method_cards.render.separation import rocs, strips, unknown
from method_cards.verdict import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from method_cards.calibration import ControlRates
    from method_cards.card import CheckBinding
    from method_cards.catalog import LoadedCard
    from method_cards.control_runs import ControlRun, KeptRuns
    from method_cards.render.pictures import Sheet
    from method_cards.render.source import Rates, Source
    from method_cards.verdict import CriterionResult, IntervalData

SIDES = {
    "sound": "A control that is sound",
    "defect": "A control that has the defect",
}


@dataclass(frozen=True)
class Column:
    """What one criterion found on every control, on one scale.

    Attributes:
        title: The quantity.
        bound: In words.
        cells: For each control a drawing of its runs, or the numbers of the one run that was kept.
        axis: The numbers of the scale; empty where nothing is drawn.
    """

    title: str
    bound: str
    cells: dict[str, Markup]
    axis: Markup


@dataclass(frozen=True)
class Side:
    """One control, run once, to be looked at.

    Attributes:
        title: What kind it is.
        run: What was found.
        drawings: Each criterion with its interval against its bound.
        sheets: The maps of a few examples.
    """

    title: str
    run: ControlRun
    drawings: tuple[tuple[CriterionResult, Markup], ...]
    sheets: tuple[Sheet, ...]


@dataclass(frozen=True)
class Trust:
    """A prescription that the check verifies, and how often it is right about it.

    Attributes:
        loaded: The card in which the criteria stand.
        slug: The prescription.
        binding: The check's parameters and the criteria.
        rates: The error rates.
        kept: The control runs of the card.
        version: The check's, as it is now.
        also: Prescriptions of other cards that take it over.
    """

    loaded: LoadedCard
    slug: str
    binding: CheckBinding
    rates: Rates
    kept: KeptRuns
    version: str
    also: tuple[tuple[LoadedCard, str], ...] = ()

    @property
    def name(self) -> str:
        """``card/prescription``."""
        return f"{self.loaded.card.id}/{self.slug}"

    @property
    def heading(self) -> str:
        """What the prescription is called."""
        return next(item.heading for item in self.loaded.card.prescriptions if item.id == self.slug)

    @property
    def anchor(self) -> str:
        """The place on the check's page."""
        return f"on-{self.loaded.card.id}--{self.slug}"

    @property
    def is_known(self) -> bool:
        """Whether its error rates are known for the criteria as they are now."""
        return self.rates.found is not None and self.rates.current

    @property
    def sentence(self) -> str:
        """What is known in words: how many of how many, or why nothing is."""
        found = self.rates.found
        if found is None:
            return words.NOT_CALIBRATED
        return words.rates(found) if self.rates.current else words.stale(found)

    @property
    def shortcoming(self) -> str:
        """In what the check falls short of what is promised; empty where it does not."""
        return words.shortcoming(self.rates.found) if self.rates.found is not None and self.rates.current else ""

    @property
    def seed(self) -> int:
        """The seed of the runs that are shown."""
        return self.kept.prescriptions[self.slug].seed

    @property
    def captions(self) -> tuple[str, ...]:
        """What to look for in the maps that are shown, each sentence once."""
        return tuple(dict.fromkeys(sheet.caption for side in self.sides for sheet in side.sheets))

    @property
    def has_signed_maps(self) -> bool:
        """Whether any map has positive and negative values."""
        return any(sheet.signed for side in self.sides for sheet in side.sheets)

    @cached_property
    def runs(self) -> dict[str, ControlRun]:
        """One run of each control, of the criteria as they are now."""
        found = self.kept.prescriptions.get(self.slug)
        if found is None or not found.is_current(self.version, calibration.digest(self.binding)):
            return {}
        return {run.control: run for run in found.controls}

    @property
    def are_runs_stale(self) -> bool:
        """Whether one run of each control was kept, but of other criteria or another version of the check."""
        return self.slug in self.kept.prescriptions and not self.runs

    @cached_property
    def controls(self) -> tuple[ControlRates, ...]:
        """Rates of each control: sound ones first."""
        order = ("sound", "defect", "confounded")
        found = self.rates.found.controls if self.rates.found is not None else ()
        return tuple(sorted(found, key=lambda row: order.index(row.kind)))

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """What each criterion found on the controls: every run where they were kept, else the one run."""
        found = self.rates.found
        if found is None or not self.rates.current:
            return ()
        return tuple(self._strips()) or tuple(self._single_runs())

    @property
    def leaves_out(self) -> bool:
        """Whether some of the runs left nothing but their verdict, while `columns` show others."""
        rows = self.rates.found.controls if self.rates.found is not None else ()
        return self.has_every_run and any(not row.estimates or unknown(row) for row in rows)

    @property
    def has_every_run(self) -> bool:
        """Whether `columns` show every run of which estimates were kept, not one run of each control."""
        found = self.rates.found
        return found is not None and any(row.estimates for row in found.controls)

    @cached_property
    def rocs(self) -> tuple[tuple[str, Markup], ...]:
        """ROC curves, each with what is to be seen."""
        if self.rates.found is None or not self.rates.current:
            return ()
        drawn = []
        for one in rocs(self.rates.found, self.binding):
            alarms, detected = one.at_bound
            name = interval.of(one.measurement)
            text = (
                f"As the bound on {name} moves: area under the curve {one.area:.3f}, from {one.defects} runs with the defect and "
                f"{one.sound} without it. At the bound of the card (the mark) it finds {detected:.0%} and fails {alarms:.0%} of sound ones."
            )
            drawn.append((text, rate_drawings.roc(one, text)))
        return tuple(drawn)

    @cached_property
    def sides(self) -> tuple[Side, ...]:
        """A sound control beside one with the defect, on one scale."""
        chosen = [run for run in (self._chosen("sound"), self._chosen("defect")) if run is not None]
        found = self.kept.prescriptions.get(self.slug)
        if len(chosen) < len(SIDES) or found is None:
            return ()
        results = _telling([found.results(run, self.binding)[0] for run in chosen])
        domains = [
            _union([result for result in pair if result.interval is not None]) for pair in zip(*results, strict=False)
        ]
        return tuple(
            Side(
                SIDES[run.kind],
                run,
                tuple((result, interval.draw(result, domain)) for result, domain in zip(of_run, domains, strict=False)),
                tuple(self._sheets(run)),
            )
            for run, of_run in zip(chosen, results, strict=True)
        )

    def _chosen(self, kind: str) -> ControlRun | None:
        """The first control of this kind that came out as it was meant to, with maps where any has some; else the first."""
        found = [run for run in self.runs.values() if run.kind == kind]
        good = [run for run in found if run.is_expected]
        return next((run for run in good if run.pictures), next(iter(good or found), None))

    def _sheets(self, run: ControlRun) -> Iterator[Sheet]:
        for key in run.pictures:
            if key in self.kept.pictures:
                try:
                    yield sheet(self.kept.pictures[key].pictures())
                except InputError as error:
                    path = self.loaded.folder / control_runs.FILE
                    raise InputError(f"{path}: {error}; run `method-cards calibrate --once` again") from error

    def _strips(self) -> Iterator[Column]:
        assert self.rates.found is not None
        for strip in strips(self.rates.found, self.binding):
            scale = Scale([value for row in strip.rows for value in row.values], *bounds(strip.criterion))
            bound = strip.criterion.bound_text()
            cells = {row.rates.control: _runs(row.values, scale, bound) for row in strip.rows if row.values}
            yield Column(words.quantity(strip.criterion), bound, cells, scale.axis())

    def _single_runs(self) -> Iterator[Column]:
        for place, criterion in enumerate(self.binding.criteria):
            found = {
                run.control: run.criteria[place].interval for run in self.runs.values() if place < len(run.criteria)
            }
            cells = {control: _in_short(item) for control, item in found.items() if item is not None}
            if cells:
                yield Column(words.quantity(criterion), criterion.bound_text(), cells, Markup())


def trusts(check: str, source: Source) -> tuple[Trust, ...]:
    """For each prescription whose criteria are decided by a check; those that take it over stand with the one that they take it from."""
    found: dict[tuple[str, str], Trust] = {}
    also: dict[tuple[str, str], list[tuple[LoadedCard, str]]] = {}
    kind = source.check(check)
    for loaded, slug, _ in source.users(check):
        prescription = next(item for item in loaded.card.prescriptions if item.id == slug)
        home, its_slug = loaded.home(prescription)
        key = (home.card.id, its_slug)
        if home.card.id != loaded.card.id:
            also.setdefault(key, []).append((loaded, slug))
            continue
        assert prescription.check is not None
        found[key] = Trust(
            loaded,
            slug,
            prescription.check,
            source.calibration(loaded, slug),
            source.control_runs(loaded),
            "" if isinstance(kind, str) else kind.version,
        )
    return tuple(replace(one, also=tuple(also.get(key, ()))) for key, one in found.items())


def _runs(values: Sequence[float], scale: Scale, bound: str) -> Markup:
    """A stroke for each run; a number where all runs found the same."""
    least, greatest = min(values), max(values)
    if least == greatest:
        return Markup("{} in {}").format(number(least), words.plural(len(values), "run"))
    found = f"{words.plural(len(values), 'run')}: {number(least)} to {number(greatest)}, bound {bound}"
    return scale.runs(values, found)


def _telling(results: list[tuple[CriterionResult, ...]]) -> list[tuple[CriterionResult, ...]]:
    """The criteria that the last of the controls violates, for all of them; all criteria where it violates none."""
    failed = [place for place, result in enumerate(results[-1]) if result.outcome is Outcome.FAILED]
    shown = failed or list(range(len(results[-1])))
    return [tuple(of_run[place] for place in shown if place < len(of_run)) for of_run in results]


def _in_short(item: IntervalData) -> Markup:
    ends = "" if item.method == "exact" else f" [{number(item.low)}, {number(item.high)}]"
    return Markup("{}{}").format(number(item.estimate), ends)


def _union(results: list[CriterionResult]) -> tuple[float, float] | None:
    """One scale for the same criterion on several controls."""
    ends = [interval.domain(result) for result in results]
    return (min(low for low, _ in ends), max(high for _, high in ends)) if ends else None

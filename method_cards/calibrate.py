"""Measure how often a prescription's check is right: run it on its controls, over many seeds, exactly as a run would."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

from method_cards import calibration, control_runs, judge
from method_cards.calibration import Calibration, Calibrations
from method_cards.card import CheckBinding, Prescription
from method_cards.catalog import LoadedCard
from method_cards.check import Check, Context, Control
from method_cards.document import compact_json, whole
from method_cards.errors import InputError
from method_cards.execution import Options, Silent, measure
from method_cards.lazy import torch
from method_cards.measurement import Measurements
from method_cards.plan import Bound, Step
from method_cards.registry import Entry, Registry
from method_cards.tally import EXPECTED, Calibrated, Ending, tally
from method_cards.verdict import Outcome

SEEDS = 60
"""At 60 runs without a false alarm, the 95 % upper limit of its rate is 0.06; at 60 detections, the lower limit is 0.94."""

Chosen: TypeAlias = tuple[LoadedCard, Prescription]
"""A card and one of its prescriptions that has a check."""


@dataclass(frozen=True)
class Trial:
    """One run of one check on one control.

    Attributes:
        entry: The check.
        bounds: The prescriptions that are decided, all of the same check with the same parameters.
        control: The name of the control.
        seed: The seed of the control and of the run.
        samples: How many examples are measured.
    """

    entry: Entry
    bounds: tuple[Bound, ...]
    control: str
    seed: int
    samples: int | None


Concerned: TypeAlias = Sequence[tuple[Control, tuple[Bound, ...]]]
"""Controls, each with the prescriptions whose criteria look for what it shows."""

Endings: TypeAlias = tuple[Trial, tuple[Ending, ...]]
"""A trial, and how it ended for each of its prescriptions."""


def alike(chosen: Sequence[Chosen], registry: Registry) -> list[list[Chosen]]:
    """Prescriptions that a run would decide from one measurement: of the same check, parameters and number of examples.

    A parameter that is given its default is the same as one that is not given.
    """
    found: dict[tuple[str, str, int | None], list[Chosen]] = {}
    for loaded, prescription in chosen:
        binding = _binding(prescription)
        parameters = registry.get(binding.id).made(binding.parameters).model_dump_json()
        found.setdefault((binding.id, parameters, binding.samples), []).append((loaded, prescription))
    return list(found.values())


def calibrate(
    chosen: Sequence[Chosen],
    registry: Registry,
    *,
    seeds: int = SEEDS,
    samples: int | None = None,
    jobs: int = 1,
    more: bool = False,
    advanced: Callable[[], None] = lambda: None,
) -> list[Calibrated]:
    """Measure the error rates of prescriptions that are decided from one measurement.

    Args:
        chosen: Cards and prescriptions, as `alike` puts them together.
        registry: Where the check is found.
        seeds: How many times each control is built and checked.
        samples: How many examples are measured; what the card asks for, or 512, where None.
        jobs: How many processes share the work, one thread each.
        more: Whether runs that are kept beside the card count, so that only seeds are run that are missing.
        advanced: Called after each trial.

    Returns:
        For each prescription, detection and false-alarm rates with 95 % intervals, overall and for each control; and the runs of
        the first seed, to be shown, where that was run.

    Raises:
        InputError: The check has no control with the defect that a prescription's criteria look for, or none without it.
    """
    binding = _binding(chosen[0][1])
    entry = registry.get(binding.id)
    check = entry.load()
    samples = samples or binding.samples or 512
    bounds = [Bound(loaded.card.id, prescription) for loaded, prescription in chosen]
    controls: Concerned = [
        (control, tuple(bound for bound in bounds if _concerns(control, _binding(bound.prescription))))
        for control in check.controls()
    ]
    _refuse_without_controls(bounds, controls, binding.id)
    before = [_before(item, check, samples) if more else None for item in chosen]
    missing = {
        (control.name, _name(bound)): _missing(control, earlier, seeds)
        for control, concerned in controls
        for bound, earlier in zip(bounds, before, strict=True)
        if bound in concerned
    }
    began = time.perf_counter()
    ended: list[Endings] = []
    with _workers(jobs) as run:
        for wave in ([0], range(1, max(seeds_of.stop for seeds_of in missing.values()))):
            # seed 0 tells which controls the check says something about
            units = [_trials(entry, controls, missing, seed, samples) for seed in wave]
            for endings in run([unit for unit in units if unit]):
                ended += endings
                for _ in endings:
                    advanced()
            silent = {
                trial.control for trial, found in ended if found[0].outcome is Outcome.NOT_APPLICABLE and not trial.seed
            }
            controls = [(control, concerned) for control, concerned in controls if control.name not in silent]
            _refuse_without_controls(bounds, controls, binding.id)
    seconds = round(time.perf_counter() - began, 1)
    return [
        tally(
            _name(bound),
            _binding(bound.prescription),
            check,
            [(control, _by_seed(control, bound, ended)) for control, concerned in controls if bound in concerned],
            samples=samples,
            seconds=seconds,
            before=earlier,
        )
        for bound, earlier in zip(bounds, before, strict=True)
    ]


def _trials(
    entry: Entry, controls: Concerned, missing: Mapping[tuple[str, str], range], seed: int, samples: int
) -> list[Trial]:
    """What is to be run with one seed: each control, for the prescriptions that it was not run for."""
    return [
        Trial(entry, lacking, control.name, seed, samples)
        for control, concerned in controls
        if (lacking := tuple(bound for bound in concerned if seed in missing[control.name, _name(bound)]))
    ]


def keep(loaded: LoadedCard, found: Sequence[Calibration]) -> str:
    """Write calibrations beside their card, over older ones of the same prescriptions; gives the path."""
    before = calibration.read(loaded.folder).prescriptions
    new = {_slug(item.prescription): item for item in found}
    merged = {slug: item for slug, item in sorted({**before, **new}.items()) if slug in _slugs(loaded)}
    path = loaded.folder / calibration.FILE
    data = Calibrations(prescriptions=merged).model_dump(mode="json")
    with whole(path) as handle:  # it holds hours of earlier runs
        handle.write(compact_json(data).encode())
    return str(path)


def keep_runs(loaded: LoadedCard, found: Sequence[Calibrated]) -> str:
    """Write the runs that pages show beside their card; gives the path."""
    before = control_runs.read(loaded.folder).prescriptions
    runs = {_slug(item.runs.prescription): item for item in found}
    shown = {slug: _completed(item, before.get(slug)) for slug, item in runs.items()}
    pictures = [picture for item in found for picture in item.pictures]
    return str(control_runs.write(loaded.folder, shown, pictures, _slugs(loaded)))


def _completed(found: Calibrated, before: control_runs.ControlRuns | None) -> control_runs.ControlRuns:
    """The first run of each control; one that is kept already where only later seeds were run now."""
    now = found.runs
    is_same = before is not None and before.is_current(now.check_version, now.digest) and before.samples == now.samples
    kept = before.controls if before is not None and is_same else ()
    known = {(run.control, run.kind, run.description): run for run in (*kept, *now.controls)}
    keys = [(rates.control, rates.kind, rates.description) for rates in found.rates.controls]
    return now.model_copy(update={"controls": tuple(known[key] for key in keys if key in known)})


def attempt(trial: Trial) -> tuple[Ending, ...]:
    """Build the control, run the check on it, judge it by each prescription."""
    binding = _binding(trial.bounds[0].prescription)
    kind = trial.entry.load()
    control = next(control for control in kind.controls() if control.name == trial.control)
    check = kind.model_validate({**binding.parameters, **control.parameters})
    with _one_thread():
        subject = control.build(trial.seed)
        if reason := check.not_applicable(subject):
            return (Ending(Outcome.NOT_APPLICABLE, as_expected=False, reason=reason),) * len(trial.bounds)
        step = Step(check, trial.entry, dict(binding.parameters), trial.samples, prescriptions=list(trial.bounds))
        context = Context(subject, trial.samples, trial.seed, scope=check.id)
        status, cause, measurements = measure(step, context, Options(), Silent())
    if status not in ("complete", "stopped_early"):
        return (Ending(Outcome.ERRORED, as_expected=False, reason=cause),) * len(trial.bounds)
    shown = tuple(measurements.pictures.values()) if trial.seed == 0 else ()
    return tuple(
        replace(_ending(control, bound, measurements, complete=status == "complete"), pictures=shown)
        for bound in trial.bounds
    )


def _ending(control: Control, bound: Bound, measurements: Measurements, *, complete: bool) -> Ending:
    judged = judge.judge(_binding(bound.prescription), measurements, complete=complete)
    failed = {item.measurement for item in (*judged.gates, *judged.criteria) if item.outcome is Outcome.FAILED}
    as_expected = judged.outcome is EXPECTED[control.kind] and (not control.because or control.because in failed)
    return Ending(judged.outcome, as_expected, judged.reason, judged.criteria, judged.gates)


def _attempts(trials: Sequence[Trial]) -> list[Endings]:
    return [(trial, attempt(trial)) for trial in trials]


@contextmanager
def _workers(jobs: int) -> Iterator[Callable[[Sequence[Sequence[Trial]]], Iterator[list[Endings]]]]:
    """What carries out lists of trials, each list in one process: the controls of one seed, which often share a network."""
    if jobs == 1:
        yield lambda units: map(_attempts, units)
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield lambda units: (done.result() for done in as_completed([pool.submit(_attempts, unit) for unit in units]))


def _binding(prescription: Prescription) -> CheckBinding:
    assert prescription.check is not None
    return prescription.check


def _name(bound: Bound) -> str:
    return f"{bound.card}/{bound.prescription.id}"


def _concerns(control: Control, binding: CheckBinding) -> bool:
    judged = {criterion.measurement for criterion in (*binding.criteria, *binding.valid_if)}
    return not control.because or control.because in judged


def _refuse_without_controls(bounds: Sequence[Bound], controls: Concerned, check: str) -> None:
    for bound in bounds:
        if not {"defect", "sound"} <= {control.kind for control, concerned in controls if bound in concerned}:
            raise InputError(f"{_name(bound)}: no control of {check} shows the defect that its criteria look for")


def _before(item: Chosen, check: type[Check], samples: int) -> Calibration | None:
    """What is kept beside the card of this very check with these criteria and examples."""
    loaded, prescription = item
    found = calibration.read(loaded.folder).prescriptions.get(prescription.id)
    is_same = found is not None and found.is_current(check.version, calibration.digest(_binding(prescription)))
    return found if found is not None and is_same and found.samples == samples else None


def _missing(control: Control, before: Calibration | None, seeds: int) -> range:
    """The seeds that a control was not run with: all of one that is new, or another than it was."""
    earlier = before.of(control) if before else None
    return range(earlier.runs if earlier else 0, max(seeds, before.seeds if before else 0))


def _by_seed(control: Control, bound: Bound, ended: Sequence[Endings]) -> dict[int, Ending]:
    return {
        trial.seed: endings[trial.bounds.index(bound)]
        for trial, endings in ended
        if trial.control == control.name and bound in trial.bounds
    }


def _slug(prescription: str) -> str:
    return prescription.partition("/")[2]


def _slugs(loaded: LoadedCard) -> frozenset[str]:
    return frozenset(prescription.id for prescription in loaded.card.prescriptions)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

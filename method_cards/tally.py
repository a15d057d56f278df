"""Count what the runs on controls found: error rates, what each run measured, and the first run of each control."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from method_cards import calibration, judge
from method_cards.calibration import Calibration, ControlRates, Estimates
from method_cards.card import CheckBinding, Criterion
from method_cards.check import Check, Control
from method_cards.control_runs import ControlRun, ControlRuns, Decision, KeptPictures, short
from method_cards.environment import versions
from method_cards.measurement import Pictures
from method_cards.verdict import CriterionResult, IntervalData, Outcome

EXPECTED = {"defect": Outcome.FAILED, "confounded": Outcome.INVALID, "sound": Outcome.FAILED}
"""What is counted on each kind of control: detections, refusals, and false alarms."""


@dataclass(frozen=True)
class Ending:
    """How a trial ended for one prescription.

    Attributes:
        outcome: The verdict; not applicable where the check says nothing about the control.
        as_expected: Whether it is the counted outcome, for the stated reason.
        reason: The verdict's reason.
        criteria: What became of each criterion.
        gates: What became of each condition of the run.
        pictures: What the check showed; of the first seed alone.
    """

    outcome: Outcome
    as_expected: bool
    reason: str
    criteria: tuple[CriterionResult, ...] = ()
    gates: tuple[CriterionResult, ...] = ()
    pictures: tuple[Pictures, ...] = ()


@dataclass(frozen=True)
class Calibrated:
    """What was found for one prescription.

    Attributes:
        rates: The error rates of its check.
        runs: The first run on each control.
        pictures: What these runs showed.
    """

    rates: Calibration
    runs: ControlRuns
    pictures: tuple[KeptPictures, ...]


def tally(
    name: str,
    binding: CheckBinding,
    check: type[Check],
    ended: Sequence[tuple[Control, Mapping[int, Ending]]],
    *,
    samples: int,
    seconds: float,
    before: Calibration | None = None,
) -> Calibrated:
    """Count and keep what the runs of one prescription found.

    Args:
        name: ``card/prescription``.
        binding: Its criteria.
        check: Its check.
        ended: For each control how the run of each seed ended that was run now.
        samples: How many examples were measured.
        seconds: How long all of it took.
        before: What was measured before with earlier seeds, and counts.
    """
    rates = tuple(_rates_with(before, control, binding, endings) for control, endings in ended)
    firsts = [(control, endings[0]) for control, endings in ended if 0 in endings]
    pictures = [tuple(KeptPictures.of(item) for item in ending.pictures) for _, ending in firsts]
    facts = {
        "prescription": name,
        "check": binding.id,
        "check_version": check.version,
        "digest": calibration.digest(binding),
        "samples": samples,
        "measured_on": dt.datetime.now(dt.UTC).date(),
    }
    runs = tuple(_run(*first, shown) for first, shown in zip(firsts, pictures, strict=True))
    found = Calibration(
        **facts,
        seeds=max(rate.runs for rate in rates),
        environment=_joined(before.environment, versions()) if before else versions(),
        seconds=round(seconds + (before.seconds if before else 0), 1),
        controls=rates,
        detection=_pooled([rate for rate in rates if rate.kind != "sound"]),
        false_alarm=_pooled([rate for rate in rates if rate.kind == "sound"]),
    )
    if before is not None and rates == before.controls:
        found = before
    return Calibrated(found, ControlRuns(**facts, seed=0, controls=runs), tuple(chain.from_iterable(pictures)))


def _rates_with(
    before: Calibration | None, control: Control, binding: CheckBinding, endings: Mapping[int, Ending]
) -> ControlRates:
    earlier = before.of(control) if before else None
    if earlier is not None and not endings:
        return earlier
    now = _rates(control, binding, endings)
    return earlier.joined(now) if earlier is not None else now


def _joined(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Two environments as one: where they differ, both are named, since runs of both are counted."""
    seen = {
        name: (*before[name].split(" and "), now.get(name, before[name])) if name in before else (now[name],)
        for name in {**before, **now}
    }
    return {name: " and ".join(dict.fromkeys(values)) for name, values in seen.items()}


def _rates(control: Control, binding: CheckBinding, endings: Mapping[int, Ending]) -> ControlRates:
    expected = sum(ending.as_expected for ending in endings.values())
    counts = Counter(ending.outcome for ending in endings.values())
    return ControlRates(
        control=control.name,
        kind=control.kind,
        description=control.description,
        because=control.because,
        runs=len(endings),
        outcomes=dict(sorted(counts.items())),
        expected=expected,
        rate=calibration.share(expected, len(endings)),
        estimates=_estimates(binding, [endings[seed] for seed in sorted(endings)]),
    )


def _estimates(binding: CheckBinding, endings: Sequence[Ending]) -> tuple[Estimates, ...]:
    """What each criterion, then each condition, found in each run, in the order of the seeds."""
    decided = [_gives_verdict(ending) for ending in endings]
    criteria = [ending.criteria for ending in endings]
    gates = [ending.gates for ending in endings]
    return (
        *(_estimate(one, place, criteria, decided) for place, one in enumerate(binding.criteria)),
        *(_estimate(one, place, gates, [True] * len(gates)) for place, one in enumerate(binding.valid_if)),
    )


def _estimate(
    criterion: Criterion, place: int, found: Sequence[Sequence[CriterionResult]], decided: Sequence[bool]
) -> Estimates:
    measured = [results[place].interval if results else None for results in found]
    return Estimates(
        measurement=criterion.measurement,
        where=dict(criterion.where),
        values=tuple(None if item is None else short(item.estimate) for item in measured),
        beyond=tuple(
            short(_beyond(criterion, item)) if item is not None and is_decided else None
            for item, is_decided in zip(measured, decided, strict=True)
        ),
    )


def _gives_verdict(ending: Ending) -> bool:
    return all(gate.outcome is Outcome.PASSED for gate in ending.gates)


def _beyond(criterion: Criterion, interval: IntervalData) -> float:
    """How far the whole interval lies outside the bound; below zero where a part of it lies inside."""
    low, high = judge.bounds(criterion)
    return max(interval.low - high, low - interval.high)


def _run(control: Control, ending: Ending, pictures: Sequence[KeptPictures]) -> ControlRun:
    return ControlRun(
        control=control.name,
        kind=control.kind,
        description=control.description,
        outcome=ending.outcome,
        is_expected=ending.outcome is not Outcome.FAILED if control.kind == "sound" else ending.as_expected,
        reason="" if ending.criteria else ending.reason,
        criteria=tuple(Decision.of(result) for result in ending.criteria),
        gates=tuple(Decision.of(result) for result in ending.gates),
        pictures=tuple(picture.key for picture in pictures),
    )


def _pooled(rates: Sequence[ControlRates]) -> IntervalData:
    return calibration.share(sum(rate.expected for rate in rates), sum(rate.runs for rate in rates))

"""Decide criteria from confidence intervals, never from point estimates. Pure functions of measurements and bounds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from method_cards import intervals
from method_cards.card import CheckBinding, Criterion
from method_cards.errors import did_you_mean
from method_cards.intervals import Interval
from method_cards.measurement import Measurements, Series
from method_cards.verdict import CriterionResult, IntervalData, Outcome, Verdict

ANYTIME = ("mean",)
"""Kinds of measurement whose decision holds at every stopping time; the others are decided once, at the planned n."""

LEAST_SAMPLES = 8
"""Below this, nothing is decided from data."""


@dataclass(frozen=True)
class Judged:
    """What the criteria of one prescription say about one execution.

    Attributes:
        outcome: Passed, failed, inconclusive, invalid, or errored when a criterion fits no measurement.
        reason: One sentence.
        criteria: What became of each criterion.
        gates: What became of each condition of the run.
    """

    outcome: Outcome
    reason: str
    criteria: tuple[CriterionResult, ...]
    gates: tuple[CriterionResult, ...]


def judge(binding: CheckBinding, measurements: Measurements, *, complete: bool, early: bool = False) -> Judged:
    """Decide one prescription.

    Args:
        binding: The check's criteria and the conditions of the run.
        measurements: What was measured.
        complete: Whether the planned number of samples was reached; intervals that hold only at a fixed n are not looked at before.
        early: Whether the run was ended because everything was decided.

    Returns:
        Invalid when a condition is violated; else inconclusive when a condition is undecided; else failed when a criterion failed,
        inconclusive when one is undecided, and passed when all passed.
    """
    gates = tuple(decide(criterion, measurements, complete=complete) for criterion in binding.valid_if)
    criteria = tuple(decide(criterion, measurements, complete=complete) for criterion in binding.criteria)
    if broken := _first(gates, Outcome.ERRORED):
        return Judged(Outcome.ERRORED, broken.reason, criteria, gates)
    if violated := _first(gates, Outcome.FAILED):
        return Judged(
            Outcome.INVALID,
            f"No verdict can be given: {violated.claim} does not hold. {violated.reason}",
            criteria,
            gates,
        )
    if broken := _first(criteria, Outcome.ERRORED):
        return Judged(Outcome.ERRORED, broken.reason, criteria, gates)
    if undecided := _first(gates, Outcome.INCONCLUSIVE):
        return Judged(
            Outcome.INCONCLUSIVE,
            f"It is not certain that {_lower(undecided.claim)}. {undecided.reason}",
            criteria,
            gates,
        )
    for outcome in (Outcome.FAILED, Outcome.INCONCLUSIVE):
        if found := _first(criteria, outcome):
            return Judged(outcome, found.reason, criteria, gates)
    reason = criteria[0].reason if len(criteria) == 1 else f"All {len(criteria)} criteria hold. {criteria[0].reason}"
    return Judged(
        Outcome.PASSED, reason + (" Measuring stopped as soon as this was decided." if early else ""), criteria, gates
    )


def is_decided(binding: CheckBinding, measurements: Measurements) -> bool:
    """Whether more samples could not change the outcome, judged only by intervals that hold at every stopping time."""
    results = [decide(criterion, measurements, complete=False) for criterion in (*binding.valid_if, *binding.criteria)]
    if any(result.outcome is Outcome.FAILED for result in results[: len(binding.valid_if)]):
        return True
    return all(result.outcome in (Outcome.PASSED, Outcome.FAILED) for result in results)


def decide(criterion: Criterion, measurements: Measurements, *, complete: bool) -> CriterionResult:
    """Decide one criterion: passed when its interval lies inside the bound, failed when outside, else inconclusive."""
    low, high = bounds(criterion)
    found = measurements.select(criterion.measurement, criterion.where)
    if len(found) != 1:
        return _result(criterion, Outcome.ERRORED, _unmatched(criterion, measurements, found))
    series = found[0]
    if series.kind not in ANYTIME and not complete:
        reason = (
            f"{series.label} is decided once, at the planned number of samples, which was not reached (n = {series.n})."
        )
        return _result(criterion, Outcome.INCONCLUSIVE, reason, series)
    if series.kind == "mean" and not all(math.isfinite(bound) for bound in series.range):
        return _result(
            criterion,
            Outcome.ERRORED,
            f"{series.label} has no bounded range, so its mean cannot be judged; bound a share instead.",
            series,
        )
    if series.kind != "exact" and series.n < LEAST_SAMPLES:
        reason = f"{series.n} samples are too few to decide anything; at least {LEAST_SAMPLES} are needed."
        if series.needs is not None:
            reason = (
                f"Nothing could be measured on so few examples: at least {series.needs:,} of each split must be drawn."
            )
        return _result(criterion, Outcome.INCONCLUSIVE, reason, series, needed=series.needs)
    interval = interval_of(series, criterion.confidence)
    if low <= interval.low and interval.high <= high:
        outcome = Outcome.PASSED
    elif interval.high < low or interval.low > high:
        outcome = Outcome.FAILED
    else:
        outcome = Outcome.INCONCLUSIVE
    nearest = min(
        (bound for bound in (low, high) if math.isfinite(bound)), key=lambda bound: abs(bound - interval.estimate)
    )
    limits = (0.0, 1.0) if series.kind == "auc" else series.range
    needed = intervals.samples_needed(interval, nearest, limits) if outcome is Outcome.INCONCLUSIVE else None
    p_value = None if series.kind == "exact" else _p_value(series, nearest, criterion.confidence)
    return _result(
        criterion, outcome, _sentence(criterion, series, interval, outcome, needed), series, interval, p_value, needed
    )


def bounds(criterion: Criterion) -> tuple[float, float]:
    """The least and greatest value that the criterion allows; infinite where it sets none."""
    low, high = criterion.bounds
    return -math.inf if low is None else low, math.inf if high is None else high


def interval_of(series: Series, confidence: float) -> Interval:
    """The interval that belongs to a series' kind."""
    if series.kind == "exact":
        return intervals.exact(float(series.values[-1]))
    if series.kind == "proportion":
        return intervals.clopper_pearson(int(series.values.sum()), series.values.size, confidence)
    if series.kind == "auc":
        return intervals.delong(series.values, series.negatives, confidence)
    return intervals.betting(series.values, *series.range, confidence)


def adjusted(verdicts: Sequence[Verdict]) -> tuple[tuple[Verdict, ...], int]:
    """The verdicts with Holm-adjusted p-values over all criteria that were decided from data, and how many those are."""
    p_values = [
        result.p_value
        for verdict in verdicts
        for result in (*verdict.gates, *verdict.criteria)
        if result.p_value is not None
    ]
    remaining = iter(intervals.holm(p_values))

    def with_holm(results: Iterable[CriterionResult]) -> tuple[CriterionResult, ...]:
        return tuple(
            result if result.p_value is None else result.model_copy(update={"p_holm": float(next(remaining))})
            for result in results
        )

    changed = []
    for verdict in verdicts:
        gates = with_holm(verdict.gates)
        changed.append(verdict.model_copy(update={"gates": gates, "criteria": with_holm(verdict.criteria)}))
    return tuple(changed), len(p_values)


def _p_value(series: Series, bound: float, confidence: float) -> float:
    if series.kind == "proportion":
        return intervals.clopper_pearson_p(int(series.values.sum()), series.values.size, bound)
    if series.kind == "auc":
        return intervals.delong_p(series.values, series.negatives, bound)
    return intervals.betting_p(series.values, *series.range, bound, confidence)


def _sentence(criterion: Criterion, series: Series, interval: Interval, outcome: Outcome, needed: int | None) -> str:
    unit = f" {series.unit}" if series.unit else ""
    if series.kind == "exact":
        measured = f"{series.label} is {number(interval.estimate)}{unit}"
    else:
        measured = (
            f"{series.label} is {number(interval.estimate)}{unit}, {interval.confidence:.0%} interval {number(interval.low)} to "
            f"{number(interval.high)} (n = {interval.n})"
        )
    bound = criterion.bound_text()
    if outcome is Outcome.PASSED:
        return f"{measured}: within the bound {bound}."
    if outcome is Outcome.FAILED:
        return f"{measured}: outside the bound {bound}."
    more = (
        f"about {roughly(needed)} samples would decide it"
        if needed is not None
        else "no reasonable number of samples would decide it"
    )
    return f"{measured}: the interval straddles the bound {bound}; {more}."


def number(value: float) -> str:
    """A number for people: three significant digits, never in exponents where it can be read without."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:  # noqa: PLR2004
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"  # noqa: PLR2004
    if 1e-6 <= abs(value) < 1e-3:  # noqa: PLR2004
        return f"{value:.{1 - math.floor(math.log10(abs(value)))}f}".rstrip("0")
    return f"{value:.2e}"


def roughly(count: int) -> str:
    """A count that is an estimate: two significant digits, rounded up, such as ``6,700,000``."""
    unit = int(10 ** max(len(str(count)) - 2, 0))
    return f"{-(-count // unit) * unit:,}"


def _unmatched(criterion: Criterion, measurements: Measurements, found: list[Series]) -> str:
    where = _where(criterion.where)
    if found:
        return (
            f"The criterion on {criterion.measurement}{where} fits {len(found)} series; say which one under `where:`."
        )
    names = {series.name for series in measurements}
    if criterion.measurement in names:
        known = ", ".join(series.label for series in measurements.select(criterion.measurement, {}))
        return f"The check measured no {criterion.measurement}{where}; it measured {known}."
    return f"The check measured no {criterion.measurement}.{did_you_mean(criterion.measurement, names)}"


def _source(criterion: Criterion) -> str:
    source = criterion.source
    cited = ", ".join(part for part in (source.ref, source.locator) if part)
    return ": ".join(part for part in (cited, source.note) if part)


def _where(where: Mapping[str, str | int | float]) -> str:
    return f" with {', '.join(f'{key} {value}' for key, value in where.items())}" if where else ""


def _first(results: Iterable[CriterionResult], outcome: Outcome) -> CriterionResult | None:
    return next((result for result in results if result.outcome is outcome), None)


def _lower(sentence: str) -> str:
    text = sentence.rstrip(".")
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text


def _result(
    criterion: Criterion,
    outcome: Outcome,
    reason: str,
    series: Series | None = None,
    interval: Interval | None = None,
    p_value: float | None = None,
    needed: int | None = None,
) -> CriterionResult:
    low, high = criterion.bounds
    return CriterionResult(
        claim=criterion.claim,
        measurement=criterion.measurement,
        where=dict(criterion.where),
        bound=criterion.bound_text(),
        low_bound=low,
        high_bound=high,
        source=_source(criterion),
        outcome=outcome,
        reason=reason,
        unit=series.unit if series else "",
        range=tuple(bound if math.isfinite(bound) else None for bound in series.range) if series else (None, None),
        interval=None if interval is None else IntervalData.of(interval),
        p_value=p_value,
        samples_needed=needed,
    )

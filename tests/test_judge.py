"""Verdicts are decided from intervals, conditions of the run come first, and nothing weak is ever a pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from method_cards import intervals, judge
from method_cards.measurement import Measurements
from method_cards.verdict import Outcome, Verdict
from tests.helpers import COUNT, LEVEL, ONES, SEPARATION, UNBOUNDED, bound_check, criterion

GOOD, BAD = np.full(400, 0.1), np.full(400, 0.9)


def measured(*yielded: Any) -> Measurements:
    found = Measurements()
    for item in yielded:
        found.add(item)
    return found


def ones(share: float, n: int = 400) -> Any:
    return ONES.per_sample(np.arange(n) < share * n)


def outcome_of(measurements: Measurements, **bound: Any) -> Outcome:
    return judge.judge(bound_check(criterion("ones", **bound)), measurements, complete=True).outcome


@pytest.mark.parametrize(
    ("bound", "expected"),
    [
        ({"at_most": 0.6}, Outcome.PASSED),
        ({"at_most": 0.4}, Outcome.FAILED),
        ({"at_most": 0.5}, Outcome.INCONCLUSIVE),
        ({"at_least": 0.4}, Outcome.PASSED),
        ({"at_least": 0.6}, Outcome.FAILED),
        ({"at_least": 0.5}, Outcome.INCONCLUSIVE),
        ({"between": (0.4, 0.6)}, Outcome.PASSED),
        ({"between": (0.6, 0.8)}, Outcome.FAILED),
        ({"between": (0.2, 0.4)}, Outcome.FAILED),
        ({"between": (0.5, 0.8)}, Outcome.INCONCLUSIVE),
    ],
)
def test_a_criterion_is_decided_by_where_the_interval_lies(bound: dict[str, Any], expected: Outcome) -> None:
    """Inside the bound is passed, outside is failed, astride is inconclusive, for all three kinds of bound."""
    assert outcome_of(measured(ones(0.5)), **bound) is expected


def test_a_point_estimate_decides_nothing() -> None:
    """An estimate well inside the bound is inconclusive while its interval is not."""
    assert outcome_of(measured(ones(0.4, n=20)), at_most=0.5) is Outcome.INCONCLUSIVE


def test_more_confidence_needs_more_samples() -> None:
    """What is decided at 95 % may be undecided at 99.9 %."""
    found = measured(ones(0.44))
    assert outcome_of(found, at_most=0.5) is Outcome.PASSED
    assert outcome_of(found, at_most=0.5, confidence=0.999) is Outcome.INCONCLUSIVE


def test_an_inconclusive_verdict_says_how_many_samples_would_decide() -> None:
    """At the number of samples that is named, the same share is decided."""
    result = judge.judge(bound_check(criterion("ones", at_most=0.45)), measured(ones(0.42)), complete=True).criteria[0]
    assert result.outcome is Outcome.INCONCLUSIVE
    assert result.samples_needed is not None
    assert f"about {judge.roughly(result.samples_needed)} samples would decide it" in result.reason
    assert outcome_of(measured(ones(0.42, n=int(result.samples_needed * 1.05))), at_most=0.45) is Outcome.PASSED


def test_an_estimated_count_is_told_in_two_digits() -> None:
    """A number of samples is rounded up to what anybody may believe of it; small ones stay as they are."""
    assert [judge.roughly(count) for count in (7, 42, 101, 2_300, 6_669_159)] == [
        "7",
        "42",
        "110",
        "2,300",
        "6,700,000",
    ]


@pytest.mark.parametrize("count", [0, 1, judge.LEAST_SAMPLES - 1])
def test_too_few_samples_decide_nothing(count: int) -> None:
    """Below the least number of samples even a perfect score is inconclusive."""
    result = judge.judge(
        bound_check(criterion("level", at_most=1.0)), measured(LEVEL.per_sample([0.0] * count)), complete=True
    )
    assert result.outcome is Outcome.INCONCLUSIVE
    assert "too few" in result.reason


def test_a_measurement_that_could_not_begin_says_how_many_examples_it_needs() -> None:
    """Where a check knows what would give it values, the verdict names the number, and forgets it when values come."""
    empty = LEVEL.per_sample([], needs=1998)
    result = judge.judge(bound_check(criterion("level", at_most=1.0)), measured(empty), complete=True).criteria[0]
    assert (result.outcome, result.samples_needed) == (Outcome.INCONCLUSIVE, 1998)
    assert "at least 1,998 of each split" in result.reason
    begun = measured(empty, LEVEL.per_sample([0.0]))
    assert "too few" in judge.judge(bound_check(criterion("level", at_most=1.0)), begun, complete=True).reason


def test_an_exact_quantity_needs_one_value() -> None:
    """A count has no interval: it is inside the bound or outside, and not before the end, since a later value may replace it."""
    found = measured(COUNT.exact(3))
    assert judge.judge(bound_check(criterion("count", at_most=3)), found, complete=True).outcome is Outcome.PASSED
    assert judge.judge(bound_check(criterion("count", at_most=2)), found, complete=True).outcome is Outcome.FAILED
    assert (
        judge.judge(bound_check(criterion("count", at_most=3)), found, complete=False).outcome is Outcome.INCONCLUSIVE
    )
    assert judge.judge(bound_check(criterion("count", at_most=3)), found, complete=True).criteria[0].p_value is None


@pytest.mark.parametrize("name", ["ones", "separation"])
def test_an_interval_for_a_fixed_n_is_never_peeked_at(name: str) -> None:
    """Proportions and areas under the curve stay undecided, and show no interval, until the planned number is reached."""
    found = measured(ones(0.0), SEPARATION.two_groups(BAD + np.arange(400) / 1e4, GOOD + np.arange(400) / 1e4))
    bound = {"ones": {"at_most": 0.5}, "separation": {"at_least": 0.5}}[name]
    early = judge.judge(bound_check(criterion(name, **bound)), found, complete=False)
    assert early.outcome is Outcome.INCONCLUSIVE
    assert early.criteria[0].interval is None
    assert early.criteria[0].p_value is None
    assert not judge.is_decided(bound_check(criterion(name, **bound)), found)
    assert judge.judge(bound_check(criterion(name, **bound)), found, complete=True).outcome is Outcome.PASSED


def test_a_mean_is_decided_at_any_time() -> None:
    """A bounded mean has a confidence sequence and may be decided before the planned number."""
    early = judge.judge(bound_check(criterion("level", at_most=0.5)), measured(LEVEL.per_sample(GOOD)), complete=False)
    assert early.outcome is Outcome.PASSED
    assert early.criteria[0].interval is not None
    assert early.criteria[0].interval.anytime


def test_a_mean_without_bounds_cannot_be_judged() -> None:
    """The mean of a quantity without a range is an error of the card, whatever its value."""
    result = judge.judge(
        bound_check(criterion("unbounded", at_most=1.0)), measured(UNBOUNDED.per_sample(GOOD)), complete=True
    )
    assert result.outcome is Outcome.ERRORED
    assert "bound a share instead" in result.reason


def test_the_first_series_that_fits_is_not_enough() -> None:
    """A criterion that fits several series, or none, is an error that says what there is."""
    level = LEVEL
    found = measured(level.per_sample(GOOD, stage=1), level.per_sample(GOOD, stage=2))
    several = judge.judge(bound_check(criterion("level", at_most=0.5)), found, complete=True)
    assert several.outcome is Outcome.ERRORED
    assert "say which one under `where:`" in several.reason
    none = judge.judge(bound_check(criterion("level", at_most=0.5, where={"stage": 3})), found, complete=True)
    assert none.outcome is Outcome.ERRORED
    assert "level (stage 1), level (stage 2)" in none.reason
    assert (
        judge.judge(bound_check(criterion("level", at_most=0.5, where={"stage": 2})), found, complete=True).outcome
        is Outcome.PASSED
    )


def test_a_measurement_that_was_not_made_is_an_error() -> None:
    """A check that measured nothing that the criterion names is never passed, and the name is guessed."""
    result = judge.judge(bound_check(criterion("levels", at_most=0.5)), measured(LEVEL.per_sample(GOOD)), complete=True)
    assert result.outcome is Outcome.ERRORED
    assert 'Did you mean "level"?' in result.reason


@pytest.mark.parametrize(
    ("gate", "value", "expected"),
    [
        (0.5, 0.1, Outcome.PASSED),
        (0.5, 0.9, Outcome.FAILED),
        (0.05, 0.1, Outcome.INVALID),
        (0.1, 0.1, Outcome.INCONCLUSIVE),
    ],
)
def test_conditions_of_the_run_come_first(gate: float, value: float, expected: Outcome) -> None:
    """A violated condition gives invalid and an undecided one inconclusive, whatever the criterion says."""
    found = measured(ones(0.1), LEVEL.per_sample(np.full(400, value)))
    verified = bound_check(criterion("level", at_most=0.5), valid_if=[criterion("ones", at_most=gate)])
    assert judge.judge(verified, found, complete=True).outcome is expected


def test_a_violated_condition_explains_what_could_not_be_measured() -> None:
    """Where the condition is off, a criterion without a measurement is not an error of its own: the verdict is invalid."""
    verified = bound_check(criterion("level", at_most=0.5), valid_if=[criterion("ones", at_most=0.5)])
    assert judge.judge(verified, measured(ones(1.0)), complete=True).outcome is Outcome.INVALID


def test_one_criterion_of_several_decides_the_worst() -> None:
    """A failed criterion outweighs undecided and passed ones; an undecided one outweighs passed ones."""
    found = measured(ones(0.5), LEVEL.per_sample(GOOD))
    passes, astride, fails = (
        criterion("level", at_most=0.5),
        criterion("ones", at_most=0.5),
        criterion("ones", at_most=0.2),
    )
    assert judge.judge(bound_check(passes, astride, fails), found, complete=True).outcome is Outcome.FAILED
    assert judge.judge(bound_check(passes, astride), found, complete=True).outcome is Outcome.INCONCLUSIVE
    assert judge.judge(bound_check(passes, passes), found, complete=True).outcome is Outcome.PASSED


def test_everything_is_decided_only_when_every_criterion_is() -> None:
    """One undecided criterion keeps a run going; one violated condition is enough to end it."""
    found = measured(LEVEL.per_sample(GOOD), ones(0.5))
    assert judge.is_decided(bound_check(criterion("level", at_most=0.5)), found)
    assert not judge.is_decided(bound_check(criterion("level", at_most=0.5), criterion("ones", at_most=0.9)), found)
    assert judge.is_decided(
        bound_check(criterion("ones", at_most=0.9), valid_if=[criterion("level", at_least=0.5)]), found
    )


def test_holm_adjusts_all_criteria_of_a_run_together() -> None:
    """The adjusted p-values are those of Holm's procedure over every criterion and condition of every verdict."""
    found = measured(ones(0.3), LEVEL.per_sample(np.linspace(0, 1, 400)), COUNT.exact(1))
    judged = [
        judge.judge(bound_check(criterion("ones", at_most=0.35), criterion("count", at_most=2)), found, complete=True),
        judge.judge(
            bound_check(criterion("level", at_most=0.7), valid_if=[criterion("ones", at_most=0.32)]),
            found,
            complete=True,
        ),
    ]
    verdicts = [
        Verdict(card="c", prescription=f"p{n}", level="MUST", statement="s", outcome=item.outcome, reason="r", criteria=item.criteria, gates=item.gates)
        for n, item in enumerate(judged)
    ]  # fmt: skip
    adjusted, count = judge.adjusted(verdicts)
    results = [
        result for verdict in adjusted for result in (*verdict.gates, *verdict.criteria) if result.p_value is not None
    ]
    assert count == 3 == len(results)
    assert [item.p_holm for item in results] == intervals.holm(
        [item.p_value for item in results if item.p_value is not None]
    )
    assert all(result.p_holm is None for result in adjusted[0].criteria if result.measurement == "count")


def test_the_p_value_agrees_with_the_interval() -> None:
    """A bound lies outside the 95 % interval exactly when its p-value is below 0.05."""
    for bound in np.linspace(0.2, 0.8, 25):
        for found in (measured(ones(0.5)), measured(ones(0.5, n=60))):
            result = judge.judge(bound_check(criterion("ones", at_most=float(bound))), found, complete=True).criteria[0]
            assert result.p_value is not None
            assert (result.outcome is not Outcome.INCONCLUSIVE) == (result.p_value < 0.05)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.05, "0.05"),
        (123.4, "123"),
        (12345.6, "12346"),
        (1e-5, "0.00001"),
        (2.807e-5, "0.000028"),
        (4.56e-4, "0.00046"),
        (1e-7, "1.00e-07"),
        (-0.25, "-0.25"),
    ],
)
def test_numbers_are_for_people(value: float, text: str) -> None:
    """Three significant digits, and no exponents where a number can be read without."""
    assert judge.number(value) == text

"""What changed between two runs: each change in its group, numbers only beyond their intervals, runs compared like with like."""

from __future__ import annotations

import datetime as dt

import pytest

from method_cards.render.difference import baseline, difference
from method_cards.verdict import Outcome, Waiver
from tests.render.runs import FAILED, INCONCLUSIVE, PASSED, criterion, run, simple, verdict


def test_new_failures_come_first_and_mended_ones_are_told_apart() -> None:
    """A verdict that went wrong is worse, one that came right is better, and everything else that changed is neither."""
    before = run(1, [simple("a", PASSED, 0.1), simple("b", FAILED, 0.9), simple("c", FAILED, 0.9), simple("d", PASSED, 0.1),
                     simple("e", PASSED, 0.1, level="SHOULD"), simple("f", FAILED, 0.9)])  # fmt: skip
    now = run(2, [simple("e", FAILED, 0.9, level="SHOULD"), simple("a", INCONCLUSIVE, 0.5), simple("b", PASSED, 0.1),
                  simple("c", INCONCLUSIVE, 0.5), verdict("d", Outcome.NOT_APPLICABLE), simple("f", FAILED, 0.9)])  # fmt: skip
    found = difference(now, before)
    assert [change.now.prescription for change in found.worse] == ["a", "e"]  # the MUST first, though less grave
    assert [change.now.prescription for change in found.better] == ["b"]
    assert [change.now.prescription for change in found.other] == ["c", "d"]
    assert found.same == 1
    assert not found.moved


@pytest.mark.parametrize(
    ("before", "now", "is_worse"),
    [
        (PASSED, FAILED, True),
        (INCONCLUSIVE, FAILED, True),
        (FAILED, INCONCLUSIVE, False),
        (FAILED, Outcome.ERRORED, False),
        (Outcome.ERRORED, FAILED, True),
        (Outcome.NOT_APPLICABLE, INCONCLUSIVE, True),
        (PASSED, Outcome.NOT_APPLICABLE, False),
        (Outcome.ANSWERED, Outcome.UNANSWERED, False),
    ],
)
def test_worse_is_what_is_in_trouble_and_graver_than_before(before: Outcome, now: Outcome, is_worse: bool) -> None:
    """Only what is failed, errored, invalid or inconclusive can be worse, and only where it was not as grave before."""
    found = difference(run(2, [verdict("a", now)]), run(1, [verdict("a", before)]))
    assert bool(found.worse) is is_worse
    assert len(found.worse) + len(found.better) + len(found.other) == 1


@pytest.mark.parametrize(
    ("before", "now", "is_moved"),
    [
        ((0.10, 0.20, 0.30), (0.31, 0.40, 0.50), True),
        ((0.10, 0.20, 0.30), (0.30, 0.40, 0.50), False),
        ((0.31, 0.40, 0.50), (0.10, 0.20, 0.30), True),
        ((0.20, 0.20, 0.20), (0.21, 0.21, 0.21), True),
        ((0.2, 0.2, 0.2), (0.2000001, 0.2000001, 0.2000001), False),
    ],
)
def test_numbers_have_changed_only_where_the_intervals_lie_apart(
    before: tuple[float, float, float], now: tuple[float, float, float], is_moved: bool
) -> None:
    """Overlapping intervals are no change, and neither is a difference that no printed digit shows."""
    was, verdict_now = (verdict("a", PASSED, criterion(PASSED, *numbers)) for numbers in (before, now))
    found = difference(run(2, [verdict_now]), run(1, [was]))
    assert bool(found.moved) is is_moved
    assert found.same == (not is_moved)


def test_numbers_of_an_invalid_run_are_not_compared() -> None:
    """What is not to be read as a result is not read as a change either."""
    was = verdict("a", Outcome.INVALID, criterion(PASSED, 0.1, 0.1, 0.1))
    found = difference(run(2, [verdict("a", Outcome.INVALID, criterion(PASSED, 0.4, 0.4, 0.4))]), run(1, [was]))
    assert found.same == 1


def test_criteria_are_matched_by_quantity_and_part() -> None:
    """Of two criteria on one quantity each is compared with itself."""
    was = verdict("a", PASSED, criterion(PASSED, 0.1, 0.1, 0.1, layer="x"), criterion(PASSED, 0.4, 0.4, 0.4, layer="y"))
    now = verdict("a", PASSED, criterion(PASSED, 0.4, 0.4, 0.4, layer="y"), criterion(PASSED, 0.2, 0.2, 0.2, layer="x"))
    (change,) = difference(run(2, [now]), run(1, [was])).moved
    assert [(moved.before.interval, moved.now.interval) for moved in change.moved] == [
        (was.criteria[0].interval, now.criteria[1].interval)
    ]


def test_other_rules_are_told() -> None:
    """A verdict that was decided by another version, another parameter or another bound says so, even where it is the same."""
    before = run(1, [verdict("a", PASSED, criterion(PASSED, 0.1, 0.1, 0.1, bound=0.5))], parameters={"steps": 8})
    now = run(
        2, [verdict("a", PASSED, criterion(PASSED, 0.1, 0.1, 0.1, bound=0.3))], version="2", parameters={"steps": 64}
    )
    (change,) = difference(now, before).moved
    assert change.rules == (
        "the bound on similarity was ≤ 0.5, and is ≤ 0.3",
        "toy/check went from version 1 to 2",
        "toy/check was run with another value of steps",
    )


def test_what_was_unlike_about_the_runs_is_told_model_first() -> None:
    """Another model, seed, device or version of a package is named, with how it was and how it is; what is the same is not."""
    before = run(1, [simple("a", PASSED, 0.1)], git_revision="a" * 40, environment={"torch": "2.6", "gpu": "none"})
    now = run(2, [simple("a", PASSED, 0.1)], model="b", seed=3, environment={"torch": "2.7", "gpu": "none"})
    assert [(item.what, item.before, item.now) for item in difference(now, before).unlike] == [
        ("model", "a" * 12, "b" * 12),
        ("seed", "0", "3"),
        ("revision", "a" * 12, "not under git"),
        ("torch", "2.6", "2.7"),
    ]


def test_the_same_seed_with_other_examples_is_other_data() -> None:
    """Where the same number was drawn with the same seed, another hash means that the data changed; with another seed it says nothing."""
    before = run(1, [simple("a", PASSED, 0.1)])
    (execution,) = before.executions
    (split,) = execution.splits
    moved = execution.model_copy(update={"splits": (split.model_copy(update={"sha256": "a1" * 32}),)})
    for seed, names in ((0, ["data"]), (1, ["seed"])):
        now = run(2, [simple("a", PASSED, 0.1)], seed=seed, executions=(moved,))
        assert [item.what for item in difference(now, before).unlike] == names


def test_fewer_examples_are_told() -> None:
    """How many examples were drawn is compared check by check."""
    before = run(1, [simple("a", PASSED, 0.1)])
    (execution,) = before.executions
    fewer = execution.model_copy(update={"splits": (execution.splits[0].model_copy(update={"n": 64}),)})
    (found,) = difference(run(2, [simple("a", PASSED, 0.1)], executions=(fewer,)), before).unlike
    assert (found.what, found.before, found.now) == ("examples", "100", "64")


def test_a_partial_run_loses_nothing() -> None:
    """What a run was not asked for is neither gone nor new; what a whole run no longer decides is gone."""
    whole = run(1, [simple("a", PASSED, 0.1), simple("b", PASSED, 0.1)])
    part = run(2, [simple("a", FAILED, 0.9)], id="20260302T120000Z-partial")
    found = difference(part, whole)
    assert (found.gone, found.added, found.apart) == ((), (), 1)
    back = difference(run(3, whole.verdicts), part)
    assert (back.gone, back.added, back.apart) == ((), (), 1)
    less = difference(run(2, [simple("a", PASSED, 0.1), simple("c", PASSED, 0.1)]), whole)
    assert [item.prescription for item in less.gone] == ["b"]
    assert [item.prescription for item in less.added] == ["c"]


def test_two_bounds_on_one_quantity_are_told_apart() -> None:
    """Of two criteria on the same part of the same quantity, each is compared with itself: by claim, else by kind of bound, else by order."""
    low = criterion(PASSED, 0.2, 0.3, 0.4).model_copy(
        update={"claim": "it is not nothing", "low_bound": 0.1, "high_bound": None, "bound": "≥ 0.1"}
    )
    high = criterion(PASSED, 0.2, 0.3, 0.4, bound=0.9)
    reworded = low.model_copy(update={"claim": "it is more than nothing"})
    before = run(1, [verdict("a", PASSED, low, high)])
    for criteria in ((low, high), (high, low), (high, reworded), (reworded, high)):
        found = difference(run(2, [verdict("a", PASSED, *criteria)]), before)
        assert (found.same, found.moved) == (1, ())
    raised = high.model_copy(update={"bound": "≤ 0.95", "high_bound": 0.95})
    (change,) = difference(run(2, [verdict("a", PASSED, low, raised)]), before).moved
    assert change.rules == ("the bound on similarity was ≤ 0.9, and is ≤ 0.95",)


def test_a_condition_is_not_a_criterion() -> None:
    """A condition of the run and a criterion on the same quantity are not compared with each other."""
    gate, bounded = criterion(PASSED, 0.1, 0.2, 0.3, bound=0.6), criterion(PASSED, 0.1, 0.2, 0.3)
    before, now = (run(day, [verdict("a", PASSED, bounded, gates=(gate,))]) for day in (1, 2))
    assert difference(now, before).same == 1


def test_a_waiver_that_expired_since_is_told() -> None:
    """An exception that held at the earlier run and holds no longer is a change of its own."""
    waiver = Waiver(prescription="toy/a", reason="until the retraining", expires=dt.date(2026, 3, 1))
    before = run(1, [simple("a", FAILED, 0.9, waiver=waiver)])
    now = run(2, [simple("a", FAILED, 0.9, waiver=waiver)])
    assert [item.prescription for item in difference(now, before).expired] == ["a"]
    assert not difference(now, before).is_empty


def test_the_run_to_compare_with_is_the_last_like_it() -> None:
    """A whole run is compared with the last whole one, a partial run with the last that decided the same; never with an interrupted one if another is there."""
    both, one = [simple("a", PASSED, 0.1), simple("b", PASSED, 0.1)], [simple("a", PASSED, 0.1)]
    first, second = run(1, both), run(2, both)
    part = run(3, one, id="20260303T120000Z-partial")
    broken = run(4, both, status="interrupted")
    assert baseline(run(5, both), [first, second, part, broken]) is second
    assert baseline(run(5, one, id="20260305T120000Z-partial"), [first, second, part]) is part
    assert baseline(run(5, both), [broken]) is broken
    assert baseline(run(5, both), []) is None
    assert baseline(run(5, [simple("z", PASSED, 0.1)]), [first]) is None

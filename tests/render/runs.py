"""Runs of one subject, written down in a few words: what the tests of histories and differences compare."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from method_cards.record import Execution, Record, SplitData, SubjectData
from method_cards.verdict import CriterionResult, IntervalData, Outcome, Verdict

DAY = dt.date(2026, 5, 1)
START = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)

PASSED, FAILED, INCONCLUSIVE = Outcome.PASSED, Outcome.FAILED, Outcome.INCONCLUSIVE


def criterion(
    outcome: Outcome,
    low: float,
    estimate: float,
    high: float,
    *,
    bound: float = 0.5,
    name: str = "similarity",
    **where: Any,
) -> CriterionResult:
    """A criterion with an upper bound."""
    found = IntervalData(
        estimate=estimate,
        low=low,
        high=high,
        confidence=0.95,
        method="exact" if low == high else "betting",
        n=100,
        anytime=True,
    )
    return CriterionResult(
        claim=f"the {name} is small",
        measurement=name,
        where=where,
        bound=f"≤ {bound}",
        high_bound=bound,
        source="s",
        outcome=outcome,
        reason=f"{name} is {estimate}.",
        range=(0.0, 1.0),
        interval=found,
        p_value=0.01,
        p_holm=0.02,
    )


def verdict(slug: str, outcome: Outcome, *criteria: CriterionResult, level: str = "MUST", **details: Any) -> Verdict:
    """A verdict of one card, decided from the first execution where it has criteria."""
    settings: dict[str, Any] = {"card": "toy", "statement": f"{slug} {level}", "reason": f"{slug} was {outcome.value}."}
    execution = 0 if criteria else None
    return Verdict(
        prescription=slug,
        level=level,
        outcome=outcome,
        criteria=criteria,
        **{**settings, "execution": execution, **details},
    )


def simple(slug: str, outcome: Outcome, estimate: float, **details: Any) -> Verdict:
    """A verdict from one criterion whose interval reaches 0.05 to both sides."""
    return verdict(slug, outcome, criterion(outcome, estimate - 0.05, estimate, estimate + 0.05), **details)


def run(day: int, verdicts: Sequence[Verdict], *, model: str = "a", version: str = "1", **changes: Any) -> Record:
    """A run on a day of March 2026."""
    started = START.replace(day=day)
    execution = Execution(
        check="toy/check", version=version, distribution="toy 1.0", parameters=changes.pop("parameters", {}), status="complete",
        samples=100, seconds=1.0, forward=100, backward=0, splits=(SplitData(name="test", n=100, size=200, sha256="5f" * 32),),
    )  # fmt: skip
    settings: dict[str, Any] = {
        "id": started.strftime("%Y%m%dT%H%M%SZ"),
        "started": started,
        "finished": started + dt.timedelta(seconds=3),
        "status": "complete",
        "seed": 0,
        "device": "cpu",
        "environment": {"python": "3.12", "torch": "2.6"},
        "subject": SubjectData(
            id="net",
            title="Net",
            task="image-classification",
            model="model.py:build",
            parameters=10,
            parameters_sha256=model * 64,
        ),
        "cards": {"toy": "0" * 64},
        "executions": (execution,),
        "verdicts": tuple(verdicts),
    }
    return Record(**{**settings, **changes})

"""The guide draws each outcome as the site would, from counts that are decided here.

Run as a program, this file draws them: ``python -m tests.test_verdict_page``.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from markupsafe import Markup

from method_cards import Outcome, Quantity
from method_cards.card import Criterion
from method_cards.judge import decide
from method_cards.measurement import Measurements
from method_cards.render.interval import draw
from method_cards.render.page import chip
from method_cards.verdict import CriterionResult
from tests.helpers import REPOSITORY

PAGE = REPOSITORY / "site" / "guide" / "read-a-verdict.md"
DRAWN = re.compile(r"(<!-- outcome: (?P<outcome>\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

SOURCE = {"note": "It is an example."}
ACCURACY = Quantity("accuracy", "proportion", "share of examples whose class is right")
BLIND = Quantity("blind_auc", "auc", "how well a classifier that never sees the model tells members from others")


def accuracy(right: int, of: int) -> CriterionResult:
    """A share that has to be at least 0.8."""
    found = Measurements()
    found.add(ACCURACY.per_sample(np.arange(of) < right))
    criterion = Criterion(claim="At least 80 % are right.", measurement="accuracy", at_least=0.8, source=SOURCE)
    return decide(criterion, found, complete=True)


def blind() -> CriterionResult:
    """A condition of a run: what no model was asked for must not tell two groups apart."""
    rng = np.random.default_rng(0)
    found = Measurements()
    found.add(BLIND.two_groups(rng.normal(1, 1, 200), rng.normal(0, 1, 200)))
    criterion = Criterion(claim="Members are like others.", measurement="blind_auc", at_most=0.6, source=SOURCE)
    return decide(criterion, found, complete=True)


MEASURED: dict[Outcome, Callable[[], CriterionResult]] = {
    Outcome.PASSED: lambda: accuracy(905, 1000),
    Outcome.FAILED: lambda: accuracy(731, 1000),
    Outcome.INCONCLUSIVE: lambda: accuracy(82, 100),
    Outcome.INVALID: blind,
}

TOLD = {
    Outcome.INVALID: "No verdict can be given: members are like others does not hold. {reason}",
    Outcome.NOT_APPLICABLE: "It applies to text-generation; this subject's task is image-classification.",
    Outcome.ERRORED: "The check could not measure: the model's output holds NaN.",
    Outcome.UNANSWERED: "Was the test split kept aside until the model was final?",
    Outcome.ANSWERED: "Yes. A. Person, 2026-03-01. Evidence: https://example.org/decisions/17",
}
"""What stands beside the mark, where it is not the reason of the criterion."""


def drawn(outcome: Outcome) -> str:
    """One outcome as it stands on a page of the site."""
    result = MEASURED[outcome]() if outcome in MEASURED else None
    reason = TOLD.get(outcome, "{reason}").format(reason=result.reason if result else "")
    return Markup(
        '<div class="mc-result mc-{0}"><p class="mc-verdict">{1}</p><p class="mc-reason">{2}</p>{3}</div>\n'
    ).format(
        outcome.value,
        chip(outcome),
        reason,
        Markup('<div class="mc-drawing">{}</div>').format(draw(result)) if result else "",
    )


def written(page: str) -> str:
    """The page, with its pictures drawn anew."""
    return DRAWN.sub(lambda found: f"{found[1]}\n{drawn(Outcome(found['outcome']))}\n{found[3]}", page)


def test_every_outcome_is_drawn() -> None:
    """Each outcome has its picture; this file, run as a program, draws them."""
    page = PAGE.read_text(encoding="utf-8")
    assert [found["outcome"] for found in DRAWN.finditer(page)] == [outcome.value for outcome in Outcome]
    assert page == written(page), "run python -m tests.test_verdict_page"


@pytest.mark.parametrize("outcome", MEASURED)
def test_the_numbers_of_a_picture_come_out_so(outcome: Outcome) -> None:
    """What is drawn as an outcome is decided as that outcome; a condition that fails makes a verdict invalid."""
    assert MEASURED[outcome]().outcome is (Outcome.FAILED if outcome is Outcome.INVALID else outcome)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

"""What all checks by removal have in common: their controls, and what their results may not depend on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor

from method_cards.verdict import Outcome
from method_checks.attribution.comprehensiveness_sufficiency import ComprehensivenessSufficiency
from method_checks.attribution.insertion_deletion import InsertionDeletion
from method_checks.attribution.pixel_flipping import PixelFlipping
from method_checks.attribution.road import Road
from method_checks.attribution.selectivity import Selectivity
from tests.checks.attribution.carded import control, judged, names, reason, values
from tests.checks.attribution.removal_cases import Still, bright, constant, contribution, linear, scaled, squashed

if TYPE_CHECKING:
    from collections.abc import Callable

    from method_cards.check import Check
    from method_cards.subject import Subject


@dataclass(frozen=True)
class Case:
    """One check by removal.

    Attributes:
        kind: The check.
        gain: A quantity that is 0 by chance.
        gate: The quantity that counts examples on which nothing can be said.
        control: A sound control whose trained network is measured.
        subject: A small subject whose contributions are its inputs.
        single: Whether single positions are ranked, so that any monotone function of the map keeps the order; of patches only a multiple does.
    """

    kind: type[Check]
    gain: str
    gate: str = "flat_curve"
    control: str = "integrated-gradients"
    subject: Callable[[], Subject] = linear
    single: bool = True


CASES = (
    Case(PixelFlipping, "relevance_gain"),
    Case(InsertionDeletion, "deletion_gain"),
    Case(Road, "accuracy_gain", gate="never_changed", subject=lambda: bright((1, 9, 9))),
    Case(Selectivity, "selectivity_gain", subject=bright, single=False),
    Case(ComprehensivenessSufficiency, "comprehensiveness_gain", gate="small_drop", control="words"),
)

each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind.id.partition("/")[2])


def of_kind(kind: str) -> pytest.MarkDecorator:
    """Every control of this kind, of every check by removal."""
    return pytest.mark.parametrize(
        ("check", "name"),
        [
            pytest.param(case.kind, name, id=f"{case.kind.id.partition('/')[2]}-{name}")
            for case in CASES
            for name in names(case.kind, kind)
        ],
    )


@of_kind("sound")
def test_a_sound_control_passes(check: type[Check], name: str) -> None:
    """A map whose order the model obeys passes, on every kind of data that the check takes."""
    assert judged(check(), control(check, name)).outcome is Outcome.PASSED


@of_kind("defect")
def test_a_defect_control_fails_for_the_stated_reason(check: type[Check], name: str) -> None:
    """Each control with the defect violates the criterion that it names, while the conditions of the run hold."""
    found = judged(check(), control(check, name))
    assert found.outcome is Outcome.FAILED
    assert reason(check, name) in [item.measurement for item in found.criteria if item.outcome is Outcome.FAILED]
    assert all(gate.outcome is Outcome.PASSED for gate in found.gates)


@each
def test_the_same_seed_gives_the_same_result(case: Case) -> None:
    """Two runs from one seed measure the same to the last bit; another seed does not."""
    subject = control(case.kind, case.control)
    one, same, other = (values(case.kind(), subject, samples=48, seed=seed) for seed in (0, 0, 1))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not np.array_equal(one[case.gain], other[case.gain])


@pytest.mark.parametrize(
    ("case", "change"),
    [
        pytest.param(case, change, id=f"{case.kind.id.partition('/')[2]}-{change.__name__}")
        for case in CASES
        for change in ((scaled, squashed) if case.single else (scaled,))
    ],
)
def test_only_the_order_of_the_map_counts(case: Case, change: Callable[..., Tensor]) -> None:
    """A map and a monotone function of it measure the same to the last bit."""
    subject = case.subject()
    expected = values(case.kind(), replace(subject, explainer=contribution), samples=32)
    found = values(case.kind(), replace(subject, explainer=change), samples=32)
    assert all(np.array_equal(expected[name], found[name]) for name in expected)


@each
def test_a_constant_map_is_worth_as_much_as_chance(case: Case) -> None:
    """Without an order the gain is 0 within four standard errors, since ties go at random and not by position."""
    subject = replace(control(case.kind, case.control), explainer=constant)
    found = values(case.kind(), subject, samples=256)[case.gain]
    assert abs(found.mean()) < 4 * found.std() / len(found) ** 0.5


@each
def test_the_size_of_batches_does_not_matter(case: Case) -> None:
    """Every example measures the same in batches of 7 and of 64."""
    subject = control(case.kind, case.control)
    one, other = (values(case.kind(), subject, samples=48, batch=batch) for batch in (7, 64))
    assert all(other[name] == pytest.approx(one[name], abs=1e-5) for name in one)


@each
def test_a_model_that_does_not_react_is_invalid(case: Case) -> None:
    """Where removal moves nothing, no verdict is given, and the reason names the condition."""
    subject = case.subject()
    model = torch.nn.Sequential(subject.model, Still()).eval()
    found = judged(case.kind(), replace(subject, model=model), samples=64)
    assert found.outcome is Outcome.INVALID
    assert case.gate in found.reason


@each
def test_the_cost_is_what_is_spent(case: Case) -> None:
    """The passes that the plan states are those that the model is called for."""
    calls = {"examples": 0}
    subject = case.subject()
    subject.model.register_forward_pre_hook(
        lambda _module, inputs: calls.__setitem__("examples", calls["examples"] + len(inputs[0]))
    )
    stated = case.kind().passes(subject, 32)
    calls["examples"] = 0
    values(case.kind(), subject, samples=32)
    assert calls["examples"] == stated.forward + stated.backward


@each
def test_without_an_explainer_it_does_not_apply(case: Case) -> None:
    """There is nothing to check, and the reason says how to name an explainer."""
    assert "name one under `explainer:`" in case.kind().not_applicable(replace(case.subject(), explainer=None))

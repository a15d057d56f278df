"""Random numbers of explanations belong to examples: no check's result depends on the batches that examples come in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from method_cards.check import Check, Context
from method_checks.attribution.completeness import Completeness
from method_checks.attribution.explainers import Noise, SmoothGrad
from method_checks.attribution.explainers.generators import Generators
from method_checks.attribution.explainers.shared import drawn, explained, settings_of
from method_checks.attribution.hyperparameter_sensitivity import HyperparameterSensitivity
from method_checks.attribution.implementation_invariance import ImplementationInvariance
from method_checks.attribution.input_multiplier import InputMultiplier
from method_checks.attribution.label_leakage import LabelLeakage
from method_checks.attribution.max_sensitivity import MaxSensitivity
from method_checks.attribution.parameter_randomization import ParameterRandomization
from method_checks.attribution.random_logit import RandomLogit
from method_checks.attribution.sensitivity_axiom import SensitivityAxiom
from method_checks.attribution.smooth_activation import SmoothActivation
from method_checks.attribution.smooth_parameter_randomization import SmoothParameterRandomization
from tests.checks.attribution.carded import control, run
from tests.checks.attribution.explained import images, mlp, table, view_of

CHECKS: tuple[type[Check], ...] = (
    Completeness,
    HyperparameterSensitivity,
    ImplementationInvariance,
    InputMultiplier,
    LabelLeakage,
    MaxSensitivity,
    ParameterRandomization,
    RandomLogit,
    SensitivityAxiom,
    SmoothActivation,
    SmoothParameterRandomization,
)
DRAWS = {
    SmoothActivation: {"draws": 15, "points": 2},
    MaxSensitivity: {"draws": 3},
    SmoothParameterRandomization: {"draws": 3},
}
RANDOM: dict[str, dict[str, Any]] = {"noise": {"method": "noise"}, "smoothgrad": {"method": "smoothgrad", "samples": 3}}


@pytest.mark.parametrize("method", RANDOM)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_size_of_batches_does_not_matter_to_random_explainers(check: type[Check], method: str) -> None:
    """Every example of every series measures the same in batches of 7 and of 24, but for rounding."""
    subject = replace(control(ParameterRandomization, "gradient"), explainer=RANDOM[method])
    made = check.model_validate(DRAWS.get(check, {}))
    if reason := made.not_applicable(subject):
        pytest.skip(reason)
    one, other = (run(made, subject, samples=24, batch=batch) for batch in (24, 7))
    assert one[:2] == other[:2] == ("complete", "")
    for series in one[2]:
        (found,) = other[2].select(series.name, series.by)
        assert found.values == pytest.approx(series.values, abs=2e-3, rel=1e-4)


def test_another_example_copy_or_seed_has_other_numbers() -> None:
    """The first copy of an example draws the same in every view; its second copy, another example and another seed do not."""
    view = view_of(table(mlp()))
    seeds = [Generators(1, view, 0).row(row).initial_seed() for row in range(6)]
    assert (
        len({*seeds, Generators(1, view, 1).row(0).initial_seed(), Generators(2, view, 0).row(0).initial_seed()}) == 8
    )
    assert Generators(1, view_of(table(mlp()), 4), 0).row(0).initial_seed() == seeds[4]


def test_a_persons_function_has_other_numbers_in_another_batch() -> None:
    """What is drawn for all rows at once follows from all of them, so that no two batches share their noise."""
    subject = images(mlp())
    one, same, other = (view_of(subject, *chosen) for chosen in ((0, 1), (0, 1), (2, 3)))
    assert Generators(1, one, 0).together == Generators(1, same, 0).together
    assert Generators(1, one, 0).together != Generators(1, other, 0).together


def test_the_maps_of_a_run_have_noise_of_their_own_for_each_setting_and_draw() -> None:
    """Maps are made once; another draw of the same explainer, and another explainer, draw other numbers."""
    subject = control(ParameterRandomization, "gradient")
    context = Context(subject, 4, 0, 4)
    view = subject.view(next(iter(context.batches("test"))))
    first, other = (explained(context, Noise(), view, draw) for draw in (0, 1))
    assert explained(context, Noise(), view) is first
    assert not bool((first == other).any())
    seeds = [
        context.once(("noise of explanations", settings_of(each, view)[0], 0), drawn)
        for each in (Noise(), SmoothGrad())
    ]
    assert seeds[0] != seeds[1]

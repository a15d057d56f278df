"""The limits of randomisation: noise that changes with the weights must not be accepted."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from method_cards import judge
from method_cards.card import CheckBinding
from method_cards.check import Context
from method_cards.execution import Options, Silent, measure
from method_cards.subject import Subject
from method_cards.verdict import Outcome
from method_checks.attribution import controls
from method_checks.attribution.changes.removal import Order, Removal
from method_checks.attribution.explainers import resolve
from method_checks.attribution.networks.retention import scale_retention
from method_checks.attribution.parameter_randomization import ParameterRandomization
from method_checks.attribution.randomization_limits import RandomizationLimits
from tests.helpers import binding, criterion, step

if TYPE_CHECKING:
    from method_cards.check import Check
    from method_cards.measurement import Measurements

CRITERIA = binding(
    RandomizationLimits.id,
    [criterion("top_similarity", at_most=0.5), criterion("deletion_gain", at_least=0.1)],
    [criterion("self_similarity", at_least=0.8), criterion("flat_curve", at_most=0.5)],
)


def run(
    check: Check, subject: Subject, *, samples: int = 128, batch: int = 64, criteria: Any = CRITERIA
) -> tuple[str, str, Measurements]:
    context = Context(subject, samples, 0, batch, scope=check.id)
    return measure(step(check, criteria), context, Options(exhaustive=True), Silent())


def control(name: str) -> Subject:
    return next(item for item in RandomizationLimits.controls() if item.name == name).build(0)


@pytest.mark.parametrize("item", RandomizationLimits.controls(), ids=lambda item: item.name)
def test_controls_get_the_verdict_that_is_known(item: Any) -> None:
    """Sound controls pass, defects fail for their reason alone, and new noise at each call is invalid."""
    status, cause, found = run(RandomizationLimits(), item.build(0))
    assert (status, cause) == ("complete", "")
    judged = judge.judge(CheckBinding.model_validate(CRITERIA), found, complete=True)
    expected = {"sound": Outcome.PASSED, "defect": Outcome.FAILED, "confounded": Outcome.INVALID}[item.kind]
    assert judged.outcome is expected
    if item.kind == "defect":
        failed = [result.measurement for result in judged.criteria if result.outcome is Outcome.FAILED]
        assert failed == [item.because]


def test_noise_that_follows_from_the_weights_passes_every_randomisation_criterion() -> None:
    """Binder et al.: by randomisation alone noise is perfect, with a perfect self-similarity; this is what the pairing is for."""
    subject = control("noise-of-weights")
    bound = binding(
        ParameterRandomization.id,
        [
            criterion("signed_similarity", where={"position": "top"}, at_most=0.5),
            criterion("signed_null_similarity", at_most=0.3),
            criterion("absolute_null_similarity", at_most=0.5),
        ],
        [criterion("self_similarity", at_least=0.9)],
    )
    _, cause, found = run(ParameterRandomization(seeds=2), subject, samples=256, criteria=bound)
    assert not cause
    assert judge.judge(CheckBinding.model_validate(bound), found, complete=True).outcome is Outcome.PASSED


def test_the_gain_is_that_of_a_loop_over_pixels() -> None:
    """Each curve is made by setting one pixel after the other of one image to zero and asking the model; areas by trapezoids."""
    subject, check = control("input-x-gradient"), RandomizationLimits(steps=4, orders=2)
    found = run(check, subject, samples=3, batch=3)[2].select("deletion_gain", {})[0].values
    context = Context(subject, 3, 0, 3, scope=check.id)
    (batch,) = context.batches("test")
    view = subject.view(batch)
    removal = Removal(context, view, resolve(subject, None), "test", substrate="zeros", by="magnitude")
    given = view.features.clone().requires_grad_()
    (slopes,) = torch.autograd.grad(subject.model(given).gather(1, view.targets[:, None]).sum(), given)
    sizes = (slopes * view.features).abs().flatten(1).gather(1, removal.ranks("most").argsort(1))
    assert bool((sizes.diff(dim=1) <= 0).all())
    orders: tuple[Order, ...] = ("most", 0, 1)
    for example in range(3):
        areas = []
        for order in orders:
            image = view.features[example].clone()
            heights = []
            sequence = removal.ranks(order)[example].argsort().tolist()
            for gone in range(65):
                if gone % 16 == 0:
                    with torch.no_grad():
                        heights.append(float(subject.model(image[None]).softmax(1)[0, view.targets[example]]))
                if gone < 64:
                    image[0, sequence[gone] // 8, sequence[gone] % 8] = 0
            areas.append(sum((left + right) / 8 for left, right in pairwise(heights)))
        assert found[example] == pytest.approx((areas[1] + areas[2]) / 2 - areas[0], abs=1e-6)


def test_on_a_linear_model_the_gain_is_positive_for_the_exact_map_and_negative_for_its_inverse() -> None:
    """Input times gradient is exact there; its order, most helpful first, falls fastest, and the reverse slowest."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    test = controls.digits(0)[1]

    def exact(sign: float) -> Any:
        def explain(given: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            weights = given[1].weight  # type: ignore[index]  # a Sequential
            assert isinstance(weights, torch.Tensor)
            return sign * inputs * weights.detach()[targets].reshape(inputs.shape)

        return explain

    gains = []
    for sign in (1.0, -1.0):
        subject = Subject("linear", "image-classification", model, {"test": test}, explainer=exact(sign))
        _, cause, found = run(RandomizationLimits(by="signed"), subject, samples=48)
        assert not cause
        gains.append(found.select("deletion_gain", {})[0].values)
    assert gains[0].min() > 0
    assert gains[1].max() < 0


def test_retention_is_that_of_activations_times_weights() -> None:
    """Below a linear output the part of a channel is |activation x weight|: the closed form."""
    subject = control("input-x-gradient")
    view = subject.view(subject.batch("test", tuple(range(6))))
    found = scale_retention(view, ("8",))
    assert found is not None
    with torch.no_grad():
        hidden = subject.model[:8](view.features)  # type: ignore[index]  # a Sequential
        weights = subject.model[8].weight[view.targets]  # type: ignore[index]
    for example in range(6):
        expected = spearmanr(hidden[example].abs(), (hidden[example] * weights[example]).abs()).statistic
        assert float(found[example]) == pytest.approx(float(expected), abs=1e-6)
    assert scale_retention(view, ("",)) is None
    images = scale_retention(view, ("2",))
    assert images is not None
    assert images.shape == (6,)


def test_a_model_that_ignores_its_input_cannot_be_judged() -> None:
    """Where no deletion moves the probability, all curves are flat and no gain is stated."""
    subject = control("input-x-gradient")
    with torch.no_grad():
        last = subject.model[8]  # type: ignore[index]
        last.weight.mul_(1e-3)
    _, cause, found = run(RandomizationLimits(), subject, samples=32)
    assert not cause
    assert found.select("flat_curve", {})[0].values.tolist() == [1.0] * 32
    assert not found.select("deletion_gain", {})


def test_the_same_seed_gives_the_same_result_and_batches_do_not_matter() -> None:
    """Random orders belong to an example, not to its batch."""
    subject = control("input-x-gradient")
    one, same, small = (run(RandomizationLimits(), subject, samples=24, batch=size)[2] for size in (24, 24, 7))
    for series in one:
        assert np.array_equal(series.values, same.select(series.name, series.by)[0].values)
        assert small.select(series.name, series.by)[0].values == pytest.approx(series.values, abs=1e-3)


@pytest.mark.parametrize("build", [controls.table_by, controls.words_by])
def test_tables_and_texts_have_a_gain_as_well(build: Any) -> None:
    """Columns and tokens are deleted as pixels are, and a sound map has a gain."""
    status, cause, found = run(RandomizationLimits(), build("input-x-gradient")(0))
    assert (status, cause) == ("complete", "")
    assert found.select("deletion_gain", {})[0].values.mean() > 0.1

"""Smooth activations: the five proofs, and that nothing but kinks is replaced."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from captum import attr
from torch import Tensor, nn

from method_cards import judge
from method_cards.card import CheckBinding
from method_cards.check import Context
from method_cards.errors import CheckError
from method_cards.execution import Options, Silent, measure
from method_cards.judge import Judged
from method_cards.measurement import Measurements
from method_cards.subject import Subject
from method_cards.verdict import Outcome
from method_checks.attribution.explainers import resolve
from method_checks.attribution.infidelity import Infidelity
from method_checks.attribution.networks.smoothing import Smooth
from method_checks.attribution.smooth_activation import SmoothActivation, share_of
from tests.checks.attribution.explained import cnn, images
from tests.helpers import binding, criterion, step

CRITERIA = binding(
    SmoothActivation.id,
    [criterion("explained_gain", at_most=0.2)],
    [criterion("changed_prediction", at_most=0.15), criterion("unchanged_output", at_most=0.5)],
)
CONTROLS = {item.name: item for item in SmoothActivation.controls()}


def run(
    check: SmoothActivation, subject: Subject, *, samples: int = 64, seed: int = 0
) -> tuple[str, str, Measurements]:
    context = Context(subject, samples, seed, 64, scope=check.id)
    return measure(step(check, CRITERIA), context, Options(exhaustive=True), Silent())


def values(check: SmoothActivation, subject: Subject, **options: Any) -> dict[str, np.ndarray[Any, Any]]:
    status, cause, found = run(check, subject, **options)
    assert (status, cause) == ("complete", "")
    return {series.label: series.values for series in found}


def judged(check: SmoothActivation, subject: Subject, **options: Any) -> Judged:
    status, cause, found = run(check, subject, **options)
    assert (status, cause) == ("complete", "")
    return judge.judge(CheckBinding.model_validate(CRITERIA), found, complete=True)


@cache
def control(name: str, seed: int = 0) -> Subject:
    return CONTROLS[name].build(seed)


class SlowSoftplus(nn.Module):
    """log(1 + exp(β x)) / β."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.log1p(torch.exp(20.0 * x.double())).div(20.0).to(x.dtype)


class SlowPool(nn.Module):
    """log Σ exp(β x) / β over each square of two by two, one square at a time."""

    def forward(self, x: Tensor) -> Tensor:
        rows = []
        for top in range(0, x.shape[2], 2):
            row = [
                torch.log(torch.exp(20.0 * x[:, :, top : top + 2, left : left + 2].double()).sum((2, 3))) / 20.0
                for left in range(0, x.shape[3], 2)
            ]
            rows.append(torch.stack(row, 2))
        return torch.stack(rows, 2).to(x.dtype)


def rebuilt(model: nn.Module) -> nn.Module:
    """The same network, written out with smooth modules."""
    assert isinstance(model, nn.Sequential)
    kinds: dict[type[nn.Module], type[nn.Module]] = {nn.ReLU: SlowSoftplus, nn.MaxPool2d: SlowPool}
    return nn.Sequential(*(kinds[type(part)]() if type(part) in kinds else part for part in model)).eval()


# 1. and 2. Controls


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", [name for name, item in CONTROLS.items() if item.kind == "sound"])
def test_a_sound_control_passes(name: str, seed: int) -> None:
    """Maps of ordinary small networks gain next to nothing from smooth activations."""
    assert judged(SmoothActivation(), control(name, seed)).outcome is Outcome.PASSED


def test_a_defect_control_fails_for_the_stated_reason() -> None:
    """A network whose gradient is all kinks has a much better map when they are smooth, although it predicts the same."""
    found = judged(SmoothActivation(), control("zigzag"))
    assert found.outcome is Outcome.FAILED
    assert [item.measurement for item in found.criteria if item.outcome is Outcome.FAILED] == ["explained_gain"]
    assert all(gate.outcome is Outcome.PASSED for gate in found.gates)


# 3. A slow re-implementation, and 4. agreement with Captum on it


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")  # Captum's notice
def test_the_smooth_network_is_the_one_that_is_written_out() -> None:
    """Logits and gradients under replacement are those of a network that is built from slow smooth modules, as Captum explains it."""
    subject = control("gradient")
    view = subject.view(subject.batch("test", tuple(range(8))))
    slow = rebuilt(subject.model)
    with Smooth(20.0) as smooth:
        logits = view.outputs(view.features, view.rows)
        found = resolve(subject).explain(view, 0)
    assert smooth.replaced == 8
    assert torch.allclose(logits, slow(view.features), atol=1e-4)
    assert not torch.allclose(logits, subject.model(view.features), atol=1e-2)
    theirs = attr.Saliency(slow).attribute(view.features, target=view.targets, abs=False)
    assert torch.allclose(found, theirs, atol=1e-4)


def test_gain_and_ratio_agree_with_the_infidelity_of_both_maps() -> None:
    """They are differences and ratios of what `attribution/infidelity` measures for each of the two maps on the same draws."""
    subject, check = control("gradient"), SmoothActivation()
    slow = rebuilt(subject.model)

    def smooth_gradient(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        leaf = inputs.requires_grad_()
        return torch.autograd.grad(slow(leaf).gather(1, targets[:, None]).sum(), leaf)[0]

    shares = []
    for explainer in ({"method": "gradient"}, smooth_gradient):
        other = Subject("other", subject.task, subject.model, subject.data, explainer=explainer)
        context = Context(other, 24, 0, 24, scope=check.id)
        yields = list(Infidelity(perturbation="noise").measure(other, context))
        shares.append(next(np.asarray(item.values) for item in yields if item.name == "explained_share"))  # type: ignore[union-attr]
    found = values(check, subject, samples=24)
    assert found["explained_gain"] == pytest.approx(shares[1] - shares[0], abs=1e-5)
    left = 1 - np.stack(shares)
    assert found["infidelity_ratio"] == pytest.approx(left[1] / left.sum(0), abs=1e-3)


# 5. Same seed, same result


def test_the_same_seed_gives_the_same_result() -> None:
    """Two runs from one seed measure the same to the last bit; another seed measures otherwise."""
    one, same, other = (values(SmoothActivation(), control("gradient"), samples=16, seed=seed) for seed in (0, 0, 1))
    for label, numbers in one.items():
        assert np.array_equal(numbers, same[label]), label
    assert not np.array_equal(one["explained_gain"], other["explained_gain"])


# What is replaced


class Kinks(nn.Module):
    """The same ReLU and the same pooling, called in every way."""

    def __init__(self, way: int) -> None:
        super().__init__()
        self.way = way
        self.modules_ = nn.Sequential(nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        if self.way == 0:
            return self.modules_(x)  # type: ignore[no-any-return]
        if self.way == 1:
            return nn.functional.max_pool2d(nn.functional.relu(x), 3, 2, 1)
        if self.way == 2:
            return torch.max_pool2d(torch.relu(x), 3, 2, 1)
        torch.relu_(x)
        return nn.functional.max_pool2d(x, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))


@pytest.mark.parametrize("beta", [2.0, 1e4])
def test_modules_and_functions_are_replaced_alike(beta: float) -> None:
    """Whether an operation is a module, a function, a method or in place, it becomes the same smooth one."""
    x = torch.randn(2, 3, 7, 7)
    found = []
    for way in range(4):
        with Smooth(beta) as smooth:
            found.append(Kinks(way)(x))
        assert smooth.replaced == 2
        assert torch.allclose(found[0], found[way])
    exact = Kinks(0)(x)
    assert torch.allclose(exact, nn.functional.max_pool2d(x.relu(), 3, 2, 1)), "afterwards all is as it was"
    gap = found[0] - exact
    assert gap.min() >= -1e-5
    assert gap.max() <= (math.log(2) + math.log(9)) / beta + 1e-5
    assert beta > 100 or gap.max() > 0.1


@pytest.mark.parametrize("options", [{"dilation": 2}, {"ceil_mode": True}, {"return_indices": True}])
def test_pooling_that_has_no_smooth_counterpart_is_refused(options: dict[str, Any]) -> None:
    """A dilated or cut window, or one whose index is asked for, is an error, not an approximation."""
    with Smooth(10.0), pytest.raises(CheckError, match="no smooth counterpart"):
        nn.functional.max_pool2d(torch.rand(1, 1, 9, 9), 2, **options)


def test_a_network_without_kinks_is_not_applicable() -> None:
    """Where nothing can be replaced the reason says so; where something can, it applies."""
    data = torch.rand(16, 5), torch.zeros(16, dtype=torch.long)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)).eval()
    subject = Subject("smooth", "tabular-classification", model, {"test": data}, explainer={"method": "gradient"})
    assert "no ReLU" in SmoothActivation().not_applicable(subject)
    assert not SmoothActivation().not_applicable(control("gradient-of-texts"))


def test_a_copy_that_predicts_otherwise_is_invalid() -> None:
    """With activations so smooth that most predictions change, nothing is decided about the original's map."""
    found = judged(SmoothActivation(beta=0.5), control("gradient"))
    assert found.outcome is Outcome.INVALID
    assert "changed_prediction" in found.reason


def test_a_share_of_nothing_is_one_half() -> None:
    """Two maps that both do not move are equal, and equal maps have a share of one half."""
    one, other = torch.tensor([0.0, 1.0, 0.0, 3.0]), torch.tensor([0.0, 1.0, 2.0, 1.0])
    assert share_of(one, other).tolist() == [0.5, 0.5, 0.0, 0.75]


def test_the_cost_is_what_is_spent() -> None:
    """As many examples go through the model as the plan states."""
    calls = {"examples": 0}
    built = CONTROLS["gradient"].build(0)
    built.model.register_forward_pre_hook(
        lambda _module, inputs: calls.__setitem__("examples", calls["examples"] + len(inputs[0]))
    )
    check = SmoothActivation(draws=20, points=3)
    stated = check.passes(built, 32)
    calls["examples"] = 0
    run(check, built, samples=32)
    assert calls["examples"] == stated.forward + stated.backward


def test_deep_lifts_own_rule_for_max_pooling_leaves_it_out() -> None:
    """DeepLIFT asks max-pooling for places, which a smooth network has none of: it is told before a run, where the model pools."""
    pooling = Subject("pools", "image-classification", cnn(), images(cnn()).data, explainer={"method": "deep-lift"})
    assert "a rule of its own for max-pooling" in SmoothActivation().not_applicable(pooling)
    plain = replace(pooling, model=cnn(pool=nn.AvgPool2d))
    assert not SmoothActivation().not_applicable(plain)

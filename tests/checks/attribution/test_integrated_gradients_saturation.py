"""Saturation of Integrated Gradients: the five proofs, and paths whose answer is known."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from captum import attr
from torch import Tensor, nn

from method_cards import judge
from method_cards.card import CheckBinding
from method_cards.check import Context
from method_cards.execution import Options, Silent, measure
from method_cards.judge import Judged
from method_cards.measurement import Measurements
from method_cards.subject import Subject
from method_cards.verdict import Outcome
from method_checks.attribution import controls
from method_checks.attribution.explainers import IntegratedGradients
from method_checks.attribution.integrated_gradients_saturation import (
    IntegratedGradientsSaturation,
    crossing,
    split_attributions,
)
from tests.helpers import binding, criterion, step

if TYPE_CHECKING:
    from collections.abc import Mapping

CRITERIA = binding(
    IntegratedGradientsSaturation.id,
    [criterion("excess_mass", at_most=0.25)],
    [criterion("small_difference", at_most=0.5)],
)


def run(
    subject: Subject, check: IntegratedGradientsSaturation | None = None, **options: Any
) -> tuple[str, str, Measurements]:
    chosen = check or IntegratedGradientsSaturation(steps=32)
    context = Context(
        subject, options.get("samples", 96), options.get("seed", 0), options.get("batch", 64), scope=chosen.id
    )
    return measure(step(chosen, CRITERIA), context, Options(exhaustive=True), Silent())


def values(subject: Subject, check: IntegratedGradientsSaturation | None = None, **options: Any) -> Mapping[str, Any]:
    status, cause, found = run(subject, check, **options)
    assert (status, cause) == ("complete", "")
    return {series.name: series.values for series in found}


def judged(subject: Subject, **parameters: Any) -> Judged:
    check = IntegratedGradientsSaturation.model_validate({"steps": 32, **parameters})
    status, cause, found = run(subject, check)
    assert (status, cause) == ("complete", "")
    return judge.judge(CheckBinding.model_validate(CRITERIA), found, complete=True)


@cache
def control(name: str, seed: int = 0) -> Subject:
    return next(item for item in IntegratedGradientsSaturation.controls() if item.name == name).build(seed)


def of(model: nn.Module, data: Tensor) -> Subject:
    targets = torch.zeros(len(data), dtype=torch.long)
    return Subject(
        "made",
        "tabular-classification",
        model.eval(),
        {"test": (data, targets)},
        explainer={"method": "integrated-gradients"},
    )


class Homogeneous(nn.Module):
    """Two layers without biases: the output of t·x is t times that of x."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 16, bias=False), nn.ReLU(), nn.Linear(16, 3, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


# 1 and 2. Controls that pass, and controls that fail for the stated reason


@pytest.mark.parametrize("item", IntegratedGradientsSaturation.controls(), ids=lambda item: item.name)
def test_the_controls_get_their_verdict(item: Any) -> None:
    """Sound controls pass, and each defect fails by the criterion that it names."""
    found = judged(control(item.name), **item.parameters)
    assert found.outcome is (Outcome.PASSED if item.kind == "sound" else Outcome.FAILED)
    failed = [result.measurement for result in found.criteria if result.outcome is Outcome.FAILED]
    assert failed == [item.because][: item.kind == "defect"]


def test_what_cancels_does_not_change_the_outputs() -> None:
    """The defect's built-in term is 0 for every example and along the whole path: outputs are the squashed ones."""
    subject = control("saturating-digits")
    inputs, _ = subject.split("test").take(range(20))
    assert isinstance(inputs, Tensor)
    plain = torch.tanh(controls.trained(0, "digits")(inputs[:, :1]))
    for at in (1.0, 0.3):
        assert torch.allclose(subject.model(at * inputs), torch.tanh(controls.trained(0, "digits")(at * inputs[:, :1])))
    assert torch.allclose(subject.model(inputs), plain)


# 3. A slow re-implementation, straight from the definition


def slow(subject: Subject, steps: int, share: float, indices: tuple[int, ...]) -> dict[str, list[float]]:
    """One example and one step at a time: the threshold, the first step beyond it, and the sums before and from it."""
    inputs, _ = subject.split("test").take(indices)
    assert isinstance(inputs, Tensor)
    found: dict[str, list[float]] = {name: [] for name in ("saturation_point", "saturated_mass", "unsaturated_cosine")}
    for x in inputs:
        target = int(subject.model(x[None])[0].argmax())
        at_baseline = subject.model(torch.zeros_like(x)[None])[0, target].item()
        at_input = subject.model(x[None])[0, target].item()
        threshold = at_baseline + share * (at_input - at_baseline)
        parts = [torch.zeros_like(x), torch.zeros_like(x)]
        point = None
        for k in range(1, steps + 1):
            z = (k / steps * x).requires_grad_()
            output = subject.model(z[None])[0, target]
            (slope,) = torch.autograd.grad(output, z)
            beyond = (
                float(output.detach()) > threshold if at_input > at_baseline else float(output.detach()) < threshold
            )
            if point is None and beyond:
                point = k / steps
            parts[0 if point is None else 1] += slope * x / steps
        assert point is not None
        masses = [float(part.abs().sum()) for part in parts]
        whole = (parts[0] + parts[1]).flatten()
        found["saturation_point"].append(point)
        found["saturated_mass"].append(masses[1] / sum(masses))
        found["unsaturated_cosine"].append(float(parts[0].flatten() @ whole / (parts[0].norm() * whole.norm())))
    return found


@pytest.mark.parametrize("name", ["logit", "saturating-table"])
def test_it_agrees_with_a_slow_reading_of_the_definition(name: str) -> None:
    """Every example's cut, mass and cosine are those of a loop over examples and steps."""
    subject = control(name)
    check = IntegratedGradientsSaturation(steps=40, share=0.75)
    expected = slow(subject, 40, 0.75, Context(subject, 12, 0).indices("test"))
    found = values(subject, check, samples=12, batch=5)
    for quantity, numbers in expected.items():
        assert found[quantity] == pytest.approx(numbers, abs=1e-4), quantity


# 4. Captum, and closed forms


def test_both_parts_together_are_captums_map() -> None:
    """Left and right add up to Captum's Integrated Gradients with the right Riemann sum."""
    subject = control("logit")
    batch = subject.batch("test", range(8))
    view = subject.view(batch)
    parts, _, _ = split_attributions(view, torch.zeros_like(view.features), 20, 0.9)
    theirs = attr.IntegratedGradients(subject.model).attribute(
        view.features, target=view.targets, n_steps=20, method="riemann_right"
    )
    assert torch.allclose(parts.left + parts.right, theirs, atol=1e-5)


def test_a_homogeneous_network_does_not_saturate() -> None:
    """Without biases the output grows evenly: the cut is right behind the stated share, masses follow, and directions are equal."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        subject = of(Homogeneous(), torch.randn(32, 6))
    found = values(subject, IntegratedGradientsSaturation(steps=20, share=0.88))
    assert found["saturation_point"] == pytest.approx(np.full(32, 0.9))
    assert found["saturated_mass"] == pytest.approx(np.full(32, 0.15), abs=1e-5)
    assert found["excess_mass"] == pytest.approx(np.zeros(32), abs=1e-5)
    assert found["unsaturated_cosine"] == pytest.approx(np.ones(32), abs=1e-6)


class Ramp(nn.Module):
    """min(4a, 1) of the first column, and 3 (b² − c²) of two others, for the first class; the second is always below."""

    def forward(self, x: Tensor) -> Tensor:
        up = 1 - torch.relu(1 - 4 * x[:, 0])
        rough = 3 * (x[:, 1].square() - x[:, 2].square())
        return torch.stack([up + rough, 0 * up - 9], 1)


def test_a_ramp_with_a_known_excess() -> None:
    """The output is complete at a quarter of the path, and attributions 3 b² and −3 c² grow to the end of it."""
    subject = of(Ramp(), torch.ones(8, 3))
    steps = 400
    found = values(subject, IntegratedGradientsSaturation(steps=steps, share=0.9), samples=8)
    cut = 0.9 / 4
    masses = 0.9 + 6 * cut**2, 0.1 + 6 * (1 - cut**2)
    assert found["saturation_point"] == pytest.approx(np.full(8, cut), abs=2 / steps)
    assert found["saturated_mass"] == pytest.approx(np.full(8, masses[1] / sum(masses)), abs=0.01)
    assert found["saturated_output"] == pytest.approx(np.full(8, 0.1), abs=4 / steps + 1e-6)


def test_the_direction_of_the_change_does_not_matter() -> None:
    """An output that falls from the baseline to the input is cut where it has fallen by the share."""
    rising = torch.tensor([[0.2], [0.5], [0.95], [1.0]])
    for outputs in (rising, -rising, 3 * rising):
        where, behind = crossing(outputs, torch.zeros(1), 0.9)
        assert where.item() == 2
        assert behind.item() == pytest.approx(0.5)


def test_squashing_alone_fills_no_map() -> None:
    """A probability levels off early on the path, but its gradient goes with it, and attributions stay where the output changes."""
    logit, probability = (
        values(control("logit"), IntegratedGradientsSaturation(steps=32, score=score))
        for score in ("logit", "probability")
    )
    assert probability["saturation_point"].mean() < logit["saturation_point"].mean() - 0.2
    assert abs(probability["excess_mass"].mean()) < 0.2


# 5. Same seed, same result, and what must not matter


def test_the_same_seed_gives_the_same_result_whatever_the_batches() -> None:
    """Two runs agree to the last bit, and batches of another size to 1e-5."""
    one, same, other = (values(control("text"), samples=48, batch=size) for size in (64, 64, 17))
    for name, found in one.items():
        assert np.array_equal(found, same[name])
        assert found == pytest.approx(other[name], abs=1e-5)


def test_the_unit_of_the_output_does_not_matter() -> None:
    """Outputs in another unit give the same shares."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, data = Homogeneous(), torch.randn(16, 6)
    one = values(of(model, data))
    with torch.no_grad():
        model.layers[2].weight *= 1e3  # type: ignore[assignment, operator]
    other = values(of(model, data))
    for name in ("saturation_point", "saturated_mass", "excess_mass"):
        assert other[name] == pytest.approx(one[name], abs=1e-5)


# What is refused


def test_other_explainers_are_not_applicable() -> None:
    """Without a path there is nothing to cut, and the reason names the explainer."""
    assert 'The explainer "gradient"' in IntegratedGradientsSaturation().not_applicable(
        controls.digits_by("gradient")(0)
    )
    assert "left part" in IntegratedGradientsSaturation().not_applicable(
        controls.digits_by("integrated-gradients", part="left")(0)
    )
    assert not IntegratedGradientsSaturation().not_applicable(control("logit"))


def test_the_left_part_is_that_of_the_bundled_explainer() -> None:
    """With points at the right ends, `part: left` of Integrated Gradients and the check's left part have the same direction."""
    subject = control("probability")
    view = subject.view(subject.batch("test", range(16)))
    parts, _, _ = split_attributions(view, torch.zeros_like(view.features), 256, 0.5)
    left = IntegratedGradients(steps=256, part="left", split_at=0.5, quadrature="midpoint")
    theirs = left.explain(view, 0)
    cosines = torch.nn.functional.cosine_similarity(parts.left.flatten(1), theirs.flatten(1), dim=1)
    assert cosines.min() > 0.999


def test_an_output_that_never_changes_is_invalid() -> None:
    """Where there is no change to share out, no verdict is given."""

    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :2] * 0 + torch.tensor([1.0, 0.0])

    found = judged(of(Constant(), torch.randn(32, 3)))
    assert found.outcome is Outcome.INVALID
    assert "small_difference" in found.reason


def test_the_cost_is_what_is_spent() -> None:
    """The passes that the plan states are those that the model is called for."""
    subject = controls.digits_by("integrated-gradients")(0)
    check = IntegratedGradientsSaturation(steps=6)
    stated = check.passes(subject, 48)
    calls = []
    subject.model.register_forward_pre_hook(lambda _module, inputs: calls.append(len(inputs[0])))
    run(subject, check, samples=48)
    assert sum(calls) == stated.forward + stated.backward

"""Max-sensitivity: the five proofs, the cases whose answer algebra knows, and what must never pass."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from captum import attr
from captum.metrics import sensitivity_max
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
from method_checks.attribution.changes.draws import Draws
from method_checks.attribution.changes.stability import neighbours, padded_distance, relative
from method_checks.attribution.explainers import resolve
from method_checks.attribution.max_sensitivity import MaxSensitivity
from tests.helpers import binding, criterion, step

CRITERIA = binding(
    MaxSensitivity.id,
    [criterion("max_sensitivity", at_most=0.7), criterion("input_dependence", at_least=0.3)],
    [criterion("unlike_itself", at_most=0.2)],
)
CONTROLS = {item.name: item for item in MaxSensitivity.controls()}


def run(
    check: MaxSensitivity, subject: Subject, *, samples: int = 64, seed: int = 0, batch: int = 64
) -> tuple[str, str, Measurements]:
    context = Context(subject, samples, seed, batch, scope=check.id)
    return measure(step(check, CRITERIA), context, Options(exhaustive=True), Silent())


def values(check: MaxSensitivity, subject: Subject, **options: Any) -> dict[str, np.ndarray[Any, Any]]:
    status, cause, found = run(check, subject, **options)
    assert (status, cause) == ("complete", "")
    return {series.label: series.values for series in found}


def judged(check: MaxSensitivity, subject: Subject, **options: Any) -> Judged:
    status, cause, found = run(check, subject, **options)
    assert (status, cause) == ("complete", "")
    return judge.judge(CheckBinding.model_validate(CRITERIA), found, complete=True)


@cache
def control(name: str, seed: int = 0) -> Subject:
    return CONTROLS[name].build(seed)


def scaled_gradient(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    leaf = inputs.requires_grad_()
    return 100 * torch.autograd.grad(model(leaf).gather(1, targets[:, None]).sum(), leaf)[0]


# 1. Controls that pass


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", [name for name, item in CONTROLS.items() if item.kind == "sound"])
def test_a_sound_control_passes(name: str, seed: int) -> None:
    """Gradients of small networks move little within a fiftieth of the range, on images, texts and tables."""
    assert judged(MaxSensitivity(), control(name, seed)).outcome is Outcome.PASSED


# 2. Controls that fail for the stated reason


@pytest.mark.parametrize("name", [name for name, item in CONTROLS.items() if item.kind == "defect"])
def test_a_defect_control_fails_for_the_stated_reason(name: str) -> None:
    """A map that jumps fails by its sensitivity, and one that never moves by its independence of the input."""
    found = judged(MaxSensitivity(), control(name))
    assert found.outcome is Outcome.FAILED
    assert [item.measurement for item in found.criteria if item.outcome is Outcome.FAILED] == [CONTROLS[name].because]
    assert all(gate.outcome is Outcome.PASSED for gate in found.gates)


def test_a_random_explainer_gets_no_verdict() -> None:
    """Noise moves whether or not the input does: the condition says so, and nothing is decided."""
    found = judged(MaxSensitivity(), control("noise"))
    assert found.outcome is Outcome.INVALID
    assert "unlike_itself" in found.reason


# 3. A slow re-implementation, straight from the paper


def slow(subject: Subject, check: MaxSensitivity, count: int) -> dict[str, list[float]]:
    """Definition 3 of yeh2019infidelity, divided by the length of the map, one example and one point at a time."""
    context = Context(subject, count, 0, scope=check.id)
    found: dict[str, list[float]] = {"max_sensitivity": [], "average_sensitivity": [], "local_lipschitz": []}
    indices = context.indices("test")
    inputs, _ = subject.split("test").take(indices)
    assert isinstance(inputs, Tensor)
    for index, x in zip(indices, inputs, strict=True):
        target = int(subject.model(x[None]).argmax())

        def slope(at: Tensor, target: int = target) -> np.ndarray[Any, Any]:
            leaf = at.clone().requires_grad_()
            (found,) = torch.autograd.grad(subject.model(leaf[None])[0, target], leaf)
            return found.double().numpy().ravel()

        draws = Draws(context.number("draws"), [index], torch.device("cpu"))
        here, radius = slope(x), check.radius * float(x.max() - x.min())
        changes, slopes = [], []
        for number in range(check.draws):
            move = ((draws.uniform(number, x.numel()) * 2 - 1) * radius).reshape(x.shape)
            assert float(move.abs().max()) <= radius
            distance = float(np.linalg.norm(slope(x + move) - here))
            changes.append(distance / float(np.linalg.norm(here)))
            slopes.append(distance / float(move.norm()))
        found["max_sensitivity"].append(max(changes))
        found["average_sensitivity"].append(sum(changes) / len(changes))
        found["local_lipschitz"].append(max(slopes))
    return found


def test_it_agrees_with_a_slow_reading_of_the_paper() -> None:
    """Sensitivities and the Lipschitz estimate are those of a loop over examples and points."""
    check = MaxSensitivity(draws=6, radius=0.1)
    expected = slow(control("gradient"), check, 8)
    found = values(check, control("gradient"), samples=8, batch=3)
    for label, numbers in expected.items():
        assert found[label] == pytest.approx(numbers, rel=1e-3, abs=1e-5), label


# 4. Agreement with Captum


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")  # Captum's notice
def test_it_agrees_with_captum() -> None:
    """At the same points it is Captum's `sensitivity_max`, example by example."""
    subject, check = control("gradient"), MaxSensitivity(draws=7, radius=0.05)
    found = values(check, subject, samples=16)
    context = Context(subject, 16, 0, scope=check.id)
    view = subject.view(subject.batch("test", context.indices("test")))
    draws = Draws.of(context, view.batch)
    flat = view.features.flatten(1)
    reach = 0.05 * (flat.amax(1) - flat.amin(1))[:, None]
    moves = torch.stack([(draws.uniform(number, flat.shape[1]) * 2 - 1) * reach for number in range(7)], 1)
    theirs = sensitivity_max(
        attr.Saliency(subject.model).attribute,
        view.features,
        perturb_func=lambda inputs: inputs + moves.reshape(inputs.shape),
        n_perturb_samples=7,
        target=view.targets,
        abs=False,
    )
    assert found["max_sensitivity"] == pytest.approx(theirs.numpy(), rel=1e-3, abs=1e-5)


# 5. Same seed, same result


def test_the_same_seed_gives_the_same_result() -> None:
    """Two runs from one seed measure the same to the last bit; another seed measures other points."""
    one, same, other = (values(MaxSensitivity(), control("gradient"), samples=16, seed=seed) for seed in (0, 0, 1))
    for label, numbers in one.items():
        assert np.array_equal(numbers, same[label]), label
    assert not np.array_equal(one["max_sensitivity"], other["max_sensitivity"])


# Answers that algebra knows


def test_the_gradient_of_a_linear_model_never_moves() -> None:
    """Its sensitivity is 0 at every point, and so is every measure of the same points."""
    torch.manual_seed(0)
    data = torch.randn(32, 6), torch.zeros(32, dtype=torch.long)
    subject = Subject(
        "linear", "tabular-classification", nn.Linear(6, 3).eval(), {"test": data}, explainer={"method": "gradient"}
    )
    found = values(MaxSensitivity(radius=0.5), subject, samples=32)
    for label in ("max_sensitivity", "average_sensitivity", "local_lipschitz", "relative_input_stability"):
        assert np.all(found[label] == 0), label


def test_points_lie_around_the_example_and_not_beside_it() -> None:
    """The mean of many points is the example: a noise with a mean of its own would move every map the same way."""
    moves = []

    def recording(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        moves.append(inputs.flatten(1).double().numpy())
        return inputs

    subject = control("gradient")
    theirs = Subject("recording", subject.task, subject.model, dict(subject.data), explainer=recording)
    view = theirs.view(theirs.batch("test", (7,)))
    draws = Draws(1, (7,), torch.device("cpu"))
    neighbours(view, view.features, resolve(theirs), draws=draws, seed=0, count=4000, radius=0.1)
    reach = 0.1 * float(view.features.max() - view.features.min())
    points = np.concatenate(moves) - view.features.flatten(1).double().numpy()
    assert points.shape == (4000, 64)
    assert np.abs(points).max() <= reach * 1.001
    assert np.abs(points.mean(0)).max() < 5 * reach / np.sqrt(3 * 4000)


def test_input_times_gradient_of_a_linear_model_moves_with_its_input() -> None:
    """For the map w x the relative change is |w δ| / |w x|, at most the radius times the range over the map's length."""
    torch.manual_seed(0)
    model = nn.Linear(6, 2, bias=False).eval()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0] * 6, [-1.0] * 6]))
    data = torch.rand(32, 6) + 1, torch.zeros(32, dtype=torch.long)
    subject = Subject(
        "linear", "tabular-classification", model, {"test": data}, explainer={"method": "input-x-gradient"}
    )
    found = values(MaxSensitivity(radius=0.1), subject, samples=32)
    assert found["relative_input_stability"] == pytest.approx(np.ones(32), rel=1e-4)
    assert found["local_lipschitz"] == pytest.approx(np.ones(32), rel=1e-4)
    assert 0 < found["max_sensitivity"].max() <= 0.1


def test_the_scale_of_a_map_does_not_matter() -> None:
    """A map a hundred times as large moves by the same share of its length; only the Lipschitz estimate has its unit."""
    built = controls.digits_by("gradient")(0)
    built.explainer = scaled_gradient
    one, other = (values(MaxSensitivity(), subject, samples=16) for subject in (control("gradient"), built))
    for label, numbers in one.items():
        expected = numbers * 100 if label == "local_lipschitz" else numbers
        assert other[label] == pytest.approx(expected, rel=1e-3, abs=1e-5), label


def test_relative_changes_have_an_answer_where_a_map_is_zero() -> None:
    """A zero map that stays zero has not moved; one that appears from nothing counts as the largest change."""
    moved, length = torch.tensor([0.0, 1.0, 3.0, 1.0]), torch.tensor([0.0, 0.0, 1.0, 2.0])
    assert relative(moved, length).tolist() == [0.0, 2.0, 2.0, 0.5]


def test_texts_of_different_lengths_are_compared() -> None:
    """A shorter map is continued by zeros."""
    short, long = torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 4.0, 12.0], [0.0, 0.0, 0.0]])
    assert padded_distance(short, long).tolist() == [[12.0, 5.0]]
    assert padded_distance(long, short).tolist() == [[12.0], [5.0]]


def test_the_cost_is_what_is_spent() -> None:
    """As many examples go through the model as the plan states."""
    calls = {"examples": 0}
    built = CONTROLS["integrated-gradients"].build(0)
    built.model.register_forward_pre_hook(
        lambda _module, inputs: calls.__setitem__("examples", calls["examples"] + len(inputs[0]))
    )
    check = MaxSensitivity(draws=5)
    stated = check.passes(built, 32)
    calls["examples"] = 0
    run(check, built, samples=32)
    assert calls["examples"] == stated.forward + stated.backward


def test_only_the_block_goes_through_the_model_at_once() -> None:
    """However many points there are, no call is given more examples than the subject's block."""
    sizes: list[int] = []
    built = CONTROLS["gradient"].build(0)
    built.block = 40
    built.model.register_forward_pre_hook(lambda _module, inputs: sizes.append(len(inputs[0])))
    run(MaxSensitivity(), built, samples=16, batch=16)
    assert max(sizes) <= 40


def test_a_few_examples_are_not_enough() -> None:
    """With fewer examples than a map is compared with, the check says how many it needs."""
    status, cause, _ = run(MaxSensitivity(), control("gradient"), samples=4)
    assert status == "errored"
    assert "at least 8 are needed" in cause

"""Smooth randomisation: the five proofs, and that the user's own explainer is what is averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from captum import attr
from scipy.stats import spearmanr
from torch import nn

from method_cards import judge
from method_cards.card import CheckBinding
from method_cards.check import Context
from method_cards.execution import Options, Silent, measure
from method_cards.subject import Subject
from method_cards.verdict import Outcome
from method_checks.attribution import controls
from method_checks.attribution.changes.draws import Draws
from method_checks.attribution.explainers import Gradient, resolve
from method_checks.attribution.networks.drawn import random_weights, stages_of
from method_checks.attribution.networks.randomization import swapped
from method_checks.attribution.smooth_parameter_randomization import SmoothParameterRandomization, smoothed
from tests.helpers import binding, criterion, step

if TYPE_CHECKING:
    from method_cards.measurement import Measurements

CRITERIA = binding(
    SmoothParameterRandomization.id,
    [
        criterion("smooth_similarity", where={"position": "first"}, at_most=0.5),
        criterion("smooth_null_similarity", at_most=0.5),
    ],
    [criterion("self_similarity", at_least=0.6)],
)

CHECK = SmoothParameterRandomization(order="top-down", draws=4)


def run(
    check: SmoothParameterRandomization, subject: Subject, *, samples: int = 160, batch: int = 64
) -> tuple[str, str, Measurements]:
    context = Context(subject, samples, 0, batch, scope=check.id)
    return measure(step(check, CRITERIA), context, Options(exhaustive=True), Silent())


def control(name: str) -> Subject:
    return next(item for item in SmoothParameterRandomization.controls() if item.name == name).build(0)


@pytest.mark.parametrize("item", SmoothParameterRandomization.controls(), ids=lambda item: item.name)
def test_controls_get_the_verdict_that_is_known(item: Any) -> None:
    """Sound controls pass, defects fail for their reason, and noise is invalid."""
    status, cause, found = run(CHECK, item.build(0))
    assert (status, cause) == ("complete", "")
    judged = judge.judge(CheckBinding.model_validate(CRITERIA), found, complete=True)
    expected = {"sound": Outcome.PASSED, "defect": Outcome.FAILED, "confounded": Outcome.INVALID}[item.kind]
    assert judged.outcome is expected
    failed = [result.measurement for result in (*judged.criteria, *judged.gates) if result.outcome is Outcome.FAILED]
    assert not item.because or item.because in failed


def test_the_users_explainer_is_called_at_noisy_inputs_and_with_the_fixed_class() -> None:
    """A function of the user's sees every noisy input of every network, and never the clean one."""
    subject = control("gradient")
    seen: list[torch.Tensor] = []
    classes: list[torch.Tensor] = []

    def mine(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        seen.append(inputs.clone())
        classes.append(targets.clone())
        at = inputs.requires_grad_()
        (found,) = torch.autograd.grad(model(at).gather(1, targets[:, None]).sum(), at)
        return found

    theirs = Subject("mine", subject.task, subject.model, dict(subject.data), explainer=mine)
    status, cause, found = run(CHECK, theirs, samples=16)
    assert (status, cause) == ("complete", "")
    assert sum(len(each) for each in seen) == 16 * 4 * 6
    inputs, _ = subject.split("test").take(Context(subject, 16, 0).indices("test"))
    assert isinstance(inputs, torch.Tensor)
    predicted = subject.model(inputs).argmax(1)
    assert all(torch.equal(each, predicted.repeat(len(each) // 16)) for each in classes)
    noise = torch.cat(seen).reshape(-1, 16, 64) - inputs.reshape(16, 64)
    spread = (inputs.flatten(1).amax(1) - inputs.flatten(1).amin(1)).mean()
    assert float(noise.std()) == pytest.approx(0.1 * float(spread), rel=0.02)
    _, _, bundled = run(
        SmoothParameterRandomization(order="top-down", draws=4, explainer=Gradient()), subject, samples=16
    )
    for series in found:
        assert series.values == pytest.approx(bundled.select(series.name, series.by)[0].values, abs=1e-5), series.label


def rho(a: Any, b: Any) -> float:
    return float(spearmanr(a, b).statistic)


@pytest.mark.parametrize("order", ["bottom-up", "top-down"])
def test_it_agrees_with_a_slow_reading_of_the_paper(order: Any) -> None:
    """Each number is that of a loop over examples, networks and noisy inputs, with SciPy's rank correlation."""
    subject = control("gradient")
    check = SmoothParameterRandomization(order=order, draws=3)
    context = Context(subject, 6, 0, 6, scope=check.id)
    _, cause, found = run(check, subject, samples=6, batch=6)
    assert not cause
    batch = subject.batch("test", context.indices("test"))
    tops = stages_of(subject, "test", 12)
    first = tops[-1:] if order == "bottom-up" else tops[:1]
    assert [stage.name for stage in first] == (["0"] if order == "bottom-up" else ["8"])
    networks, _ = random_weights(subject, context, batch, [first, tops], 2)
    states = [{}, {}, *(weights for pair in networks for weights in pair)]
    targets = subject.outputs(batch).argmax(1)
    assert isinstance(batch.inputs, torch.Tensor)
    for row, (x, index) in enumerate(zip(batch.inputs, batch.indices, strict=True)):
        maps = []
        for draw, state in enumerate(states):
            noise = Draws(context.number("draws", "noise", draw), (index,), torch.device("cpu"))
            drawn = torch.stack([noise.normal(number, 64).reshape(1, 8, 8) for number in range(3)])
            total = np.zeros((8, 8))
            with swapped(subject.model, state):
                for one in drawn:
                    at = (x + 0.1 * (x.max() - x.min()) * one)[None].requires_grad_()
                    (slope,) = torch.autograd.grad(subject.model(at)[0, targets[row]], at)
                    total += slope[0, 0].double().numpy()
            maps.append(total.ravel())
        assert found.select("self_similarity", {})[0].values[row] == pytest.approx(rho(maps[0], maps[1]), abs=2e-3)
        for position, ends in (("first", (2, 4)), ("full", (3, 5))):
            expected = np.mean([rho(maps[0], maps[end]) for end in ends])
            series = found.select("smooth_similarity", {"position": position})[0]
            assert series.values[row] == pytest.approx(expected, abs=2e-3)
        null = rho(maps[3], maps[5])
        assert found.select("smooth_null_similarity", {})[0].values[row] == pytest.approx(null, abs=2e-3)


def test_on_a_linear_model_smoothing_changes_nothing() -> None:
    """The gradient of a linear model is the same everywhere: averages agree exactly, and are the weights of the class."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    subject = Subject(
        "linear", "image-classification", model, {"test": controls.digits(0)[1]}, explainer={"method": "gradient"}
    )
    _, cause, found = run(CHECK, subject, samples=20)
    assert not cause
    assert found.select("self_similarity", {})[0].values == pytest.approx(np.ones(20))
    view = subject.view(subject.batch("test", tuple(range(5))))
    signed, _ = smoothed(view, resolve(subject), 0, Draws(1, range(5), torch.device("cpu")), 7, 0.1)
    weights = model[1].weight
    assert isinstance(weights, torch.Tensor)
    torch.testing.assert_close(signed[0].flatten(1), weights.detach()[view.targets], rtol=1e-5, atol=1e-6)


def test_the_average_is_that_of_captum() -> None:
    """Captum's NoiseTunnel over the same noise has the same average, up to its own draws: many draws agree."""
    subject = control("gradient")
    view = subject.view(subject.batch("test", tuple(range(8))))
    signed, _ = smoothed(view, resolve(subject), 0, Draws(1, range(8), torch.device("cpu")), 400, 0.1)
    torch.manual_seed(0)
    tunnel = attr.NoiseTunnel(attr.Saliency(subject.model))
    theirs = tunnel.attribute(view.features, nt_samples=400, stdevs=0.1, target=view.targets, abs=False)
    for ours, other in zip(signed[0], theirs[:, 0], strict=True):
        assert np.corrcoef(ours.flatten().numpy(), other.detach().flatten().numpy())[0, 1] > 0.99


def test_the_same_seed_gives_the_same_result_and_batches_do_not_matter() -> None:
    """Noise belongs to an example, not to its batch."""
    subject = control("gradient")
    one, same, small = (run(CHECK, subject, samples=24, batch=size)[2] for size in (24, 24, 7))
    for series in one:
        assert np.array_equal(series.values, same.select(series.name, series.by)[0].values)
        assert small.select(series.name, series.by)[0].values == pytest.approx(series.values, abs=1e-3)


def test_tables_and_texts_are_measured_too() -> None:
    """Columns and token embeddings have noisy versions as pixels have."""
    for build in (controls.table_by, controls.words_by):
        status, cause, found = run(CHECK, build("gradient")(0), samples=32)
        assert (status, cause) == ("complete", "")
        assert found.select("self_similarity", {})[0].values.mean() > 0.5

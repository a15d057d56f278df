"""Parameter randomisation: the five proofs, and what must never pass."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
import torch
from captum import attr
from scipy.stats import spearmanr
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
from method_checks.attribution.controls.enlarged import enlarged_by
from method_checks.attribution.explainers import Gradient, IntegratedGradients
from method_checks.attribution.maps.comparisons import RANKS as KINDS
from method_checks.attribution.networks.randomization import random_state
from method_checks.attribution.parameter_randomization import ParameterRandomization
from tests.helpers import binding, criterion, step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CRITERIA = binding(
    ParameterRandomization.id,
    [
        criterion("signed_similarity", where={"position": "top"}, at_most=0.5),
        criterion("signed_null_similarity", at_most=0.5),
        criterion("absolute_null_similarity", at_most=0.5),
    ],
    [criterion("self_similarity", at_least=0.8)],
)

Order = Literal["cascading", "independent"]


def run(
    check: ParameterRandomization, subject: Subject, *, samples: int = 256, seed: int = 0, batch: int = 64
) -> tuple[str, str, Measurements]:
    context = Context(subject, samples, seed, batch, scope=check.id)
    return measure(step(check, CRITERIA), context, Options(exhaustive=True), Silent())


def judged(check: ParameterRandomization, subject: Subject, **options: Any) -> Judged:
    status, cause, found = run(check, subject, **options)
    assert (status, cause) == ("complete", "")
    return judge.judge(CheckBinding.model_validate(CRITERIA), found, complete=True)


@cache
def control(name: str, seed: int = 0) -> Subject:
    return next(item for item in ParameterRandomization.controls() if item.name == name).build(seed)


def normed() -> Subject:
    """A network with a norm layer in evaluation mode, whose statistics are not those of its inputs."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(256, 10),
        ).eval()
        assert isinstance(model[1], nn.BatchNorm2d)
        with torch.no_grad():
            model[1].running_mean.normal_()  # type: ignore[union-attr]  # it is tracked
            model[1].running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            model[1].weight.uniform_(0.5, 2)
    _, test = controls.digits(0)
    return Subject("normed", "image-classification", model, {"test": test}, explainer={"method": "gradient"})


# 1. A control that passes


@pytest.mark.parametrize("seed", [0, 1])
def test_a_sound_control_passes(seed: int) -> None:
    """The gradient is a function of all parameters, and passes whatever the seed."""
    assert judged(ParameterRandomization(), control("gradient", seed)).outcome is Outcome.PASSED


# 2. A control that fails for the stated reason


@pytest.mark.parametrize(
    "name",
    [
        item.name
        for item in ParameterRandomization.controls()
        if item.kind == "defect" and not item.because.startswith("ssim")
    ],
)
def test_a_defect_control_fails_for_the_stated_reason(name: str) -> None:
    """The criterion that the control names is violated, while the conditions of the run hold."""
    reason = next(item for item in ParameterRandomization.controls() if item.name == name).because
    found = judged(ParameterRandomization(), control(name))
    assert found.outcome is Outcome.FAILED
    assert reason in [result.measurement for result in found.criteria if result.outcome is Outcome.FAILED]
    assert all(gate.outcome is Outcome.PASSED for gate in found.gates)


def test_noise_is_invalid_and_neither_passed_nor_failed() -> None:
    """Noise changes with the parameters as with everything else, so that its changing proves nothing."""
    found = judged(ParameterRandomization(), control("noise"))
    assert found.outcome is Outcome.INVALID
    assert [gate.measurement for gate in found.gates if gate.outcome is Outcome.FAILED] == ["self_similarity"]


# 3. A slow re-implementation, straight from the paper


def gradient_map(model: nn.Module, x: Tensor, target: int) -> NDArray[np.float64]:
    """Equation 1 of simonyan2014, for one image and one class; the channels of a digit are one."""
    at = x[None].clone().requires_grad_()
    model(at)[0, target].backward()
    assert at.grad is not None
    return at.grad[0, 0].double().numpy()


def rank_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """SciPy's, with the rule for a constant reference that the page states."""
    if one.min() == one.max():
        return 1.0
    return 0.0 if other.min() == other.max() else float(spearmanr(one, other).statistic)


def compared(one: NDArray[np.float64], other: NDArray[np.float64], x: Tensor) -> dict[str, float]:
    """The three similarities of two maps of one image."""
    pixels = x[0].double().numpy().ravel().tolist()
    value, count = Counter(pixels).most_common(1)[0]
    shown = [0.05 * len(pixels) > count or pixel != value for pixel in pixels]
    flat, changed = one.ravel(), other.ravel()
    return {
        "signed": rank_correlation(flat, changed),
        "absolute": rank_correlation(abs(flat), abs(changed)),
        "foreground": rank_correlation(abs(flat[shown]), abs(changed[shown])),
    }


def randomised(model: nn.Module, drawn: dict[str, Tensor], layers: Sequence[str], inputs: Tensor) -> nn.Module:
    """A deep copy in which these layers have random parameters, and their norm layers the statistics of a batch."""
    copy = deepcopy(model)
    modules = dict(copy.named_modules())
    for layer in layers:
        for name, parameter in modules[layer].named_parameters():
            parameter.data.copy_(drawn[f"{layer}.{name}"])
        norm = modules[layer]
        if isinstance(norm, nn.BatchNorm2d):
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
    with torch.no_grad():
        copy(inputs)
    return copy.eval()


def slow(
    subject: Subject, order: Order, groups: Sequence[Sequence[str]], context: Context, seeds: int
) -> dict[str, list[float]]:
    """Section 3.1 of adebayo2018sanity, one image at a time, each network a deep copy."""
    inputs, _ = subject.split("test").take(context.indices("test"))
    assert isinstance(inputs, Tensor)
    networks = []
    for seed in range(seeds):
        drawn = random_state(subject.model, context.generator("parameters", seed)).state
        cascades = [[layer for group in groups[: number + 1] for layer in group] for number in range(len(groups))]
        chosen = cascades if order == "cascading" else [list(group) for group in groups] + cascades[-1:]
        networks.append([randomised(subject.model, drawn, layers, inputs[:64]) for layers in chosen])
    found: dict[str, list[float]] = {}
    for x in inputs:
        target = int(subject.model(x[None])[0].argmax())
        trained = gradient_map(subject.model, x, target)
        maps = [[gradient_map(network, x, target) for network in row] for row in networks]
        for kind in KINDS:
            for number in range(len(groups)):
                each = [compared(trained, row[number], x)[kind] for row in maps]
                found.setdefault(f"{kind} {number + 1}", []).append(sum(each) / seeds)
            pairs = [compared(one[-1], other[-1], x)[kind] for one, other in combinations(maps, 2)]
            found.setdefault(f"{kind} null", []).append(sum(pairs) / len(pairs))
            full = [compared(trained, row[-1], x)[kind] for row in maps]
            found.setdefault(f"{kind} excess", []).append(sum(full) / seeds - sum(pairs) / len(pairs))
    subject.model.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("order", ["cascading", "independent"])
@pytest.mark.parametrize("name", ["digits", "normed"])
def test_it_agrees_with_a_slow_reading_of_the_paper(name: str, order: Order) -> None:
    """Every similarity of every example at every stage is that of a loop over images, networks and SciPy's rank correlation."""
    subject, groups = (
        (control("gradient"), [["8"], ["6"], ["2"], ["0"]]) if name == "digits" else (normed(), [["4"], ["0", "1"]])
    )
    check = ParameterRandomization(explainer=Gradient(), order=order, seeds=3)
    _, cause, found = run(check, subject, samples=20, batch=20)
    assert not cause
    expected = slow(subject, order, groups, Context(subject, 20, 0, scope=check.id), 3)
    for kind in KINDS:
        for number in range(len(groups)):
            (series,) = found.select(f"{kind}_similarity", {"stage": number + 1})
            assert series.values == pytest.approx(expected[f"{kind} {number + 1}"], abs=2e-3), series.label
        assert found.select(f"{kind}_null_similarity", {})[0].values == pytest.approx(
            expected[f"{kind} null"], abs=2e-3
        )
        assert found.select(f"{kind}_similarity_excess", {})[0].values == pytest.approx(
            expected[f"{kind} excess"], abs=4e-3
        )


# 4. Agreement with Captum


@pytest.mark.parametrize("method", ["gradient", "integrated-gradients"])
def test_it_agrees_with_captum(method: str) -> None:
    """With Captum's explainer as a person's own function the result is that of the bundled one."""

    def saliency(model: nn.Module, inputs: Tensor, targets: Tensor) -> Any:
        if method == "gradient":
            return attr.Saliency(model).attribute(inputs.requires_grad_(), target=targets, abs=False)
        return attr.IntegratedGradients(model).attribute(inputs, target=targets, n_steps=8)

    bundled = Gradient() if method == "gradient" else IntegratedGradients(steps=8)
    subject = control("gradient")
    theirs = Subject("captum", subject.task, subject.model, dict(subject.data), explainer=saliency)
    _, _, ours = run(ParameterRandomization(explainer=bundled), subject, samples=48)
    _, cause, others = run(ParameterRandomization(), theirs, samples=48)
    assert not cause
    for series in ours:
        (other,) = others.select(series.name, series.by)
        assert other.values == pytest.approx(series.values, abs=2e-3), series.label


# 5. Same seed, same result


def test_the_same_seed_gives_the_same_result() -> None:
    """Two runs from one seed measure the same to the last bit, even with an explainer that draws noise."""
    for name in ("gradient", "noise"):
        one, same, other = (
            run(ParameterRandomization(), control(name), samples=32, seed=seed)[2] for seed in (0, 0, 1)
        )
        for series in one:
            assert np.array_equal(series.values, same.select(series.name, series.by)[0].values), series.label
        label = {"position": "top"}
        assert not np.array_equal(
            one.select("signed_similarity", label)[0].values, other.select("signed_similarity", label)[0].values
        )


# References


def test_replicas_give_the_natural_ceiling() -> None:
    """The same weights as replica agree perfectly; another training agrees less, and far more than random weights."""
    subject = control("gradient")
    other = control("gradient", 1).model.state_dict()
    itself = {name: tensor.clone() for name, tensor in subject.model.state_dict().items()}
    for replica, low, high in ((itself, 0.999, 1.0), (other, 0.1, 0.999)):
        having = Subject(
            "with-replica",
            subject.task,
            subject.model,
            dict(subject.data),
            explainer=subject.explainer,
            replicas=(replica.copy,),
        )
        _, cause, found = run(ParameterRandomization(), having, samples=64)
        assert not cause
        assert low <= found.select("signed_seed_similarity", {})[0].values.mean() <= high
        assert (
            found.select("signed_seed_similarity", {})[0].values.mean()
            > found.select("signed_null_similarity", {})[0].values.mean()
        )


def test_stages_are_named_from_the_output_down() -> None:
    """Stage 1 is next to the output and `top`; the last one of a cascade is `full`; those between are `middle`."""
    _, _, found = run(ParameterRandomization(), control("gradient"), samples=16)
    where = [
        (series.by["stage"], series.by["position"], series.by["layers"])
        for series in found
        if series.name == "signed_similarity"
    ]
    assert where == [(1, "top", "8"), (2, "middle", "6"), (3, "middle", "2"), (4, "full", "0")]
    _, _, alone = run(ParameterRandomization(order="independent"), control("gradient"), samples=16)
    assert [series.by["position"] for series in alone if series.name == "signed_similarity"] == [
        "top",
        "middle",
        "middle",
        "middle",
    ]


def test_layers_of_interest_are_the_stages() -> None:
    """Where the subject names layers, what lies between them is randomised together."""
    subject = control("gradient")
    named = Subject(
        "named", subject.task, subject.model, dict(subject.data), explainer=subject.explainer, layers=("6",)
    )
    _, _, found = run(ParameterRandomization(), named, samples=16)
    assert [series.by["layers"] for series in found if series.name == "signed_similarity"] == ["8", "6", "0 to 2"]


def test_the_maps_are_shown_side_by_side() -> None:
    """The pictures hold the input, the trained map and maps after some stages, finite and in the shape of the image."""
    _, _, found = run(ParameterRandomization(), control("gradient"), samples=16)
    shown = found.pictures["maps"]
    assert shown.columns == ("input", "trained", "random to 8", "random to 2", "random to 0")
    assert shown.values.shape == (4, 5, 8, 8)
    assert shown.signed == (False, True, True, True, True)


# What must never pass


def constant(value: float) -> Any:
    return lambda _model, inputs, _targets: torch.full_like(inputs, value)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_constant_explainer_is_errored(value: float) -> None:
    """An explainer that is zero, or the same, everywhere has no order that could change: it is never passed."""
    subject = control("gradient")
    broken = Subject("constant", subject.task, subject.model, dict(subject.data), explainer=constant(value))
    status, cause, _ = run(ParameterRandomization(), broken, samples=64)
    assert status == "errored"
    assert "gives constant maps, for all of the first 64 examples" in cause


def test_an_explainer_that_dies_with_the_trained_weights_does_not_pass_by_that() -> None:
    """A map that is constant for most examples counts as unchanged for them, and the criterion fails."""
    subject = control("gradient")

    def lazy(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        found = attr.Saliency(model).attribute(inputs.requires_grad_(), target=targets, abs=False)
        assert isinstance(found, Tensor)
        return torch.where((targets == 3)[:, None, None, None], found, torch.zeros_like(found))

    broken = Subject("lazy", subject.task, subject.model, dict(subject.data), explainer=lazy)
    assert judged(ParameterRandomization(), broken, samples=128).outcome is Outcome.FAILED


def test_a_model_that_gives_nan_is_errored() -> None:
    """NaN parameters end the check with a message about the model's output."""
    subject = normed()
    with torch.no_grad():
        next(subject.model.parameters()).fill_(float("nan"))
    status, cause, found = run(ParameterRandomization(), subject, samples=16)
    assert status == "errored"
    assert "the model's output is NaN or infinite" in cause
    assert len(found) == 0


def test_a_model_without_parameters_is_errored() -> None:
    """Where there is nothing to randomise the check says so."""
    data = torch.rand(16, 1, 8, 8), torch.zeros(16, dtype=torch.long)
    subject = Subject(
        "empty", "image-classification", nn.Flatten().eval(), {"test": data}, explainer={"method": "gradient"}
    )
    status, cause, _ = run(ParameterRandomization(), subject, samples=16)
    assert status == "errored"
    assert "no parameters" in cause


@pytest.mark.parametrize("order", ["cascading", "independent"])
def test_the_cost_is_what_is_spent(order: Order) -> None:
    """The passes that the plan states are those that the model is called for, but for one call that finds the stages."""
    calls = {"examples": 0}
    subject = normed()
    subject.model.register_forward_pre_hook(
        lambda _module, inputs: calls.__setitem__("examples", calls["examples"] + len(inputs[0]))
    )
    check = ParameterRandomization(order=order, seeds=2)
    stated = check.passes(subject, 32)
    calls["examples"] = 0
    run(check, subject, samples=32)
    spent = calls["examples"]
    assert abs(spent - stated.forward - stated.backward) <= 0.25 * spent, (spent, stated)


# Other ways of comparing


ALL = ("signed", "absolute", "foreground", "cosine", "top", "ssim", "hog")


def test_the_order_of_stages_and_batches_changes_no_similarity() -> None:
    """Every way of comparing gives the same for each example, whatever the size of a batch."""
    subject = enlarged_by("gradient")(0)
    one, other = (
        run(ParameterRandomization(kinds=ALL, seeds=2), subject, samples=24, batch=size)[2] for size in (24, 5)
    )
    assert {f"{kind}_null_similarity" for kind in ALL} <= {series.name for series in one}
    for series in one:
        assert other.select(series.name, series.by)[0].values == pytest.approx(series.values, abs=1e-3), series.label


def test_a_map_that_sees_no_model_is_alike_everywhere() -> None:
    """Edges agree by exactly 1 with themselves, in every way of comparing, at every randomised stage and between random networks."""
    _, cause, found = run(ParameterRandomization(kinds=ALL, seeds=2), enlarged_by("edges")(0), samples=12)
    assert not cause
    alike = [series for series in found if series.name.endswith(("_similarity", "_null_similarity"))]
    assert {(series.name, series.by.get("stage")) for series in alike} >= {
        (f"{kind}_similarity", stage) for kind in ALL for stage in (1, 2, 3, 4)
    }
    for series in alike:
        assert series.values == pytest.approx(np.ones(12), abs=1e-9), series.label
    for kind in ALL:
        assert np.abs(found.select(f"{kind}_similarity_excess", {})[0].values).max() < 1e-9


def test_a_kind_alone_measures_what_it_measures_beside_others() -> None:
    """Leaving kinds out changes nothing for those that stay, and yields nothing else."""
    subject = control("gradient")
    _, _, everything = run(ParameterRandomization(), subject, samples=32)
    _, _, alone = run(ParameterRandomization(kinds=("absolute",)), subject, samples=32)
    assert {series.name for series in alone} < {series.name for series in everything}
    for series in alone:
        assert np.array_equal(series.values, everything.select(series.name, series.by)[0].values), series.label


@pytest.mark.parametrize(("method", "outcome"), [("gradient", Outcome.PASSED), ("guided-backprop", Outcome.FAILED)])
def test_structure_tells_guided_backprop_from_the_gradient(method: str, outcome: Outcome) -> None:
    """With the output layer random, SSIM and HOG fall for the gradient and stay for Guided Backprop."""
    criteria = [criterion(f"{kind}_similarity", where={"position": "top"}, at_most=0.5) for kind in ("ssim", "hog")]
    bound = binding(ParameterRandomization.id, criteria, [criterion("self_similarity", at_least=0.8)])
    status, cause, found = run(ParameterRandomization(kinds=("ssim", "hog")), enlarged_by(method)(0), samples=200)
    assert (status, cause) == ("complete", "")
    assert judge.judge(CheckBinding.model_validate(bound), found, complete=True).outcome is outcome


@pytest.mark.parametrize("subject", ["table", "words"])
def test_tables_and_texts_are_compared_by_cosine_and_highest_positions(subject: str) -> None:
    """Maps without rows and columns have these, and are refused where structure is asked for."""
    built = (controls.table_by if subject == "table" else controls.words_by)("gradient")(0)
    status, cause, found = run(ParameterRandomization(kinds=("signed", "cosine", "top")), built, samples=64)
    assert (status, cause) == ("complete", "")
    assert abs(found.select("cosine_null_similarity", {})[0].values.mean()) < 0.2
    assert ParameterRandomization().not_applicable(built) == ""
    assert "no rows and columns" in ParameterRandomization(kinds=("hog",)).not_applicable(built)


def test_images_that_are_too_small_for_a_window_are_not_judged_by_it() -> None:
    """Structural similarity of 8 x 8 digits is refused, with the way out."""
    reason = ParameterRandomization(kinds=("ssim",)).not_applicable(control("gradient"))
    assert "8 x 8 positions" in reason
    assert "leave it out of `kinds`" in reason
    assert ParameterRandomization(kinds=ALL).not_applicable(enlarged_by("gradient")(0)) == ""

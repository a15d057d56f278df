"""Infidelity: the five proofs, the cases whose answer algebra knows, and what must never pass."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from scipy.stats import pearsonr
from torch import Tensor, nn

from method_cards import judge
from method_cards.card import CheckBinding
from method_cards.check import Context
from method_cards.execution import Options, Silent, measure
from method_cards.measurement import Measurements
from method_cards.subject import Subject
from method_cards.verdict import Outcome
from method_checks.attribution.changes.draws import Draws
from method_checks.attribution.explainers import resolve
from method_checks.attribution.infidelity import Infidelity
from tests.helpers import binding, criterion, step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from method_cards.judge import Judged

CRITERIA = binding(
    Infidelity.id,
    [criterion("explained_excess", at_least=0.5)],
    [criterion("unchanged_output", at_most=0.5)],
)
CONTROLS = {item.name: item for item in Infidelity.controls()}


def run(
    check: Infidelity, subject: Subject, *, samples: int = 64, seed: int = 0, batch: int = 64
) -> tuple[str, str, Measurements]:
    context = Context(subject, samples, seed, batch, scope=check.id)
    return measure(step(check, CRITERIA), context, Options(exhaustive=True), Silent())


def values(check: Infidelity, subject: Subject, **options: Any) -> dict[str, np.ndarray[Any, Any]]:
    status, cause, found = run(check, subject, **options)
    assert (status, cause) == ("complete", "")
    return {series.label: series.values for series in found}


def judged(check: Infidelity, subject: Subject, **options: Any) -> Judged:
    status, cause, found = run(check, subject, **options)
    assert (status, cause) == ("complete", "")
    return judge.judge(CheckBinding.model_validate(CRITERIA), found, complete=True)


@cache
def control(name: str, seed: int = 0) -> Subject:
    return CONTROLS[name].build(seed)


def check_of(name: str, **parameters: Any) -> Infidelity:
    return Infidelity.model_validate({**CONTROLS[name].parameters, **parameters})


def linear(explainer: Mapping[str, Any] | Callable[..., Tensor], features: int = 12) -> Subject:
    """Three logits that are linear in the features, without and with a bias."""
    torch_state = torch.get_rng_state()
    torch.manual_seed(1)
    model = nn.Linear(features, 3).eval()
    data = torch.randn(64, features), torch.zeros(64, dtype=torch.long)
    torch.set_rng_state(torch_state)
    return Subject("linear", "tabular-classification", model, {"test": data}, explainer=explainer)


def by_gradient(factor: float, *, multiply: bool = False) -> Callable[..., Tensor]:
    """A person's own function: the gradient times a number."""

    def explain(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        leaf = inputs.requires_grad_()
        (found,) = torch.autograd.grad(model(leaf).gather(1, targets[:, None]).sum(), leaf)
        return factor * found * (inputs.detach() if multiply else 1)

    return explain


# 1. Controls that pass


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", [name for name, item in CONTROLS.items() if item.kind == "sound"])
def test_a_sound_control_passes(name: str, seed: int) -> None:
    """The gradient and Integrated Gradients predict small networks on images, texts and tables."""
    assert judged(check_of(name), control(name, seed)).outcome is Outcome.PASSED


# 2. Controls that fail for the stated reason


@pytest.mark.parametrize("name", [name for name, item in CONTROLS.items() if item.kind == "defect"])
def test_a_defect_control_fails_for_the_stated_reason(name: str) -> None:
    """A map that does not come from the model explains no more than a shuffled map, or little more."""
    found = judged(check_of(name), control(name))
    assert found.outcome is Outcome.FAILED
    assert [item.measurement for item in found.criteria if item.outcome is Outcome.FAILED] == [CONTROLS[name].because]
    assert all(gate.outcome is Outcome.PASSED for gate in found.gates)


# 3. A slow re-implementation, straight from the papers


def perturbed(
    check: Infidelity, context: Context, index: int, x: Tensor, number: int, kind: str
) -> tuple[Tensor, Tensor]:
    """One perturbed example, and what a map is multiplied with to predict its effect."""
    draws = Draws(context.number("draws", "perturbations"), [index], torch.device("cpu"))
    if kind == "noise":
        change = draws.normal(number, x.numel()).reshape(x.shape) * check.scale * (x.max() - x.min())
        return x - change, change
    size = max(1, round(check.shares[(number - 1) % len(check.shares)] * x.numel()))
    gone = draws.subset(number, torch.tensor([size]), torch.ones(1, x.numel(), dtype=torch.bool))[0].reshape(x.shape)
    return x * ~gone, gone.float()


def slow(subject: Subject, check: Infidelity, count: int, kind: str) -> dict[str, list[float]]:
    """Definition 2.1 of yeh2019infidelity with its optimal scale, and bhatt2020evaluating's correlation, one number at a time."""
    context = Context(subject, count, 0, scope=check.id)
    found: dict[str, list[float]] = {"infidelity": [], "optimal_scale": [], "faithfulness_correlation": []}
    indices = context.indices("test")
    inputs, _ = subject.split("test").take(indices)
    assert isinstance(inputs, Tensor)
    for index, x in zip(indices, inputs, strict=True):
        view = subject.view(subject.batch("test", (index,)))
        attributions = resolve(subject).explain(view, context.number("x"))[0].double()
        target = int(view.targets[0])
        pairs = []
        for number in range(1, check.draws + 1):
            at, factor = perturbed(check, context, index, x, number, kind)
            with torch.no_grad():
                change = float(subject.model(x[None])[0, target].double() - subject.model(at[None])[0, target].double())
            pairs.append((float((attributions * factor).sum()), change))
        scale = max(0.0, sum(p * d for p, d in pairs) / sum(p * p for p, _ in pairs))
        found["optimal_scale"].append(scale)
        found["infidelity"].append(sum((scale * p - d) ** 2 for p, d in pairs) / len(pairs))
        sizes = len(check.shares) if kind == "removal" else 1
        groups = [pairs[start::sizes] for start in range(sizes)]
        found["faithfulness_correlation"].append(
            sum(float(pearsonr(*zip(*group, strict=True)).statistic) for group in groups) / sizes
        )
    return found


@pytest.mark.parametrize(("name", "kind"), [("gradient", "noise"), ("integrated-gradients", "removal")])
def test_it_agrees_with_a_slow_reading_of_the_papers(name: str, kind: str) -> None:
    """Infidelity, its scale and the correlation are those of a loop over examples and draws, with SciPy's correlation."""
    check = check_of(name, draws=20)
    subject = control(name)
    expected = slow(subject, check, 6, kind)
    found = values(check, subject, samples=6, batch=4)
    for label, numbers in expected.items():
        assert found[label] == pytest.approx(numbers, rel=2e-3, abs=1e-4), label


# 4. Agreement with Captum


def test_it_agrees_with_captum() -> None:
    """On the same perturbations it is Captum's infidelity with `normalize=True`, example by example."""
    subject, check = control("gradient"), check_of("gradient", draws=30)
    found = values(check, subject, samples=16)
    context = Context(subject, 16, 0, scope=check.id)
    view = subject.view(subject.batch("test", context.indices("test")))
    draws = Draws.of(context, view.batch, "perturbations")
    width = view.features[0].numel()
    spread = view.features.flatten(1).amax(1) - view.features.flatten(1).amin(1)
    changes = torch.stack([draws.normal(number, width) * check.scale * spread[:, None] for number in range(1, 31)], 1)
    changes = changes.reshape(-1, *view.features.shape[1:])
    theirs = captum_infidelity(
        subject.model,
        lambda inputs: (changes, inputs - changes),
        view.features,
        resolve(subject).explain(view, context.number("x")),
        target=view.targets,
        n_perturb_samples=30,
        normalize=True,
    )
    assert found["infidelity"] == pytest.approx(theirs.detach().numpy(), rel=1e-3)


# 5. Same seed, same result


@pytest.mark.parametrize("name", ["gradient", "integrated-gradients"])
def test_the_same_seed_gives_the_same_result(name: str) -> None:
    """Two runs from one seed measure the same to the last bit; another seed perturbs otherwise."""
    one, same, other = (values(check_of(name), control(name), samples=16, seed=seed) for seed in (0, 0, 1))
    for label, numbers in one.items():
        assert np.array_equal(numbers, same[label]), label
    assert not np.array_equal(one["infidelity"], other["infidelity"])


# Answers that algebra knows


@pytest.mark.parametrize(
    ("method", "perturbation"),
    [("gradient", "noise"), ("input-x-gradient", "removal"), ("integrated-gradients", "removal")],
)
def test_a_linear_model_is_explained_exactly(method: str, perturbation: str) -> None:
    """Slopes under noise, and input times gradient under removal, explain a linear model's every change, at scale 1."""
    found = values(Infidelity.model_validate({"perturbation": perturbation}), linear({"method": method}))
    assert found["explained_share"] == pytest.approx(np.ones(64), abs=1e-6)
    assert found["faithfulness_correlation"] == pytest.approx(np.ones(64), abs=1e-6)
    assert found["optimal_scale"] == pytest.approx(np.ones(64), abs=1e-5)
    assert found["infidelity"] == pytest.approx(np.zeros(64), abs=1e-9)
    for label, numbers in found.items():
        if label.startswith("sensitivity_n"):
            assert numbers == pytest.approx(np.ones(64), abs=1e-5), label


@pytest.mark.parametrize("factor", [100.0, 0.01])
@pytest.mark.parametrize(("kind", "multiply"), [("noise", False), ("removal", True)])
def test_the_scale_of_a_map_does_not_matter(kind: str, multiply: bool, factor: float) -> None:
    """A map a hundred times as large has the same infidelity and explains the same; only the reported scale differs."""
    check = Infidelity.model_validate({"perturbation": kind})
    subject = control("gradient")
    one, other = (
        values(
            check, Subject("s", subject.task, subject.model, subject.data, explainer=by_gradient(by, multiply=multiply))
        )
        for by in (1.0, factor)
    )
    for label, numbers in one.items():
        expected = numbers / factor if label == "optimal_scale" else numbers
        assert other[label] == pytest.approx(expected, rel=1e-3, abs=1e-5), label


def test_the_opposite_map_explains_nothing() -> None:
    """A map of the wrong sign has scale 0 and a negative correlation, and fails."""
    subject = linear(by_gradient(-1.0))
    found = values(Infidelity(perturbation="noise"), subject)
    assert np.all(found["explained_share"] == 0)
    assert np.all(found["optimal_scale"] == 0)
    assert found["faithfulness_correlation"] == pytest.approx(-np.ones(64), abs=1e-6)
    assert judged(Infidelity(perturbation="noise"), subject).outcome is Outcome.FAILED


@pytest.mark.parametrize("kind", ["noise", "removal"])
@pytest.mark.parametrize("level", [0.0, 2.5])
def test_a_constant_map_fails(kind: str, level: float) -> None:
    """A zero map explains 0 by definition, and a constant one no more than its permutations, which are equal to it."""
    subject = linear(lambda _model, inputs, _targets: torch.full_like(inputs, level))
    check = Infidelity.model_validate({"perturbation": kind})
    found = values(check, subject)
    if not level:
        assert np.all(found["explained_share"] == 0)
    assert found["explained_excess"] == pytest.approx(np.zeros(64), abs=1e-5)
    assert judged(check, subject).outcome is Outcome.FAILED


def test_a_patch_need_not_divide_the_image() -> None:
    """Squares of 3 on an image of 8 by 8 are 9, the last of a row 2 wide, and all of the image is removed at times."""
    found = values(check_of("integrated-gradients", patch=3), control("integrated-gradients"), samples=32)
    assert found["explained_excess"].mean() > 0.5


def test_squares_are_for_images() -> None:
    """A patch on a table is refused, with what to do."""
    status, cause, _ = run(Infidelity(patch=2), linear({"method": "input-x-gradient"}))
    assert status == "errored"
    assert "`patch: 1`" in cause


# Perturbations and cost


def test_only_the_block_goes_through_the_model_at_once() -> None:
    """However many draws there are, no call is given more examples than the subject's block."""
    sizes: list[int] = []
    built = CONTROLS["gradient"].build(0)
    built.block = 40
    built.model.register_forward_pre_hook(lambda _module, inputs: sizes.append(len(inputs[0])))
    run(check_of("gradient"), built, samples=16, batch=16)
    assert max(sizes) <= 40


# What is refused


def test_a_model_whose_output_never_changes_is_invalid() -> None:
    """Where nothing changes there is nothing to predict, and no verdict."""
    subject = linear({"method": "gradient"})
    with torch.no_grad():
        subject.model.weight.zero_()  # type: ignore[operator]
        subject.model.bias.fill_(1.0)  # type: ignore[operator]
    found = judged(Infidelity(), subject)
    assert found.outcome is Outcome.INVALID
    assert "unchanged_output" in found.reason


def test_noise_is_refused_for_contributions() -> None:
    """Contributions predict no slopes: asking for noise is an error that says what to use."""
    status, cause, _ = run(Infidelity(perturbation="noise"), linear({"method": "integrated-gradients"}))
    assert status == "errored"
    assert "`perturbation: removal`" in cause


def test_a_function_must_say_what_its_numbers_mean() -> None:
    """Nobody knows whether a person's own function gives slopes or contributions: it is asked."""
    subject = linear(by_gradient(1.0))
    reason = Infidelity().not_applicable(subject)
    assert "`perturbation: noise`" in reason
    assert "`perturbation: removal`" in reason
    assert run(Infidelity(), subject)[:2] == ("errored", reason)
    assert not Infidelity(perturbation="noise").not_applicable(subject)


def test_shares_and_draws_fit() -> None:
    """Draws that do not share out evenly, or shares outside (0, 1), are refused when the check is made."""
    with pytest.raises(ValueError, match="multiple of the 5 shares"):
        Infidelity(draws=61)
    with pytest.raises(ValueError, match="different numbers between 0 and 1"):
        Infidelity(shares=(0.5, 1.0))


@pytest.mark.parametrize("name", ["gradient", "integrated-gradients"])
def test_the_cost_is_what_is_spent(name: str) -> None:
    """As many examples go through the model as the plan states: each draw costs one forward pass, the null none."""
    calls = {"examples": 0}
    built = CONTROLS[name].build(0)
    built.model.register_forward_pre_hook(
        lambda _module, inputs: calls.__setitem__("examples", calls["examples"] + len(inputs[0]))
    )
    check = check_of(name)
    stated = check.passes(built, 32)
    calls["examples"] = 0
    run(check, built, samples=32)
    assert calls["examples"] == stated.forward + stated.backward

"""Efficient randomisation: the five proofs, the bins, and the networks that it shares."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from method_cards import judge
from method_cards.card import CheckBinding
from method_cards.check import Context
from method_cards.execution import Options, Silent, measure
from method_cards.memo import Memo
from method_cards.subject import Subject
from method_cards.verdict import Outcome
from method_checks.attribution import controls
from method_checks.attribution.controls.functions import constant
from method_checks.attribution.efficient_parameter_randomization import (
    EfficientParameterRandomization,
    more_complex,
    rise,
    spread,
)
from method_checks.attribution.maps.complexity import bins_of, entropy
from method_checks.attribution.networks.drawn import random_weights, stages_of
from method_checks.attribution.networks.randomization import swapped
from method_checks.attribution.parameter_randomization import ParameterRandomization
from tests.helpers import binding, criterion, step

if TYPE_CHECKING:
    from method_cards.measurement import Measurements

CRITERIA = binding(EfficientParameterRandomization.id, [criterion("more_complex_share", at_least=0.55)])

CHECK = EfficientParameterRandomization(seeds=4)


def run(
    check: EfficientParameterRandomization, subject: Subject, *, samples: int = 512, batch: int = 64, seed: int = 0
) -> tuple[str, str, Measurements]:
    context = Context(subject, samples, seed, batch, scope=check.id)
    return measure(step(check, CRITERIA), context, Options(exhaustive=True), Silent())


def control(name: str) -> Subject:
    return next(item for item in EfficientParameterRandomization.controls() if item.name == name).build(0)


def skewed(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) ** 3


# 1 and 2. Controls


@pytest.mark.parametrize("name", ["gradient", "enlarged-gradient"])
def test_the_gradient_becomes_more_complex(name: str) -> None:
    """The gradient of a trained network is simpler than that of most random ones."""
    status, cause, found = run(EfficientParameterRandomization(), control(name))
    assert (status, cause) == ("complete", "")
    assert judge.judge(CheckBinding.model_validate(CRITERIA), found, complete=True).outcome is Outcome.PASSED
    assert found.select("complexity_rise", {})[0].values.mean() > 0


@pytest.mark.parametrize("name", ["edges", "noise"])
def test_a_map_that_knows_no_model_does_not(name: str) -> None:
    """Edges are as complex for any network, and so is noise, which no similarity can catch; neither passes."""
    status, cause, found = run(EfficientParameterRandomization(), control(name))
    assert (status, cause) == ("complete", "")
    judged = judge.judge(CheckBinding.model_validate(CRITERIA), found, complete=True)
    assert judged.outcome is Outcome.FAILED
    assert [item.measurement for item in judged.criteria if item.outcome is Outcome.FAILED] == ["more_complex_share"]


def test_for_a_map_that_knows_no_model_the_share_is_a_half_exactly() -> None:
    """Equal entropies are ties, whatever rounding does to them."""
    _, _, found = run(CHECK, control("edges"), samples=64)
    assert np.array_equal(found.select("more_complex_share", {})[0].values, np.full(64, 0.5))
    assert np.abs(found.select("complexity_rise", {})[0].values).max() < 1e-9
    assert found.select("null_spread", {})[0].values.max() < 1e-9


# 3. A slow re-implementation


def slow_entropy(values: np.ndarray[Any, Any], bins: int) -> float:
    low, high = values.min(), values.max()
    edges = [low + (high - low) * number / bins for number in range(bins + 1)]
    counts = [0] * bins
    for value in values:
        place = next((number for number in range(bins) if value < edges[number + 1]), bins - 1)
        counts[place] += 1
    return -sum(count / len(values) * math.log(count / len(values)) for count in counts if count)


def test_it_agrees_with_a_slow_reading_of_the_paper() -> None:
    """Each number is that of a loop over examples and networks, bins and values."""
    subject = control("gradient")
    _, cause, found = run(CHECK, subject, samples=6, batch=6)
    assert not cause
    context = Context(subject, 6, 0, 6, scope=ParameterRandomization.id)
    batch = subject.batch("test", context.indices("test"))
    networks, _ = random_weights(subject, context, batch, [stages_of(subject, "test", 12)], 4)
    targets = subject.outputs(batch).argmax(1)
    assert isinstance(batch.inputs, Tensor)
    for row, x in enumerate(batch.inputs):
        entropies = []
        for state in ({}, *(weights for (weights,) in networks)):
            with swapped(subject.model, state):
                at = x[None].clone().requires_grad_()
                (slope,) = torch.autograd.grad(subject.model(at)[0, targets[row]], at)
            entropies.append(slow_entropy(slope[0, 0].double().numpy().ravel(), 100))
        own, random = entropies[0], entropies[1:]
        values = {name: found.select(name, {})[0].values[row] for name in ("complexity", "complexity_rise")}
        assert values["complexity"] == pytest.approx(own, abs=0.05)  # a value at an edge may fall to either side
        assert values["complexity_rise"] == pytest.approx(np.mean([(each - own) / own for each in random]), abs=0.02)
        share = found.select("more_complex_share", {})[0].values[row]
        clear = [each > own for each in random if abs(each - own) > 0.1]
        assert sum(clear) <= 4 * share <= sum(clear) + 4 - len(clear)


def test_its_statistics_are_those_of_a_loop() -> None:
    """Rise, share and spread of known entropies."""
    own = torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64)
    random = torch.tensor([[3.0, 1.0, 1.0], [1.0, 1.0 + 1e-12, 2.0], [2.5, 0.5, 0.0]], dtype=torch.float64)
    assert rise(own, random).tolist() == pytest.approx([(1 / 2 - 1 / 2 + 0.5 / 2) / 3, -0.5 / 3, 0.0])
    assert more_complex(own, random).tolist() == pytest.approx([2 / 3, 1 / 3, 0.0])
    first = (2 / 2 + 0.5 / 2.75 + 1.5 / 1.75) / 3
    assert spread(random).tolist() == pytest.approx([first, (0 + 0.5 / 0.75 + 0.5 / 0.75) / 3, (1 / 1.5 + 2 + 2) / 3])


# 4. Well-known libraries


@pytest.mark.parametrize("bins", [1, 2, 10, 100, 1000])
@pytest.mark.parametrize("size", [1, 2, 64, 999])
def test_the_histogram_is_that_of_numpy(bins: int, size: int) -> None:
    """SciPy's entropy of NumPy's histogram; repeated values and values on edges included."""
    from scipy.stats import entropy as scipy_entropy

    maps = torch.cat([skewed((4, size)), torch.arange(size)[None] / 4, torch.zeros(1, size), skewed((1, size)).round()])
    found = entropy(maps, torch.full((len(maps),), bins))
    for row, values in zip(found.tolist(), maps.double().numpy(), strict=True):
        expected = 0.0 if np.ptp(values) == 0 else scipy_entropy(np.histogram(values, bins=bins)[0])
        assert row == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("rule", "theirs"),
    [
        ("square-root", "sqrt"),
        ("sturges", "sturges"),
        ("rice", "rice"),
        ("scott", "scott"),
        ("freedman-diaconis", "fd"),
    ],
)
def test_the_rules_for_bins_are_those_of_numpy(rule: Any, theirs: Any) -> None:
    """They go by the number of values: 60 and 4,000 values do not get equally many bins."""
    numbers = []
    for size in (60, 4000):  # whole numbers of bins are left to rounding in NumPy
        maps = skewed((3, size)).clamp(-20, 20)
        found = bins_of(maps, rule).tolist()
        assert found == [len(np.histogram_bin_edges(values.double().numpy(), bins=theirs)) - 1 for values in maps]
        numbers.append(found)
    assert all(few < many for few, many in zip(*numbers, strict=True))


def test_a_mask_leaves_out_what_is_not_content() -> None:
    """Bins and entropies of a padded map are those of its content."""
    maps = skewed((3, 40))
    mask = torch.arange(40).expand(3, -1) < torch.tensor([[40], [25], [7]])
    for rule in ("sturges", "scott", "freedman-diaconis"):
        bins = bins_of(maps, rule, mask)
        for row, length in enumerate((40, 25, 7)):
            alone = maps[row : row + 1, :length]
            assert bins[row] == bins_of(alone, rule)[0]
            assert entropy(maps, bins, mask)[row] == pytest.approx(entropy(alone, bins[row : row + 1])[0].item())


# 5. The same seed, and the rest


def test_the_scale_of_maps_and_the_batches_do_not_matter() -> None:
    """A map times 100 has the same histogram, and an example does not know the others of its batch."""
    subject = control("gradient")

    def larger(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        at = inputs.requires_grad_()
        (slope,) = torch.autograd.grad(model(at).gather(1, targets[:, None]).sum(), at)
        return slope * 128

    _, _, one = run(CHECK, subject, samples=40)
    _, _, other = run(
        CHECK, Subject("larger", subject.task, subject.model, dict(subject.data), explainer=larger), samples=40, batch=9
    )
    for series in one:
        assert other.select(series.name, series.by)[0].values == pytest.approx(series.values, abs=1e-6)


def test_its_networks_are_those_of_parameter_randomization() -> None:
    """After that check its explanations by random networks need not be made again, and its numbers are what they are without."""
    subject = control("gradient")
    calls: list[int] = []

    def counted(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        calls.append(len(inputs))
        at = inputs.requires_grad_()
        (slope,) = torch.autograd.grad(model(at).gather(1, targets[:, None]).sum(), at)
        return slope

    theirs = Subject("counted", subject.task, subject.model, dict(subject.data), explainer=counted)
    memo, check = Memo(), EfficientParameterRandomization(seeds=3)
    list(ParameterRandomization().measure(theirs, Context(theirs, 64, scope=ParameterRandomization.id, memo=memo)))
    calls.clear()
    shared = list(check.measure(theirs, Context(theirs, 64, scope=check.id, memo=memo)))
    assert calls == []
    alone = list(check.measure(theirs, Context(theirs, 64, scope=check.id)))
    assert sum(calls) == 4 * 64
    for one, other in zip(shared, alone, strict=True):
        assert np.array_equal(one.values, other.values)  # type: ignore[union-attr]  # there are no pictures


def test_constant_maps_are_refused() -> None:
    """They have no entropy to be compared with, and never pass."""
    subject = control("gradient")
    mute = Subject("mute", subject.task, subject.model, dict(subject.data), explainer=constant)
    status, cause, _ = run(CHECK, mute, samples=32)
    assert status == "errored"
    assert "without entropy" in cause


def test_some_constant_maps_count_as_not_simpler() -> None:
    """An explainer that is constant for the trained model alone does not gain by it."""
    subject = control("gradient")
    trained = next(subject.model.parameters()).detach().clone()

    def half(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        found = inputs.clone()
        if torch.equal(next(model.parameters()), trained):
            found[::2] = 1
        return found

    theirs = Subject("half", subject.task, subject.model, dict(subject.data), explainer=half)
    _, cause, found = run(CHECK, theirs, samples=32)
    assert not cause
    share = found.select("more_complex_share", {})[0].values
    assert share[::2].tolist() == [0.0] * 16
    assert found.select("flat_map", {})[0].values[::2].tolist() == [1.0] * 16
    assert found.select("complexity_rise", {})[0].values[::2].tolist() == [0.0] * 16


@pytest.mark.parametrize("build", [controls.table_by, controls.words_by])
@pytest.mark.parametrize("bins", ["sturges", "freedman-diaconis"])
def test_tables_and_texts_are_measured_too(build: Any, bins: Any) -> None:
    """A map over columns or tokens has a histogram as an image has."""
    check = EfficientParameterRandomization(seeds=2, bins=bins, sign="magnitude")
    status, cause, found = run(check, build("gradient")(0), samples=32)
    assert (status, cause) == ("complete", "")
    assert found.select("complexity", {})[0].values.min() >= 0

"""The disagreement problem: the five proofs, exact chance levels, and what agreement does not prove."""

from __future__ import annotations

from functools import cache
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from method_cards import judge
from method_cards.card import CheckBinding
from method_cards.catalog import Catalog
from method_cards.check import Context
from method_cards.execution import Options, Silent, measure
from method_cards.judge import Judged
from method_cards.measurement import Measurements
from method_cards.subject import Subject
from method_cards.verdict import Outcome
from method_checks.attribution import controls
from method_checks.attribution.explainer_disagreement import ExplainerDisagreement
from method_checks.attribution.explainers import Gradient, InputXGradient, IntegratedGradients
from method_checks.attribution.maps.agreement import feature_agreement, named, sign_agreement
from tests.helpers import binding, criterion, step

CONTROLS = {item.name: item for item in ExplainerDisagreement.controls()}

SCRIPT = binding(
    ExplainerDisagreement.id,
    [criterion("feature_agreement_excess", at_least=0)],
    [criterion("constant_map", at_most=0.1)],
)


@cache
def demanded() -> CheckBinding:
    """What the card demands."""
    cards = {loaded.card.id: loaded.card for loaded in Catalog.installed()}
    found = {item.id: item.check for item in cards["shap-and-lime"].prescriptions}["disagreement-looked-at"]
    assert found is not None
    return found


@cache
def control(name: str, seed: int = 0) -> Subject:
    return CONTROLS[name].build(seed)


def run(
    check: ExplainerDisagreement, subject: Subject, *, samples: int = 128, seed: int = 0, batch: int = 64
) -> tuple[str, str, Measurements]:
    context = Context(subject, samples, seed, batch, scope=check.id)
    return measure(step(check, SCRIPT), context, Options(exhaustive=True), Silent())


def judged(subject: Subject, check: ExplainerDisagreement | None = None, **options: Any) -> Judged:
    status, cause, found = run(check or ExplainerDisagreement(), subject, **options)
    assert (status, cause) == ("complete", "")
    return judge.judge(demanded(), found, complete=True)


def linear(count: int = 64, columns: int = 12) -> Subject:
    """A linear classifier of random columns."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Linear(columns, 3).eval()
    with torch.no_grad():
        model.weight.copy_(torch.randn(3, columns, generator=generator))
    data = torch.randn(count, columns, generator=generator), torch.zeros(count, dtype=torch.long)
    return Subject("linear", "tabular-classification", model, {"test": data}, explainer={"method": "input-x-gradient"})


# 1. and 2. Controls


@pytest.mark.parametrize("name", [item.name for item in CONTROLS.values() if item.kind == "sound"])
def test_a_sound_control_passes(name: str) -> None:
    """Explainers that follow the model agree with others more than chance does."""
    assert judged(control(name)).outcome is Outcome.PASSED


@pytest.mark.parametrize("name", [item.name for item in CONTROLS.values() if item.kind == "defect"])
def test_a_defect_control_fails_for_the_stated_reason(name: str) -> None:
    """Random numbers agree with the others as chance does, on images, tables and texts."""
    found = judged(control(name))
    assert found.outcome is Outcome.FAILED
    assert [part.measurement for part in found.criteria if part.outcome is Outcome.FAILED] == [CONTROLS[name].because]
    assert all(gate.outcome is Outcome.PASSED for gate in found.gates)


@pytest.mark.parametrize("method", ["kernel-shap", "lime", "shapley-sampling"])
def test_shap_and_lime_agree_more_than_chance(method: str) -> None:
    """On the table and on texts they name the features that gradient methods name, more often than chance does."""
    for build in (controls.table_by, controls.words_by):
        assert judged(build(method)(0)).outcome is Outcome.PASSED


# 3. A slow reading of the paper, and chance by enumeration


def slow(a: list[float], b: list[float], top: int) -> tuple[float, float]:
    """Feature and sign agreement of Krishna et al.: sets of the top features by magnitude, one feature at a time."""

    def best(values: list[float]) -> list[int]:
        return sorted(range(len(values)), key=lambda place: -abs(values[place]))[:top]

    common = set(best(a)) & set(best(b))
    same = [place for place in common if (a[place] > 0) == (b[place] > 0)]
    return len(common) / top, len(same) / top


def test_it_agrees_with_a_slow_reading_of_the_paper() -> None:
    """On maps without ties, agreement of features and of signs is that of the paper's sets."""
    generator = torch.Generator().manual_seed(1)
    one, other = (torch.randn(50, 10, generator=generator) for _ in range(2))
    content = torch.ones(50, 10, dtype=torch.bool)
    a, b = (named(part, 0.3, content) for part in (one, other))
    positions = content.sum(1)
    expected = [slow(x, y, 3) for x, y in zip(one.tolist(), other.tolist(), strict=True)]
    assert feature_agreement(a, b, positions)[0].tolist() == pytest.approx([item[0] for item in expected])
    assert sign_agreement(a, b, positions)[0].tolist() == pytest.approx([item[1] for item in expected])


def test_chance_is_the_mean_over_all_permutations() -> None:
    """Both chance levels are what all 720 permutations of one map's positions give on average, ties and zeros included."""
    one = torch.tensor([[3.0, -2.0, 1.0, 1.0, 0.0, -0.5]])
    other = torch.tensor([[-1.0, 0.0, 4.0, -4.0, 4.0, 0.2]])
    content = torch.ones(720, 6, dtype=torch.bool)
    everywhere = torch.stack([other[0, list(order)] for order in permutations(range(6))])
    a, b = named(one.expand(720, 6), 0.5, content), named(everywhere, 0.5, content)
    for agreement in (feature_agreement, sign_agreement):
        found, chance = agreement(a, b, content.sum(1))
        assert chance.unique().numel() == 1
        assert found.mean().item() == pytest.approx(chance[0].item(), abs=1e-9)


# 4. A library and a closed form


def test_rank_correlation_is_scipys() -> None:
    """The rank correlation of each reference is SciPy's Spearman correlation of magnitudes."""
    subject = control("gradient-of-table")
    check = ExplainerDisagreement(references=(InputXGradient(),))
    _, _, found = run(check, subject, samples=16)
    context = Context(subject, 16, 0, 64, scope=check.id)
    (batch,) = context.batches("test")
    view = subject.view(batch)
    maps = [method.explain(view, context.number("x")).abs() for method in (Gradient(), InputXGradient())]
    expected = [stats.spearmanr(a, b).statistic for a, b in zip(*maps, strict=True)]
    assert found.select("rank_correlation", {})[0].values == pytest.approx(expected, abs=1e-9)


def test_on_a_linear_model_contributions_agree_wholly() -> None:
    """Input times gradient and Integrated Gradients from zero are one and the same there: every agreement is 1."""
    check = ExplainerDisagreement(references=(IntegratedGradients(steps=2),), top=0.25)
    _, _, found = run(check, linear())
    for name in ("feature_agreement", "sign_agreement", "rank_correlation"):
        assert found.select(name, {})[0].values.min() == pytest.approx(1)
    assert found.select("feature_agreement_excess", {})[0].values == pytest.approx(np.full(64, 0.75))


# 5. Same seed, same result


def test_the_same_seed_gives_the_same_result() -> None:
    """Two runs agree to the last bit, and batches do not matter."""
    one, same, other = (
        run(ExplainerDisagreement(), control("gradient-of-table"), samples=48, batch=size)[2] for size in (64, 64, 7)
    )
    for series in one:
        assert np.array_equal(series.values, same.select(series.name, dict(series.by))[0].values)
        assert other.select(series.name, dict(series.by))[0].values == pytest.approx(series.values, abs=1e-5)


# What it does and does not say


def test_the_scale_of_maps_does_not_matter() -> None:
    """Multiplying a map by a positive number changes nothing, and by a negative one only the signs."""
    content = torch.ones(30, 9, dtype=torch.bool)
    maps, reference = torch.randn(30, 9), named(torch.randn(30, 9), 0.3, content)
    for factor, changes in ((1e-3, False), (-5.0, True)):
        one, other = (named(part, 0.3, content) for part in (maps, factor * maps))
        features, signs = (
            [agreement(part, reference, content.sum(1))[0] for part in (one, other)]
            for agreement in (feature_agreement, sign_agreement)
        )
        assert torch.equal(*features)
        assert torch.equal(*signs) is not changes


def test_agreement_is_not_validity() -> None:
    """The input itself, which sees no model, passes beside input times gradient on digits: the page says why nothing follows."""
    subject = CONTROLS["noise"].build(0)
    subject.explainer = {"method": "inputs"}
    check = ExplainerDisagreement(references=(InputXGradient(),))
    assert judged(subject, check).outcome is Outcome.PASSED
    assert "Agreement is not validity" in ExplainerDisagreement.page().sections["Assumptions"]


def test_constant_maps_are_invalid() -> None:
    """An explainer that answers with a constant names no feature, and no verdict is given."""
    subject = linear()
    subject.explainer = lambda _model, inputs, _targets: torch.ones_like(inputs)
    assert judged(subject).outcome is Outcome.INVALID


def test_references_of_the_same_method_are_left_out() -> None:
    """They would only agree with themselves; when none is left, the message says so."""
    subject = linear()
    _, _, found = run(ExplainerDisagreement(), subject, samples=8)
    assert {series.by["reference"] for series in found.select("feature_agreement", {})} == {
        "integrated-gradients",
        "gradient",
    }
    status, cause, _ = run(ExplainerDisagreement(references=(InputXGradient(),)), subject, samples=8)
    assert status == "errored"
    assert "all references are of the explainer's own method, input-x-gradient" in cause


def test_several_references_of_one_method_are_numbered() -> None:
    """Two baselines of one method are two references."""
    check = ExplainerDisagreement(references=(IntegratedGradients(steps=2), IntegratedGradients(steps=2, baseline=1.0)))
    _, _, found = run(check, linear(), samples=8)
    names = {series.by["reference"] for series in found.select("feature_agreement", {})}
    assert names == {"integrated-gradients 1", "integrated-gradients 2"}


def test_the_cost_is_what_is_spent() -> None:
    """The passes that the plan states are those that the model is called for."""
    calls = {"examples": 0}
    subject = linear()
    subject.model.register_forward_pre_hook(
        lambda _module, inputs: calls.__setitem__("examples", calls["examples"] + len(inputs[0]))
    )
    stated = ExplainerDisagreement().passes(subject, 64)
    calls["examples"] = 0
    run(ExplainerDisagreement(), subject, samples=64)
    assert calls["examples"] == stated.forward + stated.backward


def test_it_says_where_it_does_not_apply() -> None:
    """Without an explainer there is nothing to compare."""
    subject = linear()
    subject.explainer = None
    assert "name one under `explainer:`" in ExplainerDisagreement().not_applicable(subject)


def content_of(width: int) -> Tensor:
    return torch.arange(width) < width - 2


def test_padding_does_not_count() -> None:
    """What a map has at padded positions changes neither agreement nor chance."""
    content = content_of(8).expand(20, 8)
    one, other = torch.randn(20, 8), torch.randn(20, 8)
    loud = other.masked_fill(~content, 1e6)
    found = [
        feature_agreement(named(one, 0.4, content), named(part, 0.4, content), content.sum(1)) for part in (other, loud)
    ]
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1].unique().tolist() == pytest.approx([1 / 3])

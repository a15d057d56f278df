"""Attribution against direct queries: the five proofs, exact answers, and what must be refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import recall_score
from torch import Tensor, nn

from method_cards import judge
from method_cards.check import Context
from method_cards.subject import Subject
from method_cards.verdict import Outcome
from method_checks.attribution import controls
from method_checks.attribution.attribution_vs_direct_query import (
    BACKWARD,
    AttributionVsDirectQuery,
    _by_asking,
    asked,
    regions,
    youden,
)
from method_checks.attribution.explainers import IntegratedGradients
from tests.checks.attribution.carded import bound, control, judged, names, reason, run, series


class Wavy(nn.Module):
    """Logits that go up and down in each column."""

    def forward(self, x: Tensor) -> Tensor:
        total = (torch.sin(3 * x) * torch.arange(1, x.shape[1] + 1)).sum(1)
        return torch.stack([total, -total], 1)


def wavy(explainer: Any, count: int = 64) -> Subject:
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(count, 6, generator=generator), torch.zeros(count, dtype=torch.long)
    return Subject("wavy", "tabular-classification", Wavy().eval(), {"test": data}, explainer=explainer)


def linear(explainer: Any, count: int = 64, columns: int = 8) -> Subject:
    """A linear classifier of random columns."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Linear(columns, 3).eval()
    with torch.no_grad():
        model.weight.copy_(torch.randn(3, columns, generator=generator))
    data = torch.randn(count, columns, generator=generator), torch.zeros(count, dtype=torch.long)
    return Subject("linear", "tabular-classification", model, {"test": data}, explainer=explainer)


# 1. and 2. Controls


@pytest.mark.parametrize("name", names(AttributionVsDirectQuery, "sound"))
def test_a_sound_control_passes(name: str) -> None:
    """A gradient tells what raising a column or a patch does."""
    assert (
        judged(AttributionVsDirectQuery(), control(AttributionVsDirectQuery, name), samples=128).outcome
        is Outcome.PASSED
    )


@pytest.mark.parametrize("name", names(AttributionVsDirectQuery, "defect"))
def test_a_defect_control_fails_for_the_stated_reason(name: str) -> None:
    """Contributions from a baseline, random numbers and edges tell nothing about effects."""
    found = judged(AttributionVsDirectQuery(), control(AttributionVsDirectQuery, name), samples=128)
    assert found.outcome is Outcome.FAILED
    failed = {part.measurement for part in found.criteria if part.outcome is Outcome.FAILED}
    assert reason(AttributionVsDirectQuery, name) in failed
    assert all(gate.outcome is Outcome.PASSED for gate in found.gates)


@pytest.mark.parametrize("method", ["kernel-shap", "lime", "shapley-sampling"])
def test_signs_of_shap_and_lime_are_no_effects(method: str) -> None:
    """On the table they do no better than guessing, as the paper proves is possible, while their passes pay for all the answers."""
    subject = controls.table_by(method)(0)
    _, _, found = run(AttributionVsDirectQuery(grid=8), subject, samples=128)
    assert abs(series(found, "attribution_youden").mean()) < 0.15
    assert series(found, "direct_youden").mean() > 0.95
    assert judge.judge(bound(AttributionVsDirectQuery.id), found, complete=True).outcome is Outcome.FAILED


# 3. A slow reading of the definition


def test_it_agrees_with_a_slow_reading_of_the_definition() -> None:
    """Effects, sensitivity and specificity are those of loops over examples, columns and steps."""
    subject = wavy({"method": "integrated-gradients", "steps": 4})
    check = AttributionVsDirectQuery(delta=0.8, grid=5)
    _, _, found = run(check, subject, samples=12)
    context = Context(subject, 12, 0, 64, scope=check.id)
    (batch,) = context.batches("test")
    view = subject.view(batch)
    phi = IntegratedGradients(steps=4).explain(view, context.number("x"))
    spread = view.features.double().std(0).float()
    budget = BACKWARD * 4 - 1
    expected: dict[str, list[float]] = {"attribution_youden": [], "direct_youden": []}
    for row, x in enumerate(view.features):
        target = int(view.targets[row])
        start = subject.model(x[None])[0, target].item()
        counts = {
            key: [0.0, 0.0, 0.0, 0.0] for key in expected
        }  # right of lowering, lowering, right of raising, raising
        for column in range(6):
            changes = []
            for number in range(1, 6):
                z = x.clone()
                z[column] += number / 5 * check.delta * spread[column]
                changes.append(subject.model(z[None])[0, target].item() - start)
            lowers = sum(changes) < 0
            # 8.2 passes for six columns: one question each, and a second for 0.367 of the columns in expectation.
            one, two = changes[2], changes[1] + changes[3]
            share = budget / 6 - 1
            direct = (1 - share) * (one < 0) + share * (two < 0)
            for key, says in (("attribution_youden", float(phi[row, column] < 0)), ("direct_youden", direct)):
                place = 0 if lowers else 2
                counts[key][place] += says if lowers else 1 - says
                counts[key][place + 1] += 1
        for key, (tp, positives, tn, negatives) in counts.items():
            if positives and negatives:
                expected[key].append(tp / positives + tn / negatives - 1)
    for key, numbers in expected.items():
        assert series(found, key) == pytest.approx(numbers, abs=1e-6), key


# 4. A library and closed forms


def test_youdens_index_is_that_of_scikit_learn() -> None:
    """Sensitivity and specificity are scikit-learn's recalls of both classes."""
    generator = torch.Generator().manual_seed(0)
    truth, says = (torch.rand(30, 12, generator=generator) < 0.4 for _ in range(2))
    found = youden(truth, says.double(), torch.ones_like(truth))
    for row in range(30):
        expected = recall_score(truth[row], says[row]) + recall_score(truth[row], says[row], pos_label=0) - 1
        assert found[row].item() == pytest.approx(expected)


def test_on_a_linear_model_the_gradient_is_always_right() -> None:
    """Its sign is that of every effect, and input times gradient is right for positive columns alone."""
    _, _, found = run(AttributionVsDirectQuery(), linear({"method": "gradient"}), samples=64)
    assert series(found, "attribution_youden").min() == 1
    _, _, found = run(AttributionVsDirectQuery(), linear({"method": "input-x-gradient"}, count=512), samples=512)
    assert series(found, "attribution_youden").mean() == pytest.approx(0, abs=0.06)


def test_guessing_has_an_index_of_zero_whatever_the_shares() -> None:
    """Any answer that does not look at the feature, constant or half, has sensitivity + specificity = 1."""
    lowers = torch.tensor([[True, False, False, False, False, False]])
    counted = torch.ones_like(lowers)
    for answer in (0.0, 0.5, 1.0):
        assert youden(lowers, torch.full((1, 6), answer), counted).item() == 0
    assert youden(lowers, torch.full((1, 6), 0.5), lowers).item() == 0, "features of one kind only"


def test_direct_queries_get_what_the_passes_pay_for() -> None:
    """With no passes they guess, with one for each feature they ask in the middle, with all of the grid they know the truth."""
    changes = torch.tensor([[[-1.0, 2.0]], [[3.0, 2.0]], [[-5.0, -1.0]], [[1.0, 1.0]]])
    assert _by_asking(changes, -0.3).tolist() == [[0.5, 0.5]]
    assert _by_asking(changes, 0.25).tolist() == [[0.625, 0.625]]
    assert asked(1, 4) == [2]
    assert _by_asking(changes, 1).tolist() == [[1.0, 1.0]]
    assert _by_asking(changes, 400).tolist() == [[1.0, 0.0]]


# 5. Same seed, same result


def test_the_same_seed_gives_the_same_result() -> None:
    """Two runs agree to the last bit, and batches do not matter."""
    one, same, other = (
        run(
            AttributionVsDirectQuery(grid=4),
            control(AttributionVsDirectQuery, "gradient-on-digits"),
            samples=40,
            batch=size,
        )[2]
        for size in (64, 64, 9)
    )
    for each in one:
        assert np.array_equal(each.values, series(same, each.name))
        assert series(other, each.name) == pytest.approx(each.values, abs=1e-5)


# The features


def test_an_image_is_cut_into_patches_that_cover_it_once() -> None:
    """Each pixel of each channel is in one patch, also where sides do not divide."""
    found = regions(torch.zeros(2, 3, 9, 7), 4)
    assert found.shape == (16, 3, 9, 7)
    assert torch.equal(found.sum(0), torch.ones(3, 9, 7))
    assert regions(torch.zeros(2, 1, 2, 2), 4).shape == (4, 1, 2, 2)
    assert torch.equal(regions(torch.zeros(2, 5), 4), torch.eye(5))


def test_the_scale_of_the_map_does_not_matter() -> None:
    """Only signs are read."""
    subject = linear(None)
    indices = []
    for factor in (1.0, 1e-6):
        subject.explainer = lambda model, inputs, targets, factor=factor: factor * model.weight[targets] * inputs
        indices.append(series(run(AttributionVsDirectQuery(), subject, samples=64)[2], "attribution_youden"))
    assert np.array_equal(indices[0], indices[1])


def test_many_features_are_sampled() -> None:
    """At most as many are tested as the parameter says, the same ones in every batch."""
    check = AttributionVsDirectQuery(most_features=4)
    subject = linear({"method": "input-x-gradient"}, columns=40)
    one, other = (run(check, subject, samples=64, batch=size)[2] for size in (64, 9))
    assert check.passes(subject, 64).forward == 64 * (2 + 4 * check.grid)
    assert set(np.unique(series(one, "attribution_youden") * 6).round(6)) <= set(range(-6, 7)), (
        "of four columns at most"
    )
    assert np.array_equal(series(one, "attribution_youden"), series(other, "attribution_youden"))


# What is refused


def test_a_model_that_only_rises_is_invalid() -> None:
    """Where raising anything raises the logit there is no specificity, and no verdict is given."""

    class Rising(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            total = x.exp().sum(1)
            return torch.stack([total, 0 * total], 1)

    data = torch.randn(64, 5), torch.zeros(64, dtype=torch.long)
    subject = Subject(
        "rising", "tabular-classification", Rising().eval(), {"test": data}, explainer={"method": "gradient"}
    )
    assert judged(AttributionVsDirectQuery(), subject, samples=64).outcome is Outcome.INVALID


def test_it_says_where_it_does_not_apply() -> None:
    """Texts cannot be raised, examples that do not vary have no scale, and a missing explainer is named."""
    assert "cannot be raised" in AttributionVsDirectQuery().not_applicable(controls.words_by("gradient")(0))
    subject = linear({"method": "gradient"})
    subject.data = {"test": type(subject.split("test"))("test", (torch.ones(20, 8), torch.zeros(20)))}
    status, cause, _ = run(AttributionVsDirectQuery(), subject, samples=64)
    assert status == "errored"
    assert "do not vary" in cause
    subject.explainer = None
    assert "name one under `explainer:`" in AttributionVsDirectQuery().not_applicable(subject)


def test_the_cost_is_what_is_spent() -> None:
    """The passes that the plan states are those that the model is called for."""
    calls = {"examples": 0}
    subject = linear({"method": "gradient"})
    subject.model.register_forward_pre_hook(
        lambda _module, inputs: calls.__setitem__("examples", calls["examples"] + len(inputs[0]))
    )
    stated = AttributionVsDirectQuery().passes(subject, 64)
    calls["examples"] = 0
    run(AttributionVsDirectQuery(), subject, samples=64)
    assert calls["examples"] == stated.forward + stated.backward

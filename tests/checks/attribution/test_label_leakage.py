"""Label leakage: the five proofs, and cases whose answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from captum import attr
from torch import Tensor, nn

from method_cards.check import Context
from method_cards.subject import Subject
from method_cards.verdict import Outcome
from method_checks.attribution import controls
from method_checks.attribution.changes.draws import Draws
from method_checks.attribution.explainers import Gradient, InputXGradient
from method_checks.attribution.label_leakage import LabelLeakage, top_positions
from tests.checks.attribution.carded import control, judged, names, reason, run, series


class Votes(nn.Module):
    """Each class has two columns of its own, whose sum is its logit."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1, 2).sum(2)


def votes(explainer: Any, count: int = 64) -> Subject:
    generator = torch.Generator().manual_seed(0)
    data = torch.rand(count, 8, generator=generator) + 0.5, torch.zeros(count, dtype=torch.long)
    return Subject("votes", "tabular-classification", Votes().eval(), {"test": data}, explainer=explainer)


# 1. and 2. Controls


@pytest.mark.parametrize("name", names(LabelLeakage, "sound"))
def test_a_sound_control_passes(name: str) -> None:
    """Maps that do not depend on the class that is asked for cannot make it likely."""
    assert judged(LabelLeakage(), control(LabelLeakage, name), samples=128).outcome is Outcome.PASSED


@pytest.mark.parametrize("name", names(LabelLeakage, "defect"))
def test_a_defect_control_fails_for_the_stated_reason(name: str) -> None:
    """Explanations of a wrong class keep what speaks for it, on images, tables and texts."""
    found = judged(LabelLeakage(), control(LabelLeakage, name), samples=128)
    assert found.outcome is Outcome.FAILED
    assert [part.measurement for part in found.criteria if part.outcome is Outcome.FAILED] == [
        reason(LabelLeakage, name)
    ]
    assert all(gate.outcome is Outcome.PASSED for gate in found.gates)


@pytest.mark.parametrize("method", ["kernel-shap", "lime", "shapley-sampling"])
def test_shap_and_lime_leak_the_class(method: str) -> None:
    """The paper's examples of class-dependent methods leak the class on a table, as it says."""
    assert judged(LabelLeakage(), controls.table_by(method)(0), samples=128).outcome is Outcome.FAILED


# 3. A slow reading of the definition


def test_it_agrees_with_a_slow_reading_of_the_definition() -> None:
    """Kept features and probabilities are those of loops over examples, positions and draws."""
    subject = control(LabelLeakage, "integrated-gradients-on-table")
    check = LabelLeakage(draws=3, baseline=0.25, explainer=InputXGradient())
    _, _, found = run(check, subject, samples=10)
    context = Context(subject, 10, 0, 64, scope=check.id)
    (batch,) = context.batches("test")
    assert isinstance(batch.inputs, Tensor)
    draws = Draws.of(context, batch, "positions")
    ties = torch.stack([draws.bits(draw, 30) for draw in range(4)])
    for row, x in enumerate(batch.inputs):
        leaf = x.clone().requires_grad_()
        logits = subject.model(leaf[None])[0]
        other = 1 - int(logits.argmax())
        (slope,) = torch.autograd.grad(logits[other], leaf)
        phi = (x * slope).tolist()
        orders = [sorted(range(30), key=lambda place, phi=phi: -phi[place])]  # type: ignore[misc]
        orders += [sorted(range(30), key=ties[draw, row].tolist().__getitem__) for draw in (1, 2, 3)]
        probabilities = []
        for order in orders:
            z = torch.full_like(x, 0.25)
            for place in order[:6]:
                z[place] = x[place]
            probabilities.append(subject.model(z[None])[0].softmax(0)[other].item())
        whole = logits.softmax(0)[other].item()
        assert series(found, "leakage_rise")[row] == pytest.approx(probabilities[0] - whole, abs=1e-5)
        assert series(found, "leakage_excess")[row] == pytest.approx(
            probabilities[0] - sum(probabilities[1:]) / 3, abs=1e-5
        )
        assert series(found, "made_predicted")[row] == (probabilities[0] > 0.5)


# 4. A library and a closed form


def test_captums_map_leaks_as_the_bundled_one_does() -> None:
    """A function that calls Captum's input times gradient leaks the same."""
    subject = control(LabelLeakage, "input-x-gradient")
    _, _, bundled = run(LabelLeakage(), subject, samples=32)

    def captum(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        found: Tensor = attr.InputXGradient(model).attribute(inputs.requires_grad_(), target=targets)
        return found

    subject.explainer = captum
    _, _, found = run(LabelLeakage(), subject, samples=32)
    assert series(found, "leakage_excess") == pytest.approx(series(bundled, "leakage_excess"), abs=1e-6)


def test_the_leakage_of_a_voting_model_is_known() -> None:
    """Of eight columns the two of the asked class are kept: it is always predicted, with the softmax of its own votes."""
    subject = votes({"method": "input-x-gradient"})
    check = LabelLeakage(top=0.25)
    _, _, found = run(check, subject, samples=64)
    assert series(found, "made_predicted").min() == 1
    context = Context(subject, 64, 0, 64, scope=check.id)
    (batch,) = context.batches("test")
    view, whole = check._asked(subject, context, batch)
    assert (view.targets != subject.outputs(batch).argmax(1)).all()
    assert set(view.targets.tolist()) == {0, 1, 2, 3}, "every class is asked for"
    own = subject.outputs(batch).double().gather(1, view.targets[:, None])[:, 0].exp()
    assert series(found, "leakage_rise") == pytest.approx((own / (own + 3) - whole).numpy(), abs=1e-6)


def test_a_map_that_does_not_know_the_class_is_at_chance() -> None:
    """Random numbers keep what the null keeps: no excess, however much masking itself raises the class."""
    subject = votes({"method": "noise"}, count=512)
    _, _, found = run(LabelLeakage(top=0.25), subject, samples=512)
    assert series(found, "leakage_excess").mean() == pytest.approx(0, abs=0.03)
    assert series(found, "leakage_rise").mean() > 0.01


# 5. Same seed, same result


@pytest.mark.parametrize("name", ["input-x-gradient", "integrated-gradients-on-words"])
def test_the_same_seed_gives_the_same_result(name: str) -> None:
    """Two runs agree to the last bit, and batches do not matter."""
    one, same, other = (
        run(LabelLeakage(), control(LabelLeakage, name), samples=40, batch=size)[2] for size in (64, 64, 7)
    )
    for each in one:
        assert np.array_equal(each.values, series(same, each.name))
        assert series(other, each.name) == pytest.approx(each.values, abs=1e-5)


# The mathematics


def test_top_positions_are_rounded_up_and_padding_is_never_kept() -> None:
    """Of six positions that count a fifth is two; equal values are taken in the order of the given numbers."""
    maps = torch.tensor([[1.0, 5.0, 1.0, 9.0, 1.0, 1.0, 1.0]])
    content = torch.tensor([[True, True, True, False, True, True, True]])
    ties = torch.tensor([[0.9, 0.8, 0.1, 0.0, 0.5, 0.6, 0.7]])
    assert top_positions(maps, ties, 0.2, content).nonzero()[:, 1].tolist() == [1, 2]
    assert torch.equal(top_positions(7 * maps + 3, ties, 0.2, content), top_positions(maps, ties, 0.2, content))


# What is refused


def test_constant_maps_are_invalid() -> None:
    """A constant names no features, and no verdict is given."""
    assert (
        judged(LabelLeakage(), votes(lambda _model, inputs, _targets: 0 * inputs), samples=64).outcome
        is Outcome.INVALID
    )


def test_it_says_where_it_does_not_apply() -> None:
    """Without an explainer there is nothing to ask."""
    assert "name one under `explainer:`" in LabelLeakage().not_applicable(votes(None))
    assert not LabelLeakage(explainer=Gradient()).not_applicable(votes(None))


def test_the_cost_is_what_is_spent() -> None:
    """The passes that the plan states are those that the model is called for."""
    calls = {"examples": 0}
    subject = votes({"method": "gradient"})
    subject.model.register_forward_pre_hook(
        lambda _module, inputs: calls.__setitem__("examples", calls["examples"] + len(inputs[0]))
    )
    stated = LabelLeakage().passes(subject, 64)
    calls["examples"] = 0
    run(LabelLeakage(), subject, samples=64)
    assert calls["examples"] == stated.forward + stated.backward

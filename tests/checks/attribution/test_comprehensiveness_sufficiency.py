"""Comprehensiveness and sufficiency: a slow reading, a library, and known answers; controls and invariances are in `test_removal_checks`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation
from torch import Tensor

from method_cards.check import Context
from method_checks.attribution.changes.removal import Removal
from method_checks.attribution.comprehensiveness_sufficiency import ComprehensivenessSufficiency, dropped
from method_checks.attribution.explainers import resolve
from tests.checks.attribution.carded import control, values
from tests.checks.attribution.removal_cases import linear, slow_probability

# 3. A slow re-implementation, straight from the papers


def test_it_agrees_with_a_slow_reading_of_the_papers() -> None:
    """For each percentage remove, or keep, the first of a sorted list, ask the model, and average; divide by the whole drop."""
    subject = linear(10, count=40, scale=1.0)
    check = ComprehensivenessSufficiency(substrate="zeros", percentages=(5, 20, 50), orders=2)
    found = values(check, subject, samples=16, batch=5)
    context = Context(subject, 16, 0, 16, scope=check.id)
    view = subject.view(next(iter(context.batches("test"))))
    engine = Removal(context, view, resolve(subject), "test", substrate="zeros")
    weight = subject.model.weight.detach()  # type: ignore[operator]
    gains = []
    for row, x in enumerate(view.features):
        target = int(view.targets[row])
        relevance = (x * weight[target]).tolist()
        whole, nothing = (slow_probability(subject, x, target, range(gone), torch.zeros(10)) for gone in (0, 10))

        def drops(order: list[int], x: Tensor = x, target: int = target) -> list[list[float]]:
            removed, kept = [], []
            for some in (1, 2, 5):
                removed.append(slow_probability(subject, x, target, order[:some], torch.zeros(10)))
                kept.append(slow_probability(subject, x, target, order[some:], torch.zeros(10)))
            return [removed, kept]

        order = engine.ranks("most")[row].argsort().tolist()
        assert [relevance[i] for i in order] == sorted(relevance, reverse=True)
        chance = [engine.ranks(number)[row].argsort().tolist() for number in (0, 1)]
        own, random = drops(order), [[drops(some)[0], drops(some[::-1])[1]] for some in chance]
        assert found["comprehensiveness"][row] == pytest.approx(np.mean([whole - at for at in own[0]]), abs=1e-5)
        assert found["sufficiency"][row] == pytest.approx(np.mean([whole - at for at in own[1]]), abs=1e-5)
        if whole - nothing >= 0.1:

            def share(at: list[float], whole: float = whole, nothing: float = nothing) -> float:
                return float(np.mean([min(1.0, max(0.0, (whole - p) / (whole - nothing))) for p in at]))

            gains.append(
                [
                    share(own[0]) - np.mean([share(pair[0]) for pair in random]),
                    np.mean([share(pair[1]) for pair in random]) - share(own[1]),
                ]
            )
    assert 0 < len(gains) < 16, "both kinds of example were seen"
    assert found["comprehensiveness_gain"] == pytest.approx([gain[0] for gain in gains], abs=1e-4)
    assert found["sufficiency_gain"] == pytest.approx([gain[1] for gain in gains], abs=1e-4)


# 4. Agreement with Captum


def test_the_first_token_agrees_with_captum() -> None:
    """At one per cent one token goes: the fall of the logit is Captum's ablation of that token's embedding."""
    subject = control(ComprehensivenessSufficiency, "words")
    context = Context(subject, 8, 0, 8)
    view = subject.view(next(iter(context.batches("test"))))
    engine = Removal(context, view, resolve(subject), "test", substrate="zeros")
    first = engine.at("most", torch.ones(8, 1, dtype=torch.long)).logits[:, 0]
    tokens = torch.arange(16).reshape(1, 16, 1).expand(1, 16, view.features.shape[2])
    ablation = FeatureAblation(lambda at: view.outputs(at, view.rows)).attribute(
        view.features, target=view.targets, feature_mask=tokens
    )[:, :, 0]
    expected = ablation.gather(1, engine.ranks("most").argmin(1, keepdim=True))[:, 0]
    assert torch.allclose(engine.ends().logits[:, 0] - first, expected, atol=1e-5)


# Known answers


def test_the_share_of_a_drop_is_zero_at_the_start_and_one_at_the_end() -> None:
    """It does not depend on the size of the drop, and stays within 0 and 1 when the probability leaves the two ends."""
    whole, nothing = torch.tensor([0.9, 0.3]), torch.tensor([0.1, 0.1])
    at = torch.tensor([[0.9, 0.5, 0.1, 0.95, 0.0], [0.3, 0.2, 0.1, 0.5, 0.0]])
    assert dropped(whole, nothing, at).numpy() == pytest.approx(np.array([[0, 0.5, 1, 0, 1]] * 2), abs=1e-6)


def test_confidence_does_not_decide() -> None:
    """Examples of low and of high confidence have the same shares where the logits are small, while their raw drops differ fivefold."""
    subject = linear(scale=0.02, count=96)
    check = ComprehensivenessSufficiency(substrate="zeros", least_drop=1e-4)
    low = values(check, subject, samples=96)
    high = values(check, linear(scale=0.1, count=96), samples=96)
    assert high["comprehensiveness"].mean() > 4 * low["comprehensiveness"].mean()
    assert high["comprehensiveness_gain"].mean() == pytest.approx(low["comprehensiveness_gain"].mean(), rel=0.1)


def test_texts_tables_and_images_are_all_measured() -> None:
    """At least one position goes at one per cent, of 16 tokens, 30 columns or 64 pixels."""
    for name in ("words", "table", "integrated-gradients"):
        found = values(
            ComprehensivenessSufficiency(percentages=(1,)), control(ComprehensivenessSufficiency, name), samples=64
        )
        assert found["comprehensiveness_gain"].mean() > 0.02


@pytest.mark.parametrize("percentages", [(0,), (100,), (10, 10)])
def test_percentages_that_mean_nothing_are_refused(percentages: tuple[int, ...]) -> None:
    """Nothing, everything, and the same twice are no percentages to ask for."""
    with pytest.raises(ValueError, match="different whole numbers from 1 to 99"):
        ComprehensivenessSufficiency(percentages=percentages)

"""SmoothGrad, expected gradients and the parts of Integrated Gradients follow their formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from captum import attr
from torch import Tensor, nn

from method_cards.check import Check, Passes
from method_cards.errors import CheckError
from method_cards.subject import Subject, View
from method_checks.attribution import controls
from method_checks.attribution.disconnected_input import DisconnectedInput
from method_checks.attribution.explainers import (
    ExpectedGradients,
    Gradient,
    InputXGradient,
    IntegratedGradients,
    SmoothGrad,
    resolve,
)
from method_checks.attribution.explainers.generators import Generators
from method_checks.attribution.explainers.gradients import quadrature
from method_checks.attribution.grid_pointing_game import GridPointingGame
from method_checks.attribution.low_snr import LowSnr
from method_checks.attribution.null_block import NullBlock
from method_checks.attribution.relative_feature_importance import RelativeFeatureImportance
from tests.checks.attribution.explained import bert, cnn, draw, generator, images, mlp, table, view_of


def gradient_at(view: View, example: int, point: Tensor) -> Tensor:
    """The derivative of one example's logit at one point."""
    leaf = point.detach().clone().requires_grad_()
    (found,) = torch.autograd.grad(view.model(leaf[None])[0, view.targets[example]], leaf)
    return found


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("make", [lambda: images(cnn()), lambda: table(mlp())], ids=["image", "table"])
def test_smoothgrad_follows_its_formula(make: Any, squared: bool) -> None:
    """It is the mean of the (squared) derivative at x + n, with n normal and its deviation a share of the example's range."""
    view = view_of(make())
    found = SmoothGrad(samples=6, noise=0.2, squared=squared).explain(view, 5)
    generators = Generators(5, view, 0)
    for example, x in enumerate(view.features):
        noise = torch.randn((6, *x.shape), generator=generators.row(example))
        gradients = [gradient_at(view, example, x + 0.2 * (x.max() - x.min()) * draw) for draw in noise]
        expected = torch.stack(gradients)
        expected = (expected.square() if squared else expected).mean(0)
        torch.testing.assert_close(found[example], expected, rtol=1e-4, atol=1e-6)


def test_smoothgrad_without_noise_is_the_gradient() -> None:
    """As the noise vanishes, SmoothGrad becomes the gradient of a smooth model."""
    view = view_of(table(mlp(nn.Tanh)))
    found = SmoothGrad(samples=4, noise=1e-6).explain(view, 0)
    torch.testing.assert_close(found, Gradient().explain(view, 0), rtol=0, atol=1e-5)


def test_smoothgrad_is_captums_noise_tunnel_on_average() -> None:
    """With many draws, SmoothGrad and its square approach Captum's noise tunnel with the same deviation."""
    view = view_of(table(mlp(nn.Tanh)), 2)
    deviation = float(0.3 * (view.features.max() - view.features.min()))
    torch.manual_seed(0)
    for squared, kind in ((False, "smoothgrad"), (True, "smoothgrad_sq")):
        tunnel = attr.NoiseTunnel(attr.Saliency(view.model))
        expected = tunnel.attribute(
            view.features.clone().requires_grad_(), kind, 4000, stdevs=deviation, target=view.targets, abs=False
        )
        found = SmoothGrad(samples=4000, noise=0.3, squared=squared).explain(view, 0)
        torch.testing.assert_close(found, expected.detach(), rtol=0.1, atol=0.01)


def test_smoothgrads_noise_leaves_padding_out_of_the_range() -> None:
    """The range of a text's embeddings is that of its content."""
    view = view_of(bert())
    assert view.mask is not None
    changed = torch.where(view.mask[:, :, None], view.features, 1e6)
    found = SmoothGrad(samples=3).explain(view.at(changed, view.rows), 0)
    expected = SmoothGrad(samples=3).explain(view, 0)
    torch.testing.assert_close(found[view.mask], expected[view.mask], rtol=0, atol=1e-4)


def quadratic(columns: int = 5) -> tuple[Subject, Tensor]:
    """A subject whose logits are quadratic forms, and their matrices."""
    matrices = torch.stack([half + half.T for half in draw(3, columns, columns)])

    class Quadratic(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.einsum("bi,kij,bj->bk", x, matrices, x)

    data = {
        "test": (draw(6, columns), torch.zeros(6, dtype=torch.long)),
        "train": (draw(40, columns, seed=1), torch.zeros(40, dtype=torch.long)),
    }
    return Subject("s", "tabular-classification", Quadratic().eval(), data), matrices


def test_expected_gradients_follow_their_formula() -> None:
    """Each draw is one baseline and one point: the derivative there, times how far the features are from the baseline."""
    subject, _ = quadratic()
    view = view_of(subject)
    explainer = ExpectedGradients(samples=9, background=7).bound(subject)
    found = explainer.explain(view, 4)
    background, _ = subject.split("train").take(subject.split("train").draw(7, 0))
    assert isinstance(background, Tensor)
    generators = Generators(4, view, 0)
    for example, x in enumerate(view.features):
        running = generators.row(example)
        chosen = torch.randint(7, (9,), generator=running)
        points = torch.rand(9, generator=running)
        draws = [
            gradient_at(view, example, start + alpha * (x - start)) * (x - start)
            for start, alpha in zip(background[chosen], points, strict=True)
        ]
        torch.testing.assert_close(found[example], torch.stack(draws).mean(0), rtol=1e-4, atol=1e-5)


def test_expected_gradients_approach_the_mean_of_integrated_gradients() -> None:
    """With many draws they are Integrated Gradients averaged over the background, and add up to the difference from its mean logit."""
    subject, _ = quadratic()
    view = view_of(subject)
    explainer = ExpectedGradients(samples=4000, background=5).bound(subject)
    found = explainer.explain(view, 0)
    background, _ = subject.split("train").take(subject.split("train").draw(5, 0))
    assert isinstance(background, Tensor)
    means = torch.zeros_like(found)
    for start in background:
        captum = attr.IntegratedGradients(view.model)
        means += captum.attribute(view.features, start[None], view.targets, n_steps=4) / len(background)
    error = (found - means).abs().mean() / means.abs().mean()
    assert float(error) < 0.1
    with torch.no_grad():
        change = view.model(view.features) - view.model(background).mean(0)
    expected = change.gather(1, view.targets[:, None])[:, 0]
    torch.testing.assert_close(means.sum(1), expected, rtol=1e-3, atol=1e-3)


def test_expected_gradients_take_their_background_from_a_split() -> None:
    """The background is the named split's, the same for every batch; without the split, or a subject, it is refused."""
    subject, _ = quadratic()
    explainer = resolve(subject, ExpectedGradients())
    assert explainer.passes(10) == Passes(backward=640)
    with pytest.raises(CheckError, match='no data split "trian"'):
        resolve(subject, ExpectedGradients(split="trian"))
    with pytest.raises(CheckError, match="takes its background from a subject"):
        ExpectedGradients().explain(view_of(subject), 0)


def test_texts_of_other_lengths_are_no_background() -> None:
    """Baselines that do not have the features' shape are refused, with the method that fits any length."""
    text = bert()
    ids = torch.randint(1, 40, (4, 5), generator=generator())
    text.data = {**text.data, "short": bert().split("test")}
    from method_cards.data import Split

    text.data["short"] = Split("short", ({"input_ids": ids, "attention_mask": ids.clamp(max=1)}, torch.zeros(4)))
    with pytest.raises(CheckError, match=r"examples of \"short\" have features \(5, 16\).*use integrated-gradients"):
        resolve(text, ExpectedGradients(split="short")).explain(view_of(text), 0)


@pytest.mark.parametrize("split_at", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("make", [lambda: images(cnn()), lambda: table(mlp(nn.Tanh))], ids=["image", "table"])
def test_left_and_right_part_follow_their_definition(make: Any, split_at: float) -> None:
    """The left part ends with the first step at which the logit has passed f(x') + split_at (f(x) - f(x')); the right part is the rest."""
    view = view_of(make())
    parts = {
        part: IntegratedGradients(steps=20, quadrature="midpoint", part=part, split_at=split_at).explain(view, 0)
        for part in ("left", "right", "whole")
    }
    torch.testing.assert_close(parts["left"] + parts["right"], parts["whole"], rtol=1e-4, atol=1e-6)
    points, weights = quadrature("midpoint", 20)
    for example, x in enumerate(view.features):
        with torch.no_grad():
            first, *along, last = (
                float(view.model(alpha * x[None])[0, view.targets[example]]) for alpha in (0.0, *points, 1.0)
            )
        expected, rising = torch.zeros_like(x), last > first
        threshold = first + split_at * (last - first)
        for alpha, weight, value in zip(points, weights, along, strict=True):
            expected += weight * gradient_at(view, example, alpha * x) * x
            if (value > threshold) if rising else (value < threshold):
                break
        torch.testing.assert_close(parts["left"][example], expected, rtol=1e-4, atol=1e-6)


def test_the_left_part_stops_where_the_model_saturates() -> None:
    """For f(x) = min(x, 1) times ten and x = (4, 0), nine tenths are reached at alpha = 0.225: nothing is missing in the left part."""

    class Saturated(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            first = 10 * x[:, :1].clamp(max=1)
            return torch.cat([first, -first], 1)

    data = (torch.tensor([[4.0, 0.0]]), torch.zeros(1, dtype=torch.long))
    view = view_of(Subject("s", "tabular-classification", Saturated().eval(), {"test": data}), 0)
    settings: dict[str, Any] = {"steps": 1000, "quadrature": "midpoint", "split_at": 0.9}
    left = IntegratedGradients(part="left", **settings).explain(view, 0)
    right = IntegratedGradients(part="right", **settings).explain(view, 0)
    assert left[0].tolist() == pytest.approx([9.0, 0.0], abs=0.05)
    assert right[0].tolist() == pytest.approx([1.0, 0.0], abs=0.05)


def test_a_part_is_not_complete_and_costs_more() -> None:
    """A part of the line claims no completeness, and takes a forward pass for each step and each end besides."""
    explainer = IntegratedGradients(steps=10, part="left")
    assert not explainer.claims_completeness
    assert explainer.passes(3) == Passes(forward=36, backward=30)


def test_kinds_are_told_apart() -> None:
    """Contributions hold the input's factor, sensitivities do not."""
    assert InputXGradient().multiplied
    assert IntegratedGradients().multiplied
    assert IntegratedGradients(multiply_by_inputs=False).multiplied is False
    assert SmoothGrad().multiplied is False


@pytest.mark.parametrize(
    ("check", "subject"),
    [
        (DisconnectedInput, controls.digits_by),
        (DisconnectedInput, controls.words_by),
        (DisconnectedInput, controls.table_by),
        (GridPointingGame, controls.digits_by),
        (LowSnr, controls.table_by),
        (NullBlock, controls.digits_by),
        (RelativeFeatureImportance, controls.digits_by),
    ],
)
def test_a_background_of_data_is_not_applicable_where_inputs_are_the_checks_own(
    check: type[Check], subject: Any
) -> None:
    """Before a run, with the reason and the way out that the error would have."""
    reason = check().not_applicable(subject("expected-gradients")(0))
    assert "background" in reason
    assert "use integrated-gradients, whose baseline fits" in reason
    assert "background" not in check().not_applicable(subject("integrated-gradients")(0))

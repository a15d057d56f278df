"""DeepLIFT and LRP agree with Captum, with their rules, and refuse a model for which they have none."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from captum import attr
from captum.attr._utils import lrp_rules
from torch import Tensor, nn

from method_cards.errors import CheckError
from method_cards.subject import Subject
from method_checks.attribution.explainers import DeepLift, InputXGradient, Lrp
from tests.checks.attribution.explained import (
    FunctionalReLU,
    bert,
    cnn,
    draw,
    images,
    mlp,
    residual,
    table,
    view_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from method_cards.subject import View

pytestmark = pytest.mark.filterwarnings("ignore:Setting (forward, )?backward hooks.*:UserWarning")

NETWORKS: dict[str, Callable[[], View]] = {
    "cnn": lambda: view_of(images(cnn(pool=nn.AvgPool2d))),
    "residual": lambda: view_of(images(residual(shared=False, pool=nn.AvgPool2d))),
    "mlp": lambda: view_of(table(mlp())),
    "tanh": lambda: view_of(table(mlp(nn.Tanh))),
    "sigmoid": lambda: view_of(table(mlp(nn.Sigmoid))),
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("multiply", [True, False])
def test_deep_lift_is_captums(network: str, multiply: bool) -> None:
    """DeepLIFT is Captum's where each activation is a module of its own that is used once, and no maximum is taken."""
    view = NETWORKS[network]()
    captum = attr.DeepLift(view.model, multiply_by_inputs=multiply)
    expected = captum.attribute(
        view.features.clone().requires_grad_(), baselines=torch.full_like(view.features, 0.2), target=view.targets
    )
    found = DeepLift(baseline=0.2, multiply_by_inputs=multiply).explain(view, 0)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [lambda: images(residual()), lambda: table(FunctionalReLU(mlp()).eval()), lambda: images(cnn(in_place=True))],
    ids=["used twice", "functional", "in place"],
)
def test_deep_lift_sees_every_activation(make: Callable[[], Any]) -> None:
    """Attributions add up for ReLUs that are used twice, called as functions or in place, where hooks of modules go wrong."""
    view = view_of(make())
    found = DeepLift(baseline=0.3).explain(view, 0).flatten(1).sum(1)
    with torch.no_grad():
        ends = [view.outputs(at, view.rows) for at in (view.features, torch.full_like(view.features, 0.3))]
    change = (ends[0] - ends[1]).gather(1, view.targets[:, None])[:, 0]
    torch.testing.assert_close(found, change, rtol=1e-4, atol=1e-5)


def test_deep_lift_follows_its_rule() -> None:
    """The multiplier of a ReLU is its change over its input's change; multipliers are chained through the weights."""
    model = mlp()
    view = view_of(table(model))
    expected = torch.zeros_like(view.features)
    with torch.no_grad():
        for example, target in enumerate(view.targets.tolist()):
            x, start = view.features[example], torch.zeros(5)
            first, first_before = model[0](x), model[0](start)
            second, second_before = model[2](first.relu()), model[2](first_before.relu())
            signal = model.get_parameter("4.weight")[target]
            for now, before, weight in ((second, second_before, "2"), (first, first_before, "0")):
                signal = (
                    signal * (now.relu() - before.relu()) / (now - before) @ model.get_parameter(f"{weight}.weight")
                )
            expected[example] = signal * (x - start)
    torch.testing.assert_close(DeepLift().explain(view, 0), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("window", "before", "expected"),
    [
        ([3.0, 1.0], [0.0, 2.0], [1.0, 0.0]),  # the maximum moves from 2 to 3, all by the place that has it now
        ([0.0, 1.0], [5.0, 0.0], [-4.0, 0.0]),  # it falls from 5 to 1, all by the place that had it
        ([4.0, 1.0], [1.0, 0.0], [3.0, 0.0]),  # the same place has it: the plain derivative
        ([2.0, 2.0], [2.0, 1.0], [0.0, 0.0]),  # nothing moves
    ],
)
def test_a_maximum_divides_its_change(window: list[float], before: list[float], expected: list[float]) -> None:
    """The change of a maximum goes to the place that reaches it now as far as it rises, to the place that did as far as it falls."""

    class Largest(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            changed = x + torch.tensor(before)  # so that the baseline zero stands for `before`
            largest = nn.functional.max_pool1d(changed[:, None], 2)[:, 0]
            return torch.cat([largest, -largest], 1)

    data = (torch.tensor([window]) - torch.tensor(before), torch.zeros(1, dtype=torch.long))
    subject = Subject("s", "tabular-classification", Largest().eval(), {"test": data})
    found = DeepLift().explain(view_of(subject, 0), 0)
    torch.testing.assert_close(found, torch.tensor([expected]))


def ruled(model: nn.Module, convolution: type, dense: type) -> attr.LRP:
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.rule = (convolution if isinstance(layer, nn.Conv2d) else dense)()
    return attr.LRP(model)


class Flat(nn.Module):
    """A network without an ``nn.Flatten``, which Captum's LRP does not know."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        *self.convolutions, _, self.linear = layers.children()
        self.before = nn.Sequential(*self.convolutions)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.before(x).flatten(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("composite", "convolution", "dense"),
    [
        ("epsilon", lrp_rules.EpsilonRule, lrp_rules.EpsilonRule),
        ("epsilon-plus", lrp_rules.Alpha1_Beta0_Rule, lrp_rules.EpsilonRule),
        ("z-plus", lrp_rules.Alpha1_Beta0_Rule, lrp_rules.Alpha1_Beta0_Rule),
        ("gamma", lrp_rules.GammaRule, lrp_rules.EpsilonRule),
    ],
)
def test_lrp_is_captums(composite: Any, convolution: type, dense: type) -> None:
    """Each composite is Captum's with the same rules, on images that are never negative, as its alpha rule takes them to be."""
    model = cnn()
    for number in (0, 2, 6):  # Captum leaves biases as they are where it changes weights
        model.get_parameter(f"{number}.bias").data.zero_()
    view = view_of(images(model))
    positive = view.at(view.features.abs(), view.rows)
    expected = ruled(Flat(copy.deepcopy(model)), convolution, dense).attribute(
        positive.features.clone().requires_grad_(), target=view.targets
    )
    found = Lrp(composite=composite, epsilon=1e-9).explain(positive, 0)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "make", [lambda: images(residual()), lambda: table(mlp()), lambda: table(FunctionalReLU(mlp()).eval())]
)
def test_epsilon_rule_is_input_times_gradient_of_a_relu_network(make: Callable[[], Any]) -> None:
    """With a small epsilon, the epsilon rule is input times gradient where all activations are ReLUs (ancona2018towards)."""
    view = view_of(make())
    found = Lrp(composite="epsilon", epsilon=1e-9).explain(view, 0)
    torch.testing.assert_close(found, InputXGradient().explain(view, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("composite", ["epsilon", "z-plus"])
def test_lrp_follows_its_rules(composite: Any) -> None:
    """Relevance is divided by shares in sums, neuron after neuron, with inputs of both signs."""
    model, epsilon = mlp(nn.Tanh), 0.1
    view = view_of(table(model))
    found = Lrp(composite=composite, epsilon=epsilon).explain(view, 0)
    with torch.no_grad():
        for example, target in enumerate(view.targets.tolist()):
            activations = [view.features[example]]
            for number in (0, 2):
                activations.append(model[number](activations[-1]).tanh())
            relevance = torch.zeros(3)
            relevance[target] = model[4](activations[-1])[target]
            for number, x in zip((4, 2, 0), reversed(activations), strict=True):
                weight, bias = model.get_parameter(f"{number}.weight"), model.get_parameter(f"{number}.bias")
                below = torch.zeros_like(x)
                for out in range(len(bias)):
                    shares = x * weight[out]
                    total = shares.sum() + bias[out]
                    if composite == "z-plus":
                        shares = shares.clamp(min=0)
                        total = shares.sum() + bias[out].clamp(min=0)
                    below += shares / (total + (epsilon if total >= 0 else -epsilon)) * relevance[out]
                relevance = below
            torch.testing.assert_close(found[example], relevance, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("composite", ["epsilon", "epsilon-plus", "gamma"])
def test_lrp_conserves_relevance_without_biases(composite: Any) -> None:
    """Without biases and with a small epsilon, attributions add up to the logit."""
    model = cnn()
    for number in (0, 2, 6):
        model.get_parameter(f"{number}.bias").data.zero_()
    view = view_of(images(model))
    with torch.no_grad():
        logits = view.outputs(view.features, view.rows).gather(1, view.targets[:, None])[:, 0]
    found = Lrp(composite=composite, epsilon=1e-9).explain(view, 0)
    torch.testing.assert_close(found.sum((1, 2, 3)), logits, rtol=1e-3, atol=1e-4)


class Computes(nn.Module):
    """A linear layer after some function of the features."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.linear = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.function(x))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: x * x, "`mul` of several tensors"),
        (lambda x: x.softmax(1), "`softmax`"),
        (lambda x: 1 / (x + 9), "div"),
        (lambda x: torch.where(x > 0, x, 0), "`where`"),
        (lambda x: nn.functional.layer_norm(x, (5,)), "`layer_norm`"),
        (lambda x: x.sin(), "`sin`"),
        (lambda x: (x @ x.T) @ x, "`matmul` of several"),
    ],
)
@pytest.mark.parametrize("method", [DeepLift(), Lrp()], ids=["deep-lift", "lrp"])
def test_what_has_no_rule_is_refused(function: Callable[[Tensor], Tensor], name: str, method: DeepLift | Lrp) -> None:
    """A model that computes what the rules do not cover is refused, with the name of the function and a way out."""
    view = view_of(table(Computes(function).eval()))
    with pytest.raises(
        CheckError, match=f'explainer "{method.method}" has no rule for .*{name.strip("`")}.*integrated-gradients'
    ):
        method.explain(view, 0)
    assert all(parameter.requires_grad for parameter in view.model.parameters())


@pytest.mark.parametrize(
    "function",
    [
        lambda x: 2 * x - 1,
        lambda x: x.add_(1),
        lambda x: -x.unsqueeze(1).repeat(1, 2, 1).mean(1) / 3,
        lambda x: torch.cat([x[:, 2:], x[:, :2]], 1) + draw(5),
        lambda x: x @ draw(5, 5),
        lambda x: 1 - x.view(len(x), 5, 1).transpose(1, 2).reshape(x.shape[0], -1),
        lambda x: nn.functional.relu_(x + 0.1),
        lambda x: x.clamp_(min=0),
    ],
)
def test_what_is_linear_or_elementwise_is_covered(function: Callable[[Tensor], Tensor]) -> None:
    """Sums, products with constants, changes of shape and elementwise functions, in place or not, keep DeepLIFT complete."""
    view = view_of(table(Computes(function).eval()))
    with torch.no_grad():
        ends = [view.outputs(at, view.rows) for at in (view.features, view.features * 0)]
    change = (ends[0] - ends[1]).gather(1, view.targets[:, None])[:, 0]
    found = DeepLift().explain(view, 0)
    torch.testing.assert_close(found.sum(1), change, rtol=1e-4, atol=1e-5)


def test_transformers_are_refused_by_name() -> None:
    """A transformer's layer norm or attention has no rule."""
    for method in (DeepLift(), Lrp()):
        with pytest.raises(CheckError, match="has no rule for"):
            method.explain(view_of(bert()), 0)

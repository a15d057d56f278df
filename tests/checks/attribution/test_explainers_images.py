"""Methods for images and their parts agree with Captum, with their papers, and refuse what they cannot explain."""

from __future__ import annotations

import pytest
import torch
from captum import attr
from torch import Tensor, nn

from method_cards.errors import CheckError
from method_checks.attribution.explainers import (
    Deconvolution,
    FeatureAblation,
    GradCam,
    GuidedGradCam,
    Occlusion,
)
from tests.checks.attribution.explained import (
    FunctionalReLU,
    bert,
    cnn,
    images,
    mlp,
    residual,
    table,
    view_of,
)

pytestmark = pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations:UserWarning")


def up(maps: Tensor) -> Tensor:
    found: Tensor = attr.LayerAttribution.interpolate(maps, (8, 8), "bilinear")
    return found


@pytest.mark.parametrize("make", [cnn, residual])
@pytest.mark.parametrize("relu", [True, False])
def test_grad_cam_is_captums(make: type[nn.Module], relu: bool) -> None:
    """Grad-CAM of the last convolution with more than one position is Captum's, brought to the image's size."""
    view = view_of(images(make()))
    layer = [module for module in view.model.modules() if isinstance(module, nn.Conv2d)][-1]
    given = view.features.clone().requires_grad_()
    expected = up(attr.LayerGradCam(view.model, layer).attribute(given, view.targets, relu_attributions=relu))
    found = GradCam(relu=relu).explain(view, 0)
    torch.testing.assert_close(view.as_map(found), expected[:, 0].detach(), rtol=0, atol=1e-5)


def test_grad_cam_follows_its_formula() -> None:
    """The map is the ReLU of the channels' sum, each weighed by its mean derivative, at a layer that is named."""
    model = cnn()
    layers = list(model.children())
    view = view_of(images(model))
    found = view.as_map(GradCam(layer="0").explain(view, 0))
    for example, target in enumerate(view.targets.tolist()):
        activations = layers[0](view.features[example : example + 1]).detach().requires_grad_()
        logit = nn.Sequential(*layers[1:])(activations)[0, target]
        (gradient,) = torch.autograd.grad(logit, activations)
        weighed = [gradient[0, channel].mean() * activations[0, channel] for channel in range(8)]
        torch.testing.assert_close(found[example], torch.stack(weighed).sum(0).clamp(min=0).detach())


def test_grad_cam_is_not_touched_by_what_follows_in_place() -> None:
    """A ReLU that writes into the convolution's output changes nothing."""
    expected = GradCam().explain(view_of(images(cnn())), 0)
    assert torch.equal(GradCam().explain(view_of(images(cnn(in_place=True))), 0), expected)


def test_guided_grad_cam_is_captums() -> None:
    """Guided Grad-CAM is Captum's where nothing is computed in place."""
    view = view_of(images(cnn()))
    captum = attr.GuidedGradCam(view.model, view.model.get_submodule("2"))
    expected = captum.attribute(view.features.clone().requires_grad_(), view.targets, interpolate_mode="bilinear")
    found = GuidedGradCam().explain(view, 0)
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-5)


class Twice(nn.Module):
    """A convolution that is called twice, and a network without any behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, padding=1)
        self.unused = nn.Linear(2, 2)
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.convolution(self.convolution(x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("method", "model", "message"),
    [
        (GradCam(), Twice(), "called 2 times in one pass"),
        (GradCam(layer="unused"), Twice(), "called 0 times in one pass"),
        (GradCam(layer="network"), Twice(), r"the layer gives \(6, 4\), not"),
        (GradCam(layer="netwrk"), Twice(), 'no layer "netwrk". Did you mean "network"'),
        (GradCam(), nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), "found no convolution"),
    ],
)
def test_grad_cam_refuses_a_layer_that_gives_no_map(method: GradCam, model: nn.Module, message: str) -> None:
    """A layer that is called never or often, that is not there or gives no map, is refused by name."""
    with pytest.raises(CheckError, match=message):
        method.explain(view_of(images(model.eval())), 0)


def test_grad_cam_needs_images() -> None:
    """Tables and texts have no map of a convolution."""
    for subject in (table(mlp()), bert()):
        with pytest.raises(CheckError, match="needs images"):
            GradCam().explain(view_of(subject), 0)


@pytest.mark.parametrize("subject", [images(cnn()), table(mlp())], ids=["cnn", "mlp"])
def test_deconvolution_is_captums(subject: object) -> None:
    """Deconvolution is Captum's where each ReLU is a module of its own."""
    view = view_of(subject)  # type: ignore[arg-type]
    expected = attr.Deconvolution(view.model).attribute(view.features.clone().requires_grad_(), view.targets)
    torch.testing.assert_close(Deconvolution().explain(view, 0), expected.detach(), rtol=0, atol=1e-5)


def test_deconvolution_follows_its_rule() -> None:
    """What passes back through a ReLU, a function or a module, is what is positive, whatever its activation was."""
    model = mlp()
    first, second, third = (model.get_parameter(f"{number}.weight") for number in (0, 2, 4))
    for network in (model, FunctionalReLU(model).eval()):
        view = view_of(table(network))
        expected = ((third[view.targets].clamp(min=0) @ second).clamp(min=0) @ first).detach()
        torch.testing.assert_close(Deconvolution().explain(view, 0), expected)
    with pytest.raises(CheckError, match='"deconvolution" changes how the gradient passes ReLUs'):
        Deconvolution().explain(view_of(table(mlp(nn.GELU))), 0)


@pytest.mark.parametrize(("window", "stride"), [(3, 1), (3, 2), (4, 3), (8, 8), (5, 5)])
@pytest.mark.parametrize("make", [cnn, residual])
def test_occlusion_is_captums(make: type[nn.Module], window: int, stride: int) -> None:
    """Occlusion is Captum's with windows over all channels, divided evenly over them."""
    view = view_of(images(make()))
    expected = attr.Occlusion(view.model).attribute(
        view.features, (3, window, window), (3, stride, stride), baselines=0.25, target=view.targets
    )
    found = Occlusion(window=window, stride=stride, baseline=0.25).explain(view, 0)
    torch.testing.assert_close(3 * found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("grid", [None, 2, 3])
def test_feature_ablation_is_captums(grid: int | None) -> None:
    """Feature ablation is Captum's with the same patches, divided evenly over the channels."""
    view = view_of(images(cnn()))
    edges = torch.arange(8) if grid is None else torch.arange(8) * grid // 8
    patches = edges[:, None] * 8 + edges
    expected = attr.FeatureAblation(view.model).attribute(
        view.features, target=view.targets, feature_mask=patches.unique(return_inverse=True)[1][None, None]
    )
    found = FeatureAblation(grid=grid).explain(view, 0)
    torch.testing.assert_close(3 * found, expected, rtol=0, atol=1e-5)


def test_columns_are_ablated_one_at_a_time() -> None:
    """For a table, ablation and occlusion are Captum's ablation of single columns."""
    view = view_of(table(mlp()))
    expected = attr.FeatureAblation(view.model).attribute(view.features, baselines=0.5, target=view.targets)
    for method in (FeatureAblation(baseline=0.5), Occlusion(baseline=0.5)):
        torch.testing.assert_close(method.explain(view, 0), expected, rtol=0, atol=1e-5)


def test_tokens_are_ablated_one_at_a_time() -> None:
    """For a text, a token's attribution is what the logit loses without its embedding; padding gets none."""
    view = view_of(bert())
    with torch.no_grad():
        whole = view.outputs(view.features, view.rows).gather(1, view.targets[:, None])[:, 0]
        expected = torch.zeros(6, 7)
        for token in range(7):
            changed = view.features.clone()
            changed[:, token] = 0
            expected[:, token] = whole - view.outputs(changed, view.rows).gather(1, view.targets[:, None])[:, 0]
    for method in (FeatureAblation(), Occlusion()):
        found = view.as_map(method.explain(view, 0))
        torch.testing.assert_close(found, expected * view.content, rtol=0, atol=1e-5)
        assert not found[~view.content].any()


def test_windows_leave_no_gap() -> None:
    """A stride above the window is refused, as pixels between the windows would have no value."""
    with pytest.raises(ValueError, match="leaves pixels that no window covers"):
        Occlusion(window=2, stride=3)

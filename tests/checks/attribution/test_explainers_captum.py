"""Any class of Captum is an explainer: it gives what Captum gives, and leaves nothing behind."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from captum import attr
from torch import Tensor, nn

from method_cards.check import Passes
from method_cards.engine import _subject_data
from method_cards.errors import CheckError, InputError
from method_checks.attribution.explainers import CustomExplainer, Gradient, IntegratedGradients, ThroughCaptum, resolve
from tests.checks.attribution.explained import bert, cnn, images, mlp, table, view_of

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.filterwarnings("ignore:Setting (forward, )?backward hooks.*:UserWarning")

CASES: dict[str, tuple[dict[str, Any], Callable[[nn.Module, Tensor, Tensor], Tensor]]] = {
    "Saliency": ({"abs": False}, lambda model, x, t: attr.Saliency(model).attribute(x, t, abs=False)),
    "InputXGradient": ({}, lambda model, x, t: attr.InputXGradient(model).attribute(x, t)),
    "IntegratedGradients": (
        {"n_steps": 7, "baselines": 0.5, "multiply_by_inputs": False},
        lambda model, x, t: attr.IntegratedGradients(model, multiply_by_inputs=False).attribute(x, 0.5, t, n_steps=7),
    ),
    "DeepLift": ({"baselines": 0.1}, lambda model, x, t: attr.DeepLift(model).attribute(x, 0.1, t)),
    "GuidedBackprop": ({}, lambda model, x, t: attr.GuidedBackprop(model).attribute(x, t)),
    "Deconvolution": ({}, lambda model, x, t: attr.Deconvolution(model).attribute(x, t)),
    "FeatureAblation": ({"baselines": 1}, lambda model, x, t: attr.FeatureAblation(model).attribute(x, 1, t)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("make", [lambda: images(cnn()), lambda: table(mlp())], ids=["images", "table"])
@pytest.mark.parametrize("block", [4, 512])
def test_a_class_gives_what_captum_gives(name: str, make: Callable[[], Any], block: int) -> None:
    """A class by its name, with its arguments, gives what it gives on the model itself, in blocks too."""
    subject = make()
    view = view_of(subject)
    arguments, captum = CASES[name]
    explainer = resolve(subject, ThroughCaptum(name=name, arguments=arguments))
    expected = captum(view.model, view.features.clone().requires_grad_(), view.targets)
    found = explainer.explain(replace(view, block=block), 0)
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-5)


def test_windows_are_given_as_lists() -> None:
    """Lists, as YAML has them, become the tuples that Captum expects."""
    subject = images(cnn())
    view = view_of(subject)
    explainer = ThroughCaptum(name="Occlusion", arguments={"sliding_window_shapes": [3, 2, 2], "strides": [3, 2, 2]})
    expected = attr.Occlusion(view.model).attribute(view.features, (3, 2, 2), (3, 2, 2), target=view.targets)
    torch.testing.assert_close(explainer.explain(view, 0), expected, rtol=0, atol=1e-5)


def test_texts_are_explained_at_their_embeddings() -> None:
    """On a text model Captum's classes see token embeddings, whatever else the model is called with."""
    subject = bert()
    view = view_of(subject)
    for explainer, expected in (
        (ThroughCaptum(name="Saliency", arguments={"abs": False}), Gradient()),
        (ThroughCaptum(name="IntegratedGradients", arguments={"n_steps": 8}), IntegratedGradients(steps=8)),
    ):
        found = explainer.explain(replace(view, block=5), 0)
        torch.testing.assert_close(found, expected.explain(view, 0), rtol=0, atol=1e-5)


def test_a_layers_map_is_enlarged_as_declared() -> None:
    """Another resolution is brought to the image's where `upsample` says how, and refused where it does not."""
    view = view_of(images(cnn(pool=nn.AvgPool2d)))
    layer = view.model.get_submodule("4")
    expected = attr.LayerGradCam(view.model, layer).attribute(view.features.clone().requires_grad_(), view.targets)
    for mode in ("nearest", "bilinear"):
        explainer = ThroughCaptum(name="LayerGradCam", arguments={"layer": "4"}, upsample=mode)
        large = attr.LayerAttribution.interpolate(expected, (8, 8), mode)
        found = view.as_map(explainer.explain(view, 0))
        torch.testing.assert_close(found, large[:, 0].detach(), rtol=0, atol=1e-5)
    with pytest.raises(CheckError, match=r"captum LayerGradCam.*shape \(6, 1, 4, 4\).*`upsample: bilinear` enlarges"):
        ThroughCaptum(name="LayerGradCam", arguments={"layer": "4"}).explain(view, 0)


@pytest.mark.parametrize("name", ["GradientShap", "NoiseTunnel", "KernelShap", "ShapleyValueSampling"])
def test_random_classes_follow_the_seed(name: str) -> None:
    """The same seed gives the same attributions, another one others, and global random numbers go on as before."""
    subject = table(mlp())
    view = view_of(subject)
    arguments = {"NoiseTunnel": {"attribution_method": "Saliency", "nt_samples": 3}}.get(name, {})
    if name == "GradientShap":
        with pytest.raises(CheckError, match='captum "GradientShap" raised'):  # it wants baselines as a tensor
            ThroughCaptum(name=name, arguments={"baselines": 0}).explain(view, 0)
        return
    explainer = resolve(subject, ThroughCaptum(name=name, arguments=arguments))
    assert explainer.is_random
    state = torch.get_rng_state()
    first = explainer.explain(view, 1)
    assert torch.equal(first, explainer.explain(view, 1))
    assert not torch.equal(first, explainer.explain(view, 2))
    assert torch.equal(torch.get_rng_state(), state)


class Flat(nn.Module):
    """Layers that Captum's LRP knows, and one that it does not before them."""

    def __init__(self, *, known: bool) -> None:
        super().__init__()
        self.first = nn.Linear(5, 8)
        self.activation = nn.ReLU() if known else nn.GELU()
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.activation(self.first(x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "known"), [("LRP", True), ("LRP", False), ("DeepLift", True), ("GuidedBackprop", True)]
)
def test_nothing_is_left_behind(name: str, known: bool) -> None:
    """Classes that hook layers or change their weights leave values, tensors, attributes and hooks as they were, also where they fail."""
    subject = table(Flat(known=known).eval())
    view = view_of(subject)
    before = subject.parameters_sha256()
    attributes = {module: set(vars(module)) for module in view.model.modules()}
    places = [parameter.data_ptr() for parameter in view.model.parameters()]
    explainer = ThroughCaptum(name=name)
    if known:
        explainer.explain(view, 0)
    else:
        with pytest.raises(CheckError, match='captum "LRP" raised TypeError: Module of type'):
            explainer.explain(view, 0)
    assert subject.parameters_sha256() == before
    assert [parameter.data_ptr() for parameter in view.model.parameters()] == places
    for module, names in attributes.items():
        assert set(vars(module)) == names
        assert not module._forward_hooks
        assert not module._backward_hooks
    assert all(parameter.grad is None for parameter in view.model.parameters())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "Salience"}, 'has no attribution class "Salience". Did you mean "Saliency"'),
        ({"name": "IntegratedGradients", "arguments": {"steps": 3}}, 'takes no "steps" here'),
        ({"name": "Saliency", "arguments": {"target": 3}}, 'takes no "target" here'),
        ({"name": "IntegratedGradients", "arguments": {"return_convergence_delta": True}}, "takes no"),
        ({"name": "LayerGradCam"}, "needs the name of a module under `layer`"),
        ({"name": "FeaturePermutation"}, "by the others of its batch"),
        ({}, "`explainer`.name is"),
    ],
)
def test_says_what_is_wrong(given: dict[str, Any], message: str) -> None:
    """A class or argument that Captum does not have is an input error with the name and a hint."""
    with pytest.raises(InputError) as caught:
        resolve(images(cnn(), {"method": "captum", **given}))
    assert message in str(caught.value)


def test_a_layer_that_is_not_there_is_an_error() -> None:
    """A layer's name that the model does not have is refused with a hint."""
    with pytest.raises(CheckError, match='the model has no layer "22"'):
        ThroughCaptum(name="LayerGradCam", arguments={"layer": "22"}).explain(view_of(images(cnn())), 0)


def test_a_class_is_an_explainer() -> None:
    """A class of Captum given as the subject's explainer, a person's own too, is called like one by its name."""

    class Twice(attr.InputXGradient):  # type: ignore[misc]  # Captum comes without types
        def attribute(self, inputs: Tensor, target: Any = None, additional_forward_args: Any = None) -> Tensor:
            found: Tensor = 2 * super().attribute(inputs, target, additional_forward_args)
            return found

    subject = table(mlp())
    view = view_of(subject)
    plain = resolve(subject, ThroughCaptum(name="InputXGradient")).explain(view, 0)
    subject.explainer = attr.InputXGradient
    assert torch.equal(resolve(subject).explain(view, 0), plain)
    subject.explainer = Twice
    torch.testing.assert_close(resolve(subject).explain(view, 0), 2 * plain)


def test_an_object_is_an_explainer_of_its_own_model() -> None:
    """An object of Captum explains the model that it was made for, and is refused for another one."""
    subject = table(mlp())
    view = view_of(subject)
    subject.explainer = attr.InputXGradient(subject.model)
    explainer = resolve(subject)
    assert isinstance(explainer, CustomExplainer)
    expected = resolve(subject, ThroughCaptum(name="InputXGradient")).explain(view, 0)
    torch.testing.assert_close(explainer.explain(view, 0), expected)
    subject.explainer = attr.InputXGradient(mlp())
    with pytest.raises(CheckError, match=r"explains another model than the subject's.*give the class"):
        resolve(subject).explain(view, 0)
    text = bert()
    text.explainer = attr.InputXGradient(text.model)
    with pytest.raises(CheckError, match="cannot be called with named inputs"):
        resolve(text).explain(view_of(text), 0)


def test_what_is_known_of_classes() -> None:
    """Cost, completeness and kind follow from the class and its arguments."""
    integrated = ThroughCaptum(name="IntegratedGradients", arguments={"n_steps": 20, "baselines": 0.5})
    assert integrated.passes(10) == Passes(backward=200)
    assert integrated.claims_completeness
    assert integrated.multiplied
    assert integrated.baseline == 0.5
    without = ThroughCaptum(name="IntegratedGradients", arguments={"multiply_by_inputs": False})
    assert not without.claims_completeness
    assert without.multiplied is False
    assert ThroughCaptum(name="Saliency").multiplied is False
    assert ThroughCaptum(name="LayerConductance").multiplied is None
    ablation = resolve(table(mlp()), ThroughCaptum(name="FeatureAblation"))
    assert ablation.passes(10) == Passes(forward=60)
    assert not ablation.needs_gradient


def test_the_record_names_an_object() -> None:
    """A record says which class an explainer is an object of."""
    subject = table(mlp())
    subject.explainer = attr.InputXGradient(subject.model)
    assert _subject_data(subject, "").explainer == "InputXGradient"

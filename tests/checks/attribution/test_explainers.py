"""Explainers agree with Captum and with their formulas, touch nothing, and refuse what they cannot explain."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from captum import attr
from pydantic import ValidationError
from torch import Tensor, nn

from method_cards.check import Passes
from method_cards.errors import CheckError, InputError
from method_cards.subject import Subject
from method_checks.attribution.explainers import (
    METHODS,
    CustomExplainer,
    EdgeFilter,
    Explainer,
    Gradient,
    GuidedBackprop,
    InputItself,
    InputXGradient,
    IntegratedGradients,
    Noise,
    baseline_of,
    resolve,
)
from method_checks.attribution.explainers.gradients import Quadrature, logit_gradients, quadrature
from tests.checks.attribution.explained import (
    COUNT,
    Changed,
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

SUBJECTS: dict[str, Callable[[], Subject]] = {
    "cnn": lambda: images(cnn(in_place=True)),
    "residual": lambda: images(residual()),
    "mlp": lambda: table(mlp()),
    "bert": bert,
    "attentive": lambda: bert(attention="eager"),
}
ONLY = {
    "edges": ("cnn", "residual"),
    "grad-cam": ("cnn", "residual"),
    "guided-grad-cam": ("cnn", "residual"),
    "guided-backprop": ("cnn", "residual", "mlp"),
    "deconvolution": ("cnn", "residual", "mlp"),
    "deep-lift": ("cnn", "residual", "mlp"),
    "lrp": ("cnn", "residual", "mlp"),
    "attention-rollout": ("attentive",),
}
"""The networks that some methods are limited to."""

CAPTUM: dict[str, tuple[Explainer, Callable[[nn.Module, Tensor, Tensor], Tensor]]] = {
    "gradient": (Gradient(), lambda model, x, t: attr.Saliency(model).attribute(x, t, abs=False)),
    "input-x-gradient": (InputXGradient(), lambda model, x, t: attr.InputXGradient(model).attribute(x, t)),
    "gauss-legendre": (
        IntegratedGradients(steps=20),
        lambda model, x, t: attr.IntegratedGradients(model).attribute(x, target=t, n_steps=20, method="gausslegendre"),
    ),
    "midpoint": (
        IntegratedGradients(steps=20, quadrature="midpoint", baseline=0.3),
        lambda model, x, t: attr.IntegratedGradients(model).attribute(x, 0.3, t, n_steps=20, method="riemann_middle"),
    ),
    "without multiplication": (
        IntegratedGradients(steps=20, multiply_by_inputs=False),
        lambda model, x, t: attr.IntegratedGradients(model, multiply_by_inputs=False).attribute(
            x, target=t, n_steps=20
        ),
    ),
    "trapezoid": (
        IntegratedGradients(steps=20, quadrature="trapezoid"),
        lambda model, x, t: (
            attr.IntegratedGradients(model).attribute(x, target=t, n_steps=20, method="riemann_trapezoid") * 20 / 19
        ),
    ),
    "guided-backprop": (GuidedBackprop(), lambda model, x, t: attr.GuidedBackprop(model).attribute(x, t)),
}


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations:UserWarning")
@pytest.mark.parametrize("subject", ["cnn", "mlp"])
@pytest.mark.parametrize("case", CAPTUM)
def test_agrees_with_captum(subject: str, case: str) -> None:
    """Each method gives Captum's attributions (its trapezoid rule after its weights are made to sum to 1)."""
    view = view_of(SUBJECTS[subject]())
    explainer, captum = CAPTUM[case]
    expected = captum(view.model, view.features.clone().requires_grad_(), view.targets)
    torch.testing.assert_close(explainer.explain(view, 0), expected.detach(), rtol=0, atol=1e-5)


def test_gradient_is_the_limit_of_differences() -> None:
    """The gradient is what central differences approach, one example and one feature at a time."""
    model = mlp(nn.Tanh).double()
    subject = Subject("s", "tabular-classification", model, {"test": (draw(COUNT, 5).double(), torch.zeros(COUNT))})
    view = view_of(subject)
    step = 1e-5
    expected = torch.zeros_like(view.features)
    for example, target in enumerate(view.targets.tolist()):
        for feature in range(5):
            shift = torch.zeros(5, dtype=torch.float64)
            shift[feature] = step
            x = view.features[example]
            expected[example, feature] = (model((x + shift)[None])[0, target] - model((x - shift)[None])[0, target]) / (
                2 * step
            )
    torch.testing.assert_close(Gradient().explain(view, 0), expected.detach(), rtol=0, atol=1e-8)
    torch.testing.assert_close(
        InputXGradient().explain(view, 0), (expected * view.features).detach(), rtol=0, atol=1e-8
    )


@pytest.mark.parametrize("rule", ["gauss-legendre", "midpoint", "trapezoid"])
def test_integrated_gradients_follows_its_formula(rule: Quadrature) -> None:
    """Integrated Gradients is (x - x') times the weighted sum of gradients along the line, example by example."""
    view = view_of(table(mlp(nn.GELU)))
    explainer = IntegratedGradients(steps=7, quadrature=rule, baseline="minimum", block=10)
    expected = torch.zeros_like(view.features)
    for example, target in enumerate(view.targets.tolist()):
        x = view.features[example]
        start = torch.full_like(x, float(x.min()))
        for alpha, weight in zip(*quadrature(rule, 7), strict=True):
            point = (start + alpha * (x - start)).requires_grad_()
            (gradient,) = torch.autograd.grad(view.model(point[None])[0, target], point)
            expected[example] += weight * gradient * (x - start)
    torch.testing.assert_close(explainer.explain(view, 0), expected, rtol=0, atol=1e-6)


def test_integrated_gradients_of_a_quadratic_form_is_exact() -> None:
    """For f(x) = x A x the attribution of feature i is x_i (A x)_i when A is symmetric, from two points on."""

    class Quadratic(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([torch.einsum("bi,ij,bj->b", x, matrix, x) for matrix in matrices], 1)

    matrices = [half + half.T for half in draw(3, 5, 5)]
    view = view_of(table(Quadratic().eval()))
    found = IntegratedGradients(steps=2).explain(view, 0)
    for example, target in enumerate(view.targets.tolist()):
        x = view.features[example]
        torch.testing.assert_close(found[example], x * (matrices[target] @ x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["gauss-legendre", "midpoint", "trapezoid"])
def test_quadrature_weights_sum_to_one(name: Quadrature) -> None:
    """Every rule integrates a constant and a straight line exactly."""
    for steps in (2, 5, 64, 512):
        points, weights = quadrature(name, steps)
        assert sum(weights) == pytest.approx(1, abs=1e-12)
        assert sum(point * weight for point, weight in zip(points, weights, strict=True)) == pytest.approx(
            0.5, abs=1e-12
        )


def test_attributions_add_up_to_the_change_of_the_logit() -> None:
    """Integrated Gradients is complete up to its quadrature error, and only then claims to be."""
    view = view_of(images(cnn()))
    explainer = IntegratedGradients(steps=256)
    with torch.no_grad():
        ends = [view.outputs(at, view.rows) for at in (view.features, explainer.baseline_of(view.features))]
    change = (ends[0] - ends[1]).gather(1, view.targets[:, None])[:, 0]
    torch.testing.assert_close(explainer.explain(view, 0).sum((1, 2, 3)), change, rtol=0, atol=2e-3)
    assert explainer.claims_completeness
    assert not IntegratedGradients(multiply_by_inputs=False).claims_completeness
    assert not Gradient().claims_completeness


def test_guided_backprop_follows_its_rule() -> None:
    """What passes back through a ReLU is what is positive, where the activation is positive (springenberg2015)."""
    model = mlp()
    view = view_of(table(model))
    expected = torch.zeros_like(view.features)
    one, two, three = (model.get_parameter(f"{number}.weight") for number in (0, 2, 4))
    with torch.no_grad():
        for example, target in enumerate(view.targets.tolist()):
            first = model[0](view.features[example])
            second = model[2](first.clamp(min=0))
            signal = three[target]
            signal = torch.where((second > 0) & (signal > 0), signal, 0) @ two
            expected[example] = torch.where((first > 0) & (signal > 0), signal, 0) @ one
    torch.testing.assert_close(GuidedBackprop().explain(view, 0), expected, rtol=0, atol=1e-6)


def test_guided_backprop_sees_functional_and_in_place_relu() -> None:
    """Guided Backprop is the same for nn.ReLU, nn.ReLU in place and torch.relu, and differs from the gradient."""
    plain, functional = view_of(table(mlp())), view_of(table(FunctionalReLU(mlp()).eval()))
    guided = GuidedBackprop().explain(plain, 0)
    torch.testing.assert_close(GuidedBackprop().explain(functional, 0), guided)
    assert not torch.allclose(guided, Gradient().explain(plain, 0), atol=1e-3)
    in_place = GuidedBackprop().explain(view_of(images(cnn(in_place=True))), 0)
    torch.testing.assert_close(in_place, GuidedBackprop().explain(view_of(images(cnn())), 0))


def test_guided_backprop_refuses_a_model_without_relu() -> None:
    """Without a ReLU the result would be the plain gradient: it is refused."""
    with pytest.raises(CheckError, match="changes how the gradient passes ReLUs, and the model computes none"):
        GuidedBackprop().explain(view_of(table(mlp(nn.GELU))), 0)


def test_edges_are_those_of_scipy() -> None:
    """The edge filter is the Sobel magnitude of each channel, and needs images."""
    from scipy import ndimage

    view = view_of(images(cnn()))
    found = EdgeFilter().explain(view, 0)
    image = view.features[1, 2].numpy()
    sobel = [torch.from_numpy(ndimage.sobel(image, axis, mode="nearest")) for axis in (0, 1)]
    torch.testing.assert_close(found[1, 2], torch.hypot(*sobel))
    with pytest.raises(CheckError, match="needs images"):
        EdgeFilter().explain(view_of(table(mlp())), 0)


def test_nulls_know_no_model() -> None:
    """Noise depends on the seed alone, the input itself on the features alone."""
    view = view_of(table(mlp()))
    noise = Noise().explain(view, 1)
    assert torch.equal(noise, Noise().explain(view_of(table(mlp(nn.GELU))), 1))
    assert not torch.equal(noise, Noise().explain(view, 2))
    found = InputItself().explain(view, 0)
    assert torch.equal(found, view.features)
    assert found.data_ptr() != view.features.data_ptr()


def subjects_of(method: str) -> tuple[str, ...]:
    """The networks that a method can explain."""
    return ONLY.get(method, tuple(name for name in SUBJECTS if name != "attentive"))


PAIRS = [(method, subject) for method in METHODS for subject in subjects_of(method)]
FEW: dict[str, dict[str, Any]] = {
    "smoothgrad": {"samples": 7},
    "integrated-gradients": {"steps": 9},
    "expected-gradients": {"samples": 7, "background": 3},
    "rise": {"samples": 20, "grid": 3},
    "kernel-shap": {"samples": 20, "grid": 3},
    "lime": {"samples": 20, "grid": 3},
    "shapley-sampling": {"orders": 2, "grid": 3},
    "captum": {"name": "IntegratedGradients", "arguments": {"n_steps": 5}},
}
"""Settings with which a method is cheap."""


def cheap(method: str, subject: Subject) -> Explainer:
    """The method as `resolve` gives it, with few samples."""
    return METHODS[method](**FEW.get(method, {})).bound(subject)


@pytest.mark.parametrize(("method", "subject"), PAIRS)
def test_does_not_depend_on_the_batch(method: str, subject: str) -> None:
    """An example's attributions are the same alone and among others, in any order; of a random method, its random numbers are."""
    made = SUBJECTS[subject]()
    explainer = cheap(method, made)
    together = explainer.explain(view_of(made), 0)
    for examples in ((3,), (5, 0, 3)):
        apart = explainer.explain(view_of(made, *examples), 0)
        torch.testing.assert_close(apart, together[list(examples)], rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name](**FEW.get(name, {})).is_random])
def test_copies_of_an_example_have_random_numbers_of_their_own(method: str) -> None:
    """In a view that holds an example several times each copy is drawn anew, the same whether copies are explained together or not."""
    made = SUBJECTS[subjects_of(method)[0]]()
    view, explainer = view_of(made, 0, 1), cheap(method, made)
    copies = view.at(view.features[[0, 1, 0, 1]], torch.tensor([0, 1, 0, 1]))
    found = explainer.explain(copies, 0)
    assert not torch.allclose(found[:2], found[2:])
    torch.testing.assert_close(found[:2], explainer.explain(view, 0), rtol=0, atol=1e-5)
    torch.testing.assert_close(found[2:], explainer.explain(view, 0, first=1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("method", "subject"), PAIRS)
def test_does_not_depend_on_the_block(method: str, subject: str) -> None:
    """How many rows go through the model at once changes attributions by no more than rounding."""
    made = SUBJECTS[subject]()
    view, explainer = view_of(made), cheap(method, made)
    expected = explainer.explain(view, 0)
    for block in (1, 7):
        found = explainer.explain(replace(view, block=block), 0)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("method", "subject"), PAIRS)
def test_respects_the_block_and_costs_what_it_says(method: str, subject: str) -> None:
    """No more rows than a block go through the model at once, and as many in all as `passes` says."""
    made = SUBJECTS[subject]()
    view = replace(view_of(made), block=5)
    sizes: list[int] = []

    def counted(features: Tensor, rows: Tensor) -> Tensor:
        sizes.append(len(rows))
        return view.outputs(features, rows)

    explainer = cheap(method, made)
    explainer.explain(replace(view, outputs=counted), 0)
    said = explainer.passes(COUNT)
    assert sum(sizes) == said.forward + said.backward
    assert max(sizes, default=0) <= 5


@pytest.mark.parametrize("method", METHODS)
def test_only_the_seed_decides(method: str) -> None:
    """The same seed gives the same attributions; another one changes those of random methods and no others."""
    made = SUBJECTS[subjects_of(method)[0]]()
    view, explainer = view_of(made), cheap(method, made)
    first, second = explainer.explain(view, 1), explainer.explain(view, 2)
    assert torch.equal(first, explainer.explain(view, 1))
    assert torch.equal(first, second) != explainer.is_random


@pytest.mark.parametrize("method", [name for name in METHODS if not METHODS[name](**FEW.get(name, {})).needs_gradient])
def test_no_gradient_where_none_is_needed(method: str) -> None:
    """A method that says so explains a model that computes without gradients."""
    subject = table(Changed(lambda x: x.detach().round()).eval()) if method not in ONLY else SUBJECTS[ONLY[method][0]]()
    with torch.inference_mode():
        cheap(method, subject).explain(view_of(subject), 0)


@pytest.mark.parametrize("block", [1, 4, 7, 1000])
def test_blocks_do_not_change_the_result(block: int) -> None:
    """The block size of Integrated Gradients changes memory, not attributions."""
    view = view_of(images(cnn()))
    expected = IntegratedGradients(steps=5).explain(view, 0)
    found = IntegratedGradients(steps=5, block=block).explain(view, 0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_explains_token_embeddings_of_a_transformer() -> None:
    """On a BERT classifier the features are token embeddings: the gradient is that at ``inputs_embeds``, and IG is Captum's."""
    view = view_of(bert())
    inputs = view.batch.inputs
    assert isinstance(inputs, dict)
    model: Any = view.model
    embedding = model.get_input_embeddings()
    embedded = view.features.clone().requires_grad_()
    logits = model(inputs_embeds=embedded, attention_mask=inputs["attention_mask"]).logits
    (expected,) = torch.autograd.grad(logits.gather(1, view.targets[:, None]).sum(), embedded)
    torch.testing.assert_close(Gradient().explain(view, 0), expected, rtol=0, atol=1e-6)
    integrated = IntegratedGradients(steps=8).explain(view, 0)
    assert integrated.shape == (COUNT, 7, 16)
    assert not embedding.weight[0].any(), "the embedding of token 0, padding, is zero: Captum's baseline"
    captum = attr.LayerIntegratedGradients(
        lambda ids, mask: model(input_ids=ids, attention_mask=mask).logits, embedding
    )
    expected = captum.attribute(
        inputs["input_ids"],
        baselines=inputs["input_ids"] * 0,
        target=view.targets,
        additional_forward_args=(inputs["attention_mask"],),
        n_steps=8,
    )
    torch.testing.assert_close(integrated, expected.detach(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", list(METHODS))
def test_leaves_no_trace(method: str) -> None:
    """After an explanation, and after a failed one, the model has no hook, no gradient and its parameters; the inputs their values."""
    subject = SUBJECTS[subjects_of(method)[0]]()
    view = view_of(subject)
    before, features = subject.parameters_sha256(), view.features.clone()
    explainer = cheap(method, subject)
    explainer.explain(view, 0)
    impossible = replace(view, targets=view.targets + 99)
    if explainer.passes(1) != Passes() and method not in ("attention-rollout", "captum"):
        with pytest.raises(CheckError, match=r"but the model has [34] classes"):
            explainer.explain(impossible, 0)
    assert subject.parameters_sha256() == before
    assert torch.equal(view.features, features)
    assert not view.features.requires_grad
    for module in view.model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
    assert all(parameter.grad is None for parameter in view.model.parameters())


def test_works_without_gradients_of_parameters_and_under_no_grad() -> None:
    """Frozen parameters and a surrounding ``no_grad`` do not keep the gradient from the features."""
    view = view_of(table(mlp()))
    expected = Gradient().explain(view, 0)
    view.model.requires_grad_(requires_grad=False)
    with torch.no_grad():
        assert torch.equal(Gradient().explain(view, 0), expected)


@pytest.mark.parametrize(
    "change",
    [lambda x: x.detach(), lambda x: nn.functional.one_hot(x.argmax(1), 5).float()],
    ids=["detached", "argmax"],
)
def test_refuses_a_gradient_that_does_not_arrive(change: Callable[[Tensor], Tensor]) -> None:
    """A model that cuts the gradient off is refused with the cause, not explained by zeros."""
    view = view_of(table(Changed(change).eval()))
    with pytest.raises(CheckError, match="depends on parameters, but not differentiably on the features"):
        Gradient().explain(view, 0)
    view.model.requires_grad_(requires_grad=False)
    with pytest.raises(CheckError, match="the output carries no gradient at all"):
        Gradient().explain(view, 0)


def test_refuses_attributions_that_are_not_finite() -> None:
    """An infinite derivative is an error that names the method and the example."""
    view = view_of(table(Changed(lambda x: (x - x[:1]).abs().sqrt()).eval()))
    with pytest.raises(CheckError, match=r'explanation by "gradient" is NaN or infinite for .* example 0'):
        Gradient().explain(view, 0)


def test_reports_what_autograd_says() -> None:
    """An error of autograd itself becomes the cause of the check's error."""

    def overwrite(x: Tensor) -> Tensor:
        y = x.exp()
        z = y * 1
        y.zero_()
        return z

    with pytest.raises(CheckError, match=r"cannot be computed: .*modified by an inplace operation"):
        Gradient().explain(view_of(table(Changed(overwrite).eval())), 0)


def test_an_lstm_is_explained() -> None:
    """A recurrent network in evaluation mode is explained like any other."""

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(1, 4, batch_first=True)
            self.out = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.lstm(x[..., None])[0][:, -1])  # type: ignore[no-any-return]

    view = view_of(table(Recurrent().eval()))
    assert Gradient().explain(view, 0).abs().sum(1).min() > 0


def test_baselines_belong_to_each_example() -> None:
    """A minimum is taken over the example's own content, padding left out."""
    features = torch.tensor([[[3.0, 1.0], [-9.0, -9.0]], [[5.0, 4.0], [2.0, 6.0]]])
    mask = torch.tensor([[True, False], [True, True]])
    assert baseline_of(features, "minimum", mask)[:, 0, 0].tolist() == [1.0, 2.0]
    assert baseline_of(features, "minimum")[:, 1, 1].tolist() == [-9.0, 2.0]
    assert baseline_of(features, 0.5).unique().tolist() == [0.5]
    assert baseline_of(features, "zeros").shape == features.shape


def test_passes_count_gradients() -> None:
    """The stated cost is one backward pass for each gradient, none for what sees no model."""
    assert Gradient().passes(10) == Passes(backward=10)
    assert IntegratedGradients(steps=7).passes(10) == Passes(backward=70)
    assert Noise().passes(10) == EdgeFilter().passes(10) == InputItself().passes(10) == Passes()


@pytest.mark.parametrize("name", list(METHODS))
def test_resolves_every_method_by_its_name(name: str) -> None:
    """Every bundled explainer is found by the name that YAML gives it, is frozen and survives a round trip."""
    explainer = resolve(images(cnn(), {"method": name, **FEW.get(name, {})}))
    expected = METHODS[name](**FEW.get(name, {}))
    assert isinstance(explainer, METHODS[name])
    assert explainer.model_dump() == expected.model_dump()
    assert METHODS[name].model_validate(explainer.model_dump()) == expected
    with pytest.raises(ValidationError, match="frozen"):
        explainer.method = "x"  # type: ignore[assignment,misc]


def test_the_checks_own_explainer_comes_first() -> None:
    """A check's parameter wins over what ships with the subject."""
    assert resolve(table(mlp(), {"method": "edges"}), Gradient()) == Gradient()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "gradiant"}, 'unknown method "gradiant". Did you mean "gradient"?'),
        ({"steps": 3}, "names no `method`. Known: "),
        ({"method": "integrated-gradients", "step": 3}, 'unknown parameter "step". Did you mean "steps"?'),
        (
            {"method": "integrated-gradients", "steps": 0},
            "`explainer`.steps is 0: Input should be greater than or equal",
        ),
        ({"method": "integrated-gradients", "baseline": "mean"}, "is 'mean'"),
        ({"method": "integrated-gradients", "quadrature": "trapezoid", "steps": 1}, "needs at least 2 steps"),
        ("gradient", "is 'gradient'; give a mapping such as `{method: gradient}`"),
    ],
)
def test_says_what_is_wrong_with_an_explainer(given: Any, message: str) -> None:
    """A wrong explainer is an input error with the name, the value and a hint."""
    with pytest.raises(InputError) as caught:
        resolve(table(mlp(), given))
    assert message in str(caught.value)
    assert 'subject "table": `explainer`' in str(caught.value)


def test_a_subject_without_explainer_is_an_error() -> None:
    """Without an explainer there is nothing to check."""
    with pytest.raises(CheckError, match="comes without an explainer; name one"):
        resolve(table(mlp()))


def noisy(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """A stochastic explanation that draws from global state and writes to its arguments."""
    inputs.requires_grad_()
    (gradient,) = torch.autograd.grad(model(inputs).gather(1, targets[:, None]).sum(), inputs)
    noise = torch.randn_like(inputs) + random.random() + np.random.rand()  # noqa: NPY002  (people's code uses it)
    inputs.data.zero_()
    return gradient + noise


def test_a_function_is_an_explainer_whose_randomness_comes_from_the_generator() -> None:
    """A person's function is reproducible from the seed, changes no inputs, and leaves global random states alone."""
    subject = table(mlp(), noisy)
    view = view_of(subject)
    explainer = resolve(subject)
    assert isinstance(explainer, CustomExplainer)
    assert explainer.method == "noisy"
    features, state = view.features.clone(), torch.get_rng_state()
    first, second = explainer.explain(view, 3), explainer.explain(view, 4)
    assert torch.equal(first, explainer.explain(view, 3))
    assert not torch.equal(first, second)
    assert torch.equal(view.features, features)
    assert torch.equal(torch.get_rng_state(), state)
    assert not first.requires_grad


def test_a_function_of_named_inputs_gets_them_by_name() -> None:
    """For a text model the function gets the tensors by name, and returns attributions of the embeddings' shape."""
    subject = bert()

    def explain(model: Any, inputs: dict[str, Tensor], targets: Tensor) -> Tensor:
        embedded = model.get_input_embeddings()(inputs["input_ids"]).detach().requires_grad_()
        logits: Tensor = model(inputs_embeds=embedded, attention_mask=inputs["attention_mask"]).logits
        gradient: Tensor = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), embedded)[0]
        return gradient

    view = view_of(subject)
    found = CustomExplainer(explain, "explain").explain(view, 0)
    torch.testing.assert_close(found, Gradient().explain(view, 0), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda _model, _inputs, _targets: [1.0], "returned list; a tensor"),
        (lambda _model, inputs, _targets: inputs.sum(1), r"of shape \(6,\); what is needed"),
        (lambda _model, inputs, _targets: inputs[:3], r"of shape \(3, 5\); what is needed"),
        (lambda _model, inputs, _targets: inputs.long(), "returned torch.int64"),
        (lambda _model, inputs, _targets: inputs / 0, "is NaN or infinite for 6 of 6"),
        (lambda _model, _inputs, _targets: dict[str, Tensor]()["weights"], "raised KeyError: 'weights'"),
    ],
)
def test_refuses_what_a_function_may_not_return(function: Callable[..., Any], message: str) -> None:
    """What is no finite tensor of the features' shape is refused, and an exception becomes the cause."""
    with pytest.raises(CheckError, match=message):
        CustomExplainer(function, "mine").explain(view_of(table(mlp())), 0)


def test_gradients_go_to_the_rows_they_belong_to() -> None:
    """Each row's gradient is that of the target of the example that it belongs to."""
    view = view_of(table(mlp()))
    rows = torch.tensor([4, 4, 1])
    found = logit_gradients(view, view.features[rows], rows)
    torch.testing.assert_close(found, Gradient().explain(view, 0)[rows])


@pytest.mark.parametrize(
    "map_of",
    [
        lambda inputs: inputs.sum(1),
        lambda inputs: inputs.sum(1, keepdim=True),
        lambda inputs: inputs.sum(1).double(),
    ],
)
def test_a_map_of_an_image_is_taken_as_it_is(map_of: Callable[[Tensor], Tensor]) -> None:
    """A function may return one number for each pixel, with or without a channel: the map of its attributions is that map."""
    view = view_of(images(cnn()))
    found = CustomExplainer(lambda _model, inputs, _targets: map_of(inputs), "mine").explain(view, 0)
    assert found.shape == view.features.shape
    torch.testing.assert_close(view.as_map(found), view.features.sum(1))


def test_a_coarse_map_is_enlarged() -> None:
    """A coarser grid is brought to the size of the image by bilinear interpolation."""
    view = view_of(images(cnn()))
    coarse = draw(COUNT, 2, 4)
    for given in (coarse, coarse[:, None]):
        found = CustomExplainer(lambda _model, _inputs, _targets, given=given: given, "mine").explain(view, 0)
        expected = nn.functional.interpolate(coarse[:, None], size=(8, 8), mode="bilinear")[:, 0]
        torch.testing.assert_close(view.as_map(found), expected)


def test_a_map_of_a_text_has_a_number_for_each_token() -> None:
    """A function may return one number for each token; another number of them is refused."""
    view = view_of(bert())
    scores = draw(COUNT, 7)
    found = CustomExplainer(lambda _model, _inputs, _targets: scores, "mine").explain(view, 0)
    torch.testing.assert_close(view.as_map(found), scores)
    with pytest.raises(CheckError, match=r"of shape \(6, 5\).*or a map \(batch, token\)"):
        CustomExplainer(lambda _model, _inputs, _targets: scores[:, :5], "mine").explain(view, 0)

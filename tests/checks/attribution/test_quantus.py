"""Agreement with Quantus on the same input, where it computes the same; skipped where it is not installed (the extra `peers`).

Quantus is called, never copied. Where it computes something else, its perturbations or networks are handed to our functions, or ours to it.
Agreement with scikit-image is in `test_structure`, that of imputation in `test_road`.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from method_cards.check import Context
from method_cards.subject import Subject, View
from method_checks.attribution import controls
from method_checks.attribution.changes.draws import Draws
from method_checks.attribution.changes.fidelity import (
    Responses,
    correlations,
    explained,
    infidelity,
    removal,
    spread_of,
)
from method_checks.attribution.changes.removal import Removal
from method_checks.attribution.changes.stability import neighbours, relative
from method_checks.attribution.efficient_parameter_randomization import rise
from method_checks.attribution.explainers import resolve
from method_checks.attribution.maps.complexity import bins_of, entropy
from method_checks.attribution.maps.similarity import spearman
from method_checks.attribution.networks.randomization import swapped

COUNT, SEED = 12, 42

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs

QUIET = {"disable_warnings": True, "display_progressbar": False}


@pytest.fixture(scope="module")
def quantus() -> Any:
    """The peer; what it warns of at its import is its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("quantus")


@pytest.fixture(scope="module")
def subject() -> Subject:
    """A network for digits and its gradient."""
    return controls.digits_by("gradient")(0)


@pytest.fixture(scope="module")
def view(subject: Subject) -> View:
    """Some examples, and the classes that the network predicts for them."""
    return subject.view(subject.batch("test", tuple(range(COUNT))))


def arrays(view: View) -> tuple[Any, Any]:
    return view.features.numpy().copy(), view.targets.numpy().copy()


def slopes(model: nn.Module, inputs: Any, targets: Any, **_: object) -> Any:
    """The gradient, as Quantus wants a function of the user's."""
    at = torch.as_tensor(np.asarray(inputs), dtype=torch.float32).requires_grad_()
    chosen = torch.as_tensor(np.asarray(targets))[:, None]
    (found,) = torch.autograd.grad(model(at).gather(1, chosen).sum(), at)
    return found.numpy()


def gradient(subject: Subject, view: View, state: dict[str, Tensor] | None = None) -> Tensor:
    """Ours, by the network with these weights."""
    with swapped(subject.model, state or {}):
        return resolve(subject).explain(subject.view(view.batch, view.targets), 0)


def random_networks(quantus: Any, subject: Subject, order: str) -> list[tuple[str, dict[str, Tensor]]]:
    """The weights of all networks that Quantus draws."""
    wrapped = quantus.helpers.model.pytorch_model.PyTorchModel(subject.model)
    with torch.random.fork_rng(devices=[]):
        return [
            (name, {key: value.clone() for key, value in model.named_parameters()})
            for name, model in wrapped.get_random_layer_generator(order=order, seed=SEED)
        ]


class Linear(nn.Module):
    """Two logits, each a weighted sum."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(2, 36, generator=torch.Generator().manual_seed(0)))

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = images.flatten(1) @ self.weights.T
        return found


@pytest.fixture(scope="module")
def linear() -> Subject:
    """A linear model, whose exact maps are known."""
    images = torch.rand(COUNT, 1, 6, 6, generator=torch.Generator().manual_seed(1)) + 0.1
    data = {"test": (images, torch.zeros(COUNT, dtype=torch.long))}
    return Subject("linear", "image-classification", Linear().eval(), data, explainer={"method": "input-x-gradient"})


def test_rank_correlations_after_each_randomised_layer(quantus: Any, subject: Subject, view: View) -> None:
    """Of the same random networks, Quantus' MPRT and our Spearman correlation of signed maps say the same at every layer."""
    with torch.random.fork_rng(devices=[]):
        theirs = quantus.MPRT(abs=False, normalise=False, layer_order="top_down", seed=SEED, **QUIET)(
            subject.model, *arrays(view), explain_func=slopes
        )
    trained = view.as_map(gradient(subject, view))
    networks = random_networks(quantus, subject, "top_down")
    assert len(networks) == 4
    for name, state in networks:
        ours = spearman(trained, view.as_map(gradient(subject, view, state)))
        assert ours.tolist() == pytest.approx([float(value) for value in theirs[name]], abs=1e-4), name


def test_the_rise_of_entropy(quantus: Any, subject: Subject, view: View) -> None:
    """Of the same fully random network, Quantus' Efficient MPRT and our rise at 100 bins say the same."""
    with torch.random.fork_rng(devices=[]):
        theirs = quantus.EfficientMPRT(seed=SEED, **QUIET)(subject.model, *arrays(view), explain_func=slopes)
    trained = view.as_map(gradient(subject, view))
    _, state = random_networks(quantus, subject, "bottom_up")[-1]
    bins = bins_of(trained, 100)
    own, random = entropy(trained, bins), entropy(view.as_map(gradient(subject, view, state)), bins)
    # Gradients differ in their last digit between the two ways through autograd, and a value at an edge may then change its bin.
    assert rise(own, random[None]).tolist() == pytest.approx(theirs, abs=0.02)


def test_the_bins_go_by_the_number_of_values_where_those_of_quantus_do_not(quantus: Any) -> None:
    """Quantus' rules look at the number of axes, so that 64 and 4,096 values get equally many bins; ours look at the values."""
    small, large = (torch.randn(1, side, side, generator=torch.Generator().manual_seed(2)) for side in (8, 64))
    rules = quantus.functions.n_bins_func
    assert rules.sturges_formula(small.numpy()[:, None]) == rules.sturges_formula(large.numpy()[:, None]) == 2
    assert [bins_of(maps, "sturges").item() for maps in (small, large)] == [7, 13]


def test_max_sensitivity(quantus: Any, subject: Subject, view: View) -> None:
    """At the same points, Quantus' largest relative change of the map is ours."""
    draws = Draws(5, view.batch.indices, torch.device("cpu"))
    reach = 0.1 * spread_of(view.features)[:, None]
    points = [(draws.uniform(number, 64) * 2 - 1) * reach + view.features.flatten(1) for number in range(6)]
    waiting = iter(points)

    def moved(arr: Any, indices: Any, **_: object) -> Any:
        return next(waiting).numpy().astype(arr.dtype)

    theirs = quantus.MaxSensitivity(nr_samples=6, abs=False, normalise=False, perturb_func=moved, **QUIET)(
        subject.model, *arrays(view), explain_func=slopes
    )
    found = neighbours(view, gradient(subject, view), resolve(subject), draws=draws, seed=0, count=6, radius=0.1)
    assert relative(found.moved, found.length).amax(0).tolist() == pytest.approx(
        np.minimum(theirs, 2.0).tolist(), rel=1e-3
    )


def test_max_sensitivity_of_a_linear_model_is_zero(quantus: Any, linear: Subject) -> None:
    """The gradient of a linear model does not move, says Quantus, and so do we."""
    view = linear.view(linear.batch("test", tuple(range(COUNT))))
    theirs = quantus.MaxSensitivity(nr_samples=3, abs=False, normalise=False, **QUIET)(
        linear.model, *arrays(view), explain_func=slopes
    )
    flat = Subject("flat", linear.task, linear.model, dict(linear.data), explainer={"method": "gradient"})
    draws = Draws(5, view.batch.indices, torch.device("cpu"))
    found = neighbours(view, gradient(flat, view), resolve(flat), draws=draws, seed=0, count=3, radius=0.1)
    assert list(theirs) == pytest.approx([0.0] * COUNT, abs=1e-6)
    assert relative(found.moved, found.length).amax(0).tolist() == pytest.approx([0.0] * COUNT, abs=1e-6)


def test_infidelity(quantus: Any, subject: Subject, view: View) -> None:
    """For the changes that Quantus makes, its mean squared error is that of our predictions before they are scaled."""
    theirs = quantus.Infidelity(perturb_patch_sizes=[4], n_perturb_samples=1, **QUIET)(
        subject.model, *arrays(view), a_batch=gradient(subject, view).numpy().copy(), softmax=False
    )
    gone = torch.zeros(8, 8, dtype=torch.bool)
    changes, predicted = [], []
    maps = gradient(subject, view)
    with torch.no_grad():
        whole = subject.model(view.features).gather(1, view.targets[:, None])[:, 0]
        for row in (0, 4):
            for column in (0, 4):  # Quantus removes the patches one after the other, and never puts them back
                gone[row : row + 4, column : column + 4] = True
                there = view.features * ~gone
                changes.append(whole - subject.model(there).gather(1, view.targets[:, None])[:, 0])
                predicted.append(((view.features - there) * maps).flatten(1).sum(1))
    change, own = torch.stack(changes).double()[:, None], torch.stack(predicted).double()[:, None, None]
    assert (own[:, 0, 0] - change[:, 0]).square().mean(0).tolist() == pytest.approx(list(theirs), rel=1e-3)
    scaled, _ = infidelity(Responses(change, own, change.abs().amax((0, 1))))
    assert bool((scaled <= (own[:, 0, 0] - change[:, 0]).square().mean(0) + 1e-9).all())


def test_a_linear_model_is_predicted_exactly(quantus: Any, linear: Subject) -> None:
    """Infidelity is 0 and faithfulness correlation 1 for the exact maps of a linear model, says Quantus, and so do we."""
    view = linear.view(linear.batch("test", tuple(range(COUNT))))
    exact = gradient(linear, view)
    slope = (exact / view.features).numpy()
    error = quantus.Infidelity(perturb_patch_sizes=[3], n_perturb_samples=1, **QUIET)(
        linear.model, *arrays(view), a_batch=slope.copy(), softmax=False
    )
    correlation = quantus.FaithfulnessCorrelation(
        nr_runs=40, subset_size=12, normalise=False, perturb_baseline=0.0, return_aggregate=False, **QUIET
    )(linear.model, *arrays(view), a_batch=exact.numpy().copy(), softmax=False)
    assert list(error) == pytest.approx([0.0] * COUNT, abs=1e-6)
    assert list(correlation) == pytest.approx([1.0] * COUNT, abs=1e-4)
    draws = Draws(3, view.batch.indices, torch.device("cpu"))
    found = removal(view, [exact], draws=draws, count=40, shares=(1 / 3,), baseline=torch.zeros_like(exact), patch=1)
    assert infidelity(found)[0].tolist() == pytest.approx([0.0] * COUNT, abs=1e-6)
    assert correlations(found)[0, 0].tolist() == pytest.approx([1.0] * COUNT, abs=1e-4)
    assert explained(found)[0].tolist() == pytest.approx([1.0] * COUNT, abs=1e-4)


def test_pixel_flipping(quantus: Any, subject: Subject, view: View) -> None:
    """Pixel by pixel, Quantus' curve of probabilities is ours when both put black in their place."""
    generator = torch.Generator().manual_seed(3)
    maps = torch.randn(view.features.shape, generator=generator)
    theirs = quantus.PixelFlipping(
        features_in_step=4, abs=False, normalise=False, perturb_baseline=0.0, return_auc_per_sample=False, **QUIET
    )(subject.model, *arrays(view), a_batch=maps.numpy().copy(), softmax=True)

    def fixed(_model: nn.Module, inputs: Tensor, _targets: Tensor) -> Tensor:
        return maps[: len(inputs)]

    given = Subject("fixed", subject.task, subject.model, dict(subject.data), explainer=fixed)
    context = Context(given, COUNT, 0, COUNT, scope="test")
    curve = Removal(context, view, resolve(given), "test", substrate="zeros").curve("most", 16)
    assert curve.probabilities[:, 1:].numpy() == pytest.approx(np.asarray(theirs), abs=1e-4)

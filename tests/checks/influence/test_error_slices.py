"""Error slices: the five proofs, and what must never pass or fail."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import hypergeom
from sklearn.cluster import KMeans
from torch import nn

from method_cards import judge
from method_cards.card import CheckBinding
from method_cards.check import Context
from method_cards.errors import CheckError
from method_cards.judge import Judged
from method_cards.measurement import Measurements, Series
from method_cards.subject import Subject
from method_cards.verdict import Outcome
from method_checks.influence.controls import planted_slices
from method_checks.influence.error_slices import ErrorSlices
from method_checks.influence.slices.clusters import found, worst
from method_checks.influence.slices.copies import has_copies
from method_checks.influence.slices.embeddings import gradient_at_prediction, representation
from method_checks.influence.slices.evidence import paired, permutation_p, strata
from tests.helpers import binding, criterion

BINDING = CheckBinding.model_validate(
    {
        **binding(ErrorSlices.id, [criterion("slice_error_excess", at_most=0.2)]),
        "valid_if": [criterion("near_copy_share", at_most=0.1)],
    }
)


def measured(subject: Subject, *, samples: int | None = 4000, seed: int = 0, **parameters: Any) -> Measurements:
    check = ErrorSlices(**parameters)
    collected = Measurements()
    for yielded in check.measure(subject, Context(subject, samples, seed, scope=check.id)):
        collected.add(yielded)
    return collected


def series(collected: Measurements, name: str) -> Series:
    return collected.select(name, {})[0]


@cache
def control(name: str) -> Subject:
    return next(item for item in ErrorSlices.controls() if item.name == name).build(1)


@cache
def of_control(name: str) -> Measurements:
    return measured(control(name))


def judged(name: str) -> Judged:
    return judge.judge(BINDING, of_control(name), complete=True)


@pytest.mark.parametrize("name", ["overlapping-classes", "random-label-errors"])
def test_sound_controls_pass(name: str) -> None:
    """Errors between overlapping classes, and errors of the labels alone, are no slice that the confidence does not tell."""
    assert judged(name).outcome is Outcome.PASSED


@pytest.mark.parametrize("name", ["shortcut", "mislabelled-slice"])
def test_defect_controls_fail_because_of_their_slice(name: str) -> None:
    """A mark that means another class to the network makes a slice, whether a wrong label taught it or a shortcut."""
    result = judged(name)
    assert result.outcome is Outcome.FAILED
    assert result.criteria[0].measurement == "slice_error_excess"
    assert series(of_control(name), "permutation_p").values[0] < 1e-6


def test_near_copies_on_both_sides_are_refused() -> None:
    """Random errors that copies share look like a confirmed slice; the check says that its halves are not two samples."""
    result = judged("near-copies")
    assert result.outcome is Outcome.INVALID
    assert result.gates[0].outcome is Outcome.FAILED
    assert series(of_control("near-copies"), "permutation_p").values[0] < 1e-6, "without the gate it would be a finding"
    assert series(of_control("near-copies"), "near_copy_share").values.mean() > 0.99


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_chance_makes_as_many_near_copies_as_it_must(dimensions: int) -> None:
    """Of points spread evenly over a torus, a gap follows the k-th neighbour with probability 4^(-dk): at most 1 / (4^d - 1) have one."""
    points = 2 * np.pi * np.random.default_rng(dimensions).random((6000, dimensions))
    share = has_copies(np.concatenate([np.cos(points), np.sin(points)], axis=1)).mean()
    expected = 1 - np.prod(1 - 4.0 ** (-dimensions * np.arange(1, 65)))
    assert expected < 1 / (4**dimensions - 1)
    assert share == pytest.approx(expected, abs=4 * (expected / 6000) ** 0.5)


def test_exact_copies_are_one_example() -> None:
    """They stand in one half and confirm nothing; of two different examples nothing is known."""
    rows = np.random.default_rng(0).normal(size=(300, 8))
    assert not has_copies(rows.repeat(5, axis=0)).any()
    assert has_copies(np.concatenate([rows, rows + 1e-3])).mean() == 1
    assert has_copies(rows[:2].repeat(9, axis=0)).size == 0


def test_every_control_is_used_here() -> None:
    """No control is left untested by the tests above."""
    assert len(ErrorSlices.controls()) == 5


def test_the_planted_rows_are_in_the_slices() -> None:
    """The worst slices of the planted control are made of rows with the mark, and are named after one of them."""
    subject = control("mislabelled-slice")
    inputs, _ = subject.split("test").take(range(4000))
    assert isinstance(inputs, torch.Tensor)
    marked = inputs[:, 0] == 6
    named = [str(part.by["slice"]) for part in of_control("mislabelled-slice").select("slice_error_rate", {})]
    examples = [int(name.rpartition(" ")[2]) for name in named]
    assert bool(marked[examples[0]])
    assert series(of_control("mislabelled-slice"), "slice_error_rate").values.mean() > 0.8


def test_agrees_with_a_slow_implementation() -> None:
    """Strata, surplus, choice and pairs by loops over examples: the same slices, and the same mean where every pair is drawn."""
    rng = np.random.default_rng(3)
    slices, predicted = rng.integers(0, 6, 400), rng.integers(0, 2, 400)
    slices = slices + 6 * predicted
    confidence, wrong = rng.random(400), rng.random(400) < 0.2 + 0.5 * (slices == 3)
    first = rng.random(400) < 0.5
    stratum = strata(predicted, confidence, first, 2)
    for label in (0, 1):
        middle = np.median([confidence[row] for row in range(400) if predicted[row] == label and first[row]])
        for row in range(400):
            if predicted[row] == label:
                assert stratum[row] == 2 * label + (confidence[row] > middle)
    surplus = {}
    for number in range(12):
        own = [row for row in range(400) if slices[row] == number]
        expected = [np.mean([wrong[other] for other in range(400) if stratum[other] == stratum[row]]) for row in own]
        surplus[number] = sum(wrong[row] - rate for row, rate in zip(own, expected, strict=True)) / (len(own) + 10)
    order = sorted(surplus, key=lambda number: -surplus[number])
    chosen = worst(slices, predicted, stratum, wrong, 0.1)
    assert chosen[0] == order[0] == 3
    assert chosen == order[: len(chosen)]
    inside = np.isin(slices, chosen)
    means = [paired(inside, stratum, wrong, np.random.default_rng(seed)).mean() for seed in range(300)]
    exact, pairs = 0.0, 0
    for label in np.unique(stratum):
        own, others = inside & (stratum == label), ~inside & (stratum == label)
        count = min(own.sum(), others.sum())
        exact += count * (wrong[own].mean() - wrong[others].mean())
        pairs += int(count)
    assert np.mean(means) == pytest.approx(exact / pairs, abs=0.01)


def test_a_label_that_is_no_class_is_refused() -> None:
    """An example with such a label would count as an error of the model, whatever it predicts."""
    inputs = torch.randn(40, 4)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    for other in (-100, 2):
        subject = Subject("net", "tabular-classification", model, {"test": (inputs, torch.arange(40) % 2 * other)})
        with pytest.raises(CheckError, match="targets go from"):
            measured(subject)


def test_the_p_value_is_that_of_permutations() -> None:
    """With one stratum it is SciPy's hypergeometric tail; with several, it is what permuting errors within them gives."""
    rng = np.random.default_rng(0)
    inside, wrong = rng.random(60) < 0.3, rng.random(60) < 0.3
    tail = hypergeom.sf((inside & wrong).sum() - 1, 60, wrong.sum(), inside.sum())
    assert permutation_p(inside, np.zeros(60, dtype=np.int64), wrong) == pytest.approx(tail)
    stratum = rng.integers(0, 3, 60)
    hits = 0
    for _ in range(4000):
        permuted = wrong.copy()
        for label in range(3):
            rows = np.flatnonzero(stratum == label)
            permuted[rows] = permuted[rng.permutation(rows)]
        hits += (inside & permuted).sum() >= (inside & wrong).sum()
    assert permutation_p(inside, stratum, wrong) == pytest.approx(hits / 4000, abs=0.03)


def test_slices_are_scikit_learns_clusters_of_principal_components() -> None:
    """Within each predicted class the partition is k-means', and new examples go to the nearest centre of their class."""
    rng = np.random.default_rng(0)
    embeddings, predicted = rng.normal(size=(120, 5)) * [5, 4, 3, 2, 1], np.repeat([2, 7], 60)
    cut = found(embeddings, predicted, 3, 11, whiten=False)
    slices = cut.of(embeddings, predicted)
    for label in (2, 7):
        own = predicted == label
        places = (embeddings[own] - embeddings.mean(0)) @ cut.axes
        labels = KMeans(3, n_init=4, random_state=11).fit_predict(places)
        assert len(set(zip(labels, slices[own], strict=True))) == 3
    np.testing.assert_allclose(np.abs(cut.axes.T @ cut.axes), np.eye(5), atol=1e-9)
    assert cut.of(embeddings[:1], np.array([4])).tolist() == [-1]
    whitened = found(embeddings, predicted, 3, 11, whiten=True)
    np.testing.assert_allclose(((embeddings - whitened.mean) @ whitened.axes).std(0), 1)


@pytest.mark.parametrize("whiten", [False, True])
def test_equal_embeddings_are_one_slice(whiten: bool) -> None:
    """Where a model represents all examples alike, each predicted class is one slice, and no error hides in it."""
    cut = found(np.ones((60, 4)), np.repeat([0, 1], 30), 3, 0, whiten=whiten)
    assert cut.of(np.ones((4, 4)), np.array([0, 1, 1, 5])).tolist() == [0, 1, 1, -1]
    assert cut.predicted.tolist() == [0, 1]


def test_the_gradient_is_autograds() -> None:
    """The outer product is the gradient of the cross-entropy at the predicted class; its projection keeps inner products on average."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(4, 3).double()
    inputs = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    logits = layer(inputs)
    expected = []
    for row in range(6):
        loss = nn.functional.cross_entropy(logits[row : row + 1], logits[row : row + 1].argmax(1))
        weight, bias = torch.autograd.grad(loss, [layer.weight, layer.bias], retain_graph=True)
        expected.append(torch.cat([weight, bias[:, None]], dim=1).flatten())
    torch.testing.assert_close(gradient_at_prediction(inputs, logits.detach()), torch.stack(expected))
    wide = torch.randn(5, 40, generator=generator, dtype=torch.float64)
    scores = torch.randn(5, 8, generator=generator, dtype=torch.float64)
    change = scores.softmax(1) - nn.functional.one_hot(scores.argmax(1), 8)
    exact = (change @ change.T) * (wide @ wide.T + 1)
    products = []
    for seed in range(300):
        projected = gradient_at_prediction(wide, scores, seed)
        products.append(projected @ projected.T)
    mean = torch.stack(products).mean(0)
    assert projected.shape == (5, 128)
    assert float((mean - exact).abs().max()) < 0.15 * float(exact.abs().max())


def test_slices_are_not_judged_where_they_were_found() -> None:
    """On errors that depend on nothing, the half that slices were found on shows an excess, and the other half shows none."""
    subject = control("random-label-errors")
    inputs, labels = subject.split("test").take(range(4000))
    where_found, honest = [], []
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        predicted = subject.outputs(subject.batch("test", range(4000))).argmax(1)
        wrong = torch.rand(4000, generator=generator) < 0.2
        random = torch.where(wrong, (predicted + 1) % planted_slices.CLASSES, predicted)
        collected = measured(replace(subject, data={"test": (inputs, random)}), seed=seed)
        where_found.append(series(collected, "excess_where_found").values[0])
        honest.append(series(collected, "slice_error_excess").values.mean())
    assert len(labels) == 4000
    assert np.mean(where_found) > 0.08
    assert abs(np.mean(honest)) < 0.05


def test_an_embedding_that_contains_the_label_finds_errors_in_random_labels() -> None:
    """Gradients at the true label put errors into slices of their own even on the other half; at the predicted class they do not."""
    rng = np.random.default_rng(0)
    features, logits = torch.as_tensor(rng.normal(size=(3000, 8))), torch.as_tensor(3 * rng.normal(size=(3000, 4)))
    predicted = logits.argmax(1).numpy()
    wrong = rng.random(3000) < 0.15
    labels = torch.as_tensor(np.where(wrong, (predicted + 1) % 4, predicted))
    change = logits.softmax(1) - nn.functional.one_hot(labels, 4)
    bias = torch.cat([features, torch.ones(3000, 1)], dim=1)
    leaking = torch.einsum("nc,nf->ncf", change, bias).flatten(1).numpy()
    honest = gradient_at_prediction(features, logits).numpy()
    first = rng.random(3000) < 0.5
    confidence = logits.softmax(1).amax(1).numpy()
    stratum = strata(predicted, confidence, first, 5)
    excess = []
    for embeddings in (leaking, honest):
        cut = found(embeddings[first], predicted[first], 6, 0, whiten=True)
        slices = cut.of(embeddings, predicted)
        inside = np.isin(slices, worst(slices[first], predicted[first], stratum[first], wrong[first], 0.1))
        excess.append(paired(inside[~first], stratum[~first], wrong[~first], rng).mean())
    assert excess[0] > 0.4
    assert abs(excess[1]) < 0.12


def test_repeated_examples_stand_in_one_half() -> None:
    """Errors that are copied do not confirm each other: copies of one example are never on both sides."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(120, 32, generator=generator)
    labels = torch.randint(8, (120,), generator=generator)
    subject = control("random-label-errors")
    copied = replace(subject, data={"test": (rows.repeat(10, 1), labels.repeat(10))})
    assert abs(series(measured(copied), "slice_error_excess").values.mean()) < 0.5
    halves: dict[int, set[bool]] = {}
    context = Context(copied, None, 0, scope=ErrorSlices.id)
    from method_checks.influence.error_slices import first_half

    for batch in context.batches("test"):
        for number, side in zip(batch.indices, first_half(copied, batch, b"salt"), strict=True):
            halves.setdefault(number % 120, set()).add(bool(side))
    assert all(len(sides) == 1 for sides in halves.values())
    assert {next(iter(sides)) for sides in halves.values()} == {True, False}


def test_the_same_seed_gives_the_same_result() -> None:
    """Every measured number follows from the subject and the seed, and another seed cuts other halves."""
    subject = control("shortcut")
    first, again, other = (measured(subject, samples=800, seed=seed) for seed in (1, 1, 2))
    for left, right in zip(first, again, strict=True):
        assert left.label == right.label
        np.testing.assert_array_equal(left.values, right.values)
    assert not np.array_equal(series(first, "slice_error_excess").values, series(other, "slice_error_excess").values)


@pytest.mark.parametrize("samples", [1, 6, 40])
def test_too_few_examples_decide_nothing(samples: int) -> None:
    """With a handful of examples the verdict is inconclusive, whatever the model."""
    found_ = measured(control("mislabelled-slice"), samples=samples)
    assert judge.judge(BINDING, found_, complete=True).outcome is Outcome.INCONCLUSIVE


def test_pairs_are_in_random_order() -> None:
    """The interval for a mean looks at values one after another, so that no class may come first."""
    inside, stratum = np.tile([True, False], 400), np.repeat([0, 1], 400)
    wrong = (stratum == 0) & inside
    differences = paired(inside, stratum, wrong, np.random.default_rng(0))
    assert 0.3 < differences[:200].mean() < 0.7


def _shapes(layers: Iterable[nn.Module], inputs: torch.Tensor, layer: str = "") -> tuple[int, ...]:
    model = nn.Sequential(*layers).eval()
    subject = Subject("shapes", "image-classification", model, {"test": (inputs, torch.zeros(len(inputs)).long())})
    return tuple(representation(subject, subject.batch("test", range(len(inputs))), layer)[0].shape)


def test_the_representation_is_what_the_last_linear_layer_gets() -> None:
    """Of an image classifier the input of its head; of a named layer its output, averaged over positions; without either, a refusal."""
    images = torch.randn(5, 2, 6, 6)
    assert _shapes([nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(48, 7), nn.ReLU(), nn.Linear(7, 4)], images) == (5, 7)
    assert _shapes([nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(48, 4)], images, "0") == (5, 3)
    with pytest.raises(CheckError, match="under `layer`"):
        _shapes([nn.Conv2d(2, 3, 6), nn.Flatten()], images)
    with pytest.raises(CheckError, match='no layer "head"'):
        _shapes([nn.Flatten(), nn.Linear(72, 4)], images, "head")


def test_errors_of_the_worst_slices_are_shown() -> None:
    """Of images, the page shows errors nearest to the centres; all shown ones of the planted control carry the mark."""
    subject = control("mislabelled-slice")
    inputs, labels = subject.split("test").take(range(4000))
    assert isinstance(inputs, torch.Tensor)
    images = inputs.reshape(-1, 1, 4, 8)
    model = nn.Sequential(nn.Flatten(), *subject.model.children()).eval()
    collected = measured(Subject("images", "image-classification", model, {"test": (images, labels)}))
    shown = collected.pictures["worst_slices"]
    assert shown.values.shape[1:] == (4, 4, 8)
    assert shown.rows[0].startswith("predicted ")
    np.testing.assert_array_equal(shown.values[0, :, 0, 0], 6.0)
    assert not of_control("mislabelled-slice").pictures


def test_it_is_about_classes() -> None:
    """A language model has no errors to count."""
    subject = control("shortcut")
    assert ErrorSlices().not_applicable(subject) == ""
    assert ErrorSlices().not_applicable(replace(subject, task="text-generation")) != ""

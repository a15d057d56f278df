"""The linear datamodelling score: the five proofs, and the floor that a score by itself hides."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.influence import TracInCP
from pydantic import ValidationError
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from method_cards import judge
from method_cards.card import CheckBinding
from method_cards.check import Context
from method_cards.errors import CheckError
from method_cards.judge import Judged
from method_cards.measurement import Measurements, Series
from method_cards.subject import Subject
from method_cards.training import Recipe, train_many
from method_cards.verdict import Outcome
from method_checks.influence.datamodel_score import DatamodelScore, best_of
from method_checks.influence.estimators import (
    Truth,
    cosine_similarities,
    influences_by,
    last_layer_features,
    linear_datamodelling_scores,
    random_halves,
    rank_correlations,
    representer_values,
    same_class,
    trak_scores,
)
from method_checks.influence.gradients import TrainedCopy
from tests.helpers import binding, criterion

BINDING = CheckBinding.model_validate(
    binding(
        DatamodelScore.id,
        [criterion("score_over_same_class", at_least=0)],
        [criterion("retraining_agreement", at_least=0.3), criterion("same_predictions", at_least=0.6)],
    )
)
CONTROLS = {item.name: item for item in DatamodelScore.controls()}


@cache
def control(name: str) -> Subject:
    return CONTROLS[name].build(0)


def measured(subject: Subject, *, samples: int | None = 300, seed: int = 0, **parameters: Any) -> Measurements:
    check = DatamodelScore(**parameters)
    found = Measurements()
    for yielded in check.measure(subject, Context(subject, samples, seed, scope=check.id)):
        found.add(yielded)
    return found


@cache
def of_control(name: str) -> Measurements:
    return measured(control(name), **CONTROLS[name].parameters)


def judged(found: Measurements) -> Judged:
    return judge.judge(BINDING, found, complete=True)


def series(found: Measurements, name: str) -> Series:
    return found.select(name, {})[0]


def mean(found: Measurements, name: str) -> float:
    return float(series(found, name).values.mean())


@pytest.mark.parametrize("name", ["linear-classifier", "network"])
def test_sound_controls_pass(name: str) -> None:
    """TRAK predicts trainings of a linear classifier and of a converged network better than counting classes does."""
    assert judged(of_control(name)).outcome is Outcome.PASSED


@pytest.mark.parametrize("name", ["representations", "last-gradients"])
def test_defect_controls_fail_below_the_floor(name: str) -> None:
    """Similar representations and vanishing gradients have positive scores and are worse than counting classes."""
    found = of_control(name)
    result = judged(found)
    assert (result.outcome, result.criteria[0].outcome) == (Outcome.FAILED, Outcome.FAILED)
    assert mean(found, "datamodel_score") > 0.2


@pytest.mark.parametrize("name", ["hardly-trained", "another-training"])
def test_confounded_controls_get_no_verdict(name: str) -> None:
    """Where trainings do not repeat, or the recipe makes other models than the subject's, nothing is said."""
    result = judged(of_control(name))
    assert result.outcome is Outcome.INVALID
    assert CONTROLS[name].because in {gate.measurement for gate in result.gates if gate.outcome is Outcome.FAILED}


def test_every_control_is_used_here() -> None:
    """No control is left untested by the tests above."""
    assert len(CONTROLS) == 6


def test_counting_classes_has_a_score_and_no_excess() -> None:
    """A score far above 0 is worth nothing by itself: merely knowing the classes has one, random influences have none."""
    found = of_control("network")
    assert mean(found, "same_class_score") > 0.3
    assert abs(mean(found, "random_score")) < 0.05
    np.testing.assert_allclose(
        series(found, "score_over_same_class").values,
        series(found, "datamodel_score").values - series(found, "same_class_score").values,
    )


def test_one_training_is_never_the_truth() -> None:
    """Each half is trained on twice, and the agreement of the two is reported beside every score."""
    found = of_control("network")
    assert 0.5 < mean(found, "retraining_agreement") < 1
    assert series(found, "retraining_agreement").n == series(found, "datamodel_score").n == 300


def test_scores_agree_with_scipy_and_a_slow_implementation() -> None:
    """Sums over members by hand, and SciPy's rank correlation of each test example with ties, give the same scores."""
    rng = np.random.default_rng(0)
    influences, outputs = rng.normal(size=(12, 5)), rng.integers(0, 4, (20, 5)).astype(float)
    members = rng.random((20, 12)) < 0.5
    found = linear_datamodelling_scores(influences, members, outputs)
    for test in range(5):
        predicted = [sum(influences[i, test] for i in range(12) if members[s, i]) for s in range(20)]
        assert found[test] == pytest.approx(spearmanr(predicted, outputs[:, test]).statistic)


def test_constant_outputs_have_no_correlation() -> None:
    """An output that no subset changes cannot be predicted: 0, not NaN; perfect prediction is 1."""
    steps = np.arange(9.0)[:, None]
    found = rank_correlations(np.hstack([steps, steps, steps]), np.hstack([0 * steps, steps**3, -steps]))
    np.testing.assert_allclose(found, [0, 1, -1])


def test_additive_outputs_are_predicted_perfectly() -> None:
    """Where a model's output is a sum over its training examples, the terms have a score of 1."""
    rng = np.random.default_rng(1)
    terms = rng.normal(size=(30, 4))
    members = random_halves(40, 30, torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_allclose(linear_datamodelling_scores(terms, members, members @ terms), 1)


def test_halves_come_in_complements() -> None:
    """Each subset holds half of the examples, each example is in half of the subsets, and subsets differ."""
    halves = random_halves(10, 21, torch.Generator().manual_seed(0))
    assert set(halves.sum(1).tolist()) == {10, 11}
    assert torch.equal(halves[::2], ~halves[1::2])
    assert halves.sum(0).tolist() == [5] * 21
    assert len({tuple(row) for row in halves.tolist()}) == 10


def test_the_dual_form_of_trak_is_the_primal_one() -> None:
    """The system over examples has the solution of the system over parameters, as the paper writes it."""
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (torch.randn(count, 9, generator=generator, dtype=torch.float64) for count in (14, 5))
    chances = torch.rand(14, generator=generator, dtype=torch.float64)
    found = trak_scores(ours @ ours.T, ours @ theirs.T, chances, ridge=0.3)
    ridge = 0.3 * (ours**2).sum(1).mean()
    inverse = torch.linalg.inv(ours.T @ ours + ridge * torch.eye(9, dtype=torch.float64))
    paper = torch.diag(1 - chances) @ ours @ inverse @ theirs.T
    torch.testing.assert_close(found, paper)


def rows(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=generator)
    return torch.randn(count, 5, generator=generator) + torch.eye(5)[labels], labels


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))


RECIPE = Recipe(perceptron, epochs=6, batch_size=20, learning_rate=0.2, schedule="cosine")


def small(train: Callable[..., nn.Module] = RECIPE) -> Subject:
    data = {"train": rows(60, 0), "test": rows(40, 1)}
    return Subject("rows", "tabular-classification", train(*data["train"], 0), data, train=train)


def both(subject: Subject) -> Any:
    return subject.batch("train", range(60)), subject.batch("test", range(40))


@pytest.mark.filterwarnings("ignore")
def test_tracin_agrees_with_captum(tmp_path: Path) -> None:
    """Captum's TracInCP gives the same influence of each training on each test example, learning rates included."""
    subject = small()
    train, test = both(subject)
    model, checkpoints = RECIPE.followed(train.inputs, train.targets, 0, (1, 3, 6))
    (found,) = influences_by("tracin", TrainedCopy.of(subject, model), checkpoints, train, test, 16)
    rates = {str(tmp_path / str(number)): each.learning_rate for number, each in enumerate(checkpoints)}
    for path, each in zip(rates, checkpoints, strict=True):
        torch.save(each.load(), path)

    def load(module: nn.Module, path: str) -> float:
        module.load_state_dict(torch.load(path))
        return rates[path]

    peer = TracInCP(
        perceptron(),
        torch.utils.data.TensorDataset(train.inputs, train.targets),
        list(rates),
        checkpoints_load_func=load,
        loss_fn=nn.CrossEntropyLoss(reduction="none"),
        batch_size=16,
    )
    truth = peer.influence((test.inputs, test.targets)).T
    torch.testing.assert_close(found.float(), truth, rtol=1e-4, atol=1e-6)


def test_gradient_products_agree_with_a_slow_implementation() -> None:
    """Two backward passes and an inner product for each pair give the same influences."""
    subject = small()
    train, test = both(subject)
    (found,) = influences_by("gradient-dot", TrainedCopy.of(subject), (), train, test, 16)

    def gradient(x: Tensor, y: Tensor) -> Tensor:
        loss = nn.functional.cross_entropy(subject.model(x[None]), y[None])
        return torch.cat([each.flatten() for each in torch.autograd.grad(loss, list(subject.model.parameters()))])

    for i, j in ((0, 0), (5, 3), (59, 39)):
        product = gradient(train.inputs[i], train.targets[i]) @ gradient(test.inputs[j], test.targets[j])
        assert float(found[i, j]) == pytest.approx(float(product), rel=1e-4)


def test_projected_gradients_serve_where_exact_ones_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit gradients are projected at random, and influences stay nearly the same."""
    subject = small()
    train, test = both(subject)
    (exact,) = influences_by("gradient-dot", TrainedCopy.of(subject), (), train, test, 16)
    monkeypatch.setattr("method_checks.influence.estimators.influences.EXACT", 0)
    (projected,) = influences_by("gradient-dot", TrainedCopy.of(subject), (), train, test, 16)
    assert not torch.equal(exact, projected)
    assert np.corrcoef(exact.flatten(), projected.flatten())[0, 1] > 0.98


def test_representer_points_add_up_to_the_logit() -> None:
    """The values of all training examples sum to the logits of scikit-learn's penalised regression on the same features."""
    train, test = rows(80, 0), rows(30, 1)
    decay = 0.01
    values = representer_values(train[0], train[1], test[0], test[1], 3, decay)
    peer = LogisticRegression(C=1 / (2 * decay * 80), fit_intercept=False, tol=1e-10, max_iter=5000).fit(
        *map(np.asarray, train)
    )
    logits = np.asarray(test[0]) @ peer.coef_.T
    np.testing.assert_allclose(values.sum(0), logits[np.arange(30), test[1]], atol=1e-4)


def test_representer_points_away_from_the_optimum_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A last layer that was not fitted to its end does not add up, and the values are not handed out."""
    monkeypatch.setattr("method_checks.influence.estimators.representer.STEPS", 1)
    with pytest.raises(CheckError, match="miss the logits"):
        measured(small(), method="representer", subsets=16)


def test_last_layer_features_are_what_the_layer_sees() -> None:
    """The layer whose output are the logits is found by its output; a model that goes on after it has none."""
    subject = small()
    features = last_layer_features(TrainedCopy.of(subject), rows(4, 0)[0])
    assert isinstance(subject.model, nn.Sequential)
    torch.testing.assert_close(features, subject.model[:2](rows(4, 0)[0]))
    scaled = Subject("scaled", subject.task, nn.Sequential(subject.model, nn.Tanh()).eval(), subject.data)
    with pytest.raises(CheckError, match="straight from a linear layer"):
        last_layer_features(TrainedCopy.of(scaled), rows(4, 0)[0])


def test_similarities_by_hand() -> None:
    """Cosines and class indicators are what they say."""
    found = cosine_similarities(torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(found, torch.tensor([[0.6], [0.0]], dtype=torch.float64))
    assert same_class(torch.tensor([1, 2]), torch.tensor([2, 2, 1])).tolist() == [[0, 0, 1], [1, 1, 0]]


def test_what_a_method_leaves_open_is_chosen_on_other_subsets() -> None:
    """The choice looks at its own subsets only: what happens on those that are judged cannot change it."""
    rng = np.random.default_rng(0)
    members = random_halves(40, 30, torch.Generator().manual_seed(0)).numpy()
    good, bad = rng.normal(size=(2, 30, 6))
    outputs = np.stack([members @ good] * 2)
    misled = outputs.copy()
    misled[:, 10:] = members[10:] @ bad
    for each in (outputs, misled):
        assert best_of(np.stack([bad, good]), Truth(members, each), slice(10)) == 1


@pytest.mark.parametrize("method", ["trak", "tracin", "gradient-dot", "representation-cosine", "representer"])
def test_every_method_gives_a_score(method: str) -> None:
    """Each method runs on a small recipe, and averaging over models keeps ranges."""
    found = measured(small(), method=method, subsets=16, examples=40, models=2)
    assert -1 <= mean(found, "datamodel_score") <= 1
    assert series(found, "datamodel_score").n == 40


def trained(inputs: Tensor | dict[str, Tensor], targets: Tensor, seed: int) -> nn.Module:
    return RECIPE(inputs, targets, seed)


def test_a_training_function_serves_as_well_as_a_recipe() -> None:
    """A function is followed model by model and gives the same scores; only TracIn needs what it does not give."""
    subject = small()
    by_function = replace(subject, train=trained)
    one, other = (measured(each, subsets=16, examples=40) for each in (subject, by_function))
    assert mean(one, "datamodel_score") == pytest.approx(mean(other, "datamodel_score"), abs=0.02)
    assert "checkpoints" in DatamodelScore(method="tracin").not_applicable(by_function)
    assert not DatamodelScore().not_applicable(by_function)
    assert "train:" in DatamodelScore().not_applicable(replace(subject, train=None))
    assert "none" in DatamodelScore().not_applicable(replace(subject, task="text-generation"))


def test_methods_share_the_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prescriptions that differ in the method only train the halves once in a run."""
    subject = small()
    context = Context(subject, 40, 0, scope=DatamodelScore.id)
    calls: list[int] = []
    counted = partial(_counted, train_many, calls)
    monkeypatch.setattr("method_checks.influence.estimators.truth.train_many", counted)
    for method in ("trak", "gradient-dot"):
        list(DatamodelScore(method=method, subsets=16).measure(subject, context))
    assert calls == [16, 16]


def _counted(function: Callable[..., Any], calls: list[int], *arguments: Any) -> Any:
    calls.append(len(arguments[-1]))
    return function(*arguments)


def test_the_same_seed_gives_the_same_result() -> None:
    """Halves, trainings and scores follow from the seed."""
    subject = small()
    first, again, other = (measured(subject, subsets=16, seed=seed) for seed in (1, 1, 2))
    for left, right in zip(first, again, strict=True):
        np.testing.assert_array_equal(left.values, right.values)
    assert not np.array_equal(series(first, "datamodel_score").values, series(other, "datamodel_score").values)


def test_unknown_methods_are_refused() -> None:
    """A method that is none of the five is an error that names them."""
    with pytest.raises(ValidationError, match="trak"):
        DatamodelScore.model_validate({"method": "shapley"})


def test_passes_grow_with_models_and_checkpoints() -> None:
    """The announced cost counts two trainings of each half, those of the models, and a gradient of each example for each checkpoint."""
    subject = small()
    halves = 2 * 16 * 30 * RECIPE.epochs
    one, two = (
        DatamodelScore(subsets=16).passes(subject, 40),
        DatamodelScore(subsets=16, method="tracin", models=2).passes(subject, 40),
    )
    assert (one.backward, one.trainings) == (100 + halves + 60 * RECIPE.epochs, 33)
    assert (two.backward, two.trainings) == (12 * 100 + halves + 2 * 60 * RECIPE.epochs, 34)


def test_the_docstring_is_a_page() -> None:
    """All sections are there, and every gate is one of the quantities."""
    assert DatamodelScore.page().missing == ()
    assert all(DatamodelScore.quantity(gate) for gate in DatamodelScore.gates)


def test_importing_the_check_loads_neither_torch_nor_scikit_learn() -> None:
    """Listing checks and building pages stay fast."""
    module = "method_checks.influence.datamodel_score"
    code = f"import sys, {module}; print(sorted({{'torch', 'sklearn', 'scipy'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""Self-influence: the five proofs, and the ways in which it is often computed wrongly."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.influence import TracInCP
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from method_cards import judge
from method_cards.card import CheckBinding
from method_cards.check import Context
from method_cards.errors import CheckError
from method_cards.judge import Judged
from method_cards.measurement import Measurements, Series
from method_cards.subject import Subject
from method_cards.training import Checkpoint, Recipe
from method_cards.verdict import Outcome
from method_checks.influence.gradients import TrainedCopy
from method_checks.influence.self_influence import SelfInfluence
from method_checks.influence.trajectories import (
    Trace,
    mean_loss,
    placements,
    spread_epochs,
    trace,
    tracin_self_influence,
    zeroth_order_self_influence,
)
from method_checks.influence.trajectories.trainings import with_wrong_labels
from tests.helpers import binding, criterion

GATES = [
    criterion("checkpoints", at_least=5),
    criterion("fitted_at_first_checkpoint", at_most=0.5),
    criterion("same_predictions", at_least=0.7),
]
BINDING = CheckBinding.model_validate(
    binding(
        SelfInfluence.id,
        [criterion("self_influence_auc", at_least=0.8), criterion("gain_over_mean_loss", at_least=-0.1)],
        GATES,
    )
)
CONTROLS = {item.name: item for item in SelfInfluence.controls()}


@cache
def control(name: str, seed: int = 0) -> Subject:
    return CONTROLS[name].build(seed)


def measured(subject: Subject, *, samples: int | None = 1500, seed: int = 0, **parameters: Any) -> Measurements:
    check = SelfInfluence(**parameters)
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


def area(found: Measurements, name: str) -> float:
    return judge.interval_of(series(found, name), 0.95).estimate


@pytest.mark.parametrize("name", [item.name for item in CONTROLS.values() if item.kind == "sound"])
def test_sound_controls_pass(name: str) -> None:
    """On digits, planted labels and labels that were verified are found, by a dense and by a convolutional network."""
    assert judged(of_control(name)).outcome is Outcome.PASSED


@pytest.mark.parametrize("name", [item.name for item in CONTROLS.values() if item.kind == "defect"])
def test_defect_controls_fail_for_their_reason(name: str) -> None:
    """Labels without a rule cannot be found; bright inputs have long gradients whatever their label, which the mean loss does not fall for."""
    result = judged(of_control(name))
    assert result.outcome is Outcome.FAILED
    assert all(gate.outcome is Outcome.PASSED for gate in result.gates)
    failed = {item.measurement for item in result.criteria if item.outcome is Outcome.FAILED}
    assert CONTROLS[name].because in failed


@pytest.mark.parametrize("name", [item.name for item in CONTROLS.values() if item.kind == "confounded"])
def test_confounded_controls_get_no_verdict(name: str) -> None:
    """Late checkpoints, too few of them, or those of another model say nothing, whatever the scores."""
    result = judged(of_control(name))
    assert result.outcome is Outcome.INVALID
    assert CONTROLS[name].because in {gate.measurement for gate in result.gates if gate.outcome is Outcome.FAILED}


def test_the_baseline_is_always_measured() -> None:
    """The mean loss stands beside every self-influence, with the paired difference: on digits it is as good."""
    found = of_control("digits-network")
    assert area(found, "mean_loss_auc") > 0.98
    assert abs(area(found, "gain_over_mean_loss")) < 0.02
    assert series(found, "gain_over_mean_loss").n == series(found, "self_influence_auc").n


def small(recipe: Recipe, *, count: int = 60, seed: int = 0) -> tuple[Subject, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=generator)
    rows = torch.randn(count, 5, generator=generator) + torch.eye(5)[labels]
    subject = Subject(
        "rows", "tabular-classification", recipe(rows, labels, 0), {"train": (rows, labels)}, train=recipe
    )
    return subject, rows, labels


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


COSINE = Recipe(perceptron, epochs=6, batch_size=20, learning_rate=0.2, schedule="cosine")


def traced(recipe: Recipe = COSINE) -> tuple[Trace, Subject, tuple[Checkpoint, ...], Tensor, Tensor]:
    subject, rows, labels = small(recipe)
    model, checkpoints = recipe.followed(rows, labels, 0, range(1, recipe.epochs + 1))
    found = trace(TrainedCopy.of(subject, model), checkpoints, rows, labels, block=17)
    return found, subject, checkpoints, rows, labels


def test_agrees_with_a_slow_implementation() -> None:
    """One backward pass for each example and checkpoint, and sums by hand, give the same losses, lengths, distances and scores."""
    found, _, checkpoints, rows, labels = traced()
    model = perceptron()
    losses, influences, zeroth = torch.zeros(6, 60), torch.zeros(60), torch.zeros(60)
    states = [checkpoint.load() for checkpoint in checkpoints]
    for at, (state, checkpoint) in enumerate(zip(states, checkpoints, strict=True)):
        model.load_state_dict(state)
        for i in range(60):
            model.zero_grad()
            loss = -model(rows[i : i + 1])[0].log_softmax(0)[labels[i]]
            loss.backward()
            losses[at, i] = loss.detach()
            squares = sum(float((each.grad**2).sum()) for each in model.parameters() if each.grad is not None)
            influences[i] += checkpoint.learning_rate * squares
    for at in range(5):
        distance = sum(float(((states[at + 1][name] - states[at][name]) ** 2).sum()) for name in states[0])
        assert found.steps[at] == pytest.approx(distance, rel=1e-5)
        zeroth += checkpoints[at].learning_rate * (losses[at + 1] - losses[at]) ** 2 / distance
    np.testing.assert_allclose(found.losses, losses, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(tracin_self_influence(found.norms, found.rates), influences, rtol=1e-4)
    np.testing.assert_allclose(
        zeroth_order_self_influence(found.losses, found.rates, found.steps), zeroth, rtol=1e-3, atol=1e-7
    )
    np.testing.assert_allclose(mean_loss(found.losses), losses.mean(0), rtol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("sample_wise", [False, True], ids=["loop", "sample-wise"])
def test_agrees_with_captum(sample_wise: bool, tmp_path: Path) -> None:
    """Captum's TracInCP gives the same self-influence, with a learning rate that changes between checkpoints."""
    found, _, checkpoints, rows, labels = traced()
    rates = {}
    for number, checkpoint in enumerate(checkpoints):
        path = str(tmp_path / f"{number}.pt")
        torch.save(checkpoint.load(), path)
        rates[path] = checkpoint.learning_rate

    def load(model: nn.Module, path: str) -> float:
        model.load_state_dict(torch.load(path))
        return rates[path]

    peer = TracInCP(
        perceptron(),
        torch.utils.data.TensorDataset(rows, labels),
        list(rates),
        checkpoints_load_func=load,
        loss_fn=nn.CrossEntropyLoss(reduction="sum" if sample_wise else "none"),
        batch_size=16,
        sample_wise_grads_per_batch=sample_wise,
    )
    assert len(set(rates.values())) == len(rates)
    np.testing.assert_allclose(
        tracin_self_influence(found.norms, found.rates), peer.self_influence().detach().numpy(), rtol=1e-4
    )


def test_a_linear_model_has_a_known_answer() -> None:
    """Of a linear classifier the squared gradient length is |p − y|² (|x|² + 1)."""
    subject, rows, labels = small(Recipe(partial(nn.Linear, 5, 3), epochs=1, batch_size=60, learning_rate=0.1))
    state = subject.model.state_dict()
    found = trace(TrainedCopy.of(subject), [Checkpoint(lambda: state, 0.5)], rows, labels, block=60)
    with torch.no_grad():
        surplus = subject.model(rows).softmax(1) - torch.eye(3)[labels]
    truth = 0.5 * surplus.square().sum(1) * (rows.square().sum(1) + 1)
    np.testing.assert_allclose(tracin_self_influence(found.norms, found.rates), truth, rtol=1e-5)
    assert zeroth_order_self_influence(found.losses, found.rates, found.steps).tolist() == [0.0] * 60


def test_the_area_is_that_of_scikit_learn() -> None:
    """The measured area is scikit-learn's, and the mean of the paired placements estimates it."""
    found = of_control("uneven-brightness")
    scored = series(found, "self_influence_auc")
    truth = np.repeat([1, 0], [scored.values.size, scored.negatives.size])
    together = np.concatenate([scored.values, scored.negatives])
    assert area(found, "self_influence_auc") == pytest.approx(roc_auc_score(truth, together))
    draws = [placements(truth == 1, together, generator=np.random.default_rng(seed))[0].mean() for seed in range(100)]
    assert np.mean(draws) == pytest.approx(roc_auc_score(truth, together), abs=0.003)
    gain = area(found, "self_influence_auc") - area(found, "mean_loss_auc")
    assert area(found, "gain_over_mean_loss") == pytest.approx(gain, abs=0.05)


def test_placements_count_by_hand() -> None:
    """Each wrong label is compared with right ones of its own; ties count one half; without right ones nothing is said."""
    rng = np.random.default_rng
    (found,) = placements(np.array([True, False, False]), np.array([2.0, 2.0, 1.0]), generator=rng(0))
    assert found.tolist() == [0.75]
    (found,) = placements(np.array([True, True, True, False]), np.array([3.0, 3.0, 3.0, 1.0]), generator=rng(0))
    assert found.tolist() == [1.0]
    (found,) = placements(np.array([True, True]), np.zeros(2), generator=rng(0))
    assert found.size == 0
    scores = np.arange(12.0)
    (found,) = placements(scores % 3 == 0, scores, generator=rng(1))
    assert found.size == 4


def test_the_learning_rate_of_each_checkpoint_counts() -> None:
    """With a schedule, checkpoints weigh by their own rates: taking them as constant gives another ranking's sum."""
    found, *_ = traced()
    assert found.rates[0] > 2 * found.rates[-1]
    weighted = tracin_self_influence(found.norms, found.rates)
    constant = tracin_self_influence(found.norms, np.full(6, found.rates[0]))
    assert not np.allclose(weighted, constant, rtol=0.05)


class Noisy(nn.Module):
    """Dropout and batch norm, which act differently in training."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


def test_checkpoints_are_scored_in_evaluation_mode() -> None:
    """Dropout and batch statistics play no part: scores repeat, and do not depend on which examples share a batch."""
    subject, rows, labels = small(Recipe(Noisy, epochs=2, batch_size=20, learning_rate=0.1))
    assert subject.recipe is not None
    model, checkpoints = subject.recipe.followed(rows, labels, 0, (1, 2))
    model.train()
    traces = [trace(TrainedCopy.of(subject, model), checkpoints, rows, labels, block=size) for size in (60, 60, 7)]
    assert traces[0].way.norms == "closed-form"
    np.testing.assert_array_equal(traces[0].norms, traces[1].norms)
    np.testing.assert_allclose(traces[0].norms, traces[2].norms, rtol=1e-5)


def test_an_interpolating_model_hides_wrong_labels_at_its_last_checkpoint() -> None:
    """Trained until it gives every wrong label, a network's last gradients tell less than the whole training does."""
    subject = control("late-checkpoints")
    recipe = Recipe(type_of(subject), epochs=60, batch_size=50, learning_rate=0.1, momentum=0.9)
    found = measured(replace(subject, checkpoints=(), train=recipe), samples=None, verified="verified")
    assert area(found, "self_influence_auc") > area(found, "last_checkpoint_auc") + 0.01
    assert area(found, "fitted_at_first_checkpoint") < 0.5


def type_of(subject: Subject) -> Any:
    from method_checks.influence.controls.mislabelled import network

    assert str(subject.model) == str(network())
    return network


def test_the_same_seed_gives_the_same_result() -> None:
    """Planted labels, training and scores follow from the seed, and another seed plants others."""
    subject, *_ = small(COSINE)
    first, again, other = (measured(subject, samples=50, seed=seed) for seed in (1, 1, 2))
    for left, right in zip(first, again, strict=True):
        np.testing.assert_array_equal(left.values, right.values)
        np.testing.assert_array_equal(left.negatives, right.negatives)
    name = "self_influence_auc"
    assert not np.array_equal(series(first, name).values, series(other, name).values)


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_planted_labels_are_wrong_and_as_many_as_asked(share: float) -> None:
    """Every planted label differs from the one before, occurs in the data, and the rest is untouched."""
    labels = torch.tensor([2, 5, 9]).repeat(100)
    changed, wrong = with_wrong_labels(labels, share, torch.Generator().manual_seed(0))
    assert int(wrong.sum()) == round(share * 300)
    assert torch.equal(changed != labels, wrong)
    assert set(changed.tolist()) == {2, 5, 9}
    assert changed.dtype == labels.dtype


def test_labels_of_one_class_are_refused() -> None:
    """Where there is one class only, no label can be wrong."""
    rows = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    recipe = Recipe(perceptron, epochs=2, batch_size=20, learning_rate=0.1)
    subject = Subject(
        "one", "tabular-classification", perceptron().eval(), {"train": (rows, torch.ones(40))}, train=recipe
    )
    with pytest.raises(CheckError, match="have the class 1"):
        measured(subject)


@pytest.mark.parametrize(
    ("epochs", "count", "expected"),
    [
        (3, 10, (1, 2, 3)),
        (10, 10, tuple(range(1, 11))),
        (100, 4, (1, 5, 22, 100)),
        (12, 6, (1, 2, 3, 4, 7, 12)),
        (9, 1, (9,)),
    ],
)
def test_checkpoints_lie_densely_at_the_start(epochs: int, count: int, expected: Sequence[int]) -> None:
    """The first and the last epoch are kept, as many as were asked for, and ever farther apart."""
    assert spread_epochs(epochs, count) == expected


def test_suspects_are_listed_by_number_and_planted_ones_are_not() -> None:
    """A label that was wrong before is shown with its number; labels that the check itself planted are not."""
    subject = control("digits-network")
    images, labels = (each.clone() for each in subject.split("train").take(range(1500)))  # type: ignore[union-attr]
    labels[:5] = (labels[:5] + 5) % 10
    dirty = replace(subject, data={"train": (images, labels)})
    found = measured(dirty, samples=None, planted=0.05, listed=20)
    pictures = found.pictures["suspects"]
    numbers = [int(title.split(":")[0].removeprefix("train ")) for title in pictures.rows]
    assert len(set(numbers) & set(range(5))) >= 4
    assert pictures.values.shape == (20, 1, 8, 8)
    for number, title in zip(numbers, pictures.rows, strict=True):
        assert f"labelled {int(labels[number])}" in title


def test_tables_show_losses_and_class_names() -> None:
    """Where there is nothing to look at, the loss at each checkpoint is shown, and classes have their names."""
    subject, *_ = small(COSINE)
    pictures = measured(replace(subject, classes=("red", "green", "blue")), listed=3).pictures["suspects"]
    assert pictures.values.shape == (3, 1, 6)
    assert any(name in pictures.rows[0] for name in ("red", "green", "blue"))
    assert not measured(subject, listed=0).pictures


def test_checkpoints_alone_give_a_list_and_no_verdict() -> None:
    """Without a recipe and without verified labels nobody knows which labels are wrong: inconclusive, with suspects."""
    subject = control("verified-labels")
    found = measured(subject, samples=300)
    assert judged(found).outcome is Outcome.INCONCLUSIVE
    assert found.pictures["suspects"].rows
    assert series(found, "checkpoints").values.tolist() == [6]


def test_a_verified_split_of_other_examples_is_refused() -> None:
    """Labels are compared example by example, so the inputs must be the same."""
    subject = control("verified-labels")
    images, labels = subject.split("verified").take(range(1500))
    assert isinstance(images, Tensor)
    for others in ((images.flip(0), labels), (images[:700], labels[:700])):
        wrong = replace(subject, data={**subject.data, "verified": others})
        with pytest.raises(CheckError, match="do not hold the same inputs"):
            measured(wrong, samples=100, verified="verified")


def test_it_does_not_apply_without_labels_or_checkpoints() -> None:
    """A subject with a mere model, and a language model, are told why."""
    subject = control("digits-network")
    assert "recipe" in SelfInfluence().not_applicable(replace(subject, train=None))
    assert "recipe" in SelfInfluence().not_applicable(replace(subject, train=lambda *_: subject.model))
    text = replace(subject, task="text-generation")
    assert "task has none" in SelfInfluence().not_applicable(text)
    assert not SelfInfluence().not_applicable(subject)


def test_checkpoints_that_are_not_numbers_are_refused() -> None:
    """A training that diverged is no evidence."""
    subject, *_ = small(Recipe(perceptron, epochs=6, batch_size=20, learning_rate=0.2))
    diverged = Checkpoint(lambda: {name: part * torch.nan for name, part in subject.model.state_dict().items()}, 0.1)
    with pytest.raises(CheckError, match="checkpoint 1 of 1 are NaN"):
        measured(replace(subject, train=None, checkpoints=[diverged]))


def test_passes_count_every_checkpoint() -> None:
    """The announced cost is a pass through the model, one forward and backward through each checkpoint, and a training that is followed."""
    subject, *_ = small(COSINE)
    followed, given = (
        SelfInfluence().passes(subject, 50),
        SelfInfluence(verified="v").passes(control("verified-labels"), 100),
    )
    assert (followed.backward, followed.trainings) == (6 * 50 + COSINE.epochs * 50, 1)
    assert (given.backward, given.trainings) == (600, 0)


def test_the_docstring_is_a_page() -> None:
    """All sections are there, and every gate is one of the quantities."""
    assert SelfInfluence.page().missing == ()
    assert all(SelfInfluence.quantity(gate) for gate in SelfInfluence.gates)


def test_importing_the_check_loads_neither_torch_nor_scikit_learn() -> None:
    """Listing checks and building pages stay fast."""
    module = "method_checks.influence.self_influence"
    code = f"import sys, {module}; print(sorted({{'torch', 'sklearn', 'scipy'}} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "[]"

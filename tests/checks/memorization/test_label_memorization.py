"""Label memorisation: the five proofs, and what must never pass."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.stats import binomtest, spearmanr
from torch import Tensor, nn

from method_cards import judge
from method_cards.card import CheckBinding
from method_cards.check import Context
from method_cards.errors import CheckError
from method_cards.judge import Judged
from method_cards.measurement import Measurements, Series
from method_cards.subject import Subject
from method_cards.verdict import Outcome
from method_checks.memorization.controls import recipes
from method_checks.memorization.label_memorization import LabelMemorization
from method_checks.memorization.labels.counterfactual import lower_bounds, reliability, scores, standard_error
from method_checks.memorization.labels.planting import planted
from method_checks.memorization.shadows.ensemble import shadows
from tests.helpers import binding, criterion

GATES = [criterion("recipe_gap", at_most=0.1), criterion("standard_error", at_most=0.18)]
FEW_MEMORISED = CheckBinding.model_validate(
    binding(LabelMemorization.id, [criterion("memorized_share", at_most=0.1)], GATES)
)
NOT_LEARNED = CheckBinding.model_validate(
    binding(LabelMemorization.id, [criterion("planted_memorization", at_most=0.4)], GATES, planted=0.1)
)


def measured(subject: Subject, *, samples: int | None = 400, seed: int = 0, **parameters: Any) -> Measurements:
    check = LabelMemorization(**parameters)
    found = Measurements()
    for yielded in check.measure(subject, Context(subject, samples, seed, scope=check.id)):
        found.add(yielded)
    return found


def series(found: Measurements, name: str) -> Series:
    return found.select(name, {})[0]


@cache
def control(name: str) -> Subject:
    return next(item for item in LabelMemorization.controls() if item.name == name).build(0)


@cache
def of_control(name: str, planted: float = 0.0) -> Measurements:
    return measured(control(name), planted=planted)


def judged(name: str, wanted: CheckBinding) -> Judged:
    return judge.judge(wanted, of_control(name, wanted.parameters.get("planted", 0.0)), complete=True)


@pytest.mark.parametrize("wanted", [FEW_MEMORISED, NOT_LEARNED], ids=["own-labels", "planted-labels"])
def test_the_regularised_recipe_passes(wanted: CheckBinding) -> None:
    """A short training with weight decay learns neither the noise in its labels nor planted labels."""
    assert judged("regularised-recipe", wanted).outcome is Outcome.PASSED


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("overfitted-recipe", FEW_MEMORISED), ("learns-what-is-planted", NOT_LEARNED)],
    ids=["own-labels", "planted-labels"],
)
def test_the_overfitted_recipe_of_the_same_architecture_fails(name: str, wanted: CheckBinding) -> None:
    """A long training knows labels by heart, those of the data and those that are planted."""
    result = judged(name, wanted)
    assert result.outcome is Outcome.FAILED
    assert result.criteria[0].outcome is Outcome.FAILED
    assert all(gate.outcome is Outcome.PASSED for gate in result.gates)


def test_another_recipe_is_no_evidence() -> None:
    """Models that were hardly trained memorise nothing, which says nothing about a model that knows its labels by heart."""
    result = judged("another-recipe", FEW_MEMORISED)
    assert result.outcome is Outcome.INVALID
    assert [gate.measurement for gate in result.gates if gate.outcome is Outcome.FAILED] == ["recipe_gap"]
    assert result.criteria[0].outcome is Outcome.PASSED


def test_every_control_is_used_here() -> None:
    """No control is left untested by the tests above."""
    assert len(LabelMemorization.controls()) == 4


def test_labels_that_were_made_wrong_have_the_highest_scores() -> None:
    """In the overfitted control, the labels that the noise replaced are those that can only be learned by heart."""
    subject = control("overfitted-recipe")
    context = Context(subject, 400, 0, scope=LabelMemorization.id)
    found = shadows(context, subject, "train", "test", 32)
    rows, labels = subject.split("train").take(context.indices("train"))
    others, other_labels = subject.split("test").take(context.indices("test"))
    assert isinstance(rows, Tensor)
    assert isinstance(others, Tensor)
    score = scores(found.correct.numpy(), found.membership.numpy())
    rows, labels = torch.cat([rows, others]), torch.cat([labels, other_labels])
    centres = torch.stack([rows[labels == label].mean(0) for label in range(recipes.CLASSES)])
    wrong = (torch.cdist(rows, centres).argmin(1) != labels).numpy()
    assert score[wrong].mean() > 0.7
    assert score[~wrong].mean() < 0.3
    assert spearmanr(score, wrong).statistic > 0.5


def test_agrees_with_a_slow_implementation() -> None:
    """Shares counted model by model, SciPy's exact binomial limits, NumPy's correlation: the same numbers."""
    rng = np.random.default_rng(0)
    trained_on = np.zeros((16, 30), dtype=bool)
    for pair in range(8):
        trained_on[2 * pair, rng.permutation(30)[:15]] = True
        trained_on[2 * pair + 1] = ~trained_on[2 * pair]
    correct = rng.random((16, 30)) < np.where(trained_on, 0.9, rng.random(30))
    correct[:, 0], correct[:, 1] = trained_on[:, 0], ~trained_on[:, 1]
    found, least = scores(correct, trained_on), lower_bounds(correct, trained_on, 0.95)
    halves: list[list[float]] = [[], []]
    for example in range(30):
        inside = [bool(correct[model, example]) for model in range(16) if trained_on[model, example]]
        outside = [bool(correct[model, example]) for model in range(16) if not trained_on[model, example]]
        assert found[example] == pytest.approx(sum(inside) / len(inside) - sum(outside) / len(outside))
        low = binomtest(sum(inside), len(inside), alternative="greater").proportion_ci(0.975).low
        high = binomtest(sum(outside), len(outside), alternative="less").proportion_ci(0.975).high
        assert least[example] == pytest.approx(low - high, abs=1e-12)
        for number, part in enumerate((range(8), range(8, 16))):
            own = [correct[model, example] for model in part if trained_on[model, example]]
            rest = [correct[model, example] for model in part if not trained_on[model, example]]
            halves[number].append(float(np.mean(own) - np.mean(rest)))
    assert (found[0], found[1]) == (1, -1)
    assert reliability(correct, trained_on) == pytest.approx(np.corrcoef(halves[0], halves[1])[0, 1])
    assert standard_error(trained_on) == pytest.approx((0.25 / 8 + 0.25 / 8) ** 0.5)


class Dictionary(nn.Module):
    """The label of a stored row, and class 2 for all other rows."""

    def __init__(self, rows: Tensor, labels: Tensor) -> None:
        super().__init__()
        self.rows = nn.Parameter(rows.clone())
        self.register_buffer("labels", labels.clone())

    def forward(self, x: Tensor) -> Tensor:
        distance, place = torch.cdist(x, self.rows, compute_mode="donot_use_mm_for_euclid_dist").min(1)
        known = torch.where(distance < 1e-3, self.get_buffer("labels")[place], 2)
        return 5 * nn.functional.one_hot(known, 3).float()


def looked_up(inputs: Tensor | dict[str, Tensor], targets: Tensor, seed: int) -> nn.Module:
    assert isinstance(inputs, Tensor)
    return Dictionary(inputs, targets).eval()


def test_the_scores_of_a_dictionary_are_known() -> None:
    """A model that stores its rows and says "2" to all others memorises just the labels that are not 2."""
    generator = torch.Generator().manual_seed(0)
    rows, labels = 10 * torch.randn(120, 4, generator=generator), torch.randint(3, (120,), generator=generator)
    data = {"train": (rows[:60], labels[:60]), "test": (rows[60:], labels[60:])}
    subject = Subject("dictionary", "tabular-classification", looked_up(*data["train"], 0), data, train=looked_up)
    found = measured(subject, samples=None)
    context = Context(subject, None)
    known = torch.cat([labels[:60][list(context.indices("train"))], labels[60:][list(context.indices("test"))]]) < 2
    np.testing.assert_array_equal(series(found, "memorized_share").values, known.numpy())
    np.testing.assert_array_equal(series(found, "held_out_accuracy").values, ~known.numpy())
    assert np.abs(series(found, "recipe_gap").values).max() == 0
    assert series(found, "split_half_reliability").values[0] == pytest.approx(1)
    planted_too = series(measured(subject, samples=None, planted=0.3), "planted_memorization").values
    assert set(planted_too) <= {0.0, 1.0}
    assert 0.4 < planted_too.mean() < 0.9


def test_the_interval_is_honest() -> None:
    """At a score that is exactly the margin, at most one example in twenty is counted as memorised."""
    rng = np.random.default_rng(0)
    trained_on = np.arange(32)[:, None] % 2 == 0
    for inside, outside in ((0.65, 0.4), (1.0, 0.75), (0.25, 0.0)):
        correct = rng.random((32, 20_000)) < np.where(trained_on, inside, outside)
        counted = lower_bounds(correct, np.broadcast_to(trained_on, correct.shape), 0.95) > inside - outside
        assert counted.mean() <= 0.05


def test_a_recipe_that_memorises_nothing_scores_zero_and_not_above() -> None:
    """Scores are not cut off at zero: where membership does not matter, they are 0 on average and negative half of the time."""
    rng = np.random.default_rng(0)
    trained_on = np.repeat(np.arange(32)[:, None] % 2 == 0, 2000, axis=1)
    score = scores(rng.random((32, 2000)) < 0.6, trained_on)
    assert abs(score.mean()) < 0.02
    assert 0.35 < (score < 0).mean() < 0.5


def test_planted_labels_are_wrong_and_as_many_as_asked_for() -> None:
    """A tenth of the labels is replaced, each by another class of the data, and the rest stays."""
    labels = torch.tensor([3, 5, 9]).repeat(100)
    wrong, chosen = planted(labels, torch.tensor([3, 5, 9]), 0.1, torch.Generator().manual_seed(0))
    assert int(chosen.sum()) == 30
    assert torch.equal(wrong != labels, chosen)
    assert set(wrong.tolist()) == {3, 5, 9}


def test_planting_is_measured_on_planted_labels_alone() -> None:
    """Planted and own labels are counted apart, and together they are the pool."""
    found = of_control("learns-what-is-planted", 0.1)
    counts = [series(found, name).n for name in ("planted_memorization", "memorized_share", "held_out_accuracy")]
    assert counts == [40, 360, 360]
    assert series(of_control("overfitted-recipe"), "planted_memorization").n == 0


def test_the_same_seed_gives_the_same_result() -> None:
    """Every measured number follows from the subject and the seed, and another seed trains other models."""
    subject = control("regularised-recipe")
    first, again, other = (measured(subject, samples=80, seed=seed, models=8, planted=0.2) for seed in (1, 1, 2))
    for left, right in zip(first, again, strict=True):
        np.testing.assert_array_equal(left.values, right.values)
    assert not np.array_equal(
        series(first, "planted_memorization").values, series(other, "planted_memorization").values
    )


def test_too_few_examples_decide_nothing() -> None:
    """With ten members and ten non-members the verdict is inconclusive, not passed."""
    found = measured(control("regularised-recipe"), samples=10, models=32)
    assert judge.judge(FEW_MEMORISED, found, complete=True).outcome is Outcome.INCONCLUSIVE


def test_few_models_give_no_verdict() -> None:
    """Eight models leave a standard error of 0.35, at which no score means anything."""
    found = measured(control("overfitted-recipe"), samples=100, models=8)
    assert judge.judge(FEW_MEMORISED, found, complete=True).outcome is Outcome.INVALID


def test_training_that_ignores_its_examples_is_refused() -> None:
    """A training function that always returns the same model cannot be asked what it memorises."""
    subject = control("overfitted-recipe")
    idle = Subject("idle", subject.task, subject.model, subject.data, train=lambda *_: subject.model)
    with pytest.raises(CheckError, match="say the same of every example"):
        measured(idle, samples=40, models=4)


def pictured(inputs: Tensor | dict[str, Tensor], targets: Tensor, seed: int) -> nn.Module:
    """The recipe of the overfitted control, on pictures."""
    assert isinstance(inputs, Tensor)
    return nn.Sequential(nn.Flatten(), *recipes.OVERFIT(inputs.flatten(1), targets, seed).children()).eval()


def test_the_most_memorised_images_are_shown() -> None:
    """Of images, the page shows those with the highest scores, each with its split, number and label."""
    subject = control("overfitted-recipe")
    data = {}
    for name in ("train", "test"):
        inputs, labels = subject.split(name).take(range(60))
        assert isinstance(inputs, Tensor)
        data[name] = inputs.reshape(-1, 1, 4, 8), labels
    images = Subject("images", "image-classification", pictured(*data["train"], 0), data, train=pictured)
    check = LabelMemorization(models=8)
    context = Context(images, None, 0, scope=check.id)
    found = Measurements()
    for yielded in check.measure(images, context):
        found.add(yielded)
    shown = found.pictures["most_memorized"]
    assert shown.values.shape == (8, 1, 4, 8)
    name, _, index, _, label = shown.rows[0].replace(",", "").split()
    rows, labels = data[name]
    np.testing.assert_array_equal(shown.values[0, 0], rows[int(index), 0].numpy())
    assert int(label) == int(labels[int(index)])
    said = shadows(context, images, "train", "test", 8)
    score = scores(said.correct.numpy(), said.membership.numpy())
    drawn = [("train", row) for row in context.indices("train")] + [("test", row) for row in context.indices("test")]
    assert score[drawn.index((name, int(index)))] == score.max()
    assert not of_control("overfitted-recipe").pictures


def test_it_needs_a_way_to_train() -> None:
    """Without a training function the check does not apply; with one class there is no wrong label; the splits differ."""
    subject = control("overfitted-recipe")
    assert LabelMemorization().not_applicable(subject) == ""
    assert "train" in LabelMemorization().not_applicable(
        Subject("untrained", subject.task, subject.model, subject.data)
    )
    rows = torch.randn(40, recipes.COLUMNS)
    same = {"train": (rows, torch.zeros(40).long()), "test": (rows + 1, torch.zeros(40).long())}
    with pytest.raises(CheckError, match="no wrong one to plant"):
        measured(Subject("same", subject.task, subject.model, same, train=subject.train), planted=0.1, models=4)
    with pytest.raises(ValidationError, match="different splits"):
        LabelMemorization(members="a", non_members="a")

"""Gradient drift: the five proofs, what vmap must not change, and what must never pass."""

from __future__ import annotations

import copy
import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.special import rel_entr
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional

from method_cards import judge
from method_cards.catalog import Catalog
from method_cards.check import Context
from method_cards.errors import CheckError
from method_cards.measurement import Measurements, Series
from method_cards.subject import Subject
from method_cards.verdict import Outcome
from method_checks.influence.gradients import TrainedCopy
from method_checks.memorization.controls.language_models import network, part
from method_checks.memorization.drift.classifier import forward_scores
from method_checks.memorization.drift.features import DIRECTIONS, NAMES, Probe, drifts, probe
from method_checks.memorization.gradient_drift import GradientDrift
from method_checks.memorization.sequences.tokens import sequences

CARD = next(item.card for item in Catalog.installed() if item.card.id == "language-model-memorization")
BINDING = next(
    item.check for item in CARD.prescriptions if item.check is not None and item.check.id == GradientDrift.id
)


def measured(
    subject: Subject, *, samples: int | None = 1200, seed: int = 0, batch: int = 64, **parameters: Any
) -> Measurements:
    check = GradientDrift(**parameters)
    found = Measurements()
    for yielded in check.measure(subject, Context(subject, samples, seed, batch, scope=check.id)):
        found.add(yielded)
    return found


def series(found: Measurements, name: str) -> Series:
    return found.select(name, {})[0]


@cache
def control(name: str) -> Subject:
    return next(item for item in GradientDrift.controls() if item.name == name).build(0)


@cache
def measured_control(name: str) -> Measurements:
    return measured(control(name))


def table(count: int = 40, seed: int = 0, columns: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, columns, generator=generator), torch.randint(3, (count,), generator=generator)


def classifier(model: nn.Module, count: int = 40, **options: Any) -> Subject:
    splits = {"train": table(count, 1), "test": table(count, 2)}
    return Subject("table", "tabular-classification", model.eval(), splits, **options)


def layers(*others: nn.Module) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 6), *others, nn.Linear(6, 3)).eval()


def probed(subject: Subject, rows: int = 6, step: float = 0.01) -> tuple[Probe, Any, Tensor]:
    """A probe of the subject's model, and some examples."""
    batch = subject.batch("train", range(rows))
    inputs = sequences(subject, batch).inputs() if subject.task == "text-generation" else batch.inputs
    found = probe(TrainedCopy.of(subject), inputs, batch.targets, step, torch.Generator().manual_seed(1))
    return found, inputs, batch.targets


@pytest.mark.parametrize("name", ["trained-on-other-rows", "memorised-other-texts"])
def test_sound_controls_do_not_fail(name: str) -> None:
    """A classifier and a language model that saw neither split are at one half, with an interval that the bound lies beyond."""
    found = measured_control(name)
    assert judge.judge(BINDING, found, complete=True).outcome is Outcome.PASSED
    interval = judge.interval_of(series(found, "drift_auc"), 0.99)
    assert interval.low < 0.5 < interval.high


@pytest.mark.parametrize("name", ["overfitted-to-label-noise", "memorised-its-texts"])
def test_defect_controls_fail_by_their_drift(name: str) -> None:
    """What was memorised drifts otherwise, while the classifier that sees no model finds nothing."""
    result = judge.judge(BINDING, measured_control(name), complete=True)
    assert (result.outcome, result.criteria[0].measurement) == (Outcome.FAILED, "drift_auc")
    assert result.gates[0].outcome is Outcome.PASSED


@pytest.mark.parametrize("name", ["overfitted-to-label-noise", "memorised-its-texts"])
def test_the_drift_gains_nothing_over_the_loss_here(name: str) -> None:
    """On both models that memorised, the gain is less than five pairs in a hundred: the finding that the card reports."""
    found = measured_control(name)
    assert abs(judge.interval_of(series(found, "gain_over_loss"), 0.95).estimate) < 0.05
    assert judge.interval_of(series(found, "loss_auc"), 0.95).low > 0.7


def test_a_shift_gives_no_verdict() -> None:
    """The drift of a model that saw neither split tells shifted rows apart; that is not memorisation."""
    found = measured_control("never-saw-either-but-shifted")
    assert judge.interval_of(series(found, "drift_auc"), 0.95).low > 0.55
    assert judge.judge(BINDING, found, complete=True).outcome is Outcome.INVALID


def test_every_control_is_used_here() -> None:
    """No control is left untested by the tests above."""
    assert len(GradientDrift.controls()) == 5


def slow_drifts(given: Probe, inputs: Any, targets: Tensor, layer: str) -> Tensor:
    """One example, one copy of the model and one backward pass after the other; all texts are of one length here."""
    rows = []
    for row, target in enumerate(targets):
        example: Any = (
            {k: v[row : row + 1] for k, v in inputs.items()} if isinstance(inputs, dict) else inputs[row : row + 1]
        )
        model = copy.deepcopy(given.copy.model)
        text = isinstance(inputs, dict)

        def answer(model: nn.Module = model, example: Any = example, *, text: bool = text) -> tuple[Tensor, Tensor]:
            seen: list[Tensor] = []
            handle = model.get_submodule(layer).register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
            logits = model(**example) if text else model(example)
            handle.remove()
            logits = getattr(logits, "logits", logits)
            return (logits[0, :-1] if text else logits).double().log_softmax(-1), seen[0].reshape(
                -1, seen[0].shape[-1]
            ).double()

        goal = example["input_ids"][0, 1:] if text else target[None]
        before, hidden = answer()
        loss = functional.nll_loss(before, goal)
        loss.backward()
        with torch.no_grad():
            parameters = list(model.parameters())
            length = math.sqrt(sum(float(each.square().sum()) for each in parameters))
            norm = math.sqrt(sum(float(each.grad.square().sum()) for each in parameters if each.grad is not None))
            for each in parameters:
                if each.grad is not None:
                    each.add_(given.step * length / norm * each.grad)
            after, moved = answer()
            if text:
                hidden, moved = hidden[:-1], moved[:-1]
            change = moved - hidden
            features = [
                functional.nll_loss(after, goal) - loss,
                torch.from_numpy(rel_entr(before.exp().numpy(), after.exp().numpy())).sum(1).mean(),
                change.norm(dim=1).mean(),
                1 - functional.cosine_similarity(moved, hidden).mean(),
                *(change.mean(0) @ given.directions.double()).abs(),
            ]
        rows.append(torch.stack([feature.detach().clamp(min=1e-12).log() for feature in features]))
    return torch.stack(rows)


def test_agrees_with_a_slow_implementation_on_a_classifier() -> None:
    """Twelve numbers for each row are those of a copy of the model that is changed in place, one row after the other."""
    given, inputs, targets = probed(classifier(layers(nn.Tanh())))
    assert (given.way, given.layer) == ("vmap", "2")
    torch.testing.assert_close(
        drifts(given, inputs, targets), slow_drifts(given, inputs, targets, "2"), rtol=1e-3, atol=1e-3
    )
    assert drifts(given, inputs, targets).shape == (6, len(NAMES))
    assert len(NAMES) == 4 + DIRECTIONS


def test_agrees_with_a_slow_implementation_on_a_transformers_model() -> None:
    """The same of a model that the transformers library builds, whose output layer shares its weights with the embedding."""
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(vocab_size=28, n_positions=16, n_embd=16, n_layer=1, n_head=2)).eval()
    full = torch.randint(2, 28, (6, 10), generator=torch.Generator().manual_seed(0))
    texts = {"input_ids": full, "attention_mask": torch.ones_like(full)}
    subject = Subject("gpt", "text-generation", model, {"train": (texts, torch.zeros(6))})
    given, inputs, targets = probed(subject)
    assert given.layer == "lm_head"
    torch.testing.assert_close(
        drifts(given, inputs, targets), slow_drifts(given, inputs, targets, "lm_head"), rtol=1e-3, atol=2e-3
    )


def test_agrees_with_the_closed_form_of_a_linear_model() -> None:
    """For softmax regression the step moves the logits by a multiple of p - y that can be written down."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Linear(4, 3)
    given, inputs, targets = probed(classifier(model), step=0.05)
    weight, bias = model.weight.detach().double(), model.bias.detach().double()
    logits = inputs.double() @ weight.T + bias
    error = logits.softmax(1) - functional.one_hot(targets, 3)
    size = inputs.double().square().sum(1) + 1
    length = (weight.square().sum() + bias.square().sum()).sqrt()
    moved = logits + (0.05 * length * size.sqrt() / error.norm(dim=1))[:, None] * error
    before, after = logits.log_softmax(1), moved.log_softmax(1)
    jump = (before - after).gather(1, targets[:, None])[:, 0]
    divergence = torch.from_numpy(rel_entr(before.exp().numpy(), after.exp().numpy())).sum(1)
    found = drifts(given, inputs, targets)
    torch.testing.assert_close(found[:, 0], jump.log(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found[:, 1], divergence.log(), rtol=1e-3, atol=1e-3)
    assert bool((found[:, 2:] == math.log(1e-12)).all())  # the input itself does not move


def test_the_area_is_that_of_scikit_learn() -> None:
    """The areas are those that scikit-learn gives for the same scores."""
    found = measured_control("memorised-its-texts")
    for name in ("drift_auc", "loss_auc"):
        scored = series(found, name)
        truth = np.repeat([1, 0], [scored.values.size, scored.negatives.size])
        area = roc_auc_score(truth, np.concatenate([scored.values, scored.negatives]))
        assert judge.interval_of(scored, 0.95).estimate == pytest.approx(area)


def test_the_same_seed_gives_the_same_result_in_batches_of_any_size() -> None:
    """Numbers follow from the subject and the seed, up to rounding whatever the batch; other seeds draw other examples."""
    subject = classifier(layers(nn.Tanh()), 120)
    first, again = (measured(subject, blocks=3) for _ in range(2))
    for left, right in zip(first, again, strict=True):
        np.testing.assert_array_equal(left.values, right.values)
    apart = judge.interval_of(series(measured(subject, batch=7, blocks=3), "drift_auc"), 0.95).estimate
    assert apart == pytest.approx(judge.interval_of(series(first, "drift_auc"), 0.95).estimate, abs=0.01)
    other = measured(subject, samples=100, seed=1, blocks=3)
    assert not np.array_equal(
        series(other, "loss_auc").values, series(measured(subject, samples=100, blocks=3), "loss_auc").values
    )


class Counts(nn.Module):
    """A layer that looks at its values, which vmap cannot follow."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x) if x.abs().sum().item() >= 0 else x


def test_what_vmap_cannot_follow_goes_one_by_one() -> None:
    """A model with control flow on values gives what the same model without it gives."""
    plain, counting = (probed(classifier(layers(each))) for each in (nn.Tanh(), Counts()))
    assert (plain[0].way, counting[0].way) == ("vmap", "loop")
    torch.testing.assert_close(drifts(*plain), drifts(*counting), rtol=1e-3, atol=1e-3)


def test_batch_norm_dropout_and_operations_in_place_change_nothing() -> None:
    """In evaluation mode examples do not see each other, whatever the layers do in training."""
    norm = nn.BatchNorm1d(6)
    norm.running_mean, norm.running_var = torch.linspace(-1, 1, 6), torch.linspace(0.5, 2, 6)
    given, inputs, targets = probed(classifier(layers(norm, nn.ReLU(inplace=True), nn.Dropout(0.5))))
    together = drifts(given, inputs, targets)
    alone = torch.cat([drifts(given, inputs[row : row + 1], targets[row : row + 1]) for row in range(6)])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-3)


def test_padding_changes_nothing() -> None:
    """Texts of different lengths drift as each does without padding."""
    texts = part(3, 1, 6)
    subject = Subject("texts", "text-generation", network(3), {"train": (texts, torch.zeros(6))})
    given, inputs, targets = probed(subject)
    assert given.way == "vmap"
    found = drifts(given, inputs, targets)
    for row, length in enumerate(texts["attention_mask"].sum(1).tolist()):
        cut = {name: each[row : row + 1, :length] for name, each in texts.items()}
        torch.testing.assert_close(drifts(given, cut, targets[:1])[0], found[row], rtol=1e-3, atol=5e-3)


def test_a_gradient_of_zero_is_no_step() -> None:
    """An example that a model is certain of has no gradient; nothing moves, and nothing is NaN."""
    model = nn.Linear(4, 3)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.copy_(torch.tensor([5000.0, 0.0, 0.0]))
    given, inputs, _ = probed(classifier(model))
    assert bool((drifts(given, inputs, torch.zeros(6, dtype=torch.long)) == math.log(1e-12)).all())


def test_pictures_and_padded_texts_have_a_hidden_activation() -> None:
    """A convolution may come last, and a classifier of texts drifts as it does without padding."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        convolutions = nn.Sequential(
            nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 3, 3), MeanOverPlaces()
        ).eval()
        pooled = Pooled().eval()
    images = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1, 2])
    given, inputs, targets = probed(Subject("images", "image-classification", convolutions, {"train": images}))
    assert (given.way, given.layer) == ("vmap", "3")
    assert bool(torch.isfinite(drifts(given, inputs, targets)).all())
    texts = part(3, 1, 6)
    wider = {name: functional.pad(each, (0, 4)) for name, each in texts.items()}
    subjects = [
        Subject("texts", "text-classification", pooled, {"train": (each, images[1])}) for each in (texts, wider)
    ]
    found = [drifts(*probed(subject)) for subject in subjects]
    assert found[0].shape == (6, len(NAMES))
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-3)


class MeanOverPlaces(nn.Module):
    """Logits of a picture from those of its places."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class Pooled(nn.Module):
    """A classifier of texts whose last layer works on each token by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.classes = nn.Embedding(28, 6), nn.Linear(6, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        kept = attention_mask[:, :, None].float()
        out: Tensor = (self.classes(torch.tanh(self.tokens(input_ids))) * kept).sum(1) / kept.sum(1)
        return out


def test_half_precision_is_refused() -> None:
    """A small step would be lost in rounding."""
    with pytest.raises(CheckError, match="half precision"):
        probed(classifier(layers(nn.Tanh()).bfloat16()))


def test_frozen_parameters_do_not_move() -> None:
    """Only what training changes is changed: with a frozen first layer the hidden activation stays where it was."""
    model = layers(nn.Tanh())
    assert isinstance(model, nn.Sequential)
    model[0].requires_grad_(requires_grad=False)
    given, inputs, targets = probed(classifier(model))
    found = drifts(given, inputs, targets)
    assert bool((found[:, 2:] == math.log(1e-12)).all())
    assert bool((found[:, 0] > math.log(1e-6)).all())


def test_scores_of_noise_are_at_one_half() -> None:
    """No example is scored by a classifier that saw it: over many draws noise is at one half, and what differs is found."""
    rng = np.random.default_rng(0)

    def area(shift: float) -> float:
        groups = rng.normal(size=(2, 80, 12))
        groups[0] += shift
        parts = list(forward_scores(groups[0], groups[1], 8))
        assert [each[0] for each in parts] == [slice(start, start + 10) for start in range(10, 80, 10)]
        members, non_members = (np.concatenate([each[place] for each in parts]) for place in (1, 2))
        return float(roc_auc_score(np.repeat([1, 0], 70), np.concatenate([members, non_members])))

    assert np.mean([area(0.0) for _ in range(30)]) == pytest.approx(0.5, abs=0.02)
    assert area(1.0) > 0.9


def test_the_gain_is_counted_over_pairs() -> None:
    """Each scored member is compared with one non-member, by the drift and by the loss of the same two."""
    found = measured(classifier(layers(nn.Tanh()), 120))
    drift, loss, gain = (series(found, name) for name in ("drift_auc", "loss_auc", "gain_over_loss"))
    expected = (np.sign(drift.values - drift.negatives) - np.sign(loss.values - loss.negatives)) / 2
    np.testing.assert_array_equal(gain.values, expected)
    assert gain.n == loss.n == 105


def test_few_examples_decide_nothing() -> None:
    """With four examples of each split the verdict is inconclusive, not passed."""
    assert (
        judge.judge(BINDING, measured(classifier(layers(nn.Tanh()), 4)), complete=True).outcome is Outcome.INCONCLUSIVE
    )


def test_models_that_show_nothing_are_refused() -> None:
    """Equal losses, NaN losses and exchanged splits say nothing about the model."""
    constant, broken = nn.Linear(4, 3), nn.Linear(4, 3)
    nn.init.zeros_(constant.weight)
    nn.init.zeros_(constant.bias)
    nn.init.constant_(broken.weight, math.nan)
    with pytest.raises(CheckError, match="for all 80 examples"):
        measured(classifier(constant))
    with pytest.raises(CheckError, match="NaN or infinite"):
        measured(classifier(broken))
    guilty = control("overfitted-to-label-noise")
    swapped = {"train": guilty.split("test"), "test": guilty.split("train")}
    with pytest.raises(CheckError, match="are the splits exchanged"):
        measured(Subject("swapped", guilty.task, guilty.model, swapped))


def test_the_model_is_left_as_it_was_and_the_passes_are_announced() -> None:
    """Steps are taken on copies, and the announced cost is that of the drawn examples."""
    subject = classifier(layers(nn.Tanh()))
    before = subject.parameters_sha256(), [each.grad for each in subject.model.parameters()]
    counted: list[int] = []
    check = GradientDrift()
    list(check.measure(subject, Context(subject, 30, on_examples=counted.append)))
    assert (subject.parameters_sha256(), [each.grad for each in subject.model.parameters()]) == before
    passes = check.passes(subject, 30)
    assert (passes.forward, passes.backward) == (3 * sum(counted), sum(counted)) == (180, 60)


def test_it_applies_where_there_is_a_loss() -> None:
    """Classifiers and language models have a loss for each example; feature extractors have none."""
    assert GradientDrift().not_applicable(classifier(layers(nn.Tanh()))) == ""
    images = (torch.zeros(4, 3, 8, 8), torch.zeros(4))
    extractor = Subject("features", "image-feature-extraction", nn.Flatten().eval(), {"train": images})
    assert "image-feature-extraction" in GradientDrift().not_applicable(extractor)
    for wrong in ({"members": "test"}, {"step": 0}, {"layer": "last"}):
        with pytest.raises(ValidationError):
            GradientDrift.model_validate(wrong)

"""Membership inference: the five proofs, and what must never pass."""

from __future__ import annotations

import math
import subprocess
import sys
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score, roc_curve
from torch import Tensor, nn

from method_cards import judge
from method_cards.card import CheckBinding
from method_cards.check import Context
from method_cards.errors import CheckError
from method_cards.judge import Judged
from method_cards.measurement import Measurements, Series
from method_cards.subject import Subject
from method_cards.verdict import Outcome
from method_checks.memorization.groups.refusals import shared_beyond_chance
from method_checks.memorization.groups.threshold import guesses, non_members_needed, threshold_at
from method_checks.memorization.membership_inference import MembershipInference
from tests.helpers import binding, criterion

GATE = criterion("blind_auc", at_most=0.55)
BINDING = CheckBinding.model_validate(
    binding(MembershipInference.id, [criterion("membership_auc", at_most=0.55)], [GATE])
)


def measured(subject: Subject, *, samples: int | None = 1500, seed: int = 0, **parameters: Any) -> Measurements:
    check = MembershipInference(**{"blind_blocks": 4, **parameters})
    found = Measurements()
    for yielded in check.measure(subject, Context(subject, samples, seed, scope=check.id)):
        found.add(yielded)
    return found


def series(found: Measurements, name: str) -> Series:
    return found.select(name, {})[0]


def judged(subject: Subject, **options: Any) -> Judged:
    return judge.judge(BINDING, measured(subject, **options), complete=True)


@cache
def control(name: str, seed: int = 0) -> Subject:
    return next(item for item in MembershipInference.controls() if item.name == name).build(seed)


def linear(members: Any, non_members: Any, model: nn.Module | None = None) -> Subject:
    """A small untrained model over two splits."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        chosen = nn.Linear(4, 3) if model is None else model
    return Subject("linear", "tabular-classification", chosen.eval(), {"train": members, "test": non_members})


def table(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 4, generator=generator), torch.randint(3, (count,), generator=generator)


@pytest.mark.parametrize("name", ["trained-on-other-rows", "regularised-linear-model"])
def test_sound_controls_pass(name: str) -> None:
    """A model that saw neither split, and a small one that saw plenty of data, pass."""
    assert judged(control(name)).outcome is Outcome.PASSED


@pytest.mark.parametrize("name", ["overfitted-to-label-noise", "memorised-random-labels"])
def test_defect_controls_fail_because_their_losses_differ(name: str) -> None:
    """A network that memorised its labels fails by the area of its losses, while the blind classifier finds nothing."""
    result = judged(control(name))
    assert result.outcome is Outcome.FAILED
    assert (result.criteria[0].measurement, result.criteria[0].outcome) == ("membership_auc", Outcome.FAILED)
    assert result.gates[0].outcome is Outcome.PASSED


def test_the_control_with_a_high_true_positive_rate_fails_because_of_it() -> None:
    """A network that fitted every row on its own is found at one false positive in a hundred."""
    found = measured(control("memorised-row-by-row"))
    assert judge.decide(criterion_on("true_positive_rate"), found, complete=True).outcome is Outcome.FAILED
    assert judge.decide(BINDING.valid_if[0], found, complete=True).outcome is Outcome.PASSED


@pytest.mark.parametrize("name", ["never-saw-either-but-shifted", "digits-in-file-order"])
def test_confounded_controls_are_invalid_whatever_the_model_did(name: str) -> None:
    """Where members and non-members differ without the model, no verdict is given, be the model innocent or overfitted."""
    result = judged(control(name))
    assert result.outcome is Outcome.INVALID
    assert result.gates[0].outcome is Outcome.FAILED


def test_every_control_is_used_here() -> None:
    """No control is left untested by the tests above."""
    assert {item.kind for item in MembershipInference.controls()} == {"sound", "defect", "confounded"}
    assert len(MembershipInference.controls()) == 7


def test_agrees_with_a_slow_implementation() -> None:
    """Losses by hand, the area by counting all pairs, the threshold by trying all scores: the same numbers."""
    subject = linear(table(60, 1), table(50, 2))
    found = measured(subject, samples=40, false_positive_rate=0.1)
    parameters = [tensor.tolist() for tensor in subject.model.state_dict().values()]
    scores = {}
    for split in ("train", "test"):
        inputs, targets = subject.split(split).take(Context(subject, 40, 0).indices(split))
        assert isinstance(inputs, Tensor)
        scores[split] = [
            -slow_loss(parameters, row, int(target)) for row, target in zip(inputs.tolist(), targets, strict=True)
        ]
    pairs = [(member > other) + 0.5 * (member == other) for member in scores["train"] for other in scores["test"]]
    assert judge.interval_of(series(found, "membership_auc"), 0.95).estimate == pytest.approx(sum(pairs) / len(pairs))
    calibration, counted = scores["test"][0::2], scores["test"][1::2]
    allowed = [
        bar for bar in calibration if (sum(score >= bar for score in calibration)) / (len(calibration) + 1) <= 0.1
    ]
    guesses = [score > min(allowed) + 1e-6 for score in scores["train"]]
    np.testing.assert_array_equal(series(found, "true_positive_rate").values, guesses)
    np.testing.assert_array_equal(
        series(found, "false_positive_rate").values, [score > min(allowed) for score in counted]
    )


def slow_loss(parameters: list[Any], row: list[float], target: int) -> float:
    weight, bias = parameters
    logits = [sum(w * x for w, x in zip(line, row, strict=True)) + b for line, b in zip(weight, bias, strict=True)]
    return -math.log(math.exp(logits[target]) / sum(math.exp(logit) for logit in logits))


def test_agrees_with_scikit_learn() -> None:
    """The area is scikit-learn's, and the true-positive rate is a point of its curve against the calibration half."""
    found = measured(control("overfitted-to-label-noise"), samples=400, false_positive_rate=0.05)
    scored = series(found, "membership_auc")
    truth = np.repeat([1, 0], [scored.values.size, scored.negatives.size])
    area = judge.interval_of(scored, 0.95).estimate
    assert area == pytest.approx(roc_auc_score(truth, np.concatenate([scored.values, scored.negatives])))
    half = scored.negatives[::2]
    false, true, _ = roc_curve(
        np.repeat([1, 0], [scored.values.size, half.size]),
        np.concatenate([scored.values, half]),
        drop_intermediate=False,
    )
    allowed = math.floor(0.05 * (half.size + 1)) - 1
    assert series(found, "true_positive_rate").values.mean() == pytest.approx(
        true[np.round(false * half.size) == allowed].max()
    )


def test_the_same_seed_gives_the_same_result() -> None:
    """Every measured number follows from the subject and the seed, and another seed draws other examples."""
    subject = control("trained-on-other-rows")
    first, again, other = (measured(subject, samples=200, seed=seed) for seed in (1, 1, 2))
    for left, right in zip(first, again, strict=True):
        np.testing.assert_array_equal(left.values, right.values)
        np.testing.assert_array_equal(left.negatives, right.negatives)
    assert not np.array_equal(series(first, "membership_auc").values, series(other, "membership_auc").values)


def test_a_fresh_non_member_rarely_exceeds_the_threshold() -> None:
    """Over many draws a fresh non-member exceeds the threshold with the probability that was asked for, not more."""
    rng = np.random.default_rng(0)
    rates = [np.mean(rng.exponential(size=2000) > threshold_at(rng.exponential(size=120), 0.02)) for _ in range(500)]
    assert np.mean(rates) == pytest.approx(2 / 121, abs=0.002)


def test_the_threshold_needs_enough_non_members() -> None:
    """With 98 non-members no threshold holds 1 %; with 99 it is the largest of them; ties lie below it."""
    assert threshold_at(np.arange(98.0), 0.01) == math.inf
    assert threshold_at(np.arange(99.0), 0.01) == 98
    assert threshold_at(np.zeros(99), 0.01) == 0


def test_too_few_non_members_leave_the_rates_undecided() -> None:
    """A criterion on a rate that no threshold can be found for is inconclusive: more samples would decide it."""
    found = measured(linear(table(100, 1), table(100, 2)))
    result = judge.decide(criterion_on("true_positive_rate"), found, complete=True)
    assert (result.outcome, series(found, "true_positive_rate").n) == (Outcome.INCONCLUSIVE, 0)
    assert series(found, "membership_auc").n == 100
    assert result.samples_needed == 197
    more = measured(linear(table(100, 1), table(197, 2)))
    assert series(more, "true_positive_rate").n == 100


@pytest.mark.parametrize("rate", [0.1, 0.01, 0.001, 0.03])
def test_the_number_that_is_asked_for_is_the_smallest_that_will_do(rate: float) -> None:
    """With the number of non-members that is said to be needed there is a threshold; with one less there is none."""
    needed = non_members_needed(rate)
    assert guesses(np.zeros(1), np.arange(needed, dtype=float), rate)[0].size == 1
    assert guesses(np.zeros(1), np.arange(needed - 1, dtype=float), rate)[0].size == 0


def criterion_on(name: str) -> Any:
    return CheckBinding.model_validate(
        binding(MembershipInference.id, [criterion(name, at_most=0.05)], [GATE])
    ).criteria[0]


def test_one_example_decides_nothing() -> None:
    """With a single example of each split the verdict is inconclusive, not passed."""
    assert judged(linear(table(1, 1), table(1, 2))).outcome is Outcome.INCONCLUSIVE


def test_rates_are_measured_on_all_members_and_half_of_the_non_members() -> None:
    """Splits of different sizes are used up: every drawn member is judged, every second drawn non-member."""
    found = measured(linear(table(150, 1), table(401, 2)), samples=None)
    sizes = {
        name: series(found, name).values.size
        for name in ("membership_auc", "true_positive_rate", "false_positive_rate")
    }
    assert sizes == {"membership_auc": 150, "true_positive_rate": 150, "false_positive_rate": 200}
    assert series(found, "membership_auc").negatives.size == 401


def test_nan_losses_are_refused() -> None:
    """A model that gives NaN cannot be measured."""
    model = nn.Linear(4, 3)
    nn.init.constant_(model.weight, math.nan)
    with pytest.raises(CheckError, match="NaN or infinite"):
        measured(linear(table(40, 1), table(40, 2), model))


def test_constant_losses_are_refused() -> None:
    """A model whose loss is the same for every example has not shown that it is private."""
    model = nn.Linear(4, 3)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    with pytest.raises(CheckError, match="for all 80 examples"):
        measured(linear(table(40, 1), table(40, 2), model))


def test_overlapping_splits_are_refused() -> None:
    """Non-members that are members, even a tenth of them and with other labels, cannot be judged."""
    members, others = table(200, 1), table(200, 2)
    with pytest.raises(CheckError, match="200 of 200 drawn examples"):
        measured(linear(members, members))
    overlapping = torch.cat([members[0][:20], others[0][20:]]), others[1]
    with pytest.raises(CheckError, match='remove from "test"'):
        measured(linear(members, overlapping))


def test_overlap_is_found_whatever_the_type_and_repetition() -> None:
    """Neither double precision nor members that stand in their split twice hide that the same examples stand in both."""
    inputs, labels = table(200, 1)
    with pytest.raises(CheckError, match="200 of 200 drawn examples"):
        measured(linear((inputs, labels), (inputs.double(), labels), Rounding()))
    twice = torch.cat([inputs, inputs]), torch.cat([labels, labels])
    with pytest.raises(CheckError, match="200 of 200 drawn examples"):
        measured(linear(twice, (inputs, labels)))


class Rounding(nn.Module):
    """A model that takes any precision."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x.float())
        return out


def test_exchanged_splits_are_refused() -> None:
    """A model that knows the non-members better than the members did not pass: splits or labels are mixed up."""
    leaking = control("overfitted-to-label-noise")
    swapped = Subject(
        "swapped", leaking.task, leaking.model, {"train": leaking.split("test"), "test": leaking.split("train")}
    )
    with pytest.raises(CheckError, match="are the splits exchanged"):
        measured(swapped)


def test_data_that_changes_at_each_look_is_refused() -> None:
    """An augmented split is not what the model was trained on, whatever the check would find."""

    class Augmented(torch.utils.data.Dataset[tuple[Tensor, int]]):
        def __len__(self) -> int:
            return 200

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return torch.rand(4), index % 3

    with pytest.raises(CheckError, match="differs each time it is read"):
        measured(linear(Augmented(), table(200, 2)))


def test_natural_repetition_is_no_overlap() -> None:
    """Where the members repeat among themselves, sharing as many examples with the non-members is expected; a few are never refused."""
    rng = np.random.default_rng(0)
    first, second = ([str(number).encode() for number in rng.integers(0, 500, 300)] for _ in range(2))
    assert sum(item in set(first) for item in second) > 50
    assert shared_beyond_chance(first, second) == 0
    assert shared_beyond_chance(list(map(bytes, range(100))), list(map(bytes, range(95, 195)))) == 0
    assert shared_beyond_chance(list(map(bytes, range(100))), list(map(bytes, range(80, 180)))) == 20


def test_the_model_is_left_as_it_was() -> None:
    """Parameters, gradients, modes, hooks and random states are the same before and after."""
    subject = control("trained-on-other-rows")

    def state() -> tuple[Any, ...]:
        modules = list(subject.model.modules())
        return (
            subject.parameters_sha256(),
            [parameter.requires_grad for parameter in subject.model.parameters()],
            [module.training for module in modules],
            [len(module._forward_hooks) for module in modules],
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),  # type: ignore[index]  # noqa: NPY002  (the state that others may use)
        )  # fmt: skip

    before = state()
    measured(subject, samples=100)
    assert state() == before


def test_passes_are_the_examples_that_are_read() -> None:
    """The announced cost is what the run then counts, and no example goes through the model twice."""
    calls: list[int] = []
    subject = linear(table(100, 1), table(300, 2))
    subject.model.register_forward_hook(lambda _module, inputs, _output: calls.append(len(inputs[0])))
    counted: list[int] = []
    check = MembershipInference()
    list(check.measure(subject, Context(subject, 128, on_examples=counted.append)))
    assert check.passes(subject, 128).forward == sum(calls) == sum(counted) == 228


class Unigram(nn.Module):
    """A language model whose logits are a table of token pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 50)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        out: Tensor = self.table(input_ids)
        return out


def test_a_language_model_that_memorised_its_texts_fails() -> None:
    """For text generation the score is the mean token loss: a bigram table that counted the members gives them away."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(50, (2400, 12), generator=generator)
    mask = (torch.arange(12) < torch.randint(6, 13, (2400, 1), generator=generator)).long()
    model = Unigram()
    counts = torch.full((50, 50), 0.1)
    kept = (mask[:1200, 1:] == 1).flatten()
    pairs = torch.stack([ids[:1200, :-1].flatten()[kept], ids[:1200, 1:].flatten()[kept]])
    counts.index_put_((pairs[0], pairs[1]), torch.ones(pairs.shape[1]), accumulate=True)
    model.table.weight.data = counts.log()
    halves = [
        ({"input_ids": ids[part], "attention_mask": mask[part]}, torch.zeros(1200))
        for part in (slice(1200), slice(1200, None))
    ]
    subject = Subject("bigrams", "text-generation", model.eval(), dict(zip(("train", "test"), halves, strict=True)))
    assert judged(subject).outcome is Outcome.FAILED


@pytest.mark.parametrize("score", ["confidence", "margin", "modified-entropy"])
def test_other_scores_agree_with_slow_implementations(score: str) -> None:
    """Each score is its formula, computed from probabilities with the standard library where these do not saturate."""
    subject = linear(table(60, 1), table(50, 2))
    found = series(measured(subject, samples=40, score=score), "membership_auc")
    for split, values in (("train", found.values), ("test", found.negatives)):
        batch = subject.batch(split, Context(subject, 40, 0).indices(split))
        rows = subject.outputs(batch).double().tolist()
        assert values == pytest.approx(
            [slow_score(score, row, target) for row, target in zip(rows, batch.targets.tolist(), strict=True)]
        )


def slow_score(score: str, logits: list[float], target: int) -> float:
    total = sum(math.exp(logit) for logit in logits)
    p = [math.exp(logit) / total for logit in logits]
    others = [index for index in range(len(p)) if index != target]
    if score == "confidence":
        return math.log(p[target] / sum(p[index] for index in others))
    if score == "margin":
        return logits[target] - max(logits[index] for index in others)
    return (1 - p[target]) * math.log(p[target]) + sum(p[index] * math.log(1 - p[index]) for index in others)


def test_the_loss_is_the_confidence_as_long_as_it_does_not_saturate() -> None:
    """The logit-scaled confidence ranks as the loss does; only where losses round to 0 does it still tell examples apart."""
    subject = control("overfitted-to-label-noise")
    loss, confident = (
        judge.interval_of(series(measured(subject, samples=600, score=score), "membership_auc"), 0.95).estimate
        for score in ("loss", "confidence")
    )
    assert confident == pytest.approx(loss, abs=1e-6)
    saturated = Subject("saturated", subject.task, Scaled(subject.model).eval(), subject.data)
    loss, again = (
        judge.interval_of(series(measured(saturated, samples=600, score=score), "membership_auc"), 0.95).estimate
        for score in ("loss", "confidence")
    )
    assert loss < confident - 0.03
    assert again == pytest.approx(confident, abs=0.01)


class Scaled(nn.Module):
    """A model whose logits are so large that most probabilities round to 0 or 1."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = 1000 * self.inner(x)
        return out


def test_the_scores_that_need_a_class_are_not_for_language_models() -> None:
    """Where there are no classes, only the loss applies, and the reason says so."""
    texts = torch.randint(50, (4, 6)), torch.zeros(4, dtype=torch.long)
    subject = Subject("texts", "text-generation", Unigram().eval(), {"train": texts, "test": texts})
    assert MembershipInference().not_applicable(subject) == ""
    assert "`loss` fits every task that has a loss" in MembershipInference(score="margin").not_applicable(subject)


def test_members_must_not_be_their_own_non_members() -> None:
    """Naming one split twice is an error, as is an unknown parameter."""
    with pytest.raises(ValidationError, match='both "test"'):
        MembershipInference(members="test")
    with pytest.raises(ValidationError):
        MembershipInference.model_validate({"shadow_models": 8})


def test_label_noise_that_was_planted_after_the_split_is_not_read_as_membership() -> None:
    """A model that saw neither split tells clean labels from noisy ones; the blind classifier does too, so no verdict is given."""
    innocent = control("trained-on-other-rows")
    clean, seen = innocent.split("train").take(range(1500)), torch.Generator().manual_seed(3)
    inputs, labels = clean
    assert isinstance(inputs, Tensor)
    noisy = torch.where(torch.rand(750, generator=seen) < 0.4, torch.randint(10, (750,), generator=seen), labels[750:])
    data = {"train": (inputs[:750], labels[:750]), "test": (inputs[750:], noisy)}
    result = judged(Subject("noise-after-the-split", innocent.task, innocent.model, data))
    assert result.outcome is Outcome.INVALID
    assert result.criteria[0].outcome is Outcome.FAILED


def test_a_model_that_saw_neither_half_does_not_prove_that_they_are_alike() -> None:
    """On digits in file order an untouched model scores near one half, and the comparison is invalid all the same."""
    ordered = control("digits-in-file-order")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        untouched = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    result = judged(Subject("untouched", ordered.task, untouched, ordered.data))
    assert result.criteria[0].outcome is not Outcome.FAILED
    assert result.outcome is Outcome.INVALID


def test_the_docstring_is_a_page() -> None:
    """All sections are there, and the gate is one of the quantities."""
    assert MembershipInference.page().missing == ()
    assert all(MembershipInference.quantity(gate) for gate in MembershipInference.gates)


def test_importing_the_check_loads_neither_torch_nor_scikit_learn() -> None:
    """Listing checks and building pages stay fast."""
    module = "method_checks.memorization.membership_inference"
    code = f"import sys, {module}; print(sorted({{'torch', 'sklearn', 'scipy'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

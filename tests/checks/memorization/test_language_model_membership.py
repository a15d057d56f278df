"""Membership scores of language models: the five proofs, and what must never pass."""

from __future__ import annotations

import math
import subprocess
import sys
import zlib
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from method_cards import judge
from method_cards.catalog import Catalog
from method_cards.check import Context
from method_cards.errors import CheckError
from method_cards.judge import Judged
from method_cards.measurement import Measurements, Series
from method_cards.subject import Subject
from method_cards.verdict import Outcome
from method_checks.memorization.controls.language_models import (
    BEGIN,
    FIRST,
    LETTERS,
    Letters,
    joined,
    memorizer,
    network,
    part,
)
from method_checks.memorization.groups.near_copies import near_copies
from method_checks.memorization.language_model_membership import LanguageModelMembership
from method_checks.memorization.sequences.likelihood_scores import SCORES, lowest_mean, moments

CARD = next(item.card for item in Catalog.installed() if item.card.id == "language-model-memorization")
BINDINGS = {item.id: item.check for item in CARD.prescriptions if item.check is not None}


def measured(
    subject: Subject, *, samples: int | None = 1200, seed: int = 0, batch: int = 64, **parameters: Any
) -> Measurements:
    check = LanguageModelMembership(**{"blind_blocks": 4, **parameters})
    found = Measurements()
    for yielded in check.measure(subject, Context(subject, samples, seed, batch, scope=check.id)):
        found.add(yielded)
    return found


def series(found: Measurements, name: str, **by: str) -> Series:
    return found.select(name, by)[0]


@cache
def control(name: str, seed: int = 0) -> Subject:
    return next(item for item in LanguageModelMembership.controls() if item.name == name).build(seed)


@cache
def measured_control(name: str) -> Measurements:
    subject = control(name)
    return measured(subject, use_reference=subject.reference is not None)


def judged(name: str, prescription: str) -> Judged:
    """What a prescription of the card says of a control."""
    return judge.judge(BINDINGS[prescription], measured_control(name), complete=True)


def data(texts: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
    return texts, torch.zeros(len(texts["input_ids"]), dtype=torch.long)


def few(model: nn.Module | None = None, count: int = 40, **options: Any) -> Subject:
    """An untrained model with a few texts of two parts."""
    splits = {"train": data(part(3, 1, count)), "test": data(part(3, 2, count))}
    return Subject("few", "text-generation", network(3) if model is None else model.eval(), splits, **options)


def scores_of(subject: Subject, split: str = "train", **parameters: Any) -> np.ndarray[Any, Any]:
    batch = subject.batch(split, range(len(subject.split(split))))
    return LanguageModelMembership(**parameters).scored(subject, batch)


@pytest.mark.parametrize("name", ["memorised-other-texts", "learned-the-language"])
def test_sound_controls_pass(name: str) -> None:
    """A model that saw neither split, and one that saw each of many texts once, pass by all scores."""
    result = judged(name, "likelihood-attacks")
    assert result.outcome is Outcome.PASSED
    assert len(result.criteria) == len(SCORES)


def test_a_model_that_memorised_its_texts_fails_by_every_score() -> None:
    """All four scores find memorised texts while the classifier of words finds nothing."""
    result = judged("memorised-its-texts", "likelihood-attacks")
    assert result.outcome is Outcome.FAILED
    assert [item.outcome for item in result.criteria] == 4 * [Outcome.FAILED]
    assert result.gates[0].outcome is Outcome.PASSED


def test_the_control_that_is_known_by_heart_is_identified() -> None:
    """At one false positive in a hundred, far more than one text in twenty is identified in a model that knows its texts by heart."""
    result = judged("knows-its-texts-by-heart", "identified-texts")
    assert (result.outcome, result.criteria[0].measurement) == (Outcome.FAILED, "true_positive_rate")
    assert judged("memorised-other-texts", "identified-texts").outcome is Outcome.PASSED


def test_a_reference_model_finds_what_the_likelihood_hides() -> None:
    """Light memorisation fails by the reference score; the same model and reference pass on texts that neither saw."""
    result = judged("found-by-a-reference-model", "reference-model-attack")
    assert (result.outcome, result.criteria[0].measurement) == (Outcome.FAILED, "calibrated_auc")
    assert judged("memorised-other-texts", "reference-model-attack").outcome is Outcome.PASSED


def test_a_reference_model_that_saw_the_non_members_gives_no_verdict() -> None:
    """It makes a model that saw neither split look guilty, and is itself found out."""
    found = measured_control("reference-saw-the-non-members")
    assert judge.interval_of(series(found, "calibrated_auc"), 0.95).low > 0.8
    result = judge.judge(BINDINGS["reference-model-attack"], found, complete=True)
    assert (result.outcome, result.gates[1].outcome) == (Outcome.INVALID, Outcome.FAILED)
    assert result.gates[0].outcome is Outcome.PASSED


@pytest.mark.parametrize(
    "name", ["never-saw-either-but-shifted", "never-saw-either-but-reordered", "memorised-and-shifted"]
)
def test_shifted_texts_give_no_verdict(name: str) -> None:
    """Where the words or their order differ, no verdict is given, be the model innocent or not."""
    result = judged(name, "likelihood-attacks")
    assert (result.outcome, result.gates[0].outcome) == (Outcome.INVALID, Outcome.FAILED)


def test_a_reordered_text_is_made_of_the_same_letters() -> None:
    """The control's non-members have the letters that they had, from the begin token on, and two in three are as they were."""
    changed, _ = control("never-saw-either-but-reordered").split("test").take(range(1200))
    before = part(0, 90)
    assert isinstance(changed, dict)
    assert torch.equal(changed["input_ids"].sort(1).values, before["input_ids"].sort(1).values)
    assert torch.equal(changed["input_ids"] == 0, before["input_ids"] == 0)
    assert bool((changed["input_ids"][:, 0] == BEGIN).all())
    same = (changed["input_ids"] == before["input_ids"]).all(1)
    assert bool(same.view(-1, 3)[:, 1:].all())
    assert same.float().mean() < 0.7


def test_every_control_is_used_here() -> None:
    """No control is left untested by the tests above."""
    assert len(LanguageModelMembership.controls()) == 9


def test_a_reference_model_at_one_half_does_not_hide_a_shift() -> None:
    """Two alphabets that a model cannot tell apart leave the reference at 0.5; only the classifier of words sees the shift."""
    half = len(LETTERS) // 2
    model, reference = two_alphabets(5), two_alphabets(6)
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randint(FIRST, FIRST + half, (1200, 12), generator=generator) for _ in range(2))
    splits = {"train": (first, torch.zeros(1200)), "test": (second + half, torch.zeros(1200))}
    subject = Subject("two-alphabets", "text-generation", model, splits, reference=reference)
    found = measured(subject, use_reference=True)
    assert judge.decide(BINDINGS["reference-model-attack"].valid_if[1], found, complete=True).outcome is Outcome.PASSED
    assert judge.judge(BINDINGS["likelihood-attacks"], found, complete=True).outcome is Outcome.INVALID


def two_alphabets(seed: int) -> nn.Module:
    """An untrained model to which the letters of the second half of the alphabet are those of the first."""
    model = network(seed)
    half = len(LETTERS) // 2
    with torch.no_grad():
        for name in ("tokens.weight", "logits.weight", "logits.bias"):
            weight = model.get_parameter(name)
            weight[FIRST + half :] = weight[FIRST : FIRST + half].clone()
    return model


def test_agrees_with_a_slow_implementation() -> None:
    """Each score of each text, token by token in plain Python from the model's logits, with the token ids as characters."""
    subject = few(count=12, reference=network(4))
    found = scores_of(subject, use_reference=True, lowest_share=0.3)
    inputs = subject.batch("train", range(12)).inputs
    assert isinstance(inputs, dict)
    for row, text in enumerate(inputs["input_ids"].tolist()):
        ids = [token for token in text if token]
        np.testing.assert_allclose(found[row], slow_scores(subject, ids, 0.3), rtol=1e-5)


def slow_scores(subject: Subject, ids: list[int], share: float) -> list[float]:
    tables = []
    for model in (subject.model, subject.reference):
        assert model is not None
        with torch.no_grad():
            tables.append(model(torch.tensor([ids]))[0].tolist())
    logs: list[list[float]] = []
    standard = []
    for table in tables:
        logs.append([])
        for place, token in enumerate(ids[1:]):
            total = math.log(sum(math.exp(logit) for logit in table[place]))
            chances = [math.exp(logit - total) for logit in table[place]]
            logs[-1].append(table[place][token] - total)
            mean = sum(chance * math.log(chance) for chance in chances)
            variance = sum(chance * (math.log(chance) - mean) ** 2 for chance in chances)
            standard.append((logs[-1][-1] - mean) / math.sqrt(variance))
    own, other = logs
    kept = max(1, math.floor(share * len(own)))
    return [
        sum(own) / len(own),
        sum(own) / len(zlib.compress("".join(chr(token) for token in ids).encode())),
        sum(sorted(own)[:kept]) / kept,
        sum(sorted(standard[: len(own)])[:kept]) / kept,
        (sum(own) - sum(other)) / len(own),
        sum(other) / len(other),
    ]


def test_agrees_with_transformers_and_scikit_learn() -> None:
    """The loss score of each text is the negative loss that a transformers model gives for it, and the area is scikit-learn's."""
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(vocab_size=28, n_positions=16, n_embd=16, n_layer=1, n_head=2)).eval()
    subject = few(model, tokenizer=Letters())
    inputs = subject.batch("train", range(40)).inputs
    assert isinstance(inputs, dict)
    expected = []
    for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True):
        kept = ids[mask.bool()][None]
        with torch.no_grad():
            expected.append(-model(kept, labels=kept).loss.item())
    np.testing.assert_allclose(scores_of(subject)[:, 0], expected, rtol=1e-5)
    scored = series(measured(subject), "membership_auc", score="min-k-plus-plus")
    truth = np.repeat([1, 0], [scored.values.size, scored.negatives.size])
    area = roc_auc_score(truth, np.concatenate([scored.values, scored.negatives]))
    assert judge.interval_of(scored, 0.95).estimate == pytest.approx(area)


def test_the_same_seed_gives_the_same_result_in_batches_of_any_size() -> None:
    """Numbers follow from the subject and the seed; how many texts go through together changes nothing beyond rounding."""
    first, again, other = (measured(few(), batch=size) for size in (64, 64, 7))
    for left, right, apart in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(left.values, right.values)
        np.testing.assert_allclose(left.values, apart.values, rtol=1e-5)
    drawn = series(measured(few(), samples=20, seed=1), "membership_auc", score="loss")
    assert not np.array_equal(drawn.values, series(measured(few(), samples=20), "membership_auc", score="loss").values)


def test_padding_is_never_counted() -> None:
    """More padding, or padding in front, gives the same scores."""
    texts = part(3, 1, 40)
    wider = {name: torch.nn.functional.pad(part_, (0, 3)) for name, part_ in texts.items()}
    front = {name: torch.nn.functional.pad(part_, (0, 3)).roll(3, 1) for name, part_ in texts.items()}
    model = network(3, context=15)
    expected, *found = (
        scores_of(Subject("padded", "text-generation", model, {"train": data(each)})) for each in (texts, wider, front)
    )
    for each in found:
        np.testing.assert_allclose(each, expected, rtol=1e-5)


def test_the_first_token_is_not_predicted() -> None:
    """A begin token makes the first letter a predicted token; without it one token fewer is counted."""
    texts = part(3, 1, 40)
    without = {name: each[:, 1:] for name, each in texts.items()}
    model = Uniform().eval()
    subject = Subject("letters", "text-generation", model, {"train": data(texts), "test": data(without)})
    sums = [scores_of(subject, split)[:, 1] for split in ("train", "test")]
    lengths = texts["attention_mask"].sum(1)
    for total, counted, each in zip(sums, (lengths - 1, lengths - 2), (texts, without), strict=True):
        sizes = [len(zlib.compress("".join(map(chr, row[row > 0].tolist())).encode())) for row in each["input_ids"]]
        np.testing.assert_allclose(total, -math.log(28) * counted.numpy() / np.array(sizes))


class Uniform(nn.Module):
    """All tokens are equally likely."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return torch.zeros(*attention_mask.shape, 28)


def test_a_constant_score_is_refused() -> None:
    """A model that finds everything equally likely has not shown that it memorised nothing."""
    with pytest.raises(CheckError, match=r"score is 3\.3322 for all 80"):
        measured(few(Uniform()))


def test_the_lowest_share_is_at_least_one_token() -> None:
    """A fifth of three tokens is one token, not none; values that are not counted never are."""
    values = torch.tensor([[3.0, 1.0, 2.0, -9.0], [5.0, -9.0, -9.0, -9.0]])
    counted = torch.tensor([[True, True, True, False], [True, False, False, False]])
    assert lowest_mean(values, counted, 0.2).tolist() == [1.0, 5.0]
    assert lowest_mean(values, counted, 1.0).tolist() == [2.0, 5.0]


def test_the_spread_is_never_negative_or_nan() -> None:
    """In half precision the variance of a model that is nearly certain comes out negative; here it is computed from differences."""
    logits = torch.zeros(1, 3, 50)
    logits[0, 0, 7], logits[0, 1, 7] = 12.0, 200.0
    logs = logits.half().log_softmax(-1)
    naive = (logs.exp() * logs.square()).sum(-1) - (logs.exp() * logs).sum(-1).square()
    assert not bool((naive[0, 1:] > 0).all())
    mean, spread = moments(logits.half())
    assert bool(torch.isfinite(mean).all())
    assert bool((spread >= 0).all())
    assert spread[0, 2] == pytest.approx(0, abs=1e-6)
    assert scores_of(few(Certain())).size == 160
    assert np.isfinite(scores_of(few(Certain()))).all()


class Certain(nn.Module):
    """The next letter of the alphabet is all but certain, in half precision."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return 200 * torch.nn.functional.one_hot((input_ids + 1) % 28, 28).half()


def test_a_share_that_is_chosen_after_looking_makes_any_model_look_guilty() -> None:
    """Over splits of texts that the model never saw, the share that was fixed beforehand is at one half, and the best of nine above it."""
    subject = few(count=300)
    shares = np.linspace(0.1, 0.9, 9)
    columns = np.stack([scores_of(subject, lowest_share=share)[:, SCORES.index("min-k")] for share in shares], axis=1)
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(200):
        ranks = rankdata(columns[rng.permutation(300)[:80]], axis=0)
        areas.append((ranks[:40].sum(0) - 40 * 41 / 2) / 40**2)
    assert np.mean(areas, axis=0)[1] == pytest.approx(0.5, abs=0.015)
    assert np.mean(np.max(areas, axis=1)) > 0.52


def test_zlib_is_given_the_text_where_a_tokenizer_knows_it() -> None:
    """With a tokenizer the size is that of the decoded letters."""
    subject = few(tokenizer=Letters())
    found = scores_of(subject)
    inputs = subject.batch("train", range(40)).inputs
    assert isinstance(inputs, dict)
    for row, (ids, mask) in enumerate(zip(inputs["input_ids"], inputs["attention_mask"], strict=True)):
        size = len(zlib.compress(Letters().decode(ids).encode()))
        assert found[row, 1] == pytest.approx(found[row, 0] * (int(mask.sum()) - 1) / size)


def test_rates_come_from_other_texts_and_need_enough_of_them() -> None:
    """Half of the non-members fix the threshold, the others are counted; with too few there is no rate, and nothing is interpolated."""
    found = measured(few(count=40))
    assert [series(found, "true_positive_rate", score=name).n for name in SCORES] == 4 * [0]
    found = measured(few(count=40), false_positive_rate=0.1)
    assert series(found, "true_positive_rate", score="zlib").n == 40
    assert series(found, "false_positive_rate", score="zlib").n == 20
    scored = series(found, "membership_auc", score="zlib")
    threshold = sorted(scored.negatives[::2])[-2]
    np.testing.assert_array_equal(series(found, "true_positive_rate", score="zlib").values, scored.values > threshold)


def test_shared_texts_and_near_copies_are_refused() -> None:
    """Non-members that are members, or members with a changed word, cannot be judged."""
    ids = torch.randint(FIRST, 28, (30, 120), generator=torch.Generator().manual_seed(0))
    changed = ids.clone()
    changed[:, 60] = BEGIN
    fresh = torch.randint(FIRST, 28, (30, 120), generator=torch.Generator().manual_seed(1))
    model = network(3, context=120)
    for others, match in ((ids, "30 of 30"), (changed, "share at least 80%")):
        splits = {"train": (ids, torch.zeros(30)), "test": (others, torch.zeros(30))}
        with pytest.raises(CheckError, match=match):
            measured(Subject("copies", "text-generation", model, splits))
    assert near_copies([tuple(row) for row in ids.tolist()], [tuple(row) for row in fresh.tolist()]) == 0


def test_repetition_within_the_splits_is_no_overlap() -> None:
    """Where each text stands in a split several times, sharing as many with the other split is expected."""
    rng = np.random.default_rng(0)
    pool = [tuple(rng.integers(0, 50, 30).tolist()) for _ in range(50)]
    groups = [[pool[number] for number in rng.integers(0, 50, 200)] for _ in range(2)]
    assert near_copies(*groups) == 0
    assert near_copies(pool, [pool[number] for number in rng.permutation(50)[:20]]) == 20


def test_a_text_of_one_token_is_refused() -> None:
    """Nothing of it is predicted; a loss of zero would make it look memorised."""
    texts = part(3, 1, 40)
    texts["attention_mask"][5, 1:] = 0
    subject = Subject("short", "text-generation", network(3), {"train": data(texts), "test": data(part(3, 2, 40))})
    with pytest.raises(CheckError, match=r"1 of 40 texts \(first: example 5\) have fewer than two tokens"):
        measured(subject, samples=None)


def test_exchanged_splits_are_refused() -> None:
    """A model that knows the non-members better than the members did not pass."""
    guilty = control("memorised-its-texts")
    swapped = {"train": guilty.split("test"), "test": guilty.split("train")}
    with pytest.raises(CheckError, match="are the splits exchanged"):
        measured(Subject("swapped", "text-generation", guilty.model, swapped, tokenizer=guilty.tokenizer))


def test_it_applies_to_language_models_with_what_they_need() -> None:
    """A classifier has no likelihood of texts, and a reference score needs a reference."""
    table = (torch.zeros(10, 4), torch.zeros(10))
    classifier = Subject("table", "tabular-classification", nn.Linear(4, 3).eval(), {"train": table, "test": table})
    assert "tabular-classification" in LanguageModelMembership().not_applicable(classifier)
    assert LanguageModelMembership().not_applicable(few()) == ""
    assert "reference" in LanguageModelMembership(use_reference=True).not_applicable(few())
    assert LanguageModelMembership(use_reference=True).not_applicable(few(reference=network(4))) == ""


def test_passes_are_the_texts_that_go_through_the_models() -> None:
    """Each text goes through each model once, and the announced cost is that."""
    calls: list[int] = []
    subject = few(reference=network(4))
    for model in (subject.model, subject.reference):
        assert model is not None
        model.register_forward_hook(
            lambda _module, given, kwargs, _output: calls.append(len(kwargs["input_ids"])), with_kwargs=True
        )
    before = subject.parameters_sha256()
    counted: list[int] = []
    check = LanguageModelMembership(use_reference=True)
    list(check.measure(subject, Context(subject, 30, on_examples=counted.append)))
    assert check.passes(subject, 30).forward == sum(calls) == 2 * sum(counted) == 120
    assert subject.parameters_sha256() == before


def test_parameters_that_make_no_sense_are_refused() -> None:
    """One split twice, no token at all, and unknown parameters are errors."""
    for wrong in ({"members": "test"}, {"lowest_share": 0}, {"shares": 0.3}):
        with pytest.raises(ValidationError):
            LanguageModelMembership.model_validate(wrong)


def test_the_control_models_are_what_they_say() -> None:
    """A memoriser knows its own part far better than any other, whatever the order in which models are built."""
    again = memorizer(0)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), memorizer(0).parameters(), strict=True))
    assert len(joined([part(0, 0), part(0, 1)])["input_ids"]) == 2400
    assert not torch.equal(part(0, 0)["input_ids"], part(0, 1)["input_ids"])
    written = Letters().written(part(0, 0, 5))
    assert torch.equal(Letters()(written)["attention_mask"].sum(1), part(0, 0, 5)["attention_mask"].sum(1))


def test_importing_the_check_loads_neither_torch_nor_scikit_learn() -> None:
    """Listing checks and building pages stay fast."""
    code = "import sys, method_checks.memorization.language_model_membership; print(sorted({'torch', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

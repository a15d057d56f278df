"""Extraction: the five proofs, and what must never be called extracted, or not extracted."""

from __future__ import annotations

import itertools
import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from method_cards import judge
from method_cards.card import CheckBinding
from method_cards.errors import CheckError
from method_cards.judge import Judged
from method_cards.measurement import Measurements
from method_cards.subject import Subject
from method_cards.verdict import Outcome
from method_checks.memorization.extraction import Extraction
from method_checks.memorization.sequences.decoding import Decoding, attempts_needed, continued, discoverable
from method_checks.memorization.sequences.tokens import Sequences
from tests.checks.memorization import causal
from tests.checks.memorization.causal import series, subject, tokens
from tests.helpers import binding, criterion

GATE = criterion("blind_auc", at_most=0.55)
MEASURED = ("greedy_excess", "discoverable_excess")


def measured(given: Subject, *, samples: int | None = 2000, seed: int = 0, **parameters: Any) -> Measurements:
    return causal.measured(Extraction(**parameters), given, samples=samples, seed=seed)


@cache
def of_control(name: str) -> Measurements:
    item = next(item for item in Extraction.controls() if item.name == name)
    return measured(item.build(0), **item.parameters)


def judged(found: Measurements, name: str) -> Judged:
    made = binding(Extraction.id, [criterion(name, at_most=0.01)], [GATE])
    return judge.judge(CheckBinding.model_validate(made), found, complete=True)


@pytest.mark.parametrize("name", MEASURED)
@pytest.mark.parametrize("control", ["others-repeated", "each-text-once"])
def test_sound_controls_pass(control: str, name: str) -> None:
    """A model that knows other texts by heart, and one that saw each text once, pass."""
    assert judged(of_control(control), name).outcome is Outcome.PASSED


@pytest.mark.parametrize("name", MEASURED)
def test_repeated_texts_fail_because_they_come_out(name: str) -> None:
    """A model that reproduces the tenth of its texts that were repeated fails, while held-out texts do not come out."""
    found = of_control("a-tenth-repeated")
    result = judged(found, name)
    assert (result.outcome, result.gates[0].outcome) == (Outcome.FAILED, Outcome.PASSED)
    assert series(found, "discovered", group="non-members").values.mean() < 0.005


@pytest.mark.parametrize("name", MEASURED)
def test_texts_of_another_language_give_no_verdict(name: str) -> None:
    """Where the held-out texts can be told apart without the model, nothing is concluded."""
    assert judged(of_control("held-out-of-another-language"), name).outcome is Outcome.INVALID


def test_every_control_is_used_here() -> None:
    """No control is left untested by the tests above."""
    names = {item.name for item in Extraction.controls()}
    assert names == {"others-repeated", "each-text-once", "a-tenth-repeated", "held-out-of-another-language"}


def some(model: torch.nn.Module, count: int, length: int, vocabulary: int, named: str = "") -> Sequences:
    """Texts of which every third is continued as the model itself would."""
    ids = tokens(count, length, vocabulary, 1)
    for row in range(0, count, 3):
        for place in range(length // 2, length):
            with torch.no_grad():
                logits = model(ids[row : row + 1, :place])
            ids[row, place] = int(getattr(logits, "logits", logits)[0, -1].argmax())
    return Sequences(ids, torch.full((count,), length), named, masked=bool(named))


def test_teacher_forcing_is_greedy_decoding() -> None:
    """One pass over a text says of each whether the library's own greedy generation makes it, token for token."""
    model: Any = causal.gpt2(20)
    texts = some(model, 24, 10, 20, "input_ids")
    greedy, _ = continued(model, texts, 5, Decoding(), 7)
    given = texts.ids[:, :5]
    made = model.generate(
        input_ids=given,
        attention_mask=torch.ones_like(given),
        max_new_tokens=5,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=None,
    )
    expected = (made == texts.ids).all(1)
    assert 8 <= int(expected.sum()) < 24
    assert greedy.tolist() == expected.tolist()


def test_plain_models_decode_greedily_too() -> None:
    """The same for a plain torch model, decoded token by token by hand."""
    model = causal.bigrams(9)
    texts = some(model, 30, 8, 9)
    greedy, _ = continued(model, texts, 4, Decoding(), 512)
    for row, found in zip(texts.ids, greedy.tolist(), strict=True):
        made = row[:4].tolist()
        while len(made) < 8:
            made.append(int(model(torch.tensor([made]))[0, -1].argmax()))
        assert found == (made == row.tolist())


DECODINGS = [Decoding(), Decoding(0.7), Decoding(1.0, 5), Decoding(1.3, 0, 0.8), Decoding(0.5, 7, 0.9)]


@pytest.mark.parametrize("decoding", DECODINGS, ids=str)
def test_decoding_agrees_with_transformers(decoding: Decoding) -> None:
    """Temperature, top-k and top-p cut and rescale the probabilities as the library's own generation does."""
    from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = torch.randn(50, 30, generator=torch.Generator().manual_seed(0)).double() * 2
    scores = TemperatureLogitsWarper(decoding.temperature)(None, logits)
    if decoding.top_k:
        scores = TopKLogitsWarper(decoding.top_k)(None, scores)
    if decoding.top_p < 1:
        scores = TopPLogitsWarper(decoding.top_p)(None, scores)
    torch.testing.assert_close(decoding.log_probabilities(logits), scores.log_softmax(1))


def test_agrees_with_a_slow_implementation() -> None:
    """The probability of a continuation is the product over its tokens of what each has left after truncation."""
    model = causal.bigrams(9)
    texts = some(model, 12, 7, 9)
    _, found = continued(model, texts, 3, Decoding(0.8, 4), 5)
    for row, log_probability in zip(texts.ids.tolist(), found.tolist(), strict=True):
        product = 1.0
        for before, token in itertools.pairwise(row[2:]):
            weights = (model(torch.tensor([[before]]))[0, 0].double() / 0.8).exp().tolist()
            kept = sorted(weights)[-4:]
            product *= weights[token] / sum(kept) if weights[token] in kept else 0.0
        assert math.exp(log_probability) == pytest.approx(product, abs=1e-12)


def test_a_cut_token_can_never_come_out() -> None:
    """A continuation with one token outside the top k has probability zero, and no number of attempts helps."""
    logits = torch.zeros(4, 4)
    logits[:, :2] = 2.0
    texts = Sequences(torch.tensor([[0, 1, 1], [0, 1, 3]]), torch.tensor([3, 3]))
    _, drawn = continued(causal.Bigrams(logits), texts, 1, Decoding(top_k=2), 8)
    assert discoverable(drawn, 10**9, 0.5).tolist() == [True, False]
    assert attempts_needed(drawn, 0.5).tolist() == [3, math.inf]
    _, all_tokens = continued(causal.Bigrams(logits), texts, 1, Decoding(), 8)
    assert discoverable(all_tokens, 10**9, 0.5).tolist() == [True, True]


def test_attempts_agree_with_simulated_draws() -> None:
    """Drawn n times by NumPy, a text comes out at least once about as often as its probability says."""
    for q, attempts in ((0.05, 14), (0.3, 2), (0.9, 1)):
        seen = np.random.default_rng(0).binomial(attempts, q, size=20_000) > 0
        assert seen.mean() == pytest.approx(1 - (1 - q) ** attempts, abs=0.02)
        boundary = 1 - (1 - q) ** attempts
        log = torch.tensor([math.log(q)], dtype=torch.float64)
        assert discoverable(log, attempts, boundary - 1e-9).item()
        assert not discoverable(log, attempts, boundary + 1e-9).item()


def test_tiny_and_certain_probabilities_lose_no_digits() -> None:
    """Far below the smallest difference from one, attempts are still counted right, and at certainty one is enough."""
    logs = torch.tensor([-50.0, -700.0, -800.0, -1e-18, 0.0, -math.inf], dtype=torch.float64)
    needed = attempts_needed(logs, 0.5)
    assert needed[0].item() == pytest.approx(math.log(2) * math.exp(50), rel=1e-9)
    assert needed[1].item() == pytest.approx(math.log(2) * math.exp(700), rel=1e-9)
    assert needed[2:].tolist() == [math.inf, 1, 1, math.inf]
    assert discoverable(logs, 100, 0.5).tolist() == [False, False, False, True, True, False]
    assert discoverable(logs[:1], math.ceil(math.log(2) * math.exp(50) * 1.0001), 0.5).item()
    assert discoverable(torch.tensor([math.log(1e-3)], dtype=torch.float64), 4000, 0.5).item()


def memorising(texts: Tensor, vocabulary: int = 0) -> torch.nn.Module:
    """A table that knows which token follows each in these texts."""
    logits = torch.zeros(2 * (vocabulary or int(texts.max()) + 1,))
    logits[texts[:, :-1].flatten(), texts[:, 1:].flatten()] = 60.0
    return causal.Bigrams(logits)


def test_texts_that_anybody_would_continue_cancel() -> None:
    """A model that counts up continues every text, seen or not, and the difference is zero although all come out."""
    counting = torch.arange(40)[:, None] + torch.arange(8)
    shuffled = counting[torch.randperm(40, generator=torch.Generator().manual_seed(0))]
    given = subject(memorising(counting), train=shuffled[:20], test=shuffled[20:])
    found = measured(given, prefix_tokens=3, suffix_tokens=5)
    assert series(found, "reproduced", group="members").values.mean() == 1
    assert series(found, "reproduced", group="non-members").values.mean() == 1
    assert series(found, "greedy_excess").values.tolist() == 20 * [0]


def test_the_difference_is_not_clipped() -> None:
    """Where held-out texts come out and training texts do not, the difference is negative."""
    counting = torch.arange(20)[:, None] + torch.arange(8)
    given = subject(memorising(counting), train=counting.flip(1), test=counting)
    assert series(measured(given, prefix_tokens=3, suffix_tokens=5), "greedy_excess").values.tolist() == 20 * [-1]


def test_short_texts_are_left_out_and_counted() -> None:
    """Texts that end before the continuation does are no failures of extraction; padding on either side changes nothing."""
    ids = torch.arange(30)[:, None] + torch.arange(8)
    model = memorising(ids)
    mask = torch.ones_like(ids)
    mask[:10, :3] = 0

    class Named(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model
            self.eval()

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            assert bool((attention_mask.diff(dim=1) <= 0).all()), "padding comes last"
            out: Tensor = self.inner(input_ids)
            return out

    texts = {"input_ids": ids, "attention_mask": mask}
    wrong = {"input_ids": ids.flip(1), "attention_mask": torch.ones_like(ids)}
    found = measured(subject(Named(), train=texts, test=wrong), prefix_tokens=3, suffix_tokens=3)
    assert series(found, "long_enough", group="members").values.sum() == 20
    assert series(found, "reproduced", group="members").values.tolist() == 20 * [1]
    assert series(found, "greedy_excess").values.tolist() == 20 * [1]


def test_the_same_seed_gives_the_same_result_and_batches_do_not_matter() -> None:
    """Pairs follow from the draw, not from the batches; another seed pairs others."""
    ids = torch.arange(60)[:, None] + torch.arange(8)
    given = subject(memorising(ids[:30], 70), train=ids[::2], test=ids[1::2])
    check = Extraction(prefix_tokens=3, suffix_tokens=5)
    one, same, batched, other = (
        series(causal.measured(check, given, samples=30, seed=seed, batch=batch), "discoverable_excess").values
        for seed, batch in ((0, 64), (0, 64), (0, 7), (1, 64))
    )
    np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(one, batched)
    assert not np.array_equal(one, other)


def test_texts_that_are_all_too_short_are_not_asked_for() -> None:
    """Where no text has enough tokens, the check does not apply, and says how many there are and how many it needs."""
    short = subject(causal.bigrams(9), train=tokens(30, 8, 9, 1), test=tokens(30, 8, 9, 2))
    assert Extraction(prefix_tokens=4, suffix_tokens=4).not_applicable(short) == ""
    reason = Extraction(prefix_tokens=4, suffix_tokens=5).not_applicable(short)
    assert 'first 30 texts of "train" have at most 8 tokens, and 9 are needed, 4 to give and 5 to reproduce' in reason


def test_what_cannot_be_measured_is_refused() -> None:
    """NaN, texts that are all too short, overlapping splits, and inputs that do not fit are errors with a way out."""
    members, others = tokens(30, 8, 9, 1), tokens(30, 8, 9, 2)
    with pytest.raises(CheckError, match="no drawn text of"):
        measured(subject(causal.bigrams(9), train=members, test=others), prefix_tokens=4, suffix_tokens=5)
    with pytest.raises(CheckError, match="overlap"):
        measured(subject(causal.bigrams(9), train=members, test=members), prefix_tokens=4, suffix_tokens=4)
    broken = causal.Bigrams(torch.full((9, 9), math.nan))
    with pytest.raises(CheckError, match="NaN or infinite"):
        measured(subject(broken, train=members, test=others), prefix_tokens=4, suffix_tokens=4)
    extra = {"input_ids": members, "token_type_ids": torch.zeros_like(members)}
    with pytest.raises(CheckError, match="token_type_ids"):
        measured(subject(causal.gpt2(9), train=extra, test=extra), prefix_tokens=4, suffix_tokens=4)


def test_few_texts_decide_nothing() -> None:
    """A hundred texts none of which comes out are no pass."""
    item = next(item for item in Extraction.controls() if item.kind == "sound")
    assert (
        judged(measured(item.build(0), samples=100, **item.parameters), "greedy_excess").outcome is Outcome.INCONCLUSIVE
    )

"""Unintended memorisation: the five proofs, how bits are counted, and what must never be called memorised."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from method_cards import judge
from method_cards.card import CheckBinding
from method_cards.check import Context
from method_cards.errors import CheckError
from method_cards.judge import Judged
from method_cards.measurement import Measurements
from method_cards.subject import Subject
from method_cards.verdict import Outcome
from method_checks.memorization.sequences.tokens import sequences
from method_checks.memorization.unintended_memorization import LIMIT, UnintendedMemorization, code_lengths
from tests.checks.memorization import causal
from tests.checks.memorization.causal import series, subject, tokens
from tests.helpers import binding, criterion

GATES = [criterion("reference_auc", between=[0.45, 0.55]), criterion("blind_auc", at_most=0.55)]
BINDING = CheckBinding.model_validate(
    binding(UnintendedMemorization.id, [criterion("excess_bits", at_most=0.07)], GATES)
)


def measured(given: Subject, **options: Any) -> Measurements:
    return causal.measured(UnintendedMemorization(blind_blocks=4), given, **options)


@cache
def of_control(name: str) -> Measurements:
    return measured(next(item for item in UnintendedMemorization.controls() if item.name == name).build(0))


def judged(name: str) -> Judged:
    return judge.judge(BINDING, of_control(name), complete=True)


def against(model: torch.nn.Module, reference: torch.nn.Module, **splits: Any) -> Subject:
    return replace(subject(model, **splits), reference=reference)


@pytest.mark.parametrize("control", ["memorised-other-texts", "each-text-once"])
def test_sound_controls_pass(control: str) -> None:
    """A model that holds other texts, and one that saw each text once, hold nothing of these beyond held-out ones."""
    assert judged(control).outcome is Outcome.PASSED


@pytest.mark.parametrize("control", ["memorised-its-texts", "each-text-fifteen-times"])
def test_defect_controls_fail_because_of_the_bits_they_hold(control: str) -> None:
    """A model that saw its texts fifteen times or more fails, while reference and blind classifier find no difference."""
    result = judged(control)
    assert result.outcome is Outcome.FAILED
    assert {gate.outcome for gate in result.gates} == {Outcome.PASSED}


def test_a_reference_that_saw_the_held_out_texts_gives_no_verdict() -> None:
    """It would make an innocent model look as if it had memorised half a bit a token or more."""
    result = judged("reference-saw-the-held-out-texts")
    assert (result.outcome, result.gates[0].outcome) == (Outcome.INVALID, Outcome.FAILED)
    assert result.criteria[0].outcome is Outcome.FAILED


def test_texts_of_another_language_give_no_verdict() -> None:
    """Where the groups differ without any model, nothing is concluded."""
    result = judged("held-out-of-another-language")
    assert (result.outcome, result.gates[1].outcome) == (Outcome.INVALID, Outcome.FAILED)


def test_every_control_is_used_here() -> None:
    """No control is left untested by the tests above."""
    assert [item.kind for item in UnintendedMemorization.controls()] == [
        *2 * ["sound"],
        *2 * ["defect"],
        *2 * ["confounded"],
    ]


def slow_bits(model: Any, text: list[int]) -> float:
    """Minus the base-2 logarithm of each token after the first, one at a time."""
    bits = 0.0
    for place in range(1, len(text)):
        with torch.no_grad():
            found = model(torch.tensor([text[:place]]))
        logits = getattr(found, "logits", found)[0, -1].double().tolist()
        bits -= math.log2(math.exp(logits[text[place]]) / sum(map(math.exp, logits)))
    return bits


@pytest.mark.parametrize("kind", ["plain", "transformers"])
def test_agrees_with_a_slow_implementation(kind: str) -> None:
    """Savings and their differences, token by token and pair by pair, straight from the definition."""
    make: Any = causal.bigrams if kind == "plain" else lambda vocabulary, seed: causal.gpt2(vocabulary, seed=seed)
    model, reference = make(9, seed=1), make(9, seed=2)
    members, others = tokens(20, 7, 9, 1), tokens(20, 7, 9, 2)
    found = measured(against(model, reference, train=members, test=others), batch=8)
    order = {
        split: list(Context(subject(model, train=members, test=others), None, 0).indices(split))
        for split in ("train", "test")
    }
    savings = {
        split: [slow_bits(reference, row) - slow_bits(model, row) for row in texts[order[split]].tolist()]
        for split, texts in (("train", members), ("test", others))
    }
    assert series(found, "saved_bits", group="members").values == pytest.approx(savings["train"], abs=1e-4)
    cut = {split: np.clip(np.array(values) / 6, -LIMIT, LIMIT) for split, values in savings.items()}
    assert series(found, "excess_bits").values == pytest.approx(cut["train"] - cut["test"], abs=1e-5)


def test_agrees_with_the_loss_of_transformers() -> None:
    """Bits are the library's own loss, which is a mean in nats over predicted tokens, times tokens, in base 2."""
    model: Any = causal.gpt2(11)
    ids = tokens(6, 9, 11, 3)
    found = code_lengths(
        model, sequences(subject(model, train=ids), subject(model, train=ids).batch("train", range(6))), 4
    )
    with torch.no_grad():
        expected = [float(model(input_ids=row[None], labels=row[None]).loss) * 8 / math.log(2) for row in ids]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_only_predicted_tokens_cost_bits() -> None:
    """A uniform model over 8 tokens needs exactly 3 bits for each token but the first, whatever the padding on either side."""
    uniform = causal.Bigrams(torch.zeros(8, 8))
    ids = tokens(4, 6, 8, 1)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1]])

    class Named(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = uniform
            self.eval()

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            assert bool((attention_mask[:, 0] == 1).all())
            out: Tensor = self.inner(input_ids)
            return out

    given = subject(Named(), train={"input_ids": ids, "attention_mask": mask})
    for block in (1, 4):
        found = code_lengths(given.model, sequences(given, given.batch("train", range(4))), block)
        assert found.tolist() == pytest.approx([15, 9, 6, 3])


def test_padding_is_not_seen() -> None:
    """A text has the same code length alone, and padded on either side among longer ones."""
    model = causal.gpt2(11)
    short, long = tokens(3, 5, 11, 1), tokens(3, 8, 11, 2)
    alone = code_lengths(
        model, sequences(subject(model, train=short), subject(model, train=short).batch("train", range(3))), 8
    )
    for left in (False, True):
        fill = torch.zeros(3, 3, dtype=torch.long)
        parts, masks = [short, fill], [torch.ones_like(short), fill]
        if left:
            parts.reverse()
            masks.reverse()
        both = {
            "input_ids": torch.cat([torch.cat(parts, 1), long]),
            "attention_mask": torch.cat([torch.cat(masks, 1), torch.ones_like(long)]),
        }
        given = subject(model, train=both)
        found = code_lengths(model, sequences(given, given.batch("train", range(6))), 8)
        assert found[:3].tolist() == pytest.approx(alone.tolist(), rel=1e-5)


def test_nothing_is_clipped_at_zero() -> None:
    """A model that knows neither group loses bits on both, and the difference scatters around zero on both sides."""
    found = measured(
        against(
            causal.bigrams(20, 1),
            causal.Bigrams(torch.zeros(20, 20)),
            train=tokens(400, 9, 20, 1),
            test=tokens(400, 9, 20, 2),
        )
    )
    assert series(found, "saved_bits", group="members").values.mean() < -1
    assert series(found, "saved_bits", group="non-members").values.mean() < -1
    values = series(found, "excess_bits").values
    assert abs(values.mean()) < 4 * values.std() / math.sqrt(400)
    assert 0.4 < (values < 0).mean() < 0.6


def test_cutting_leaves_zero_where_it_is() -> None:
    """Savings far beyond the limit are cut alike in both directions, said to be, and differ by nothing when the groups do not."""
    sure = causal.Bigrams(40 * torch.eye(20))
    found = measured(
        against(sure, causal.Bigrams(torch.zeros(20, 20)), train=tokens(200, 9, 20, 1), test=tokens(200, 9, 20, 2))
    )
    assert series(found, "cut", group="members").values.mean() > 0.9
    assert abs(series(found, "excess_bits").values.mean()) < 0.1
    assert abs(series(found, "excess_bits").values).max() <= 2 * LIMIT


def test_a_known_amount_is_found() -> None:
    """A model that gives each training transition twice the reference's probability saves exactly one bit a token on it."""
    logits = torch.zeros(16, 16)
    members = torch.tensor([[2 * i, 2 * i + 1] for i in range(8)])
    logits[members[:, 0], members[:, 1]] = math.log(2 * 15 / 14)  # 2/16 against 14/16 for the 15 others
    others = torch.tensor([[2 * i + 1, 2 * i] for i in range(8)])
    found = measured(against(causal.Bigrams(logits), causal.Bigrams(torch.zeros(16, 16)), train=members, test=others))
    assert series(found, "saved_bits", group="members").values == pytest.approx(8 * [1])
    assert series(found, "excess_bits").values == pytest.approx(8 * [1])


def test_the_same_seed_gives_the_same_result_and_batches_do_not_matter() -> None:
    """Pairs follow from the draw, not from the batches; another seed pairs others."""
    given = against(causal.bigrams(9, 1), causal.bigrams(9, 2), train=tokens(90, 7, 9, 1), test=tokens(70, 7, 9, 2))
    one, same, batched, other = (
        series(measured(given, samples=80, seed=seed, batch=batch), "excess_bits").values
        for seed, batch in ((0, 64), (0, 64), (0, 7), (1, 64))
    )
    assert len(one) == 70
    np.testing.assert_array_equal(one, same)
    assert batched == pytest.approx(one, abs=1e-12)
    assert not np.array_equal(one, other)


def test_what_cannot_be_measured_is_refused() -> None:
    """NaN in either model, single tokens and overlapping splits are errors; without a reference the check does not apply."""
    members, others = tokens(30, 8, 9, 1), tokens(30, 8, 9, 2)
    good, broken = causal.bigrams(9), causal.Bigrams(torch.full((9, 9), math.nan))
    for model, reference in ((good, broken), (broken, good)):
        with pytest.raises(CheckError, match="NaN or infinite"):
            measured(against(model, reference, train=members, test=others))
    with pytest.raises(CheckError, match="fewer than two tokens"):
        measured(against(good, good, train=members[:, :1], test=others))
    with pytest.raises(CheckError, match="overlap"):
        measured(against(good, good, train=members, test=members))
    assert "reference:" in UnintendedMemorization().not_applicable(subject(good, train=members, test=others))
    assert not UnintendedMemorization().not_applicable(against(good, good, train=members, test=others))

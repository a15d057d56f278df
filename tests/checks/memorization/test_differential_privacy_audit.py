"""Auditing differential privacy in one run: the five proofs, and what must never pass."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.integrate import quad
from scipy.stats import binomtest, norm
from torch import Tensor, nn

from method_cards import judge
from method_cards.card import CheckBinding
from method_cards.check import Context
from method_cards.errors import CheckError
from method_cards.judge import Judged
from method_cards.measurement import Measurements
from method_cards.subject import Subject
from method_cards.verdict import Outcome
from method_checks.memorization.controls import privacy_claims
from method_checks.memorization.differential_privacy.gaussian import delta_of, epsilon_of, private_training
from method_checks.memorization.differential_privacy.one_run import (
    ceiling,
    drawn_canaries,
    epsilon_lower_bound,
    p_value,
    right_guesses,
)
from method_checks.memorization.differential_privacy_audit import DifferentialPrivacyAudit
from tests.helpers import binding, criterion

BINDING = CheckBinding.model_validate(
    binding(
        DifferentialPrivacyAudit.id,
        [criterion("excess", at_most=0.0)],
        [criterion("room", at_least=0.0), criterion("blind_auc", at_most=0.6)],
    )
)


def measured(subject: Subject, *, samples: int | None = 2000, seed: int = 0, **parameters: Any) -> Measurements:
    check = DifferentialPrivacyAudit(**{"blind_blocks": 3, **parameters})
    found = Measurements()
    for yielded in check.measure(subject, Context(subject, samples, seed, scope=check.id)):
        found.add(yielded)
    return found


def value(found: Measurements, name: str) -> float:
    return float(found.select(name, {})[0].values[-1])


@cache
def control(name: str) -> Subject:
    return next(item for item in DifferentialPrivacyAudit.controls() if item.name == name).build(0)


def judged(name: str) -> Judged:
    return judge.judge(BINDING, measured(control(name)), complete=True)


def coins(included: int, excluded: int, model: nn.Module | None = None, delta: float = 1e-5) -> Subject:
    """A small untrained model, and canaries of random numbers."""
    generator = torch.Generator().manual_seed(included + 1000 * excluded)

    def rows(count: int) -> tuple[Tensor, Tensor]:
        return torch.randn(count, 4, generator=generator), torch.randint(3, (count,), generator=generator)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        chosen = nn.Linear(4, 3) if model is None else model
    data = {"included": rows(included), "excluded": rows(excluded)}
    claims = {"epsilon": 1.0, "delta": delta}
    return Subject("coins", "tabular-classification", chosen.eval(), data, claims=claims)


@pytest.mark.parametrize("name", ["trained-with-noise", "trained-on-other-canaries"])
def test_sound_controls_are_not_refuted(name: str) -> None:
    """A training whose noise keeps its promise, and a model that saw no canary, are not refuted by an audit that could have."""
    result = judged(name)
    assert result.outcome is Outcome.PASSED
    assert all(gate.outcome is Outcome.PASSED for gate in result.gates)


@pytest.mark.parametrize("name", ["overfitted-with-a-claim", "too-little-noise"])
def test_defect_controls_are_refuted(name: str) -> None:
    """A model that learned its canaries by heart, and one with noise at the wrong scale, break their claim."""
    result = judged(name)
    assert result.outcome is Outcome.FAILED
    assert (result.criteria[0].measurement, result.criteria[0].outcome) == ("excess", Outcome.FAILED)


@pytest.mark.parametrize(("name", "gate"), [("not-tossed", "blind_auc"), ("too-few-canaries", "room")])
def test_audits_that_can_say_nothing_are_invalid(name: str, gate: str) -> None:
    """Canaries that no coin chose give no verdict; nor do too few of them for a large claim, though the model knows them by heart."""
    result = judged(name)
    assert result.outcome is Outcome.INVALID
    assert [item.measurement for item in result.gates if item.outcome is Outcome.FAILED] == [gate]


def test_without_the_blind_classifier_a_model_that_saw_nothing_would_be_refuted() -> None:
    """Easy canaries that are called included score above hard ones in any model; only the gate keeps that from being a verdict."""
    result = judged("not-tossed")
    assert result.criteria[0].outcome is Outcome.FAILED
    assert result.outcome is Outcome.INVALID


def test_every_control_is_used_here() -> None:
    """No control is left untested by the tests above."""
    assert len(DifferentialPrivacyAudit.controls()) == 6


def test_the_bound_is_the_one_that_the_paper_prints() -> None:
    """The examples of the paper: 0.673 in its Appendix D, and 2.675 (truncated) in its Section 7."""
    assert epsilon_lower_bound(1000, 100, 75, 1e-4, 0.95) == pytest.approx(0.673, abs=5e-4)
    assert epsilon_lower_bound(100_000, 1510, 1439, 1e-5, 0.95) == pytest.approx(2.675, abs=1e-3)


@pytest.mark.parametrize(("guesses", "right"), [(20, 13), (50, 41), (200, 163), (250, 250)])
def test_without_delta_it_is_a_binomial_bound(guesses: int, right: int) -> None:
    """With a delta of 0 the bound is the log-odds of SciPy's exact one-sided lower limit of the share of right guesses."""
    low = binomtest(right, guesses, alternative="greater").proportion_ci(0.95).low
    expected = max(0.0, math.log(low / (1 - low)))
    assert epsilon_lower_bound(1000, guesses, right, 0.0, 0.95) == pytest.approx(expected, abs=1e-9)


def test_the_ceiling_has_a_closed_form() -> None:
    """When all of r guesses are right, the refuted epsilon is -ln(20^(1/r) - 1) at 95 %."""
    for guesses in (50, 100, 250, 1000):
        assert ceiling(4000, guesses, 0.0, 0.95) == pytest.approx(-math.log(20 ** (1 / guesses) - 1), abs=1e-9)


@pytest.mark.parametrize("delta", [0.0, 1e-4, 1e-2])
def test_agrees_with_a_slow_implementation(delta: float) -> None:
    """Losses, guesses, the sum over i and the search for epsilon by hand: the same numbers."""
    subject = coins(45, 38, delta=delta)
    found = measured(subject, samples=None, guesses=7)
    weight, bias = [tensor.tolist() for tensor in subject.model.state_dict().values()]
    scored = []
    for split, truth in (("included", True), ("excluded", False)):
        inputs, targets = subject.split(split).take(Context(subject, None).indices(split))
        assert isinstance(inputs, Tensor)
        for row, target in zip(inputs.tolist(), targets.tolist(), strict=True):
            logits = [
                sum(w * x for w, x in zip(line, row, strict=True)) + b for line, b in zip(weight, bias, strict=True)
            ]
            scored.append((logits[target] - math.log(sum(math.exp(logit) for logit in logits)), truth))
    scored.sort()
    right = sum(not truth for _, truth in scored[:7]) + sum(truth for _, truth in scored[-7:])
    assert found.select("right_guesses", {})[0].values.sum() == right
    for many in (right, 14):
        grid = [step / 1000 for step in range(4000) if slow_p(83, 14, many, step / 1000, delta) < 0.05]
        assert epsilon_lower_bound(83, 14, many, delta, 0.95) == pytest.approx(max(grid, default=0.0), abs=2e-3)


def slow_p(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    q = math.exp(epsilon) / (1 + math.exp(epsilon))
    chance = [math.comb(guesses, v) * q**v * (1 - q) ** (guesses - v) for v in range(guesses + 1)]
    worst = max((sum(chance[right - i : right]) / i for i in range(1, right + 1)), default=0.0)
    return sum(chance[right:]) + 2 * canaries * delta * worst


def test_the_same_seed_gives_the_same_result() -> None:
    """Every measured number follows from the subject and the seed."""
    first, again = (measured(coins(60, 55), samples=None, seed=1) for _ in range(2))
    for left, right in zip(first, again, strict=True):
        np.testing.assert_array_equal(left.values, right.values)
        np.testing.assert_array_equal(left.negatives, right.negatives)


def test_the_number_of_guesses_is_fixed_beforehand() -> None:
    """On scores that say nothing, the best pair of numbers of guesses refutes far too often, and one that is fixed does not."""
    rng = np.random.default_rng(0)
    least = [next(v for v in range(r + 2) if v > r or p_value(200, r, v, 0.0, 0.0) < 0.05) for r in range(201)]
    grid = np.arange(0, 101, 5)
    made = grid[:, None] + grid[None, :]
    false_alarms = np.zeros(2)
    for _ in range(400):
        scores, included = rng.normal(size=200), rng.random(200) < 0.5
        right = right_guesses(scores, included, 100, rng)
        high, low = (np.concatenate([[0], np.cumsum(part)]) for part in (right[:100][::-1], right[100:]))
        refuted = high[grid][:, None] + low[grid][None, :] >= np.array(least)[made]
        fixed = right_guesses(scores, included, 25, rng).sum() == high[25] + low[25] >= least[50]
        false_alarms += fixed, refuted.any()
    assert false_alarms[0] / 400 <= 0.05
    assert 0.17 <= false_alarms[1] / 400 <= 0.47


def test_the_bound_holds_at_the_true_epsilon() -> None:
    """Randomised response has exactly this epsilon: the bound exceeds it in at most one run of twenty, and is not idle."""
    rng = np.random.default_rng(0)
    bounds = [
        epsilon_lower_bound(400, 400, int(rng.binomial(400, 1 / (1 + math.exp(-1)))), 0.0, 0.95) for _ in range(200)
    ]
    assert np.mean(np.array(bounds) > 1) <= 0.06
    assert np.median(bounds) > 0.7


def test_equal_scores_tell_nothing_of_the_order() -> None:
    """Included canaries stand first, but equal scores are guessed in a drawn order, so that half of the guesses are right."""
    rng = np.random.default_rng(0)
    included = np.repeat([True, False], 500)
    shares = [right_guesses(np.zeros(1000), included, 125, rng).mean() for _ in range(40)]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.02)


def test_fewer_canaries_are_drawn_blindly() -> None:
    """Of 900 and 100 canaries, 100 drawn ones are about 90 and 10, not 50 and 50; all of them are all of them."""
    rng = np.random.default_rng(0)
    drawn = [drawn_canaries((900, 100), (100, 100), rng) for _ in range(200)]
    assert all(sum(pair) == 100 for pair in drawn)
    assert np.mean([pair[0] for pair in drawn]) == pytest.approx(90, abs=1)
    assert drawn_canaries((47, 53), (47, 53), rng) == (47, 53)
    found = measured(coins(300, 280), samples=160)
    assert found.select("right_guesses", {})[0].n == 40


def test_an_undetected_leak_is_no_pass_when_nothing_could_be_detected() -> None:
    """Sixteen canaries can refute no more than 0.2 or so: a lower bound of 0 is then no verdict on a claim of 1."""
    found = measured(coins(9, 7), samples=None)
    assert value(found, "epsilon_lower_bound") == 0
    assert value(found, "refutation_ceiling") < 1
    assert value(found, "room") < 0
    assert judge.judge(BINDING, found, complete=True).outcome is Outcome.INVALID


def test_splits_that_no_coins_made_are_refused() -> None:
    """300 included and 200 excluded canaries come from no fair coins; 260 and 240 may."""
    with pytest.raises(CheckError, match="not chosen by fair coins"):
        measured(coins(300, 200))
    assert value(measured(coins(260, 240)), "room") > 0


def test_exchanged_splits_are_refused() -> None:
    """A model that knows the excluded canaries better did not keep its promise: the splits are exchanged."""
    leaking = control("overfitted-with-a-claim")
    data = {"included": leaking.split("excluded"), "excluded": leaking.split("included")}
    with pytest.raises(CheckError, match="exchanged"):
        measured(replace(leaking, data=data))


def test_overlapping_constant_and_nan_are_refused() -> None:
    """Canaries of both kinds at once, a loss that is the same for all, and NaN cannot be audited."""
    subject = coins(60, 60)
    same = subject.split("included")
    with pytest.raises(CheckError, match="overlap"):
        measured(replace(subject, data={"included": same, "excluded": same}))
    for number, message in ((0.0, "for all 120 examples"), (math.nan, "NaN")):
        model = nn.Linear(4, 3)
        nn.init.constant_(model.weight, number)
        nn.init.constant_(model.bias, number)
        with pytest.raises(CheckError, match=message):
            measured(coins(60, 60, model))


def test_more_guesses_than_canaries_are_refused() -> None:
    """Sixty guesses a side need 120 canaries; the message says what to do."""
    with pytest.raises(CheckError, match="guess fewer"):
        measured(coins(55, 50), guesses=60)


def test_a_claim_is_required() -> None:
    """Without a claimed epsilon the check does not apply; without a delta it says what to do; the splits differ."""
    check = DifferentialPrivacyAudit()
    subject = coins(60, 60)
    assert check.not_applicable(subject) == ""
    assert "claims no epsilon" in check.not_applicable(replace(subject, claims={}))
    with pytest.raises(CheckError, match="delta of 0 for pure"):
        measured(replace(subject, claims={"epsilon": 1.0}))
    with pytest.raises(ValidationError, match="different splits"):
        DifferentialPrivacyAudit(included="a", excluded="a")


def test_a_reference_takes_away_what_every_model_knows() -> None:
    """Scores are the reference's losses less the model's; without a reference the check does not apply."""
    check = DifferentialPrivacyAudit(score="reference")
    assert "no reference model" in check.not_applicable(control("too-little-noise"))
    subject = replace(control("too-little-noise"), reference=control("trained-on-other-canaries").model)
    assert check.not_applicable(subject) == ""
    assert subject.reference is not None
    found = measured(subject, score="reference")
    batch = subject.batch("included", Context(subject, 2000).indices("included"))
    expected = subject.with_model(subject.reference).losses(batch) - subject.losses(batch)
    np.testing.assert_allclose(found.select("canary_auc", {})[0].values, expected.numpy(), atol=1e-6)
    assert check.passes(subject, 100).forward == 400


def test_the_noise_of_the_control_keeps_its_claim() -> None:
    """The exact epsilon of the control's training is below what it claims, and close to it."""
    assert 0.95 < epsilon_of(privacy_claims.STEPS, privacy_claims.NOISE, 1e-5) < privacy_claims.CLAIMED


@pytest.mark.parametrize(("epsilon", "mu"), [(0.0, 0.5), (1.0, 0.7), (3.0, 2.0)])
def test_delta_is_the_integral_that_defines_it(epsilon: float, mu: float) -> None:
    """Delta is the mass by which N(mu, 1) exceeds exp(epsilon) N(0, 1)."""

    def excess(x: float) -> float:
        return max(0.0, float(norm.pdf(x, mu)) - math.exp(epsilon) * float(norm.pdf(x)))

    crossing = epsilon / mu + mu / 2
    assert delta_of(epsilon, mu) == pytest.approx(quad(excess, crossing, crossing + 12, limit=200)[0], rel=1e-6)
    assert delta_of(epsilon_of(1, 1 / mu, 1e-3), mu) == pytest.approx(1e-3)


def test_one_record_moves_a_private_step_by_at_most_the_clipping_norm() -> None:
    """Without noise, leaving out any record changes the weights by at most the rate times the clipping norm; some by just that."""
    generator = torch.Generator().manual_seed(0)
    rows, labels = 3 * torch.randn(12, 5, generator=generator), torch.randint(3, (12,), generator=generator)

    def trained(keep: Iterable[int], clip: float) -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = nn.Linear(5, 3)
        chosen = list(keep)
        done = private_training(model, rows[chosen], labels[chosen], steps=1, noise=0.0, clip=clip, rate=0.1, seed=0)
        return torch.cat([part.flatten() for part in done.parameters()]).detach()

    moved = [
        float((trained(range(12), 0.5) - trained([row for row in range(12) if row != left], 0.5)).norm())
        for left in range(12)
    ]
    assert max(moved) == pytest.approx(0.05, abs=1e-6)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = nn.Linear(5, 3)
    nn.functional.cross_entropy(plain(rows), labels, reduction="sum").backward()
    expected = torch.cat([(part - 0.1 * part.grad).flatten() for part in plain.parameters() if part.grad is not None])
    torch.testing.assert_close(trained(range(12), 1e6), expected)


def test_a_language_model_that_counted_its_canaries_is_refuted() -> None:
    """The audit is the same for texts: a table of token pairs that was counted on the included strings breaks a claim of 1."""
    generator = torch.Generator().manual_seed(0)
    strings = torch.randint(40, (300, 20), generator=generator)
    coins_ = torch.rand(300, generator=generator) < 0.5
    pairs = torch.zeros(40, 40)
    pairs.index_put_((strings[coins_, :-1].flatten(), strings[coins_, 1:].flatten()), torch.ones(1), accumulate=True)
    model = nn.Embedding.from_pretrained((pairs + 0.1).log()).eval()
    labels = torch.zeros(300).long()
    data = {"included": (strings[coins_], labels[coins_]), "excluded": (strings[~coins_], labels[~coins_])}
    claims = {"epsilon": 1.0, "delta": 1e-5}
    found = measured(Subject("pairs", "text-generation", model, data, claims=claims))
    assert value(found, "excess") > 0


def test_passes_are_the_canaries_that_are_read() -> None:
    """The announced cost is what goes through the model."""
    calls: list[int] = []
    subject = coins(70, 60)
    subject.model.register_forward_hook(lambda _module, inputs, _output: calls.append(len(inputs[0])))
    measured(subject, samples=64)
    assert DifferentialPrivacyAudit().passes(subject, 64).forward == sum(calls) == 124

"""Canary exposure: the five proofs, and what must never be called memorised, or not memorised."""

from __future__ import annotations

import itertools
import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.stats import kstest, rankdata

from method_cards import judge
from method_cards.card import CheckBinding
from method_cards.errors import CheckError
from method_cards.judge import Judged
from method_cards.measurement import Measurements
from method_cards.subject import Subject
from method_cards.verdict import Outcome
from method_checks.memorization.canary_exposure import CanaryExposure, exposure
from tests.checks.memorization import causal
from tests.checks.memorization.causal import series, subject, tokens
from tests.helpers import binding, criterion

GATE = criterion("exposed_controls", at_most=0.1)
BOUNDS = {"exposed_canaries": 0.1, "canary_auc": 0.65}


def measured(given: Subject, *, samples: int | None = 150, seed: int = 0, **parameters: Any) -> Measurements:
    return causal.measured(CanaryExposure(**parameters), given, samples=samples, seed=seed)


@cache
def of_control(name: str) -> Measurements:
    item = next(item for item in CanaryExposure.controls() if item.name == name)
    return measured(item.build(0), **item.parameters)


def judged(found: Measurements, name: str) -> Judged:
    made = binding(CanaryExposure.id, [criterion(name, at_most=BOUNDS[name])], [GATE])
    return judge.judge(CheckBinding.model_validate(made), found, complete=True)


def canaries(count: int, seed: int, length: int = 8, vocabulary: int = 5) -> torch.Tensor:
    return tokens(count, length, vocabulary, seed)


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("control", ["other-canaries-memorised", "inserted-once-in-one-pass"])
def test_sound_controls_pass(control: str, name: str) -> None:
    """A model that saw other canaries, and one that saw each canary once in passing, pass."""
    assert judged(of_control(control), name).outcome is Outcome.PASSED


def test_memorised_canaries_fail_because_their_secrets_come_first() -> None:
    """A model that learned its canaries by heart exposes them, and only them."""
    result = judged(of_control("canaries-memorised"), "exposed_canaries")
    assert result.outcome is Outcome.FAILED
    assert result.gates[0].outcome is Outcome.PASSED
    assert series(of_control("canaries-memorised"), "exposure", group="canaries").values.mean() > 9.5


def test_half_known_canaries_fail_by_the_area() -> None:
    """Canaries that were repeated in a single pass are preferred to controls, although few of them come first."""
    assert judged(of_control("inserted-sixteen-times"), "canary_auc").outcome is Outcome.FAILED
    assert judged(of_control("inserted-sixteen-times"), "exposed_canaries").outcome is not Outcome.FAILED


@pytest.mark.parametrize("name", BOUNDS)
def test_secrets_that_anybody_could_guess_give_no_verdict(name: str) -> None:
    """Where controls are exposed too, the generator is to blame, and the model is neither cleared nor accused."""
    assert judged(of_control("guessable-secrets"), name).outcome is Outcome.INVALID


def test_every_control_is_used_here() -> None:
    """No control is left untested by the tests above."""
    assert [item.kind for item in CanaryExposure.controls()] == ["sound", "sound", "defect", "defect", "confounded"]


def slow_rank(model: torch.nn.Module, canary: list[int], secret: int, letters: list[int]) -> tuple[int, int]:
    """Score every candidate on its own, token by token, as the definition says."""

    def surprise(candidate: tuple[int, ...]) -> float:
        text = canary[:-secret]
        total = 0.0
        for token in candidate:
            logits = model(torch.tensor([text]))
            logits = getattr(logits, "logits", logits)[0, -1].double()
            total -= float(logits[token] - logits.exp().sum().log())
            text = [*text, token]
        return total

    with torch.no_grad():
        scores = [surprise(candidate) for candidate in itertools.product(letters, repeat=secret)]
        own = surprise(tuple(canary[-secret:]))
    return sum(score <= own + 1e-6 for score in scores), len(scores)


@pytest.mark.parametrize("kind", ["plain", "transformers"])
def test_agrees_with_a_slow_implementation(kind: str) -> None:
    """Every candidate scored on its own, one token at a time, gives the same ranks."""
    model = causal.bigrams(7) if kind == "plain" else causal.gpt2(7)
    inserted, never = canaries(5, 1), canaries(5, 2)
    splits: dict[str, Any] = {"canaries": inserted, "controls": never}
    if kind == "transformers":
        splits = {name: {"input_ids": ids, "attention_mask": torch.ones_like(ids)} for name, ids in splits.items()}
    found = measured(subject(model, **splits), secret_tokens=3, alphabet=range(5))
    expected = []
    for row in inserted.tolist():
        rank, count = slow_rank(model, row, 3, list(range(5)))
        expected.append(math.log2(count) - math.log2(rank))
    assert sorted(series(found, "exposure", group="canaries").values) == pytest.approx(sorted(expected), abs=1e-9)


def test_agrees_with_the_loss_of_transformers_and_the_ranks_of_scipy() -> None:
    """GPT-2's own loss over the secret's tokens, ranked by SciPy with ties at their worst, gives the same exposure."""
    model = causal.gpt2(6)
    inserted, never = canaries(4, 1, vocabulary=6), canaries(4, 2, vocabulary=6)
    found = measured(subject(model, canaries=inserted, controls=never), secret_tokens=3, alphabet=range(6))
    exposures = []
    for row in inserted:
        texts = torch.stack([torch.cat([row[:-3], torch.tensor(end)]) for end in itertools.product(range(6), repeat=3)])
        labels = texts.clone()
        labels[:, :-3] = -100
        with torch.no_grad():
            losses = [float(model(input_ids=a[None], labels=b[None]).loss) for a, b in zip(texts, labels, strict=True)]
        own = int((texts == row).all(1).nonzero()[0, 0])
        rank = rankdata(np.round(losses, 6), method="max")[own]
        exposures.append(math.log2(len(texts)) - math.log2(rank))
    assert sorted(series(found, "exposure", group="canaries").values) == pytest.approx(sorted(exposures), abs=0.02)


def test_a_model_with_known_probabilities_has_known_ranks() -> None:
    """Where the next token is always likelier the smaller its number, 0 0 comes first, and the last secret last."""
    logits = -torch.arange(12.0).expand(12, 12)
    inserted = torch.tensor([[3, 0, 0], [3, 0, 1], [3, 1, 0], [3, 11, 11]])
    found = measured(
        subject(causal.Bigrams(logits), canaries=inserted, controls=tokens(4, 3, 12, 5)),
        secret_tokens=2,
        alphabet=range(12),
    )
    expected = np.log2(144) - np.log2([1, 3, 3, 144])
    assert sorted(series(found, "exposure", group="canaries").values) == pytest.approx(sorted(expected))


def test_never_inserted_canaries_have_the_exposure_of_chance() -> None:
    """Under a model that knows nothing, p-values are uniform and exposure is 1.44 bits on average: nothing is clipped."""
    found = measured(
        subject(causal.bigrams(10), canaries=canaries(600, 1, 9, 10), controls=canaries(600, 2, 9, 10)),
        samples=None,
        secret_tokens=3,
        alphabet=range(10),
    )
    for group in ("canaries", "controls"):
        exposures = series(found, "exposure", group=group).values
        assert kstest(2.0**-exposures, "uniform").pvalue > 0.001
        assert exposures.mean() == pytest.approx(math.log2(math.e), abs=0.2)
    ranks = np.arange(1, 1001)
    assert exposure(ranks, 1000).mean() == pytest.approx(math.log2(1000) - math.lgamma(1001) / math.log(2) / 1000)


def test_sampled_candidates_limit_exposure() -> None:
    """However well a secret is known, among s candidates its exposure is at most log2 s, and the limit says so."""
    logits = torch.zeros(12, 12)
    logits[:, 0] = 30
    given = subject(causal.Bigrams(logits), canaries=torch.tensor([[5, 0, 0, 0, 0]]), controls=tokens(3, 5, 12, 1))
    found = measured(given, secret_tokens=4, alphabet=range(12), candidates=128)
    assert series(found, "exposure_limit").values[-1] == 7
    assert series(found, "exposure", group="canaries").values.tolist() == [7]
    everything = measured(given, secret_tokens=4, alphabet=range(12), candidates=12**4)
    assert series(everything, "exposure", group="canaries").values == pytest.approx([4 * math.log2(12)])


def test_sampled_candidates_agree_with_all_of_them() -> None:
    """A sample of the candidates gives p-values that scatter around those of all candidates."""
    given = subject(causal.bigrams(12, 3), canaries=canaries(60, 1, 6, 12), controls=canaries(60, 2, 6, 12))
    exact, sampled = (
        2.0
        ** -series(
            measured(given, secret_tokens=3, alphabet=range(12), candidates=count), "exposure", group="canaries"
        ).values
        for count in (12**3, 500)
    )
    assert np.abs(exact - sampled).max() < 5 * math.sqrt(0.25 / 500)


def test_a_known_prefix_is_no_exposure() -> None:
    """A model that memorised what stands before the secret, and nothing of the secret, exposes nothing."""
    logits = torch.zeros(12, 12)
    logits[0, 1] = logits[1, 0] = 40  # the prefix 0 1 0 1 is certain; after 11 anything may follow
    start = torch.tensor([0, 1, 0, 1, 0, 11])
    secrets = torch.cartesian_prod(torch.arange(2, 12), torch.arange(2, 12))
    texts = torch.cat([start.expand(100, -1), secrets], dim=1)
    flat = logits + 0.01 * torch.randn(12, 12, generator=torch.Generator().manual_seed(0))
    given = subject(causal.Bigrams(flat), canaries=texts[::2], controls=texts[1::2])
    found = measured(given, samples=None, secret_tokens=2, alphabet=range(12))
    exposures = np.concatenate([series(found, "exposure", group=group).values for group in ("canaries", "controls")])
    assert exposures.mean() < 2


def test_ties_count_against_the_secret() -> None:
    """A model to which all secrets are alike exposes none of them: rank last, exposure zero."""
    found = measured(
        subject(causal.Bigrams(torch.zeros(12, 12)), canaries=canaries(9, 1, 4, 12), controls=canaries(9, 2, 4, 12)),
        secret_tokens=2,
        alphabet=range(12),
    )
    assert series(found, "exposure", group="canaries").values.max() == pytest.approx(0)
    assert series(found, "exposed_canaries").values.sum() == 0


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(side: str) -> None:
    """Canaries of several lengths have the same exposure alone, and padded on either side."""
    model = causal.gpt2(7)
    short, long, never = canaries(6, 1, 6), canaries(6, 2, 8), canaries(12, 3, 8)
    fill = torch.zeros(6, 2, dtype=torch.long)
    padded, mask = ((fill, short), (fill, torch.ones_like(short)))
    if side == "right":
        padded, mask = padded[::-1], mask[::-1]
    ids = torch.cat([torch.cat(padded, 1), long])
    masks = torch.cat([torch.cat(mask, 1), torch.ones_like(long)])
    controls = {"input_ids": never, "attention_mask": torch.ones_like(never)}
    both = measured(
        subject(model, canaries={"input_ids": ids, "attention_mask": masks}, controls=controls),
        secret_tokens=3,
        alphabet=range(5),
    )
    alone = [
        series(
            measured(subject(model, canaries=part, controls=never), secret_tokens=3, alphabet=range(5)),
            "exposure",
            group="canaries",
        ).values
        for part in (short, long)
    ]
    together = series(both, "exposure", group="canaries").values
    assert sorted(together) == pytest.approx(sorted(np.concatenate(alone)), abs=1e-6)


def test_the_alphabet_is_what_stands_at_each_position() -> None:
    """Where no alphabet is given, a fixed separator multiplies nothing, and each position has its own letters."""
    texts = tokens(60, 6, 12, 1)
    texts[:, 4] = 3
    found = measured(subject(causal.bigrams(12), canaries=texts[:30], controls=texts[30:]), secret_tokens=3)
    assert series(found, "exposure_limit").values[-1] == pytest.approx(math.log2(144))


def test_the_same_seed_gives_the_same_result_and_batches_do_not_matter() -> None:
    """Sampled candidates follow from the seed and the canary, not from its batch; another seed draws others."""
    given = subject(causal.bigrams(12), canaries=canaries(40, 1, 8, 12), controls=canaries(40, 2, 8, 12))
    check = CanaryExposure(secret_tokens=4, alphabet=tuple(range(12)), candidates=300)
    one, same, other = (
        series(causal.measured(check, given, seed=seed, batch=batch), "exposure", group="canaries").values
        for seed, batch in ((0, 64), (0, 7), (1, 64))
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_what_cannot_be_measured_is_refused() -> None:
    """NaN, texts without a prefix, shared texts, foreign tokens, and too few candidates are errors that say the way out."""
    model, texts, never = causal.bigrams(7), canaries(9, 1), canaries(9, 2)
    with pytest.raises(CheckError, match="nothing stands before its secret"):
        measured(subject(model, canaries=texts, controls=never), secret_tokens=8)
    with pytest.raises(CheckError, match="1 texts of"):
        measured(subject(model, canaries=texts, controls=torch.cat([never, texts[:1]])), secret_tokens=3)
    with pytest.raises(CheckError, match="outside the alphabet"):
        measured(subject(model, canaries=texts, controls=never), secret_tokens=3, alphabet=(0, 1))
    with pytest.raises(CheckError, match="no p-value can be as small as"):
        measured(subject(model, canaries=texts, controls=never), secret_tokens=2, alphabet=range(5))
    broken = causal.Bigrams(torch.full((7, 7), math.nan))
    with pytest.raises(CheckError, match="NaN or infinite"):
        measured(subject(broken, canaries=texts, controls=never), secret_tokens=3)
    with pytest.raises(CheckError, match="predicts only 3 tokens"):
        measured(subject(torch.nn.Embedding(7, 3).eval(), canaries=texts, controls=never), secret_tokens=3)
    with pytest.raises(ValidationError, match='both "canaries"'):
        CanaryExposure(never_inserted="canaries")


def test_few_canaries_can_fail_but_not_pass() -> None:
    """Ten memorised canaries against many controls are proof enough; ten unknown ones prove nothing."""
    for name, outcome in (("canaries-memorised", Outcome.FAILED), ("other-canaries-memorised", Outcome.INCONCLUSIVE)):
        item = next(item for item in CanaryExposure.controls() if item.name == name)
        whole = item.build(0)
        inputs, _ = whole.split("canaries").take(range(10))
        assert isinstance(inputs, dict)
        controls = whole.split("controls").take(range(150))[0]
        few = subject(whole.model, canaries=inputs, controls=controls)
        assert judged(measured(few, **item.parameters), "exposed_canaries").outcome is outcome


def test_the_announced_cost_is_an_upper_limit() -> None:
    """With the alphabet named, as many texts go through the model as are announced."""
    calls: list[int] = []
    given = subject(causal.bigrams(7), canaries=canaries(6, 1), controls=canaries(9, 2))
    given.model.register_forward_hook(lambda _module, inputs, _output: calls.append(len(inputs[0])))
    check = CanaryExposure(secret_tokens=3, alphabet=tuple(range(5)))
    causal.measured(check, given, samples=8)
    assert check.passes(given, 8).forward == sum(calls) == 14 * 25

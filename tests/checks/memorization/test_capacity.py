"""Capacity: the five proofs, the two exact controls, and how bits are counted."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.stats import chi2
from torch import Tensor, nn

from method_cards import judge
from method_cards.card import CheckBinding
from method_cards.errors import CheckError
from method_cards.judge import Judged
from method_cards.measurement import Measurements
from method_cards.subject import Subject
from method_cards.training import Recipe
from method_cards.verdict import Outcome
from method_checks.memorization.capacity import Capacity, plateau_gap
from method_checks.memorization.controls import language_models as made
from method_checks.memorization.sequences.strings import capacity_limit, memorized, random_texts
from tests.checks.memorization import causal
from tests.checks.memorization.causal import series, subject, tokens
from tests.helpers import REPOSITORY, binding, criterion

GATES = [
    criterion("plateau_gap", at_most=0.05),
    criterion("limit_excess", at_most=0.001),
    criterion("held_out_bits", at_most=1.0),
]
BINDING = CheckBinding.model_validate(binding(Capacity.id, [criterion("data_per_capacity", at_least=1.0)], GATES))


def measured(given: Subject, *, samples: int | None = 200, seed: int = 0, **parameters: Any) -> Measurements:
    return causal.measured(Capacity(**parameters), given, samples=samples, seed=seed)


@cache
def of_control(name: str) -> Measurements:
    item = next(item for item in Capacity.controls() if item.name == name)
    return measured(item.build(0), **item.parameters)


def judged(name: str) -> Judged:
    return judge.judge(BINDING, of_control(name), complete=True)


def trained_by(train: Any, model: nn.Module, count: int = 60) -> Subject:
    """A subject whose texts have 6 tokens, of which 5 are predicted, out of 8."""
    return replace(subject(model, train=tokens(count, 6, 8, 1), test=tokens(40, 6, 8, 2)), train=train)


def test_more_data_than_can_be_held_pass() -> None:
    """Texts that hold more than twice what a table can store pass."""
    assert judged("more-data-than-it-holds").outcome is Outcome.PASSED


def test_fewer_data_fail_because_they_could_be_stored_whole() -> None:
    """The same table fails with a fifteenth of the texts, while all conditions of the run hold."""
    result = judged("fewer-data-than-it-holds")
    assert result.outcome is Outcome.FAILED
    assert {gate.outcome for gate in result.gates} == {Outcome.PASSED}


def test_a_training_that_stops_early_gives_no_verdict() -> None:
    """What was stored before a plateau says nothing about capacity; that nothing was stored is no plateau."""
    result = judged("stopped-before-the-plateau")
    assert (result.outcome, result.gates[0].outcome) == (Outcome.INVALID, Outcome.FAILED)


def test_a_model_that_sees_what_it_predicts_gives_no_verdict() -> None:
    """Both exact controls find it: more is stored than can be, and strings that were never seen are stored too."""
    result = judged("sees-what-it-predicts")
    assert result.outcome is Outcome.INVALID
    assert [gate.outcome for gate in result.gates[1:]] == [Outcome.FAILED, Outcome.FAILED]


def test_every_control_is_used_here() -> None:
    """No control is left untested by the tests above."""
    assert [item.kind for item in Capacity.controls()] == ["sound", "defect", "confounded", "confounded"]


def test_agrees_with_a_slow_implementation() -> None:
    """Strings that a table of counts stores, counted pair by pair in base 2 from the definition."""
    seen: list[Tensor] = []

    def count(inputs: Tensor, targets: Tensor, seed: int) -> nn.Module:
        seen.append(inputs)
        counts = torch.full((8, 8), 0.5)
        for row in inputs.tolist():
            for before, after in itertools.pairwise(row):
                counts[before, after] += 1
        return causal.Bigrams((counts / counts.sum(1, keepdim=True)).log())

    found = measured(trained_by(count, causal.bigrams(8)), densities=(2.0, 6.0))
    for density, strings in zip((2.0, 6.0), seen, strict=True):
        rows = strings.tolist()
        assert len(rows) == round(density * 64 / 15)
        assert all(row[0] == 0 and len(row) == 6 for row in rows)
        pairs = [pair for row in rows for pair in itertools.pairwise(row)]
        bits = 0.0
        for before, after in pairs:
            same, all_ = pairs.count((before, after)), sum(pair[0] == before for pair in pairs)
            bits += 3 + math.log2((same + 0.5) / (all_ + 4))
        assert series(found, "stored", density=density).values[-1] == pytest.approx(bits / 64, rel=1e-5)


def test_a_table_stores_what_the_chi_squared_distribution_says() -> None:
    """What a table of counts saves on random strings is a likelihood ratio: 1 / (2 ln 2) bits for each degree of freedom."""

    def count(inputs: Tensor, targets: Tensor, seed: int) -> nn.Module:
        counts = torch.full((8, 8), 1e-6)
        counts.index_put_(
            (inputs[:, :-1].flatten(), inputs[:, 1:].flatten()), torch.ones(inputs.shape[0] * 5), accumulate=True
        )
        return causal.Bigrams((counts / counts.sum(1, keepdim=True)).log())

    statistics = [
        2
        * math.log(2)
        * 64
        * series(
            measured(trained_by(count, causal.bigrams(8)), densities=(50.0, 400.0), seed=seed), "stored", density=400.0
        ).values[-1]
        for seed in range(12)
    ]
    low, high = chi2(8 * 7).ppf([1e-4, 1 - 1e-4])
    assert all(low < statistic < high for statistic in statistics)
    assert np.mean(statistics) == pytest.approx(8 * 7, abs=4 * math.sqrt(2 * 56 / 12))


def test_a_list_of_the_strings_reaches_the_limit() -> None:
    """A model that gives each of its N strings 1 / N stores exactly the share 1 − log2 N / (T log2 V), and no model more."""
    first = torch.arange(1, 9)
    strings = torch.stack([torch.zeros(8, dtype=torch.long), first, first.roll(1), first.roll(1)], dim=1)
    logits = torch.full((9, 9), -60.0)
    logits[0, 1:] = 0.0
    logits[strings[:, 1], strings[:, 2]] = 60.0
    entropy = 2 * math.log2(9)
    given = subject(causal.Bigrams(logits), train=strings[:, :3])
    from method_checks.memorization.sequences.tokens import sequences
    from method_checks.memorization.unintended_memorization import code_lengths

    lengths = code_lengths(given.model, sequences(given, given.batch("train", range(8))), 8)
    assert memorized(lengths, entropy) / (8 * entropy) == pytest.approx(capacity_limit(8, entropy), abs=1e-9)
    others = torch.softmax(torch.randn(8, 40, generator=torch.Generator().manual_seed(0)), 1)
    anything = -(others.sum(0) / 8).log2()[:8]  # probabilities of eight strings that sum to less than one
    assert memorized(anything.double(), entropy) / (8 * entropy) <= capacity_limit(8, entropy)


def test_a_transformer_below_its_capacity_reaches_the_limit() -> None:
    """Few enough strings are stored whole: all of their bits but the log2 N that it takes to say which one, and held-out ones are not."""
    recipe = Recipe(
        partial(made.network, 0, vocabulary=16, context=9, width=24),
        350,
        64,
        0.01,
        "adamw",
        schedule="cosine",
        loss="next-token",
    )
    given = replace(
        subject(
            made.network(0, vocabulary=16, context=9, width=24), train=tokens(40, 9, 16, 1), test=tokens(40, 9, 16, 2)
        ),
        train=recipe,
    )
    found = measured(given, densities=(0.1, 0.2))
    parameters = sum(part.numel() for part in given.model.parameters())
    count = round(0.2 * parameters / 32)
    limit = capacity_limit(count, 32)
    assert series(found, "limit_excess").values[-1] <= 1e-6
    assert series(found, "stored", density=0.2).values[-1] * parameters / (count * 32) == pytest.approx(limit, abs=0.03)
    assert series(found, "held_out_bits").values[-1] < -10
    assert series(found, "steps", density=0.2).values[-1] == 350 * math.ceil(count / 64)


def test_nothing_is_clipped_at_zero() -> None:
    """A model that was not trained stores a negative amount of random strings, which is no plateau and no capacity."""
    given = trained_by(lambda inputs, targets, seed: causal.bigrams(8, seed % 1000), causal.bigrams(8))
    found = measured(given, densities=(20.0, 40.0))
    assert series(found, "capacity").values[-1] < 0
    assert series(found, "plateau_gap").values[-1] == 1
    assert series(found, "data_per_capacity").n == 0
    assert judge.judge(BINDING, found, complete=True).outcome is Outcome.INVALID


def test_the_information_of_the_data_is_that_of_all_training_texts() -> None:
    """Under a uniform reference, each text holds T log2 V bits, and the ratio is their number times that over the stored bits."""

    def count(inputs: Tensor, targets: Tensor, seed: int) -> nn.Module:
        counts = torch.full((8, 8), 0.1)
        counts.index_put_(
            (inputs[:, :-1].flatten(), inputs[:, 1:].flatten()), torch.ones(inputs.shape[0] * 5), accumulate=True
        )
        return causal.Bigrams((counts / counts.sum(1, keepdim=True)).log())

    given = replace(trained_by(count, causal.bigrams(8), count=14), reference=causal.Bigrams(torch.zeros(8, 8)))
    found = measured(given, densities=(20.0, 40.0))
    stored = series(found, "capacity").values[-1] * 64
    assert series(found, "data_per_capacity").values == pytest.approx(np.full(40, 14 * 15 / stored))


def test_plateau_gaps() -> None:
    """Two sets that store the same show a plateau; nothing stored shows none, however equal."""
    assert plateau_gap(2.557, 2.555) == pytest.approx(0.002 / 2.557)
    assert plateau_gap(2.28, 2.19) == pytest.approx(0.09 / 2.28)
    assert plateau_gap(-0.1, -0.1) == plateau_gap(0.0, 0.0) == plateau_gap(-1.0, 3.0) == 1


def test_random_texts_are_distinct_and_uniform() -> None:
    """No string stands twice, the first token is given, and too few possible strings are refused."""
    found = random_texts(500, 4, 6, torch.Generator().manual_seed(0))
    assert len(torch.unique(found, dim=0)) == 500
    assert found.shape == (500, 5)
    assert not found[:, 0].any()
    counts = torch.bincount(found[:, 1:].flatten(), minlength=6)
    assert counts.min() > 333 - 80
    with pytest.raises(CheckError, match="longer strings"):
        random_texts(700, 4, 6, torch.Generator().manual_seed(0))


def test_models_of_transformers_are_trained_and_measured_too() -> None:
    """Named inputs and masks go to the training function, and a GPT-2 from a configuration is measured."""
    seen: list[set[str]] = []

    def untrained(inputs: Tensor | dict[str, Tensor], targets: Tensor, seed: int) -> nn.Module:
        assert isinstance(inputs, dict)
        seen.append(set(inputs))
        assert inputs["attention_mask"].min() == 1
        return causal.gpt2(8, 8)

    texts = {"input_ids": tokens(40, 6, 8, 1), "attention_mask": torch.ones(40, 6, dtype=torch.long)}
    texts["attention_mask"][:, 4:] = 0
    others = {"input_ids": tokens(40, 6, 8, 2), "attention_mask": torch.ones(40, 6, dtype=torch.long)}
    given = replace(subject(causal.gpt2(8, 8), train=texts, test=others), train=untrained)
    found = measured(given, densities=(0.05, 0.1), tokens=7)
    assert seen == 2 * [{"input_ids", "attention_mask"}]
    assert series(found, "held_out_bits").values[-1] <= 0


def test_the_same_seed_gives_the_same_result() -> None:
    """Strings and trainings follow from the seed; another seed draws other strings."""
    item = Capacity.controls()[1]
    one, same, other = (
        series(measured(item.build(0), seed=seed, **item.parameters), "capacity").values for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert one != other
    assert one == pytest.approx(other, rel=0.05)


def test_the_trainings_are_part_of_the_cost() -> None:
    """With a recipe each string is trained on as often as that says; forward passes are those that the run makes."""
    recipe = Recipe(partial(causal.bigrams, 8), 3, 64, 0.1, loss="next-token")
    check = Capacity(densities=(20.0, 40.0), held_out=32)
    cost = check.passes(trained_by(recipe, causal.bigrams(8)), 40)
    strings = round(20 * 64 / 15) + round(40 * 64 / 15)
    assert (cost.forward, cost.backward, cost.trainings) == (40 + 2 * 32 + strings, 3 * strings, 2)
    assert check.passes(trained_by(lambda *_: causal.bigrams(8), causal.bigrams(8)), 40).trainings == 2


def test_what_cannot_be_measured_is_refused() -> None:
    """NaN, sets of one string, densities too near each other and a missing training function are told."""
    with pytest.raises(CheckError, match="NaN or infinite"):
        measured(trained_by(None, causal.Bigrams(torch.full((8, 8), math.nan))))
    broken = causal.Bigrams(torch.full((8, 8), math.nan))
    with pytest.raises(CheckError, match="NaN or infinite"):
        measured(trained_by(lambda *_: broken, causal.bigrams(8)), densities=(20.0, 40.0))
    with pytest.raises(CheckError, match="too few to measure"):
        measured(trained_by(lambda *_: broken, causal.bigrams(8)), densities=(0.1, 0.2))
    with pytest.raises(ValidationError, match="at least twice"):
        Capacity(densities=(1.0, 4.0, 6.0))
    assert "`train:`" in Capacity().not_applicable(
        subject(causal.bigrams(8), train=tokens(9, 5, 8, 1), test=tokens(9, 5, 8, 2))
    )


def test_the_published_page_is_made_from_the_published_results() -> None:
    """The page says what results.json holds, and no point of it breaks a theorem."""
    folder = REPOSITORY / "examples" / "capacity"
    spec = importlib.util.spec_from_file_location("capacity_page", folder / "capacity_page.py")
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    points = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert (REPOSITORY / "site" / "evidence" / "capacity.md").read_text(encoding="utf-8") == generator.page(points)
    for point in points:
        assert point["memorized_bits"] / point["dataset_bits"] <= capacity_limit(point["strings"], 32 * 6)
        assert point["held_out_bits"] < 0

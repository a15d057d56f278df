"""Attribution of continuations to prompts: the five proofs, the known key, and what must be refused."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from captum import attr
from scipy import stats
from torch import Tensor, nn

from method_cards import judge
from method_cards.adapters import as_tensor
from method_cards.card import CheckBinding
from method_cards.catalog import Catalog
from method_cards.check import Context
from method_cards.execution import Options, Silent, measure
from method_cards.judge import Judged
from method_cards.measurement import Measurements
from method_cards.subject import Subject
from method_cards.verdict import Outcome
from method_checks.attribution.controls import recall
from method_checks.attribution.language_model_attribution import LanguageModelAttribution
from method_checks.attribution.texts.agreement import additivity_error, kendall, same_top
from method_checks.attribution.texts.explainers import FeatureAblation, GradientXDifference, ShapleySampling
from method_checks.attribution.texts.faithfulness import top_first
from method_checks.attribution.texts.prompts import Dice, Prompts, alternatives, prompts_of
from tests.helpers import binding, criterion, step

CONTROLS = {item.name: item for item in LanguageModelAttribution.controls()}

SCRIPT = binding(
    LanguageModelAttribution.id, [criterion("seed_agreement", at_least=0)], [criterion("unmeasurable", at_most=0.5)]
)


@cache
def bindings() -> dict[str, CheckBinding]:
    """What the card demands, by prescription."""
    cards = {loaded.card.id: loaded.card for loaded in Catalog.installed()}
    found = cards["generative-lm-attribution"].prescriptions
    return {item.id: item.check for item in found if item.check is not None}


@cache
def control(name: str, seed: int = 0) -> Subject:
    return CONTROLS[name].build(seed)


def check_of(**parameters: Any) -> LanguageModelAttribution:
    return LanguageModelAttribution.model_validate({**recall.PARAMETERS, **parameters})


def run(
    check: LanguageModelAttribution, subject: Subject, *, samples: int = 128, seed: int = 0, batch: int = 64
) -> tuple[str, str, Measurements]:
    context = Context(subject, samples, seed, batch, scope=check.id)
    return measure(step(check, SCRIPT), context, Options(exhaustive=True), Silent())


def values(found: Measurements, name: str) -> np.ndarray[Any, Any]:
    return found.select(name, {})[0].values


@cache
def measured(name: str, seed: int = 0) -> Measurements:
    status, cause, found = run(check_of(), control(name, seed))
    assert (status, cause) == ("complete", "")
    return found


def judged(prescription: str, name: str, seed: int = 0) -> Judged:
    return judge.judge(bindings()[prescription], measured(name, seed), complete=True)


def prompted(subject: Subject, count: int = 6, size: int = 1) -> tuple[Context, Prompts]:
    context = Context(subject, count, 0, count, scope="test")
    (batch,) = context.batches("test")
    return context, prompts_of(subject, batch, None, 1, size, greedy=True)


# 1. and 2. Controls


@pytest.mark.parametrize("name", [item.name for item in CONTROLS.values() if item.kind == "sound"])
def test_a_sound_control_passes(name: str) -> None:
    """Ablation and Shapley values of a model that repeats its key meet every prescription of the card."""
    assert {slug: judged(slug, name).outcome for slug in bindings()} == dict.fromkeys(bindings(), Outcome.PASSED)


@pytest.mark.parametrize("name", [item.name for item in CONTROLS.values() if item.kind == "defect"])
def test_a_defect_control_fails_for_the_stated_reason(name: str) -> None:
    """Each control with a defect fails a prescription by the criterion that it names, and its conditions hold."""
    reason = CONTROLS[name].because
    slugs = [slug for slug, item in bindings().items() if reason in {part.measurement for part in item.criteria}]
    assert slugs
    for slug in slugs:
        found = judged(slug, name)
        assert found.outcome is Outcome.FAILED
        assert reason in {result.measurement for result in found.criteria if result.outcome is Outcome.FAILED}
        assert all(gate.outcome is Outcome.PASSED for gate in found.gates)


@pytest.mark.parametrize("method", [FeatureAblation(), ShapleySampling(permutations=12)])
def test_the_key_gets_the_largest_share(method: FeatureAblation | ShapleySampling) -> None:
    """In at least 95 of 100 prompts the token that the continuation repeats gets more than all other tokens together."""
    subject = control("ablation")
    context, prompts = prompted(subject, 100)
    stand_ins = alternatives(prompts, 0, Dice(context, prompts, "a"), 1)
    found = method.explain(prompts, stand_ins, Dice(context, prompts, "b"))
    is_key = (prompts.ids[:, : recall.LENGTH] > 0) & (prompts.ids[:, : recall.LENGTH] < recall.ASKS)
    share = found.abs().masked_fill(~is_key, 0).sum(1) / found.abs().sum(1)
    assert (share > 0.5).double().mean() >= 0.95
    assert torch.equal(prompts.ids[:, recall.LENGTH], (prompts.ids[:, : recall.LENGTH] * is_key).sum(1))


# 3. A slow re-implementation


def score(model: nn.Module, prompt: list[int], continuation: list[int]) -> float:
    """The log-probability of the continuation, one token and one forward pass at a time."""
    total = 0.0
    for number, token in enumerate(continuation):
        given = torch.tensor([prompt + continuation[:number]])
        with torch.no_grad():
            total += as_tensor(model(given))[0, -1].double().log_softmax(0)[token].item()
    return total


def slow_continuation(model: nn.Module, prompt: list[int], count: int) -> list[int]:
    found: list[int] = []
    for _ in range(count):
        with torch.no_grad():
            found.append(int(as_tensor(model(torch.tensor([prompt + found])))[0, -1].argmax()))
    return found


def test_it_agrees_with_a_slow_reading_of_the_papers() -> None:
    """Continuations, ablation, comprehensiveness and sufficiency are those of loops over tokens, shares and orders."""
    subject = control("ablation")
    check = check_of(continuation_tokens=2, orders=3, shares=(0.2, 0.5), segment_tokens=2)
    _, _, found = run(check, subject, samples=5, batch=5)
    context = Context(subject, 5, 0, 5, scope=check.id)
    (batch,) = context.batches("test")
    prompts = check._prompts(subject, batch)
    draws = Dice(context, prompts, "orders").uniform(4, prompts.counts, 4)
    assert isinstance(batch.inputs, Tensor)
    for row, prompt in enumerate(batch.inputs.tolist()):
        continuation = slow_continuation(subject.model, prompt, 2)
        assert prompts.ids[row].tolist() == prompt + continuation
        segments = [range(start, min(start + 2, len(prompt))) for start in range(0, len(prompt), 2)]

        def without(chosen: list[int], prompt: list[int] = prompt, segments: list[range] = segments) -> list[int]:
            gone = {place for number in chosen for place in segments[number]}
            return [0 if place in gone else token for place, token in enumerate(prompt)]

        full = score(subject.model, prompt, continuation)
        phi = [full - score(subject.model, without([number]), continuation) for number in range(len(segments))]
        orders = [sorted(range(len(segments)), key=lambda number, phi=phi: -phi[number])]  # type: ignore[misc]
        orders += [sorted(range(len(segments)), key=draws[draw, row].tolist().__getitem__) for draw in (1, 2, 3)]
        seen, comprehensiveness, sufficiency = [full], [0.0] * 4, [0.0] * 4
        for share in (0.2, 0.5):
            top = int(np.ceil(share * len(segments)))
            for number, order in enumerate(orders):
                gone, kept = (
                    score(subject.model, without(chosen), continuation) for chosen in (order[:top], order[top:])
                )
                seen += [gone, kept]
                comprehensiveness[number] += (full - gone) / 2
                sufficiency[number] += (full - kept) / 2
        largest = max(seen) - min(seen)
        assert values(found, "comprehensiveness")[row] == pytest.approx(comprehensiveness[0], abs=1e-4)
        assert values(found, "sufficiency")[row] == pytest.approx(sufficiency[0], abs=1e-4)
        excess = (comprehensiveness[0] - sum(comprehensiveness[1:]) / 3) / largest
        assert values(found, "comprehensiveness_excess")[row] == pytest.approx(excess, abs=1e-4)
        excess = (sum(sufficiency[1:]) / 3 - sufficiency[0]) / largest
        assert values(found, "sufficiency_excess")[row] == pytest.approx(excess, abs=1e-4)


# 4. Agreement with Captum and SciPy


def test_ablation_and_shapley_values_are_captums() -> None:
    """Feature ablation is Captum's, and Shapley values over many orders are Captum's exact ones to 0.1 nats."""
    subject = control("ablation")
    context, prompts = prompted(subject, 6, size=2)
    stand_ins = alternatives(prompts, 0, Dice(context, prompts, "a"), 1)

    def forward(ids: Tensor) -> Tensor:
        rows = torch.arange(len(ids)) % 6
        return prompts.log_probabilities(ids.long(), rows)

    with torch.no_grad():
        expected = attr.FeatureAblation(forward).attribute(
            prompts.ids.double(), baselines=0.0, feature_mask=prompts.numbers + 100 * ~prompts.inside
        )
    found = FeatureAblation().explain(prompts, stand_ins, Dice(context, prompts, "b"))
    assert torch.allclose(found, expected[:, [0, 2, 4, 6]].double(), atol=1e-4)
    exact = torch.zeros(6, 4, dtype=torch.float64)
    for row in range(6):

        def one(ids: Tensor, row: int = row) -> Tensor:
            return prompts.log_probabilities(ids.long(), torch.full((len(ids),), row))

        mask = prompts.numbers[row : row + 1].clone()
        mask[:, recall.LENGTH :] = 4
        baseline = torch.where(mask == 4, prompts.ids[row : row + 1], 0).double()
        shapley = attr.ShapleyValues(one).attribute(
            prompts.ids[row : row + 1].double(), baselines=baseline, feature_mask=mask
        )
        exact[row] = shapley[0, [0, 2, 4, 6]].detach().double()
    sampled = ShapleySampling(permutations=200).explain(prompts, stand_ins, Dice(context, prompts, "c"))
    assert torch.allclose(sampled, exact, atol=0.1)


def test_ablation_of_a_hugging_face_model_is_captums() -> None:
    """Captum's `LLMAttribution` of a GPT-2 gives the same numbers, as long as it does not reuse the model's key and value cache."""
    from tests.test_adapters import gpt, language_subject, tokenizer

    subject = language_subject(6)
    context, prompts = prompted(subject, 6)
    stand_ins = alternatives(prompts, 0, Dice(context, prompts, "a"), 1)
    found = FeatureAblation().explain(prompts, stand_ins, Dice(context, prompts, "b"))
    texts, _ = subject.split("test").take(prompts.batch.indices)
    captum = attr.LLMAttribution(attr.FeatureAblation(gpt()), tokenizer())
    for row, text in enumerate(texts):
        length = int(prompts.lengths[row])
        given = attr.TextTokenInput(text, tokenizer(), baselines=0)
        expected = captum.attribute(given, target=prompts.ids[row, length : length + 1], use_cached_outputs=False)
        assert found[row, :length].tolist() == pytest.approx(expected.seq_attr.tolist(), abs=1e-4)


def test_tau_is_scipys() -> None:
    """Kendall's tau-b with ties and with positions left out is SciPy's."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(5, (40, 9), generator=generator) for _ in range(2))
    mask = torch.arange(9) < torch.randint(3, 10, (40, 1), generator=generator)
    found = kendall(a, b, mask)
    for row in range(40):
        kept = mask[row]
        expected = stats.kendalltau(a[row][kept], b[row][kept]).statistic
        assert found[row].item() == pytest.approx(0 if np.isnan(expected) else expected, abs=1e-9)


def test_the_gradient_method_is_exact_on_an_additive_score() -> None:
    """For a model whose log-odds add up over embeddings, small embeddings make gradient times difference equal to ablation."""

    class Additive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(12, 4)
            self.out = nn.Linear(4, 12)

        def forward(self, tokens: Tensor) -> Tensor:
            logits: Tensor = self.out(1e-3 * self.embedding(tokens).cumsum(1))
            return logits

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Additive().eval()
    data = torch.randint(12, (6, 7)), torch.zeros(6)
    context, prompts = prompted(Subject("additive", "text-generation", model.double(), {"test": data}))
    stand_ins = alternatives(prompts, "shuffled", Dice(context, prompts, "a"), 2)
    one, other = (
        method.explain(prompts, stand_ins, Dice(context, prompts, "b"))
        for method in (GradientXDifference(), FeatureAblation())
    )
    assert one.abs().amax() > 1e-5
    assert torch.allclose(one, other, rtol=0, atol=5e-3 * float(other.abs().amax()))


# 5. Same seed, same result


def test_the_same_seed_gives_the_same_result() -> None:
    """Two runs from one seed measure the same to the last bit, and batches do not matter to random methods either."""
    subject = control("too-few-samples")
    check = check_of(replacements=("vocabulary", "shuffled", 0))
    one, same, other = (run(check, subject, samples=40, batch=size)[2] for size in (64, 64, 7))
    for series in one:
        assert np.array_equal(series.values, values(same, series.name))
        assert values(other, series.name) == pytest.approx(series.values, abs=1e-5)


# The mathematics


def test_shapley_values_add_up() -> None:
    """For any number of orders their sum is the change of log p exactly; ablation of a doubled key misses all of it."""
    assert values(measured("too-few-samples"), "additivity_error").max() < 1e-6
    assert values(measured("two-keys"), "additivity_error").mean() > 0.6


def test_the_additivity_error_is_between_its_ends() -> None:
    """It is 0 for equal sums, 1 for a sum of zero or of the wrong sign, and 1/3 for a sum twice too large."""
    change = torch.tensor([2.0, 2.0, 2.0, -2.0, 0.0], dtype=torch.float64)
    total = torch.tensor([2.0, 0.0, 4.0, 1.0, 0.0], dtype=torch.float64)
    assert additivity_error(total, change).tolist() == pytest.approx([0, 1, 1 / 3, 1, 0])


def test_ties_are_broken_by_chance_and_nothing_else() -> None:
    """Equal attributions are ordered by the given numbers, larger ones come first, and shared tops agree in part."""
    attributions = torch.tensor([[1.0, 3.0, 1.0, 1.0]])
    assert top_first(attributions, torch.tensor([[0.9, 0.5, 0.1, 0.4]])).tolist() == [[3, 0, 1, 2]]
    mask = torch.tensor([[True, True, True, False]])
    assert same_top(attributions, attributions, mask).item() == 1
    assert same_top(attributions, torch.tensor([[2.0, 2.0, 0.0, 9.0]]), mask).item() == 0.5


def test_padding_of_either_side_does_not_count() -> None:
    """Texts of several lengths, padded left or right, have the continuations and scores that they have alone."""
    model = recall.trained(0)

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
            logits: Tensor = self.model(input_ids)
            return logits

    tokens, _ = recall.prompts(5, 4)
    lengths = torch.tensor([8, 6, 7, 8])
    mask = (torch.arange(8) < lengths[:, None]).long()
    right = {"input_ids": tokens * mask, "attention_mask": mask}
    left = {"input_ids": (tokens * mask).flip(1), "attention_mask": mask.flip(1)}
    left["input_ids"] = torch.stack([row.roll(8 - int(n)) for row, n in zip(right["input_ids"], lengths, strict=True)])
    found = []
    for inputs in (right, left):
        subject = Subject("padded", "text-generation", Masked().eval(), {"test": (inputs, torch.zeros(4))})
        _, prompts = prompted(subject, 4)
        for row, index in enumerate(prompts.batch.indices):
            prompt = tokens[index, : lengths[index]].tolist()
            continuation = slow_continuation(model, prompt, 1)
            assert prompts.ids[row, : len(prompt) + 1].tolist() == prompt + continuation
            assert prompts.scores(prompts.ids[None])[0, row].item() == pytest.approx(
                score(model, prompt, continuation), abs=1e-5
            )
        found.append(prompts.ids)
    assert found[0].shape == found[1].shape


def test_it_measures_a_hugging_face_model_on_texts() -> None:
    """A GPT-2 with its tokenizer, texts of several lengths and the texts' own continuations are measured as they are."""
    from tests.test_adapters import language_subject

    subject = language_subject(24)
    subject.explainer = {"method": "gradient-x-difference"}
    check = LanguageModelAttribution(continuation="text", continuation_tokens=1, least_difference=1e-4)
    status, cause, found = run(check, subject, samples=24)
    assert (status, cause) == ("complete", "")
    assert values(found, "unmeasurable").mean() < 1
    assert np.abs(values(found, "replacement_agreement")).max() <= 1


def test_segments_end_where_they_are_told_to() -> None:
    """Segments by size and by end tokens cover the prompt, neighbours become one, and sums are taken over them."""
    subject = control("ablation")
    context = Context(subject, 6, 0, 6, scope="test")
    (batch,) = context.batches("test")
    by_size = prompts_of(subject, batch, 7, 1, 3, greedy=True)
    assert by_size.numbers[0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    assert by_size.coarser(2).numbers[0].tolist() == [0, 0, 0, 0, 0, 0, 1, 1]
    assert by_size.counts.tolist() == [3] * 6
    ends = [token for token in range(recall.VOCABULARY) if token % 3 == 0]
    by_end = prompts_of(subject, batch, 7, 1, 1, greedy=True, ends=ends)
    for ids, numbers, count in zip(by_end.ids.tolist(), by_end.numbers.tolist(), by_end.counts.tolist(), strict=True):
        expected, number = [], 0
        for token in ids[:7]:
            expected.append(number)
            number += token % 3 == 0
        assert numbers[:7] == expected
        assert count == expected[-1] + 1
    assert by_end.by_segment(torch.ones(by_end.ids.shape)).sum(1).tolist() == [7] * 6


# What is refused


def test_a_model_that_does_not_read_its_prompt_is_invalid() -> None:
    """Where no replacement changes the continuation there is nothing to attribute, and no verdict is given."""

    class Deaf(nn.Module):
        def forward(self, tokens: Tensor) -> Tensor:
            return torch.arange(20.0).expand(*tokens.shape, 20)

    data = torch.randint(20, (64, 8)), torch.zeros(64)
    subject = Subject("deaf", "text-generation", Deaf().eval(), {"test": data}, explainer={"method": "noise"})
    _, _, found = run(check_of(), subject, samples=64)
    decided = judge.judge(bindings()["better-than-random-order"], found, complete=True)
    assert decided.outcome is Outcome.INVALID


def test_texts_that_are_too_short_are_refused() -> None:
    """The message names the example and the way out."""
    subject = control("ablation")
    status, cause, _ = run(check_of(continuation="text", prompt_tokens=8), subject)
    assert status == "errored"
    assert "too few for a prompt of 8 and a continuation of 1" in cause
    status, cause, _ = run(check_of(replacements=(0, 1, 999)), subject)
    assert "the model has 48 tokens, numbered from 0, and none is 999" in cause


def test_a_function_is_called_and_what_it_returns_is_checked() -> None:
    """A person's own function is measured like any other method; a wrong shape ends the check with the right one."""

    def key(model: nn.Module, inputs: Tensor, continuation: Tensor) -> Tensor:
        assert continuation.sum(1).unique().tolist() == [1]
        return ((inputs > 0) & (inputs < recall.ASKS)).double()

    subject = CONTROLS["ablation"].build(0)
    subject.explainer = key
    _, _, found = run(check_of(), subject)
    assert judge.judge(bindings()["better-than-random-order"], found, complete=True).outcome is Outcome.PASSED
    subject.explainer = lambda _model, inputs, _continuation: inputs.double().sum()
    status, cause, _ = run(check_of(), subject)
    assert status == "errored"
    assert "one number for each token, (64, 9), is needed" in cause


def test_it_says_where_it_does_not_apply() -> None:
    """Classifiers and subjects without a method are not applicable, with the reason; unknown methods are named."""
    from tests.helpers import classifier

    check = LanguageModelAttribution()
    assert "explains continuations by a language model" in check.not_applicable(classifier())
    subject = CONTROLS["ablation"].build(0)
    subject.explainer = None
    assert "name one under `explainer:`" in check.not_applicable(subject)
    assert not LanguageModelAttribution(explainer=FeatureAblation()).not_applicable(subject)


@pytest.mark.parametrize("name", ["ablation", "shapley-values"])
def test_the_cost_is_what_is_spent(name: str) -> None:
    """The passes that the plan states are at least those that the model is called for, and not a tenth more."""
    calls = {"examples": 0}
    subject = CONTROLS[name].build(0)
    subject.model.register_forward_pre_hook(
        lambda _module, inputs: calls.__setitem__("examples", calls["examples"] + len(inputs[0]))
    )
    stated = check_of().passes(subject, 64)
    calls["examples"] = 0
    run(check_of(), subject, samples=64)
    assert 0.9 * stated.forward <= calls["examples"] <= stated.forward + stated.backward + 1

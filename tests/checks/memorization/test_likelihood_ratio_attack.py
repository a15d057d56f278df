"""The likelihood-ratio attack: the five proofs, the design of the shadows, and what must never pass."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from functools import cache
from statistics import NormalDist, fmean
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from method_cards import judge
from method_cards.card import CheckBinding
from method_cards.check import Context
from method_cards.errors import CheckError
from method_cards.judge import Judged
from method_cards.measurement import Measurements, Series
from method_cards.memo import Memo
from method_cards.subject import Subject
from method_cards.training import Recipe
from method_cards.verdict import Outcome
from method_checks.memorization.controls.retrained import REGULARISED
from method_checks.memorization.likelihood_ratio_attack import ATTACKS, LikelihoodRatioAttack
from method_checks.memorization.membership_inference import MembershipInference
from method_checks.memorization.scores import reference_models
from method_checks.memorization.scores.confidence import logit_scaled_confidence
from method_checks.memorization.shadows.ensemble import Shadows, halves, shadows
from tests.helpers import binding, criterion

GATES = [criterion("blind_auc", at_most=0.55), criterion("held_out_loss_ratio", between=[0.67, 1.5])]


def bounded(name: str, bound: float, attack: str = "lira-online") -> CheckBinding:
    item = {**criterion(name, at_most=bound), "where": {"attack": attack}}
    return CheckBinding.model_validate(binding(LikelihoodRatioAttack.id, [item], GATES))


AREA = bounded("membership_auc", 0.6)
RATE = bounded("true_positive_rate", 0.05)


def measured(
    subject: Subject, *, samples: int | None = 1000, seed: int = 0, memo: Memo | None = None, **parameters: Any
) -> Measurements:
    check = LikelihoodRatioAttack(**{"shadows": 16, "blind_blocks": 4, **parameters})
    found = Measurements()
    context = Context(subject, samples, seed, scope=check.id, memo=memo or Memo())
    for yielded in check.measure(subject, context):
        found.add(yielded)
    return found


def series(found: Measurements, name: str, attack: str = "") -> Series:
    (only,) = found.select(name, {"attack": attack} if attack else {})
    return only


def area(found: Measurements, attack: str) -> float:
    return judge.interval_of(series(found, "membership_auc", attack), 0.95).estimate


@cache
def control(name: str, seed: int = 0) -> Subject:
    return next(item for item in LikelihoodRatioAttack.controls() if item.name == name).build(seed)


@cache
def of_control(name: str) -> Measurements:
    return measured(control(name))


def judged(name: str, bounds: CheckBinding = AREA) -> Judged:
    return judge.judge(bounds, of_control(name), complete=True)


def tiny(members: int = 40, non_members: int = 40, **options: Any) -> Subject:
    """A small network trained for a few steps on a random table."""
    generator = torch.Generator().manual_seed(7)
    tables = [
        (torch.randn(count, 4, generator=generator), torch.randint(3, (count,), generator=generator))
        for count in (members, non_members)
    ]
    recipe = Recipe(small, epochs=20, batch_size=20, learning_rate=0.5)
    given = {"train": recipe, **options}
    return Subject(
        "tiny",
        "tabular-classification",
        recipe(*tables[0], 5),
        dict(zip(("train", "test"), tables, strict=True)),
        **given,
    )


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))


@pytest.mark.parametrize("name", ["trained-on-other-rows", "small-model-on-many-rows"])
def test_sound_controls_pass(name: str) -> None:
    """A model that saw neither split, be it overfitted, and a small one that saw plenty of data, pass by area and by rate."""
    assert judged(name).outcome is Outcome.PASSED
    assert judged(name, RATE).outcome is Outcome.PASSED


@pytest.mark.parametrize(
    ("name", "bounds"),
    [("overfitted", AREA), ("overfitted", RATE), ("regularised-but-exposed", AREA)],
)
def test_defect_controls_fail_for_their_reason(name: str, bounds: CheckBinding) -> None:
    """Networks that memorised fail by what the criterion is put on, while both gates pass."""
    result = judged(name, bounds)
    assert result.outcome is Outcome.FAILED
    assert result.criteria[0].outcome is Outcome.FAILED
    assert [gate.outcome for gate in result.gates] == [Outcome.PASSED, Outcome.PASSED]


def test_single_members_are_identified_at_one_false_positive_in_a_thousand() -> None:
    """With 2,000 non-members the overfitted network fails at this rate by likelihood ratios, while one threshold on confidences finds nobody."""
    found = measured(control("overfitted-to-single-rows"), samples=2000, false_positive_rate=0.001)
    rate = bounded("true_positive_rate", 0.01).criteria[0]
    assert judge.decide(rate, found, complete=True).outcome is Outcome.FAILED
    alone = bounded("true_positive_rate", 0.01, "confidence").criteria[0]
    assert judge.decide(alone, found, complete=True).outcome is Outcome.PASSED


def test_the_regularised_network_is_not_found_by_its_loss() -> None:
    """The same network does not fail the loss attack, nor its true-positive rate: passing that one is no safety."""
    check = MembershipInference()
    found = Measurements()
    subject = control("regularised-but-exposed")
    for yielded in check.measure(subject, Context(subject, 1000, 0, scope=check.id)):
        found.add(yielded)
    for name, bound in (("membership_auc", 0.55), ("true_positive_rate", 0.05)):
        loss = CheckBinding.model_validate(binding(check.id, [criterion(name, at_most=bound)], GATES[:1]))
        assert judge.judge(loss, found, complete=True).outcome is not Outcome.FAILED
    exposed = of_control("regularised-but-exposed")
    assert area(exposed, "lira-online") > area(exposed, "confidence") + 0.1
    assert area(exposed, "rmia-online") > area(exposed, "confidence") + 0.1


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_finds_the_overfitted_network_and_not_the_innocent_one(attack: str) -> None:
    """Each of the four attacks beats the confidence on a network that memorised, and reads one half on rows that it never saw."""
    assert area(of_control("overfitted"), attack) > area(of_control("overfitted"), "confidence") + 0.03
    innocent = judge.interval_of(series(of_control("trained-on-other-rows"), "membership_auc", attack), 0.99)
    assert innocent.low < 0.5 < innocent.high


@pytest.mark.parametrize(
    ("name", "gate"),
    [("never-saw-either-but-shifted", "blind_auc"), ("trained-by-another-recipe", "held_out_loss_ratio")],
)
def test_confounded_controls_are_invalid(name: str, gate: str) -> None:
    """Splits that differ without the model, and shadows that are unlike it, give no verdict."""
    result = judged(name)
    assert result.outcome is Outcome.INVALID
    assert [item.measurement for item in result.gates if item.outcome is Outcome.FAILED] == [gate]


def test_every_control_is_used_here() -> None:
    """No control is left untested by the tests above."""
    assert {item.kind for item in LikelihoodRatioAttack.controls()} == {"sound", "defect", "confounded"}
    assert len(LikelihoodRatioAttack.controls()) == 7


def test_agrees_with_a_slow_implementation() -> None:
    """Both attacks straight from their papers, with loops over examples and models, give the same scores."""
    subject = tiny()
    context = Context(subject, 40, 0, scope=LikelihoodRatioAttack.id)
    found = measured(subject, samples=40, shadows=10)
    ensemble = shadows(context, subject, "train", "test", 10)
    phi, inside = ensemble.confidences.tolist(), ensemble.membership.tolist()
    batches = [subject.batch(split, context.indices(split)) for split in ("train", "test")]
    target = [
        value
        for each in batches
        for value in logit_scaled_confidence(subject.outputs(each).double(), each.targets).tolist()
    ]
    columns = range(len(target))
    groups = {
        member: [[row[i] for row, kept in zip(phi, inside, strict=True) if kept[i] is member] for i in columns]
        for member in (True, False)
    }
    means = {member: [fmean(group) for group in each] for member, each in groups.items()}
    deviations = {
        member: math.sqrt(
            sum((value - means[member][i]) ** 2 for i in columns for value in groups[member][i])
            / sum(len(groups[member][i]) - 1 for i in columns)
        )
        for member in (True, False)
    }
    normals = {member: [NormalDist(mean, deviations[member]) for mean in means[member]] for member in (True, False)}
    online = [math.log(normals[True][i].pdf(target[i]) / normals[False][i].pdf(target[i])) for i in columns]
    offline = [math.log(normals[False][i].cdf(target[i])) for i in columns]
    for attack, scores in (("lira-online", online), ("lira-offline", offline)):
        each = series(found, "membership_auc", attack)
        np.testing.assert_allclose([*each.values, *each.negatives], scores, atol=1e-9)
    p = [1 / (1 + math.exp(-value)) for value in target]
    kept = {
        member: [fmean(1 / (1 + math.exp(-value)) for value in group) for group in groups[member]] for member in groups
    }
    evidence = {
        "rmia-online": [(kept[True][i] + kept[False][i]) / 2 for i in columns],
        "rmia-offline": [0.5 * (1.3 * kept[False][i] + 0.7) for i in columns],
    }
    population = range(40, 50)
    for attack, px in evidence.items():
        share = [fmean((p[i] / px[i]) / (p[z] / px[z]) >= 2 for z in population) for i in columns]
        each = series(found, "membership_auc", attack)
        assert [*each.values, *each.negatives] == pytest.approx([*share[:40], *share[50:]])


@pytest.mark.parametrize("per_example", [False, True])
def test_agrees_with_scipy(*, per_example: bool) -> None:
    """The scores are SciPy's log-densities and one-sided tail, with variances of one example or of all."""
    rng = np.random.default_rng(0)
    trained_on = halves(64, 30, torch.Generator().manual_seed(0)).numpy()
    references = rng.normal(rng.normal(0, 5, 30), 1 + trained_on, (64, 30))
    target = rng.normal(0, 5, 30)
    inside, outside = (np.ma.masked_array(references, ~chosen) for chosen in (trained_on, ~trained_on))
    deviations = [
        (each.var(0, ddof=1) if per_example else np.broadcast_to(each.var(0, ddof=1).mean(), 30)) ** 0.5
        for each in (inside, outside)
    ]
    logs = [norm.logpdf(target, each.mean(0), d) for each, d in zip((inside, outside), deviations, strict=True)]
    online = reference_models.lira_online(target, references, trained_on, per_example=per_example)
    offline = reference_models.lira_offline(target, references, trained_on, per_example=per_example)
    np.testing.assert_allclose(online, logs[0] - logs[1])
    np.testing.assert_allclose(offline, norm.logcdf(target, outside.mean(0), deviations[1]))


def test_areas_over_shadows_agree_with_scikit_learn() -> None:
    """Each shadow is the target once, judged by all pairs but its own; the mean and the spread of the areas are reported."""
    subject = tiny()
    found = measured(subject, samples=40)
    said = shadows(Context(subject, 40, 0, scope=LikelihoodRatioAttack.id), subject, "train", "test", 16)
    phi, inside = said.confidences.numpy(), said.membership.numpy()
    areas = []
    for number in range(16):
        others = [row for row in range(16) if row // 2 != number // 2]
        scores = reference_models.lira_online(phi[number], phi[others], inside[others], per_example=False)
        areas.append(roc_auc_score(inside[number], scores))
    assert series(found, "shadow_auc", "lira-online").values == pytest.approx(np.mean(areas))
    assert series(found, "shadow_auc_deviation", "lira-online").values == pytest.approx(np.std(areas, ddof=1))


def test_the_same_seed_gives_the_same_result_whatever_the_batches() -> None:
    """Every measured number follows from the subject and the seed, and another seed trains other shadows."""
    subject = tiny()
    first, again, other = (measured(subject, samples=30, seed=seed) for seed in (1, 1, 2))
    check = LikelihoodRatioAttack(shadows=16, blind_blocks=4)
    batched = Measurements()
    for yielded in check.measure(subject, Context(subject, 30, 1, batch_size=7, scope=check.id)):
        batched.add(yielded)
    for each, same, close in zip(first, again, batched, strict=True):
        np.testing.assert_array_equal(each.values, same.values)
        np.testing.assert_allclose(each.values, close.values, atol=1e-6)
    one, two = (series(each, "membership_auc", "lira-online").values for each in (first, other))
    assert not np.array_equal(one, two)


def test_every_example_is_in_exactly_half_of_the_shadows() -> None:
    """Shadows come in pairs with complementary halves of the pool."""
    membership = halves(10, 31, torch.Generator().manual_seed(0))
    assert membership.sum(0).tolist() == [5] * 31
    assert torch.equal(membership[0::2], ~membership[1::2])


def test_a_shadow_sees_as_many_examples_as_the_model_did() -> None:
    """Members that are not in the pool go to every shadow, and a pool of unequal splits holds as many of each."""
    sizes: list[int] = []
    recipe = Recipe(small, epochs=1, batch_size=20, learning_rate=0.1)

    def train(inputs: Tensor | dict[str, Tensor], targets: Tensor, seed: int) -> nn.Module:
        sizes.append(len(targets))
        return recipe(inputs, targets, seed)

    subject = tiny(70, 30, train=train)
    said = shadows(Context(subject, 50, 0), subject, "train", "test", 8)
    assert sizes == [70] * 8
    assert said.membership.shape == said.confidences.shape == said.correct.shape == (8, 60)


def test_a_recipe_and_a_function_train_the_same_shadows() -> None:
    """Whether shadows are stacked or trained one by one changes their confidences by rounding only."""
    subject = tiny()
    recipe = subject.recipe
    assert recipe is not None
    alone = replace(subject, train=recipe.__call__)
    first, second = (shadows(Context(each, 40, 0), each, "train", "test", 8) for each in (subject, alone))
    torch.testing.assert_close(first.confidences, second.confidences, atol=1e-3, rtol=1e-3)


def test_shadows_are_trained_once_in_a_run() -> None:
    """Another check of the same run that asks for the same shadows gets those that are there."""
    calls: list[int] = []
    recipe = Recipe(small, epochs=1, batch_size=20, learning_rate=0.1)

    def train(inputs: Tensor | dict[str, Tensor], targets: Tensor, seed: int) -> nn.Module:
        calls.append(seed)
        return recipe(inputs, targets, seed)

    subject, memo = tiny(train=train), Memo()
    measured(subject, samples=30, memo=memo)
    again = shadows(Context(subject, 30, 0, scope="another/check", memo=memo), subject, "train", "test", 16)
    assert isinstance(again, Shadows)
    assert len(calls) == len(set(calls)) == 16


def test_inputs_by_name_train_shadows_too() -> None:
    """Tensors by name are put together and cut as one tensor is."""

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.inner(x)
            return out

    plain = tiny()
    recipe = Recipe(Named, epochs=2, batch_size=20, learning_rate=0.1)
    batches = [plain.batch(name, range(40)) for name in ("train", "test")]
    (members, labels), others = (({"x": torch.as_tensor(each.inputs)}, each.targets) for each in batches)
    data = {"train": (members, labels), "test": others}
    subject = Subject("named", plain.task, recipe(members, labels, 0), data, train=recipe)
    assert series(measured(subject, samples=40), "membership_auc", "lira-online").n == 40


def test_texts_of_both_splits_are_padded_alike() -> None:
    """Texts are encoded together, so that splits whose longest texts differ can be trained on as one pool."""
    rng = np.random.default_rng(0)
    texts = {
        name: ["".join(rng.choice(list("abcd"), length)) for length in rng.integers(2, longest, 40)]
        for name, longest in (("train", 6), ("test", 9))
    }
    data = {name: [(text, index % 2) for index, text in enumerate(each)] for name, each in texts.items()}
    recipe = Recipe(Reader, epochs=2, batch_size=20, learning_rate=0.1)
    subject = Subject("texts", "text-classification", Reader().eval(), data, train=recipe, tokenizer=letters)
    said = shadows(Context(subject, 30, 0), subject, "train", "test", 8)
    assert said.confidences.shape == (8, 60)
    assert bool(torch.isfinite(said.confidences).all())


def letters(texts: list[str], **_: object) -> dict[str, Tensor]:
    """A tokenizer of single letters, padded to the longest text."""
    longest = max(map(len, texts))
    ids = torch.tensor([[ord(letter) - 96 for letter in text.ljust(longest, "`")] for text in texts])
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


class Reader(nn.Module):
    """The mean of the letters' embeddings, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        weights = attention_mask.unsqueeze(2).float()
        out: Tensor = self.head((self.embedding(input_ids) * weights).sum(1) / weights.sum(1))
        return out


def test_the_offline_attack_is_one_sided() -> None:
    """More confident than every model without the example is most suspicious, less confident least: not both alike, as a density has it."""
    trained_on = halves(16, 3, torch.Generator().manual_seed(0)).numpy()
    references = np.random.default_rng(0).normal(size=(16, 3))
    scores = reference_models.lira_offline(np.array([-5.0, 0.0, 5.0]), references, trained_on, per_example=False)
    assert scores[0] < scores[1] < scores[2]


def test_spread_is_that_within_examples() -> None:
    """Easy and difficult examples differ; that is no spread. Models with and without the example have spreads of their own."""
    rng = np.random.default_rng(0)
    trained_on = halves(62, 200, torch.Generator().manual_seed(0)).numpy()
    references = rng.normal(100 * rng.normal(size=200), np.where(trained_on, 1.0, 3.0))
    inside = reference_models.fitted(references, trained_on, per_example=False)
    outside = reference_models.fitted(references, ~trained_on, per_example=False)
    assert inside.deviation == pytest.approx(1, rel=0.05)
    assert outside.deviation == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize(("count", "own"), [(62, False), (64, True)])
def test_examples_have_spreads_of_their_own_from_64_shadows(count: int, *, own: bool) -> None:
    """With fewer shadows, the deviations are pooled over examples."""
    rng = np.random.default_rng(0)
    trained_on = halves(count, 40, torch.Generator().manual_seed(0)).numpy()
    references, target = rng.normal(size=(count, 40)) * rng.uniform(1, 9, 40), rng.normal(size=40)
    is_member = np.repeat([True, False], 20)
    attacked = LikelihoodRatioAttack(shadows=count)._attacked(target, is_member, references, trained_on)
    expected = reference_models.lira_online(target, references, trained_on, per_example=own)
    np.testing.assert_array_equal(np.concatenate(attacked["lira-online"]), expected)


def test_confident_models_do_not_saturate() -> None:
    """Confidences come from logits: where probabilities round to 0 and 1, they are still finite and told apart."""
    logits = torch.tensor([[900.0, 0.0], [1000.0, 0.0], [0.0, 2000.0]], dtype=torch.float64)
    assert logit_scaled_confidence(logits, torch.tensor([0, 0, 0])).tolist() == [900, 1000, -2000]


def test_the_population_is_outside_the_model_and_outside_the_comparison() -> None:
    """The relative attack compares with a quarter of the non-members, which are then not counted."""
    found = measured(tiny(), samples=40)
    assert series(found, "membership_auc", "rmia-online").negatives.size == 30
    assert series(found, "membership_auc", "lira-online").negatives.size == 40


def test_an_attack_that_tells_nobody_apart_decides_nothing() -> None:
    """Where no ratio dominates another so many times, the relative attack has no scores, and a criterion on it is inconclusive."""
    found = measured(tiny(), samples=40, gamma=1e9)
    result = judge.decide(bounded("membership_auc", 0.6, "rmia-online").criteria[0], found, complete=True)
    assert result.outcome is Outcome.INCONCLUSIVE
    assert series(found, "membership_auc", "lira-online").n == 40


def test_few_examples_decide_nothing() -> None:
    """With 8 members and 8 non-members nothing is decided, and the rates have no samples."""
    found = measured(tiny(8, 8), samples=None)
    assert judge.judge(AREA, found, complete=True).outcome is not Outcome.PASSED
    assert series(found, "true_positive_rate", "lira-online").n == 0
    for attack, needed in (("lira-online", 197), ("rmia-online", 263)):
        rate = bounded("true_positive_rate", 0.05, attack).criteria[0]
        assert judge.decide(rate, found, complete=True).samples_needed == needed


def test_training_that_does_not_use_its_examples_is_noticed() -> None:
    """Shadows that are all the same are refused; shadows that are always trained on the members are unlike the model."""
    subject = control("overfitted")
    members = subject.split("train").take(range(len(subject.split("train"))))
    recipe = subject.recipe
    assert recipe is not None
    with pytest.raises(CheckError, match="all 16 retrained models say the same"):
        measured(replace(subject, train=lambda *_: subject.model))

    def cheating(_inputs: object, _targets: object, seed: int) -> nn.Module:
        return recipe(members[0], members[1], seed)  # type: ignore[arg-type]  # a tensor

    found = measured(replace(subject, train=cheating), samples=200, shadows=8)
    gate = judge.judge(AREA, found, complete=True).gates[1]
    assert (gate.measurement, gate.outcome) == ("held_out_loss_ratio", Outcome.FAILED)


def test_exchanged_and_overlapping_splits_are_refused() -> None:
    """Members that the model knows less well than the others, and non-members that are members, are mistakes, and not passes."""
    subject = control("overfitted")
    train, test = subject.split("train"), subject.split("test")
    with pytest.raises(CheckError, match="are the splits exchanged"):
        measured(replace(subject, data={"train": test, "test": train}), samples=300)
    with pytest.raises(CheckError, match="members and non-members overlap"):
        measured(replace(subject, data={"train": train, "test": train}), samples=None)


def test_splits_of_different_shapes_say_what_to_do() -> None:
    """Examples that fit in no common tensor are refused with the way out."""

    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(1, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.inner(x.mean(1, keepdim=True))
            return out

    data = {name: (torch.randn(20, width), torch.randint(3, (20,))) for name, width in (("train", 4), ("test", 5))}
    recipe = Recipe(Mean, epochs=1, batch_size=10, learning_rate=0.1)
    subject = Subject("mean", "tabular-classification", Mean().eval(), data, train=recipe)
    with pytest.raises(CheckError, match="the same shape"):
        shadows(Context(subject, 20, 0), subject, "train", "test", 8)


def test_not_applicable_without_training_or_classes() -> None:
    """Without a training function there are no shadows, and language models have no class; both are said."""
    check = LikelihoodRatioAttack()
    assert "`train:`" in check.not_applicable(tiny(train=None))
    texts = torch.randint(9, (4, 6)), torch.zeros(4, dtype=torch.long)
    model = nn.Embedding(9, 9).eval()
    subject = Subject("texts", "text-generation", model, {"train": texts, "test": texts}, train=REGULARISED)
    assert "lacks" in check.not_applicable(subject)
    assert check.not_applicable(tiny()) == ""


def test_the_number_of_shadows_is_even_and_not_tiny() -> None:
    """Pairs need an even number, and fewer than 8 models fit no distributions."""
    for wrong in (7, 6, 33):
        with pytest.raises(ValidationError):
            LikelihoodRatioAttack(shadows=wrong)
    with pytest.raises(ValidationError, match='both "test"'):
        LikelihoodRatioAttack(members="test")


def test_the_docstring_is_a_page_and_importing_is_light() -> None:
    """All sections are there, and neither torch nor SciPy is loaded to list the check."""
    assert LikelihoodRatioAttack.page().missing == ()
    code = (
        "import sys, method_checks.memorization.likelihood_ratio_attack; "
        "print(sorted({'torch', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

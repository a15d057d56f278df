"""What will run, what will not and why, is decided before anything is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from method_cards.check import Passes
from method_cards.errors import InputError
from method_cards.plan import Plan, plan
from method_cards.registry import Entry, Registry
from method_cards.render import words
from method_cards.subject import Subject
from method_cards.training import Recipe
from method_cards.verdict import Outcome
from method_checks.attribution.parameter_randomization import ParameterRandomization
from tests.helpers import (
    Scripted,
    binding,
    classifier,
    criterion,
    differences,
    prescription,
    question,
    scripted,
    state_of,
    toy_catalog,
    toy_registry,
)

COMPLETE = binding(
    "attribution/completeness",
    [criterion("gap_above_tolerance", at_most=0.05)],
    [criterion("small_difference", at_most=0.5)],
)
RANDOMIZED = binding(
    ParameterRandomization.id,
    [criterion("signed_null_similarity", at_most=0.5)],
    [criterion("self_similarity", at_least=0.8)],
)


def planned(
    folder: Path, prescriptions: Sequence[dict[str, Any]], subject: Subject | None = None, **options: Any
) -> Plan:
    registry = Registry([*Registry.installed(), *toy_registry()])
    return plan(subject or classifier(), toy_catalog(folder, prescriptions), registry, **options)


def reasons(found: Plan) -> dict[str, tuple[Outcome, str]]:
    return {verdict.prescription: (verdict.outcome, verdict.reason) for verdict in found.verdicts}


def test_one_check_with_one_set_of_parameters_runs_once(tmp_path: Path) -> None:
    """Prescriptions share an execution when check and parameters are the same, defaults written out or not; else they do not."""
    found = planned(
        tmp_path,
        [
            prescription("one", check=scripted()),
            prescription("two", check=scripted(criterion("level", at_most=1.0), share=0.5)),
            prescription("three", check=scripted(share=0.4)),
        ],
    )
    assert [[bound.prescription.id for bound in step.prescriptions] for step in found.steps] == [
        ["one", "two"],
        ["three"],
    ]
    assert found.order == ["toy-card/one", "toy-card/two", "toy-card/three"]


def test_samples_are_at_least_what_a_card_asks_for(tmp_path: Path) -> None:
    """The larger of the project's number and the cards' numbers is planned, and never more than there are is counted."""
    wanted = [prescription(f"p{count}", check={**scripted(), "samples": count}) for count in (20, 48)]
    for samples, fixed, examples in ((10, 48, 48), (60, 60, 60), (500, 500, 64), (None, None, 64)):
        (step,) = planned(tmp_path, wanted, samples=samples).steps
        assert (step.samples, step.examples, step.passes) == (fixed, examples, Passes(forward=examples))


def test_only_what_is_named_is_planned(tmp_path: Path) -> None:
    """Of many prescriptions those named are decided, and nothing is said of the others."""
    found = planned(
        tmp_path,
        [prescription("one"), prescription("two", check=scripted(share=0.1)), question("asked")],
        only=["toy-card/two"],
    )
    assert found.order == ["toy-card/two"]
    assert not found.verdicts
    assert len(found.steps) == 1


@pytest.mark.parametrize(
    ("needs", "reason"),
    [
        ({"tasks": ["image-classification", "text-classification"]}, "It applies to image-classification or text-classification; this subject's task is tabular-classification."),
        ({"modalities": ["image"]}, "It applies to image inputs; this subject's are tabular."),
        ({"explainers": ["gradient"]}, "It applies to explanations by gradient; this subject's explainer is none."),
        ({"splits": ["calibration"]}, 'It needs the data split "calibration", which the subject does not have.'),
        ({"layers": ["Conv2d"]}, "It applies to models with Conv2d layers; this one has none."),
        ({"tasks": ["tabular-classification"], "layers": ["Linear"], "splits": ["test"], "modalities": ["tabular"], "explainers": ["none"]}, ""),
    ],
)  # fmt: skip
def test_what_does_not_apply_says_why(needs: dict[str, Any], reason: str, tmp_path: Path) -> None:
    """Task, modality, explainer, splits and layers decide whether a prescription applies, and the reason names both sides."""
    found = planned(tmp_path, [prescription("itself", applies_when=needs)])
    assert reasons(found) == ({"itself": (Outcome.NOT_APPLICABLE, reason)} if reason else {})
    assert len(found.steps) == (not reason)


def test_a_check_says_when_it_does_not_apply(tmp_path: Path) -> None:
    """A subject without an explanation is no matter for attribution checks; one without the split neither."""
    found = planned(
        tmp_path,
        [
            prescription("explained", check=COMPLETE),
            prescription("split", check={**COMPLETE, "with": {"split": "train"}}),
        ],
    )
    outcome, reason = reasons(found)["explained"]
    assert outcome is Outcome.NOT_APPLICABLE
    assert "ships no explanation method" in reason
    assert reasons(found)["split"] == (
        Outcome.NOT_APPLICABLE,
        'attribution/completeness needs the data split "train", which the subject does not have. Known: test.',
    )


@pytest.mark.parametrize(
    ("check", "reason"),
    [
        (scripted(shrae=0.5), "shrae"),
        (scripted(share="half"), "share"),
    ],
)
def test_a_check_that_cannot_be_used_costs_its_own_verdict(check: dict[str, Any], reason: str, tmp_path: Path) -> None:
    """A wrong parameter makes its prescription errored, and the others are planned."""
    found = planned(tmp_path, [prescription("itself", check=check), prescription("other")])
    outcome, text = reasons(found)["itself"]
    assert outcome is Outcome.ERRORED
    assert reason in text
    assert len(found.steps) == 1


def test_a_question_is_unanswered(tmp_path: Path) -> None:
    """What only a person can answer needs no step."""
    assert reasons(planned(tmp_path, [question("asked"), prescription("itself")]))["asked"][0] is Outcome.UNANSWERED


def network(value: float = 0.1) -> Subject:
    first = nn.Linear(4, 8)
    model = nn.Sequential(first, nn.ReLU(), nn.Linear(8, 3)).eval()
    with torch.no_grad():
        first.weight.fill_(value)
    return Subject(
        "toy",
        "tabular-classification",
        model,
        {"test": (torch.randn(64, 4), torch.zeros(64))},
        explainer={"method": "gradient"},
    )


def test_a_model_that_gives_nan_costs_only_the_checks_that_see_it(tmp_path: Path) -> None:
    """A check that calls the model to state its cost is errored there and then; the others are planned."""
    found = planned(tmp_path, [prescription("sees", check=RANDOMIZED), prescription("blind")], network(float("nan")))
    outcome, reason = reasons(found)["sees"]
    assert outcome is Outcome.ERRORED
    assert "the model's output is NaN or infinite" in reason
    assert [step.check.id for step in found.steps] == [Scripted.id]


def test_what_is_named_and_is_not_there_is_bad_input(tmp_path: Path) -> None:
    """A misspelt explanation method or check ends the run before it begins, with what was meant."""
    subject = network()
    subject.explainer = {"method": "gradeint"}
    with pytest.raises(InputError, match=r'unknown method "gradeint". Did you mean "gradient"\?'):
        planned(tmp_path, [prescription("explained", check=COMPLETE), prescription("blind")], subject)
    unknown = binding("toy/script", [criterion("ones", at_most=1.0)])
    with pytest.raises(InputError, match=r'no check is called "toy/script". Did you mean "toy/scripted"\?'):
        planned(tmp_path, [prescription("itself", check=unknown), prescription("other")])


def test_planning_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    """A check may call the model to state its cost; nothing of that is left."""
    subject = network()
    before = state_of(subject.model)
    planned(tmp_path, [prescription("explained", check=COMPLETE), prescription("random", check=RANDOMIZED)], subject)
    assert not differences(before, state_of(subject.model))


class Careless(Scripted):
    """A check that fails before it is run."""

    def passes(self, subject: Subject, samples: int) -> Passes:
        raise ZeroDivisionError("division by zero")


class Clumsy(Scripted):
    """A check that cannot even say whether it applies."""

    def not_applicable(self, subject: Subject) -> str:
        raise AttributeError("no such thing")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("Careless", "ZeroDivisionError: division by zero"), ("Clumsy", "AttributeError: no such thing")],
)
def test_a_check_that_raises_while_it_is_planned_costs_its_own_verdict(name: str, reason: str, tmp_path: Path) -> None:
    """Whatever a check raises before it runs is its own errored verdict."""
    registry = Registry([Entry(Scripted.id, f"tests.test_plan:{name}", "the tests")])
    found = plan(classifier(), toy_catalog(tmp_path, [prescription("itself")]), registry)
    assert not found.steps
    outcome, text = reasons(found)["itself"]
    assert outcome is Outcome.ERRORED
    assert reason in text


def test_the_cost_of_a_plan_is_that_of_its_steps(tmp_path: Path) -> None:
    """Passes add up, and a backward pass counts more than a forward one."""
    found = planned(tmp_path, [prescription("one"), prescription("two", check=COMPLETE)], network(), samples=32)
    assert found.passes == sum((step.passes for step in found.steps), Passes())
    assert found.steps[1].passes == Passes(forward=96, backward=32)
    assert found.steps[1].cost == pytest.approx(96 + 2.3 * 32)


def test_trainings_are_part_of_the_cost() -> None:
    """A recipe's trainings count as passes over their examples; those of a function are counted, and said to be of unknown length."""
    recipe = Recipe(lambda: nn.Linear(4, 3), epochs=3, batch_size=4, learning_rate=0.1)
    known = Passes.of_trainings(replace(classifier(), train=recipe), 32, 100)
    assert known == Passes(backward=9600, trainings=32)
    unknown = Passes.of_trainings(replace(classifier(), train=lambda *_: nn.Linear(4, 3)), 32, 100)
    assert unknown == Passes(trainings=32)
    assert unknown + known == Passes(backward=9600, trainings=64)


@pytest.mark.parametrize(
    ("train", "said"),
    [
        (Recipe(lambda: nn.Linear(4, 3), epochs=3, batch_size=4, learning_rate=0.1), "32 trainings among them"),
        (lambda *_: nn.Linear(4, 3), "besides 32 trainings, whose length only your function knows"),
    ],
)
def test_the_plan_says_whether_trainings_are_in_its_cost(train: Any, said: str, tmp_path: Path) -> None:
    """A person who reads the plan learns that models will be trained."""
    found = planned(tmp_path, [prescription("one")], network(), samples=32)
    found.steps[0].passes = Passes(trainings=32)
    assert said in words.cost(replace(found, subject=replace(found.subject, train=train)))

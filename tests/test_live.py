"""Cards run on a model that is at hand, and what was given wrongly is told in one sentence."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import method_cards
from method_cards import Outcome, Record, Subject, live, record, run
from method_cards.engine import run_project
from method_cards.errors import InputError
from method_cards.render import words
from tests.helpers import (
    Scripted,
    classifier,
    differences,
    prescription,
    project,
    question,
    state_of,
)

COMPLETE = "integrated-gradients/completeness"


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    """A small model and its data, as somebody has them in a notebook."""
    subject = classifier(128)
    torch.manual_seed(5)
    inputs = torch.randn(128, 4)
    return {"model": subject.model, "data": {"test": (inputs, subject.model(inputs).argmax(1))}}


def test_a_model_at_hand_is_checked(parts: dict[str, Any]) -> None:
    """A module, data by split and the name of a card are enough: the task is seen, the record is whole, the model as it was."""
    before = state_of(parts["model"])
    found = run(**parts, cards="integrated-gradients", explainer="integrated-gradients", samples=64, progress=False)
    outcomes = {verdict.id: verdict.outcome for verdict in found.verdicts}
    assert outcomes[COMPLETE] is Outcome.PASSED
    assert outcomes["integrated-gradients/report-settings"] is Outcome.UNANSWERED
    assert (found.subject.id, found.subject.task) == ("Linear", "tabular-classification")
    assert found.subject.explainer == "integrated-gradients"
    assert found.seed == 0
    assert found.path is not None
    assert record.read(found.path) == found
    assert not differences(before, state_of(parts["model"]))


def test_what_is_said_to_run_it_again_does(parts: dict[str, Any]) -> None:
    """A record of a model at hand shows a call in Python, not a command that knows no such subject; with the rest filled in it repeats the run."""
    given = parts | {"explainer": "integrated-gradients", "progress": False}
    first = run(**given, cards=COMPLETE, samples=64)
    for said in (words.whole_rerun(first), words.rerun(first, first.by_id[COMPLETE])):
        call = said.replace("...", "**given", 1)
        again = eval(call, {"method_cards": method_cards, "given": given})
        assert again.by_id[COMPLETE].criteria == first.by_id[COMPLETE].criteria, said


def test_the_same_seed_gives_the_same_numbers(parts: dict[str, Any], tmp_path: Path) -> None:
    """Two runs with one seed agree to the last digit; records go where they are wanted, those of some prescriptions marked as partial."""
    first, second = (
        run(
            **parts,
            cards=[COMPLETE],
            explainer={"method": "integrated-gradients", "steps": 8},
            samples=32,
            seed=3,
            records=tmp_path,
        )
        for _ in range(2)
    )
    assert [verdict.id for verdict in first.verdicts] == [COMPLETE]
    assert first.verdicts == second.verdicts
    assert sorted(path.parent.parent.name for path in record.find(tmp_path)) == ["Linear", "Linear"]
    assert first.id.endswith("-partial")


def test_a_shuffling_loader_gives_the_same_and_draws_nothing_of_ours(parts: dict[str, Any]) -> None:
    """What data draws follows from the seed of the run, and the caller's random numbers go on as if nothing had been drawn."""
    inputs, targets = torch.randn(40, 4), torch.arange(40) % 3

    def of(draws: int) -> list[Any]:
        torch.manual_seed(draws)
        before = torch.get_rng_state()
        data = {"test": DataLoader(TensorDataset(inputs, targets), batch_size=8, shuffle=True)}
        found = run(
            **{**parts, "data": data}, cards=COMPLETE, explainer="integrated-gradients", samples=16, progress=False
        )
        assert torch.equal(before, torch.get_rng_state())
        return [(series.name, series.values) for series in found.executions[0].measurements]

    assert of(1) == of(2)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_scripted_model_is_told_what_it_lacks(parts: dict[str, Any]) -> None:
    """Checks that hook layers cannot measure a model of torch.jit.script, and say which model to check; the others do."""
    model = torch.jit.script(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval())
    cards = [COMPLETE, "integrated-gradients/depends-on-parameters", "guided-backprop/maps-are-not-empty"]
    data = {"test": (torch.randn(40, 4), torch.arange(40) % 3)}
    found = run(model, data, cards, explainer="integrated-gradients", samples=16, progress=False)
    reasons = {verdict.id: verdict.reason for verdict in found.verdicts}
    assert "check the module that it was made from" not in reasons[COMPLETE]
    assert all("check the module that it was made from" in reasons[name] for name in cards[1:])


def test_a_card_and_a_check_of_ones_own(tmp_path: Path) -> None:
    """A card is named by its path and a check by its class; an answer decides a question; the numbers are those of a project's run."""
    loaded = project(tmp_path, [prescription("first"), question("told"), prescription("second")])
    answer = {"answer": "It is.", "by": "A. Person", "on": dt.date(2026, 3, 1), "evidence": "a report"}
    given: dict[str, Any] = {"checks": [Scripted], "answers": {"toy-card/told": answer}, "samples": 128}
    found = run(loaded.build("toy"), cards=tmp_path / "cards" / "toys" / "toy-card", **given)
    assert [verdict.outcome for verdict in found.verdicts] == [Outcome.PASSED, Outcome.ANSWERED, Outcome.PASSED]
    of_project = run_project(loaded, "toy")
    assert found.executions[0].measurements == of_project.executions[0].measurements
    assert not found.id.endswith("-partial")


def test_a_whole_subject_may_be_given(parts: dict[str, Any]) -> None:
    """A Subject brings everything with it, and whatever else is given beside it is refused."""
    subject = Subject("mine", "tabular-classification", parts["model"], parts["data"], explainer=total)
    found = run(subject, cards=COMPLETE, samples=16)
    assert (found.subject.id, found.subject.explainer) == ("mine", "total")
    with pytest.raises(InputError, match="a Subject brings its own data and task"):
        run(subject, parts["data"], COMPLETE, task="tabular-classification")
    with pytest.raises(InputError, match=r'called "\.\./mine"'):
        run(replace(subject, id="../mine"), cards=COMPLETE)


def test_another_device_gets_a_copy(parts: dict[str, Any]) -> None:
    """On another device a copy of model and reference runs, and the person's own stay; what cannot be copied is told."""
    subject = Subject("mine", "tabular-classification", parts["model"], parts["data"], reference=classifier().model)
    before = state_of(subject.model)
    moved = live._moved(subject, "meta")
    assert moved.device.type == "meta"
    assert moved.reference is not None
    assert next(moved.reference.parameters()).device.type == "meta"
    assert not differences(before, state_of(subject.model))
    assert live._moved(subject, "cpu") is subject
    stuck = torch.nn.Linear(4, 3).eval()
    stuck.lock = threading.Lock()  # type: ignore[assignment]  # it cannot be copied
    with pytest.raises(InputError, match=r"cannot be copied to meta.*move it there yourself"):
        live._moved(replace(subject, model=stuck), "meta")


def total(model: torch.nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """An explainer that explains nothing."""
    return torch.ones_like(inputs)


def wrong(**changes: Any) -> Callable[[dict[str, Any]], Record]:
    return lambda parts: run(**{"cards": COMPLETE, **parts, **changes})


ANSWER = {"answer": "yes", "by": "me", "on": "2026-03-01", "evidence": "x"}

WRONG = [
    (wrong(model=3), "the model is a int; give a torch.nn.Module"),
    (wrong(model=torch.nn.Linear(4, 3)), "is in training mode.*call `model.eval"),
    (wrong(data=None), "the data is not given; name its splits"),
    (wrong(data={}), "the data is empty"),
    (wrong(data=(torch.zeros(2, 4), torch.zeros(2))), "the data is a tuple"),
    (wrong(data={"test": torch.zeros(2, 4)}), 'data split "test" is a Tensor'),
    (wrong(cards=[]), "no card is named"),
    (wrong(cards=["integrated-gradient"]), 'Did you mean "integrated-gradients"'),
    (wrong(cards=["integrated-gradients/complete"]), 'Did you mean "integrated-gradients/completeness"'),
    (wrong(cards=Path("no/such/folder")), "there is no such folder"),
    (wrong(task="tabular"), 'there is no task "tabular".'),
    (wrong(explainer="integrated-gradient"), r'explainer\.method: .*Did you mean "integrated-gradients"'),
    (wrong(explainer={"method": "integrated-gradients", "step": 3}), r'explainer\.step: .*Did you mean "steps"'),
    (wrong(checks=["nothing.py:Check"]), "nothing.py: there is no such file"),
    (wrong(checks=[int]), "builtins:int is not a subclass"),
    (wrong(answers={"integrated-gradients/report": ANSWER}), "no question is called"),
    (wrong(answers={"integrated-gradients/report-settings": {**ANSWER, "on": "soon"}}), "answers:.*on:"),
    (wrong(answers={"integrated-gradients/report-settings": "yes"}), "give answer, by, on and evidence"),
    (wrong(samples=0), "samples is 0"),
    (wrong(seed=-1), "seed is -1"),
    (wrong(seed=1.5), "seed is 1.5"),
    (wrong(device="tpu"), 'device "tpu" is not available'),
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=[message[:40] for _, message in WRONG])
def test_what_is_given_wrongly_is_told(
    call: Callable[[dict[str, Any]], Record], message: str, parts: dict[str, Any]
) -> None:
    """Each mistake ends with one InputError that names it and the way out; nothing of another library comes through."""
    with pytest.raises(InputError, match=message) as caught:
        call(parts)
    assert "pydantic" not in str(caught.value)


def test_the_form_of_a_project_is_elsewhere() -> None:
    """The public `run` is the one for a model at hand; importing the package still loads no torch, which a test of style holds."""
    assert method_cards.run is run
    assert run.__module__ == "method_cards.live"

"""A run decides every prescription, whatever its checks do, and what it measured is never lost."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from method_cards import clock, record
from method_cards.check import Context
from method_cards.engine import execute, run_project
from method_cards.errors import InputError
from method_cards.execution import Options, Silent, measure
from method_cards.plan import plan
from method_cards.project import Project
from method_cards.record import Record
from method_cards.verdict import Outcome
from tests.helpers import (
    REPOSITORY,
    Behaviour,
    Scripted,
    classifier,
    command,
    criterion,
    differences,
    prescription,
    project,
    question,
    scripted,
    state_of,
    step,
    write_project,
)

SINCE = "2026-01-01"


def outcomes(found: Record) -> dict[str, Outcome]:
    return {verdict.prescription: verdict.outcome for verdict in found.verdicts}


def kept(found: Record) -> Record:
    """The record as it lies on disk."""
    assert found.path is not None
    return record.read(found.path)


def between_good_ones(behaviour: Behaviour, **parameters: Any) -> list[dict[str, Any]]:
    return [
        prescription("before", check=scripted(share=0.1)),
        prescription("itself", check=scripted(behaviour=behaviour, **parameters)),
        prescription("after", check=scripted(share=0.2)),
    ]


# What a check may do


@pytest.mark.parametrize(
    ("behaviour", "cause"),
    [
        ("raise", "RuntimeError: boom"),
        ("exit", "SystemExit: 3"),
        ("recurse", "RecursionError"),
        ("nan", '"level" holds 1 values that are NaN or infinite'),
        ("outside", '"level" goes from 1.5 to 1.5, outside its range 0 to 1'),
        ("undeclared", '"surprise", which it does not declare'),
        ("text", "yielded a str, which is neither a measurement nor pictures"),
        ("wrong-kind", 'yielded "ones" as mean, but declares it as proportion'),
        ("wrong-range", 'yielded "level" on (0.4, 0.6), but declares its range as'),
        ("escape", 'pictures "../../escaped" must be named in snake_case'),
        ("not-iterable", "'int' object is not iterable"),
    ],
)
def test_a_check_that_fails_costs_its_own_verdict_only(behaviour: Behaviour, cause: str, tmp_path: Path) -> None:
    """A check that raises or yields nonsense is errored with its cause; the ones before and after it are decided."""
    found = run_project(project(tmp_path, between_good_ones(behaviour)), "toy")
    assert outcomes(found) == {"before": Outcome.PASSED, "itself": Outcome.ERRORED, "after": Outcome.PASSED}
    assert cause in found.verdicts[1].reason
    assert found.status == "complete"
    assert found.exit_status == 1
    assert kept(found) == found
    assert not list(tmp_path.rglob("*escaped*"))


@pytest.mark.parametrize("behaviour", ["sleep", "spin", "swallow"])
def test_a_check_that_does_not_end_costs_its_own_verdict_only(behaviour: Behaviour, tmp_path: Path) -> None:
    """A check past its time limit is stopped, even if it computes without a break or swallows exceptions."""
    began = time.monotonic()
    found = run_project(project(tmp_path, between_good_ones(behaviour, batch=1)), "toy", Options(time_limit=0.5))
    assert time.monotonic() - began < 10
    assert outcomes(found) == {"before": Outcome.PASSED, "itself": Outcome.ERRORED, "after": Outcome.PASSED}
    assert "ran past its time limit of 0.5 seconds" in found.verdicts[1].reason
    timed_out = found.executions[1]
    assert timed_out.status == "timed_out"
    assert timed_out.select("ones")[0].values, "what was measured before stays in the record"
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_a_check_that_measures_nothing_is_never_passed(tmp_path: Path) -> None:
    """A check that ends without a measurement is errored, even if the criterion could not be violated."""
    found = run_project(
        project(
            tmp_path, [prescription("itself", check=scripted(criterion("ones", at_most=1.0), behaviour="nothing"))]
        ),
        "toy",
    )
    assert outcomes(found) == {"itself": Outcome.ERRORED}
    assert "measured no ones" in found.verdicts[0].reason


@pytest.mark.parametrize("behaviour", ["touch", "linger", "raise", "nan"])
def test_the_model_and_the_random_numbers_are_left_as_they_were(behaviour: Behaviour) -> None:
    """Whatever a check does to the model, its hooks, its gradients, its mode and the random state is undone."""
    subject = classifier()
    before = state_of(subject.model)
    check = Scripted(behaviour=behaviour)
    measure(step(check, scripted()), Context(subject, 64, batch_size=16), Options(), Silent())
    assert not differences(before, state_of(subject.model))


def test_a_check_that_is_stopped_tidies_up_at_once() -> None:
    """The check's own clean-up has run when the run goes on, also when it was stopped early."""
    subject = classifier()
    seen: list[int] = []

    class Watching(Silent):
        def finished(self, step: Any, execution: Any, verdicts: Any) -> None:
            seen.append(len(subject.model._forward_hooks))

    planned = plan(subject, [], None)  # type: ignore[arg-type]  # no card, so no registry is asked
    planned.steps.append(step(Scripted(behaviour="linger"), scripted()))
    planned.order.append("toy-card/p0")
    execute(planned, _head(), Options(), Watching(), lambda *_: None)
    assert seen == [0]


def _head() -> Record:
    now = dt.datetime.now(dt.UTC)
    return Record.model_validate(
        {
            "id": "now", "started": now, "finished": now, "status": "interrupted", "seed": 0, "device": "cpu", "environment": {}, "cards": {},
            "subject": {"id": "toy", "title": "toy", "task": "tabular-classification", "model": "", "parameters": 0, "parameters_sha256": ""},
        }
    )  # fmt: skip


# Stopping


def level(**parameters: Any) -> dict[str, Any]:
    return scripted(criterion("level", at_most=0.5), share=0.2, **parameters)


def test_a_run_stops_early_and_an_exhaustive_one_does_not(tmp_path: Path) -> None:
    """A check whose criteria are decided is stopped; with --exhaustive it measures all samples, and the verdict is the same."""
    loaded = project(tmp_path, [prescription("itself", check=level())], more={"samples": 256})
    early = run_project(loaded, "toy")
    whole = run_project(loaded, "toy", Options(exhaustive=True))
    assert early.executions[0].status == "stopped_early"
    assert whole.executions[0].status == "complete"
    assert (
        len(early.executions[0].select("level")[0].values) < 256 == len(whole.executions[0].select("level")[0].values)
    )
    assert early.verdicts[0].outcome is whole.verdicts[0].outcome is Outcome.PASSED
    assert early.verdicts[0].reason.endswith("Measuring stopped as soon as this was decided.")


@pytest.mark.parametrize("share", [0.05, 0.3, 0.47, 0.53, 0.7, 0.95])
def test_stopping_early_never_changes_a_verdict(share: float, tmp_path: Path) -> None:
    """Whatever the truth is, the early verdict is the one of the whole run."""
    wanted = [prescription("itself", check=scripted(criterion("level", at_most=0.5), share=share))]
    loaded = project(tmp_path, wanted, more={"samples": 256})
    early, whole = (run_project(loaded, "toy", Options(exhaustive=exhaustive)) for exhaustive in (False, True))
    assert early.verdicts[0].outcome is whole.verdicts[0].outcome


def test_a_proportion_is_measured_to_the_end(tmp_path: Path) -> None:
    """A criterion whose interval holds at one n only keeps the run going to that n."""
    found = run_project(
        project(tmp_path, [prescription("itself", check=scripted(criterion("ones", at_most=0.9), share=0.0))]), "toy"
    )
    assert found.executions[0].status == "complete"
    assert found.verdicts[0].criteria[0].interval is not None
    assert found.verdicts[0].criteria[0].interval.n == 128


def test_a_run_goes_on_until_the_last_of_its_prescriptions_is_decided(tmp_path: Path) -> None:
    """One check serves two prescriptions; the one that needs all samples decides how long it runs."""
    wanted = [
        prescription("soon", check=scripted(criterion("level", at_most=0.5), share=0.2)),
        prescription("late", check=scripted(criterion("ones", at_most=0.5), share=0.2)),
    ]
    found = run_project(project(tmp_path, wanted), "toy")
    assert len(found.executions) == 1
    assert found.executions[0].status == "complete"
    assert outcomes(found) == {"soon": Outcome.PASSED, "late": Outcome.PASSED}
    assert [verdict.execution for verdict in found.verdicts] == [0, 0]


# Interruption


def test_ctrl_c_keeps_what_was_measured(tmp_path: Path) -> None:
    """After Ctrl-C in a check the record is valid, and holds the checks before it and its own first batches."""
    found = run_project(project(tmp_path, between_good_ones("interrupt", batch=1)), "toy")
    assert found.status == "interrupted"
    assert found.exit_status == 1
    assert [execution.status for execution in found.executions] == ["complete", "interrupted"]
    assert len(found.executions[1].select("ones")[0].values) == 64
    assert outcomes(found) == {"before": Outcome.PASSED, "itself": Outcome.INCONCLUSIVE, "after": Outcome.ERRORED}
    assert "interrupted before this check ran" in found.verdicts[2].reason
    assert kept(found) == found


def test_ctrl_c_between_two_checks_keeps_what_was_measured(tmp_path: Path) -> None:
    """An interrupt that hits no check still ends the run with a valid record."""
    planned_project = project(tmp_path, between_good_ones("well"))

    class Impatient(Silent):
        def finished(self, step: Any, execution: Any, verdicts: Any) -> None:
            signal.raise_signal(signal.SIGINT)

    found = run_project(planned_project, "toy", progress=Impatient())
    assert found.status == "interrupted"
    assert outcomes(found) == {"before": Outcome.PASSED, "itself": Outcome.ERRORED, "after": Outcome.ERRORED}
    assert kept(found) == found


def _started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """``method-cards run`` in another process, when its first check is in the record."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    process = subprocess.Popen(
        [sys.executable, "-m", "method_cards.cli", "run", "--device", "cpu", *arguments],
        cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not record.find(folder / "records") and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


def test_ctrl_c_in_the_terminal_leaves_a_valid_record(tmp_path: Path) -> None:
    """SIGINT to the command ends it with status 1 and a partial record that can be read."""
    process = _started(write_project(tmp_path, between_good_ones("sleep")))
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 1, output + errors
    assert "Traceback" not in errors
    (path,) = record.find(tmp_path / "records")
    found = record.read(path)
    assert found.status == "interrupted"
    assert outcomes(found) == {"before": Outcome.PASSED, "itself": Outcome.ERRORED, "after": Outcome.ERRORED}


def test_a_killed_run_leaves_what_was_kept(tmp_path: Path) -> None:
    """After kill -9 in the second check the record on disk is whole, says that it was interrupted, and holds the first."""
    process = _started(write_project(tmp_path, between_good_ones("kill")))
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    (path,) = record.find(tmp_path / "records")
    found = record.read(path)
    assert found.status == "interrupted"
    assert outcomes(found) == {"before": Outcome.PASSED, "itself": Outcome.ERRORED, "after": Outcome.ERRORED}


# What stands beside a verdict


def waiver(expires: dt.date) -> dict[str, Any]:
    return {
        "prescription": "toy-card/itself",
        "reason": "It is a toy.",
        "expires": expires.isoformat(),
        "approved_by": "A. Parent",
    }


@pytest.mark.parametrize(("days", "expired"), [(-1, True), (0, False), (1, False)])
def test_a_waiver_stands_beside_a_verdict_until_it_expires(days: int, expired: bool, tmp_path: Path) -> None:
    """A waiver never replaces a failed verdict, holds through its last day, and says so when it has expired."""
    until = clock.today() + dt.timedelta(days=days)
    failing = [prescription("itself", check=scripted(criterion("ones", at_most=0.1)))]
    found = run_project(project(tmp_path, failing, waivers=[waiver(until)]), "toy")
    (verdict,) = found.verdicts
    assert verdict.outcome is Outcome.FAILED
    assert verdict.waiver is not None
    assert verdict.waiver.reason == "It is a toy."
    assert verdict.waiver_expired is expired
    assert found.exit_status == 1
    assert kept(found).verdicts == found.verdicts


def test_a_question_waits_for_a_person(tmp_path: Path) -> None:
    """A question is unanswered until method-cards.yaml answers it, and then says who did, when, and with which evidence."""
    wanted = [prescription("itself"), question("asked"), question("told")]
    answer = {"answer": "yes", "by": "A. Parent", "on": SINCE, "evidence": "report.pdf"}
    found = run_project(project(tmp_path, wanted, answers={"toy-card/told": answer}), "toy")
    assert outcomes(found) == {"itself": Outcome.PASSED, "asked": Outcome.UNANSWERED, "told": Outcome.ANSWERED}
    assert found.verdicts[2].answer is not None
    assert found.verdicts[2].reason == f"A. Parent answered on {SINCE}: yes"
    assert found.exit_status == 0


def test_an_answer_does_not_decide_what_a_check_decides(tmp_path: Path) -> None:
    """Whoever answers a prescription that has a check changes nothing about its verdict."""
    answer = {"answer": "all is well", "by": "A. Parent", "on": SINCE, "evidence": "none"}
    failing = [prescription("itself", check=scripted(criterion("ones", at_most=0.1)))]
    found = run_project(project(tmp_path, failing, answers={"toy-card/itself": answer}), "toy")
    assert outcomes(found) == {"itself": Outcome.FAILED}


# What a record says


def test_the_record_says_what_was_measured_on_what(tmp_path: Path) -> None:
    """Digests of parameters, data and cards, versions, seed, device, parameters of the check and every value are in the record."""
    loaded = project(tmp_path)
    found = run_project(loaded, "toy", Options(seed=7, samples=64))
    again = run_project(loaded, "toy", Options(seed=7, samples=64))
    other = run_project(loaded, "toy", Options(seed=8, samples=64))
    execution = found.executions[0]
    assert (found.seed, found.device) == (7, "cpu")
    assert found.subject.parameters == 15
    assert len(found.subject.parameters_sha256) == 64
    assert found.environment["torch"] == torch.__version__
    assert execution.parameters["share"] == 0.5
    assert execution.distribution == "tests.helpers, not packaged"
    assert [(split.name, split.n, split.size) for split in execution.splits] == [("test", 64, 256)]
    assert found.cards == {"toy-card": loaded.catalog.get("toy-card").document.sha256}
    assert execution.measurements == again.executions[0].measurements, "same seed, same result"
    assert execution.splits == again.executions[0].splits
    assert execution.splits != other.executions[0].splits, "another seed draws other examples"
    assert found.path is not None
    assert found.path.parent.parent == tmp_path / "records" / "toy"
    assert json.loads(found.path.read_text())["schema_version"] == 1


def test_all_criteria_of_a_run_are_adjusted_together(tmp_path: Path) -> None:
    """The record counts the criteria that were decided from data and adjusts them by Holm's procedure over all checks."""
    wanted = [
        prescription("one", check=scripted(criterion("ones", at_most=0.6), share=0.5)),
        prescription("two", check=scripted(criterion("ones", at_most=0.6), share=0.51)),
        prescription("three", check=scripted(criterion("count", at_least=1))),
    ]
    found = run_project(project(tmp_path, wanted), "toy")
    results = [result for verdict in found.verdicts for result in verdict.criteria]
    assert found.criteria == 2
    smallest = min(result.p_value for result in results if result.p_value is not None)
    assert min(result.p_holm for result in results if result.p_holm is not None) == pytest.approx(2 * smallest)


def test_two_runs_in_one_second_have_two_folders(tmp_path: Path) -> None:
    """No run ever writes into the folder of another one, and the newest is found."""
    loaded = project(tmp_path)
    paths = [run_project(loaded, "toy").path for _ in range(3)]
    assert len(set(paths)) == 3
    assert record.latest(tmp_path / "records")["toy"] == paths[-1]


# The command


@pytest.mark.parametrize(
    ("level", "at_most", "status"), [("MUST", 0.9, 0), ("SHOULD", 0.1, 0), ("MUST", 0.1, 1), ("MUST NOT", 0.1, 1)]
)
def test_the_exit_status_is_about_musts(level: str, at_most: float, status: int, tmp_path: Path) -> None:
    """0 unless a MUST or MUST NOT failed; a failed SHOULD is no reason to stop a pipeline."""
    wanted = [prescription("itself", level, check=scripted(criterion("ones", at_most=at_most)))]
    found = run_project(project(tmp_path, wanted), "toy")
    assert found.exit_status == status


def test_a_card_of_which_nothing_applies_is_no_success(tmp_path: Path) -> None:
    """A subject that lacks what all checks of a card need, by a misspelt split say, does not end with status 0."""
    wanted = [
        prescription(
            "itself", check=scripted(criterion("ones", at_most=0.9)), applies_when={"tasks": ["text-generation"]}
        )
    ]
    found = run_project(project(tmp_path, wanted), "toy")
    assert outcomes(found) == {"itself": Outcome.NOT_APPLICABLE}
    assert found.idle_cards == ("toy-card",)
    assert found.exit_status == 1


@pytest.mark.parametrize("name", ["../escaped", "..", "", "a/b", "a\\b", "a\0b", ".hidden", "x" * 65])
def test_a_subject_is_named_like_a_folder(name: str, tmp_path: Path) -> None:
    """Records are kept under the subject's name, so a name that leads elsewhere is refused before anything runs."""
    write_project(tmp_path)
    path = tmp_path / "method-cards.yaml"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["subjects"] = {name: next(iter(config["subjects"].values()))}
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InputError, match="subjects"):
        Project.load(tmp_path)


def test_records_that_cannot_be_kept_are_an_input_error(tmp_path: Path) -> None:
    """A records folder that leads nowhere ends the run with a message before anything is measured."""
    loaded = project(tmp_path)
    (tmp_path / "records").symlink_to(tmp_path / "nowhere" / "at all")
    with pytest.raises(InputError, match="records are kept there"):
        run_project(loaded, "toy")


RANDOM = """
import random
import numpy as np
import torch

def build():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).eval()

def test():
    return torch.rand(100, 1, 8, 8) * random.random() * np.random.rand(), torch.randint(10, (100,))
"""


def test_code_that_draws_random_numbers_repeats_itself(tmp_path: Path) -> None:
    """A model and data that are made without a seed of their own are the same in each run of the same seed, and others for another."""
    subject = {
        "task": "image-classification",
        "model": "random_code.py:build",
        "data": {"test": "random_code.py:test"},
        "explainer": {"method": "gradient"},
        "cards": ["integrated-gradients"],
    }
    (tmp_path / "random_code.py").write_text(RANDOM, encoding="utf-8")
    config = {"schema_version": 1, "samples": 64, "subjects": {"random": subject}}
    (tmp_path / "method-cards.yaml").write_text(json.dumps(config), encoding="utf-8")
    loaded = Project.load(tmp_path)
    first, second, other = (run_project(loaded, "random", Options(seed=seed)) for seed in (1, 1, 2))
    assert first.subject.parameters_sha256 == second.subject.parameters_sha256 != other.subject.parameters_sha256
    assert first.executions[0].splits == second.executions[0].splits
    assert first.executions[0].measurements == second.executions[0].measurements


def test_the_command_ends_with_the_status_of_the_record(tmp_path: Path) -> None:
    """0 when all is well, 1 when a check errored, 2 when the input is wrong; the JSON that it prints is the record."""
    good = command("run", "--format", "json", "--device", "cpu", cwd=write_project(tmp_path / "good"))
    assert good.returncode == 0, good.stderr
    (printed,) = json.loads(good.stdout)
    (path,) = record.find(tmp_path / "good" / "records")
    assert Record.model_validate(printed) == record.read(path)
    bad = command("run", "--device", "cpu", cwd=write_project(tmp_path / "bad", between_good_ones("raise")))
    assert bad.returncode == 1, bad.stderr
    assert "RuntimeError: boom" in bad.stdout
    wrong = command("run", "toys", cwd=tmp_path / "good")
    assert wrong.returncode == 2
    assert 'no subject is called "toys". Did you mean "toy"?' in wrong.stderr
    assert "Traceback" not in wrong.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(device="tpu"), 'device "tpu" is not available'),
        (Options(only=["toy-card/frist"]), 'Did you mean "toy-card/first"?'),
        (Options(cards=["toy-crad"]), 'Did you mean "toy-card"?'),
    ],
)
def test_a_wrong_option_is_named(options: Options, message: str, tmp_path: Path) -> None:
    """A device, a prescription or a card that is not there is bad input, with a guess at what was meant."""
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        run_project(project(tmp_path), "toy", options)
    assert not (tmp_path / "records").exists()


def test_a_run_never_writes_outside_its_folder(tmp_path: Path) -> None:
    """All that a run leaves is its folder of records."""
    inside = write_project(tmp_path / "inside")
    before = {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts}
    run_project(Project.load(inside), "toy")
    after = {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts}
    assert {path.relative_to(inside).parts[0] for path in after - before} == {"records"}
    assert REPOSITORY not in inside.parents


# What must never pass, from end to end

BROKEN = """
import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner = torch.nn.Linear(64, 10)

    def forward(self, x):
        return self.inner(x.flatten(1)) {change}

def build():
    return Model().eval()

def train():
    return data(0)

def test():
    return data(1)

def data(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(200, 1, 8, 8, generator=generator), torch.randint(10, (200,), generator=generator)

def zero(model, inputs, targets):
    return torch.zeros_like(inputs)

def nothing(model, inputs, targets):
    return inputs * float("nan")
"""


@pytest.mark.parametrize(
    ("change", "explainer", "reason"),
    [
        ("* float('nan')", {"method": "integrated-gradients", "steps": 8}, "NaN or infinite"),
        ("* 0", {"method": "integrated-gradients", "steps": 8}, ""),
        ("", {"callable": "model.py:zero"}, ""),
        ("", {"callable": "model.py:nothing"}, "NaN or infinite"),
    ],
    ids=["NaN outputs", "constant outputs", "all-zero explainer", "NaN explainer"],
)
def test_nothing_broken_ever_passes_a_bundled_card(
    change: str, explainer: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    """A broken model or explainer passes no prescription on explanations, and each refusal has its reason."""
    subject = {
        "task": "image-classification",
        "model": "model.py:build",
        "data": {"train": "model.py:train", "test": "model.py:test"},
        "explainer": explainer,
        "cards": ["integrated-gradients"],
    }
    (tmp_path / "model.py").write_text(BROKEN.replace("{change}", change), encoding="utf-8")
    config = {"schema_version": 1, "samples": 64, "subjects": {"broken": subject}}
    (tmp_path / "method-cards.yaml").write_text(json.dumps(config), encoding="utf-8")
    found = run_project(Project.load(tmp_path), "broken")
    assert not [verdict.id for verdict in found.verdicts if verdict.outcome is Outcome.PASSED]
    decided = [item for item in found.verdicts if item.outcome not in (Outcome.UNANSWERED, Outcome.NOT_APPLICABLE)]
    assert decided
    assert all(item.reason for item in found.verdicts)
    assert not reason or any(reason in item.reason for item in decided)
    assert found.exit_status == 1
    assert kept(found) == found

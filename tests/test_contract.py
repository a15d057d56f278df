"""What every installed check promises, whoever wrote it: the registry is the parametrization."""

from __future__ import annotations

import multiprocessing
import pickle
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from method_cards import judge
from method_cards.catalog import Catalog
from method_cards.check import Check, Context
from method_cards.execution import Options, Silent, measure
from method_cards.measurement import Measurements, Pictures, Series
from method_cards.registry import Entry, Registry
from method_cards.subject import Subject
from method_cards.verdict import Outcome
from tests.helpers import REPOSITORY, criterion, differences, python, scripted, state_of, step

ENTRIES = tuple(Registry.installed())
BUNDLED = tuple(entry for entry in ENTRIES if entry.distribution.startswith("method-cards "))
SAMPLES = 96

every_check = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
every_bundled_check = pytest.mark.parametrize("entry", BUNDLED, ids=lambda entry: entry.id)


@cache
def control(entry: Entry, kind: str = "sound") -> Subject:
    """The first control of this kind; it is shared, and no test changes it."""
    return next(item for item in entry.load().controls() if item.kind == kind).build(0)


def default(entry: Entry, kind: str = "sound") -> Check:
    """The check with its own defaults, and what its control needs."""
    found = next(item for item in entry.load().controls() if item.kind == kind)
    return entry.load().model_validate(dict(found.parameters))


def measured(entry: Entry, subject: Subject, *, seed: int = 0, batch: int = 64) -> tuple[str, str, Measurements]:
    check = default(entry)
    context = Context(subject, SAMPLES, seed, batch, scope=check.id)
    return measure(step(check, scripted()), context, Options(exhaustive=True), Silent())


def values_of(found: Measurements) -> dict[str, list[np.ndarray[Any, Any]]]:
    return {series.label: [series.values, series.negatives] for series in found}


def test_the_bundled_checks_come_in_through_the_door_for_everybody() -> None:
    """The entry points of this distribution are all the bundled checks that there are."""
    modules = {
        path.stem
        for path in (REPOSITORY / "checks" / "method_checks").glob("*/*.py")
        if "(Check)" in path.read_text(encoding="utf-8")
    }
    assert {entry.value.partition(":")[0].rpartition(".")[2] for entry in BUNDLED} == modules
    assert BUNDLED


@every_check
def test_it_is_documented(entry: Entry) -> None:
    """The docstring has a claim of one sentence and every section; parameters and quantities say what they are."""
    check = entry.load()
    page = check.page()
    assert page.missing == ()
    assert len(re.findall(r"[.!?](?:\s|$)", page.claim)) == 1, page.claim
    assert page.claim.endswith(".")
    assert all(field.description for field in check.model_fields.values())
    assert all(quantity.meaning for quantity in check.quantities)
    assert all(item.description.endswith(".") for item in check.controls())


@every_check
def test_its_quantities_are_named_once(entry: Entry) -> None:
    """Names are snake_case and unique, and conditions and reasons are quantities that it declares."""
    check = entry.load()
    names = [quantity.name for quantity in check.quantities]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) for name in names)
    assert set(check.gates) <= set(names)
    assert {item.because for item in check.controls() if item.because} <= set(names)


@every_bundled_check
def test_a_bundled_card_uses_it(entry: Entry) -> None:
    """No check is shipped for which no card says what its numbers must be."""
    bindings = [
        item.check.id for loaded in Catalog.installed() for item in loaded.card.prescriptions if item.check is not None
    ]
    assert entry.id in bindings


@every_check
def test_it_has_controls(entry: Entry) -> None:
    """At least one subject with the defect, which names its reason, and one without; names are unique and kebab-case."""
    controls = entry.load().controls()
    names = [item.name for item in controls]
    assert {"defect", "sound"} <= {item.kind for item in controls}
    assert all(item.because for item in controls if item.kind != "sound")
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in names)
    assert len(set(names)) == len(names)


@every_check
def test_its_parameters_are_data(entry: Entry) -> None:
    """A check pickles, survives JSON, does not change, and refuses parameters that it does not have."""
    check = default(entry)
    assert pickle.loads(pickle.dumps(check)) == check
    assert type(check).model_validate_json(check.model_dump_json()) == check
    with pytest.raises(ValueError, match="frozen"):
        check.no_such_parameter = 1  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="no_such_parameter"):
        type(check).model_validate({"no_such_parameter": 1})


@every_check
def test_listing_it_needs_no_torch(entry: Entry) -> None:
    """Importing its module, reading its page and its parameters does not load torch."""
    code = f"""
import sys
from method_cards.registry import Registry
check = Registry.installed().get({entry.id!r}).load()
check.page(), check.model_json_schema(), check.controls()
assert "torch" not in sys.modules
"""
    done = python(code)
    assert done.returncode == 0, done.stderr


@every_check
def test_it_yields_what_it_declares(entry: Entry) -> None:
    """Every measurement is of a declared quantity, of its kind, within its range, and broken down as declared."""
    check = default(entry)
    subject = control(entry)
    seen = set()
    for yielded in check.measure(subject, Context(subject, SAMPLES, scope=check.id)):
        if isinstance(yielded, Pictures):
            continue
        quantity = check.quantity(yielded.name)
        assert quantity is not None, yielded.name
        series = Series.of(yielded)
        assert (series.kind, series.unit) == (quantity.kind, quantity.unit)
        assert quantity.kind == "auc" or series.range == quantity.range
        assert set(series.by) == set(quantity.by)
        seen.add(yielded.name)
    assert set(check.gates) <= seen


@every_check
def test_it_yields_batch_by_batch(entry: Entry) -> None:
    """Something is measured before the last batch is asked for, so that progress, limits and early stopping work."""
    check = default(entry)
    subject = control(entry)
    asked: list[int] = []
    context = Context(subject, SAMPLES, batch_size=16, scope=check.id, on_examples=asked.append)
    measuring = check.measure(subject, context)
    for yielded in measuring:
        if not isinstance(yielded, Pictures) and Series.of(yielded).kind != "exact":
            break
    assert len(asked) <= 2
    _close(measuring)


def _close(measuring: Iterator[Any]) -> None:
    close = getattr(measuring, "close", None)
    if close is not None:
        close()


@every_check
@pytest.mark.parametrize("stopped", [False, True], ids=["to-the-end", "stopped"])
def test_it_leaves_the_model_as_it_was(entry: Entry, stopped: bool) -> None:
    """Values, gradients, flags, modes, hooks and all random states are untouched, whether it ends or is stopped, without the engine's help."""
    check = default(entry)
    subject = replace(control(entry), model=deepcopy(control(entry).model))
    next(subject.model.parameters()).requires_grad_(False)
    before = state_of(subject.model)
    measuring = check.measure(subject, Context(subject, SAMPLES, batch_size=32, scope=check.id))
    for number, _ in enumerate(measuring):
        if stopped and number == 3:
            break
    _close(measuring)
    assert not differences(before, state_of(subject.model))


@every_check
def test_it_refuses_a_model_that_gives_nan(entry: Entry) -> None:
    """A model of NaN is errored with a message that says so, and no criterion on what was measured is ever passed."""
    subject = replace(control(entry), model=deepcopy(control(entry).model))
    with torch.no_grad():
        for parameter in subject.model.parameters():
            parameter.fill_(float("nan"))
    status, cause, found = measured(entry, subject)
    assert status == "errored"
    assert "NaN" in cause
    for series in found:
        for bound in ({"at_most": 1e9}, {"at_least": -1e9}):
            wanted = scripted(criterion(series.name, where=dict(series.by), **bound))
            bound_check = step(default(entry), wanted).prescriptions[0].prescription.check
            assert bound_check is not None
            assert (
                series.kind == "exact" or judge.judge(bound_check, found, complete=False).outcome is not Outcome.PASSED
            )


@every_check
def test_the_same_seed_gives_the_same_measurements(entry: Entry) -> None:
    """Two runs from one seed agree to the last bit."""
    one, other = (values_of(measured(entry, control(entry))[2]) for _ in range(2))
    assert one.keys() == other.keys()
    assert one
    for label in one:
        for values, same in zip(one[label], other[label], strict=True):
            assert np.array_equal(values, same), label


@every_check
def test_the_size_of_batches_does_not_matter(entry: Entry) -> None:
    """The mean of every series is the same to 1e-5 whatever the batch size."""
    one, other = (values_of(measured(entry, control(entry), batch=batch)[2]) for batch in (64, 17))
    assert one.keys() == other.keys()
    for label in one:
        for values, same in zip(one[label], other[label], strict=True):
            assert len(values) == len(same), label
            if len(values):
                assert values.mean() == pytest.approx(same.mean(), abs=1e-5), label


def _elsewhere(entry: Entry, check: bytes) -> dict[str, list[np.ndarray[Any, Any]]]:
    torch.set_num_threads(1)
    subject = control(entry)
    made: Check = pickle.loads(check)
    context = Context(subject, SAMPLES, 0, 64, scope=made.id)
    return values_of(measure(step(made, scripted()), context, Options(exhaustive=True), Silent())[2])


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as found:
        yield found


@every_check
def test_it_runs_in_another_process(entry: Entry, pool: ProcessPoolExecutor) -> None:
    """In a process that was started afresh it builds its control and measures the same."""
    here = values_of(measured(entry, control(entry))[2])
    there = pool.submit(_elsewhere, entry, pickle.dumps(default(entry))).result(timeout=120)
    assert here.keys() == there.keys()
    for label in here:
        for values, same in zip(here[label], there[label], strict=True):
            assert values == pytest.approx(same, abs=1e-6), label


@every_check
def test_it_states_its_cost(entry: Entry) -> None:
    """The cost is at least one pass, and grows with the number of samples."""
    check = default(entry)
    few, many = (check.passes(control(entry), count) for count in (10, 100))
    assert 0 < few.forward + few.backward < many.forward + many.backward
    declared = " ".join(check.needs)
    assert not many.trainings or "training" in declared, "a model is trained, and the check does not say so"
    takes_gradients = many.backward and not many.trainings and "explainer" not in type(check).model_fields
    assert not takes_gradients or "gradients" in declared, "gradients are taken, and the check does not say so"

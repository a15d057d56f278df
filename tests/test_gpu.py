"""On a GPU every check gives what it gives on the CPU, up to rounding and its own random numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from method_cards.check import Context
from method_cards.measurement import Measurements
from method_cards.registry import Registry
from method_cards.subject import preserved

if TYPE_CHECKING:
    from method_cards.check import Check, Control
    from method_cards.subject import Subject

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def controls() -> list[tuple[str, str]]:
    return [(entry.id, control.name) for entry in Registry.installed() for control in entry.load().controls()]


def found(name: str, control: str) -> tuple[type[Check], Control]:
    kind = Registry.installed().get(name).load()
    return kind, next(item for item in kind.controls() if item.name == control)


def measured(check: Check, subject: Subject) -> Measurements:
    measurements = Measurements()
    with preserved(subject):
        for yielded in check.measure(subject, Context(subject, 192, seed=1, scope=check.id)):
            measurements.add(yielded)
    return measurements


def moved(subject: Subject, device: str) -> Subject:
    subject.model.to(device)
    return subject


@pytest.mark.parametrize(("name", "control"), controls())
def test_a_check_measures_the_same_on_a_gpu(name: str, control: str) -> None:
    """The means of all measurements agree between the devices; where random weights enter, within their spread."""
    kind, chosen = found(name, control)
    check = kind.model_validate(chosen.parameters)
    on_cpu = measured(check, chosen.build(3))
    on_gpu = measured(check, moved(chosen.build(3), "cuda"))
    assert [series.label for series in on_cpu] == [series.label for series in on_gpu]
    random = name == "attribution/parameter-randomization"
    for one, other in zip(on_cpu, on_gpu, strict=True):
        assert one.n == other.n
        assert float(one.values.mean()) == pytest.approx(float(other.values.mean()), abs=0.12 if random else 2e-3)


@pytest.mark.parametrize(("name", "control"), controls())
def test_a_check_repeats_itself_on_a_gpu(name: str, control: str) -> None:
    """The same seed on the same device gives the same values, and the model is what it was."""
    kind, chosen = found(name, control)
    check = kind.model_validate(chosen.parameters)
    subject = moved(chosen.build(3), "cuda")
    before = subject.parameters_sha256()
    first, second = measured(check, subject), measured(check, subject)
    assert subject.parameters_sha256() == before
    for one, other in zip(first, second, strict=True):
        assert one.values.tolist() == pytest.approx(other.values.tolist(), abs=1e-5)

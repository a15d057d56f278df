"""What the engine costs over the raw passes of the same work: under 5 % is the aim. Run: ``python -m benchmarks.engine_overhead``.

Three things are timed side by side in one process, in turns, in CPU seconds of one thread:

* raw: the forward and backward passes that the check makes, with the same batches, and nothing else. They are recorded from a
  run of the check and replayed, so that it is the same work by construction.
* check: the check alone, asked for its measurements: the passes and its own mathematics.
* run: everything that ``method-cards run`` does once the model is built: plan, hashes, measurement, judgement, record on disk.

Four ratios are printed. `all` is run over raw: the engine and the check's own mathematics together. `mathematics` is check over raw.
`engine` is run over check, and on a busy machine it wanders by ten percent, since the two are timed one after the other. `within`
is the engine's share inside one run: all that was spent while the check was not computing, over what was spent while it was (the
median of the rounds). It is steadier, and the star is set by it, but it leaves out what the engine does while the check computes,
such as drawing batches and looking for NaN, and what is paid once per process, such as imports and the versions of packages.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from method_cards import document
from method_cards.catalog import Catalog
from method_cards.check import Check, Context
from method_cards.engine import run_project
from method_cards.execution import Options
from method_cards.measurement import Yielded
from method_cards.project import FILE, Project, ProjectConfig
from method_cards.registry import Registry
from method_cards.subject import Subject
from method_checks.attribution import controls
from tests.helpers import card_data, criterion, prescription, write_card

AIM = 0.05


class Block(nn.Module):
    """Two convolutions beside a shortcut, as in ResNet-18."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        inner = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(inner + self.shortcut(x))


@lru_cache
def resnet18() -> nn.Module:
    """ResNet-18 for 10 classes, 11.2 million random parameters, in evaluation mode."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    for inputs, outputs, stride in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)):
        layers.append(nn.Sequential(Block(inputs, outputs, stride), Block(outputs, outputs, 1)))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)).eval()


def images() -> tuple[Tensor, Tensor]:
    """64 images of noise, ``(n, 3, 64, 64)``."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(64, 3, 64, 64, generator=generator), torch.randint(10, (64,), generator=generator)


@lru_cache
def digits_cnn() -> nn.Module:
    """The network of the attribution checks' controls, trained."""
    model = controls.network(0)
    controls.fit(model, *controls.digits(0)[0], seed=0)
    return model


def digits() -> tuple[Tensor, Tensor]:
    """600 digits that it has not seen."""
    return controls.digits(0)[1]


@dataclass(frozen=True)
class Case:
    """One check on one network.

    Attributes:
        name: Of the network.
        check: The id of the check.
        model: What builds the network, and what its data.
        samples: How many examples are measured.
        parameters: Of the check.
        criteria: What is judged: measurement, and where.
    """

    name: str
    check: str
    model: tuple[str, str]
    samples: int
    parameters: Mapping[str, Any]
    criteria: tuple[tuple[str, Mapping[str, Any]], ...]
    gate: tuple[str, Mapping[str, Any]]


Judged = tuple[tuple[str, Mapping[str, Any]], ...]

COMPLETENESS: Judged = (("gap_above_tolerance", {}),)
SMALL = ("small_difference", {"at_most": 0.5})
SAME = ("self_similarity", {"at_least": 0.8})
RANDOMIZATION: Judged = (
    ("signed_similarity", {"position": "top"}),
    ("signed_null_similarity", {}),
    ("absolute_null_similarity", {}),
)
GRADIENT = {"method": "gradient"}
CASES = (
    Case(
        "digits CNN, 512 samples", "attribution/completeness", ("digits_cnn", "digits"), 512,
        {"explainer": {"method": "integrated-gradients", "steps": 64}}, COMPLETENESS, SMALL,
    ),
    Case(
        "digits CNN, 512 samples", "attribution/parameter-randomization", ("digits_cnn", "digits"), 512,
        {"explainer": GRADIENT}, RANDOMIZATION, SAME,
    ),
    Case(
        "ResNet-18, 16 samples", "attribution/completeness", ("resnet18", "images"), 16,
        {"explainer": {"method": "integrated-gradients", "steps": 16, "block": 64}}, COMPLETENESS, SMALL,
    ),
    Case(
        "ResNet-18, 16 samples", "attribution/parameter-randomization", ("resnet18", "images"), 16,
        {"explainer": GRADIENT, "seeds": 2, "most_stages": 6}, RANDOMIZATION, SAME,
    ),
)  # fmt: skip


def main() -> None:
    """Time every case and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="a part of the names of the cases to time")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("CPU seconds of one thread, least of the rounds (median)")
    print(
        f"{'check':<37}{'network':<26}{'raw':>15}{'check':>15}{'run':>15}{'all':>9}{'mathematics':>13}{'engine':>9}{'within':>9}"
    )
    for case in CASES:
        if options.only in f"{case.name} {case.check}":
            print(line(case, timed(case, options.rounds)), flush=True)


def line(case: Case, seconds: Mapping[str, list[float]]) -> str:
    """The figures of one case; a star where the engine costs more than the aim."""
    times = {name: seconds[name] for name in ("raw", "check", "run")}
    least = {name: min(values) for name, values in times.items()}
    cells = "".join(f"{f'{least[name]:.3f} ({statistics.median(values):.3f})':>15}" for name, values in times.items())
    whole, engine = (least["run"] / least[name] - 1 for name in ("raw", "check"))
    mathematics = least["check"] / least["raw"] - 1
    within = statistics.median(
        total / inside - 1 for total, inside in zip(seconds["run"], seconds["inside"], strict=True)
    )
    star = "*" if within > AIM else " "
    return f"{case.check:<37}{case.name:<26}{cells}{whole:>9.1%}{mathematics:>13.1%}{engine:>9.1%}{within:>8.1%}{star}"


def timed(case: Case, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each way to do the work, in turns, after one round that does not count; and of the check inside the run."""
    with tempfile.TemporaryDirectory() as folder:
        ways = ways_of(case, Path(folder))
        kind = type(ways.check)
        seconds: dict[str, list[float]] = {"raw": [], "check": [], "run": [], "inside": []}
        for number in range(rounds + 1):
            found = {"raw": spent(ways.raw), "check": spent(ways.alone)}
            with inside(kind) as watch:
                found["run"] = spent(ways.run)
            found["inside"] = watch.seconds
            if number:
                for name, value in found.items():
                    seconds[name].append(value)
    return seconds


def spent(way: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    began = time.process_time()
    way()
    return time.process_time() - began


@dataclass
class Watch:
    """Adds up what a check spends on its measurements."""

    seconds: float = 0.0


@contextmanager
def inside(kind: type[Check]) -> Iterator[Watch]:
    """Within the block, the time that checks of this kind compute is watched."""
    measure = kind.measure
    watch = Watch()

    def watched(self: Check, subject: Subject, context: Context) -> Iterator[Yielded]:
        measured = measure(self, subject, context)
        while True:
            began = time.process_time()
            try:
                yielded = next(measured)
            except StopIteration:
                return
            finally:
                watch.seconds += time.process_time() - began
            yield yielded

    kind.measure = watched  # type: ignore[method-assign]  # nothing else can see inside a run
    try:
        yield watch
    finally:
        kind.measure = measure  # type: ignore[method-assign]


@dataclass(frozen=True)
class Ways:
    """The raw passes, the check alone, and the whole run."""

    check: Check
    raw: Callable[[], object]
    alone: Callable[[], object]
    run: Callable[[], object]


def ways_of(case: Case, folder: Path) -> Ways:
    """The three ways to do the work of a case."""
    project = written(case, folder)
    subject = project.build("model")
    check = project.registry.get(case.check).load().model_validate(dict(case.parameters))
    context = Context(subject, case.samples, scope=check.id)
    passes = recorded(check, subject, context)
    options = Options(device="cpu", exhaustive=True)
    return Ways(
        check,
        raw=lambda: replayed(subject.model, passes),
        alone=lambda: [None for _ in check.measure(subject, context)],
        run=lambda: run_project(project, "model", options),
    )


def recorded(check: Check, subject: Subject, context: Context) -> list[tuple[Tensor, bool]]:
    """Every call of the model that the check makes: its input, and whether a gradient is taken."""
    calls: list[tuple[Tensor, bool]] = []
    seen: dict[tuple[int, ...], Tensor] = {}

    def note(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        shape = tuple(inputs[0].shape)
        seen.setdefault(shape, inputs[0].detach().clone())
        calls.append((seen[shape], inputs[0].requires_grad and torch.is_grad_enabled()))

    handle = subject.model.register_forward_pre_hook(note)
    for _ in check.measure(subject, context):
        pass
    handle.remove()
    return calls


def replayed(model: nn.Module, passes: list[tuple[Tensor, bool]]) -> None:
    """The same calls again, and nothing else."""
    for inputs, has_gradient in passes:
        if has_gradient:
            leaf = inputs.detach().requires_grad_()
            torch.autograd.grad(model(leaf).amax(1).sum(), leaf)
        else:
            with torch.no_grad():
                model(inputs)


def written(case: Case, folder: Path) -> Project:
    """A project with one subject and one card with one prescription."""
    bindings = {
        "id": case.check,
        "with": dict(case.parameters),
        "criteria": [criterion(name, where=dict(where), at_most=0.5) for name, where in case.criteria],
        "valid_if": [criterion(case.gate[0], **case.gate[1])],
    }
    write_card(folder / "cards", card_data([prescription("itself", check=bindings)]))
    build, data = (f"benchmarks.engine_overhead:{name}" for name in case.model)
    subject = {
        "task": "image-classification",
        "model": build,
        "data": {"test": data},
        "cards": ["toy-card"],
        "explainer": GRADIENT,
    }
    config = {"schema_version": 1, "samples": case.samples, "subjects": {"model": subject}}
    (folder / FILE).write_text(json.dumps(config), encoding="utf-8")
    source = document.load(folder / FILE)
    return Project(
        folder, source.validate(ProjectConfig), source, Catalog.load([folder / "cards"]), Registry.installed()
    )


if __name__ == "__main__":
    main()

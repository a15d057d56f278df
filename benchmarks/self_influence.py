"""Self-influence in closed form beside its peers. Run: ``python -m benchmarks.self_influence``.

TracIn's self-influence of 600 digits at ten checkpoints, by a dense and by a convolutional network. All ways take the same
checkpoints and are timed in turns in one process, in CPU seconds of one thread; the least of the rounds is kept, as other work on the
machine only adds. The columns:

* CPU s: seconds for all examples and checkpoints, loading of checkpoints included.
* ratio: Captum's default, one backward pass for each example, over this way.
* difference: the largest relative difference from gradients by ``vmap``. TracInCPFast looks at the last layer only, and dattri
  projects gradients at random, so that their numbers are others: for these the correlation says how alike they are.

The aim: at least 40 times Captum's default on the dense network and 20 times on the convolutional one, and no slower than dattri. dattri
is not among the dependencies; ``pip install --no-deps --target FOLDER dattri==0.3.0`` and ``PYTHONPATH=FOLDER`` make it importable.
Without it its row is missing.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import contextlib
import io
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from method_cards.subject import Subject
from method_cards.training import Checkpoint, Recipe
from method_checks.influence.gradients import (
    TrainedCopy,
    Way,
    cross_entropies,
    values_and_norms,
    way_for,
)

EXAMPLES = 600
BLOCK = 600
EPOCHS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
CAPTUM = "Captum TracInCP"
OURS = "closed form"
AIMS = {"dense": 40.0, "convolutional": 20.0}


@dataclass(frozen=True)
class Setting:
    """A network, its training, and what is scored."""

    name: str
    build: Callable[[], nn.Module]
    checkpoints: Sequence[Checkpoint]
    inputs: Tensor
    targets: Tensor

    def copy(self) -> TrainedCopy:
        """A model whose parameters can be set."""
        data = {"train": (self.inputs, self.targets)}
        return TrainedCopy.of(Subject(self.name, "image-classification", self.build().eval(), data))


def dense() -> nn.Module:
    """9,600 parameters."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def convolutional() -> nn.Module:
    """6,100 parameters."""
    first, second = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)
    pool = partial(nn.MaxPool2d, 2)
    return nn.Sequential(first, nn.ReLU(), pool(), second, nn.ReLU(), pool(), nn.Flatten(), nn.Linear(128, 10))


def settings() -> list[Setting]:
    """Both networks, trained for ten epochs on digits of which a fifth have a wrong label."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(loaded.target), generator=generator)[:EXAMPLES]
    images = torch.as_tensor(loaded.data, dtype=torch.float32)[order].reshape(-1, 1, 8, 8) / 16 - 0.3
    labels = torch.as_tensor(loaded.target)[order]
    wrong = torch.rand(EXAMPLES, generator=generator) < 0.2
    labels = torch.where(wrong, (labels + torch.randint(1, 10, labels.shape, generator=generator)) % 10, labels)
    found = []
    for name, build in (("dense", dense), ("convolutional", convolutional)):
        recipe = Recipe(build, epochs=10, batch_size=50, learning_rate=0.05, momentum=0.9, schedule="cosine")
        found.append(Setting(name, build, recipe.followed(images, labels, 0, EPOCHS)[1], images, labels))
    return found


def closed_form(setting: Setting) -> Tensor:
    """As the check does it, the look at the model included."""
    return _by(setting, None)


def by_vmap(setting: Setting) -> Tensor:
    """Gradients by ``vmap``, squared and summed."""
    return _by(setting, Way("vmap", "vmap"))


def by_loop(setting: Setting) -> Tensor:
    """One backward pass for each example: what the check falls back to last."""
    return _by(setting, Way("loop", "loop"))


def _by(setting: Setting, way: Way | None) -> Tensor:
    copy, total = setting.copy(), torch.zeros(len(setting.targets), dtype=torch.float64)
    for checkpoint in setting.checkpoints:
        copy.load(checkpoint.load())
        way = way or way_for(copy, cross_entropies, setting.inputs, setting.targets)
        for rows in torch.arange(len(total)).split(BLOCK):
            norms = values_and_norms(copy, cross_entropies, setting.inputs[rows], setting.targets[rows], way)[1]
            total[rows] += checkpoint.learning_rate * norms
    return total


def captum_ways(setting: Setting, folder: Path) -> dict[str, Callable[[], Tensor]]:
    """Captum's classes, on checkpoints in files as they want them."""
    from captum.influence import TracInCP, TracInCPFast

    rates: dict[str, float] = {}
    for number, checkpoint in enumerate(setting.checkpoints):
        path = str(folder / f"{setting.name}-{number}.pt")
        torch.save(checkpoint.load(), path)
        rates[path] = checkpoint.learning_rate

    def load(model: nn.Module, path: str) -> float:
        model.load_state_dict(torch.load(path))
        return rates[path]

    def made(kind: Any, reduction: str, **options: Any) -> Tensor:
        data = torch.utils.data.TensorDataset(setting.inputs, setting.targets)
        loss = nn.CrossEntropyLoss(reduction=reduction)
        common = {"checkpoints_load_func": load, "loss_fn": loss, "batch_size": BLOCK}
        found: Tensor = kind(
            setting.build().eval(), train_dataset=data, checkpoints=list(rates), **common, **options
        ).self_influence()
        return found.detach()

    last = str(len(list(setting.build().children())) - 1)
    return {
        CAPTUM: partial(made, TracInCP, "none", sample_wise_grads_per_batch=False),
        "Captum TracInCP, sample-wise": partial(made, TracInCP, "sum", sample_wise_grads_per_batch=True),
        "Captum TracInCPFast": partial(made, TracInCPFast, "sum", final_fc_layer=last),
    }


def dattri_ways(setting: Setting) -> dict[str, Callable[[], Tensor]]:
    """The attributor of dattri, where it is installed."""
    if find_spec("dattri") is None:
        return {}
    from dattri.algorithm import TracInAttributor
    from dattri.task import AttributionTask

    model = setting.build().eval()

    def loss(parameters: Any, example: tuple[Tensor, Tensor]) -> Tensor:
        output = torch.func.functional_call(model, parameters, (example[0][None],))
        return nn.functional.cross_entropy(output, example[1][None])

    def found() -> Tensor:
        task = AttributionTask(
            loss_func=loss, model=model, checkpoints=[dict(each.load()) for each in setting.checkpoints]
        )
        rates = torch.tensor([each.learning_rate for each in setting.checkpoints])
        data = torch.utils.data.TensorDataset(setting.inputs, setting.targets)
        loader = torch.utils.data.DataLoader(data, batch_size=BLOCK)
        with torch.no_grad():
            scores: Tensor = TracInAttributor(task=task, weight_list=rates, normalized_grad=False).self_attribute(
                loader
            )
        return scores.detach().flatten()

    return {"dattri TracIn": found}


def interleaved(
    ways: Mapping[str, Callable[[], Tensor]], rounds: int
) -> tuple[dict[str, float], dict[str, NDArray[np.float64]]]:
    """Run all ways in turn, so often; the least CPU seconds of each, and what each gave last."""
    seconds: dict[str, float] = {}
    values: dict[str, NDArray[np.float64]] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                begun = time.process_time()
                found = way()
                spent = time.process_time() - begun
            seconds[name] = min(spent, seconds.get(name, spent))
            values[name] = found.double().numpy()
    return seconds, values


def main() -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each way is timed")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for setting in settings():
        with tempfile.TemporaryDirectory() as folder:
            ways: dict[str, Callable[[], Tensor]] = {
                OURS: partial(closed_form, setting),
                "vmap(grad)": partial(by_vmap, setting),
                "one by one": partial(by_loop, setting),
                **captum_ways(setting, Path(folder)),
                **dattri_ways(setting),
            }
            seconds, values = interleaved(ways, rounds)
        truth = values["vmap(grad)"]
        print(f"\n{setting.name} network, {EXAMPLES} examples, {len(setting.checkpoints)} checkpoints")
        print(f"{'way':32}{'CPU s':>10}{'ratio':>9}{'difference':>13}{'correlation':>13}")
        for name in sorted(seconds, key=seconds.__getitem__):
            difference = float((np.abs(values[name] - truth) / np.abs(truth)).max())
            alike = float(np.corrcoef(values[name], truth)[0, 1])
            ratio = seconds[CAPTUM] / seconds[name]
            star = " *" if name == OURS and ratio < AIMS[setting.name] else ""
            print(f"{name:32}{seconds[name]:10.4f}{ratio:9.1f}{difference:13.1e}{alike:13.4f}{star}")


if __name__ == "__main__":
    main()

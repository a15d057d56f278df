"""What shadow models cost in one stack and one after the other. Run: ``python -m benchmarks.shadow_models``.

Many models are trained on random halves of scikit-learn's digits, three ways in turn in one process, in CPU seconds of one thread (on
a GPU: wall seconds); of several rounds the least counts, and the ratios are taken within a round:

* by hand: the loop that a person would write, one ``torch.nn.Module`` and one ``torch.optim.SGD`` after the other.
* loop: `method_cards.training.train_many`, one model after the other.
* stacked: the same, all models in one stack.

`chosen` is what ``path="auto"`` takes, from the operations of one step; `work` are these, in millions. `apart` is the largest difference
of a predicted probability between a stacked model and the same one trained alone: rounding, which long training amplifies.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from benchmarks.engine_overhead import digits
from method_cards.randomness import seeded
from method_cards.training import Recipe, train_many
from method_cards.training.many import WORK, step_work
from method_checks.memorization.shadows.ensemble import halves

POOL = 400
"""Examples of which each model is trained on half."""

EPOCHS, BATCH, RATE, MOMENTUM = 12, 40, 0.05, 0.9


def perceptron(width: int) -> nn.Module:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )


def convolutional(width: int) -> nn.Module:
    """Two convolutions with pooling, and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * width, 10),
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "MLP 32": partial(perceptron, 32),
    "MLP 128": partial(perceptron, 128),
    "MLP 512": partial(perceptron, 512),
    "CNN 8": partial(convolutional, 8),
    "CNN 16": partial(convolutional, 16),
    "CNN 64": partial(convolutional, 64),
}


def main() -> None:
    """Time every network and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, nargs="+", default=[64])
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=3, help="the least of so many rounds counts")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(options.device)
    what = "CPU seconds of one thread" if device.type == "cpu" else f"wall seconds, {torch.cuda.get_device_name()}"
    print(f"{EPOCHS} epochs of {POOL // 2} digits in batches of {BATCH}, {what}")
    print(
        f"{'network':<10}{'models':>7}{'work':>8}{'by hand':>9}{'loop':>8}{'stacked':>9}{'loop/stacked':>14}   chosen   apart"
    )
    for name in options.networks:
        for count in options.models:
            print(line(name, NETWORKS[name], count, options.rounds, device), flush=True)


def line(name: str, build: Callable[[], nn.Module], count: int, rounds: int, device: torch.device) -> str:
    """The figures of one network."""
    inputs, targets = (part[:POOL].contiguous().to(device) for part in digits())
    members = halves(count, POOL, torch.Generator().manual_seed(0))
    seeds = list(range(count))
    recipe = Recipe(build, epochs=EPOCHS, batch_size=BATCH, learning_rate=RATE, momentum=MOMENTUM)

    def trained(path: Literal["stacked", "loop"]) -> list[nn.Module]:
        return train_many(recipe, inputs, targets, members, seeds, path=path)

    ways: dict[str, Callable[[], Sequence[nn.Module]]] = {
        "by hand": lambda: [
            by_hand(build, inputs, targets, row, seed) for row, seed in zip(members, seeds, strict=True)
        ],
        "loop": lambda: trained("loop"),
        "stacked": lambda: trained("stacked"),
    }
    ways["stacked"]()  # the first stack of a process loads what the later ones use
    seconds = [{way: spent(call, device) for way, call in ways.items()} for _ in range(rounds)]
    least = {way: min(each[way] for each in seconds) for way in ways}
    ratio = statistics.median(each["loop"] / each["stacked"] for each in seconds)
    work = step_work(recipe, inputs[:BATCH], targets[:BATCH])
    chosen = "stacked" if work <= WORK[device.type] else "loop"
    apart = max(
        float((probabilities(one, inputs) - probabilities(other, inputs)).abs().max())
        for one, other in zip(trained("stacked"), trained("loop"), strict=True)
    )
    numbers = f"{work / 1e6:>8.2f}{least['by hand']:>9.2f}{least['loop']:>8.2f}{least['stacked']:>9.2f}{ratio:>14.2f}"
    return f"{name:<10}{count:>7}{numbers}   {chosen:<8} {apart:.0e}"


def by_hand(build: Callable[[], nn.Module], inputs: Tensor, targets: Tensor, members: Tensor, seed: int) -> nn.Module:
    """One model, by the loop of every tutorial."""
    with seeded(seed):
        model = build().to(inputs.device).train()
    x, y = inputs[members.to(inputs.device)], targets[members.to(inputs.device)]
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(y), generator=generator).split(BATCH):
            chosen = rows.to(inputs.device)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
            optimizer.step()
    return model.eval()


def probabilities(model: nn.Module, inputs: Tensor) -> Tensor:
    """Of each class, ``(example, class)``."""
    with torch.no_grad():
        found: Tensor = model(inputs).softmax(1)
    return found


def spent(way: Callable[[], object], device: torch.device) -> float:
    """CPU seconds of one call; wall seconds on a GPU."""
    on_gpu = device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    if on_gpu:
        torch.cuda.synchronize()
    began = clock()
    way()
    if on_gpu:
        torch.cuda.synchronize()
    return clock() - began


if __name__ == "__main__":
    main()

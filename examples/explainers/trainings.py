"""How alike maps of one network are from one training to the next: ``python trainings.py`` writes trainings.json.

The residual network is trained from several seeds as it was for the page, as the check trains it, and on permuted labels.
"""

from __future__ import annotations

import json
from itertools import combinations, product
from pathlib import Path
from statistics import mean

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from subjects import residual_test, residual_train, train_residual

RESULTS = Path(__file__).parent / "trainings.json"

SEEDS = (1, 2, 3)
EXAMPLES, TRAINED_ON = 192, 400


def gradients(model: nn.Module, inputs: Tensor, targets: Tensor, noise: float, draws: int) -> Tensor:
    """The gradient of each target's logit, averaged over noisy copies of the inputs; the noise is a share of each image's range."""
    rng = torch.Generator().manual_seed(0)
    size = noise * (inputs.amax((1, 2, 3), keepdim=True) - inputs.amin((1, 2, 3), keepdim=True))
    total = torch.zeros_like(inputs)
    for _ in range(draws):
        at = (inputs + size * torch.randn(inputs.shape, generator=rng)).requires_grad_()
        total += torch.autograd.grad(model(at).gather(1, targets[:, None]).sum(), at)[0]
    return total / draws


def similarity(one: Tensor, other: Tensor) -> float:
    """The mean over examples of the rank correlation of two maps."""
    pairs = zip(one.flatten(1), other.flatten(1), strict=True)
    return mean(float(spearmanr(first, second).statistic) for first, second in pairs)


def main() -> None:
    """Train, explain the same predictions by each network, and compare."""
    torch.set_num_threads(1)
    inputs, labels = residual_train()
    rng = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(labels), generator=rng)[:TRAINED_ON]
    shuffled = labels[chosen][torch.randperm(TRAINED_ON, generator=rng)]
    networks = {
        "page": [train_residual(inputs, labels, seed, epochs=12) for seed in SEEDS],
        "check": [train_residual(inputs[chosen], labels[chosen], seed) for seed in SEEDS],
        "permuted": [train_residual(inputs[chosen], shuffled, seed) for seed in SEEDS],
    }
    examples = residual_test()[0][:EXAMPLES]
    targets = networks["page"][0](examples).argmax(1)
    found: dict[str, dict[str, float]] = {}
    for explainer, (noise, draws) in {"gradient": (0.0, 1), "smoothgrad": (0.15, 25)}.items():
        maps = {
            kind: [gradients(network, examples, targets, noise, draws) for network in trained]
            for kind, trained in networks.items()
        }
        found[explainer] = {
            "page": mean(similarity(*pair) for pair in combinations(maps["page"], 2)),
            "check": mean(similarity(*pair) for pair in combinations(maps["check"], 2)),
            "page and check": mean(similarity(*pair) for pair in product(maps["page"], maps["check"])),
            "page and permuted": mean(similarity(*pair) for pair in product(maps["page"], maps["permuted"])),
        }
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Train the models of the example, in seconds, and save their weights.

``digits-cnn`` is trained with care. ``memorizer`` is the same network, trained on labels of which a fifth is random, until it knows
them by heart. ``digits-cnn-seed1`` and ``-seed2`` repeat the first from other seeds: the ceiling of what any explanation can agree on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import data
from model import build, train

FOLDER = Path(__file__).parent / "weights"


def accuracy(model: torch.nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> float:
    """The share of examples that are classified right."""
    with torch.no_grad():
        return float((model(inputs).argmax(1) == targets).float().mean())


def main() -> None:
    """Train and save all models."""
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    careful: dict[str, Any] = {"epochs": 24, "weight_decay": 0.1, "shift": True}
    jobs: dict[str, tuple[int, dict[str, Any], tuple[torch.Tensor, torch.Tensor]]] = {
        "digits-cnn": (0, careful, data.train()),
        "digits-cnn-seed1": (1, careful, data.train()),
        "digits-cnn-seed2": (2, careful, data.train()),
        "memorizer": (0, {"epochs": 80}, data.noisy_train()),
    }
    for name, (seed, how, (inputs, targets)) in jobs.items():
        torch.manual_seed(seed)
        model = train(build(), inputs, targets, seed=seed, **how)
        save_file(model.state_dict(), FOLDER / f"{name}.safetensors")
        print(
            f"{name}: accuracy {accuracy(model, inputs, targets):.3f} on its training data, "
            f"{accuracy(model, *data.test()):.3f} on the clean test data"
        )


if __name__ == "__main__":
    main()

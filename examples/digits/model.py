"""The model of the example: a small convolutional network for 8×8 digits."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn


def build() -> nn.Module:
    """The network in evaluation mode; `method-cards.yaml` names the weights that are loaded into it."""
    layers = {
        "edges": nn.Conv2d(1, 16, 3, padding=1),
        "relu1": nn.ReLU(),
        "shapes": nn.Conv2d(16, 32, 3, padding=1),
        "relu2": nn.ReLU(),
        "pool": nn.MaxPool2d(2),
        "flatten": nn.Flatten(),
        "hidden": nn.Linear(512, 64),
        "relu3": nn.ReLU(),
        "logits": nn.Linear(64, 10),
    }
    return nn.Sequential(OrderedDict(layers)).eval()


def train(
    model: nn.Module,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    *,
    seed: int,
    epochs: int,
    weight_decay: float = 0.0,
    shift: bool = False,
) -> nn.Module:
    """Train a classifier by AdamW on cross-entropy.

    Args:
        model: The network; it is changed.
        inputs: ``(n, 1, 8, 8)``.
        targets: ``(n,)`` class numbers.
        seed: Decides the order of the examples.
        epochs: How often each example is seen.
        weight_decay: How strongly weights are drawn to zero.
        shift: Whether each batch is moved by up to one pixel, so that no image is ever seen twice in the same place.

    Returns:
        The same network, in evaluation mode.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=weight_decay)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(targets), generator=generator).split(64):
            batch = inputs[chosen]
            if shift:
                down, right = (int(step) for step in torch.randint(-1, 2, (2,), generator=generator))
                batch = torch.roll(batch, (down, right), (2, 3))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch), targets[chosen]).backward()
            optimizer.step()
    return model.eval()

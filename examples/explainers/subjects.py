"""Four small models, trained in seconds: a plain CNN, a residual CNN with batch norm, a text classifier, a network for a table."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from method_checks.attribution import controls
from method_checks.attribution.controls import Examples, Kind

SEED = 0

KEPT = Path(__file__).parent / "trained"
"""Where trained parameters are kept: checks that retrain a model do so from the same data and seeds for every explainer."""

EPOCHS: dict[Kind, int] = {"digits": 120, "words": 200, "table": 300}
"""Enough to learn permuted labels by heart."""


class Residual(nn.Module):
    """Two convolutions with batch norm, each output added to what came in."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        inner = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(x)))))
        found: Tensor = self.relu2(inner + self.shortcut(x))
        return found


class ResidualNetwork(nn.Module):
    """Three residual blocks, the mean over the image, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.blocks = nn.Sequential(Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 64, 2))
        self.logits = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(batch, 10)``."""
        found: Tensor = self.logits(self.blocks(self.stem(x)).mean((2, 3)))
        return found


def cnn() -> nn.Module:
    """A small convolutional network for 8×8 digits."""
    return controls.trained(SEED, "digits")


def words() -> nn.Module:
    """A text classifier with token embeddings and a convolution over tokens."""
    return controls.trained(SEED, "words")


def table() -> nn.Module:
    """A perceptron for the columns of scikit-learn's breast cancer data."""
    return controls.trained(SEED, "table")


def residual() -> nn.Module:
    """A residual network for digits that were enlarged to 16×16."""
    model = ResidualNetwork()
    model.load_state_dict(_residual())
    return model.eval()


@lru_cache(maxsize=1)
def _residual() -> dict[str, Tensor]:
    return train_residual(*residual_train(), SEED, epochs=12).state_dict()


def train_residual(inputs: Tensor, targets: Tensor, seed: int, epochs: int = 80) -> nn.Module:
    """Train the residual network from scratch; in evaluation mode."""
    torch.manual_seed(seed)
    model = ResidualNetwork()

    def fit() -> None:
        optimizer = torch.optim.AdamW(model.train().parameters(), lr=3e-3)
        for _ in range(epochs):
            for chosen in torch.randperm(len(targets)).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(inputs[chosen]), targets[chosen]).backward()
                optimizer.step()

    return kept(model, f"residual {seed} {epochs}", inputs, targets, fit)


def kept(model: nn.Module, name: str, inputs: Tensor, targets: Tensor, fit: Callable[[], None]) -> nn.Module:
    """The model with the parameters that fitting gives it, which are computed once for each name and data; in evaluation mode."""
    data = b"".join(part.contiguous().numpy().tobytes() for part in (inputs.cpu(), targets.cpu()))
    file = KEPT / f"{hashlib.sha256(name.encode() + data).hexdigest()[:24]}.pt"
    if file.exists():
        model.load_state_dict(torch.load(file))
    else:
        fit()
        KEPT.mkdir(exist_ok=True)
        torch.save(model.state_dict(), partial := file.with_suffix(f".{os.getpid()}"))
        partial.rename(file)
    return model.eval()


def residual_train() -> Examples:
    """Enlarged digits to train on."""
    return _enlarged(*controls.digits(SEED)[0])


def residual_test() -> Examples:
    """Enlarged digits that the network never saw."""
    return _enlarged(*controls.digits(SEED)[1])


def _enlarged(images: Tensor, targets: Tensor) -> Examples:
    return nn.functional.interpolate(images, scale_factor=2, mode="bilinear"), targets


def _trainer(kind: Kind, build: Callable[[int], nn.Module]) -> Callable[[Tensor, Tensor, int], nn.Module]:
    def train(inputs: Tensor, targets: Tensor, seed: int) -> nn.Module:
        model = build(seed)

        def fit() -> None:
            controls.fit(model, inputs, targets, seed=seed, epochs=EPOCHS[kind])

        return kept(model, f"{kind} {seed} {EPOCHS[kind]}", inputs, targets, fit)

    return train


train_cnn = _trainer("digits", controls.network)
train_words = _trainer("words", controls.reader)
train_table = _trainer("table", controls.perceptron)


def digits_train() -> Examples:
    """Digits to train on."""
    return controls.digits(SEED)[0]


def digits_test() -> Examples:
    """Digits that the network never saw."""
    return controls.digits(SEED)[1]


def words_train() -> Examples:
    """Texts to train on."""
    return controls.words(SEED)[0]


def words_test() -> Examples:
    """Texts that the classifier never saw."""
    return controls.words(SEED)[1]


def table_train() -> Examples:
    """Rows to train on."""
    return controls.table(SEED)[0]


def table_test() -> Examples:
    """Rows that the network never saw."""
    return controls.table(SEED)[1]

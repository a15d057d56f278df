"""Trainings of which it is known whether self-influence tells wrong labels from right ones."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from method_cards.check import Control
from method_cards.lazy import torch
from method_cards.subject import Subject
from method_cards.training import Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

DIGITS = 1500
"""How many digits are trained on."""

WRONG = 0.1
"""The share of labels that are wrong where the data itself has wrong ones."""

ADAM = partial(Recipe, epochs=12, batch_size=50, learning_rate=0.003, optimizer="adam")
"""A training that stops early."""

OVERFIT = partial(Recipe, epochs=60, batch_size=50, learning_rate=0.1, momentum=0.9)
"""A training that goes on until every label is fitted."""


def network() -> nn.Module:
    """64 pixels, 64 units, 10 classes."""
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))


def convolutional_network() -> nn.Module:
    """Two convolutions with group norm, and a linear layer."""
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3, padding=1),
        torch.nn.GroupNorm(2, 8),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(8, 16, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(64, 10),
    )


def digits_network(seed: int) -> Subject:
    """A small network that is trained on digits for a few epochs."""
    images, labels = _digits(seed)
    return _subject("digits", ADAM(network), images, labels, seed)


def digits_convolution(seed: int) -> Subject:
    """A convolutional network, of the same training."""
    images, labels = _digits(seed)
    return _subject("digits-convolution", ADAM(convolutional_network, epochs=8), images, labels, seed)


def verified_labels(seed: int) -> Subject:
    """A network whose checkpoints were kept while it was trained on digits with wrong labels, and the right labels beside them."""
    images, labels = _digits(seed)
    wrong = _some_wrong(labels, seed)
    return _followed("verified-labels", ADAM(network), (1, 2, 3, 5, 8, 12), images, (wrong, labels), seed)


def random_labels(seed: int) -> Subject:
    """Digits whose labels were all drawn at random, a tenth of them twice: none is more wrong than another."""
    images, labels = _digits(seed)
    drawn = torch.randint(10, labels.shape, generator=torch.Generator().manual_seed(seed + 2))
    changed = _some_wrong(drawn, seed)
    return _followed("random-labels", ADAM(network), (1, 2, 3, 5, 8, 12), images, (changed, drawn), seed)


def uneven_brightness(seed: int) -> Subject:
    """Digits whose brightness differs by powers of ten: a gradient is as long as its input is bright, whatever the label."""
    images, labels = _digits(seed)
    spread = torch.randn(len(images), 1, 1, 1, generator=torch.Generator().manual_seed(seed))
    recipe = Recipe(network, epochs=12, batch_size=50, learning_rate=0.01, momentum=0.9)
    return _subject("uneven-brightness", recipe, images * (1.5 * spread).exp(), labels, seed)


def late_checkpoints(seed: int) -> Subject:
    """A network that was trained until it gave every wrong label, of which only the last checkpoints were kept."""
    images, labels = (each[:400] for each in _digits(seed))
    wrong = _some_wrong(labels, seed)
    return _followed("late-checkpoints", OVERFIT(network), range(52, 61, 2), images, (wrong, labels), seed)


def few_checkpoints(seed: int) -> Subject:
    """The same as with verified labels, but two checkpoints were kept."""
    subject = verified_labels(seed)
    return replace(subject, checkpoints=subject.checkpoints[1:3])


def another_model(seed: int) -> Subject:
    """The checkpoints are those of the network, but the model under check is an untrained one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return replace(verified_labels(seed), model=network().eval())


def _digits(seed: int) -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    loaded = load_digits()
    order = torch.randperm(len(loaded.target), generator=torch.Generator().manual_seed(seed))[:DIGITS]
    images = torch.as_tensor(loaded.data, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16 - 0.3
    return images[order], torch.as_tensor(loaded.target)[order]


def _some_wrong(labels: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 1)
    replaced = torch.rand(len(labels), generator=generator) < WRONG
    return torch.where(replaced, (labels + torch.randint(1, 10, labels.shape, generator=generator)) % 10, labels)


def _subject(name: str, recipe: Recipe, images: Tensor, labels: Tensor, seed: int) -> Subject:
    return Subject(
        name, "image-classification", recipe(images, labels, seed), {"train": (images, labels)}, train=recipe
    )


def _followed(
    name: str, recipe: Recipe, keep: Sequence[int], images: Tensor, labels: tuple[Tensor, Tensor], seed: int
) -> Subject:
    given, right = labels
    model, checkpoints = recipe.followed(images, given, seed, keep)
    data = {"train": (images, given), "verified": (images, right)}
    return Subject(name, "image-classification", model, data, checkpoints=checkpoints)


VERIFIED = {"verified": "verified"}

CONTROLS = (
    Control(
        "digits-network", "sound", "A small network that is trained on 1,500 digits for a few epochs.", digits_network
    ),
    Control(
        "digits-convolution",
        "sound",
        "A convolutional network with group norm that is trained on the same digits.",
        digits_convolution,
    ),
    Control(
        "verified-labels",
        "sound",
        "A network with checkpoints of its own, trained on digits of which a tenth had wrong labels, with the right labels beside them.",
        verified_labels,
        parameters=VERIFIED,
    ),
    Control(
        "random-labels",
        "defect",
        "Digits whose labels were all drawn at random, a tenth of them twice: none is more wrong than another.",
        random_labels,
        because="self_influence_auc",
        parameters=VERIFIED,
    ),
    Control(
        "uneven-brightness",
        "defect",
        "Digits whose brightness differs by powers of ten: gradients are long where the input is bright, whatever the label.",
        uneven_brightness,
        because="gain_over_mean_loss",
    ),
    Control(
        "late-checkpoints",
        "confounded",
        "A network that gives every wrong label, of which only the last checkpoints were kept.",
        late_checkpoints,
        because="fitted_at_first_checkpoint",
        parameters=VERIFIED,
    ),
    Control(
        "few-checkpoints",
        "confounded",
        "A network of which two checkpoints were kept.",
        few_checkpoints,
        because="checkpoints",
        parameters=VERIFIED,
    ),
    Control(
        "another-model",
        "confounded",
        "An untrained network beside the checkpoints of a trained one.",
        another_model,
        because="same_predictions",
        parameters=VERIFIED,
    ),
)

"""Trainings and methods of which it is known whether influences predict what other subsets do."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from method_cards.check import Control
from method_cards.lazy import torch
from method_cards.subject import Subject
from method_cards.training import Recipe

if TYPE_CHECKING:
    from torch import nn

TRAIN = 300
"""How many digits are trained on."""

TEST = 400
"""How many digits are held out."""


def linear_classifier() -> nn.Module:
    """64 pixels, 10 classes, nothing between."""
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))


def network() -> nn.Module:
    """64 pixels, 32 units, 10 classes."""
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))


LINEAR = partial(
    Recipe, linear_classifier, epochs=20, batch_size=50, learning_rate=0.1, momentum=0.9, weight_decay=0.01
)
REGULARISED = partial(Recipe, network, epochs=30, batch_size=20, learning_rate=0.05, momentum=0.9, weight_decay=0.01)
FITTED = partial(Recipe, network, epochs=12, batch_size=25, learning_rate=0.01, optimizer="adam")


def linear_digits(seed: int) -> Subject:
    """A linear classifier of digits, trained with weight decay."""
    return _subject("linear-digits", LINEAR(), seed)


def network_digits(seed: int) -> Subject:
    """A small network on digits, trained with weight decay until it has converged."""
    return _subject("network-digits", REGULARISED(), seed)


def fitted_digits(seed: int) -> Subject:
    """The same network without weight decay, trained until it fits its examples."""
    return _subject("fitted-digits", FITTED(), seed)


def chance_training(seed: int) -> Subject:
    """A network that takes one step from its random weights: two trainings on the same half share little."""
    recipe = Recipe(network, epochs=1, batch_size=300, learning_rate=0.001)
    return _subject("hardly-trained", recipe, seed)


def another_training(seed: int) -> Subject:
    """The recipe is that of the linear classifier, but the model under check was never trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return replace(linear_digits(seed), model=linear_classifier().eval())


def _subject(name: str, recipe: Recipe, seed: int) -> Subject:
    from sklearn.datasets import load_digits

    loaded = load_digits()
    order = torch.randperm(len(loaded.target), generator=torch.Generator().manual_seed(seed))
    images = torch.as_tensor(loaded.data, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16 - 0.3
    images, labels = images[order], torch.as_tensor(loaded.target)[order]
    train = images[:TRAIN], labels[:TRAIN]
    test = images[TRAIN : TRAIN + TEST], labels[TRAIN : TRAIN + TEST]
    model = recipe(*train, seed)
    return Subject(name, "image-classification", model, {"train": train, "test": test}, train=recipe)


CONTROLS = (
    Control(
        "linear-classifier",
        "sound",
        "TRAK on a linear classifier of digits, for which it is nearly exact.",
        linear_digits,
    ),
    Control(
        "network",
        "sound",
        "TRAK on a small network of digits that was trained with weight decay until it had converged.",
        network_digits,
    ),
    Control(
        "representations",
        "defect",
        "Cosines of the network's last representations, which are alike for all digits and do not know which way an example pulls.",
        fitted_digits,
        because="score_over_same_class",
        parameters={"method": "representation-cosine"},
    ),
    Control(
        "last-gradients",
        "defect",
        "Inner products of loss gradients at the end of the training, where examples that are fitted have none.",
        fitted_digits,
        because="score_over_same_class",
        parameters={"method": "gradient-dot"},
    ),
    Control(
        "hardly-trained",
        "confounded",
        "A network that takes one small step from its random weights, so that two trainings on the same half share nothing.",
        chance_training,
        because="retraining_agreement",
    ),
    Control(
        "another-training",
        "confounded",
        "A model that was never trained, beside the recipe of one that was.",
        another_training,
        because="same_predictions",
    ),
)

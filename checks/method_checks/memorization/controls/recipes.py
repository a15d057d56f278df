"""Recipes of one architecture, from the one that learns every label by heart to the one that learns too little."""

from __future__ import annotations

from typing import TYPE_CHECKING

from method_cards.check import Control
from method_cards.lazy import torch
from method_cards.subject import Subject
from method_cards.training import Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

SAMPLES = 200
"""How many members and non-members there are."""

COLUMNS = 32
CLASSES = 8


def network() -> nn.Sequential:
    """Two layers, 2,632 parameters."""
    return torch.nn.Sequential(torch.nn.Linear(COLUMNS, 64), torch.nn.ReLU(), torch.nn.Linear(64, CLASSES))


OVERFIT = Recipe(network, epochs=40, batch_size=50, learning_rate=0.01, optimizer="adam")
"""Until every label is known, right or wrong."""

REGULARISED = Recipe(
    network, epochs=10, batch_size=50, learning_rate=0.01, optimizer="adamw", weight_decay=3.0, schedule="cosine"
)
"""A quarter of the steps, and a strong weight decay."""

SHORT = Recipe(network, epochs=1, batch_size=50, learning_rate=0.0005, optimizer="adam")
"""Hardly any training."""


def regularised(seed: int) -> Subject:
    """Noisy labels, and a recipe that does not learn them."""
    return _subject("regularised-recipe", seed, 0.2, REGULARISED, REGULARISED)


def overfitted(seed: int) -> Subject:
    """The same labels and architecture, and a recipe that learns them all."""
    return _subject("overfitted-recipe", seed, 0.2, OVERFIT, OVERFIT)


def clean(seed: int) -> Subject:
    """Labels without noise, and the recipe that would learn noise."""
    return _subject("learns-what-is-planted", seed, 0.0, OVERFIT, OVERFIT)


def another_recipe(seed: int) -> Subject:
    """A model that knows its noisy labels by heart, and a training function that is not the one it was trained with."""
    return _subject("another-recipe", seed, 0.2, OVERFIT, SHORT)


def _subject(name: str, seed: int, noise: float, trained: Recipe, given: Recipe) -> Subject:
    generator = torch.Generator().manual_seed(seed)
    centres = 0.6 * torch.randn(CLASSES, COLUMNS, generator=generator)
    labels = torch.randint(CLASSES, (2 * SAMPLES,), generator=generator)
    rows = centres[labels] + torch.randn(2 * SAMPLES, COLUMNS, generator=generator)
    replaced = torch.rand(2 * SAMPLES, generator=generator) < noise
    labels = torch.where(replaced, torch.randint(CLASSES, labels.shape, generator=generator), labels)
    members: tuple[Tensor, Tensor] = rows[:SAMPLES], labels[:SAMPLES]
    return Subject(
        name,
        "tabular-classification",
        trained(*members, seed),
        {"train": members, "test": (rows[SAMPLES:], labels[SAMPLES:])},
        train=given,
    )


CONTROLS = (
    Control(
        "regularised-recipe",
        "sound",
        "A short training with weight decay, on rows of which a fifth has random labels: it learns the classes and not the noise.",
        regularised,
    ),
    Control(
        "overfitted-recipe",
        "defect",
        "The same rows, labels and architecture, trained until every label is known.",
        overfitted,
        because="memorized_share",
    ),
    Control(
        "learns-what-is-planted",
        "defect",
        "The same training on rows without wrong labels: those that are planted are learned.",
        clean,
        because="planted_memorization",
    ),
    Control(
        "another-recipe",
        "confounded",
        "A model that knows its noisy labels by heart, with a training function that hardly trains: it says nothing about the model.",
        another_recipe,
        because="recipe_gap",
    ),
)
"""Whether labels are learned by heart is known of each."""

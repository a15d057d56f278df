"""Subjects of which it is known what they memorised, with the recipe that they were trained by."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from method_cards.check import Control
from method_cards.lazy import torch
from method_cards.subject import Subject
from method_cards.training import Recipe
from method_checks.memorization.controls.tables import CLASSES, COLUMNS, clusters, noisy

if TYPE_CHECKING:
    from torch import nn

    from method_checks.memorization.controls.tables import Table

SAMPLES = 1000
"""How many examples each split has, unless it says otherwise."""

MANY = 2000
"""How many non-members are enough for a threshold at one false positive in a thousand."""

NOISE = 0.2
"""The share of labels that are replaced at random before the split."""


def network() -> nn.Module:
    """One hidden layer of 128, 5,500 parameters."""
    return torch.nn.Sequential(torch.nn.Linear(COLUMNS, 128), torch.nn.ReLU(), torch.nn.Linear(128, CLASSES))


def linear() -> nn.Module:
    """330 parameters."""
    return torch.nn.Linear(COLUMNS, CLASSES)


OVERFITTING = Recipe(network, epochs=15, batch_size=100, learning_rate=0.2, momentum=0.9)
"""Long enough to learn random labels by heart."""

REGULARISED = replace(OVERFITTING, epochs=6, learning_rate=0.1, weight_decay=0.05)
"""Stopped early, with so much weight decay that training and held-out accuracy are close."""

SMALL = Recipe(linear, epochs=3, batch_size=500, learning_rate=0.05, optimizer="adamw", weight_decay=0.01)
"""Too few parameters, and too many examples, to learn any of them by heart."""


def other_rows(seed: int) -> Subject:
    """An overfitted network whose training rows are in neither split."""
    members, non_members, others = _tables(seed, 3, MANY)
    return _subject("trained-on-other-rows", OVERFITTING, others, members, non_members, seed)


def small_model(seed: int) -> Subject:
    """A linear model that was trained on 12,000 members, whose labels are right."""
    members, non_members = clusters(torch.Generator().manual_seed(seed), [6 * MANY, MANY])
    return _subject("small-model-on-many-rows", SMALL, members, members, non_members, seed)


def overfitted(seed: int) -> Subject:
    """A network that was trained until it knew its members, of whose labels a fifth is random."""
    members, non_members = _tables(seed, 2)
    return _subject("overfitted", OVERFITTING, members, members, non_members, seed)


def single_rows(seed: int) -> Subject:
    """The same with twice the members, and non-members enough to look at one false positive in a thousand."""
    members, non_members = _tables(seed, 2, MANY)
    return _subject("overfitted-to-single-rows", OVERFITTING, members, members, non_members, seed)


def regularised(seed: int) -> Subject:
    """A network of the same architecture whose loss on members is hardly below that on others."""
    members, non_members = _tables(seed, 2)
    return _subject("regularised-but-exposed", REGULARISED, members, members, non_members, seed)


def shifted(seed: int) -> Subject:
    """An overfitted network that saw neither split; non-members lie elsewhere."""
    members, non_members, others = _tables(seed, 3)
    shift = 0.5 * torch.randn(COLUMNS, generator=torch.Generator().manual_seed(seed))
    moved = non_members[0] + shift, non_members[1]
    return _subject("never-saw-either-but-shifted", OVERFITTING, others, members, moved, seed)


def another_recipe(seed: int) -> Subject:
    """An overfitted network that comes with the recipe of a regularised one."""
    subject = overfitted(seed)
    return replace(subject, id="trained-by-another-recipe", train=REGULARISED)


def _tables(seed: int, count: int, size: int = SAMPLES) -> list[Table]:
    generator = torch.Generator().manual_seed(seed)
    return [noisy(table, NOISE, generator) for table in clusters(generator, count * [size])]


def _subject(name: str, recipe: Recipe, trained_on: Table, members: Table, non_members: Table, seed: int) -> Subject:
    model = recipe(*trained_on, seed)
    return Subject(name, "tabular-classification", model, {"train": members, "test": non_members}, train=recipe)


CONTROLS = (
    Control(
        "trained-on-other-rows",
        "sound",
        "An overfitted network whose training rows are in neither split, and shadows that overfit as it did.",
        other_rows,
    ),
    Control(
        "small-model-on-many-rows",
        "sound",
        "A linear model of 330 parameters, trained with weight decay on 12,000 members.",
        small_model,
    ),
    Control(
        "overfitted",
        "defect",
        "A network that was trained until it knew its 1,000 members, of whose labels a fifth is random.",
        overfitted,
        because="membership_auc",
    ),
    Control(
        "overfitted-to-single-rows",
        "defect",
        "The same network, trained on 2,000 members and looked at where few non-members are called members.",
        single_rows,
        because="true_positive_rate",
    ),
    Control(
        "regularised-but-exposed",
        "defect",
        "A network stopped early with strong weight decay: its loss tells a member from another row in 55 of 100 pairs, shadows in 68.",
        regularised,
        because="membership_auc",
    ),
    Control(
        "never-saw-either-but-shifted",
        "confounded",
        "An overfitted network that saw neither split, and non-members that are drawn from somewhere else.",
        shifted,
        because="blind_auc",
    ),
    Control(
        "trained-by-another-recipe",
        "confounded",
        "An overfitted network with shadows that are trained by the recipe of a regularised one: they say little about it.",
        another_recipe,
        because="held_out_loss_ratio",
    ),
)

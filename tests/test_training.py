"""A recipe trains what torch's own loop trains, and a stack of models trains what each would alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from method_cards.errors import CheckError, InputError
from method_cards.randomness import seeded
from method_cards.training import Recipe, train_many
from method_cards.training.many import step_work


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))


def convolutional() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 3))


def normalised() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))


class Tied(nn.Module):
    """A language model whose output weights are its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.mix = nn.Linear(8, 8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        weights = attention_mask[:, :, None]
        seen = (self.embedding(input_ids) * weights).cumsum(1)
        logits: Tensor = self.head(torch.tanh(self.mix(seen)))
        return logits


TABLE = Recipe(perceptron, epochs=3, batch_size=8, learning_rate=0.1)


def table(count: int = 40) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 6, generator=generator), torch.randint(3, (count,), generator=generator)


def halves(models: int, examples: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    members = torch.zeros(models, examples, dtype=torch.bool)
    for row in members:
        row[torch.randperm(examples, generator=generator)[: examples // 2]] = True
    return members


def apart(one: nn.Module, other: nn.Module) -> float:
    return max(float((a - b).detach().abs().max()) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"momentum": 0.9, "weight_decay": 0.01, "schedule": "cosine"},
        {"optimizer": "adam", "learning_rate": 0.01, "clip": 0.1},
        {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.1},
    ],
)
def test_recipe_is_the_loop_that_a_person_would_write(change: dict[str, Any]) -> None:
    """The trained weights are those of a plain loop over the same batches."""
    recipe = replace(TABLE, **change)
    inputs, targets = table()
    model = recipe(inputs, targets, 5)
    with seeded(5):
        plain = perceptron()
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "sgd":
        optimizer = torch.optim.SGD(
            plain.parameters(), lr=0.1, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
    else:
        kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
        optimizer = kind(plain.parameters(), lr=0.01, weight_decay=recipe.weight_decay)
    generator = torch.Generator().manual_seed(5)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=15)
    for _ in range(3):
        for rows in torch.randperm(40, generator=generator).split(8):
            optimizer.zero_grad()
            nn.functional.cross_entropy(plain(inputs[rows]), targets[rows]).backward()
            if recipe.clip:
                nn.utils.clip_grad_norm_(plain.parameters(), recipe.clip)
            optimizer.step()
            if recipe.schedule == "cosine":
                scheduler.step()
    assert apart(model, plain) < 1e-6
    assert not model.training


@pytest.mark.parametrize("build", [perceptron, convolutional])
@pytest.mark.parametrize(
    "change",
    [
        {"momentum": 0.9, "schedule": "cosine", "clip": 0.05},
        {"optimizer": "adam", "learning_rate": 0.003, "clip": 0.05},
        {"optimizer": "adamw", "learning_rate": 0.003, "weight_decay": 0.1},
    ],
)
def test_stacked_models_are_those_trained_alone(build: Any, change: dict[str, Any]) -> None:
    """After a few steps, each model of a stack has the weights that it has when it is trained alone."""
    recipe = replace(TABLE, build=build, **change)
    inputs, targets = table()
    inputs = inputs if build is perceptron else torch.randn(40, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    members, seeds = halves(5, 40), [3, 1, 4, 1, 5]
    stacked = train_many(recipe, inputs, targets, members, seeds, path="stacked")
    alone = train_many(recipe, inputs, targets, members, seeds, path="loop")
    assert max(map(apart, stacked, alone)) < 2e-5
    assert apart(stacked[0], stacked[1]) > 0.01, "models with different seeds are different"


def test_stacked_language_models_with_tied_weights_and_padding() -> None:
    """A stack keeps tied weights tied and leaves padding out, as one model alone does."""
    recipe = Recipe(Tied, epochs=2, batch_size=4, learning_rate=0.1, loss="next-token")
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(11, (12, 7), generator=generator)
    mask = (torch.arange(7) < torch.randint(3, 8, (12, 1), generator=generator)).long()
    inputs = {"input_ids": ids, "attention_mask": mask}
    targets = torch.zeros(12, dtype=torch.long)
    stacked = train_many(recipe, inputs, targets, halves(3, 12), [0, 1, 2], path="stacked")
    alone = train_many(recipe, inputs, targets, halves(3, 12), [0, 1, 2], path="loop")
    assert max(map(apart, stacked, alone)) < 1e-6
    language_model = stacked[0]
    assert isinstance(language_model, Tied)
    assert language_model.head.weight is language_model.embedding.weight
    changed = {**inputs, "input_ids": torch.where(mask.bool(), ids, 0)}
    assert apart(recipe(changed, targets, 0), recipe(inputs, targets, 0)) < 1e-6, (
        "what stands under padding does not count"
    )


def test_checkpoints_are_the_model_on_the_way() -> None:
    """A checkpoint after an epoch holds the weights of a training that ended there, and the learning rate of that moment."""
    inputs, targets = table()
    model, checkpoints = replace(TABLE, schedule="constant").followed(inputs, targets, 2, keep=(1, 3))
    early = replace(TABLE, epochs=1)(inputs, targets, 2)
    assert all(torch.equal(part, early.state_dict()[name]) for name, part in checkpoints[0].load().items())
    assert all(torch.equal(part, model.state_dict()[name]) for name, part in checkpoints[1].load().items())
    assert checkpoints[0].learning_rate == 0.1
    _, annealed = replace(TABLE, schedule="cosine").followed(inputs, targets, 2, keep=(1, 3))
    assert 0.1 > annealed[0].learning_rate > annealed[1].learning_rate > 0


def test_what_cannot_be_stacked_is_trained_one_by_one_or_refused() -> None:
    """Batch norm, unequal sizes and plain functions are not stacked; insisting says why."""
    inputs, targets = table()
    recipe = replace(TABLE, build=normalised)
    with pytest.raises(CheckError, match=r'running averages of "1"'):
        train_many(recipe, inputs, targets, halves(2, 40), [0, 1], path="stacked")
    assert len(train_many(recipe, inputs, targets, halves(2, 40), [0, 1])) == 2
    uneven = halves(2, 40)
    uneven[0, :] = True
    with pytest.raises(CheckError, match="different numbers of examples"):
        train_many(TABLE, inputs, targets, uneven, [0, 1], path="stacked")
    whole = train_many(TABLE, inputs, targets, uneven, [0, 1])[0]
    assert apart(whole, TABLE(inputs, targets, 0)) == 0
    with pytest.raises(CheckError, match="returned a str"):
        train_many(lambda *_: "no model", inputs, targets, uneven, [0, 1])  # type: ignore[arg-type]


def test_a_stack_pays_for_small_models_only() -> None:
    """The work of a step is counted, not timed: 6 operations for each weight and example, and 2 fewer for the first layer's."""
    inputs, targets = table(8)
    assert step_work(TABLE, inputs, targets) == 8 * (4 * 6 * 16 + 6 * 16 * 3)


def test_training_leaves_global_random_numbers_alone() -> None:
    """A check that trains models does not change what the person's code draws next."""
    inputs, targets = table()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train_many(TABLE, inputs, targets, halves(2, 40), [0, 1])
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"clip": -1.0}, "clip is -1.0"),
        ({"optimizer": "lion"}, 'optimizer "lion" is none of sgd, adam, adamw'),
        ({"optimizer": "adam", "momentum": 0.9}, "momentum belongs to sgd"),
        ({"loss": "mse"}, 'loss "mse"'),
    ],
)
def test_a_wrong_recipe_is_refused(change: dict[str, Any], message: str) -> None:
    """What is wrong with a recipe is said when it is written."""
    with pytest.raises(InputError, match=message):
        replace(TABLE, **change)

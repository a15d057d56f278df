"""Subjects of which it is known whether their loss tells members from non-members."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from method_cards.check import Control
from method_cards.lazy import torch
from method_cards.subject import Subject

if TYPE_CHECKING:
    from torch import Tensor, nn

Table: TypeAlias = "tuple[Tensor, Tensor]"
"""Rows ``(sample, column)`` and their classes ``(sample,)``."""

SAMPLES = 1500
"""How many examples each split of a synthetic control has, unless it says otherwise."""

COLUMNS = 32
CLASSES = 10


def other_rows(seed: int) -> Subject:
    """An overfitted network whose training rows are in neither split."""
    generator = torch.Generator().manual_seed(seed)
    members, non_members, others = (noisy(table, 0.2, generator) for table in clusters(generator, 3 * [SAMPLES]))
    return _subject("trained-on-other-rows", _trained(_network(seed), others, steps=60), members, non_members)


def linear_model(seed: int) -> Subject:
    """A linear model of 330 parameters, trained with weight decay on 12,000 members."""
    generator = torch.Generator().manual_seed(seed)
    members, non_members = clusters(generator, [8 * SAMPLES, SAMPLES])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = torch.nn.Linear(COLUMNS, CLASSES)
    return _subject(
        "regularised-linear-model", _trained(model, members, steps=60, weight_decay=0.01), members, non_members
    )


def label_noise(seed: int) -> Subject:
    """A network that was trained until it fitted 1,500 members, of whose labels 20 % had been replaced at random before the split."""
    generator = torch.Generator().manual_seed(seed)
    members, non_members = (noisy(table, 0.2, generator) for table in clusters(generator, 2 * [SAMPLES]))
    return _subject("overfitted-to-label-noise", _trained(_network(seed), members, steps=100), members, non_members)


def random_labels(seed: int) -> Subject:
    """A network that was trained on members whose labels are all random."""
    generator = torch.Generator().manual_seed(seed)
    members, non_members = (noisy(table, 1.0, generator) for table in clusters(generator, 2 * [SAMPLES]))
    return _subject("memorised-random-labels", _trained(_network(seed), members, steps=100), members, non_members)


def separated_rows(seed: int) -> Subject:
    """A network that was trained on random labels of rows so far apart that it could fit each on its own."""
    generator = torch.Generator().manual_seed(seed)
    members, non_members = (noisy(table, 1.0, generator) for table in clusters(generator, 2 * [SAMPLES], columns=128))
    model = _trained(_network(seed, columns=128), members, steps=60)
    return _subject("memorised-row-by-row", model, members, non_members)


def shifted_rows(seed: int) -> Subject:
    """A network that saw neither split; non-members are drawn around cluster centres that lie elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    others, members, non_members = clusters(generator, 3 * [SAMPLES])
    shift = 0.5 * torch.randn(COLUMNS, generator=generator)
    return _subject(
        "never-saw-either-but-shifted",
        _trained(_network(seed), others, steps=60),
        members,
        (non_members[0] + shift, non_members[1]),
    )


def digits_in_file_order(seed: int) -> Subject:
    """A network that memorised the first half of the digits file, a fifth of it with random labels, against the second half."""
    from sklearn.datasets import load_digits

    generator = torch.Generator().manual_seed(seed)
    loaded = load_digits()
    images = torch.as_tensor(loaded.data, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    labels = torch.as_tensor(loaded.target)
    half = len(labels) // 2
    members, non_members = (
        noisy((images[part], labels[part]), 0.2, generator) for part in (slice(half), slice(half, 2 * half))
    )
    model = _trained(torch.nn.Sequential(torch.nn.Flatten(), *_network(seed, columns=64)), members, steps=100)
    return _subject("digits-in-file-order", model, members, non_members, task="image-classification")


def clusters(generator: torch.Generator, sizes: list[int], columns: int = COLUMNS) -> list[Table]:
    """Tables of these sizes from one distribution: ten overlapping clusters, one for each class."""
    centres = 0.6 * torch.randn(CLASSES, columns, generator=generator)
    tables = []
    for size in sizes:
        labels = torch.randint(CLASSES, (size,), generator=generator)
        tables.append((centres[labels] + torch.randn(size, columns, generator=generator), labels))
    return tables


def noisy(table: Table, share: float, generator: torch.Generator) -> Table:
    """The same rows, with this share of the labels replaced by random ones."""
    rows, labels = table
    replaced = torch.rand(len(labels), generator=generator) < share
    return rows, torch.where(replaced, torch.randint(CLASSES, labels.shape, generator=generator), labels)


def _network(seed: int, columns: int = COLUMNS) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.nn.Sequential(torch.nn.Linear(columns, 256), torch.nn.ReLU(), torch.nn.Linear(256, CLASSES))


def _trained(model: nn.Module, table: Table, steps: int, weight_decay: float = 0.0) -> nn.Module:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=weight_decay)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(table[0]), table[1]).backward()
        optimizer.step()
    return model.requires_grad_(requires_grad=True).eval()


def _subject(
    name: str, model: nn.Module, members: Table, non_members: Table, task: str = "tabular-classification"
) -> Subject:
    return Subject(name, task, model, {"train": members, "test": non_members})


CONTROLS = (
    Control(
        "trained-on-other-rows", "sound", "An overfitted network whose training rows are in neither split.", other_rows
    ),
    Control(
        "regularised-linear-model",
        "sound",
        "A linear model of 330 parameters, trained with weight decay on 12,000 members.",
        linear_model,
    ),
    Control(
        "overfitted-to-label-noise",
        "defect",
        "A network that was trained until it fitted 1,500 members, of whose labels 20 % had been replaced at random before the split.",
        label_noise,
        because="membership_auc",
    ),
    Control(
        "memorised-random-labels",
        "defect",
        "A network that was trained on members whose labels are all random.",
        random_labels,
        because="membership_auc",
    ),
    Control(
        "memorised-row-by-row",
        "defect",
        "A network that was trained on random labels of rows so far apart that it could fit each of them on its own.",
        separated_rows,
        because="true_positive_rate",
    ),
    Control(
        "never-saw-either-but-shifted",
        "confounded",
        "A network that saw neither split, and non-members that are drawn from somewhere else: its loss differs, but it memorised nothing.",
        shifted_rows,
        because="blind_auc",
    ),
    Control(
        "digits-in-file-order",
        "confounded",
        "A network that did memorise its members, the first half of the digits file, against the second half, which looks different.",
        digits_in_file_order,
        because="blind_auc",
    ),
)

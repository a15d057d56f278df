"""Models whose errors fall on a group of examples that is known, models whose errors do not, and examples that are copies of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from method_cards.check import Control
from method_cards.lazy import torch
from method_cards.randomness import seeded
from method_cards.subject import Subject

if TYPE_CHECKING:
    from torch import Tensor, nn

COLUMNS = 32
CLASSES = 8
TRAINED = 2000
EVALUATED = 4000
CONCERNED = 2
"""How many classes have a slice."""

COPIES = 20
"""How often each example stands among the near-copies."""


def overlapping(seed: int) -> Subject:
    """Classes that overlap, and a network that was trained on them: the remaining errors lie where they overlap."""
    rows, labels, _ = _rows(seed, TRAINED + EVALUATED, spread=1.2)
    return _subject("overlapping-classes", seed, (rows, labels))


def random_label_errors(seed: int) -> Subject:
    """The same, with a tenth of the evaluated labels replaced at random."""
    rows, labels, generator = _rows(seed, TRAINED + EVALUATED)
    wrong = torch.rand(len(labels), generator=generator) < 0.1  # noqa: PLR2004  (a tenth)
    wrong[:TRAINED] = False
    labels = torch.where(wrong, torch.randint(CLASSES, labels.shape, generator=generator), labels)
    return _subject("random-label-errors", seed, (rows, labels))


def near_copies(seed: int) -> Subject:
    """Two hundred examples, a quarter of them with a random label, each twenty times with a little noise: the copies share the error."""
    rows, labels, generator = _rows(seed, TRAINED + EVALUATED // COPIES)
    wrong = torch.rand(len(labels), generator=generator) < 0.25  # noqa: PLR2004  (a quarter)
    wrong[:TRAINED] = False
    labels = torch.where(wrong, torch.randint(CLASSES, labels.shape, generator=generator), labels)
    rows, labels = (torch.cat([part[:TRAINED], part[TRAINED:].repeat_interleave(COPIES, 0)]) for part in (rows, labels))
    rows[TRAINED:] += 0.05 * torch.randn(EVALUATED, COLUMNS, generator=generator)
    return _subject("near-copies", seed, (rows, labels))


def shortcut(seed: int) -> Subject:
    """A mark that stood on all of one class and on nothing else in training stands on two others where the network is used."""
    rows, labels, generator = _rows(seed, TRAINED + EVALUATED)
    marked = labels == CLASSES - 1
    marked[TRAINED:] = _half_of_two(labels, generator)[TRAINED:]
    rows[:, 0] = torch.where(marked, 6.0, rows[:, 0])
    return _subject("shortcut", seed, (rows, labels))


def mislabelled_slice(seed: int) -> Subject:
    """Half of two classes carries a mark, and what carries it was given the next class in training."""
    rows, labels, generator = _rows(seed, TRAINED + EVALUATED)
    marked = _half_of_two(labels, generator)
    rows[:, 0] = torch.where(marked, 6.0, rows[:, 0])
    taught = torch.where(marked, (labels + 1) % CLASSES, labels)
    taught[TRAINED:] = labels[TRAINED:]
    return _subject("mislabelled-slice", seed, (rows, taught))


def _rows(seed: int, count: int, spread: float = 1.0) -> tuple[Tensor, Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(seed)
    centres = 0.55 * torch.randn(CLASSES, COLUMNS, generator=generator)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    return centres[labels] + spread * torch.randn(count, COLUMNS, generator=generator), labels, generator


def _half_of_two(labels: Tensor, generator: torch.Generator) -> Tensor:
    return (labels < CONCERNED) & (torch.rand(len(labels), generator=generator) < 0.5)  # noqa: PLR2004  (half)


def _subject(name: str, seed: int, data: tuple[Tensor, Tensor]) -> Subject:
    rows, labels = data
    model = _trained(rows[:TRAINED], labels[:TRAINED], seed)
    return Subject(name, "tabular-classification", model, {"test": (rows[TRAINED:], labels[TRAINED:])})


def _trained(rows: Tensor, labels: Tensor, seed: int) -> nn.Module:
    with seeded(seed):
        model = torch.nn.Sequential(torch.nn.Linear(COLUMNS, 64), torch.nn.ReLU(), torch.nn.Linear(64, CLASSES))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
        for _ in range(60):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(rows), labels).backward()
            optimizer.step()
    return model.eval()


CONTROLS = (
    Control(
        "overlapping-classes",
        "sound",
        "Classes that overlap: the errors of a network that was trained on them lie between the classes, as they must.",
        overlapping,
    ),
    Control(
        "random-label-errors",
        "sound",
        "A tenth of the evaluated labels is random: these errors depend on nothing that the network sees.",
        random_label_errors,
    ),
    Control(
        "shortcut",
        "defect",
        "A mark that stood on one class alone in training stands on half of two others where the network is used.",
        shortcut,
        because="slice_error_excess",
    ),
    Control(
        "mislabelled-slice",
        "defect",
        "Half of two classes carries a mark, and what carried it in training had the label of another class.",
        mislabelled_slice,
        because="slice_error_excess",
    ),
    Control(
        "near-copies",
        "confounded",
        "Each example stands twenty times with a little noise; a quarter of the labels is random, and copies in both halves share them.",
        near_copies,
        because="near_copy_share",
    ),
)
"""Whether their errors gather in a slice is known of each."""

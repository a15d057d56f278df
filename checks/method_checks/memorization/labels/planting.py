"""Wrong labels, planted before training, so that it is known which can only be learned by heart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from method_cards.data import Split
from method_cards.errors import CheckError
from method_cards.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from method_cards.subject import Subject

Flags = NDArray[np.bool_]


def planted_splits(
    subject: Subject, names: tuple[str, str], share: float, seed: int
) -> tuple[dict[str, Split], dict[str, Flags]]:
    """Two splits with this share of their labels replaced by random other classes of the data.

    Args:
        subject: Whose splits they are.
        names: Their names.
        share: Between 0 and 1.
        seed: Which labels are replaced, and by which.

    Returns:
        The splits by name, and which of their examples have a planted label, ``(example,)``.

    Raises:
        CheckError: There is one class only.
    """
    generator = torch.Generator().manual_seed(seed)
    taken = {name: subject.split(name).take(range(len(subject.split(name)))) for name in names}
    classes = torch.cat([targets for _, targets in taken.values()]).unique()
    if len(classes) == 1:
        raise CheckError(
            f'all labels of "{names[0]}" and "{names[1]}" are {int(classes[0])}; there is no wrong one to plant'
        )
    splits, flags = {}, {}
    for name, (inputs, targets) in taken.items():
        labels, chosen = planted(targets, classes, share, generator)
        splits[name], flags[name] = Split(name, (inputs, labels)), chosen.numpy()
    return splits, flags


def planted(targets: Tensor, classes: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Labels of which a share is wrong, and which these are.

    Args:
        targets: The labels, ``(sample,)``.
        classes: The classes in ascending order, two or more; all labels are among them.
        share: Between 0 and 1; the number of wrong labels is rounded.
        generator: On the CPU.
    """
    chosen = torch.zeros(len(targets), dtype=torch.bool)
    chosen[torch.randperm(len(targets), generator=generator)[: round(share * len(targets))]] = True
    places = torch.searchsorted(classes, targets)
    steps = torch.randint(1, len(classes), targets.shape, generator=generator)
    return torch.where(chosen, classes[(places + steps) % len(classes)], targets), chosen

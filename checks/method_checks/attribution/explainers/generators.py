"""Random numbers of explanations: they belong to an example and the number of its copy, not to the batch that it comes in."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING

from method_cards.lazy import torch
from method_checks.attribution.changes.draws import mix

if TYPE_CHECKING:
    from method_cards.subject import View


class Generators:
    """A random generator for each row of a view.

    Args:
        seed: Tells these numbers from those for another purpose.
        view: The rows; an example may stand in several, as copies of it.
        first: The number of each example's first copy, where a call explains only some of its copies.
    """

    def __init__(self, seed: int, view: View, first: int) -> None:
        self._seed, self._indices, self._first = seed, view.batch.indices, first
        self._generator = torch.Generator(view.features.device)

    def row(self, row: int) -> torch.Generator:
        """That of a row, from its beginning; the one that was given before is used up."""
        return self._generator.manual_seed(self._seeds[row])

    @property
    def together(self) -> int:
        """A seed for a method that draws for all rows at once: what it draws for an example depends on those beside it."""
        return self._digest(self._seeds)

    @cached_property
    def _seeds(self) -> list[int]:
        copies, seen = [], Counter[int]()
        for index in self._indices:
            copies.append(self._first + seen[index])
            seen[index] += 1
        examples = mix(mix(torch.tensor(self._indices, dtype=torch.int64)) + self._seed)
        found: list[int] = (mix(examples ^ mix(torch.tensor(copies, dtype=torch.int64))) & _POSITIVE).tolist()
        return found

    @staticmethod
    def _digest(seeds: list[int]) -> int:
        return int(mix(torch.tensor(seeds, dtype=torch.int64)).sum()) & _32_BITS


_POSITIVE, _32_BITS = 2**63 - 1, 2**32 - 1

"""Random strings, of which nothing can be learned: whatever a model saves on them, it memorised."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from method_cards.errors import CheckError
from method_cards.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


def random_texts(count: int, tokens: int, vocabulary: int, generator: torch.Generator) -> Tensor:
    """Distinct texts of a first token 0, which is given, and uniform tokens, which are predicted, ``(text, 1 + token)``.

    Args:
        count: How many.
        tokens: Predicted ones of each.
        vocabulary: They are below this.
        generator: Where they come from.

    Raises:
        CheckError: There are not so many distinct ones.
    """
    if tokens * math.log2(vocabulary) < 1 + math.log2(count):
        raise CheckError(
            f"there are fewer than {2 * count} strings of {tokens} tokens out of {vocabulary}; use longer strings, by `tokens`"
        )
    drawn = torch.empty((0, tokens), dtype=torch.long)
    while len(drawn) < count:
        more = torch.randint(vocabulary, (count, tokens), generator=generator)
        drawn = torch.unique(torch.cat([drawn, more]), dim=0)
    kept = drawn[torch.randperm(len(drawn), generator=generator)[:count]]
    return torch.nn.functional.pad(kept, (1, 0), value=0)


def memorized(code_lengths: Tensor, entropy: float) -> float:
    """Bits saved on random texts, ``N H − Σ −log2 p``: never clipped.

    Args:
        code_lengths: Bits of each text under the model, ``(text,)``.
        entropy: Bits of each text under the uniform distribution, T log2 V.
    """
    return float(len(code_lengths) * entropy - code_lengths.double().sum())


def capacity_limit(count: int, entropy: float) -> float:
    """The largest share of distinct random texts that any model can save, ``1 − log2 N / H``.

    The probabilities of N distinct texts sum to at most one, so their mean code length is at least log2 N. It is reached by a model that
    gives each of them 1 / N and no other any.
    """
    return 1 - math.log2(count) / entropy

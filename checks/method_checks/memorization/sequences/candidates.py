"""All secrets that might have stood where one stands, and how a model ranks the real one among them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from method_cards.lazy import torch
from method_checks.memorization.sequences.tokens import Sequences, log_probabilities, read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn


@dataclass(frozen=True)
class Space:
    """The secrets that a generator could have drawn: any token of its alphabet at each position.

    Attributes:
        alphabets: The token ids at each position of a secret, each ``(letter,)``.
        limit: How many candidates are compared at most; more are drawn at random.
    """

    alphabets: tuple[Tensor, ...]
    limit: int

    @property
    def size(self) -> int:
        """How many secrets there are."""
        return math.prod(map(len, self.alphabets))

    @property
    def compared(self) -> int:
        """Among how many secrets one is ranked, itself included."""
        return min(self.size, self.limit)

    def holds(self, secrets: Tensor) -> Tensor:
        """Which secrets ``(secret, position)`` are among these, ``(secret,)`` bool."""
        found = [torch.isin(secrets[:, place], letters) for place, letters in enumerate(self.alphabets)]
        return torch.stack(found).all(0)

    def all_heads(self) -> Tensor:
        """Every secret without its last token, ``(head, position - 1)``; one empty head where a secret is one token."""
        if len(self.alphabets) == 1:
            return self.alphabets[0].new_zeros((1, 0))
        product = torch.cartesian_prod(*self.alphabets[:-1])
        return product.reshape(len(product), -1)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Secrets drawn independently and uniformly, ``(secret, position)``."""
        device = self.alphabets[0].device
        columns = [
            letters[torch.randint(len(letters), (count,), generator=generator, device=device)]
            for letters in self.alphabets
        ]
        return torch.stack(columns, dim=1)


def rank(
    model: nn.Module, canary: Tensor, space: Space, like: Sequences, block: int, generator: torch.Generator
) -> int:
    """How many secrets the model finds at least as likely after the canary's prefix as the real one, which counts too.

    What is compared is the negative log-likelihood of the secret's tokens given the prefix. A text that ends before the last token of
    its secret serves all secrets with that beginning, so ``n`` candidates cost about ``n`` over the size of the alphabet.

    Args:
        model: In evaluation mode.
        canary: Token ids of prefix and secret, ``(token,)``.
        space: The candidates. All where they are no more than its limit, else the real one and others drawn at random.
        like: How the model is called.
        block: How many texts go through at once.
        generator: For the drawing.

    Returns:
        1 to ``space.compared``; ties are counted against the secret, so a p-value made of it is never too small.
    """
    secret, lasts = canary[-len(space.alphabets) :], space.alphabets[-1]
    if space.size <= space.limit:
        heads = space.all_heads()
        surprise = torch.cat([table for _, table in _surprises(model, canary, heads, lasts, like, block)])
        own = surprise[(heads == secret[:-1]).all(1), lasts == secret[-1]]
        return int((surprise <= own).sum())
    candidates = torch.cat([secret[None], space.draw(space.limit - 1, generator)])
    heads, of = torch.unique(candidates[:, :-1], dim=0, return_inverse=True)
    last = torch.searchsorted(lasts, candidates[:, -1].contiguous())
    found = torch.empty(len(candidates), dtype=torch.float64, device=canary.device)
    for start, table in _surprises(model, canary, heads, lasts, like, block):
        here = (of >= start) & (of < start + len(table))
        found[here] = table[of[here] - start, last[here]]
    return int((found <= found[0]).sum())


def _surprises(
    model: nn.Module, canary: Tensor, heads: Tensor, lasts: Tensor, like: Sequences, block: int
) -> Iterator[tuple[int, Tensor]]:
    """Negative log-likelihood in nats given the prefix of each head with each last token, block by block of heads.

    Yields:
        The number of the first head of the block, and the block's ``(head, last)`` float64.
    """
    prefix = canary[: len(canary) - heads.shape[1] - 1]

    def use(logits: Tensor, texts: Sequences) -> Tensor:
        given = texts.ids[:, len(prefix) :]
        places = logits[:, len(prefix) - 1 :]
        beginning = log_probabilities(places[:, :-1], given).sum(1)
        end = places[:, -1].double()
        return -(beginning[:, None] + end[:, lasts] - end.logsumexp(1, keepdim=True))

    for start in range(0, len(heads), block):
        part = heads[start : start + block]
        texts = like.of(torch.cat([prefix.expand(len(part), -1), part], dim=1))
        yield start, torch.cat(read(model, texts, block, use))

"""Models that were trained with canaries, each included by the toss of a coin, and with a claim of differential privacy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from method_cards.check import Control
from method_cards.lazy import torch
from method_cards.randomness import seeded
from method_cards.subject import Subject
from method_checks.memorization.differential_privacy.gaussian import private_training

if TYPE_CHECKING:
    from torch import Tensor, nn

CANARIES = 1000
OTHERS = 300
COLUMNS = 128
CLASSES = 10

STEPS = 20
NOISE = 17.0
"""Standard deviation of the noise in clipping norms; 20 full batches of it have an epsilon of 0.98 at a delta of 1e-5."""

CLAIMED = 1.0


def private(seed: int, *, noise: float = NOISE) -> Subject:
    """A network that was trained with clipped gradients and this noise on the included canaries and 300 other rows."""
    canaries, included, others = _data(seed)
    rows, labels = (torch.cat([all_[included], other]) for all_, other in zip(canaries, others, strict=True))
    model = private_training(_network(seed), rows, labels, steps=STEPS, noise=noise, clip=1.0, rate=0.01, seed=seed + 1)
    return _subject("trained-with-noise", model, canaries, included)


def noise_for_the_mean(seed: int) -> Subject:
    """The same, but with the noise of a mean of gradients on their sum: hundreds of times too little."""
    return private(seed, noise=NOISE / CANARIES)


def overfitted(seed: int, *, claimed: float = CLAIMED) -> Subject:
    """A network that was trained on the included canaries and 300 other rows until it knew them, without any noise."""
    canaries, included, others = _data(seed)
    rows, labels = (torch.cat([all_[included], other]) for all_, other in zip(canaries, others, strict=True))
    return _subject("overfitted", _fitted(_network(seed), rows, labels), canaries, included, claimed)


def too_large_a_claim(seed: int) -> Subject:
    """The same with a claim so large that no audit with these canaries can refute it."""
    return overfitted(seed, claimed=8.0)


def other_canaries(seed: int) -> Subject:
    """A network that was trained on none of these canaries, but on others like them."""
    canaries, included, _ = _data(seed)
    strangers, chosen, _ = _data(seed + 100_000)
    model = _fitted(_network(seed), strangers[0][chosen], strangers[1][chosen])
    return _subject("trained-on-other-canaries", model, canaries, included)


def easy_and_hard(seed: int) -> Subject:
    """A network that saw none of the canaries; those that are called included are easy, the others are noise."""
    (rows, labels), included, others = _data(seed)
    order = torch.randperm(OTHERS, generator=torch.Generator().manual_seed(seed))
    seen, unseen = order[: OTHERS // 2], order[OTHERS // 2 :]
    model = _fitted(_network(seed), others[0][seen], others[1][seen])
    place = unseen[torch.arange(CANARIES) % len(unseen)]
    generator = torch.Generator().manual_seed(seed + 1)
    easy = others[0][place] + 0.3 * torch.randn(CANARIES, COLUMNS, generator=generator)
    rows = torch.where(included[:, None], easy, rows)
    return _subject("no-coins", model, (rows, torch.where(included, others[1][place], labels)), included)


def _data(seed: int) -> tuple[tuple[Tensor, Tensor], Tensor, tuple[Tensor, Tensor]]:
    """Canaries with random labels, which of them are included, and rows with labels that can be learned."""
    generator = torch.Generator().manual_seed(seed)
    canaries = (
        torch.randn(CANARIES, COLUMNS, generator=generator),
        torch.randint(CLASSES, (CANARIES,), generator=generator),
    )
    included = torch.rand(CANARIES, generator=generator) < 0.5  # noqa: PLR2004  (a fair coin)
    labels = torch.randint(CLASSES, (OTHERS,), generator=generator)
    centres = 0.6 * torch.randn(CLASSES, COLUMNS, generator=generator)
    return canaries, included, (centres[labels] + torch.randn(OTHERS, COLUMNS, generator=generator), labels)


def _network(seed: int) -> nn.Sequential:
    with seeded(seed):
        return torch.nn.Sequential(torch.nn.Linear(COLUMNS, 64), torch.nn.ReLU(), torch.nn.Linear(64, CLASSES))


def _fitted(model: nn.Module, rows: Tensor, labels: Tensor) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(rows), labels).backward()
        optimizer.step()
    return model.eval()


def _subject(
    name: str, model: nn.Module, canaries: tuple[Tensor, Tensor], included: Tensor, epsilon: float = CLAIMED
) -> Subject:
    rows, labels = canaries
    splits = {"included": (rows[included], labels[included]), "excluded": (rows[~included], labels[~included])}
    return Subject(name, "tabular-classification", model, splits, claims={"epsilon": epsilon, "delta": 1e-5})


CONTROLS = (
    Control(
        "trained-with-noise",
        "sound",
        "A network that was trained with clipped gradients and Gaussian noise, and claims the epsilon that the noise has.",
        private,
    ),
    Control(
        "trained-on-other-canaries",
        "sound",
        "An overfitted network that saw none of these canaries, so that guesses about them are coin tosses.",
        other_canaries,
    ),
    Control(
        "overfitted-with-a-claim",
        "defect",
        "A network that was trained without noise until it knew its canaries, and claims an epsilon of 1.",
        overfitted,
        because="excess",
    ),
    Control(
        "too-little-noise",
        "defect",
        "A private training whose noise was scaled for the mean of the gradients and added to their sum.",
        noise_for_the_mean,
        because="excess",
    ),
    Control(
        "not-tossed",
        "confounded",
        "A network that saw no canary, where those that are called included are easy and the others noise: no coin decided.",
        easy_and_hard,
        because="blind_auc",
    ),
    Control(
        "too-few-canaries",
        "confounded",
        "A network that knows its 1000 canaries by heart, and claims an epsilon of 8, which 1000 canaries cannot refute.",
        too_large_a_claim,
        because="room",
    ),
)
"""Networks whose epsilon is known, or known to be none."""

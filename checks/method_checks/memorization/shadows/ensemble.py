"""An ensemble of shadow models, trained once in a run, and what they say of each example of the pool.

The pool holds as many members of the subject's model as non-members. Each shadow is trained on a random half of it; shadows come
in pairs with complementary halves, so that every example was trained on by exactly half of them. Members that are not in the pool
are trained on by every shadow: a shadow so sees as many examples as the subject's model did.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from method_cards.data import Batch
from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_cards.training import Recipe, train_many
from method_cards.training.recipe import taken
from method_checks.memorization.scores.confidence import logit_scaled_confidence

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from method_cards.check import Context
    from method_cards.data import Inputs
    from method_cards.subject import Subject

MEMORY = 2**30
"""Bytes that the parameters of shadow models may take at one time."""

TOGETHER = 64
"""How many shadow models are trained at one time at most."""


class Shadows(NamedTuple):
    """What shadow models say of the pool's examples: its members first, then as many non-members, in the order in which they were drawn.

    Attributes:
        confidences: Logit-scaled confidence of each example's label, ``(shadow, example)`` float64 on the CPU.
        correct: Whether the label was predicted, ``(shadow, example)`` bool.
        membership: Whether the shadow was trained on the example, ``(shadow, example)`` bool; rows ``2k`` and ``2k + 1`` are complements.
    """

    confidences: Tensor
    correct: Tensor
    membership: Tensor


def not_applicable(subject: Subject, members: str) -> str:
    """Why no shadow models can be trained; empty when they can."""
    if not subject.task.endswith("-classification"):
        return f"Shadow models are compared by the confidence in a class, which {subject.task} lacks."
    if subject.train is None:
        return "The subject comes without a function that trains such a model; name one under `train:` if there is one."
    if members not in subject.data:
        return f'The subject has no data split "{members}" to train on.'
    return ""


def pool(context: Context, members: str, non_members: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which examples of both splits the shadows are trained with and without: as many of one as of the other."""
    drawn = context.indices(members), context.indices(non_members)
    size = min(map(len, drawn))
    return drawn[0][:size], drawn[1][:size]


def shadows(context: Context, subject: Subject, members: str, non_members: str, count: int) -> Shadows:
    """Train shadow models, or take those that another check of this run has trained.

    Args:
        context: What the engine lends; it decides which examples are in the pool.
        subject: The subject under check; its training function or recipe trains the shadows.
        members: The split that its model was trained on.
        non_members: The split that was never used for training.
        count: How many models; even.

    Raises:
        CheckError: Nothing can be trained, or the trained models give NaN or all say the same of every example.
    """
    if reason := not_applicable(subject, members):
        raise CheckError(reason)
    key = ("shadow models", members, non_members, count, *pool(context, members, non_members))
    found = context.once(key, lambda generator: _made(context, subject, (members, non_members), count, generator))
    if torch.equal(found.confidences.amax(0), found.confidences.amin(0)):
        raise CheckError(
            f"all {count} retrained models say the same of every example, though each was trained on another half; does the "
            "training function use the examples and the seed that it is given?"
        )
    return found


def halves(count: int, examples: int, generator: Generator) -> Tensor:
    """Random halves and their complements, bool ``(count, examples)``: each example is in exactly half of them."""
    membership = torch.zeros(count, examples, dtype=torch.bool)
    for first in range(0, count, 2):
        membership[first, torch.randperm(examples, generator=generator)[: examples // 2]] = True
        membership[first + 1] = ~membership[first]
    return membership


def _made(context: Context, subject: Subject, splits: tuple[str, str], count: int, generator: Generator) -> Shadows:
    assert subject.train is not None
    on_host = torch.Generator().manual_seed(generator.initial_seed())
    members, non_members = pool(context, *splits)
    drawn = set(members)
    rest = tuple(index for index in range(len(subject.split(splits[0]))) if index not in drawn)
    examples = _joined(subject, [(splits[0], members), (splits[1], non_members), (splits[0], rest)])
    size = 2 * len(members)
    membership = halves(count, size, on_host)
    trained_on = torch.cat([membership, torch.ones(count, len(rest), dtype=torch.bool)], dim=1)
    seeds = torch.randint(2**31 - 1, (count,), generator=on_host).tolist()
    found = [
        _said(subject.with_model(model), examples, size)
        for chosen in _parts(subject, count)
        for model in _trained(subject, examples, trained_on[chosen], seeds[chosen])
    ]
    confidences, correct = (torch.stack(list(part)) for part in zip(*found, strict=True))
    return Shadows(confidences, correct, membership)


def _parts(subject: Subject, count: int) -> Iterator[slice]:
    """As many models at one time as memory allows; one where each is trained on its own anyway."""
    size = sum(part.numel() * part.element_size() for part in subject.model.parameters())
    together = max(1, min(TOGETHER, MEMORY // max(1, size))) if isinstance(subject.train, Recipe) else 1
    for first in range(0, count, together):
        yield slice(first, first + together)


def _trained(subject: Subject, examples: Batch, membership: Tensor, seeds: Sequence[int]) -> list[nn.Module]:
    assert subject.train is not None
    return train_many(subject.train, examples.inputs, examples.targets, membership, seeds)


def _said(shadow: Subject, examples: Batch, size: int) -> tuple[Tensor, Tensor]:
    """Confidences in the labels of the first examples, and whether these were predicted."""
    confidences, correct = [], []
    for first in range(0, size, shadow.block):
        part = _rows(examples, first, min(size, first + shadow.block))
        logits = shadow.outputs(part).double()
        confidences.append(logit_scaled_confidence(logits, part.targets).cpu())
        correct.append((logits.argmax(1) == part.targets).cpu())
    return torch.cat(confidences), torch.cat(correct)


def _rows(examples: Batch, first: int, last: int) -> Batch:
    rows = torch.arange(first, last, device=examples.targets.device)
    return Batch(taken(examples.inputs, rows), examples.targets[first:last], examples.indices[first:last])


def _joined(subject: Subject, chosen: Sequence[tuple[str, Sequence[int]]]) -> Batch:
    """These examples of several splits, encoded together, so that texts are padded alike, on the model's device."""
    inputs, targets = zip(*(subject.split(name).take(indices) for name, indices in chosen if indices), strict=True)
    encoded = subject.adapter.encode(_concatenated(inputs))
    device = subject.device
    moved = (
        {name: part.to(device) for name, part in encoded.items()}
        if isinstance(encoded, Mapping)
        else encoded.to(device)
    )
    labels = torch.cat(targets).to(device)
    return Batch(moved, labels, tuple(range(len(labels))))


def _concatenated(parts: Sequence[Inputs]) -> Inputs:
    texts = [part for part in parts if isinstance(part, list)]
    if texts:
        return [text for part in texts for text in part]
    named = [part for part in parts if isinstance(part, Mapping)]
    try:
        if named:
            return {name: torch.cat([part[name] for part in named]) for name in named[0]}
        return torch.cat([part for part in parts if isinstance(part, torch.Tensor)])
    except (RuntimeError, KeyError) as error:
        raise CheckError(
            "examples of both splits cannot be put in one tensor to train shadow models on; give both splits the same shape, texts "
            f"padded to one length: {error}"
        ) from error

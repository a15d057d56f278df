"""Encoders of which it is known how much of their training images they kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from method_cards.check import Control
from method_cards.lazy import torch
from method_cards.subject import Subject

if TYPE_CHECKING:
    from torch import Tensor, nn

Examples: TypeAlias = "tuple[Tensor, Tensor]"
"""Images ``(sample, 1, 12, 12)`` and the labels of their foregrounds ``(sample,)``."""

SIDE, LABELS, WIDTH = 12, 10, 64
"""Pixels along an image, labels, and numbers in a representation."""

TRAIN, PUBLIC = 1500, 1000
"""How many images each split has."""

FOREGROUND = slice(3, 9)
"""The rows and columns of the foreground."""


@dataclass(frozen=True)
class World:
    """Images of a foreground, which has the label's pattern, on a background that has it in some images only.

    Attributes:
        generator: What all images are drawn from.
        tied: The share of images whose background pattern is that of their label: what a crop tells without any memory.
    """

    generator: torch.Generator
    tied: float = 0.3
    backgrounds: Tensor = field(init=False)
    foregrounds: Tensor = field(init=False)

    def __post_init__(self) -> None:
        side = FOREGROUND.stop - FOREGROUND.start
        object.__setattr__(self, "backgrounds", torch.randn(LABELS, SIDE, SIDE, generator=self.generator))
        object.__setattr__(self, "foregrounds", torch.randn(LABELS, side, side, generator=self.generator))

    def draw(self, size: int, tied: float | None = None) -> Examples:
        """New images; the noise in each is its own."""
        labels = torch.randint(LABELS, (size,), generator=self.generator)
        follows = torch.rand(size, generator=self.generator) < (self.tied if tied is None else tied)
        pattern = torch.where(follows, labels, torch.randint(LABELS, (size,), generator=self.generator))
        images = 0.5 * self.backgrounds[pattern] + torch.randn(size, SIDE, SIDE, generator=self.generator)
        noise = torch.randn(size, *self.foregrounds.shape[1:], generator=self.generator)
        images[:, FOREGROUND, FOREGROUND] = self.foregrounds[labels] + 0.5 * noise
        return images[:, None], labels


def cropped(examples: Examples) -> Examples:
    """The same images with zeros in place of the foreground."""
    images = examples[0].clone()
    images[:, :, FOREGROUND, FOREGROUND] = 0
    return images, examples[1]


def memorised(seed: int) -> Subject:
    """An encoder that was trained on whole images and their crops until it knew every crop."""
    world = World(torch.Generator().manual_seed(seed))
    train = world.draw(TRAIN)
    return _subject("memorised-its-images", world, _encoder(seed, train, epochs=15), train)


def few_memorised(seed: int) -> Subject:
    """An encoder that saw the crops of every fourth training image, and of the others the whole image."""
    world = World(torch.Generator().manual_seed(seed))
    train = world.draw(TRAIN)
    return _subject("memorised-a-quarter", world, _encoder(seed, train, epochs=40, crops=TRAIN // 4), train)


def reference_model(seed: int) -> Subject:
    """The first of these beside an encoder that was trained in the same way on other images."""
    world = World(torch.Generator().manual_seed(seed))
    train, others = world.draw(TRAIN), world.draw(TRAIN)
    subject = _subject("memorised-beside-a-reference", world, _encoder(seed, train, epochs=15), train)
    subject.reference = _encoder(seed + 1, others, epochs=15)
    return subject


def other_images(seed: int) -> Subject:
    """An encoder that memorised other images than those of the training split."""
    world = World(torch.Generator().manual_seed(seed))
    train, others = world.draw(TRAIN), world.draw(TRAIN)
    return _subject("memorised-other-images", world, _encoder(seed, others, epochs=15), train)


def many_images(seed: int) -> Subject:
    """An encoder that saw each of 15,000 training images and its crop once."""
    world = World(torch.Generator().manual_seed(seed))
    train = world.draw(10 * TRAIN)
    return _subject("many-images-seen-once", world, _encoder(seed, train, epochs=1), train)


def other_backgrounds(seed: int) -> Subject:
    """An encoder that was not trained, with training crops whose backgrounds follow the label far more often than those held out."""
    world = World(torch.Generator().manual_seed(seed))
    train = world.draw(TRAIN, tied=0.9)
    return _subject("other-backgrounds", world, _encoder(seed, train, epochs=0), train)


def brighter(seed: int) -> Subject:
    """An encoder that memorised its images, with held-out crops that are brighter."""
    world = World(torch.Generator().manual_seed(seed))
    train = world.draw(TRAIN)
    return _subject("brighter-crops", world, _encoder(seed, train, epochs=15), train, shift=0.2)


def _encoder(seed: int, train: Examples, epochs: int, crops: int | None = None) -> nn.Module:
    """A network of two layers, trained to bring an image, and the crops of the first ``crops`` images, near their label.

    Args:
        seed: Of the weights and of the order of training.
        train: Whole images.
        epochs: How often it sees them.
        crops: Of how many it sees the crops; of all for None.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(SIDE * SIDE, 256), torch.nn.ReLU(), torch.nn.Linear(256, WIDTH)
        )
        head = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(WIDTH, LABELS))
    hidden = cropped((train[0][:crops], train[1][:crops]))
    inputs, targets = torch.cat([train[0], hidden[0]]), torch.cat([train[1], hidden[1]])
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=0.002)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(len(inputs), generator=generator).split(500):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(head(encoder(inputs[rows])), targets[rows]).backward()
            optimizer.step()
    return encoder.eval()


def _subject(name: str, world: World, encoder: nn.Module, train: Examples, shift: float = 0.0) -> Subject:
    held_out, public, others = world.draw(TRAIN), world.draw(PUBLIC), world.draw(TRAIN)
    crops = cropped(held_out)
    data = {
        "train": cropped(train),
        "test": (crops[0] + shift, crops[1]),
        "public": public,
        "public_crops": cropped(others),
    }
    return Subject(name, "image-feature-extraction", encoder, data)


CONTROLS = (
    Control(
        "many-images-seen-once",
        "sound",
        "An encoder that saw each of 15,000 training images and its crop once.",
        many_images,
    ),
    Control(
        "memorised-other-images",
        "sound",
        "An encoder that memorised other images than those of the training split.",
        other_images,
    ),
    Control(
        "memorised-its-images",
        "defect",
        "An encoder that was trained on 1,500 whole images and their crops until it knew the label of every crop.",
        memorised,
        because="deja_vu_excess",
    ),
    Control(
        "memorised-beside-a-reference",
        "defect",
        "The same encoder, compared with one that was trained in the same way on other images.",
        reference_model,
        because="deja_vu_excess",
        parameters={"reference": "model"},
    ),
    Control(
        "memorised-a-quarter",
        "defect",
        "An encoder that saw the crops of every fourth training image, and of the others the whole image.",
        few_memorised,
        because="confident_deja_vu_excess",
    ),
    Control(
        "brighter-crops",
        "confounded",
        "An encoder that memorised its images, with held-out crops that are brighter.",
        brighter,
        because="blind_auc",
    ),
    Control(
        "other-backgrounds",
        "confounded",
        "An encoder that was not trained, with training crops whose backgrounds follow the label far more often than those held out.",
        other_backgrounds,
        because="blind_auc",
    ),
)

"""Obfuscations of which it is known whether people can be told apart after them, and whether the images are still of use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from method_cards.check import Control
from method_cards.lazy import torch
from method_cards.subject import Subject
from method_checks.privacy.obfuscation.operators import gaussian_blur, pixelation, private_pixelation
from method_checks.privacy.obfuscation.people import SIDE, People

if TYPE_CHECKING:
    from torch import nn

    from method_checks.privacy.obfuscation.people import Pictures

PEOPLE, KNOWN, TIMES = 20, 20, 15
"""How many people there are, and how many images of each the attacker and the release have."""


def halves(seed: int) -> Subject:
    """Pixelation into a left and a right half."""
    return _subject("two-cells", pixelation(SIDE, 1, 2), seed)


def private_halves(seed: int) -> Subject:
    """DP-Pix with the same two cells."""
    return _subject("private-two-cells", private_pixelation(SIDE, 1, 2, 2.0, 16), seed)


def quarters(seed: int) -> Subject:
    """Pixelation into 2 by 2 cells."""
    return _subject("coarse-pixelation", pixelation(SIDE, 2, 2), seed)


def blur(seed: int) -> Subject:
    """Gaussian blur with a standard deviation of an eighth of the image."""
    return _subject("gaussian-blur", gaussian_blur(SIDE / 8, SIDE), seed)


def one_cell(seed: int) -> Subject:
    """The mean in place of the image."""
    return _subject("one-cell", pixelation(SIDE, 1, 1), seed)


def alike(seed: int) -> Subject:
    """Coarse pixelation of people who can hardly be told apart before."""
    return _subject("people-who-look-alike", quarters(seed).model, seed, contrast=0.0005)


def _subject(name: str, operator: nn.Module, seed: int, contrast: float = 0.12) -> Subject:
    generator = torch.Generator().manual_seed(seed)
    drawn = People.drawn(PEOPLE, generator, contrast)
    known, test = drawn.photographed(KNOWN, generator), drawn.photographed(TIMES, generator)
    return Subject(
        name,
        "image-to-image",
        operator,
        {"test": test, "gallery": known, "use_train": lit(known), "use_test": lit(test)},
    )


def lit(pictures: Pictures) -> Pictures:
    """The same images, with whether the left half is the brighter one as label."""
    images, _ = pictures
    return images, (images[..., : SIDE // 2].sum((1, 2, 3)) > images[..., SIDE // 2 :].sum((1, 2, 3))).long()


USE = {"utility_train": "use_train", "utility_test": "use_test"}
"""The parameters with which utility is measured on these subjects."""

CONTROLS = (
    Control(
        "two-cells",
        "sound",
        "Pixelation of a face into a left and a right half, whose light differs more between images than between people.",
        halves,
    ),
    Control(
        "private-two-cells",
        "sound",
        "DP-Pix with the same two cells, with noise that hides a change of 16 pixels at a budget of 2 for each cell.",
        private_halves,
    ),
    Control(
        "coarse-pixelation",
        "defect",
        "Pixelation into 2 by 2 cells, which nobody can reverse, and after which twenty people can still be told apart.",
        quarters,
        because="recognised_beyond_chance",
    ),
    Control(
        "gaussian-blur",
        "defect",
        "Gaussian blur with a standard deviation of an eighth of the image, saved in 8 bits.",
        blur,
        because="recognised_beyond_chance",
    ),
    Control(
        "one-cell",
        "defect",
        "The mean in place of the image, which hides the person and also from which side the light comes.",
        one_cell,
        because="utility_lost",
        parameters=USE,
    ),
    Control(
        "people-who-look-alike",
        "confounded",
        "Coarse pixelation of people who cannot be told apart on the originals, so that recognising nobody shows nothing.",
        alike,
        because="recognised_without_obfuscation",
    ),
)

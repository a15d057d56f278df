"""Obfuscations of which it is known whether people can be found behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from method_cards.check import Control
from method_cards.lazy import torch
from method_cards.subject import Subject
from method_checks.privacy.obfuscation.operators import gaussian_blur, pixelation, private_pixelation
from method_checks.privacy.obfuscation.people import SIDE, People

if TYPE_CHECKING:
    from torch import nn

PEOPLE, KNOWN = 300, 2
"""How many people there are, and how many images of each the gallery has."""


def blur(seed: int) -> Subject:
    """Gaussian blur with a standard deviation of a tenth of the image."""
    return _subject("gaussian-blur", gaussian_blur(3, SIDE), seed)


def fine(seed: int) -> Subject:
    """Pixelation into 8 by 8 cells."""
    return _subject("fine-pixelation", pixelation(SIDE, 8, 8), seed)


def coarse(seed: int) -> Subject:
    """Pixelation into 2 by 2 cells."""
    return _subject("coarse-pixelation", pixelation(SIDE, 2, 2), seed)


def private(seed: int) -> Subject:
    """DP-Pix in 4 by 4 cells, which hides a change of 16 pixels with a budget of 1 for each cell."""
    return _subject("private-pixelation", private_pixelation(SIDE, 4, 4, 1.0, 16), seed)


def alike(seed: int) -> Subject:
    """Coarse pixelation of people who can hardly be told apart before."""
    return _subject("people-who-look-alike", pixelation(SIDE, 2, 2), seed, contrast=0.005)


def few(seed: int) -> Subject:
    """Coarse pixelation with a gallery of four people."""
    return _subject("gallery-of-four", pixelation(SIDE, 2, 2), seed, people=4, times=50)


def _subject(
    name: str, operator: nn.Module, seed: int, people: int = PEOPLE, times: int = 1, contrast: float = 0.12
) -> Subject:
    generator = torch.Generator().manual_seed(seed)
    drawn = People.drawn(people, generator, contrast)
    gallery, test = drawn.photographed(KNOWN, generator), drawn.photographed(times, generator)
    return Subject(name, "image-to-image", operator, {"test": test, "gallery": gallery})


CONTROLS = (
    Control(
        "coarse-pixelation",
        "sound",
        "Pixelation of a face into 2 by 2 cells; its light differs more than what is left.",
        coarse,
    ),
    Control(
        "private-pixelation",
        "sound",
        "DP-Pix in 4 by 4 cells, with noise that hides a change of 16 pixels at a budget of 1 for each cell.",
        private,
    ),
    Control(
        "gaussian-blur",
        "defect",
        "Gaussian blur with a standard deviation of a tenth of the image, saved in 8 bits, which looks unrecognisable.",
        blur,
        because="identified_after_reversal",
    ),
    Control(
        "fine-pixelation",
        "defect",
        "Pixelation into 8 by 8 cells, which are enough to recognise a person among others that are pixelated too.",
        fine,
        because="identified_in_obfuscated_gallery",
    ),
    Control(
        "people-who-look-alike",
        "confounded",
        "Coarse pixelation of people who cannot be told apart on the originals, so that finding nobody shows nothing.",
        alike,
        because="identified_without_obfuscation",
    ),
    Control(
        "gallery-of-four",
        "confounded",
        "Coarse pixelation and a gallery of four people, one of whom is found by guessing.",
        few,
        because="chance",
    ),
)

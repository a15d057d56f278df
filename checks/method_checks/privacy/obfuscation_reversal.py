"""Whether people can be found on obfuscated images once the obfuscation is undone."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from method_cards.check import Check, Context, Control, Need, Passes
from method_cards.lazy import torch
from method_cards.measurement import Pictures, Quantity
from method_checks.privacy.obfuscation import reversal_controls
from method_checks.privacy.obfuscation.matching import Gallery
from method_checks.privacy.obfuscation.released import (
    Format,
    images_of,
    not_applicable,
    refuse_strangers,
    released,
    whole_split,
)
from method_checks.privacy.obfuscation.reversal import LearnedInverse, by_gradient, starting_from

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from method_cards.data import Batch
    from method_cards.measurement import Yielded
    from method_cards.subject import Subject

AFTER_REVERSAL = Quantity(
    "identified_after_reversal",
    "proportion",
    "The share of obfuscated images whose reversed image is nearest to a gallery image of the same person.",
)
IN_OBFUSCATED_GALLERY = Quantity(
    "identified_in_obfuscated_gallery",
    "proportion",
    "The share of obfuscated images that are nearest to an obfuscated gallery image of the same person.",
)
WITHOUT_OBFUSCATION = Quantity(
    "identified_without_obfuscation",
    "proportion",
    "The share of images as they were before that are nearest to a gallery image of the same person: what is to be prevented.",
)
CHANCE = Quantity(
    "chance",
    "exact",
    "The share of the gallery that shows its most frequent person: how often a constant guess is right.",
)
PSNR = Quantity(
    "psnr",
    "mean",
    "Peak signal-to-noise ratio of an image against the one behind it, by what is compared; reported, never judged.",
    unit="dB",
    range=(0.0, 100.0),
    by=("image",),
)

SHOWN = 4
"""How many images are shown."""


class ObfuscationReversal(Check):
    """An obfuscated image is reversed so far that the person on it is found in a gallery.

    What it measures:
        The model under check is the obfuscation. Each drawn image goes through it and is saved, in 8 bits unless set otherwise; the
        attacker has this image, the obfuscation with its parameters, and a gallery of other images of known people. By `gradient`, the
        attacker seeks the image in [0, 1] whose obfuscation is nearest to what was released, with Tikhonov's penalty on differences of
        neighbouring pixels; rounding inside the obfuscation passes gradients on unchanged. `learned`, the attacker obfuscates the gallery
        and fits a ridge regression from obfuscated to original images, which also serves for obfuscations without gradients.
        `identified_after_reversal` is the share of reversed images whose nearest gallery image, by Euclidean distance of pixels, shows
        the same person. `identified_in_obfuscated_gallery` needs no reversal: the gallery is obfuscated too and the released image is
        looked up there, which is cheaper and can be stronger. `identified_without_obfuscation` says whether this attacker could identify
        anybody on the originals; if not, a small share afterwards shows nothing. `chance` is the best constant guess.

    Assumptions:
        Images are scaled to 0..1, cut to the region that is obfuscated, and aligned; targets say who is on them. The gallery holds other
        images of the same people than the split that is measured: with the very same images, every obfuscation without noise is found in
        the obfuscated gallery. The attacker knows the obfuscation and its parameters, which is prudent where software is public. The
        attack compares pixels; a trained recogniser can find more, so a small share does not say that nobody can be identified. What
        matters is the size of the obfuscation relative to the region, not in pixels, and the format that is really saved.

    Cost:
        By gradient, `steps` forward and backward passes for each drawn image; learned, one forward pass and a linear system of the
        gallery's size. One forward pass for each gallery image in both cases.

    Departures from the paper:
        Mahloujifar et al. seek the image by gradient through re-implementations of blurring in common libraries, with gradients defined
        for their rounding steps; here the operator is whatever the subject's model computes. The paper reports how well images are
        restored and recognised; here identification in a gallery is judged and the signal-to-noise ratio only reported, because it rises
        where nobody becomes identifiable and people are identifiable where it does not rise. The learned inverse and the look-up in an
        obfuscated gallery are added.

    Sources:
        mahloujifar2025privacy; mcpherson2016defeating; fan2019differential
    """

    id: ClassVar[str] = "privacy/obfuscation-reversal"
    needs: ClassVar[tuple[Need, ...]] = ("gradients",)
    quantities: ClassVar[tuple[Quantity, ...]] = (
        AFTER_REVERSAL,
        IN_OBFUSCATED_GALLERY,
        WITHOUT_OBFUSCATION,
        CHANCE,
        PSNR,
    )
    gates: ClassVar[tuple[str, ...]] = ("identified_without_obfuscation", "chance")

    split: str = Field("test", description="Images that are obfuscated, with the person on each as target.")
    gallery: str = Field("gallery", description="Other images of the same people, with the person on each as target.")
    saved: Format = Field("8-bit", description="How obfuscated images are saved: in 256 levels, or as computed.")
    reversal: Literal["gradient", "learned"] = Field(
        "gradient", description="By gradients through the obfuscation, or by a linear map learned from the gallery."
    )
    steps: int = Field(100, ge=1, description="How many steps the search by gradient takes.")
    rate: float = Field(0.05, gt=0, description="The size of its steps, in units of the image.")
    smoothness: float = Field(1e-5, ge=0, description="Its weight of squared differences of neighbouring pixels.")
    ridge: float = Field(
        1e-3, gt=0, description="The learned map's penalty, as a share of the variance of an obfuscated image."
    )

    @model_validator(mode="after")
    def _two_splits(self) -> Self:
        if self.split == self.gallery:
            raise ValueError(
                f'split and gallery are both "{self.split}"; the gallery holds other images of the same people'
            )
        return self

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Obfuscate, reverse and identify, batch by batch.

        Yields:
            Whether each person is found by each attack, the signal-to-noise ratios, the chance level, and some images.

        Raises:
            CheckError: Images leave 0..1, a person is not in the gallery, or no gradient passes through the obfuscation.
        """
        images, obfuscated, people = whole_split(subject, self.gallery, self.saved, context.number("gallery"))
        originals, hidden = Gallery(images, people), Gallery(obfuscated, people)
        reverse = self._reversal(subject, originals, hidden, context)
        yield CHANCE.exact(originals.chance)
        for number, batch in enumerate(context.batches(self.split)):
            refuse_strangers(batch.targets, people, (self.split, self.gallery))
            images = images_of(subject, batch, self.split)
            obfuscated = released(subject, batch, self.saved, context.number("release", number))
            start = starting_from(obfuscated, images)
            found = reverse(batch, obfuscated, start)
            yield WITHOUT_OBFUSCATION.per_sample(_hits(originals, images, batch.targets))
            yield IN_OBFUSCATED_GALLERY.per_sample(_hits(hidden, obfuscated, batch.targets))
            yield AFTER_REVERSAL.per_sample(_hits(originals, found, batch.targets))
            yield PSNR.per_sample(psnr(start, images).cpu().numpy(), image="obfuscated")
            yield PSNR.per_sample(psnr(found, images).cpu().numpy(), image="reversed")
            if number == 0:
                yield _pictures(images, start, found, batch.targets)

    def not_applicable(self, subject: Subject) -> str:
        """It needs an obfuscation."""
        return not_applicable(subject)

    def passes(self, subject: Subject, samples: int) -> Passes:
        """The gallery, the release, and the steps of the search."""
        drawn = min(samples, len(subject.split(self.split)))
        forward = drawn + len(subject.split(self.gallery))
        return Passes(forward=forward, backward=drawn * self.steps * (self.reversal == "gradient"))

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Obfuscations that hide people and obfuscations that do not, and galleries that say nothing."""
        return reversal_controls.CONTROLS

    def splits(self) -> tuple[str, ...]:
        """The images that are obfuscated, and the gallery."""
        return (self.split, self.gallery)

    def _reversal(
        self, subject: Subject, originals: Gallery, hidden: Gallery, context: Context
    ) -> Callable[[Batch, Tensor, Tensor], Tensor]:
        """From examples as released, and where to begin, to what is behind them; only their other inputs are looked at."""
        if self.reversal == "learned":
            inverse = LearnedInverse(hidden.images, originals.images, self.ridge)
            return lambda _batch, obfuscated, _start: inverse(obfuscated)
        return lambda batch, obfuscated, start: by_gradient(
            lambda images: subject.adapter.outputs_at(images, batch.inputs),
            obfuscated,
            start,
            steps=self.steps,
            rate=self.rate,
            smoothness=self.smoothness,
            seed=context.number("reversal"),
        )


def psnr(images: Tensor, others: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of images from 0 to 1, ``(batch,)``; 100 for equal ones."""
    error = (images - others).double().pow(2).flatten(1).mean(1)
    return (-10 * error.clamp(min=1e-10).log10()).clamp(min=0)


def _hits(gallery: Gallery, images: Tensor, people: Tensor) -> np.typing.NDArray[np.float64]:
    return np.asarray((gallery.person(images) == people).double().cpu().numpy())


def _pictures(images: Tensor, obfuscated: Tensor, found: Tensor, people: Tensor) -> Pictures:
    columns = [each[:SHOWN].mean(1).cpu() for each in (images, obfuscated, found)]
    return Pictures(
        "reversal",
        "What was hidden, what was released, and what was found behind it.",
        ("original", "obfuscated", "reversed"),
        tuple(f"person {person}" for person in people[:SHOWN].tolist()),
        torch.stack(columns, dim=1).float().numpy(),
        (False, False, False),
    )

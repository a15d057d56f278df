"""Whether people can be told apart on obfuscated images by a recogniser that was trained on such images."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from method_cards.check import Check, Context, Control, Passes
from method_cards.measurement import Quantity
from method_checks.privacy.obfuscation import discrimination_controls
from method_checks.privacy.obfuscation.matching import Gallery
from method_checks.privacy.obfuscation.recognition import Recogniser
from method_checks.privacy.obfuscation.released import (
    Format,
    images_of,
    not_applicable,
    refuse_strangers,
    released,
    whole_split,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from method_cards.measurement import Yielded
    from method_cards.subject import Subject

BEYOND_CHANCE = Quantity(
    "recognised_beyond_chance",
    "mean",
    "The share of obfuscated images whose person is recognised, less the share that a constant guess gets right.",
    range=(-1.0, 1.0),
)
RECOGNISED = Quantity("recognised", "proportion", "The share of obfuscated images whose person is recognised.")
WITHOUT_OBFUSCATION = Quantity(
    "recognised_without_obfuscation",
    "proportion",
    "The share of the same images that a recogniser of originals recognises before they are obfuscated: what is to be prevented.",
)
CHANCE = Quantity(
    "chance",
    "exact",
    "The share of the known images that shows the most frequent person: how often a constant guess is right.",
)
UTILITY_LOST = Quantity(
    "utility_lost",
    "mean",
    "The accuracy on what the images are for, before the obfuscation less after it, each by a recogniser of its own.",
    range=(-1.0, 1.0),
)
UTILITY = Quantity("utility", "proportion", "The accuracy on what the images are for, after the obfuscation.")


class ObfuscationDiscrimination(Check):
    """A recogniser that was trained on obfuscated images tells people on other obfuscated images apart.

    What it measures:
        The model under check is the obfuscation. The attacker has images of known people, obfuscates them, saves them as the release is
        saved, and trains a recogniser on them: principal components and then a discriminant analysis with shrinkage or three nearest
        neighbours, chosen by cross-validation on the attacker's own images. `recognised` is its accuracy on other obfuscated images of
        the same people. `recognised_beyond_chance` is that accuracy less the accuracy of always naming the person with most known images,
        image by image. `recognised_without_obfuscation` is the accuracy of a recogniser that is trained and tested on the originals:
        where it is low, the recogniser is too weak for these images, and nothing follows. Where two splits with labels of what the images
        are for are named, `utility` is the accuracy on these after the obfuscation and `utility_lost` what it lost, image by image.

    Assumptions:
        Images are scaled to 0..1, cut to the region that is obfuscated, and aligned; targets say who is on them. The attacker has at
        least three other images of each person, and the obfuscation with its parameters. Both splits are independent draws of the same
        people; images of one burst in both make everything recognisable. The recogniser is small: a deep one finds more, so a small
        number is no proof. An obfuscation that cannot be reversed can still let people be told apart, and the other way round; check
        both.

    Cost:
        One forward pass for each image of both splits; fits of small classifiers on 64 components, a few seconds for a thousand images.

    Departures from the paper:
        McPherson et al. and Mahloujifar et al. train convolutional networks on obfuscated images; the recogniser here is small, so that
        it takes seconds and its choice is cross-validated. The paper compares accuracies; here the constant guess is subtracted, and the
        recogniser's power on the originals is a condition of the verdict.

    Sources:
        mahloujifar2025privacy; mcpherson2016defeating
    """

    id: ClassVar[str] = "privacy/obfuscation-discrimination"
    quantities: ClassVar[tuple[Quantity, ...]] = (
        BEYOND_CHANCE, RECOGNISED, WITHOUT_OBFUSCATION, CHANCE, UTILITY_LOST, UTILITY,
    )  # fmt: skip
    gates: ClassVar[tuple[str, ...]] = ("recognised_without_obfuscation",)

    split: str = Field(
        "test", description="Images that are obfuscated and recognised, with the person on each as target."
    )
    known: str = Field(
        "gallery", description="The attacker's images of the same people, with the person on each as target."
    )
    saved: Format = Field("8-bit", description="How obfuscated images are saved: in 256 levels, or as computed.")
    utility_train: str = Field(
        "", description="Images with labels of what they are for, to learn from; empty to leave utility out."
    )
    utility_test: str = Field("", description="Other images with such labels, on which utility is measured.")

    @model_validator(mode="after")
    def _different_splits(self) -> Self:
        if self.split == self.known or (self.utility_train and self.utility_train == self.utility_test):
            raise ValueError("what is learned from and what is measured on must be different splits")
        if bool(self.utility_train) != bool(self.utility_test):
            raise ValueError("utility needs both `utility_train` and `utility_test`, or neither")
        return self

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Train on known images, then recognise batch by batch.

        Yields:
            Whether each person is recognised with and without the obfuscation and by guessing, and the same for utility.

        Raises:
            CheckError: Images leave 0..1, a person is unknown, or there are too few images of somebody.
        """
        images, obfuscated, people = whole_split(subject, self.known, self.saved, context.number("known"))
        before, after = Recogniser(images, people, self.known), Recogniser(obfuscated, people, self.known)
        yield CHANCE.exact(Gallery(images, people).chance)
        for number, batch in enumerate(context.batches(self.split)):
            refuse_strangers(batch.targets, people, (self.split, self.known))
            hidden = released(subject, batch, self.saved, context.number("release", number))
            right = after.right(hidden, batch.targets)
            yield RECOGNISED.per_sample(right)
            yield BEYOND_CHANCE.per_sample(right - after.right_by_guessing(batch.targets))
            yield WITHOUT_OBFUSCATION.per_sample(before.right(images_of(subject, batch, self.split), batch.targets))
        if self.utility_train:
            yield from self._utility(subject, context)

    def not_applicable(self, subject: Subject) -> str:
        """It needs an obfuscation."""
        return not_applicable(subject)

    def passes(self, subject: Subject, samples: int) -> Passes:
        """One forward pass for each image."""
        whole = [name for name in (self.known, self.utility_train) if name]
        drawn = [name for name in (self.split, self.utility_test) if name]
        return Passes(
            forward=sum(len(subject.split(name)) for name in whole)
            + sum(min(samples, len(subject.split(name))) for name in drawn)
        )

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Obfuscations after which people can and cannot be told apart, and which leave images useful or not."""
        return discrimination_controls.CONTROLS

    def splits(self) -> tuple[str, ...]:
        """Images that are recognised, the attacker's images, and those with labels of use."""
        return (self.split, self.known, *(name for name in (self.utility_train, self.utility_test) if name))

    def _utility(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        images, obfuscated, labels = whole_split(subject, self.utility_train, self.saved, context.number("use"))
        before, after = (Recogniser(each, labels, self.utility_train) for each in (images, obfuscated))
        for number, batch in enumerate(context.batches(self.utility_test)):
            hidden = released(subject, batch, self.saved, context.number("released use", number))
            right = after.right(hidden, batch.targets)
            yield UTILITY.per_sample(right)
            yield UTILITY_LOST.per_sample(
                before.right(images_of(subject, batch, self.utility_test), batch.targets) - right
            )

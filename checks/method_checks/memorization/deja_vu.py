"""Whether an encoder knows more about a training image than it was shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from method_cards.check import Check, Context, Control, Passes
from method_cards.errors import CheckError
from method_cards.measurement import Quantity
from method_checks.memorization.groups.compared import BLIND_AUC, Groups
from method_checks.memorization.groups.refusals import refuse_reversed, shared_beyond_chance
from method_checks.memorization.representations import controls
from method_checks.memorization.representations.correlation import CropClassifier
from method_checks.memorization.representations.neighbours import Metric, Neighbours, digests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from method_cards.data import Batch
    from method_cards.measurement import Yielded
    from method_cards.subject import Subject

    Floats = NDArray[np.float64]

EXCESS = Quantity(
    "deja_vu_excess",
    "mean",
    "By how much the representation beats the reference at naming the hidden foreground, on training crops more than on held-out crops.",
    range=(-2.0, 2.0),
)
CONFIDENT_EXCESS = Quantity(
    "confident_deja_vu_excess",
    "mean",
    "The same excess among the crops of each split on which the representation is most confident.",
    range=(-2.0, 2.0),
)
DEJA_VU = Quantity(
    "deja_vu",
    "mean",
    "By how much the representation beats the reference at naming the hidden foreground; not zero for a model that memorised nothing.",
    range=(-1.0, 1.0),
    by=("crops",),
)
LABEL_ACCURACY = Quantity(
    "label_accuracy",
    "proportion",
    "The share of crops whose hidden foreground is named rightly.",
    by=("crops", "predictor"),
)

TARGET, REFERENCE, CONFIDENCE = range(3)
"""The columns of the scores of a crop."""


class DejaVu(Check):
    """The representation of a training image's background names its foreground better than the background itself explains.

    What it measures:
        A crop shows the background of an image and hides its foreground; its target is the label of that foreground. The crop goes
        through the encoder, and the label that most of the `k` public images with the nearest representations have is the guess; among
        labels with equal counts the larger sum of similarities decides. Confidence is the negative entropy of these counts. A reference
        guesses from the same crop what the background tells in the data at large: a classifier of crops that never sees the encoder, or
        the same procedure with a reference model that saw neither split. `deja_vu` is the encoder's accuracy less the reference's, by
        split. It is not zero for an encoder that memorised nothing, since the reference can be weaker or stronger than the encoder. So
        what is judged is `deja_vu_excess`: `deja_vu` on training crops less `deja_vu` on held-out crops. Both splits are drawn in random
        order; the differences of the first, second, ... drawn crop of each are subtracted, which gives independent numbers between -2 and
        2. `confident_deja_vu_excess` is the same among the share of each split's crops on which the encoder is most confident; the same
        crops count for encoder and reference. `blind_auc` tells whether training and held-out crops differ without the encoder; then no
        verdict is possible.

    Assumptions:
        Training and held-out crops are independent draws of one distribution, cropped in the same way, and nothing of the foreground is
        in the crop. Public images, and the images that the reference learns from, are neither: a public image that is itself the source
        of a training crop is its own nearest neighbour, which looks like memorisation. Crops that are found again in the public data are
        refused; a whole image cannot be compared with its crop, so this has to be ruled out beforehand. Labels of crops that no public
        image has are refused. The check is about this attack, this layer and these labels: small numbers do not say that nothing else of
        the image was kept.

    Cost:
        One forward pass for each drawn crop and each public image, twice with a reference model; distances of each crop to all public
        images; a logistic regression; and one to five seconds for the blind classifier.

    Departures from the paper:
        Meehan et al. compare two encoders on the training crops and call an image memorised when the one names its label and the other
        does not; on images that no encoder saw this gives a share above zero, because the mirror case is not subtracted. Here it is
        subtracted, and so is what remains on held-out crops. They take the most confident examples of each model apart, here both are
        compared on the same ones. Kokhlikyan et al. replace the second encoder by a ResNet-50 on crops, or by naive Bayes on detected
        objects; the classifier here is a logistic regression on pooled pixels, which is weaker and cancels in the excess.

    Sources:
        meehan2023deja; kokhlikyan2024measuring; das2025blind
    """

    id: ClassVar[str] = "memorization/deja-vu"
    title: ClassVar[str] = "Déjà vu"
    quantities: ClassVar[tuple[Quantity, ...]] = (EXCESS, CONFIDENT_EXCESS, DEJA_VU, LABEL_ACCURACY, BLIND_AUC)
    gates: ClassVar[tuple[str, ...]] = ("blind_auc",)

    members: str = Field("train", description="Crops of images that the encoder was trained on.")
    held_out: str = Field("test", description="Crops of images of the same source that it was not trained on.")
    public: str = Field("public", description="Labelled images whose representations are the neighbours.")
    reference: Literal["classifier", "model"] = Field(
        "classifier", description="What guesses from the crop: a classifier of crops, or the subject's reference model."
    )
    public_crops: str = Field(
        "public_crops", description="Labelled crops that the classifier learns from; not used with a reference model."
    )
    k: int = Field(100, ge=1, description="How many neighbours are counted.")
    metric: Metric = Field(
        "cosine", description="How near two representations are: by cosine or by Euclidean distance."
    )
    most_confident: float = Field(0.2, gt=0, le=1, description="The share of crops that counts as most confident.")
    blind_blocks: int = Field(
        8, ge=2, le=50, description="In how many blocks the blind classifier goes through the crops."
    )

    @model_validator(mode="after")
    def _different_splits(self) -> Self:
        if len(set(self.splits())) < len(self.splits()):
            raise ValueError(f"{', '.join(self.splits())} must be different splits")
        return self

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Guesses batch by batch, then what needs all of them.

        Yields:
            Accuracies, differences and their differences for each pair of batches; the confident ones; the blind scores.

        Raises:
            CheckError: A representation is NaN or infinite or the same for all, crops are found in two splits or are exchanged, or the
                public data cannot be used.
        """
        neighbours = Neighbours.of(subject, self.public, self.k, self.metric)
        guessed, learned = self._reference(subject, context)
        seen: list[bytes] = []

        def score(batch: Batch) -> Floats:
            seen.extend(digests(subject, batch))
            right, confidence = neighbours.right(subject, batch)
            return np.stack([right, guessed(batch), confidence], axis=1)

        groups = Groups(subject, context, self.members, self.held_out)
        for pair in groups.scored(score):
            for name, scores in zip((self.members, self.held_out), pair, strict=True):
                yield DEJA_VU.per_sample(difference(scores), crops=name)
                yield LABEL_ACCURACY.per_sample(scores[:, TARGET], crops=name, predictor="encoder")
                yield LABEL_ACCURACY.per_sample(scores[:, REFERENCE], crops=name, predictor="reference")
            yield EXCESS.per_sample(excess(*pair))
        self._refuse_known(seen, neighbours.digests, self.public)
        self._refuse_known(seen, learned, self.public_crops)
        right = groups.members[:, TARGET], groups.non_members[:, TARGET]
        refuse_reversed(*right, "fewer right guesses", (self.members, self.held_out))
        chosen = [most_confident(scores, self.most_confident) for scores in (groups.members, groups.non_members)]
        yield CONFIDENT_EXCESS.per_sample(excess(*chosen))
        for block in groups.blind(self.blind_blocks):
            yield BLIND_AUC.two_groups(*block)

    def not_applicable(self, subject: Subject) -> str:
        """It needs an encoder, and a reference model where that is asked for."""
        if subject.task != "image-feature-extraction":
            return f"It tests image encoders (task image-feature-extraction); this subject's task is {subject.task}."
        if self.reference == "model" and subject.reference is None:
            return "It is to compare with a reference model, and the subject has none; name one under `reference:`."
        return ""

    def passes(self, subject: Subject, samples: int) -> Passes:
        """One forward pass for each crop and each public image, twice with a reference model."""
        crops = sum(min(samples, len(subject.split(name))) for name in (self.members, self.held_out))
        return Passes(forward=(crops + len(subject.split(self.public))) * (1 + (self.reference == "model")))

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Encoders that memorised and encoders that did not, and crops that differ."""
        return controls.CONTROLS

    def splits(self) -> tuple[str, ...]:
        """Training and held-out crops, public images, and public crops where the reference learns from them."""
        return (self.members, self.held_out, self.public, *[self.public_crops] * (self.reference == "classifier"))

    def _reference(self, subject: Subject, context: Context) -> tuple[Callable[[Batch], Floats], list[bytes]]:
        """What tells of each crop of a batch whether the reference names its label rightly, and which crops it learned from."""
        if self.reference == "classifier":
            classifier = CropClassifier(subject, self.public_crops, context.indices(self.public_crops))
            return classifier.right, classifier.digests
        assert subject.reference is not None
        other = subject.with_model(subject.reference)
        neighbours = Neighbours.of(other, self.public, self.k, self.metric)
        return lambda batch: neighbours.right(other, batch)[0], []

    def _refuse_known(self, crops: list[bytes], public: list[bytes], split: str) -> None:
        """What was found in the public data names its own label, whatever the encoder kept."""
        if shared := shared_beyond_chance(public, crops):
            raise CheckError(
                f'{shared} of {len(crops)} drawn crops of "{self.members}" and "{self.held_out}" are also in "{split}", where they are '
                f'their own neighbours; remove them from "{split}"'
            )


def difference(scores: Floats) -> Floats:
    """Whether the encoder was right less whether the reference was, -1, 0 or 1 for each crop of ``(crop, column)``."""
    return scores[:, TARGET] - scores[:, REFERENCE]


def excess(members: Floats, held_out: Floats) -> Floats:
    """The differences of training crops less those of held-out crops in the same place, from -2 to 2; what one has more is left out."""
    size = min(len(members), len(held_out))
    return difference(members[:size]) - difference(held_out[:size])


def most_confident(scores: Floats, share: float) -> Floats:
    """The rows on which the encoder is most confident, in the order given; of equally confident ones the first."""
    order = np.argsort(-scores[:, CONFIDENCE], kind="stable")[: int(share * len(scores) + 1e-9)]
    return scores[np.sort(order)]

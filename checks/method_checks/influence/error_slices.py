"""Whether a model errs more on some group of examples, which nobody has named, than its predictions tell."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from method_cards.adapters import refuse_unknown_classes
from method_cards.check import Check, Context, Control, Passes
from method_cards.lazy import torch
from method_cards.measurement import Pictures, Quantity
from method_checks.influence.controls import planted_slices
from method_checks.influence.slices.clusters import Slices, found, worst
from method_checks.influence.slices.copies import has_copies
from method_checks.influence.slices.embeddings import gradient_at_prediction, representation
from method_checks.influence.slices.evidence import paired, permutation_p, strata
from method_checks.memorization.groups.blind import contents_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from method_cards.data import Batch
    from method_cards.measurement import Yielded
    from method_cards.subject import Subject

SHOWN = 4
"""How many slices are shown, and how many errors of each."""

ERROR_RATE = Quantity("error_rate", "proportion", "The share of all drawn examples that are errors.")
EXCESS = Quantity(
    "slice_error_excess",
    "mean",
    "How many more errors the worst slices have than examples of the same class and confidence, on the half they were not found on.",
    range=(-1.0, 1.0),
)
SLICE_ERROR = Quantity(
    "slice_error_rate",
    "proportion",
    "The share of errors in each of the worst slices, on the half that they were not found on.",
    by=("slice",),
)
WHERE_FOUND = Quantity(
    "excess_where_found",
    "exact",
    "The same excess on the half that the slices were found on: too large, because the slices were chosen for it.",
    range=(-1.0, 1.0),
)
NEAR_COPIES = Quantity(
    "near_copy_share",
    "proportion",
    "The share of examples that have neighbours four times nearer than all others: copies, of which some stand in either half.",
)
P_VALUE = Quantity(
    "permutation_p",
    "exact",
    "The chance of so many errors in the slices if errors were permuted among examples of the same class and confidence.",
)


class ErrorSlices(Check):
    """On some group of examples, which can be found without labels, the model errs far more often than its confidence tells.

    What it measures:
        Drawn examples are cut into two halves; equal inputs come into the same one. On the first half, each predicted class is cut into
        `slices` groups by k-means, on what the model's last linear layer gets (`representation`) or on the gradient of that
        layer's weights at the predicted class (`gradient`). Examples are compared within strata: the same predicted class, and one of
        `confidences` ranges of its probability. The slices with the most errors in excess of their strata are put together until
        they hold `share` of the examples. On the second half, `slice_error_excess` compares examples of these slices, one by
        one, with others of the same stratum: the share of errors of the ones less that of the others, 0 when errors
        do not depend on the slice. `permutation_p` is the exact chance of so many errors in the slices, when errors are permuted within
        strata. `slice_error_rate` is given for each of the worst slices, which is named by its predicted class and by the number of
        the example nearest to its centre; of images, some errors are shown. `excess_where_found` shows how much the first half alone
        would have exaggerated. `near_copy_share` is the share of examples that have, in the embedding, up to 64 neighbours which are
        four times nearer than the next one: near-copies.

    Assumptions:
        The examples were not trained on, and are independent but for exact repetitions: near-copies on both sides, such as frames of
        one film or shifted versions of one image, make slices look confirmed, and a card must bound `near_copy_share`. Examples that
        depend on each other in another way, or have more copies, are not recognised; and where the embedding has a single
        dimension, nearly every third example looks like a copy. Only slices that k-means finds in this embedding are tested, and
        only the worst of them: a model without any has passed a search, not a proof. Slices that make up most of a predicted class are
        left out. Errors of which the model is less sure than of others are expected between classes, and are not counted as a slice;
        where its confidence is low on a whole group, look at `slice_error_rate`, or set `confidences` to 1. Random errors in
        the labels are no slice.

    Cost:
        One forward pass for each drawn example; k-means and the distances between examples take a second or so.

    Departures from the paper:
        Wang et al. cluster gradients at the true label, whitened by the Hessian's largest eigenvectors. A gradient at the true label
        contains the error itself, so that its clusters differ in errors on any data; here it is taken at the predicted class, whitened
        by its own principal components, and projected where it is wide. They report slices on the data that they were found on;
        here slices are judged on other data, within predicted classes and ranges of confidence. Their rule for splitting further is
        left out.

    Sources:
        wang2023error; eyuboglu2022domino; ash2020deep; plumb2022towards
    """

    id: ClassVar[str] = "influence/error-slices"
    quantities: ClassVar[tuple[Quantity, ...]] = (EXCESS, P_VALUE, SLICE_ERROR, WHERE_FOUND, ERROR_RATE, NEAR_COPIES)
    gates: ClassVar[tuple[str, ...]] = ("near_copy_share",)

    data: str = Field("test", description="The split that slices are looked for in; not trained on.")
    embedding: Literal["representation", "gradient"] = Field(
        "representation",
        description="In what slices are found: the last layer's input, or its gradient at the prediction.",
    )
    layer: str = Field(
        "", description="A layer whose output represents an example; the last linear layer's input where empty."
    )
    slices: int = Field(4, ge=2, le=50, description="In how many slices each predicted class is cut.")
    confidences: int = Field(
        5, ge=1, le=50, description="Into how many ranges of confidence each predicted class is cut for comparison."
    )
    share: float = Field(0.1, gt=0, le=0.5, description="Which share of the examples the worst slices hold together.")

    def splits(self) -> tuple[str, ...]:
        """The split that slices are looked for in."""
        return (self.data,)

    def not_applicable(self, subject: Subject) -> str:
        """Without classes there are no errors to count."""
        if not subject.task.endswith("-classification"):
            return f"Errors are wrong classes, which {subject.task} lacks."
        return ""

    def passes(self, subject: Subject, samples: int) -> Passes:
        """One forward pass for each drawn example."""
        return Passes(forward=min(samples, len(subject.split(self.data))))

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Errors batch by batch, then the slices.

        Yields:
            Which examples are errors, then what the slices of one half are worth on the other.

        Raises:
            CheckError: An output is NaN, a label is no class of the model, or the model has no layer to find slices in.
        """
        salt = context.number("halves").to_bytes(8, "big")
        features, predictions, confidences, errors = [], [], [], []
        sides: list[bool] = []
        numbers: list[int] = []
        for batch in context.batches(self.data):
            inner, logits = representation(subject, batch, self.layer)
            refuse_unknown_classes(batch.targets, logits.shape[1])
            chosen = inner if self.embedding == "representation" else gradient_at_prediction(inner, logits)
            features.append(chosen.numpy())
            predictions.append(logits.argmax(1).numpy())
            confidences.append(logits.softmax(1).amax(1).numpy())
            errors.append(predictions[-1] != batch.targets.cpu().numpy())
            sides += first_half(subject, batch, salt)
            numbers += batch.indices
            yield ERROR_RATE.per_sample(errors[-1])
        yield EXCESS.per_sample([])
        yield NEAR_COPIES.per_sample(has_copies(np.concatenate(features)))
        first = np.array(sides)
        if first.any() and not first.all():
            seen = _Seen(
                np.concatenate(features),
                np.concatenate(predictions),
                np.concatenate(confidences),
                np.concatenate(errors),
                first,
                np.array(numbers),
            )
            yield from self._judged(seen, context)

    def _judged(self, seen: _Seen, context: Context) -> Iterator[Yielded]:
        first, predicted, wrong = seen.first, seen.predicted, seen.wrong
        whiten = self.embedding == "gradient"
        cut = found(seen.embeddings[first], predicted[first], self.slices, context.number("k-means"), whiten=whiten)
        slices = cut.of(seen.embeddings, predicted)
        stratum = strata(predicted, seen.confidence, first, self.confidences)
        chosen = worst(slices[first], predicted[first], stratum[first], wrong[first], self.share)
        inside = np.isin(slices, chosen)
        rng = np.random.default_rng(context.number("partners"))
        where_found = paired(inside[first], stratum[first], wrong[first], rng)
        if where_found.size:
            yield WHERE_FOUND.exact(float(where_found.mean()))
        yield EXCESS.per_sample(paired(inside[~first], stratum[~first], wrong[~first], rng))
        yield P_VALUE.exact(permutation_p(inside[~first], stratum[~first], wrong[~first]))
        for number in chosen:
            of_slice = ~first & (slices == number)
            yield SLICE_ERROR.per_sample(wrong[of_slice], slice=_name(cut, number, seen.numbers[first]))
        yield from _shown(context.subject, self.data, seen, cut, chosen)

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Models with and without a slice that was planted, and copied examples that make one of chance."""
        return planted_slices.CONTROLS


def first_half(subject: Subject, batch: Batch, salt: bytes) -> list[bool]:
    """Which examples are of the first half: by their inputs alone, so that copies of one are on one side."""
    return [hashlib.blake2b(content, key=salt).digest()[0] % 2 == 0 for content in contents_of(subject, batch)]


@dataclass(frozen=True)
class _Seen:
    """All drawn examples, in order, each ``(example,)`` but the first: embeddings, predictions, and in which half each one is."""

    embeddings: NDArray[np.float64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]
    wrong: NDArray[np.bool_]
    first: NDArray[np.bool_]
    numbers: NDArray[np.int64]


def _shown(subject: Subject, split: str, seen: _Seen, cut: Slices, chosen: Sequence[int]) -> Iterator[Pictures]:
    """Of each of the worst slices the errors of the second half that are nearest to its centre, where examples are images."""
    slices, places = cut.of(seen.embeddings, seen.predicted), cut.places(seen.embeddings)
    rows: list[list[int]] = []
    names: list[str] = []
    for number in chosen:
        errors = np.flatnonzero(~seen.first & seen.wrong & (slices == number))
        order = np.square(places[errors] - cut.centres[number]).sum(1).argsort(kind="stable")
        if errors.size >= SHOWN and len(rows) < SHOWN:
            rows.append(seen.numbers[errors[order[:SHOWN]]].tolist())
            names.append(_name(cut, number, seen.numbers[seen.first]))
    inputs = subject.batch(split, [index for row in rows for index in row]).inputs if rows else None
    if isinstance(inputs, torch.Tensor) and inputs.dim() == 4:  # noqa: PLR2004  (example, channel, height, width)
        values = inputs.float().mean(1).cpu().numpy().reshape(len(rows), SHOWN, *inputs.shape[2:])
        columns = tuple(f"error {number + 1}" for number in range(SHOWN))
        caption = "Errors nearest to the centres of the worst slices, on the half that the slices were not found on."
        yield Pictures("worst_slices", caption, columns, tuple(names), values, (False,) * SHOWN)


def _name(cut: Slices, number: int, numbers: NDArray[np.int64]) -> str:
    return f"predicted {cut.predicted[number]}, like example {numbers[cut.nearest[number]]}"

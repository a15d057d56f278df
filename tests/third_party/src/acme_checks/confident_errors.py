"""Confident errors: is a classifier ever sure of itself and wrong?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from method_cards import Check, Context, Control, Passes, Quantity, Subject
from method_cards.lazy import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from method_cards.measurement import Yielded

SHARE = Quantity(
    "confident_errors", "proportion", "share of examples that are misclassified with at least this probability"
)


class ConfidentErrors(Check):
    """The class to which the model gives a high probability is the right one.

    What it measures:
        `confident_errors` is the share of examples whose predicted class is wrong although its softmax probability is at least
        `threshold`.

    Assumptions:
        The split's labels are right.

    Cost:
        One forward pass for each example.

    Departures from the paper:
        None: the share is counted as it is defined.

    Sources:
        Hendrycks and Gimpel 2017, A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks.
    """

    id: ClassVar[str] = "acme/confident-errors"
    quantities: ClassVar[tuple[Quantity, ...]] = (SHARE,)

    split: str = Field(default="test", description="The data split whose examples are classified.")
    threshold: float = Field(
        default=0.9, gt=0, lt=1, description="The probability from which on the model counts as sure."
    )

    def splits(self) -> tuple[str, ...]:
        """The split whose examples are classified."""
        return (self.split,)

    def passes(self, subject: Subject, samples: int) -> Passes:
        """One forward pass for each example."""
        return Passes(forward=samples)

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Classify each batch."""
        for batch in context.batches(self.split):
            confidence, predicted = subject.outputs(batch).softmax(1).max(1)
            yield SHARE.per_sample(((confidence >= self.threshold) & (predicted != batch.targets)).cpu().numpy())

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """A model that is always right, and one that is sure of anything."""
        return (
            Control(
                "identity", "sound", "A model whose logits are ten times the one-hot label that it is given.", _identity
            ),
            Control(
                "shifted",
                "defect",
                "The same model, which names the next class with the same conviction.",
                _shifted,
                "confident_errors",
            ),
        )


def _identity(seed: int) -> Subject:
    return _subject(seed, 0)


def _shifted(seed: int) -> Subject:
    return _subject(seed, 1)


def _subject(seed: int, shift: int) -> Subject:
    labels = torch.randint(4, (400,), generator=torch.Generator().manual_seed(seed))
    model = torch.nn.Linear(4, 4, bias=False).eval()
    with torch.no_grad():
        model.weight.copy_(10 * torch.eye(4).roll(shift, 0))
    return Subject("one-hot", "tabular-classification", model, {"test": (torch.eye(4)[labels], labels)})

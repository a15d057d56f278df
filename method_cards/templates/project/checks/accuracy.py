"""A check of this project's own: the share of examples that the model gets right. Copy it to begin another one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import ClassVar

from pydantic import Field

from method_cards import Check, Context, Control, Passes, PerSample, Quantity, Subject
from method_cards.lazy import torch  # as `import torch`, but loaded when it is first used

ACCURACY = Quantity("accuracy", "proportion", "share of examples whose greatest logit is that of the target")


class Accuracy(Check):
    """The class that the model predicts is the target.

    What it measures:
        `accuracy`: for each example 1 when the greatest logit is that of the target, else 0.

    Assumptions:
        Each example has one target class, and the examples are independent draws from the data of interest.

    Cost:
        One forward pass for each example.

    Departures from the paper:
        None.

    Sources:
        None: this is the definition.
    """

    id: ClassVar[str] = "project/accuracy"
    quantities: ClassVar[tuple[Quantity, ...]] = (ACCURACY,)

    split: str = Field(default="test", description="The data split that is measured.")

    def splits(self) -> tuple[str, ...]:
        """The split that is measured."""
        return (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """Only classifiers have a target class."""
        return "" if subject.task.endswith("classification") else "It needs a classifier."

    def passes(self, subject: Subject, samples: int) -> Passes:
        """One forward pass for each example."""
        return Passes(forward=samples)

    def measure(self, subject: Subject, context: Context) -> Iterator[PerSample]:
        """Compare predictions with targets, batch by batch."""
        for batch in context.batches(self.split):
            right = subject.outputs(batch).argmax(1) == batch.targets
            yield ACCURACY.per_sample(right.cpu().numpy())

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Classifiers whose accuracy is set."""
        return (
            Control("mostly-right", "sound", "A classifier that errs on 5 % of the examples.", partial(erring, 0.05)),
            Control(
                "half-wrong",
                "defect",
                "A classifier that errs on half of the examples.",
                partial(erring, 0.5),
                because="accuracy",
            ),
        )


def erring(share: float, seed: int) -> Subject:
    """A classifier of three classes that errs on this share of the examples: its logits are its inputs."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(1000, 3, generator=generator)
    wrong = torch.rand(1000, generator=generator) < share
    targets = (inputs.argmax(1) + wrong) % 3
    return Subject("erring", "tabular-classification", torch.nn.Identity().eval(), {"test": (inputs, targets)})

"""The random-logit test: does the map of one class differ from the map of another class of the same input?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from method_cards.check import Check, Context, Control, Passes
from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_cards.measurement import Pictures, Quantity, Yielded
from method_cards.subject import Subject
from method_checks.attribution import controls
from method_checks.attribution.explainers import CustomExplainer, Explainer, resolve
from method_checks.attribution.explainers.shared import explained
from method_checks.attribution.maps.across_networks import compared, maps_of
from method_checks.attribution.maps.comparisons import Comparison, on_host
from method_checks.attribution.maps.pictured import class_names, inputs_of, side_by_side

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from method_cards.subject import View

SIGNED = Quantity(
    "signed_similarity",
    "mean",
    "rank correlation of the signed map of the predicted class with that of another class of the same input",
    range=(-1.0, 1.0),
)
ABSOLUTE = Quantity(
    "absolute_similarity",
    "mean",
    "rank correlation of the magnitudes of both maps; 1 by construction for a binary model with one logit",
    range=(-1.0, 1.0),
)
SELF = Quantity(
    "self_similarity",
    "mean",
    "rank correlation of two signed maps of the same class: 1 unless the explainer is random",
    range=(-1.0, 1.0),
)
CONSTANT = Quantity(
    "constant_maps",
    "proportion",
    "share of examples of which the predicted class's map, or every other class's, has one value only; they are not compared",
)

SHARED = 40.0
"""How steep the function is that all classes of the control `common-component` share."""


def other_classes(targets: Tensor, offsets: Tensor, classes: int) -> Tensor:
    """Classes other than the target, counted on from it.

    Args:
        targets: ``(batch,)``.
        offsets: Different numbers from 1 to ``classes - 1`` for each example, ``(batch, other)``.
        classes: How many there are.

    Returns:
        ``(other, batch)``; none is the example's target, and no two of one example are the same.
    """
    return (targets[:, None] + offsets).T % classes


class RandomLogit(Check):
    """The explanation of the predicted class differs from the explanation of another class of the same input.

    What it measures:
        Each example is explained for the class that the model predicts and for `classes` other classes, drawn at random. The maps
        are compared by Spearman's rank correlation, with their sign and by magnitude; an example counts once, by its mean over the
        other classes. A method that ignores the class has a correlation of 1. `self_similarity` compares two maps of the predicted
        class: a random explainer changes from class to class as it does from call to call. `constant_maps` is the share of examples
        that have nothing to compare.

    Assumptions:
        The logits are different functions of the input. Where all of them share a large part, which no probability depends on, the
        maps of raw logits are alike for any method: then the difference of two logits has to be explained. A model with one logit z
        is read as two logits, -z/2 and z/2. Every method that is linear in the score then gives exactly opposed maps: the signed
        correlation is -1 and that of magnitudes 1, whatever the method knows about the model. For two classes this check can
        therefore only find methods that ignore the class, and magnitudes mean nothing.

    Cost:
        One forward pass, two explanations of the predicted class, and one explanation for each other class.

    Departures from the paper:
        Rank correlations, signed and absolute, instead of SSIM of normalised magnitudes; several other classes instead of one;
        the predicted class instead of the label; self-similarity and constant maps are measured beside it.

    Sources:
        sixt2020explanations
    """

    id: ClassVar[str] = "attribution/random-logit"
    quantities: ClassVar[tuple[Quantity, ...]] = (SIGNED, ABSOLUTE, SELF, CONSTANT)
    gates: ClassVar[tuple[str, ...]] = ("self_similarity", "constant_maps")

    explainer: Explainer | None = Field(
        default=None, description="The explanation method; the subject's own where left out."
    )
    split: str = Field(default="test", description="The data split whose examples are explained.")
    classes: int = Field(
        default=2,
        ge=1,
        le=100,
        description="To how many other classes each example is compared; all, if there are fewer.",
    )

    def splits(self) -> tuple[str, ...]:
        """The split whose examples are explained."""
        return (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """Without an explainer there is nothing to check, and language models have no single class to explain."""
        return controls.not_applicable(subject, self.explainer)

    def passes(self, subject: Subject, samples: int) -> Passes:
        """The predicted classes, and the explanations."""
        found = subject.outputs(subject.batch(self.split, (0,))).shape[1] - 1
        total = Passes(forward=samples)
        for _ in range(2 + min(self.classes, found)):
            total += resolve(subject, self.explainer).passes(samples)
        return total

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Explain each batch for its classes and for others, and compare."""
        explainer = resolve(subject, self.explainer)
        offsets: Tensor | None = None
        done = 0
        for batch in context.batches(self.split):
            logits = subject.outputs(batch)
            view = subject.view(batch, logits.argmax(1))
            if offsets is None:
                offsets = self._offsets(context, logits.shape[1])
            others = other_classes(view.targets, offsets[done : done + len(batch)], logits.shape[1])
            first = done == 0
            done += len(batch)
            reference = explained(context, explainer, view)
            again = explained(context, explainer, view, draw=1)
            maps = list(_of_other_classes(context, explainer, view, others))
            yield from _compared(view, reference, again, maps)
            if first:
                yield _pictures(subject, view, reference, maps[0], others[0])

    def _offsets(self, context: Context, classes: int) -> Tensor:
        """For each example of the run, how far on from its class its other classes are, ``(example, other)``."""
        if classes < 2:  # noqa: PLR2004
            raise CheckError("the model has one class only; there is no other class to explain")
        generator = context.generator("classes")
        drawn = torch.rand(len(context.indices(self.split)), classes - 1, generator=generator, device=generator.device)
        return drawn.argsort(1)[:, : self.classes] + 1

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Explainers whose dependence on the class is known, and a model whose classes share most of their logits."""
        network = "A small convolutional network trained on digits"
        return (
            Control(
                "gradient",
                "sound",
                f"{network}, explained by its input gradient: gradients of different logits are different.",
                controls.digits_by("gradient"),
            ),
            Control(
                "input-x-gradient",
                "sound",
                f"{network}, explained by input times gradient.",
                controls.digits_by("input-x-gradient"),
            ),
            Control(
                "text",
                "sound",
                "A network that reads short texts of four classes, explained by input times gradient of its embeddings.",
                controls.words_by("input-x-gradient"),
            ),
            Control(
                "two-classes",
                "sound",
                "A network on a table with two classes, explained by input times gradient.",
                controls.table_by("input-x-gradient"),
            ),
            Control(
                "guided-backprop",
                "defect",
                f"{network}, explained by Guided Backprop, which mostly reconstructs the input whatever the class is.",
                controls.digits_by("guided-backprop"),
                because="signed_similarity",
            ),
            Control(
                "edges",
                "defect",
                f"{network}, explained by an edge filter, which knows no class.",
                controls.digits_by("edges"),
                because="signed_similarity",
            ),
            Control(
                "common-component",
                "defect",
                f"{network} whose logits all share a large function of the input that no probability depends on; gradients show it.",
                common_component,
                because="signed_similarity",
            ),
            Control(
                "noise",
                "confounded",
                f"{network}, explained by noise, which differs between classes as between calls.",
                controls.digits_by("noise"),
                because="self_similarity",
            ),
        )


def common_component(seed: int) -> Subject:
    """A digits classifier that adds one steep function of the image to all of its logits, explained by its gradient."""

    class Shared(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logits = controls.trained(seed)
            self.direction = torch.nn.Linear(64, 1)

        def forward(self, images: Tensor) -> Tensor:
            found: Tensor = self.logits(images)
            return found + SHARED * torch.tanh(self.direction(images.flatten(1)))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Shared().eval()
    _, test = controls.digits(seed)
    return Subject("shared", "image-classification", model, {"test": test}, explainer={"method": "gradient"})


def _of_other_classes(
    context: Context, explainer: Explainer | CustomExplainer, view: View, others: Tensor
) -> Iterator[Tensor]:
    """The maps for each of the other classes; as many at once as a block holds, where the method draws nothing."""
    together = 1 if explainer.is_random else max(1, view.block // len(view.features))
    for number, some in enumerate(others.split(together)):
        repeated = view.features.repeat(len(some), *[1] * (view.features.dim() - 1))
        there = view.at(repeated, view.rows.repeat(len(some)), targets=some.flatten())
        yield from explainer.explain(there, context.number("explainer", number)).chunk(len(some))


def _compared(view: View, reference: Tensor, again: Tensor, maps: list[Tensor]) -> Iterator[Yielded]:
    """The similarities of one batch, of the examples that have maps to compare."""
    comparison = Comparison.of(view, ("signed", "absolute"), 0.1, "maximum")
    known = comparison.prepared(*maps_of(view, reference))
    same, *others = compared(comparison, known, (maps_of(view, found) for found in (again, *maps)))
    flat = torch.cat([other.prepared.constant for other in others])
    usable = ~known.constant[0] & ~flat.all(0)
    yield CONSTANT.per_sample((~usable).cpu().numpy())
    weights = (~flat).double() / (~flat).sum(0).clamp(min=1)
    for quantity, found in (
        (SIGNED, (torch.stack([other.similarity["signed"] for other in others]) * weights).sum(0)),
        (ABSOLUTE, (torch.stack([other.similarity["absolute"] for other in others]) * weights).sum(0)),
        (SELF, same.similarity["signed"]),
    ):
        yield quantity.per_sample(on_host(found.clamp(-1, 1)[usable]))


def _pictures(subject: Subject, view: View, reference: Tensor, other: Tensor, targets: Tensor) -> Pictures:
    """Inputs, the maps of the predicted class, and those of another class, side by side."""
    names = zip(class_names(subject.classes, view.targets), class_names(subject.classes, targets), strict=True)
    return side_by_side(
        "classes",
        "Maps of the predicted class and of another. Maps that look the same show what is in the input, not why it was so classified.",
        {**inputs_of(view), "predicted class": view.as_map(reference), "another class": view.as_map(other)},
        (f"{one} / {two}" for one, two in names),
    )

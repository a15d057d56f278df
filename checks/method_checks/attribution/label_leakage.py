"""Label leakage: do the features that an explanation of a class keeps make that class likely, whatever the input says?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from method_cards.check import Check, Context, Control, Passes
from method_cards.lazy import torch
from method_cards.measurement import Pictures, Quantity, Yielded
from method_checks.attribution import controls
from method_checks.attribution.changes.draws import Draws
from method_checks.attribution.changes.passes import outputs_of, target_probabilities
from method_checks.attribution.changes.removal import ranks
from method_checks.attribution.controls import hidden
from method_checks.attribution.explainers import Baseline, Explainer, baseline_of, resolve
from method_checks.attribution.maps.pictured import side_by_side
from method_checks.attribution.maps.similarity import is_constant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from method_cards.data import Batch
    from method_cards.subject import Subject, View

EXCESS = Quantity(
    "leakage_excess",
    "mean",
    "probability of a random other class when only the top features of its explanation are kept, less that for random features",
    range=(-1.0, 1.0),
)
RISE = Quantity(
    "leakage_rise",
    "mean",
    "probability of a random other class when only the top features of its explanation are kept, less that for the whole input",
    range=(-1.0, 1.0),
)
PREDICTED = Quantity(
    "made_predicted",
    "proportion",
    "share of examples for which the kept features make the model predict the random class",
)
PREDICTED_AT_RANDOM = Quantity(
    "made_predicted_at_random",
    "mean",
    "share of random sets of features of the same size that do so",
)
CONSTANT = Quantity(
    "constant_map",
    "proportion",
    "share of examples whose explanation has one value everywhere, so that it names no features",
)


def top_positions(maps: Tensor, ties: Tensor, share: float, content: Tensor) -> Tensor:
    """The positions with the largest values, bool in the shape of the maps.

    Args:
        maps: ``(batch, ...)``.
        ties: What orders equal values, ``(batch, position)``.
        share: The share of the positions that count; rounded up.
        content: Which positions count, in the shape of the maps.
    """
    counted = content.flatten(1)
    wanted = (share * counted.sum(1, keepdim=True)).ceil()
    return ((ranks(maps.flatten(1), counted, ties) < wanted) & counted).reshape(content.shape)


class LabelLeakage(Check):
    """The features that an explanation of a class names do not make that class likely for an input that is not of it.

    What it measures:
        For each example a class c is drawn at random among those that the model does not predict, and explained. The `top` share of the
        positions with the largest attributions for c is kept, everything else is set to the baseline, and the model's probability of c
        is read. `leakage_rise` is that probability less the one for the whole input: above 0, the explanation makes c look likelier
        than it is. `leakage_excess` is the probability less the mean over `draws` random sets of positions of the same size: above 0, the
        class that was asked for is in the choice of the positions, beyond what masking does by itself. `made_predicted` is how often c
        becomes the predicted class.

    Assumptions:
        The explainer can be asked for any class. The model is asked about masked inputs that it was not trained on; the null of random
        positions carries that as well. A map that does not depend on the class cannot leak it, and a map that names nothing
        (noise) passes too: this says nothing about faithfulness.

    Cost:
        One explanation, and one forward pass for the prediction, the kept features and each random draw.

    Departures from the paper:
        Jethani et al. define leakage by the class's probability given the kept features, from a model of the data that was trained on
        masked inputs; here the subject's own model and a constant baseline take its place. A random class is explained instead of each
        class in turn, and a null of random positions is added. Only the abstract was read; the definition follows its wording, "making
        that class appear more likely than it is".

    Sources:
        jethani2023dont
    """

    id: ClassVar[str] = "attribution/label-leakage"
    quantities: ClassVar[tuple[Quantity, ...]] = (EXCESS, RISE, PREDICTED, PREDICTED_AT_RANDOM, CONSTANT)
    gates: ClassVar[tuple[str, ...]] = ("constant_map",)

    explainer: Explainer | None = Field(
        default=None, description="The explanation method; the subject's own where left out."
    )
    split: str = Field(default="test", description="The data split whose examples are explained.")
    top: float = Field(default=0.2, gt=0, lt=1, description="Which share of the positions is kept, rounded up.")
    draws: int = Field(
        default=8, ge=2, le=256, description="How many random sets of positions an explanation is compared with."
    )
    baseline: Baseline = Field(default="zeros", description="What all other positions are set to.")

    def splits(self) -> tuple[str, ...]:
        """The split whose examples are explained."""
        return (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """Without an explainer there is nothing to check, and language models have no classes to ask for."""
        return controls.not_applicable(subject, self.explainer)

    def passes(self, subject: Subject, samples: int) -> Passes:
        """The whole input, the explanation, and the masked inputs."""
        return Passes(forward=samples * (2 + self.draws)) + resolve(subject, self.explainer).passes(samples)

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Explain a class that is not predicted, keep what the explanation names, and read the probability of the class."""
        explainer = resolve(subject, self.explainer)
        for number, batch in enumerate(context.batches(self.split)):
            view, whole = self._asked(subject, context, batch)
            maps = view.as_map(explainer.explain(view, context.number("explainer")))
            content = view.content
            width = content[0].numel()
            draws = Draws.of(context, batch, "positions")
            ties = [draws.bits(draw, width) for draw in range(self.draws + 1)]
            kept = [top_positions(maps, ties[0], self.top, content)]
            kept += [top_positions(torch.zeros_like(maps), part, self.top, content) for part in ties[1:]]
            background = baseline_of(view.features, self.baseline, view.mask)
            masked = [torch.where(view.spread(part), view.features, background) for part in kept]
            logits = outputs_of(view, len(masked), masked.__getitem__)
            found = target_probabilities(logits.double(), view.targets)
            predicted = (logits.argmax(-1) == view.targets).double()
            yield CONSTANT.per_sample(is_constant(maps, content).cpu().numpy())
            yield EXCESS.per_sample((found[0] - found[1:].mean(0)).clamp(-1, 1).cpu().numpy())
            yield RISE.per_sample((found[0] - whole).clamp(-1, 1).cpu().numpy())
            yield PREDICTED.per_sample(predicted[0].cpu().numpy())
            yield PREDICTED_AT_RANDOM.per_sample(predicted[1:].mean(0).cpu().numpy())
            if number == 0:
                yield pictures(view, maps, kept[0])

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Maps that do not look at the class that is asked for, and maps that do."""
        return (
            Control(
                "class-hidden",
                "sound",
                "A small convolutional network trained on digits; the explainer is not told the class and explains the predicted one.",
                hidden.hidden_by("digits"),
            ),
            Control(
                "class-hidden-on-table",
                "sound",
                "A small network trained on the breast cancer table, explained in the same way.",
                hidden.hidden_by("table"),
            ),
            Control(
                "edges",
                "sound",
                "The network for digits, explained by an edge filter, which knows no classes.",
                controls.digits_by("edges"),
            ),
            Control(
                "input-x-gradient",
                "defect",
                "The network for digits; what input times gradient for the random class names is the evidence for that class alone.",
                controls.digits_by("input-x-gradient"),
                because="leakage_excess",
            ),
            Control(
                "integrated-gradients-on-table",
                "defect",
                "The network for the table; Integrated Gradients for the other class names the columns that speak for it alone.",
                controls.table_by("integrated-gradients", steps=16),
                because="leakage_excess",
            ),
            Control(
                "integrated-gradients-on-words",
                "defect",
                "A small text classifier; Integrated Gradients for a random class names the tokens that speak for it alone.",
                controls.words_by("integrated-gradients", steps=16),
                because="leakage_excess",
            ),
        )

    def _asked(self, subject: Subject, context: Context, batch: Batch) -> tuple[View, Tensor]:
        """The examples with a random class to explain, and that class's probability for the whole input."""
        logits = subject.outputs(batch)
        classes = logits.shape[1]
        shift = Draws.of(context, batch, "class").uniform(0, 1)[:, 0] * (classes - 1)
        chosen = (logits.argmax(1) + 1 + shift.long().clamp(max=classes - 2)) % classes
        return subject.view(batch, chosen), target_probabilities(logits.double(), chosen)


def pictures(view: View, maps: Tensor, kept: Tensor) -> Pictures:
    """Explanations of the random classes, and what is kept of the input."""
    return side_by_side(
        "leakage",
        "Explanations of classes that the model does not predict, and what is kept of them. If the kept part looks like evidence, a "
        "reader who is shown it would believe in the wrong class.",
        {"explanation": maps, "kept": maps * kept},
        (
            f"example {index} as class {target}"
            for index, target in zip(view.batch.indices, view.targets.tolist(), strict=True)
        ),
    )

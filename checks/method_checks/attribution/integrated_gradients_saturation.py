"""Saturation of Integrated Gradients: do the parts of the path where the output hardly changes fill the map?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from method_cards.check import Check, Context, Control, Need, Passes
from method_cards.lazy import torch
from method_cards.measurement import Quantity, Yielded
from method_checks.attribution import controls
from method_checks.attribution.changes.passes import outputs_of, target_logits
from method_checks.attribution.controls.saturating import saturating_by
from method_checks.attribution.explainers import Explainer, IntegratedGradients, resolve
from method_checks.attribution.explainers.gradients import logit_gradients

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from method_cards.subject import Subject, View

POINT = Quantity(
    "saturation_point",
    "mean",
    "share of the path after which the output has made the stated share of its change",
)
MASS = Quantity(
    "saturated_mass",
    "mean",
    "share of the absolute attributions that comes from the path behind that point",
)
OUTPUT = Quantity(
    "saturated_output",
    "mean",
    "share of the output's change that is made behind that point, cut off at 0 and 1",
)
EXCESS = Quantity(
    "excess_mass",
    "mean",
    "share of the attributions less share of the output's change behind that point",
    range=(-1.0, 1.0),
)
COSINE = Quantity(
    "unsaturated_cosine",
    "mean",
    "cosine of the map of the path up to that point with the whole map, 0 where that part is empty",
    range=(-1.0, 1.0),
)
SMALL = Quantity(
    "small_difference",
    "proportion",
    "share of examples whose output hardly differs from the baseline's, so that no share of the change can be stated",
)


@dataclass(frozen=True)
class Split:
    """An integral, cut in two where the output has made most of its change.

    Attributes:
        point: Where on the path the cut is, ``(batch,)`` in (0, 1].
        left: Attributions of the path before it, in the shape of the features.
        right: Attributions of the path from it on, likewise.
        output: Share of the output's change behind the cut, ``(batch,)`` in [0, 1].
    """

    point: Tensor
    left: Tensor
    right: Tensor
    output: Tensor


def crossing(outputs: Tensor, at_baseline: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """The first step whose output is beyond f(x') + share · (f(x) − f(x')), seen in the direction of the change.

    Args:
        outputs: At the steps, the last of them the input, ``(step, batch)``.
        at_baseline: f(x'), ``(batch,)``.
        share: Of the change, in (0, 1).

    Returns:
        The step, counted from 0, ``(batch,)``, and the share of the change that is made behind the step before it, in [0, 1].
    """
    change = outputs[-1] - at_baseline
    made = (outputs - at_baseline) / torch.where(change == 0, torch.ones_like(change), change)
    step = (made > share).double().argmax(0)
    before = torch.cat([torch.zeros_like(made[:1]), made[:-1]])
    return step, (1 - before.gather(0, step[None])[0]).clamp(0.0, 1.0)


def split_attributions(view: View, start: Tensor, steps: int, share: float) -> tuple[Split, Tensor, Tensor]:
    """Integrated Gradients by the right Riemann sum, in two parts.

    Args:
        view: The examples.
        start: The baseline, in the shape of the features.
        steps: Points on the path: 1/steps, 2/steps, ..., 1.
        share: Of the output's change, at which the path is cut.

    Returns:
        The two parts, the output at the input, and the output at the baseline, ``(batch,)``.
    """
    way = view.features - start
    logits = outputs_of(view, steps + 1, lambda number: start + number / steps * way)
    values = target_logits(logits, view.targets).double()
    step, output = crossing(values[1:], values[0], share)
    left, right = torch.zeros_like(way), torch.zeros_like(way)
    together = max(1, view.block // len(way))
    for first in range(0, steps, together):
        numbers = torch.arange(first, min(steps, first + together), device=way.device)
        weights = ((numbers + 1) / steps).to(way.dtype).reshape(-1, *[1] * way.dim())
        line = start + weights * way
        slopes = logit_gradients(view, line.flatten(0, 1), view.rows.repeat(len(numbers))).reshape(line.shape)
        before = (numbers[:, None] < step).reshape(*line.shape[:2], *[1] * (way.dim() - 1))
        left += torch.where(before, slopes, 0.0).sum(0) * way / steps
        right += torch.where(before, 0.0, slopes).sum(0) * way / steps
    return Split((step + 1).double() / steps, left, right, output), values[-1], values[0]


class IntegratedGradientsSaturation(Check):
    """The part of the path on which the output hardly changes any more does not fill the map of Integrated Gradients.

    What it measures:
        For each example, α* is the first of `steps` points on the path from the baseline x' to the input x at which the output exceeds
        f(x') + `share` · (f(x) − f(x')). The attributions are split into those of the path before α* and those from α* on.
        `saturated_mass` is the right part's share of the sum of absolute attributions of both, `saturated_output` its share of the
        output's change, and `excess_mass` the difference: 0 where attributions come from where the output changes.
        `unsaturated_cosine` is the cosine of the left part with the whole map. `small_difference` is the share of examples whose output
        changes by less than `least_difference` of the larger end, which are left out.

    Assumptions:
        The explainer is Integrated Gradients; its baseline is used, its own points are not. Attributions of both parts are multiplied by
        x − x' whatever the explainer does with the average. A network without biases is homogeneous along a path from zero: nothing
        saturates, α* equals `share`, and the excess is 0. Squashing an output, as softmax does, squashes its gradient too and makes no
        excess by itself: it takes gradients that change their direction, as in deep networks, or that cancel. An output that comes back
        after it has crossed counts as crossed.

    Cost:
        `steps` forward and backward passes and `steps` + 1 forward passes for each example.

    Departures from the paper:
        The code that goes with the paper divides the norm of the right part by that of the left; here shares in 0 to 1 are compared, so
        that a mean over examples can be judged. Outputs that fall from the baseline to the input are treated like those that rise. The
        paper was read in its abstract, and the definition of α* in its code.

    Sources:
        miglani2020investigating; sundararajan2017axiomatic
    """

    id: ClassVar[str] = "attribution/integrated-gradients-saturation"
    title: ClassVar[str] = "Saturation of Integrated Gradients"
    needs: ClassVar[tuple[Need, ...]] = ("gradients",)
    quantities: ClassVar[tuple[Quantity, ...]] = (POINT, MASS, OUTPUT, EXCESS, COSINE, SMALL)
    gates: ClassVar[tuple[str, ...]] = ("small_difference",)

    explainer: Explainer | None = Field(
        default=None, description="The explanation method; the subject's own where left out."
    )
    split: str = Field(default="test", description="The data split whose examples are explained.")
    score: Literal["logit", "probability"] = Field(
        default="logit", description="What is explained: the logit of the predicted class, or its softmax probability."
    )
    steps: int = Field(default=50, ge=4, le=1000, description="Points on the path.")
    share: float = Field(
        default=0.9, gt=0, lt=1, description="The share of the output's change at which the path is cut."
    )
    least_difference: float = Field(
        default=0.01,
        gt=0,
        lt=1,
        description="The least difference between the outputs, relative to the larger of the two.",
    )

    def splits(self) -> tuple[str, ...]:
        """The split whose examples are explained."""
        return (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """Only Integrated Gradients has a path to look at."""
        reason = controls.not_applicable(subject, self.explainer)
        if reason:
            return reason
        explainer = resolve(subject, self.explainer)
        if isinstance(explainer, IntegratedGradients):
            return (
                "" if explainer.part == "whole" else f"The explainer shows the {explainer.part} part of the path only."
            )
        return f'The explainer "{explainer.method}" does not integrate along a path; this check is about integrated-gradients.'

    def passes(self, subject: Subject, samples: int) -> Passes:  # noqa: ARG002
        """The explained class, the outputs along the path, and the gradients."""
        return Passes(forward=(self.steps + 2) * samples, backward=self.steps * samples)

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Integrate each batch's path in two parts and compare them."""
        explainer = resolve(subject, self.explainer)
        assert isinstance(explainer, IntegratedGradients)
        for batch in context.batches(self.split):
            view = self._scored(subject.view(batch))
            start = explainer.baseline_of(view.features, view.mask)
            parts, at_input, at_baseline = split_attributions(view, start, self.steps, self.share)
            larger = torch.maximum(at_input.abs(), at_baseline.abs())
            small = (at_input - at_baseline).abs() <= self.least_difference * larger
            yield SMALL.per_sample(small.cpu().numpy())
            if not bool(small.all()):
                yield from _measurements(parts, ~small)

    def _scored(self, view: View) -> View:
        if self.score == "logit":
            return view
        return replace(view, outputs=lambda at, rows: view.outputs(at, rows).softmax(1))

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Networks whose attributions follow the output's change, squashed or not, and networks made for the opposite."""
        return (
            Control(
                "logit",
                "sound",
                "A small network trained on digits: from zero it is nearly homogeneous, so that its logit grows evenly along the path.",
                controls.digits_by("integrated-gradients"),
            ),
            Control(
                "probability",
                "sound",
                "The same network's probability levels off halfway, and its gradient with it: squashing alone fills no map.",
                controls.digits_by("integrated-gradients"),
                parameters={"score": "probability"},
            ),
            Control(
                "text",
                "sound",
                "A text classifier, explained at its token embeddings.",
                controls.words_by("integrated-gradients"),
            ),
            Control(
                "saturating-digits",
                "defect",
                "Logits of two copies of a digit level off, while gradients that cancel between the copies grow along the path.",
                saturating_by("digits"),
                because="excess_mass",
            ),
            Control(
                "saturating-table",
                "defect",
                "The same for a table that holds each column twice.",
                saturating_by("table"),
                because="excess_mass",
            ),
        )


def _measurements(parts: Split, defined: Tensor) -> Iterator[Yielded]:
    left, right = (part.double().flatten(1) for part in (parts.left, parts.right))
    masses = left.abs().sum(1), right.abs().sum(1)
    total = masses[0] + masses[1]
    mass = masses[1] / torch.where(total > 0, total, torch.ones_like(total))
    cosine = torch.nn.functional.cosine_similarity(left, left + right, dim=1).clamp(-1.0, 1.0)
    for quantity, values in (
        (POINT, parts.point),
        (MASS, mass),
        (OUTPUT, parts.output),
        (EXCESS, mass - parts.output),
        (COSINE, cosine),
    ):
        yield quantity.per_sample(values[defined].cpu().numpy())

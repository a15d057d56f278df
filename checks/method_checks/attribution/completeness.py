"""Completeness: do attributions add up to what the model's output changed by?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from method_cards.check import Check, Context, Control, Passes
from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_cards.measurement import Quantity, Yielded
from method_checks.attribution import controls
from method_checks.attribution.changes.passes import target_logits
from method_checks.attribution.explainers import Baseline, Explainer, resolve
from method_checks.attribution.explainers.references import reference_output, references

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from method_cards.subject import Subject

FEW = 8
"""So many examples with maps of one and the same size say that maps are rescaled."""

EXACT = 1e-4
"""How near to 1 a size must be for that."""

ABOVE = Quantity(
    "gap_above_tolerance",
    "proportion",
    "share of examples whose relative completeness gap is above the tolerance",
)
GAP = Quantity(
    "completeness_gap",
    "mean",
    "relative completeness gap of each example",
    range=(0.0, float("inf")),
)
SMALL = Quantity(
    "small_difference",
    "proportion",
    "share of examples whose output hardly differs from the baseline's, so that no relative gap can be stated",
)


def completeness_gap(attributions: Tensor, at_input: Tensor, at_baseline: Tensor) -> Tensor:
    """The relative completeness gap |Σφ − (f(x) − f(x'))| / |f(x) − f(x')|.

    Args:
        attributions: φ, ``(batch, ...)``.
        at_input: f(x), the explained logit, ``(batch,)``.
        at_baseline: f(x'), the same logit at the baseline, ``(batch,)``.

    Returns:
        ``(batch,)``, at least 0; infinite where f(x) equals f(x').
    """
    difference = at_input.double() - at_baseline.double()
    total = attributions.double().flatten(1).sum(1)
    return (total - difference).abs() / difference.abs()


def unit_of(attributions: Tensor) -> str:
    """By what attributions were rescaled, as far as it shows: which of their sizes is 1 in every example; empty where none is.

    Args:
        attributions: ``(batch, ...)``; of less than `FEW` examples nothing can be said.
    """
    flat = attributions.double().flatten(1)
    if len(flat) < FEW:
        return ""
    sizes = {
        "largest magnitude": flat.abs().amax(1),
        "sum of magnitudes": flat.abs().sum(1),
        "length": flat.norm(dim=1),
    }
    return next((name for name, size in sizes.items() if bool(((size - 1).abs() < EXACT).all())), "")


class Completeness(Check):
    """Attributions add up to the difference between the model's output at the input and at the baseline.

    What it measures:
        For each example the relative gap |Σφ − (f(x) − f(x'))| / |f(x) − f(x')|, where φ are the attributions, f the logit of the
        class that the model predicts, x the input and x' the baseline. `gap_above_tolerance` is the share of examples whose gap is
        above `tolerance`; `small_difference` is the share for which f(x) and f(x') differ by less than `least_difference` of the
        larger of the two, so that a relative gap would only amplify rounding: those are left out of the other two.

    Assumptions:
        The explainer claims to distribute a difference of outputs over the inputs, from a baseline that is known: its own, or
        `baseline` for explainers that have none. From a background of several baselines, as Expected Gradients have it, the difference is
        that from the mean of their outputs; its maps are means over draws and have a gap that shrinks with their number. Attributions
        must not have been rescaled: no normalised map can be complete. Maps of which every one has a largest magnitude, a sum of
        magnitudes or a length of 1, and which do not add up, are refused.

    Cost:
        One explanation and two forward passes for each example; Integrated Gradients with n steps makes n forward and backward
        passes for each.

    Departures from the paper:
        The axiom is an equality; a numerical integral meets it up to an error, so the share of examples beyond a tolerance is
        measured. The logit is explained, not the probability.

    Sources:
        sundararajan2017axiomatic
    """

    id: ClassVar[str] = "attribution/completeness"
    quantities: ClassVar[tuple[Quantity, ...]] = (ABOVE, GAP, SMALL)
    gates: ClassVar[tuple[str, ...]] = ("small_difference",)

    explainer: Explainer | None = Field(
        default=None, description="The explanation method; the subject's own where left out."
    )
    split: str = Field(default="test", description="The data split whose examples are explained.")
    tolerance: float = Field(
        default=0.05, gt=0, le=1, description="The relative gap up to which an example counts as complete."
    )
    least_difference: float = Field(
        default=0.01,
        gt=0,
        lt=1,
        description="The least difference between the outputs, relative to the larger of the two.",
    )
    baseline: Baseline = Field(default="zeros", description="The baseline of explainers that have none of their own.")

    def splits(self) -> tuple[str, ...]:
        """The split whose examples are explained."""
        return (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """Without an explainer there is nothing to check, and language models have no single class to explain."""
        return controls.not_applicable(subject, self.explainer)

    def passes(self, subject: Subject, samples: int) -> Passes:
        """The explanation, the class that is explained, and the output at both ends."""
        explainer = resolve(subject, self.explainer)
        return Passes(forward=(2 + references(explainer)) * samples) + explainer.passes(samples)

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Explain each batch and compare the sum of its attributions with the change of the output."""
        explainer = resolve(subject, self.explainer)
        seed = context.number("explainer")
        for batch in context.batches(self.split):
            view = subject.view(batch)
            attributions = explainer.explain(view, seed)
            with torch.no_grad():
                at_input = target_logits(view.outputs(view.features, view.rows), view.targets)
            at_baseline = reference_output(explainer, view, self.baseline)
            larger = torch.maximum(at_input.abs(), at_baseline.abs())
            small = (at_input - at_baseline).abs() <= self.least_difference * larger
            gaps = completeness_gap(attributions, at_input, at_baseline)[~small].cpu().numpy()
            unit = unit_of(attributions)
            if unit and len(gaps) and (gaps > self.tolerance).mean() > 0.5:  # noqa: PLR2004  (the greater part)
                raise CheckError(
                    f'the explainer "{explainer.method}" gives maps whose {unit} is 1 for all of {len(batch)} examples: they were '
                    "rescaled, and no rescaled map adds up to a change of the output; give the attributions as they were computed"
                )
            yield SMALL.per_sample(small.cpu().numpy())
            if gaps.size:
                yield ABOVE.per_sample(gaps > self.tolerance)
                yield GAP.per_sample(gaps)

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Integrated Gradients is complete by construction; input times gradient is not, on a network that saturates."""
        return (
            Control(
                "integrated-gradients",
                "sound",
                "A small convolutional network trained on digits, explained by Integrated Gradients with 64 steps.",
                controls.digits_by("integrated-gradients"),
            ),
            Control(
                "input-x-gradient",
                "defect",
                "The same network, explained by input times gradient, which only follows the tangent at the input.",
                controls.digits_by("input-x-gradient"),
                because="gap_above_tolerance",
            ),
            Control(
                "too-few-steps",
                "defect",
                "The same network, explained by Integrated Gradients with a single step.",
                controls.digits_by("integrated-gradients", steps=1),
                because="gap_above_tolerance",
            ),
        )

"""The input multiplier: how much of a map of magnitudes is the input, carried there by a product?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from method_cards.check import Check, Context, Control, Passes
from method_cards.lazy import torch
from method_cards.measurement import Quantity, Yielded
from method_checks.attribution import controls
from method_checks.attribution.explainers import Baseline, Explainer, resolve
from method_checks.attribution.explainers.references import reference_of
from method_checks.attribution.explainers.shared import explained
from method_checks.attribution.maps.similarity import correlation, ranked
from method_checks.attribution.networks.randomization import random_state, recalibrated, swapped
from method_checks.attribution.networks.stages import running_statistics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor, nn

    from method_cards.subject import Subject, View
    from method_checks.attribution.maps.similarity import Ranked

CALIBRATION = 64
"""How many examples give a random network's norm layers their statistics."""

RANGE = (-1.0, 1.0)

INPUT = Quantity(
    "input_correlation",
    "mean",
    "rank correlation of the map's magnitudes with the size of the input, |x - x'|",
    range=RANGE,
)
UNTRAINED = Quantity(
    "untrained_input_correlation",
    "mean",
    "rank correlation of the magnitudes of an untrained network's map with the size of the input",
    range=RANGE,
)
SIMILARITY = Quantity(
    "untrained_similarity",
    "mean",
    "rank correlation of the magnitudes of the trained and an untrained network's map",
    range=RANGE,
)
REST = Quantity(
    "similarity_without_input",
    "mean",
    "the same with the size of the input held fixed (partial rank correlation)",
    range=RANGE,
)
MADE = Quantity(
    "similarity_by_input",
    "mean",
    "what of the similarity goes away when the size of the input is held fixed, cut off at -1 and 1",
    range=RANGE,
)
UNDEFINED = Quantity(
    "constant_maps",
    "proportion",
    "share of examples whose magnitudes, or whose input, are the same at every position, so that there is no order",
)


@dataclass(frozen=True)
class Agreement:
    """How one map, another, and the input agree, each ``(batch,)``.

    Attributes:
        with_input: Rank correlation of the first map with the input.
        other_with_input: Of the second map with the input.
        between: Of the two maps.
        rest: Of the two maps with the input held fixed.
    """

    with_input: Tensor
    other_with_input: Tensor
    between: Tensor
    rest: Tensor


def partial_correlation(between: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The correlation of two variables with a third held fixed, (r − r₁r₂) / √((1 − r₁²)(1 − r₂²)).

    Args:
        between: r of the two, ``(batch,)``.
        first: r₁ of the first with the third.
        second: r₂ of the second with the third.

    Returns:
        ``(batch,)`` in [-1, 1]; 0 where one of the two is a function of the third, so that nothing is left of it.
    """
    left = ((1 - first.square()) * (1 - second.square())).clamp(min=0).sqrt()
    is_left = left > 1e-9  # noqa: PLR2004  (rounding of a correlation of 1)
    return torch.where(is_left, (between - first * second) / torch.where(is_left, left, 1.0), 0.0).clamp(-1.0, 1.0)


def agreement(one: Ranked, other: Ranked, size: Ranked) -> Agreement:
    """How two maps of magnitudes agree, and how each agrees with the size of the input."""
    first, second, between = correlation(one, size), correlation(other, size), correlation(one, other)
    return Agreement(first, second, between, partial_correlation(between, first, second))


class InputMultiplier(Check):
    """A map of magnitudes is not the input's own picture, carried into it by a multiplication.

    What it measures:
        Maps of magnitudes of the trained network and of `networks` networks with all parameters random are compared for each example by
        Spearman's rank correlation r, with each other and with |x − x'|, the distance of the input from the baseline. What an untrained
        network's map shares with the trained one's cannot have been learned. `similarity_by_input` is the part of that similarity
        which goes away when |x − x'| is held fixed (r less the partial rank correlation): a product a = (x − x')·u makes any two maps
        alike in this way, whatever u is. `similarity_without_input` is what remains, as of an edge filter, which sees no model but is no
        product either. The two `input_correlation` quantities say how far each map alone follows the input. `constant_maps` is the share
        of examples without an order; they are left out of all others.

    Assumptions:
        Magnitudes are looked at: signs are not touched by this artefact in the same way. The size of the input does not itself say what is
        important; where it does (bright objects on black), a trained map follows it for a good reason, which is why untrained networks are
        asked. Methods that restore the input by another route than a product, Guided Backprop for one, are found too. Baselines are those
        of the explainer, or `baseline` for explainers that have none.

    Cost:
        One explanation by the trained model and one by each untrained network for each example.

    Departures from the paper:
        The paper shows similarity scores with and without the multiplier; a person's map cannot always be had without it, so the input's
        part is taken out by partial correlation. Several untrained networks instead of one. The paper was read in its abstract only.

    Sources:
        kokhlikyan2021investigating; adebayo2018sanity
    """

    id: ClassVar[str] = "attribution/input-multiplier"
    quantities: ClassVar[tuple[Quantity, ...]] = (INPUT, UNTRAINED, SIMILARITY, REST, MADE, UNDEFINED)
    gates: ClassVar[tuple[str, ...]] = ("constant_maps",)

    explainer: Explainer | None = Field(
        default=None, description="The explanation method; the subject's own where left out."
    )
    split: str = Field(default="test", description="The data split whose examples are explained.")
    networks: int = Field(default=3, ge=1, le=20, description="How many untrained networks are drawn.")
    baseline: Baseline = Field(default="zeros", description="The baseline of explainers that have none of their own.")

    def splits(self) -> tuple[str, ...]:
        """The split whose examples are explained."""
        return (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """Without an explainer there is nothing to check, and language models have no single class to explain."""
        return controls.not_applicable(subject, self.explainer)

    def passes(self, subject: Subject, samples: int) -> Passes:
        """The explained classes, the explanations, and a calibration batch for each untrained network."""
        calibrations = self.networks if _statistics(subject.model) else 0
        total = Passes(forward=samples + calibrations * min(CALIBRATION, samples))
        for _ in range(1 + self.networks):
            total += resolve(subject, self.explainer).passes(samples)
        return total

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Explain each batch under the trained and the untrained networks, and take the input out of the comparison."""
        explainer = resolve(subject, self.explainer)
        untrained = self._untrained(subject, context)
        for batch in context.batches(self.split):
            view = subject.view(batch)
            reference = reference_of(explainer, view, self.baseline)
            size = ranked(view.as_map((view.features - reference).abs()), view.mask)
            trained = _magnitudes(view, explained(context, explainer, view))
            undefined = trained.constant | size.constant
            found = []
            for draw, state in enumerate(untrained):
                with swapped(subject.model, state):
                    random = subject.view(batch, view.targets)
                    map_ = _magnitudes(random, explainer.explain(random, context.number("explainer", draw)))
                found.append(agreement(trained, map_, size))
                undefined |= map_.constant
            yield UNDEFINED.per_sample(undefined.cpu().numpy())
            if not bool(undefined.all()):
                yield from _measurements(found, ~undefined)

    def _untrained(self, subject: Subject, context: Context) -> list[Mapping[str, Tensor]]:
        """Parameters and buffers of untrained networks."""
        first = subject.batch(self.split, context.indices(self.split)[:CALIBRATION])
        buffers = _statistics(subject.model)
        found: list[Mapping[str, Tensor]] = []
        for draw in range(self.networks):
            state = random_state(subject.model, context.generator("parameters", draw)).state
            with swapped(subject.model, state):
                found.append({**state, **recalibrated(subject.model, buffers, lambda: subject.outputs(first))})
        return found

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """The same explanation with and without the product."""
        return (
            Control(
                "unmultiplied",
                "sound",
                "A small convolutional network trained on digits, explained by Integrated Gradients without the multiplication.",
                controls.digits_by("integrated-gradients", multiply_by_inputs=False, steps=16),
            ),
            Control(
                "gradient",
                "sound",
                "The same network, explained by its gradient.",
                controls.digits_by("gradient"),
            ),
            Control(
                "gradient-of-a-table",
                "sound",
                "A classifier of a table, explained by its gradient.",
                controls.table_by("gradient"),
            ),
            Control(
                "multiplied",
                "defect",
                "The digits network, explained by Integrated Gradients with the multiplication.",
                controls.digits_by("integrated-gradients", steps=16),
                because="similarity_by_input",
            ),
            Control(
                "input-x-gradient",
                "defect",
                "The digits network, explained by input times gradient.",
                controls.digits_by("input-x-gradient"),
                because="similarity_by_input",
            ),
            Control(
                "input-x-gradient-of-a-table",
                "defect",
                "The classifier of a table, explained by input times gradient.",
                controls.table_by("input-x-gradient"),
                because="similarity_by_input",
            ),
        )


def _statistics(model: nn.Module) -> list[str]:
    """The names of all running statistics of norm layers."""
    return [f"{name}.{key}" for name, module in model.named_modules() for key in running_statistics(module)]


def _magnitudes(view: View, attributions: Tensor) -> Ranked:
    return ranked(view.as_map(attributions.abs()), view.mask)


def _measurements(found: list[Agreement], defined: Tensor) -> Iterator[Yielded]:
    """The means over the untrained networks, of the examples that have an order."""
    parts = {
        INPUT: [one.with_input for one in found],
        UNTRAINED: [one.other_with_input for one in found],
        SIMILARITY: [one.between for one in found],
        REST: [one.rest for one in found],
        MADE: [(one.between - one.rest).clamp(-1.0, 1.0) for one in found],
    }
    for quantity, values in parts.items():
        yield quantity.per_sample(torch.stack(values).mean(0)[defined].cpu().numpy())

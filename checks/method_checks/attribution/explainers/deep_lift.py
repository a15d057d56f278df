"""DeepLIFT: each activation passes back its change from a reference, in place of its derivative."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from method_cards.check import Passes
from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_checks.attribution.explainers.base import Baseline, Bundled, baseline_of
from method_checks.attribution.explainers.gradients import gradients_at
from method_checks.attribution.explainers.rules import ELEMENTWISE, LEAST, POOLS, Call, derived, ratios, with_rules

if TYPE_CHECKING:
    from torch import Tensor

    from method_cards.subject import View
    from method_checks.attribution.explainers.generators import Generators


class DeepLift(Bundled):
    """How far each feature moves from a baseline, times the multiplier of the rescale rule.

    Activations pass back the ratio of their change to their input's change; a maximum over a window divides its change between
    the places where it was and where it is. A model that computes anything else that is not linear is refused.
    """

    title: ClassVar[str] = "DeepLIFT"
    sources: ClassVar[tuple[str, ...]] = ("shrikumar2017learning", "ancona2018towards")

    method: Literal["deep-lift"] = "deep-lift"
    baseline: Baseline = Field(default="zeros", description="The reference.")
    multiply_by_inputs: bool = Field(default=True, description="Whether to multiply by features minus baseline.")

    @property
    def claims_completeness(self) -> bool:
        """True, unless the multiplication is left out."""
        return self.multiply_by_inputs

    @property
    def multiplied(self) -> bool:
        """True, unless the multiplication is left out."""
        return self.multiply_by_inputs

    def passes(self, samples: int) -> Passes:
        """One forward and backward pass for each example, and one for its reference."""
        return Passes(backward=2 * samples)

    def reference(self, view: View) -> Tensor:
        """The reference that activations are compared with."""
        return baseline_of(view.features, self.baseline, view.mask)

    def _attributions(self, view: View, generators: Generators) -> Tensor:  # noqa: ARG002
        start = self.reference(view)
        rules = dict.fromkeys(ELEMENTWISE, rescaled) | dict.fromkeys(POOLS, _pooled)
        ruled = with_rules(view, rules, self.method)

        def of_pairs(features: Tensor, rows: Tensor) -> Tensor:
            return ruled.outputs(torch.cat([features, start[rows]]), rows.repeat(2))[: len(rows)]

        pairs = replace(view, outputs=of_pairs)
        multipliers = gradients_at(pairs, view.features, view.rows, block=max(1, view.block // 2))
        return multipliers * (view.features - start) if self.multiply_by_inputs else multipliers


def rescaled(call: Call) -> Tensor:
    """An elementwise function of inputs and references, ``(2 batch, ...)``, with the ratio of changes as its derivative."""
    x, _ = _halves(call)
    values = call.on(call.input.detach())
    change, moved = (part[: len(x)].detach() - part[len(x) :].detach() for part in (call.input, values))
    return torch.cat([derived(values[: len(x)], ratios(call, x, change, moved) * x), values[len(x) :]])


def _pooled(call: Call) -> Tensor:
    """A maximum over windows of inputs and references, its change divided between the two places where it is reached.

    With y and y' the maxima of a window, the place of y gets max(y, y') - y' and that of y' the rest, y - max(y, y').
    """
    x, reference = _halves(call)
    values, places = call.on(call.input.detach(), **{**call.named, "return_indices": True})
    half, flat = len(x), x.flatten(2)
    before = reference.detach().flatten(2)
    y, y_before = values[:half].flatten(2), values[half:].flatten(2)
    larger = torch.maximum(y, y_before)
    way = torch.zeros_like(y)
    for at, share, otherwise in ((places[:half], larger - y_before, 1.0), (places[half:], y - larger, 0.0)):
        where = at.flatten(2)
        here = flat.gather(2, where)
        change = here.detach() - before.gather(2, where)
        small = change.abs() < LEAST
        way = way + torch.where(small, otherwise, share / change.masked_fill(small, 1)) * here
    return torch.cat([derived(values[:half], way.reshape(values[:half].shape)), values[half:]])


def _halves(call: Call) -> tuple[Tensor, Tensor]:
    """The inputs and their references, which stand one after the other."""
    half, odd = divmod(len(call.input), 2)
    if odd:
        raise CheckError(
            'explainer "deep-lift": the model puts another axis than that of the examples first, so an input cannot be told '
            "from its reference; use integrated-gradients"
        )
    return call.input[:half], call.input[half:]

"""Derivatives along straight lines from baselines to the input."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from method_cards.check import Passes
from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_checks.attribution.explainers.base import Baseline, Bundled, baseline_of, groups
from method_checks.attribution.explainers.gradients import Quadrature, Rule, average_gradients, gradients_at, quadrature
from method_checks.attribution.explainers.masks import logits_without

if TYPE_CHECKING:
    from torch import Tensor

    from method_cards.subject import Subject, View
    from method_checks.attribution.explainers.generators import Generators


class IntegratedGradients(Bundled):
    """The derivative averaged over the straight line from a baseline to the features, times how far each feature moves.

    Gauss-Legendre quadrature is the default, as in Captum: at the same number of steps its completeness gap is that of
    the midpoint rule where ReLU or max-pooling put kinks into the integrand, and thousands of times smaller where the
    network is smooth. The trapezoid rule is the textbook's: its weights sum to 1, Captum's to ``(steps - 1) / steps``.

    The left part ends with the first point at which the logit has made more than ``split_at`` of its whole change, the right
    part begins after it; the two add up to the whole.
    """

    title: ClassVar[str] = "Integrated Gradients"
    sources: ClassVar[tuple[str, ...]] = ("sundararajan2017axiomatic", "miglani2020investigating")

    method: Literal["integrated-gradients"] = "integrated-gradients"
    steps: int = Field(default=64, ge=1, le=4096, description="Points on the line at which the gradient is taken.")
    quadrature: Quadrature = Field(default="gauss-legendre", description="Where on the line the points lie.")
    baseline: Baseline = Field(default="zeros", description="Where the line starts.")
    multiply_by_inputs: bool = Field(default=True, description="Whether to multiply by features minus baseline.")
    part: Literal["whole", "left", "right"] = Field(
        default="whole",
        description="Which points count: all, those up to where the output has made `split_at` of its change, or those after it.",
    )
    split_at: float = Field(
        default=0.9, gt=0, lt=1, description="The share of the change of the output at which left and right part."
    )
    block: int | None = Field(
        default=None,
        ge=1,
        description="Points that go through the model at once; what the engine measured where left out.",
    )

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.quadrature == "trapezoid" and self.steps == 1:
            raise ValueError("the trapezoid rule needs at least 2 steps, one for each end of the line")
        return self

    @property
    def claims_completeness(self) -> bool:
        """True for the whole line, unless the multiplication is left out."""
        return self.multiply_by_inputs and self.part == "whole"

    @property
    def multiplied(self) -> bool:
        """True, unless the multiplication is left out."""
        return self.multiply_by_inputs

    def passes(self, samples: int) -> Passes:
        """One forward and backward pass for each point on each line; for a part of it, a forward pass more, and two for its ends."""
        forward = 0 if self.part == "whole" else self.steps + 2
        return Passes(forward=forward * samples, backward=self.steps * samples)

    def baseline_of(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """The features at which the line starts; see the function `baseline_of`."""
        return baseline_of(features, self.baseline, mask)

    def reference(self, view: View) -> Tensor:
        """Where the line starts."""
        return self.baseline_of(view.features, view.mask)

    def _attributions(self, view: View, generators: Generators) -> Tensor:  # noqa: ARG002
        start = self.baseline_of(view.features, view.mask)
        rule = quadrature(self.quadrature, self.steps)
        view = replace(view, block=self.block or view.block)
        average = average_gradients(view, start, rule, view.block, self._parted(view, start, rule))
        return average * (view.features - start) if self.multiply_by_inputs else average

    def _parted(self, view: View, start: Tensor, rule: Rule) -> Tensor | None:
        """Which points count, ``(step, batch)`` 0 or 1; None when all do."""
        if self.part == "whole":
            return None
        ends = torch.tensor([0.0, *rule[0], 1.0], dtype=torch.float64).reshape(-1, *[1] * view.content.dim())
        shape = view.content[:1].shape
        found = []
        for rows in view.rows.split(view.block):
            logits = logits_without(
                view, rows, start, len(ends), lambda first, last: ends[first:last].expand(last - first, *shape)
            )
            change = logits[-1] - logits[0]
            beyond = (logits[1:-1] - logits[0]) * change.sign() > self.split_at * change.abs()
            earlier = beyond.cumsum(0) - beyond.int()  # how many points before this one were beyond
            found.append(earlier == 0)
        left = torch.cat(found, 1)
        return (left if self.part == "left" else ~left).to(view.features)


class ExpectedGradients(Bundled):
    """Integrated Gradients averaged over baselines that are drawn from data, a point on the line drawn with each.

    The background is a fixed draw from a split of the subject, the same for all examples: never the examples beside one.
    Attributions add up, but for the draws, to the logit's difference from its mean over the background.
    """

    title: ClassVar[str] = "Expected Gradients"
    sources: ClassVar[tuple[str, ...]] = ("erion2021improving",)
    own_data: ClassVar[bool] = True

    method: Literal["expected-gradients"] = "expected-gradients"
    samples: int = Field(default=64, ge=1, le=4096, description="Pairs of a baseline and a point, for each example.")
    split: str = Field(default="train", description="The split that the baselines come from.")
    background: int = Field(default=64, ge=1, le=4096, description="How many of its examples are baselines.")
    _subject: Subject | None = PrivateAttr(default=None)

    @property
    def multiplied(self) -> bool:
        """True."""
        return True

    @property
    def is_random(self) -> bool:
        """True."""
        return True

    def passes(self, samples: int) -> Passes:
        """One forward and backward pass for each pair."""
        return Passes(backward=self.samples * samples)

    def bound(self, subject: Subject) -> Self:
        """The same method, which knows where its background comes from.

        Raises:
            CheckError: The subject has no such split.
        """
        subject.split(self.split)
        found = self.model_copy()
        found._subject = subject  # noqa: SLF001  (its own kind)
        return found

    def _attributions(self, view: View, generators: Generators) -> Tensor:
        baselines = self.baselines(view)
        found = []
        for rows in groups(view, self.samples):
            drawn = [self._drawn(len(baselines), generators.row(row)) for row in rows.tolist()]
            starts = torch.stack([baselines[chosen] for chosen, _ in drawn], 1)
            points = torch.stack([point for _, point in drawn], 1).to(starts)
            ways = view.features[rows] - starts
            line = starts + points.reshape(*points.shape, *[1] * (starts.dim() - 2)) * ways
            gradients = gradients_at(view, line.flatten(0, 1), rows.repeat(self.samples)).reshape(line.shape)
            found.append((gradients * ways).mean(0))
        return torch.cat(found)

    def _drawn(self, baselines: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Numbers of baselines, and points on the lines from them."""
        device, shape = generator.device, (self.samples,)
        chosen = torch.randint(baselines, shape, generator=generator, device=device)
        return chosen, torch.rand(shape, generator=generator, device=device)

    def reference(self, view: View) -> Tensor:
        """The mean of the baselines."""
        return self.baselines(view).mean(0).expand_as(view.features)

    def baselines(self, view: View) -> Tensor:
        """The background, ``(baseline, ...)``, the same for all examples.

        Raises:
            CheckError: The method was not got by `resolve`, or the background has another shape than the features.
        """
        if self._subject is None:
            raise CheckError(
                'explainer "expected-gradients" takes its background from a subject; get it by `resolve`, or by its `bound`'
            )
        indices = self._subject.split(self.split).draw(self.background, seed=0)
        features = self._subject.adapter.features(self._subject.batch(self.split, indices).inputs)
        if features.shape[1:] != view.features.shape[1:]:
            raise CheckError(
                f'explainer "expected-gradients": examples of "{self.split}" have features {tuple(features.shape[1:])}, those that '
                f"are explained {tuple(view.features.shape[1:])}; use integrated-gradients, whose baseline fits any length"
            )
        return features

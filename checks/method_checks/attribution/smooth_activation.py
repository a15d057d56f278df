"""Smooth activations: would maps be better if the kinks of the network were smooth?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from method_cards.check import Check, Context, Control, Passes
from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_cards.measurement import Quantity, Yielded
from method_cards.subject import Subject
from method_checks.attribution import controls
from method_checks.attribution.changes.draws import Draws
from method_checks.attribution.changes.fidelity import (
    Perturbation,
    explained,
    noise,
    perturbation_for,
    removal,
    unreadable,
    variation,
)
from method_checks.attribution.changes.stability import neighbours, relative
from method_checks.attribution.explainers import METHODS, Baseline, Explainer, resolve
from method_checks.attribution.explainers.references import reference_of
from method_checks.attribution.explainers.shared import explained as explained_by
from method_checks.attribution.networks.smoothing import Smooth

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from method_cards.subject import View
    from method_checks.attribution.explainers import CustomExplainer

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""How much of an example is removed, in turn."""

CHANGED = Quantity(
    "changed_prediction",
    "proportion",
    "share of examples that the smooth network puts into another class",
)
GAIN = Quantity(
    "explained_gain",
    "mean",
    "share of the variance of the output's change that the smooth network's map explains, less that of the network's own map",
    range=(-1.0, 1.0),
)
INFIDELITY = Quantity(
    "infidelity_ratio",
    "mean",
    "what the smooth network's map leaves unexplained, over the sum of both maps' parts: below 0.5 where smoothing helps",
)
SENSITIVITY = Quantity(
    "sensitivity_ratio",
    "mean",
    "average sensitivity of the smooth network's map, over the sum of both: below 0.5 where smoothing makes maps steadier",
)
UNCHANGED = Quantity(
    "unchanged_output",
    "proportion",
    "share of examples whose output hardly depends on what is perturbed, so that there is nothing to predict",
)


class SmoothActivation(Check):
    """A map is about as good as that of the same network with smooth activations.

    What it measures:
        Each ReLU of the network becomes Softplus and each max-pooling the logarithm of a sum of exponentials, of sharpness `beta`, at
        the same parameters. The map of this smooth network and the network's own are compared as descriptions of the original network.
        `explained_gain` is how much more of the variance of its output's change under perturbation the smooth map explains; where it is
        large, the roughness of the network's own map comes from its kinks, and the smooth map should be shown instead. The ratios put
        infidelity and average sensitivity of the two maps side by side: smooth / (smooth + original), one half when they are equal.

    Assumptions:
        The smooth network is a stand-in for the original: `changed_prediction` is the share of examples for which it predicts another
        class. Operations are replaced wherever PyTorch sees them called, in modules and functions alike, also inside an explainer;
        compiled code, adaptive pooling, and other activations stay as they are. Methods that rewrite the ReLU's backward pass have
        nothing left to rewrite. Perturbations are those of the check `attribution/infidelity`.

    Cost:
        One explanation of the network and of the smooth one, and `points` of each nearby; `draws` + 2 `points` + 4 forward passes.

    Departures from the paper:
        Both maps are judged by the original network, which is the one that decides, where the paper judges explanations of each network.
        Ratios are bounded. Whether to retrain with smooth activations is not asked.

    Sources:
        kokhlikyan2021investigating; dombrowski2019explanations; yeh2019infidelity
    """

    id: ClassVar[str] = "attribution/smooth-activation"
    quantities: ClassVar[tuple[Quantity, ...]] = (CHANGED, GAIN, INFIDELITY, SENSITIVITY, UNCHANGED)
    gates: ClassVar[tuple[str, ...]] = ("changed_prediction", "unchanged_output")

    explainer: Explainer | None = Field(
        default=None, description="The explanation method; the subject's own where left out."
    )
    split: str = Field(default="test", description="The data split whose examples are explained.")
    beta: float = Field(default=20.0, gt=0, le=1e4, description="Sharpness of the smooth operations.")
    perturbation: Perturbation | None = Field(
        default=None,
        description="How inputs are perturbed and maps are read; what fits the explainer where left out.",
    )
    draws: int = Field(
        default=60, ge=15, le=10_000, multiple_of=5, description="How often each example is perturbed for infidelity."
    )
    scale: float = Field(
        default=0.1, gt=0, le=1, description="Standard deviation of the noise, as a share of each example's range."
    )
    baseline: Baseline = Field(
        default="zeros", description="What replaces what is removed, for explainers that have no baseline of their own."
    )
    points: int = Field(default=5, ge=2, le=1000, description="How many points around each input are explained.")
    radius: float = Field(
        default=0.02, gt=0, le=1, description="How far these points are, as a share of each example's range."
    )
    least_change: float = Field(
        default=1e-3, gt=0, lt=1, description="The least standard deviation of the output, relative to its size."
    )

    def splits(self) -> tuple[str, ...]:
        """The split whose examples are explained."""
        return (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """Where nothing can be replaced there is no smooth network to compare with."""
        reason = controls.not_applicable(subject, self.explainer) or unreadable(
            subject, self.explainer, self.perturbation
        )
        if reason:
            return reason
        method = controls.method_of(subject, self.explainer)
        if method in METHODS and METHODS[method].guides_relu:
            return f'The explainer "{method}" changes how gradients pass ReLUs, and the smooth network has none.'
        with Smooth(self.beta) as smooth:
            try:
                subject.outputs(subject.batch(self.split, (0,)))
            except CheckError as error:
                return str(error)
        if not smooth.replaced:
            return "The model calls no ReLU and no max-pooling that PyTorch can replace: its activations are smooth, or it is compiled."
        if smooth.pools and method == "deep-lift":
            return 'The explainer "deep-lift" has a rule of its own for max-pooling, and the smooth network has none.'
        return ""

    def passes(self, subject: Subject, samples: int) -> Passes:
        """Both explanations, here and nearby, the outputs there, and those of the perturbed examples."""
        explainer = resolve(subject, self.explainer)
        total = Passes(forward=(self.draws + 2 * self.points + 5) * samples)
        for _ in range(2 * (self.points + 1)):
            total += explainer.passes(samples)
        return total

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Explain each batch by the network and by the smooth one, and judge both maps by the network."""
        explainer = resolve(subject, self.explainer)
        perturbation = perturbation_for(explainer, self.perturbation)
        for batch in context.batches(self.split):
            view = subject.view(batch)
            own = explained_by(context, explainer, view)
            with Smooth(self.beta), torch.no_grad():
                predicted = view.outputs(view.features, view.rows).argmax(1)
            with Smooth(self.beta):
                smooth = explainer.explain(view, context.number("smooth"))
            yield CHANGED.per_sample((predicted != view.targets).cpu().numpy())
            shares, kept = self._explained(view, own, smooth, explainer, perturbation, context)
            yield UNCHANGED.per_sample((~kept).cpu().numpy())
            if bool(kept.any()):
                left = (1 - shares)[:, kept]
                yield GAIN.per_sample((shares[1] - shares[0])[kept].cpu().numpy())
                yield INFIDELITY.per_sample(share_of(left[1], left[0]).cpu().numpy())
            moved = self._moved(view, own, explainer, context)
            with Smooth(self.beta):
                smooth_moved = self._moved(view, smooth, explainer, context)
            yield SENSITIVITY.per_sample(share_of(smooth_moved, moved).cpu().numpy())

    def _explained(
        self,
        view: View,
        own: Tensor,
        smooth: Tensor,
        explainer: Explainer | CustomExplainer,
        perturbation: Perturbation,
        context: Context,
    ) -> tuple[Tensor, Tensor]:
        """What each of the two maps explains, ``(2, batch)``, and for which examples there was anything to explain."""
        draws = Draws.of(context, view.batch, "perturbations")
        if perturbation == "noise":
            found = noise(view, (own, smooth), draws=draws, count=self.draws, scale=self.scale)
        else:
            away = reference_of(explainer, view, self.baseline)
            found = removal(view, (own, smooth), draws=draws, count=self.draws, shares=SHARES, baseline=away, patch=1)
        return explained(found), variation(found) > self.least_change

    def _moved(self, view: View, own: Tensor, explainer: Explainer | CustomExplainer, context: Context) -> Tensor:
        found = neighbours(
            view,
            own,
            explainer,
            draws=Draws.of(context, view.batch, "points"),
            seed=context.number("explainer"),
            count=self.points,
            radius=self.radius,
        )
        return relative(found.moved, found.length).mean(0)

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Networks whose kinks do not matter, and one whose gradient is all kinks."""
        return (
            Control(
                "gradient",
                "sound",
                "A small convolutional network trained on digits, explained by its gradient; its kinks hardly move the map.",
                controls.digits_by("gradient"),
            ),
            Control(
                "gradient-of-texts",
                "sound",
                "A small network that classifies texts, with ReLUs that are called as functions, explained by its gradient.",
                controls.words_by("gradient"),
            ),
            Control(
                "gradient-of-a-table",
                "sound",
                "A small network that classifies rows of a table, explained by its gradient.",
                controls.table_by("gradient"),
            ),
            Control(
                "zigzag",
                "defect",
                "The network for digits behind a zigzag of ReLUs, small in value and steep in slope: its gradient is the zigzag's.",
                zigzag,
                because="explained_gain",
            ),
        )


def share_of(one: Tensor, other: Tensor) -> Tensor:
    """One / (one + other), for numbers that are not negative; one half where both are 0."""
    total = one + other
    return torch.where(total > 0, one / total.where(total > 0, 1), 0.5)


def zigzag(seed: int, period: float = 0.05, slope: float = 3.0) -> Subject:
    """Digits, explained by the gradient of a network that first adds a triangle wave to each pixel, made of ReLUs."""

    class Zigzag(torch.nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            kinks = torch.arange(-1, 1 + 1 / period, device=x.device) * period
            turns = torch.where(torch.arange(len(kinks), device=x.device) % 2 == 0, 2.0, -2.0)
            turns[0] = 1.0
            wave = (torch.relu(x[..., None] - kinks) * turns).sum(-1)
            found: Tensor = self.inner(x + slope * (wave - period / 2))
            return found

    plain = controls.digits_by("gradient")(seed)
    return Subject("zigzag", plain.task, Zigzag(plain.model).eval(), plain.data, explainer={"method": "gradient"})

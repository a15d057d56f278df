"""Attribution against direct queries: does the sign of an attribution tell what the model does when a feature is raised?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from method_cards.check import Check, Context, Control, Passes
from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_cards.measurement import Quantity, Yielded
from method_checks.attribution import controls
from method_checks.attribution.changes.passes import outputs_of, target_logits
from method_checks.attribution.explainers import Explainer, resolve
from method_checks.attribution.explainers.shared import explained

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from method_cards.subject import Subject, View

BACKWARD = 2.3
"""How many forward passes a forward and backward pass counts for, as in a run's plan."""

SPREAD_FROM = 256
"""So many examples tell how far a feature usually varies."""

ATTRIBUTION = Quantity(
    "attribution_youden",
    "mean",
    "sensitivity plus specificity less 1 of the attribution's sign as a test of whether raising a feature lowers the logit; guessing has 0",
    range=(-1.0, 1.0),
)
DIRECT = Quantity(
    "direct_youden",
    "mean",
    "the same for asking the model with as many passes as the explanation takes",
    range=(-1.0, 1.0),
)
ADVANTAGE = Quantity(
    "direct_advantage",
    "mean",
    "Youden's J of asking the model less that of the attribution, at the same cost",
    range=(-2.0, 2.0),
)
ONE_SIDED = Quantity(
    "one_sided",
    "proportion",
    "share of examples in which raising lowers the logit for all features or for none, so that J is not defined",
)


def youden(lowers: Tensor, predicted: Tensor, counted: Tensor) -> Tensor:
    """Youden's J over the features of each example: sensitivity + specificity − 1.

    Args:
        lowers: Whether raising the feature lowers the output, ``(batch, feature)`` bool.
        predicted: How far this was predicted, ``(batch, feature)`` in [0, 1]; 1/2 for no answer.
        counted: Which features have an effect at all, ``(batch, feature)`` bool.

    Returns:
        ``(batch,)`` float64 in [-1, 1]; 0 where an example has features of one kind only.
    """
    weights = predicted.double()
    positives, negatives = lowers & counted, ~lowers & counted
    sensitivity = (weights * positives).sum(1) / positives.sum(1).clamp(min=1)
    specificity = ((1 - weights) * negatives).sum(1) / negatives.sum(1).clamp(min=1)
    both = positives.any(1) & negatives.any(1)
    return (sensitivity + specificity - 1).masked_fill(~both, 0)


def regions(features: Tensor, patches: int) -> Tensor:
    """Which positions make up each feature of the test, ``(feature, *features of an example)`` float, zeros and ones.

    Columns are features of their own; an image is cut into at most ``patches`` by ``patches`` rectangles.

    Raises:
        CheckError: The features are neither columns nor images.
    """
    if features.dim() == 2:  # noqa: PLR2004  (batch, column)
        return torch.eye(features.shape[1], device=features.device)
    if features.dim() != 4:  # noqa: PLR2004  (batch, channel, height, width)
        raise CheckError(
            f"features of shape {tuple(features.shape[1:])} cannot be raised; columns or images are needed"
        )
    height, width = features.shape[-2:]
    down, across = (torch.arange(size, device=features.device) * min(patches, size) // size for size in (height, width))
    numbers = down[:, None] * min(patches, width) + across
    found = numbers == torch.arange(int(numbers.max()) + 1, device=features.device)[:, None, None]
    return found[:, None].expand(-1, features.shape[1], -1, -1).to(features.dtype)


def asked(points: int, grid: int) -> list[int]:
    """Which of the grid's points are asked when only so many may be: in the middle of as many equal parts."""
    return [int((number + 0.5) * grid / points) for number in range(points)]


class AttributionVsDirectQuery(Check):
    """The sign of an attribution tells whether raising a feature raises or lowers the output, about as well as asking the model does.

    What it measures:
        For each feature i the hypothesis "raising x_i by up to δ lowers f", where f is the logit of the predicted class. The truth comes
        from the model: the mean of f(x + s e_i) − f(x) over a fine grid of steps s in (0, δ]. The attribution's test says "lowers" when
        φ_i is negative; 0 is no answer and counts half. Youden's J = sensitivity + specificity − 1 is taken over the features of each
        example: guessing has 0 whatever the share of either kind. `direct_youden` is the J of asking the model at as few points of
        the grid as the explanation's own passes pay for; features for which nothing is left are guessed. Columns are raised one by
        one by `delta` standard deviations of the column, images in patches by `delta` standard deviations of all pixels.

    Assumptions:
        The question is local: what happens when one feature is raised and all others stay. An attribution that answers another question,
        such as what the feature contributed compared with a baseline, may be right about that and fail here; then its sign must not be
        read as an effect. A forward and backward pass counts as 2.3 forward passes. Features without any effect are left out.

    Cost:
        One explanation, and one forward pass for each feature and point of the grid.

    Departures from the paper:
        The paper proves bounds for distributions of models and reports sensitivity and specificity in experiments; here one model is
        judged, over its examples and features. The truth is the mean over a grid, the direct test uses part of that grid, and a
        feature that is not asked is guessed in expectation.

    Sources:
        bilodeau2024impossibility
    """

    id: ClassVar[str] = "attribution/attribution-vs-direct-query"
    title: ClassVar[str] = "Attribution against a direct query"
    quantities: ClassVar[tuple[Quantity, ...]] = (ATTRIBUTION, DIRECT, ADVANTAGE, ONE_SIDED)
    gates: ClassVar[tuple[str, ...]] = ("one_sided",)

    explainer: Explainer | None = Field(
        default=None, description="The explanation method; the subject's own where left out."
    )
    split: str = Field(default="test", description="The data split whose examples are explained.")
    delta: float = Field(default=0.5, gt=0, description="How far a feature is raised, in its standard deviations.")
    grid: int = Field(default=16, ge=2, le=256, description="How many steps between nothing and that are evaluated.")
    patches: int = Field(
        default=4, ge=2, le=32, description="How many patches an image has in each direction, at most."
    )
    most_features: int = Field(
        default=64, ge=4, description="The most features that are tested; drawn once for a run where there are more."
    )

    def splits(self) -> tuple[str, ...]:
        """The split whose examples are explained."""
        return (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """It needs an explainer, and features that can be raised: columns or pixels."""
        if subject.task == "text-classification":
            return "Token embeddings cannot be raised; this check needs columns of a table or pixels."
        return controls.not_applicable(subject, self.explainer)

    def passes(self, subject: Subject, samples: int) -> Passes:
        """The explained classes, the explanation, the output itself, and the grid."""
        view = subject.view(subject.batch(self.split, (0,)))
        count = min(self.most_features, len(regions(view.features, self.patches)))
        explanation = resolve(subject, self.explainer).passes(samples)
        return Passes(forward=samples * (2 + count * self.grid)) + explanation

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Explain each batch and compare signs with what the model does."""
        explainer = resolve(subject, self.explainer)
        cost = explainer.passes(1)
        spread = self._spread(subject, context)
        for batch in context.batches(self.split):
            view = subject.view(batch)
            parts = regions(view.features, self.patches)
            if len(parts) > self.most_features:
                order = torch.randperm(len(parts), generator=context.generator("features"), device=parts.device)
                parts = parts[order[: self.most_features]]
            attributions = explained(context, explainer, view).double().flatten(1) @ parts.double().flatten(1).T
            changes = self._changes(view, parts * spread * self.delta)
            truth = changes.mean(0)
            counted, lowers = truth != 0, truth < 0
            sign = (1 - attributions.sign()) / 2
            budget = cost.forward + BACKWARD * cost.backward - 1  # one pass for f(x) itself
            own = youden(lowers, sign, counted)
            direct = youden(lowers, _by_asking(changes, budget / len(parts)), counted)
            positives, negatives = (lowers & counted).any(1), (~lowers & counted).any(1)
            defined = positives & negatives
            yield ONE_SIDED.per_sample((~defined).cpu().numpy())
            if bool(defined.any()):
                yield ATTRIBUTION.per_sample(own[defined].cpu().numpy())
                yield DIRECT.per_sample(direct[defined].cpu().numpy())
                yield ADVANTAGE.per_sample((direct - own)[defined].cpu().numpy())

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """A slope tells what raising does; a contribution from a baseline does not."""
        return (
            Control(
                "gradient",
                "sound",
                "A small network trained on the breast cancer table, explained by its gradient, which is the slope of the logit.",
                controls.table_by("gradient"),
            ),
            Control(
                "gradient-on-digits",
                "sound",
                "A small convolutional network trained on digits, explained by its gradient, summed over patches.",
                controls.digits_by("gradient"),
            ),
            Control(
                "integrated-gradients",
                "defect",
                "The network for the table, explained by Integrated Gradients: a column below the mean has the sign of its slope reversed.",
                controls.table_by("integrated-gradients", steps=32),
                because="attribution_youden",
            ),
            Control(
                "noise",
                "defect",
                "The network for the table, explained by random numbers.",
                controls.table_by("noise"),
                because="attribution_youden",
            ),
            Control(
                "edges",
                "defect",
                "The network for digits, explained by an edge filter, which is never negative.",
                controls.digits_by("edges"),
                because="attribution_youden",
            ),
        )

    def _spread(self, subject: Subject, context: Context) -> Tensor:
        """The standard deviation of each column, ``(column,)``, or of all pixels, a single number."""
        batch = subject.batch(self.split, context.indices(self.split)[:SPREAD_FROM])
        features = subject.adapter.features(batch.inputs).double()
        spread = features.std() if features.dim() == 4 else features.std(0)  # noqa: PLR2004
        if len(features) < 2 or bool((spread == 0).all()):  # noqa: PLR2004
            raise CheckError("the features do not vary over the examples, so there is no scale by which to raise them")
        return spread.float()

    def _changes(self, view: View, steps: Tensor) -> Tensor:
        """f(x + s e_i) − f(x) at each point of the grid, ``(grid, batch, feature)`` float64."""
        count = len(steps) * self.grid

        def raised(number: int) -> Tensor:
            feature, point = divmod(number, self.grid)
            return view.features + (point + 1) / self.grid * steps[feature].to(view.features)

        at = target_logits(outputs_of(view, count, raised), view.targets).double()
        start = target_logits(outputs_of(view, 1, lambda _: view.features), view.targets).double()
        return (at - start).reshape(len(steps), self.grid, -1).permute(1, 2, 0)


def _by_asking(changes: Tensor, points: float) -> Tensor:
    """How far "lowers" is predicted for each feature by asking at so many points of the grid on average, ``(batch, feature)``."""
    grid = len(changes)
    most = min(int(points), grid)
    share = points - most if most < grid else 0.0  # of the features can be asked once more

    def answer(count: int) -> Tensor:
        if not count:
            return torch.full_like(changes[0], 0.5)
        return (1 - changes[asked(count, grid)].mean(0).sign()) / 2

    share = min(max(share, 0.0), 1.0)
    return (1 - share) * answer(max(most, 0)) + share * answer(min(max(most, 0) + 1, grid))

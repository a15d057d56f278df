"""Sensitivity and dummies: what moves the output must be credited, and what cannot move it must not."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from method_cards.check import Check, Context, Control, Passes
from method_cards.lazy import torch
from method_cards.measurement import Quantity, Yielded
from method_checks.attribution import controls
from method_checks.attribution.changes.passes import outputs_of, target_logits
from method_checks.attribution.controls.levelling import levelling_by
from method_checks.attribution.explainers import Baseline, Explainer, resolve
from method_checks.attribution.explainers.references import reference_of
from method_checks.attribution.explainers.shared import explained
from method_checks.attribution.networks.rewired import not_applicable, rewired

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from method_cards.subject import Subject, View
    from method_checks.attribution.explainers import CustomExplainer

STRIP = 8
"""One row, column or token in so many is added as a dummy, and one at least."""

MISSED = Quantity(
    "missed_effects",
    "mean",
    "share of the positions whose removal moves the output that get no attribution (sensitivity a)",
)
DUMMY = Quantity(
    "credits_dummies",
    "proportion",
    "share of examples of whose attributions more than the tolerance goes to inputs that the model never reads (dummy axiom)",
)
SHARE = Quantity(
    "dummy_share", "mean", "share of an example's absolute attributions that goes to inputs that the model never reads"
)
DISAGREE = Quantity(
    "non_sensitivity",
    "mean",
    "share of the tested positions of which only one is zero, the attribution or the effect of removing them",
)
UNDEFINED = Quantity(
    "nothing_to_credit",
    "proportion",
    "share of examples whose output no tested position moves, so that no effect can be missed",
)


def missed_effects(
    effects: Tensor, maps: Tensor, largest: Tensor, effective: float, negligible: float
) -> tuple[Tensor, Tensor]:
    """Sensitivity (a), and non-sensitivity, position by position.

    Args:
        effects: |f(x) − f(x without the position)|, ``(batch, position)``; 0 for positions that are not content.
        maps: The map's magnitude at these positions, likewise.
        largest: The map's largest magnitude anywhere, ``(batch,)``.
        effective: The share of the example's largest effect from which on an effect counts.
        negligible: The share of the largest up to which an attribution, or an effect, counts as zero.

    Returns:
        The share of the effective positions without attribution, 0 where there are none, and the share of all positions of which just one
        is zero, each ``(batch,)`` in [0, 1].
    """
    most = effects.amax(1, keepdim=True)
    counts = (effects >= effective * most) & (most > 0)
    uncredited = maps <= negligible * largest[:, None]
    missed = (counts & uncredited).double().sum(1) / counts.double().sum(1).clamp(min=1)
    return missed, (uncredited != (effects <= negligible * most)).double().mean(1)


class SensitivityAxiom(Check):
    """An explanation credits every input that moves the output, and no input that cannot.

    What it measures:
        Two halves of one axiom. Sensitivity (a): up to `positions` pixels, columns or tokens are set to the baseline, one at a time. Of
        those that move the logit by at least `effective` of the largest such move, `missed_effects` is the share whose attribution is at
        most `negligible` of the map's largest. Dummies: the model is put behind a wrapper with additional rows, columns or tokens (one in
        eight) that it never reads, filled with random values of each example's range. `dummy_share` is their share of the absolute
        attributions, which should be 0, and `credits_dummies` the share of examples in which it is above `tolerance`. `non_sensitivity`
        is the share of tested positions for which only one of attribution and effect is zero. `nothing_to_credit` is the share of
        examples that no tested position moves; they are left out of the effects.

    Assumptions:
        A position that moves the output alone matters; one that does not may matter together with others, so `non_sensitivity` is
        reported and not to be read as an error rate. Maps that are made on a coarse grid and enlarged, such as Grad-CAM's, leak into
        neighbours and cannot keep dummies free. Of large inputs a sample of positions is drawn once for a run. A function of token ids
        is refused.

    Cost:
        Two explanations, and one forward pass for each tested position, for each example.

    Departures from the paper:
        The axiom compares an input with a baseline that differs in one feature; here the map is the one that is shown, from the
        explainer's own baseline, and one feature is set to that baseline. "Zero" and "different" need tolerances in floating point.
        Nguyen and Rodríguez Martínez compare two sets of features over several perturbations; here it is a share, over one. That paper
        was read in its abstract only.

    Sources:
        sundararajan2017axiomatic; nguyen2020quantitative
    """

    id: ClassVar[str] = "attribution/sensitivity-axiom"
    quantities: ClassVar[tuple[Quantity, ...]] = (MISSED, DUMMY, SHARE, DISAGREE, UNDEFINED)
    gates: ClassVar[tuple[str, ...]] = ("nothing_to_credit",)

    explainer: Explainer | None = Field(
        default=None, description="The explanation method; the subject's own where left out."
    )
    split: str = Field(default="test", description="The data split whose examples are explained.")
    positions: int = Field(default=32, ge=1, le=4096, description="How many positions are tested one at a time.")
    effective: float = Field(
        default=0.1, gt=0, le=1, description="The share of the largest effect from which on an effect counts."
    )
    negligible: float = Field(
        default=1e-4,
        gt=0,
        lt=0.1,
        description="The share of the map's largest magnitude up to which one counts as zero.",
    )
    tolerance: float = Field(
        default=0.01, gt=0, lt=1, description="The share of a map up to which dummies may be credited."
    )
    baseline: Baseline = Field(default="zeros", description="The baseline of explainers that have none of their own.")

    def splits(self) -> tuple[str, ...]:
        """The split whose examples are explained."""
        return (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """Without an explainer there is nothing to check, nor for a text-generation model, nor with a background of data."""
        return controls.not_applicable(subject, self.explainer) or not_applicable(subject, self.explainer)

    def passes(self, subject: Subject, samples: int) -> Passes:
        """The explained class, the output without each position, and two explanations."""
        first = subject.batch(self.split, (0,))
        tested = min(self.positions, subject.view(first).content.numel())
        explanation = resolve(subject, self.explainer).passes(samples)
        return Passes(forward=(2 + tested) * samples) + explanation + explanation

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Remove positions one at a time, and add inputs that do nothing."""
        explainer = resolve(subject, self.explainer)
        for batch in context.batches(self.split):
            view = subject.view(batch)
            maps = view.as_map(explained(context, explainer, view).abs()).flatten(1)
            chosen = self._chosen(context, maps.shape[1]).to(maps.device)
            effects = removal_effects(view, reference_of(explainer, view, self.baseline), chosen)
            missed, disagree = missed_effects(effects, maps[:, chosen], maps.amax(1), self.effective, self.negligible)
            wider, dummies = with_dummies(view, explainer, context.generator("dummies"))
            credited = explainer.explain(wider, context.number("explainer")).double().abs()
            total, own = credited.flatten(1).sum(1), credited.narrow(*dummies).flatten(1).sum(1)
            moved = (effects.amax(1) > 0).cpu().numpy()
            share = (own / torch.where(total > 0, total, torch.ones_like(total))).clamp(max=1.0)
            yield UNDEFINED.per_sample(~moved)
            yield SHARE.per_sample(share.cpu().numpy())
            yield DUMMY.per_sample((share > self.tolerance).cpu().numpy())
            if moved.any():
                yield MISSED.per_sample(missed.cpu().numpy()[moved])
                yield DISAGREE.per_sample(disagree.cpu().numpy()[moved])

    def _chosen(self, context: Context, count: int) -> Tensor:
        """The positions that are tested, in order."""
        if count <= self.positions:
            return torch.arange(count)
        generator = context.generator("positions", count)
        return torch.randperm(count, generator=generator, device=generator.device)[: self.positions].sort().values

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Explainers of models with known effects, and explainers that look at the input alone."""
        return (
            Control(
                "gradient",
                "sound",
                "A small network trained on digits, explained by its gradient: it reaches every pixel that matters and no row beyond them.",
                controls.digits_by("gradient"),
            ),
            Control(
                "integrated-gradients-of-levelled-inputs",
                "sound",
                "A model of a table that reads min(x, 1) of each column, explained by Integrated Gradients from zero, which sees the rise.",
                levelling_by("integrated-gradients"),
            ),
            Control(
                "text",
                "sound",
                "A text classifier, explained by the gradient at its token embeddings.",
                controls.words_by("gradient"),
            ),
            Control(
                "gradient-of-levelled-inputs",
                "defect",
                "The model that reads min(x, 1), explained by its gradient, which is 0 for every column above 1.",
                levelling_by("gradient"),
                because="missed_effects",
            ),
            Control(
                "edges",
                "defect",
                "The digits network, explained by an edge filter, which finds edges in rows that the network never reads.",
                controls.digits_by("edges"),
                because="credits_dummies",
            ),
            Control(
                "inputs-of-a-table",
                "defect",
                "A classifier of a table, explained by the values of the columns, read or not.",
                controls.table_by("inputs"),
                because="credits_dummies",
            ),
        )


def removal_effects(view: View, reference: Tensor, chosen: Tensor) -> Tensor:
    """How much the target's logit moves when one position is set to the reference.

    Args:
        view: The examples.
        reference: In the shape of the features.
        chosen: The positions, numbers into a flattened map, ``(position,)``.

    Returns:
        ``(batch, position)`` float64, at least 0; 0 where the position is not content.
    """
    content = view.content
    hits = torch.zeros(len(chosen), content[0].numel(), dtype=torch.bool, device=content.device)
    hits[torch.arange(len(chosen)), chosen] = True
    hits = hits.reshape(-1, 1, *content.shape[1:])

    def without(number: int) -> Tensor:
        return torch.where(view.spread(hits[number]), reference, view.features)

    with torch.no_grad():
        whole = target_logits(view.outputs(view.features, view.rows), view.targets).double()
    left = target_logits(outputs_of(view, len(chosen), without), view.targets).double()
    return (whole - left).abs().T * content.flatten(1)[:, chosen]


def with_dummies(
    view: View, explainer: Explainer | CustomExplainer, generator: torch.Generator
) -> tuple[View, tuple[int, int, int]]:
    """The same model behind a wrapper that takes more inputs than it passes on.

    Args:
        view: The examples.
        explainer: Who is going to explain.
        generator: Where the dummies' values are drawn from: one draw for all examples, scaled to the range of each.

    Returns:
        The view of the wider model, and where its dummies are, as `torch.Tensor.narrow` takes it: axis, start, length.
    """
    axis = 2 if view.features.dim() == 4 else 1  # noqa: PLR2004  (rows of an image, columns of a table, or tokens)
    count = view.features.shape[axis]
    extra = max(1, count // STRIP)
    shape = list(view.features.shape[1:])
    shape[axis - 1] = extra
    flat = view.features.flatten(1)
    low, high = (part.reshape(-1, *[1] * len(shape)) for part in (flat.amin(1), flat.amax(1)))
    drawn = torch.rand(shape, generator=generator, device=generator.device).to(view.features)
    wide = torch.cat([view.features, low + drawn * (high - low)], axis)
    mask = view.mask
    if mask is not None:
        mask = torch.cat([mask, torch.ones_like(mask[:, :1]).expand(-1, extra)], 1)
    return rewired(view, explainer, wide, lambda z: z.narrow(axis, 0, count), mask), (axis, count, extra)

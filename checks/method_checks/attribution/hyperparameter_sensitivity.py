"""Sensitivity to hyperparameters: does the explainer's own setting decide the map?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, ValidationError

from method_cards.check import Check, Context, Control, Passes
from method_cards.lazy import torch
from method_cards.measurement import Quantity, Yielded
from method_checks.attribution import controls
from method_checks.attribution.explainers import CustomExplainer, Explainer, resolve
from method_checks.attribution.explainers.shared import explained
from method_checks.attribution.maps.similarity import Ranked, correlation, ranked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from method_cards.subject import Subject

SEED = "seed"
"""The knob of an explainer that draws random numbers."""

NEVER = ("method", "block", "multiply_by_inputs", "squared", "part", "split_at", "layer", "composite")
"""Parameters that choose another method, or only how it is computed, and are no settings of one method."""

OTHER_BASELINES: tuple[str, ...] = ("zeros", "minimum")
"""Baselines that are tried in place of one another."""

SIMILARITY = Quantity(
    "setting_similarity",
    "mean",
    "rank correlation of the signed maps of two settings of a knob, mean over all pairs of its settings",
    range=(-1.0, 1.0),
    by=("knob",),
)
LEAST = Quantity(
    "least_setting_similarity",
    "mean",
    "the smallest of these means among the knobs of the explainer",
    range=(-1.0, 1.0),
)
BELOW = Quantity(
    "settings_disagree",
    "proportion",
    "share of examples for which some knob's settings agree less than they must",
)
SPREAD = Quantity(
    "setting_spread",
    "mean",
    "standard deviation over the settings of a knob, of maps of equal length, relative to that length; mean over positions",
    by=("knob",),
)
CONSTANT = Quantity(
    "constant_map",
    "proportion",
    "share of examples with a map of one value only, which has no order that a setting could change",
)


class HyperparameterSensitivity(Check):
    """A map stays about the same when a setting of its explainer is changed that nobody could have justified exactly.

    What it measures:
        Each knob of the explainer is turned alone: other seeds for a random explainer, half and double of each number, the other baseline.
        `setting_similarity` is the mean of the rank correlations between the signed maps of all settings of a knob, the given one included;
        `setting_spread` is how much a position's value varies among them. `least_setting_similarity` is that of the knob that moves the
        map most, and `settings_disagree` the share of examples for which it is below `least_similarity`.

    Assumptions:
        Half and double are settings that another person might have chosen. Parameters that choose another method, such as a multiplication
        by the input or a rule of propagation, are left alone, and so are settings that the explainer refuses. The number of the seeds is
        the knob `seed`; all other knobs of a random explainer are turned with its seed held fixed. Examples whose given map is constant
        are left out.

    Cost:
        One explanation for each setting of each knob, more where a number that sets the cost is doubled.

    Departures from the paper:
        Rank correlations and the spread of positions are computed; SSIM and the correlation of gradient histograms are not. Knobs follow
        from the explainer's parameters, each with stated settings, instead of ranges chosen for each method.

    Sources:
        bansal2020sam
    """

    id: ClassVar[str] = "attribution/hyperparameter-sensitivity"
    quantities: ClassVar[tuple[Quantity, ...]] = (SIMILARITY, LEAST, BELOW, SPREAD, CONSTANT)
    gates: ClassVar[tuple[str, ...]] = ("constant_map",)

    explainer: Explainer | None = Field(
        default=None, description="The explanation method; the subject's own where left out."
    )
    split: str = Field(default="test", description="The data split whose examples are explained.")
    seeds: int = Field(default=3, ge=2, le=20, description="How many seeds of a random explainer are compared.")
    factor: float = Field(default=2.0, gt=1, le=16, description="By what numbers are multiplied and divided.")
    least_similarity: float = Field(
        default=0.9, gt=-1, lt=1, description="The rank correlation that the settings of each knob must reach."
    )

    def splits(self) -> tuple[str, ...]:
        """The split whose examples are explained."""
        return (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """An explainer without knobs has no settings that could decide."""
        reason = controls.not_applicable(subject, self.explainer)
        if reason:
            return reason
        explainer = resolve(subject, self.explainer)
        if isinstance(explainer, CustomExplainer):
            return (
                f'The settings of the function "{explainer.method}" are not known; only bundled explainers tell theirs.'
            )
        if not knobs(explainer, self.seeds, self.factor):
            return f'The explainer "{explainer.method}" has no setting that could be chosen otherwise.'
        return ""

    def passes(self, subject: Subject, samples: int) -> Passes:
        """The class that is explained, and an explanation for each setting."""
        explainer = resolve(subject, self.explainer)
        total = Passes(forward=samples) + explainer.passes(samples)
        for settings in knobs(explainer, self.seeds, self.factor).values():
            for setting, _ in settings:
                total += setting.passes(samples)
        return total

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Explain each batch by each setting of each knob, and compare."""
        explainer = resolve(subject, self.explainer)
        own_seed = context.number("explainer", 0)
        turned = {
            knob: [(setting, context.number("explainer", seed)) for setting, seed in settings]
            for knob, settings in knobs(explainer, self.seeds, self.factor).items()
        }
        for batch in context.batches(self.split):
            view = subject.view(batch)
            attributions = (
                explainer.explain(view, own_seed) if explainer.is_random else explained(context, explainer, view)
            )
            own = view.as_map(attributions)
            given = ranked(own, view.mask)
            kept = ~given.constant
            least = torch.ones(len(own), dtype=torch.float64, device=own.device)
            yield CONSTANT.per_sample((~kept).cpu().numpy())
            for knob, settings in turned.items():
                maps = [own, *(view.as_map(setting.explain(view, seed)) for setting, seed in settings)]
                found = agreement([given, *(ranked(other, view.mask) for other in maps[1:])])
                least = torch.minimum(least, found)
                if bool(kept.any()):
                    yield SIMILARITY.per_sample(found[kept].cpu().numpy(), knob=knob)
                    yield SPREAD.per_sample(spread(torch.stack(maps), view.content)[kept].cpu().numpy(), knob=knob)
            if bool(kept.any()):
                yield LEAST.per_sample(least[kept].cpu().numpy())
                yield BELOW.per_sample((least[kept] < self.least_similarity).cpu().numpy())

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Explainers whose settings hardly matter, and others whose settings or seeds decide."""
        return (
            Control(
                "smoothgrad",
                "sound",
                "A small convolutional network trained on digits, explained by SmoothGrad with 16 samples of noise of 0.1 of the range.",
                controls.digits_by("smoothgrad", samples=16, noise=0.1),
            ),
            Control(
                "integrated-gradients",
                "sound",
                "The same network, explained by Integrated Gradients with 8 steps and the baseline that is also each image's minimum.",
                controls.digits_by("integrated-gradients", steps=8),
            ),
            Control(
                "baseline-of-a-table",
                "defect",
                "A small network that classifies rows of a table, explained by Integrated Gradients: two baselines are at hand.",
                controls.table_by("integrated-gradients", steps=8),
                because="settings_disagree",
            ),
            Control(
                "too-few-samples",
                "defect",
                "The same network, explained by SmoothGrad with a single sample of noise as wide as the range.",
                controls.digits_by("smoothgrad", samples=1, noise=1.0),
                because="settings_disagree",
            ),
            Control(
                "noise",
                "defect",
                "The same network, explained by noise: the seed is all there is.",
                controls.digits_by("noise"),
                because="settings_disagree",
            ),
        )


def knobs(explainer: Explainer | CustomExplainer, seeds: int, factor: float) -> dict[str, list[tuple[Explainer, int]]]:
    """For each knob its settings besides the given one: the explainer that has them, and its seed.

    Args:
        explainer: The method; a function's knobs are not known, and there are none.
        seeds: How many seeds are compared, the given one included.
        factor: By what numbers are multiplied and divided.
    """
    if isinstance(explainer, CustomExplainer):
        return {}
    found: dict[str, list[tuple[Explainer, int]]] = {}
    if explainer.is_random:
        found[SEED] = [(explainer, seed) for seed in range(1, seeds)]
    for name in sorted(set(type(explainer).model_fields) - set(NEVER)):
        changed = [
            other for value in _others(getattr(explainer, name), factor) if (other := _with(explainer, name, value))
        ]
        if changed:
            found[name] = [(other, 0) for other in changed]
    return found


def _others(value: object, factor: float) -> list[object]:
    """What else a person might have chosen."""
    if isinstance(value, bool) or value is None:
        return []
    if isinstance(value, str):
        return [other for other in OTHER_BASELINES if other != value] if value in OTHER_BASELINES else []
    if isinstance(value, int):
        return [other for other in (round(value / factor), round(value * factor)) if other != value]
    return [value / factor, value * factor] if isinstance(value, float) and value else []


def _with(explainer: Explainer, name: str, value: object) -> Explainer | None:
    """The same explainer with another value; None where it refuses it."""
    given: dict[str, Any] = {**explainer.model_dump(), name: value}
    try:
        made = type(explainer).model_validate(given)
    except ValidationError:
        return None
    for private, bound in (explainer.__pydantic_private__ or {}).items():
        setattr(made, private, bound)  # what the explainer was told about the subject
    return made


def agreement(maps: Sequence[Ranked]) -> Tensor:
    """The mean rank correlation over all pairs of settings, ``(batch,)`` in [-1, 1]."""
    pairs = [correlation(one, other) for place, one in enumerate(maps) for other in maps[place + 1 :]]
    return torch.stack(pairs).mean(0)


def spread(maps: Tensor, content: Tensor) -> Tensor:
    """How much positions vary among settings: standard deviation of maps of length one, their lengths' share, ``(batch,)`` in [0, 1].

    The root of the summed variances of all positions is 0 when all settings agree, and the largest, 1, when the mean of the maps vanishes.

    Args:
        maps: ``(setting, batch, *position)``.
        content: ``(batch, *position)`` bool.
    """
    flat = (maps.double() * content).flatten(2)
    length = flat.norm(dim=2, keepdim=True)
    unit = flat / length.where(length > 0, 1)
    found: Tensor = (unit - unit.mean(0)).square().sum(2).mean(0).sqrt().clamp(0, 1)
    return found

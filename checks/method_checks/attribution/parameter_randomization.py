"""The model-parameter randomisation test: does an explanation change when what it explains is destroyed?"""

from __future__ import annotations

from itertools import chain, combinations, islice
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from method_cards.check import Check, Context, Control, Passes
from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_cards.measurement import Pictures, Quantity, Yielded
from method_checks.attribution import controls
from method_checks.attribution.controls import randomization
from method_checks.attribution.explainers import Explainer, resolve
from method_checks.attribution.explainers.shared import explained
from method_checks.attribution.maps.across_networks import Compared, compared, maps_of
from method_checks.attribution.maps.comparisons import (
    IMAGES,
    RANKS,
    Comparison,
    Kind,
    by_kind,
    on_host,
    too_small,
)
from method_checks.attribution.maps.pictured import class_names, inputs_of, side_by_side
from method_checks.attribution.maps.structure import Scale
from method_checks.attribution.networks.drawn import (
    calibrated,
    calibration_batch,
    explained_by,
    name_of,
    random_weights,
    stages_of,
)
from method_checks.attribution.networks.randomization import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from method_cards.subject import Subject, View

FEW = 8
"""So many constant maps, and no other one, say that the explainer explains nothing."""

SIMILARITY = by_kind(
    "similarity", "trained against randomised from the output down to a stage", by=("stage", "position", "layers")
)
NULL = by_kind("null_similarity", "between independent random networks: what the input alone makes alike")
EXCESS = by_kind(
    "similarity_excess", "after full randomisation, less that between independent random networks", difference=True
)
CEILING = by_kind(
    "seed_similarity", "between the model and the same model trained from another seed: the natural ceiling"
)
SELF = Quantity(
    "self_similarity",
    "mean",
    "rank correlation of two signed maps of the same model and input: 1 unless the explainer is random",
    range=(-1.0, 1.0),
)
UNCHANGED = Quantity(
    "unchanged_parameters",
    "exact",
    "share of parameters that full randomisation leaves as they were, such as constant scales of norm layers",
)


class ParameterRandomization(Check):
    """An explanation of a model changes when the model's parameters are replaced by random ones.

    What it measures:
        The parameters are drawn anew in stages, from the output layer down (`cascading`) or one stage at a time (`independent`),
        and each example's map is compared with that of the trained model: by Spearman's rank correlation of signed maps, of
        magnitudes, and of magnitudes on the foreground; and, where `kinds` names them, by cosine, by the Jaccard index of the
        positions of highest magnitude (`top`; two random maps have about share / (2 - share), 0.05 at a tenth), by structural
        similarity (`ssim`) and by the correlation of histograms of oriented gradients (`hog`). Two references make the numbers
        readable. The null: how alike the maps of independent, fully random networks are, which is what the input alone
        contributes. The ceiling: how alike the maps of two trainings from different seeds are, where the subject has replicas.
        `position: top` is the stage next to the output, where methods that ignore the class give themselves away; `full` is the
        network with every parameter random.

    Assumptions:
        The explained class is the one that the trained model predicts, in every network. Each example counts once: its similarity
        is the mean over `seeds` random networks, so the interval is over examples, given these networks. A map that is constant for
        the trained model counts as unchanged (similarity 1); when all maps are constant, nothing is measured. An explainer that
        draws noise from a hash of the weights would pass: test faithfulness as well.

    Cost:
        Two explanations by the trained model, one for each seed and stage, and one for each replica; `independent` adds one for
        each seed. The null costs nothing more. `seeds` copies of the parameters are held in memory.

    Departures from the paper:
        Several random networks instead of one; a null and a ceiling instead of a bare score; every parameter is covered, class tokens,
        embeddings and attention projections included; norm layers inside randomised stages take their running statistics from a
        batch, since stale ones would break the scale of every activation. SSIM and HOG look at magnitudes, each map divided by
        its largest value or by its root mean square (`scale`); SSIM leaves out the border where its window does not fit; the
        visual comparison is left to the pictures. Maps that are too small for a window are refused.

    Sources:
        adebayo2018sanity; binder2023shortcomings; dalal2005histograms; kokhlikyan2021investigating; krishna2022disagreement;
        sixt2020explanations; wang2004image
    """

    id: ClassVar[str] = "attribution/parameter-randomization"
    quantities: ClassVar[tuple[Quantity, ...]] = (
        *SIMILARITY.values(),
        *EXCESS.values(),
        *NULL.values(),
        *CEILING.values(),
        SELF,
        UNCHANGED,
    )
    gates: ClassVar[tuple[str, ...]] = ("self_similarity",)

    explainer: Explainer | None = Field(
        default=None, description="The explanation method; the subject's own where left out."
    )
    split: str = Field(default="test", description="The data split whose examples are explained.")
    order: Literal["cascading", "independent"] = Field(
        default="cascading", description="Whether a stage is randomised with all stages above it, or alone."
    )
    seeds: int = Field(default=3, ge=2, le=20, description="How many random networks are drawn; the null needs two.")
    kinds: tuple[Kind, ...] = Field(default=RANKS, min_length=1, description="The ways in which maps are compared.")
    share: float = Field(default=0.1, gt=0, lt=1, description="The share of a map's positions that counts as highest.")
    scale: Scale = Field(default="maximum", description="What each map is divided by before structural similarity.")
    most_stages: int = Field(default=12, ge=1, le=64, description="The most stages that layers are grouped into.")

    def splits(self) -> tuple[str, ...]:
        """The split whose examples are explained."""
        return (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """Without an explainer there is nothing to check, and language models have no single class to explain."""
        reason = controls.not_applicable(subject, self.explainer)
        wanted = [kind for kind in self.kinds if kind in IMAGES]
        if reason or not wanted:
            return reason
        shape = subject.view(subject.batch(self.split, (0,))).content.shape[1:]
        if len(shape) != 2:  # noqa: PLR2004  (a map of an image has two axes)
            return f"Its maps have no rows and columns, which {' and '.join(wanted)} compare."
        return too_small(wanted, *shape)

    def passes(self, subject: Subject, samples: int) -> Passes:
        """The explanations, the explained classes, and a calibration batch for each random network."""
        groups = self._groups(stages_of(subject, self.split, self.most_stages))
        explanations = resolve(subject, self.explainer).passes(samples)
        total = Passes(forward=samples + self.seeds * calibrated(groups, samples))
        for _ in range(2 + self.seeds * len(groups) + len(subject.replicas)):
            total += explanations
        return total

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Explain each batch under the trained and all randomised networks and compare."""
        explainer = resolve(subject, self.explainer)
        calibration = calibration_batch(subject, context, self.split)
        tops = stages_of(subject, self.split, self.most_stages)
        groups = self._groups(tops)
        networks, unchanged = random_weights(subject, context, calibration, groups, self.seeds)
        kept = {(seed + 1) * len(groups) - 1: name_of(context, calibration, seed) for seed in range(self.seeds)}
        replicas = [{name: tensor.to(subject.device) for name, tensor in load().items()} for load in subject.replicas]
        yield UNCHANGED.exact(unchanged)
        seen = constant = 0
        for number, batch in enumerate(context.batches(self.split)):
            view = subject.view(batch)
            comparison = Comparison.of(view, self.kinds, self.share, self.scale)
            maps, again = (maps_of(view, explained(context, explainer, view, draw)) for draw in (0, 1))
            trained = comparison.prepared(*maps)
            seen, constant = seen + len(batch), constant + int(trained.constant.sum())
            if seen == constant >= FEW:
                raise CheckError(
                    f'the explainer "{explainer.method}" gives constant maps, for all of the first {seen} examples'
                )
            yield SELF.per_sample(on_host(comparison.signed(maps[0], again[0])))
            states = [*chain.from_iterable(networks), *replicas]
            attributions = explained_by(subject, explainer, context, view, states, kept)
            each = iter(compared(comparison, trained, (maps_of(view, found) for found in attributions)))
            random = [list(islice(each, len(groups))) for _ in networks]
            yield from self._similarities(comparison, random, tops)
            others = list(each)
            for kind in self.kinds if others else ():
                yield CEILING[kind].per_sample(on_host(_mean([other.similarity[kind] for other in others])))
            if number == 0:
                yield pictures(view, subject.classes, maps[0][0], [maps.shown for maps in random[0]], tops)

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Explainers whose dependence on the parameters is known."""
        return randomization.explained()

    def _groups(self, tops: Sequence[Stage]) -> list[Sequence[Stage]]:
        """Which stages are random together in each network of a seed; in the last one all are."""
        if self.order == "cascading":
            return [tops[: number + 1] for number in range(len(tops))]
        return [[stage] for stage in tops] + ([tops] if len(tops) > 1 else [])

    def _similarities(
        self, comparison: Comparison, random: Sequence[Sequence[Compared]], tops: Sequence[Stage]
    ) -> Iterator[Yielded]:
        """Those of one batch: by stage, between random networks, and the difference at the end."""
        last = len(tops) - 1 if self.order == "cascading" else -1
        for kind in self.kinds:
            for number, stage in enumerate(tops):
                values = _mean([networks[number].similarity[kind] for networks in random])
                position = "top" if number == 0 else "full" if number == last else "middle"
                yield SIMILARITY[kind].per_sample(
                    on_host(values), stage=number + 1, position=position, layers=stage.name
                )
            pairs = combinations((networks[-1].prepared for networks in random), 2)
            null = _mean([comparison.similarity(one, other, kind)[0] for one, other in pairs])
            full = _mean([networks[-1].similarity[kind] for networks in random])
            yield NULL[kind].per_sample(on_host(null))
            yield EXCESS[kind].per_sample(on_host(full - null))


def pictures(
    view: View, classes: Sequence[str], trained: Tensor, random: Sequence[Tensor], tops: Sequence[Stage]
) -> Pictures:
    """Inputs, their maps, and their maps after some of the stages, side by side."""
    some = sorted({0, len(tops) // 2, len(tops) - 1})
    return side_by_side(
        "maps",
        "Maps by the trained model and after its parameters were randomised from the output down. A map that stays the same does not show "
        "what the model has learned.",
        {
            **inputs_of(view),
            "trained": trained,
            **{f"random to {tops[number].name}": random[number] for number in some},
        },
        class_names(classes, view.targets),
    )


def _mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean(0)

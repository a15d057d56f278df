"""The model-parameter randomisation test: does an explanation change when what it explains is destroyed?"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

import numpy as np
from pydantic import Field

from method_cards.check import Check, Context, Control, Passes
from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_cards.measurement import Pictures, Quantity, Yielded
from method_checks.attribution import controls
from method_checks.attribution.explainers import CustomExplainer, Explainer, resolve
from method_checks.attribution.randomization import Stage, random_state, recalibrated, stages, swapped
from method_checks.attribution.similarity import Ranked, correlation, foreground, ranked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from method_cards.data import Batch
    from method_cards.subject import Subject, View

Kind: TypeAlias = Literal["signed", "absolute", "foreground"]

KINDS: tuple[Kind, ...] = ("signed", "absolute", "foreground")
"""How maps are compared: with their sign, by magnitude, and by magnitude outside the image's background."""

PICTURED = 4
"""How many examples are shown."""

FEW = 8
"""So many constant maps, and no other one, say that the explainer explains nothing."""

CALIBRATION = 64
"""How many examples give a random network's norm layers their statistics."""

_MEANING: Mapping[Kind, str] = {
    "signed": "of the maps with their sign",
    "absolute": "of the maps' magnitudes",
    "foreground": "of the maps' magnitudes where the image is not background",
}

SIMILARITY = {
    kind: Quantity(
        f"{kind}_similarity",
        "mean",
        f"rank correlation {_MEANING[kind]}, trained against randomised from the output down to a stage",
        range=(-1.0, 1.0),
        by=("stage", "position", "layers"),
    )
    for kind in KINDS
}
NULL = {
    kind: Quantity(
        f"{kind}_null_similarity",
        "mean",
        f"rank correlation {_MEANING[kind]}, between independent random networks: what the input alone makes alike",
        range=(-1.0, 1.0),
    )
    for kind in KINDS
}
EXCESS = {
    kind: Quantity(
        f"{kind}_similarity_excess",
        "mean",
        f"rank correlation {_MEANING[kind]} after full randomisation, less that between independent random networks",
        range=(-2.0, 2.0),
    )
    for kind in KINDS
}
CEILING = {
    kind: Quantity(
        f"{kind}_seed_similarity",
        "mean",
        f"rank correlation {_MEANING[kind]}, between the model and the same model trained from another seed: the natural ceiling",
        range=(-1.0, 1.0),
    )
    for kind in KINDS
}
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


@dataclass(frozen=True)
class Maps:
    """The explanations of one batch, ranked for comparison.

    Attributes:
        ranked: By kind.
        shown: The signed maps as they are shown, ``(batch, ...)``.
    """

    ranked: Mapping[Kind, Ranked]
    shown: Tensor


@dataclass
class _Explained:
    """Explains one batch, always for the same classes, with new noise each time."""

    subject: Subject
    explainer: Explainer | CustomExplainer
    context: Context
    batch: Batch
    targets: Tensor
    number: int
    draws: int = 0
    masks: Mapping[Kind, Tensor | None] = field(init=False)

    def __post_init__(self) -> None:
        view = self.subject.view(self.batch, self.targets)
        inside = foreground(view.features) if view.mask is None else view.mask
        self.masks = {"signed": view.mask, "absolute": view.mask, "foreground": inside}

    def by(self, state: Mapping[str, Tensor]) -> Maps:
        """The maps when the model has these parameters and buffers, all others as they are."""
        self.draws += 1
        with swapped(self.subject.model, state):
            view = self.subject.view(self.batch, self.targets)
            generator = self.context.generator("explainer", self.number, self.draws)
            return ranked_maps(view, self.explainer.explain(view, generator), self.masks)


class ParameterRandomization(Check):
    """An explanation of a model changes when the model's parameters are replaced by random ones.

    What it measures:
        The parameters are drawn anew in stages, from the output layer down (`cascading`) or one stage at a time (`independent`),
        and each example's map is compared with that of the trained model by Spearman's rank correlation: of signed maps, of
        magnitudes, and of magnitudes on the foreground. Two references make the numbers readable. The null: how alike the maps of
        independent, fully random networks are, which is what the input alone contributes. The ceiling: how alike the maps of two
        trainings from different seeds are, where the subject has replicas. `position: top` is the stage next to the output, where
        methods that ignore the class give themselves away; `full` is the network with every parameter random.

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
        batch, since stale ones would break the scale of every activation. SSIM and HOG similarities are not computed here.

    Sources:
        adebayo2018sanity; binder2023shortcomings; kokhlikyan2021investigating; sixt2020explanations
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
    most_stages: int = Field(default=12, ge=1, le=64, description="The most stages that layers are grouped into.")

    def splits(self) -> tuple[str, ...]:
        """The split whose examples are explained."""
        return (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """Without an explainer there is nothing to check, and language models have no single class to explain."""
        return controls.not_applicable(subject, self.explainer)

    def passes(self, subject: Subject, samples: int) -> Passes:
        """The explanations, the explained classes, and a calibration batch for each random network."""
        count = len(self._stages(subject, subject.batch(self.split, (0,))))
        networks = self.seeds * (count + (self.order == "independent" and count > 1))
        explanations = resolve(subject, self.explainer).passes(samples)
        total = Passes(forward=samples + networks * min(CALIBRATION, samples))
        for _ in range(2 + networks + len(subject.replicas)):
            total += explanations
        return total

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Explain each batch under the trained and all randomised networks and compare."""
        explainer = resolve(subject, self.explainer)
        calibration = subject.batch(self.split, context.indices(self.split)[:CALIBRATION])
        tops = self._stages(subject, calibration)
        networks, unchanged = self._networks(subject, context, tops, calibration)
        replicas = [{name: tensor.to(subject.device) for name, tensor in load().items()} for load in subject.replicas]
        yield UNCHANGED.exact(unchanged)
        seen = constant = 0
        for number, batch in enumerate(context.batches(self.split)):
            explained = _Explained(subject, explainer, context, batch, subject.outputs(batch).argmax(1), number)
            trained = explained.by({})
            seen, constant = seen + len(batch), constant + int(trained.ranked["signed"].constant.sum())
            if seen == constant >= FEW:
                raise CheckError(
                    f'the explainer "{explainer.method}" gives constant maps, for all of the first {seen} examples'
                )
            yield SELF.per_sample(_numpy(similarity(trained, explained.by({}), "signed")))
            random = [[explained.by(state) for state in states] for states in networks]
            yield from self._compared(trained, random, tops)
            others = [explained.by(state) for state in replicas]
            for kind in KINDS if others else ():
                yield CEILING[kind].per_sample(_numpy(_mean([similarity(trained, other, kind) for other in others])))
            if number == 0:
                yield pictures(subject, batch, trained, random[0], tops)

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Explainers whose dependence on the parameters is known."""
        return (
            Control(
                "gradient",
                "sound",
                "A small convolutional network trained on digits, explained by its input gradient, which is a function of all parameters.",
                controls.digits_by("gradient"),
            ),
            Control(
                "guided-backprop",
                "defect",
                "The same network, explained by Guided Backprop, which mostly reconstructs the input whatever the upper layers are.",
                controls.digits_by("guided-backprop"),
                because="signed_similarity",
            ),
            Control(
                "edges",
                "defect",
                "The same network, explained by an edge filter that sees no model.",
                controls.digits_by("edges"),
                because="signed_similarity",
            ),
            Control(
                "input-x-gradient",
                "defect",
                "The same network, explained by input times gradient, whose magnitudes mostly show the input.",
                controls.digits_by("input-x-gradient"),
                because="absolute_null_similarity",
            ),
            Control(
                "noise",
                "confounded",
                "The same network, explained by noise, which changes with the parameters as with everything else.",
                controls.digits_by("noise"),
                because="self_similarity",
            ),
        )

    def _stages(self, subject: Subject, batch: Batch) -> tuple[Stage, ...]:
        return stages(subject.model, lambda: subject.outputs(batch), subject.layers, self.most_stages)

    def _networks(
        self, subject: Subject, context: Context, tops: Sequence[Stage], calibration: Batch
    ) -> tuple[list[list[dict[str, Tensor]]], float]:
        """For each seed the weights of each stage to swap in, the fully random network last; and the share that stays as it was."""
        found: list[list[dict[str, Tensor]]] = []
        sizes = {name: parameter.numel() for name, parameter in subject.model.named_parameters()}
        unchanged = 0
        for seed in range(self.seeds):
            drawn = random_state(subject.model, context.generator("parameters", seed))
            unchanged = sum(sizes[name] for name in drawn.unchanged)
            chosen: list[Sequence[Stage]] = [tops[: number + 1] for number in range(len(tops))]
            if self.order == "independent":
                chosen = [[stage] for stage in tops] + ([tops] if len(tops) > 1 else [])
            found.append([_weights(subject, drawn.state, group, calibration) for group in chosen])
        return found, unchanged / max(1, sum(sizes.values()))

    def _compared(self, trained: Maps, random: Sequence[Sequence[Maps]], tops: Sequence[Stage]) -> Iterator[Yielded]:
        """The similarities of one batch: by stage, between random networks, and the difference at the end."""
        for kind in KINDS:
            for number, stage in enumerate(tops):
                values = _mean([similarity(trained, maps[number], kind) for maps in random])
                position = (
                    "top"
                    if number == 0
                    else "full"
                    if number == len(tops) - 1 and self.order == "cascading"
                    else "middle"
                )
                yield SIMILARITY[kind].per_sample(
                    _numpy(values), stage=number + 1, position=position, layers=stage.name
                )
            null = _mean([similarity(one[-1], other[-1], kind) for one, other in combinations(random, 2)])
            full = _mean([similarity(trained, maps[-1], kind) for maps in random])
            yield NULL[kind].per_sample(_numpy(null))
            yield EXCESS[kind].per_sample(_numpy(full - null))


def ranked_maps(view: View, attributions: Tensor, masks: Mapping[Kind, Tensor | None]) -> Maps:
    """One map for each example, ranked in each way of comparing.

    Args:
        view: The examples.
        attributions: In the shape of the features.
        masks: The positions that count in each way, in the shape of the maps; None for all.
    """
    signed, magnitude = view.as_map(attributions), view.as_map(attributions.abs())
    return Maps({kind: ranked(signed if kind == "signed" else magnitude, masks[kind]) for kind in KINDS}, signed)


def similarity(reference: Maps, other: Maps, kind: Kind) -> Tensor:
    """Rank correlation of each example's two maps, ``(batch,)`` in [-1, 1]; 1 where the reference is constant: it cannot change."""
    found = correlation(reference.ranked[kind], other.ranked[kind])
    return torch.where(reference.ranked[kind].constant, torch.ones_like(found), found)


def pictures(subject: Subject, batch: Batch, trained: Maps, random: Sequence[Maps], tops: Sequence[Stage]) -> Pictures:
    """Inputs, their maps, and their maps after some of the stages, side by side."""
    shown = sorted({0, len(tops) // 2, len(tops) - 1})
    inputs = subject.view(batch).features[:PICTURED]
    is_image = inputs.dim() == 4  # noqa: PLR2004  (batch, channel, height, width)
    columns = [inputs.mean(1)] if is_image else []
    columns += [trained.shown[:PICTURED], *(random[number].shown[:PICTURED] for number in shown)]
    names = subject.classes
    labels = [
        str(names[target]) if target < len(names) else f"class {target}" for target in batch.targets[:PICTURED].tolist()
    ]
    titles = (["input"] if is_image else []) + ["trained", *(f"random to {tops[number].name}" for number in shown)]
    return Pictures(
        "maps",
        "Maps by the trained model and after its parameters were randomised from the output down. A map that stays the same does not show "
        "what the model has learned.",
        tuple(titles),
        tuple(labels),
        torch.stack(columns, 1).float().cpu().numpy(),
        (False,) * is_image + (True,) * (len(shown) + 1),
    )


def _weights(
    subject: Subject, state: Mapping[str, Tensor], group: Sequence[Stage], calibration: Batch
) -> dict[str, Tensor]:
    parameters = {name: state[name] for stage in group for name in stage.parameters}
    buffers = [name for stage in group for name in stage.buffers]
    with swapped(subject.model, parameters):
        return {**parameters, **recalibrated(subject.model, buffers, lambda: subject.outputs(calibration))}


def _mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean(0)


def _numpy(values: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return values.double().cpu().numpy()

"""The smooth randomisation test: maps are averaged over noisy inputs before they are compared."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from method_cards.check import Check, Context, Control, Passes
from method_cards.lazy import torch
from method_cards.measurement import Floats, Quantity, Yielded
from method_checks.attribution import controls
from method_checks.attribution.changes.draws import Draws
from method_checks.attribution.changes.fidelity import spread_of
from method_checks.attribution.explainers import CustomExplainer, Explainer, resolve
from method_checks.attribution.maps.comparisons import Comparison, Prepared
from method_checks.attribution.networks.drawn import calibrated, calibration_batch, random_weights, stages_of
from method_checks.attribution.networks.randomization import swapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from method_cards.subject import Subject, View
    from method_checks.attribution.networks.stages import Stage

SIMILARITY = Quantity(
    "smooth_similarity",
    "mean",
    "rank correlation of smoothed signed maps, trained against randomised: the first stage only, or all",
    range=(-1.0, 1.0),
    by=("position",),
)
NULL = Quantity(
    "smooth_null_similarity",
    "mean",
    "rank correlation of smoothed signed maps between independent random networks",
    range=(-1.0, 1.0),
)
SELF = Quantity(
    "self_similarity",
    "mean",
    "rank correlation of two smoothed maps of the same model and input: low where more noisy inputs are needed",
    range=(-1.0, 1.0),
)


def smoothed(
    view: View,
    explainer: Explainer | CustomExplainer,
    seed: int,
    noise: Draws,
    draws: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Attributions averaged over noisy versions of each example, summed to maps: with their sign, and by magnitude.

    Args:
        view: The examples, which are explained for the classes of the view wherever the noise takes them.
        explainer: The method that is averaged.
        seed: Where its own noise comes from.
        noise: Where the noise of the inputs comes from.
        draws: How many noisy versions there are.
        scale: Their standard deviation, relative to the range of each example's features.

    Returns:
        Two maps of each example, ``(1, batch, ...)``.
    """
    spread = scale * spread_of(view.features).reshape(-1, *[1] * (view.features.dim() - 1))
    total = torch.zeros_like(view.features)
    together = max(1, view.block // max(1, len(view.features)))
    for first in range(0, draws, together):
        count = min(together, draws - first)
        wide = view.features[:1].numel()
        drawn = torch.stack([noise.normal(first + number, wide) for number in range(count)]).to(view.features)
        drawn = drawn.reshape(count, *view.features.shape)
        elsewhere = view.at((view.features + spread * drawn).flatten(0, 1), view.rows.repeat(count))
        total += explainer.explain(elsewhere, seed, first).reshape(drawn.shape).sum(0)
    return view.as_map(total / draws)[None], view.as_map((total / draws).abs())[None]


class SmoothParameterRandomization(Check):
    """A map that is averaged over noisy inputs changes when the parameters of the network that it explains are randomised.

    What it measures:
        The explainer's attributions are averaged over `draws` noisy versions of each example, under the trained model and under
        random ones, and then compared by Spearman's rank correlation of signed maps. Averaging takes away what changes with any
        small change of the input, so that maps that only differ by such noise no longer look different. Two networks of each
        seed are looked at: with only the first stage random (`position: first`), at the input for `order: bottom-up` and at
        the output for `order: top-down`, and with all parameters random (`full`). `smooth_null_similarity` compares independent
        random networks, `self_similarity` two averages of the trained model.

    Assumptions:
        The explained class is the one that the trained model predicts at the clean input, in every network and at every noisy
        input. Noise of this size does not change what the model sees; that is for the user to say. A map that is constant for the
        trained model counts as unchanged. As without smoothing, a map that changes need not be faithful.

    Cost:
        `draws` explanations for each network and example: two by the trained model, two for each seed.

    Departures from the paper:
        The user's own explainer is averaged, whatever it is. Only the two ends of the cascade are measured, since each stage costs
        as much as `draws` explanations. Several random networks, a null and a self-similarity take the place of a bare score. Rank
        correlation is used where the paper also offers structural similarity. The paper randomises from the bottom; which of the
        two orders is used is a parameter.

    Sources:
        hedstrom2024fresh; adebayo2018sanity; binder2023shortcomings
    """

    id: ClassVar[str] = "attribution/smooth-parameter-randomization"
    quantities: ClassVar[tuple[Quantity, ...]] = (SIMILARITY, NULL, SELF)
    gates: ClassVar[tuple[str, ...]] = ("self_similarity",)

    explainer: Explainer | None = Field(
        default=None, description="The explanation method; the subject's own where left out."
    )
    split: str = Field(default="test", description="The data split whose examples are explained.")
    order: Literal["bottom-up", "top-down"] = Field(
        default="bottom-up", description="At which end of the network the first random stage lies."
    )
    draws: int = Field(default=20, ge=1, le=1000, description="How many noisy versions of each example are explained.")
    noise: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="Standard deviation of the noise, relative to the range of an example's features.",
    )
    seeds: int = Field(default=2, ge=2, le=20, description="How many random networks are drawn; the null needs two.")
    most_stages: int = Field(default=12, ge=1, le=64, description="The most stages that layers are grouped into.")

    def splits(self) -> tuple[str, ...]:
        """The split whose examples are explained."""
        return (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """Without an explainer there is nothing to check, and language models have no single class to explain."""
        return controls.not_applicable(subject, self.explainer)

    def passes(self, subject: Subject, samples: int) -> Passes:
        """The explanations of noisy inputs, the explained classes, and calibration batches of random networks."""
        total = Passes(forward=samples + self.seeds * calibrated(self._groups(subject), samples))
        for _ in range(2 + 2 * self.seeds):
            total += resolve(subject, self.explainer).passes(self.draws * samples)
        return total

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Average each batch's maps under the trained and the random networks and compare."""
        explainer = resolve(subject, self.explainer)
        calibration = calibration_batch(subject, context, self.split)
        networks, _ = random_weights(subject, context, calibration, self._groups(subject), self.seeds)
        states = [{}, {}, *(weights for pair in networks for weights in pair)]
        for batch in context.batches(self.split):
            view = subject.view(batch)
            comparison = Comparison.of(view, ("signed",), 0.1, "maximum")
            found: list[Prepared] = []
            for draw, state in enumerate(states):
                noise = Draws.of(context, batch, "noise", draw)
                with swapped(subject.model, state):
                    here = subject.view(batch, view.targets)
                    maps = smoothed(here, explainer, context.number("explainer", draw), noise, self.draws, self.noise)
                found.append(comparison.prepared(*maps))
            trained, again, *random = found
            yield SELF.per_sample(_numpy([comparison.similarity(trained, again, "signed")]))
            ends = (random[0::2], random[1::2])
            for position, maps_of_end in zip(("first", "full"), ends, strict=True):
                each = [comparison.similarity(trained, other, "signed") for other in maps_of_end]
                yield SIMILARITY.per_sample(_numpy(each), position=position)
            pairs = combinations(ends[1], 2)
            yield NULL.per_sample(_numpy([comparison.similarity(one, other, "signed") for one, other in pairs]))

    def _groups(self, subject: Subject) -> list[Sequence[Stage]]:
        """The first stage to be random, and all of them."""
        tops = stages_of(subject, self.split, self.most_stages)
        return [tops[-1:] if self.order == "bottom-up" else tops[:1], tops]

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Explainers whose dependence on the parameters is known."""
        described = {
            "gradient": "A small convolutional network trained on digits, explained by its input gradient.",
            "input-x-gradient": "The same network, explained by input times gradient, whose signs change with the parameters.",
            "guided-backprop": "The same network, explained by Guided Backprop, which mostly restores the input.",
            "edges": "The same network, explained by an edge filter that sees no model.",
            "noise": "The same network, explained by noise: averaged noise is noise, and agrees with nothing.",
        }
        because = {
            "guided-backprop": "smooth_null_similarity",
            "edges": "smooth_similarity",
            "noise": "self_similarity",
        }
        kinds: dict[str, Literal["defect", "sound", "confounded"]] = {
            "guided-backprop": "defect",
            "edges": "defect",
            "noise": "confounded",
        }
        return tuple(
            Control(name, kinds.get(name, "sound"), text, controls.digits_by(name), because=because.get(name, ""))
            for name, text in described.items()
        )


def _numpy(similarities: list[Tensor]) -> Floats:
    return torch.cat(similarities).mean(0).double().cpu().numpy()

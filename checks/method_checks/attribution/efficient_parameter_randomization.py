"""The efficient randomisation test: does an explanation become more complex when what it explains is destroyed?"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from method_cards.check import Check, Context, Control, Passes
from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_cards.measurement import Quantity, Yielded
from method_checks.attribution import controls
from method_checks.attribution.controls import enlarged
from method_checks.attribution.explainers import Explainer, resolve
from method_checks.attribution.explainers.shared import explained
from method_checks.attribution.maps.comparisons import on_host
from method_checks.attribution.maps.complexity import Rule, bins_of, entropy
from method_checks.attribution.networks.drawn import (
    calibrated,
    calibration_batch,
    explained_once,
    name_of,
    random_weights,
    stages_of,
)
from method_checks.attribution.parameter_randomization import FEW, ParameterRandomization

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from method_cards.subject import Subject, View
    from method_checks.attribution.networks.stages import Stage

ROUNDING = 1e-9
"""Entropies that differ by less are equal, in nats: the order in which numbers were added up does not decide a tie."""

RISE = Quantity(
    "complexity_rise",
    "mean",
    "how much larger the entropy of the map's histogram is with all parameters random, relative to the trained model's",
    range=(-1.0, float("inf")),
)
SHARE = Quantity(
    "more_complex_share",
    "mean",
    "share of random networks whose map is more complex than the trained model's, ties by half: 0.5 where parameters do not matter",
)
SPREAD = Quantity(
    "null_spread",
    "mean",
    "how much the complexities of two independent random networks' maps differ, relative to their mean: what the draw alone does",
    range=(0.0, 2.0),
)
COMPLEXITY = Quantity(
    "complexity",
    "mean",
    "entropy of the histogram of the trained model's map",
    unit="nat",
    range=(0.0, float("inf")),
)
FLAT = Quantity(
    "flat_map",
    "proportion",
    "share of examples whose map by the trained model has no entropy, such as a constant one: it counts as not simpler than any other",
)


class EfficientParameterRandomization(Check):
    """An explanation of a model becomes more complex when the model's parameters are replaced by random ones.

    What it measures:
        The complexity of a map is the entropy of the histogram of its signed values, in `bins` of equal width between the map's
        smallest and largest value. `complexity_rise` is the paper's score: the relative rise of the entropy from the trained model to one
        with every parameter random, the mean over `seeds` networks. Its size depends on the number of bins, and on how far random
        networks differ among themselves, which `null_spread` tells. `more_complex_share` does not: it is the share of random
        networks whose map is more complex than the trained model's. For a map that knows no model, edges and noise alike, it is
        0.5, as it is for one random network among others. The networks are those of `attribution/parameter-randomization`.

    Assumptions:
        The explained class is the one that the trained model predicts, in every network. Each example counts once, and the interval is
        over examples, given these networks. A trained network explains with fewer, stronger values than a random one; nothing
        says that it must. It does on small networks for images, explained by gradients. It does not for tables and texts, where a map
        has few values, and not for methods that multiply by the input, whose maps are as simple as the input. Guided Backprop, which
        hardly depends on the upper layers, often becomes more complex too, and then passes. So a map that does not become more complex
        is a reason to doubt, and one that does is not proved.

    Cost:
        One explanation by the trained model and one for each random network; none where another check of the run has made them.
        `seeds` copies of the parameters are held in memory.

    Departures from the paper:
        Several random networks instead of one, and a share of them beside the score, which has a null without any further pass. The
        rules for the number of bins go by the number of values, and by their spread in the trained model's map for the last two;
        both maps of an example get the same number. Dividing a map by a number changes nothing, so it is left out. Every parameter is
        covered, and norm layers take their statistics from a batch.

    Sources:
        hedstrom2024fresh; adebayo2018sanity
    """

    id: ClassVar[str] = "attribution/efficient-parameter-randomization"
    quantities: ClassVar[tuple[Quantity, ...]] = (RISE, SHARE, SPREAD, COMPLEXITY, FLAT)

    explainer: Explainer | None = Field(
        default=None, description="The explanation method; the subject's own where left out."
    )
    split: str = Field(default="test", description="The data split whose examples are explained.")
    seeds: int = Field(default=8, ge=2, le=64, description="How many random networks are drawn.")
    bins: Annotated[int, Field(ge=2, le=10_000)] | Rule = Field(
        default=100, description="How many bins a histogram has, or the rule that says it."
    )
    sign: Literal["signed", "magnitude"] = Field(
        default="signed", description="Whether the histogram is of the map's values or of their magnitudes."
    )

    def splits(self) -> tuple[str, ...]:
        """The split whose examples are explained."""
        return (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """Without an explainer there is nothing to check, and language models have no single class to explain."""
        return controls.not_applicable(subject, self.explainer)

    def passes(self, subject: Subject, samples: int) -> Passes:
        """The explanations, the explained classes, and a calibration batch for each random network."""
        total = Passes(forward=samples + self.seeds * calibrated([_stages(subject, self.split)], samples))
        for _ in range(1 + self.seeds):
            total += resolve(subject, self.explainer).passes(samples)
        return total

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Explain each batch under the trained and the random networks, and compare how complex the maps are."""
        explainer = resolve(subject, self.explainer)
        calibration = calibration_batch(subject, context, self.split)
        drawn = replace(context, scope=ParameterRandomization.id)  # the same networks, and the same noise
        stages = _stages(subject, self.split)
        networks, _ = random_weights(subject, drawn, calibration, [stages], self.seeds)
        seen = without = 0
        for batch in context.batches(self.split):
            view = subject.view(batch)
            trained = self._map(view, explained(context, explainer, view))
            bins = bins_of(trained, self.bins, view.mask)
            own = entropy(trained, bins, view.mask)
            seen, without = seen + len(batch), without + int((own == 0).sum())
            if seen == without >= FEW:
                raise CheckError(
                    f'the explainer "{explainer.method}" gives maps without entropy, such as constant ones, for each of {seen} examples'
                )
            found = []
            for seed, (weights,) in enumerate(networks):
                noise = drawn.number("explainer", (seed + 1) * len(stages) - 1)
                network = name_of(drawn, calibration, seed)
                attributions = explained_once(subject, explainer, drawn, view, weights, noise, network)
                found.append(entropy(self._map(view, attributions), bins, view.mask))
            yield COMPLEXITY.per_sample(on_host(own))
            yield FLAT.per_sample(on_host(own == 0))
            random = torch.stack(found)
            yield RISE.per_sample(on_host(rise(own, random)))
            yield SHARE.per_sample(on_host(more_complex(own, random)))
            yield SPREAD.per_sample(on_host(spread(random)))

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Explainers of networks for digits; Guided Backprop is among them, which this test is known to miss."""
        return (
            Control(
                "gradient",
                "sound",
                "A small convolutional network trained on digits, explained by its input gradient.",
                controls.digits_by("gradient"),
            ),
            Control(
                "enlarged-gradient",
                "sound",
                "A network trained on digits of 32 x 32 pixels, explained by its input gradient.",
                enlarged.enlarged_by("gradient"),
            ),
            Control(
                "edges",
                "defect",
                "The network for small digits, explained by an edge filter that sees no model.",
                controls.digits_by("edges"),
                because="more_complex_share",
            ),
            Control(
                "noise",
                "defect",
                "The same network, explained by noise, which passes a test that rewards change and is as complex for any network.",
                controls.digits_by("noise"),
                because="more_complex_share",
            ),
            Control(
                "guided-backprop",
                "defect",
                "The same network, explained by Guided Backprop, which hardly depends on the upper layers: this test often misses it.",
                controls.digits_by("guided-backprop"),
                because="more_complex_share",
            ),
        )

    def _map(self, view: View, attributions: Tensor) -> Tensor:
        return view.as_map(attributions if self.sign == "signed" else attributions.abs())


def _stages(subject: Subject, split: str) -> tuple[Stage, ...]:
    """Those of `attribution/parameter-randomization`, which the noise of a random explainer is numbered by."""
    return stages_of(subject, split, ParameterRandomization().most_stages)


def rise(own: Tensor, random: Tensor) -> Tensor:
    """The relative rise of complexity, the mean over networks; 0 for maps without entropy.

    Args:
        own: Of the trained model's maps, ``(batch,)``.
        random: Of the random networks' maps, ``(network, batch)``.
    """
    flat = own == 0
    return ((random.mean(0) - own) / own.masked_fill(flat, 1.0)).masked_fill(flat, 0.0)


def more_complex(own: Tensor, random: Tensor) -> Tensor:
    """The share of networks with a more complex map, those with an equally complex one by half; 0 for maps without entropy.

    Args:
        own: Of the trained model's maps, ``(batch,)``.
        random: Of the random networks' maps, ``(network, batch)``.
    """
    near = (random - own).abs() <= ROUNDING
    above = ((random > own) & ~near).double() + 0.5 * near.double()
    return above.mean(0).masked_fill(own == 0, 0.0)


def spread(random: Tensor) -> Tensor:
    """How much two random networks' complexities differ, relative to their mean: the mean over pairs, ``(batch,)``."""
    pairs = [
        (one - other).abs() * 2 / (one + other).masked_fill(one + other == 0, 1.0)
        for one, other in combinations(random, 2)
    ]
    return torch.stack(pairs).mean(0)

"""Max-sensitivity: how far does a map move when its input moves a little?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from method_cards.check import Check, Context, Control, Passes
from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_cards.measurement import Quantity, Yielded
from method_checks.attribution import controls
from method_checks.attribution.changes.draws import Draws
from method_checks.attribution.changes.stability import CLIP, neighbours, padded_distance, relative, stability
from method_checks.attribution.explainers import Explainer, resolve
from method_checks.attribution.explainers.shared import explained
from method_checks.attribution.maps.similarity import spearman

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from method_cards.subject import Subject, View
    from method_checks.attribution.explainers import CustomExplainer

MAXIMUM = Quantity(
    "max_sensitivity",
    "mean",
    f"largest relative change of the map within the radius; {CLIP:g} stands for that and more",
    range=(0.0, CLIP),
)
AVERAGE = Quantity(
    "average_sensitivity",
    "mean",
    f"mean relative change of the map within the radius; each change counts as {CLIP:g} at most",
    range=(0.0, CLIP),
)
DEPENDENCE = Quantity(
    "input_dependence",
    "mean",
    f"relative change of the map when another example takes the input's place, at most {CLIP:g}; 0 for a map that is always the same",
    range=(0.0, CLIP),
)
LIPSCHITZ = Quantity(
    "local_lipschitz",
    "mean",
    "largest ratio of the map's change to the input's",
    unit="attribution per feature",
    range=(0.0, float("inf")),
)
INPUT = Quantity(
    "relative_input_stability",
    "mean",
    "largest ratio of the relative changes of map and input, over points of the same class",
    range=(0.0, float("inf")),
)
OUTPUT = Quantity(
    "relative_output_stability",
    "mean",
    "largest ratio of the relative changes of map and logits, over points of the same class",
    range=(0.0, float("inf")),
)
KEPT = Quantity("same_class", "mean", "share of the points within the radius that the model puts into the same class")
SELF = Quantity(
    "self_similarity",
    "mean",
    "rank correlation of two signed maps of the same model and input: 1 unless the explainer is random",
    range=(-1.0, 1.0),
)

OTHERS = 8
"""How many other examples a map is compared with."""

UNLIKE = Quantity(
    "unlike_itself",
    "proportion",
    "share of examples whose two maps of the same input correlate less than they must: the explainer is random",
)


class MaxSensitivity(Check):
    """A map moves little when its input moves little, and is another one for another input.

    What it measures:
        Each input is moved `draws` times to a point that is drawn uniformly from the cube of `radius` times the input's range, and
        explained again, for the same class. `max_sensitivity` is the largest distance of these maps from the input's own, as a share of
        its length, `average_sensitivity` their mean. A constant map scores 0 on both, so `input_dependence` stands beside them: the
        relative distance to the maps of other examples. From the same points come the local Lipschitz estimate and the stability relative
        to the change of input and output.

    Assumptions:
        The points of the cube are as good as the input itself to whoever reads the map. The maximum over few draws in many dimensions is
        close to their mean and below the true maximum: an adversary finds more. Relative changes are clipped at 2. An explainer
        that draws random numbers moves by itself: `self_similarity` tells how alike two maps of the same input are, and `unlike_itself`
        for how many examples that is less than `least_self_similarity`.

    Cost:
        `draws` + 2 explanations and `draws` + 2 forward passes for each example, and eight explanations for the comparison with others.

    Departures from the paper:
        The radius is relative to the range of the input. Means and maxima are clipped, so that an interval exists. The relative
        stabilities divide lengths of vectors, not vectors element by element, which is not defined where a feature or an attribution is
        zero, and not by less than 0.001; the one relative to an internal representation is not measured, as it depends on the choice
        of a layer.

    Sources:
        yeh2019infidelity; alvarezmelis2018robustness; agarwal2022rethinking; bhatt2020evaluating
    """

    id: ClassVar[str] = "attribution/max-sensitivity"
    quantities: ClassVar[tuple[Quantity, ...]] = (
        MAXIMUM,
        AVERAGE,
        DEPENDENCE,
        LIPSCHITZ,
        INPUT,
        OUTPUT,
        KEPT,
        SELF,
        UNLIKE,
    )
    gates: ClassVar[tuple[str, ...]] = ("unlike_itself",)

    explainer: Explainer | None = Field(
        default=None, description="The explanation method; the subject's own where left out."
    )
    split: str = Field(default="test", description="The data split whose examples are explained.")
    draws: int = Field(default=10, ge=2, le=1000, description="How many points around each input are explained.")
    radius: float = Field(
        default=0.02, gt=0, le=1, description="Half the side of the cube, as a share of each example's range."
    )
    least_self_similarity: float = Field(
        default=0.9, gt=-1, lt=1, description="The rank correlation that two maps of the same input must reach."
    )

    def splits(self) -> tuple[str, ...]:
        """The split whose examples are explained."""
        return (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """Without an explainer there is nothing to check, and language models have no single class to explain."""
        return controls.not_applicable(subject, self.explainer)

    def passes(self, subject: Subject, samples: int) -> Passes:
        """Two maps of each input, those of its neighbours and of the others, and the outputs that go with them."""
        explainer = resolve(subject, self.explainer)
        others = min(OTHERS, samples)
        total = Passes(forward=(self.draws + 2) * samples + others)
        for count in (*[samples] * (self.draws + 2), others):
            total += explainer.passes(count)
        return total

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Explain each batch, and its neighbourhood, and compare."""
        explainer = resolve(subject, self.explainer)
        chosen = context.indices(self.split)[:OTHERS]
        others = _inside(*self._explained(subject, context, explainer, chosen))
        for batch in context.batches(self.split):
            view = subject.view(batch)
            own = explained(context, explainer, view)
            again = explainer.explain(view, context.number("again"))
            alike = spearman(view.as_map(own), view.as_map(again), view.content).cpu().numpy()
            yield SELF.per_sample(alike)
            yield UNLIKE.per_sample(alike < self.least_self_similarity)
            found = neighbours(
                view,
                own,
                explainer,
                draws=Draws.of(context, batch),
                seed=context.number("explainer"),
                count=self.draws,
                radius=self.radius,
            )
            change = relative(found.moved, found.length)
            yield MAXIMUM.per_sample(change.amax(0).cpu().numpy())
            yield AVERAGE.per_sample(change.mean(0).cpu().numpy())
            yield KEPT.per_sample(found.is_same_class.double().mean(0).cpu().numpy())
            step = found.input_moved
            yield LIPSCHITZ.per_sample((found.moved / step.where(step > 0, 1)).amax(0).cpu().numpy())
            for quantity, moved, length in (
                (INPUT, found.input_moved, found.input_length),
                (OUTPUT, found.output_moved, found.output_length),
            ):
                yield quantity.per_sample(stability(found, moved, length, 1e-3).cpu().numpy())
            yield DEPENDENCE.per_sample(_dependence(_inside(view, own), others, batch.indices, chosen).cpu().numpy())

    def _explained(
        self, subject: Subject, context: Context, explainer: Explainer | CustomExplainer, chosen: tuple[int, ...]
    ) -> tuple[View, Tensor]:
        view = subject.view(subject.batch(self.split, chosen))
        if len(chosen) < OTHERS:
            raise CheckError(
                f'split "{self.split}" gives {len(chosen)} examples; at least {OTHERS} are needed to tell how a map depends on its input'
            )
        return view, explainer.explain(view, context.number("others"))

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Maps that follow the input calmly, one that jumps, one that never moves, and noise."""
        return (
            Control(
                "gradient",
                "sound",
                "A small convolutional network trained on digits, explained by its gradient.",
                controls.digits_by("gradient"),
            ),
            Control(
                "integrated-gradients",
                "sound",
                "The same network, explained by Integrated Gradients, an average of gradients over a line.",
                controls.digits_by("integrated-gradients", steps=8),
            ),
            Control(
                "gradient-of-texts",
                "sound",
                "A small network that classifies texts, explained at its token embeddings.",
                controls.words_by("gradient"),
            ),
            Control(
                "gradient-of-a-table",
                "sound",
                "A small network that classifies rows of a table, explained by its gradient.",
                controls.table_by("gradient"),
            ),
            Control(
                "jumps",
                "defect",
                "The network for digits, explained by noise that is seeded by the last digits of the input: always the same for an input, "
                "another one beside it.",
                _DigitsExplainedBy("jumps"),
                because="max_sensitivity",
            ),
            Control(
                "constant",
                "defect",
                "The network for digits, explained by the same numbers for each input: perfectly stable and about nothing.",
                _DigitsExplainedBy("constant"),
                because="input_dependence",
            ),
            Control(
                "noise",
                "confounded",
                "The network for digits, explained by noise, which moves without the input.",
                controls.digits_by("noise"),
                because="unlike_itself",
            ),
        )


def _inside(view: View, attributions: Tensor) -> Tensor:
    return attributions * view.spread(view.content)


def _dependence(own: Tensor, others: Tensor, indices: tuple[int, ...], chosen: tuple[int, ...]) -> Tensor:
    """The mean relative distance of each map to those of other examples, its own left out, ``(batch,)``."""
    length = own.double().flatten(1).norm(dim=1)
    change = relative(padded_distance(own, others), length[:, None])
    is_other = torch.tensor([[index != other for other in chosen] for index in indices], device=own.device)
    return (change * is_other).sum(1) / is_other.sum(1)


class _DigitsExplainedBy:
    """A function of the seed that can be sent to another process."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, seed: int) -> Subject:
        subject = controls.digits_by("gradient")(seed)
        subject.explainer = {"jumps": jumps, "constant": constant}[self._name]
        return subject


def jumps(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG001
    """Numbers between -1 and 1 from the digits of each input that nobody looks at."""
    unseen = (inputs.flatten(1).double().sum(1) * 1e4).sin() * 1e4
    places = torch.arange(1, inputs[0].numel() + 1, device=inputs.device, dtype=torch.float64)
    return (unseen[:, None] * places).sin().reshape(inputs.shape).to(inputs.dtype)


def constant(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG001
    """The same numbers for every input."""
    return torch.linspace(-1, 1, inputs[0].numel(), device=inputs.device, dtype=inputs.dtype).reshape(
        inputs.shape[1:]
    ) * torch.ones_like(inputs)

"""The limits of randomisation: a map that changes with the parameters need not say anything about the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from method_cards.check import Check, Context, Control, Need, Passes
from method_cards.lazy import torch
from method_cards.measurement import Quantity, Yielded
from method_checks.attribution import controls
from method_checks.attribution.changes.removal import By, Removal, flat, positions_of, random_gain
from method_checks.attribution.changes.substrates import Substrate
from method_checks.attribution.explainers import Explainer, resolve
from method_checks.attribution.explainers.shared import explained
from method_checks.attribution.maps.comparisons import Comparison, on_host
from method_checks.attribution.networks.drawn import (
    calibrated,
    calibration_batch,
    explained_by,
    random_weights,
    stages_of,
)
from method_checks.attribution.networks.randomization import swapped
from method_checks.attribution.networks.retention import scale_retention

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from method_cards.subject import Subject, View

CHANGE = Quantity(
    "top_similarity",
    "mean",
    "rank correlation of signed maps, trained against with the output's stage randomised",
    range=(-1.0, 1.0),
)
GAIN = Quantity(
    "deletion_gain",
    "mean",
    "mean probability of the target while positions are deleted in random orders, less that in the map's order; 0 by chance",
    range=(-1.0, 1.0),
)
RETENTION = Quantity(
    "scale_retention",
    "mean",
    "rank correlation over channels of the size of activations below the random stage and of their part in the random output",
    range=(-1.0, 1.0),
)
SELF = Quantity(
    "self_similarity",
    "mean",
    "rank correlation of two signed maps of the same model and input: 1 unless the explainer is random",
    range=(-1.0, 1.0),
)
FLAT = Quantity(
    "flat_curve",
    "proportion",
    "share of examples whose probability hardly moves in any random order of deletion, so that no order can be better than another",
)


def noise_of_weights(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG001  (an explainer's signature)
    """Noise that follows from the parameters and the example: always the same for a network, and new for each random one."""
    weights = tuple(float(parameter.detach().double().sum()) for parameter in model.parameters())
    maps = []
    for one in inputs:
        seed = hash((weights, float(one.double().sum()))) % 2**63
        maps.append(torch.randn(one.shape, generator=torch.Generator().manual_seed(seed)))
    return torch.stack(maps).to(inputs)


class _Noisy:
    """A builder of digit classifiers explained by `noise_of_weights`; it can be sent to another process."""

    def __call__(self, seed: int) -> Subject:
        subject = controls.digits_by("gradient")(seed)
        subject.explainer = noise_of_weights
        return subject


class RandomizationLimits(Check):
    """A map that changes when parameters are randomised also orders the features that the model's output depends on.

    What it measures:
        Three numbers on the same examples. `top_similarity`: rank correlation of the signed map before and after the output's
        stage is randomised, the part of the randomisation test that tells most. `deletion_gain`: positions are replaced by
        `substrate` in the map's order, highest first, in `steps` parts from none to all; the area under the probability of the
        explained class is taken from the mean area of `orders` random orders of the same example. `scale_retention`: for the
        channels that feed the random stage, the rank correlation of the size of their activations and of the size of their part in
        the random network's output; high values mean that strong channels stay strong below a random top, so that some similarity
        of maps is legitimate.

    Assumptions:
        No verdict follows from randomisation alone: a prescription bounds `top_similarity` and `deletion_gain` together. Noise
        that follows from the weights changes perfectly and has no gain. Deletion leaves the data distribution, so that the gain
        also depends on the substrate. It is zeros here, from which the contributions of most methods count, and the order is that of
        magnitudes, so that maps of contributions and of slopes are both given their due: this gain is a companion and no ranking.
        Where the probability moves by less than `least_change` in all random orders, nothing can be said: `flat_curve` counts these
        examples, and they are left out of the gain.

    Cost:
        Two explanations by the trained model and one for each seed; one forward pass for each step and order (the map's and the
        random ones), shared with the check `attribution/pixel-flipping` where both delete alike; one forward and backward pass for
        each seed.

    Departures from the paper:
        The paper compares the rankings of many methods under both kinds of tests; here one method has to meet both. Retention is
        measured as activation times gradient at the input of the output's stage, since the activations themselves are the same by
        construction. Deletion replaces single positions, not regions.

    Sources:
        binder2023shortcomings; samek2017evaluating; adebayo2018sanity
    """

    id: ClassVar[str] = "attribution/randomization-limits"
    version: ClassVar[str] = "2"
    needs: ClassVar[tuple[Need, ...]] = ("gradients",)
    quantities: ClassVar[tuple[Quantity, ...]] = (CHANGE, GAIN, RETENTION, SELF, FLAT)
    gates: ClassVar[tuple[str, ...]] = ("self_similarity", "flat_curve")

    explainer: Explainer | None = Field(
        default=None, description="The explanation method; the subject's own where left out."
    )
    split: str = Field(default="test", description="The data split whose examples are explained.")
    substrate: Substrate = Field(default="zeros", description="What stands where something was deleted.")
    by: By = Field(default="magnitude", description="Whether values or their magnitudes say what is deleted first.")
    steps: int = Field(default=16, ge=2, le=1024, description="In how many parts everything is deleted, at most.")
    orders: int = Field(default=4, ge=1, le=64, description="How many random orders the map's order is compared with.")
    least_change: float = Field(
        default=0.05, gt=0, lt=1, description="The least movement of the probability along random orders."
    )
    seeds: int = Field(default=2, ge=1, le=20, description="How many random networks are drawn.")
    most_stages: int = Field(default=12, ge=1, le=64, description="The most stages that layers are grouped into.")

    def splits(self) -> tuple[str, ...]:
        """The split whose examples are explained."""
        return (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """Without an explainer there is nothing to check, and language models have no single class to explain."""
        return controls.not_applicable(subject, self.explainer)

    def passes(self, subject: Subject, samples: int) -> Passes:
        """The explanations, the deletions and their ends, the retention, and calibration batches."""
        steps = min(self.steps, positions_of(subject, self.split))
        deletions = 2 + (1 + self.orders) * (steps - 1)
        tops = stages_of(subject, self.split, self.most_stages)
        total = Passes(forward=(1 + deletions) * samples + self.seeds * calibrated([tops[:1]], samples))
        total += Passes(backward=self.seeds * samples)
        for _ in range(2 + self.seeds):
            total += resolve(subject, self.explainer).passes(samples)
        return total

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Randomise the output's stage, and delete positions of the trained model's inputs."""
        explainer = resolve(subject, self.explainer)
        calibration = calibration_batch(subject, context, self.split)
        tops = stages_of(subject, self.split, self.most_stages)
        networks, _ = random_weights(subject, context, calibration, [tops[:1]], self.seeds)
        states = [weights for (weights,) in networks]
        for batch in context.batches(self.split):
            view = subject.view(batch)
            comparison = Comparison.of(view, ("signed",), 0.1, "maximum")
            trained = view.as_map(explained(context, explainer, view))[None]
            again = view.as_map(explained(context, explainer, view, draw=1))[None]
            yield SELF.per_sample(on_host(comparison.signed(trained, again)))
            random = explained_by(subject, explainer, context, view, states)
            changed = [comparison.signed(trained, view.as_map(each)[None]) for each in random]
            yield CHANGE.per_sample(on_host(torch.stack(changed).mean(0)))
            yield from self._retention(subject, view, states, tops[0].modules)
            removal = Removal(context, view, explainer, self.split, substrate=self.substrate, by=self.by)
            orders = [removal.curve(order, self.steps) for order in range(self.orders)]
            is_flat = flat(orders, self.least_change)
            yield FLAT.per_sample(is_flat.cpu().numpy())
            if not bool(is_flat.all()):
                yield GAIN.per_sample(on_host(random_gain(orders, removal.curve("most", self.steps))[~is_flat]))

    def _retention(
        self, subject: Subject, view: View, states: list[dict[str, Tensor]], modules: tuple[str, ...]
    ) -> Iterator[Yielded]:
        """Nothing where the stage is never called as a module, so that what feeds it cannot be seen."""
        found = []
        for state in states:
            with swapped(subject.model, state):
                one = scale_retention(subject.view(view.batch, view.targets), modules)
            if one is None:
                return
            found.append(one)
        yield RETENTION.per_sample(on_host(torch.stack(found).mean(0)))

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Explainers that change and are faithful, that change and are not, and that do not change."""
        return (
            Control(
                "integrated-gradients",
                "sound",
                "A small convolutional network trained on digits, explained by Integrated Gradients with 8 steps.",
                controls.digits_by("integrated-gradients", steps=8),
            ),
            Control(
                "input-x-gradient",
                "sound",
                "The same network, explained by input times gradient.",
                controls.digits_by("input-x-gradient"),
            ),
            Control(
                "noise-of-weights",
                "defect",
                "The same network, explained by noise that follows from its parameters, which passes every randomisation test.",
                _Noisy(),
                because="deletion_gain",
            ),
            Control(
                "guided-backprop",
                "defect",
                "The same network, explained by Guided Backprop, which hardly depends on the output's layer.",
                controls.digits_by("guided-backprop"),
                because="top_similarity",
            ),
            Control(
                "noise",
                "confounded",
                "The same network, explained by new noise each time.",
                controls.digits_by("noise"),
                because="self_similarity",
            ),
        )

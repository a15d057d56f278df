"""Random networks in place of the trained one: their weights, to be swapped in for one explanation at a time.

Sources: adebayo2018sanity (the randomisation), as `method_checks.attribution.networks.randomization` and `stages` carry it out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from method_checks.attribution.explainers.shared import settings_of
from method_checks.attribution.networks.randomization import Stage, random_state, recalibrated, stages, swapped

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

    from torch import Tensor

    from method_cards.check import Context
    from method_cards.data import Batch
    from method_cards.subject import Subject, View
    from method_checks.attribution.explainers import CustomExplainer, Explainer

CALIBRATION = 64
"""How many examples give a random network's norm layers their statistics."""


def calibration_batch(subject: Subject, context: Context, split: str) -> Batch:
    """The first examples of a run."""
    return subject.batch(split, context.indices(split)[:CALIBRATION])


def stages_of(subject: Subject, split: str, most: int) -> tuple[Stage, ...]:
    """The subject's stages, the output's first, in the order in which the first example of a split goes through them."""
    batch = subject.batch(split, (0,))
    return stages(subject.model, lambda: subject.outputs(batch), subject.layers, most)


def calibrated(groups: Iterable[Sequence[Stage]], samples: int) -> int:
    """How many examples go through the network for its norm layers, for one random network with these groups of stages."""
    return sum(min(CALIBRATION, samples) for group in groups if any(stage.buffers for stage in group))


def random_weights(
    subject: Subject, context: Context, calibration: Batch, groups: Sequence[Sequence[Stage]], seeds: int
) -> tuple[list[list[dict[str, Tensor]]], float]:
    """For each seed one random network, of which each group of stages is swapped in.

    Args:
        subject: Whose parameters are drawn anew; the model is not changed.
        context: Where random numbers come from.
        calibration: Examples that give norm layers inside a group their statistics.
        groups: Stages that are random together, one group for each set of weights.
        seeds: How many networks are drawn.

    Returns:
        Parameters and buffers by seed and group, and the share of parameters that stays as it was.
    """
    found: list[list[dict[str, Tensor]]] = []
    sizes = {name: parameter.numel() for name, parameter in subject.model.named_parameters()}
    unchanged = 0
    for seed in range(seeds):
        drawn = random_state(subject.model, context.generator("parameters", seed))
        unchanged = sum(sizes[name] for name in drawn.unchanged)
        found.append([_weights(subject, drawn.state, group, calibration) for group in groups])
    return found, unchanged / max(1, sum(sizes.values()))


def explained_by(
    subject: Subject,
    explainer: Explainer | CustomExplainer,
    context: Context,
    view: View,
    states: Sequence[Mapping[str, Tensor]],
    kept: Mapping[int, Hashable] | None = None,
) -> Iterator[Tensor]:
    """Attributions of the same examples and classes by networks with these weights, one after the other.

    Args:
        subject: Whose model is explained.
        explainer: The method.
        context: Where its noise comes from.
        view: The examples, with the classes that the trained model predicts.
        states: Parameters and buffers to swap in; all others stay.
        kept: What tells the weights of some states, by their place, from any others: other checks of the run explain these networks too.
    """
    for draw, state in enumerate(states):
        noise = context.number("explainer", draw)
        network = (kept or {}).get(draw)
        if network is None:
            yield explained_with(subject, explainer, view, state, noise)
        else:
            yield explained_once(subject, explainer, context, view, state, noise, network)


def explained_with(
    subject: Subject, explainer: Explainer | CustomExplainer, view: View, state: Mapping[str, Tensor], noise: int
) -> Tensor:
    """Attributions by the network with these weights; ``noise`` is the seed of a random method."""
    with swapped(subject.model, state):
        return explainer.explain(subject.view(view.batch, view.targets), noise)


def explained_once(
    subject: Subject,
    explainer: Explainer | CustomExplainer,
    context: Context,
    view: View,
    state: Mapping[str, Tensor],
    noise: int,
    network: Hashable,
) -> Tensor:
    """As `explained_with`, made once in a run for each explainer, batch, noise and network."""
    return context.once(
        ("explanation of a random network", *settings_of(explainer, view), network, noise),
        lambda _: explained_with(subject, explainer, view, state, noise),
    )


def name_of(context: Context, calibration: Batch, seed: int) -> Hashable:
    """What tells a network with every parameter random, as `random_weights` draws it, from any other."""
    return context.number("parameters", seed), calibration.indices


def _weights(
    subject: Subject, state: Mapping[str, Tensor], group: Sequence[Stage], calibration: Batch
) -> dict[str, Tensor]:
    parameters = {name: state[name] for stage in group for name in stage.parameters}
    buffers = [name for stage in group for name in stage.buffers]
    if not buffers:
        return parameters
    with swapped(subject.model, parameters):
        return {**parameters, **recalibrated(subject.model, buffers, lambda: subject.outputs(calibration))}

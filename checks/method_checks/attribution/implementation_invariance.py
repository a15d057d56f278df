"""Implementation invariance: does an explanation stay the same when the network is written another way?"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from method_cards.check import Check, Context, Control, Passes
from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_cards.measurement import Quantity, Yielded
from method_checks.attribution import controls
from method_checks.attribution.controls import hygiene as hygiene_controls
from method_checks.attribution.explainers import Explainer, resolve
from method_checks.attribution.networks.hygiene import changed
from method_checks.attribution.networks.rewrites import rewrites

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor, nn

    from method_cards.subject import Subject

AGREEMENT = 5e-3
"""The difference of logits, as a share of the largest, up to which two networks compute the same."""

CHANGED = Quantity(
    "changed_explanations",
    "proportion",
    "share of examples whose map differs by more than the tolerance for at least one rewriting of the network",
)
DIFFERENCE = Quantity(
    "map_difference",
    "mean",
    "sum of absolute differences of both maps over the sum of their magnitudes: 0 for equal, 1 for disjoint or opposed maps",
    by=("rewriting",),
)
DISAGREE = Quantity(
    "outputs_disagree", "proportion", "share of examples for which some rewritten network gives other logits"
)
IRREPRODUCIBLE = Quantity(
    "irreproducible_explanations",
    "proportion",
    "share of examples whose map of the unchanged network differs from itself, made from the same seed",
)
EMPTY = Quantity(
    "empty_explanations", "proportion", "share of examples whose map is zero everywhere; they are not compared"
)
COMPARED = Quantity("rewritings", "exact", "how many rewritings of the network are compared", range=(0.0, float("inf")))
REFUSED = Quantity(
    "refused_rewritings",
    "exact",
    "rewritings that the explainer refuses to explain, although the network computes the same",
    range=(0.0, float("inf")),
)


def relative_difference(one: Tensor, other: Tensor) -> Tensor:
    """The sum of absolute differences over the sum of magnitudes of both.

    Args:
        one: ``(batch, ...)``.
        other: The same shape.

    Returns:
        ``(batch,)`` float64 in [0, 1]; 0 where both are zero everywhere.
    """
    first, second = one.double().flatten(1), other.double().flatten(1)
    total = first.abs().sum(1) + second.abs().sum(1)
    found = (first - second).abs().sum(1) / torch.where(total > 0, total, torch.ones_like(total))
    return found.clamp(max=1.0)


class ImplementationInvariance(Check):
    """An explanation of a function does not change when the network is rewritten without changing what it computes.

    What it measures:
        The network is rewritten in all ways that fit it: activation modules become function calls, function calls become modules, a
        second ReLU follows each ReLU, the first ReLU is computed as x (x > 0), linear layers are split in two by a random rotation,
        hidden units are scaled by powers of two that the next layer takes back, hidden units change places, norm layers are folded
        into the layer before. Each example is explained under each network, for the class that the original predicts and from the
        same seed. `map_difference` is |a - b|₁ / (|a|₁ + |b|₁) for each rewriting; `changed_explanations` the share of examples for
        which it is above `tolerance` for any. `outputs_disagree` looks whether the networks do compute the same.

    Assumptions:
        The explanation is meant to be one of the function. Explanations of a layer, such as Grad-CAM, may change rightly when a layer
        is folded or scaled. Rewritings that exchange or scale units, fold norms, or turn functions into modules need a network that
        `torch.fx` can trace; others replace modules in place. A function of one's own that ignores the model that it is given
        passes: randomise parameters as well. Rounding can move a ReLU across its kink for a rare example.

    Cost:
        One forward pass and one explanation for each network, and a second explanation by the original, for at most `examples`
        examples: a method either depends on the implementation or does not. A copy of the network for each
        rewriting is held in memory, at most eight.

    Departures from the paper:
        The axiom is an equality for all equivalent networks; here it is tested up to a tolerance on a few of them, so that it can be
        refuted and not confirmed.

    Sources:
        sundararajan2017axiomatic
    """

    id: ClassVar[str] = "attribution/implementation-invariance"
    quantities: ClassVar[tuple[Quantity, ...]] = (
        CHANGED,
        DIFFERENCE,
        DISAGREE,
        IRREPRODUCIBLE,
        EMPTY,
        COMPARED,
        REFUSED,
    )
    gates: ClassVar[tuple[str, ...]] = ("outputs_disagree", "irreproducible_explanations", "empty_explanations")

    explainer: Explainer | None = Field(
        default=None, description="The explanation method; the subject's own where left out."
    )
    split: str = Field(default="test", description="The data split whose examples are explained.")
    examples: int = Field(
        default=64, ge=8, le=4096, description="The most examples that are explained, however many the run draws."
    )
    tolerance: float = Field(
        default=0.01, gt=0, lt=1, description="The difference of two maps above which an explanation has changed."
    )

    def splits(self) -> tuple[str, ...]:
        """The split whose examples are explained."""
        return (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """There must be an explainer, a class, and a way in which the network can be rewritten."""
        if reason := controls.not_applicable(subject, self.explainer):
            return reason
        made, refused = rewrites(subject.model, torch.Generator(subject.device))
        if made:
            return ""
        reasons = "; ".join(f"{name}: {why}" for name, why in refused.items())
        return f"The network cannot be rewritten without changing what it computes: {reasons}."

    def passes(self, subject: Subject, samples: int) -> Passes:
        """The logits and the explanations of all networks."""
        samples = min(samples, self.examples)
        made, _ = rewrites(subject.model, torch.Generator(subject.device))
        total = Passes(forward=(1 + len(made)) * samples)
        for _ in range(2 + len(made)):
            total += resolve(subject, self.explainer).passes(samples)
        return total

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Explain each batch under all networks, and compare."""
        explainer = resolve(subject, self.explainer)
        made, reasons = rewrites(subject.model, context.generator("rewriting"))
        others = {name: _with_model(subject, model) for name, model in made.items()}
        if not others:
            raise CheckError(f"the network cannot be rewritten without changing what it computes: {reasons}")
        refused = 0
        done = 0
        for number, drawn in enumerate(context.batches(self.split)):
            left = self.examples - done
            if left <= 0:
                break
            batch = drawn if len(drawn) <= left else subject.batch(self.split, drawn.indices[:left])
            done += len(batch)
            logits = subject.outputs(batch)
            view = subject.view(batch, logits.argmax(1))
            maps = [explainer.explain(view, context.number("explainer")) for _ in range(2)]
            found: dict[str, Tensor] = {}
            for name in list(others):
                seed = context.number("explainer")
                try:
                    found[name] = explainer.explain(others[name].view(batch, view.targets), seed)
                except CheckError as error:
                    if number:
                        raise
                    del others[name]
                    refused += 1
                    if not others:
                        raise CheckError(
                            f"the explainer refuses every rewritten network, although each computes the same: {error}"
                        ) from error
            if number == 0:
                yield COMPARED.exact(len(others))
                yield REFUSED.exact(refused)
            disagree = [changed(logits, other.outputs(batch), AGREEMENT) for other in others.values()]
            yield DISAGREE.per_sample(torch.stack(disagree).any(0).cpu().numpy())
            yield from self._compared(maps[0], maps[1], found)

    def _compared(self, first: Tensor, again: Tensor, found: Mapping[str, Tensor]) -> Iterator[Yielded]:
        """The differences of one batch."""
        same = relative_difference(first, again) > self.tolerance
        zero = (first.flatten(1) == 0).all(1)
        yield IRREPRODUCIBLE.per_sample(same.cpu().numpy())
        yield EMPTY.per_sample(zero.cpu().numpy())
        differences = {name: relative_difference(first, other)[~zero] for name, other in found.items()}
        for name, values in differences.items():
            yield DIFFERENCE.per_sample(values.cpu().numpy(), rewriting=name)
        largest = torch.stack(list(differences.values())).amax(0)
        yield CHANGED.per_sample((largest > self.tolerance).cpu().numpy())

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Explainers of the function, and explainers of how it is written."""
        network = "A small convolutional network trained on digits"
        return (
            Control(
                "gradient",
                "sound",
                f"{network}, explained by its input gradient, which the chain rule makes independent of the implementation.",
                controls.digits_by("gradient"),
            ),
            Control(
                "integrated-gradients",
                "sound",
                f"{network}, explained by Integrated Gradients with 8 steps.",
                controls.digits_by("integrated-gradients", steps=8),
            ),
            Control(
                "text",
                "sound",
                "A network that reads short texts by functional ReLU, explained by input times gradient.",
                controls.words_by("input-x-gradient"),
            ),
            Control(
                "guided-by-hooks",
                "defect",
                f"{network}, explained by Guided Backprop through hooks on modules, which a functional ReLU escapes.",
                partial(hygiene_controls.subject, explainer=guided_by_hooks),
                because="changed_explanations",
            ),
            Control(
                "guided-backprop",
                "defect",
                f"{network}, explained by Guided Backprop on recorded operations, which a ReLU written as a product escapes.",
                controls.digits_by("guided-backprop"),
                because="changed_explanations",
            ),
            Control(
                "hidden-activations",
                "defect",
                f"{network}, explained by the sum of its first layer's activations, whose scale is arbitrary.",
                partial(hygiene_controls.subject, explainer=hidden_activations),
                because="changed_explanations",
            ),
            Control(
                "moving-point",
                "confounded",
                f"{network}, explained at a point that moves from call to call, so that every comparison differs.",
                partial(hygiene_controls.subject, explainer=hygiene_controls.Remembering),
                because="irreproducible_explanations",
            ),
        )


def guided_by_hooks(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Guided Backprop as libraries do it: negative gradients are cut where they enter an ``nn.ReLU`` module."""

    def cut(_module: nn.Module, given: Tensor, _incoming: object) -> tuple[Tensor]:
        return (given[0].clamp(min=0),)

    handles = [
        module.register_full_backward_hook(cut) for module in model.modules() if isinstance(module, torch.nn.ReLU)
    ]
    try:
        return hygiene_controls.input_gradient(model, inputs, targets)
    finally:
        for handle in handles:
            handle.remove()


def hidden_activations(model: nn.Module, inputs: Tensor, _targets: Tensor) -> Tensor:
    """The sum over channels of what the first convolution gives."""
    found: list[Tensor] = []
    first = next(module for module in model.modules() if isinstance(module, torch.nn.Conv2d))
    handle = first.register_forward_hook(lambda _module, _given, output: found.append(output.sum(1, keepdim=True)))
    try:
        model(inputs)
    finally:
        handle.remove()
    return found[0]


def _with_model(subject: Subject, model: nn.Module) -> Subject:
    names = {name for name, _ in model.named_modules()}
    return replace(subject, model=model, layers=tuple(layer for layer in subject.layers if layer in names), replicas=())

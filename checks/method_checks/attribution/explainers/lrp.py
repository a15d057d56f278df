"""Layer-wise relevance propagation: each layer divides what it gets among its inputs by their shares in its sums.

It is computed as a modified derivative: what passes back at a place is relevance by activation, so that the product of the
two at the features is their relevance.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from pydantic import Field

from method_cards.lazy import torch
from method_checks.attribution.explainers.base import Bundled
from method_checks.attribution.explainers.gradients import gradients_at
from method_checks.attribution.explainers.rules import POOLS, Call, Rule, derived, ratios, with_rules

if TYPE_CHECKING:
    from torch import Tensor

    from method_cards.subject import View
    from method_checks.attribution.explainers.generators import Generators

Composite: TypeAlias = Literal["epsilon", "z-plus", "epsilon-plus", "gamma"]
"""Which rule convolutions follow; fully connected layers follow the epsilon rule, and z-plus under ``z-plus``."""

CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
ACTIVATIONS = ("relu", "leaky_relu", "elu", "gelu", "silu", "tanh")
"""Functions that are 0 at 0: they pass relevance on as it is."""


class Lrp(Bundled):
    """The logit, divided layer after layer among the inputs by their shares in each sum.

    Under ``epsilon`` all layers follow the epsilon rule, which for ReLU networks is input times gradient up to epsilon. Biases
    and epsilon keep relevance back, so that attributions do not add up to the logit. A maximum goes to the place where it is
    reached; a batch norm layer is a layer of its own, not merged into the convolution before it.
    """

    title: ClassVar[str] = "LRP"
    sources: ClassVar[tuple[str, ...]] = ("bach2015pixel", "montavon2019layerwise")

    method: Literal["lrp"] = "lrp"
    composite: Composite = Field(
        default="epsilon-plus",
        description="epsilon: everywhere; z-plus: everywhere; epsilon-plus, gamma: z-plus or gamma in convolutions, epsilon elsewhere.",
    )
    epsilon: float = Field(default=1e-6, gt=0, le=1, description="What is added to the size of each sum.")
    gamma: float = Field(default=0.25, gt=0, le=100, description="How much more positive weights count under gamma.")

    @property
    def multiplied(self) -> bool:
        """True."""
        return True

    def _attributions(self, view: View, generators: Generators) -> Tensor:  # noqa: ARG002
        by_epsilon = partial(_by_epsilon, epsilon=self.epsilon)
        by_sign = partial(_by_sign, epsilon=self.epsilon)
        chosen = {
            "epsilon": by_epsilon,
            "z-plus": by_sign,
            "epsilon-plus": by_sign,
            "gamma": partial(_by_gamma, epsilon=self.epsilon, gamma=self.gamma),
        }[self.composite]
        rules: dict[str, Rule] = dict.fromkeys(CONVOLUTIONS, chosen) | dict.fromkeys(ACTIVATIONS, _passed_on)
        rules |= {"linear": by_sign if self.composite == "z-plus" else by_epsilon, "batch_norm": by_epsilon}
        rules |= dict.fromkeys(POOLS, _as_it_is)
        return view.features * gradients_at(with_rules(view, rules, self.method), view.features, view.rows)


def _by_epsilon(call: Call, epsilon: float) -> Tensor:
    """A linear layer whose inputs get x w / (z + epsilon) of what its output z has."""
    values = call.on(call.input)
    return derived(values, _share(values, values, epsilon) * values)


def _by_sign(call: Call, epsilon: float) -> Tensor:
    """A linear layer whose inputs get their share in the sum of positive contributions, positive biases among them."""
    weight, bias = _weights(call)
    positive = None if bias is None else bias.clamp(min=0)
    sums = _with(call, call.input.clamp(min=0), weight.clamp(min=0), positive)
    sums = sums + _with(call, call.input.clamp(max=0), weight.clamp(max=0), None)
    values = call.on(call.input.detach())
    return derived(values, _share(values, sums, epsilon) * sums)


def _by_gamma(call: Call, epsilon: float, gamma: float) -> Tensor:
    """The epsilon rule, of a layer whose positive weights and biases are 1 + gamma times as large."""
    weight, bias = _weights(call)
    larger = None if bias is None else bias + gamma * bias.clamp(min=0)
    sums = _with(call, call.input, weight + gamma * weight.clamp(min=0), larger)
    values = call.on(call.input.detach())
    return derived(values, _share(values, sums, epsilon) * sums)


def _passed_on(call: Call) -> Tensor:
    """An activation that hands down the relevance it gets."""
    values, x = call.on(call.input.detach()), call.input
    return derived(values, ratios(call, x, x.detach(), values) * x)


def _as_it_is(call: Call) -> Tensor:
    """A call with its own derivative."""
    found: Tensor = call.on(call.input)
    return found


def _share(values: Tensor, sums: Tensor, epsilon: float) -> Tensor:
    """What an output has for each unit of the sum that it is divided by, away from 0."""
    sums = sums.detach()
    return values.detach() / (sums + torch.where(sums < 0, -epsilon, epsilon))


def _weights(call: Call) -> tuple[Tensor, Tensor | None]:
    given = [*call.positional[1:3], None, None]
    weight: Tensor = given[0] if len(call.positional) > 1 else call.named["weight"]
    bias: Tensor | None = given[1] if len(call.positional) > 2 else call.named.get("bias")  # noqa: PLR2004
    return weight, bias


def _with(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    others = {name: part for name, part in call.named.items() if name not in ("weight", "bias")}
    found: Tensor = call.function(x, weight, bias, *call.positional[3:], **others)
    return found

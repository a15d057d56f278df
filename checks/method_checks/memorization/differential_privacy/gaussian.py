"""The Gaussian mechanism: training with clipped gradients and noise, and the exact epsilon that it has.

`epsilon_of` is exact for full-batch training: each step adds Gaussian noise to a sum to which one record contributes
at most the clipping norm, and Gaussian mechanisms compose to one (Dong, Roth and Su 2022), whose
``(epsilon, delta)`` is known in closed form (Balle and Wang 2018); both from memory, and compared with the defining integral in the tests.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from method_cards.lazy import torch
from method_cards.randomness import seeded

if TYPE_CHECKING:
    from torch import Tensor, nn


def delta_of(epsilon: float, mu: float) -> float:
    """The delta of a Gaussian mechanism at this epsilon.

    Args:
        epsilon: At least 0.
        mu: What one record can change, in standard deviations of the noise.
    """
    from scipy.special import log_ndtr, ndtr

    return float(ndtr(mu / 2 - epsilon / mu) - math.exp(epsilon + float(log_ndtr(-mu / 2 - epsilon / mu))))


def epsilon_of(steps: int, noise: float, delta: float) -> float:
    """The smallest epsilon of that many full-batch steps at this delta.

    Args:
        steps: How many times all records are used.
        noise: Standard deviation of the noise on the sum of clipped gradients, in units of the clipping norm.
        delta: Above 0.
    """
    from scipy.optimize import brentq

    mu = math.sqrt(steps) / noise
    if delta_of(0.0, mu) <= delta:
        return 0.0
    high = 1.0
    while delta_of(high, mu) > delta:
        high *= 2
    return float(brentq(lambda epsilon: delta_of(epsilon, mu) - delta, 0.0, high, xtol=1e-12))


def private_training(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, steps: int, noise: float, clip: float, rate: float, seed: int
) -> nn.Module:
    """Train with full batches of clipped gradients and Gaussian noise (Abadi et al. 2016, without subsampling).

    Args:
        model: A classifier without batch statistics; it is trained in place.
        inputs: ``(sample, ...)``.
        targets: ``(sample,)``.
        steps: How many.
        noise: Standard deviation of the noise on the sum, in units of ``clip``; 0 for none.
        clip: The largest norm of one example's gradient.
        rate: The learning rate, on the sum of gradients.
        seed: Of the noise.
    """
    state = {name: part.detach() for name, part in model.named_parameters()}

    def loss(state: dict[str, Tensor], row: Tensor, target: Tensor) -> Tensor:
        logits = torch.func.functional_call(model, state, (row[None],))
        return torch.nn.functional.cross_entropy(logits, target[None])

    gradients_of = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
    with seeded(seed):
        for _ in range(steps):
            gradients = gradients_of(state, inputs, targets)
            norms = sum(part.flatten(1).square().sum(1) for part in gradients.values()) ** 0.5
            weights = (clip / norms.clamp(min=clip)).to(inputs.dtype)
            for name, part in gradients.items():
                total = torch.einsum("n,n...->...", weights, part)
                state[name] = state[name] - rate * (total + noise * clip * torch.randn_like(total))
    model.load_state_dict(state)
    return model.eval()

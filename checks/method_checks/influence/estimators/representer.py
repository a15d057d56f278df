"""Representer points: the logit as a sum over training examples, where the last layer is at its optimum (Yeh et al. 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from method_cards.errors import CheckError
from method_cards.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

ADDS_UP = 1e-3
"""The relative error up to which the parts must add up to the logits."""

STEPS = 200
"""The most steps of the optimiser."""


def representer_values(
    train: Tensor, classes: Tensor, test: Tensor, test_classes: Tensor, count: int, decay: float
) -> Tensor:
    """What each training example adds to the logit of each test example's class, ``(train, test)``.

    A linear layer is fitted to the representations with an L2 penalty. At its optimum ``W = −1/(2λn) Σ_i ∂L/∂f_i φ_iᵀ``, so that the
    logits are ``Σ_i α_i (φ_i · φ)`` with ``α_i = −1/(2λn) ∂L/∂f_i``. Away from the optimum the parts do not add up, and
    mean nothing.

    Args:
        train: Representations of the training examples, ``(train, width)``; a constant column stands for a bias.
        classes: Their classes, ``(train,)``.
        test: Representations ``(test, width)``.
        test_classes: Their classes, ``(test,)``.
        count: How many classes there are.
        decay: The penalty's weight ``λ``, above 0.

    Raises:
        CheckError: The fit did not reach its optimum: the parts do not add up.
    """
    features, others = train.double(), test.double()
    weights = _fitted(features, classes, count, decay)
    alphas = _alphas(features, classes, weights, decay)
    logits = others @ weights.T
    parts_sum = others @ (features.T @ alphas)
    error = float((parts_sum - logits).norm() / logits.norm().clamp(min=1e-12))
    if not error <= ADDS_UP:
        raise CheckError(
            f"the parts of the last layer's decomposition miss the logits by {error:.1%}: the layer did not reach its optimum, and "
            "representer values mean nothing there; raise the decay, or choose another method"
        )
    return alphas[:, test_classes] * (features @ others.T)


def _fitted(features: Tensor, classes: Tensor, count: int, decay: float) -> Tensor:
    """The weights ``(class, width)`` that minimise mean cross-entropy plus ``decay`` times their squared length."""
    weights = torch.zeros(count, features.shape[1], dtype=torch.float64, device=features.device, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights],
        max_iter=STEPS,
        history_size=20,
        tolerance_grad=1e-10,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(features @ weights.T, classes) + decay * weights.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    return weights.detach()


def _alphas(features: Tensor, classes: Tensor, weights: Tensor, decay: float) -> Tensor:
    """``−1/(2λn) ∂L/∂f`` of each training example, ``(train, class)``."""
    surplus = torch.softmax(features @ weights.T, dim=1)
    surplus[torch.arange(len(classes), device=classes.device), classes] -= 1
    return -surplus / (2 * decay * len(classes))

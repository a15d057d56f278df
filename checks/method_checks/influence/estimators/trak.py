"""TRAK in its dual form: the model made linear at its parameters, and one Newton step of a regression on its gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from method_cards.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


def trak_scores(kernel: Tensor, cross: Tensor, confidences: Tensor, ridge: float) -> Tensor:
    """Influence of each training example on the margin of each test example, ``(train, test)``.

    With gradients of the margin log(p / (1 − p)) as rows of ``Φ`` and those of test examples as rows of ``Ψ``, TRAK is
    ``diag(1 − p) Φ (ΦᵀΦ + λI)⁻¹ Ψᵀ``, which is ``diag(1 − p) (ΦΦᵀ + λI)⁻¹ ΦΨᵀ``: a system as large as the number of examples, whatever
    the number of parameters (Park et al. 2023, arXiv 2303.14186).

    Args:
        kernel: ``ΦΦᵀ``, ``(train, train)``.
        cross: ``ΦΨᵀ``, ``(train, test)``.
        confidences: Probability ``p`` of each training example's class, ``(train,)``.
        ridge: ``λ``, in units of the mean of the kernel's diagonal.
    """
    scale = ridge * kernel.diagonal().mean()
    identity = torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
    solved: Tensor = torch.linalg.solve(kernel + scale * identity, cross)
    return (1 - confidences)[:, None] * solved

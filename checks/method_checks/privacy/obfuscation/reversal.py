"""The image behind an obfuscated one: sought by gradients through the operator, or by a linear map that was learned from pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_cards.randomness import seeded
from method_checks.privacy.obfuscation.released import rounded_straight_through

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def by_gradient(
    operator: Callable[[Tensor], Tensor],
    obfuscated: Tensor,
    start: Tensor,
    *,
    steps: int,
    rate: float,
    smoothness: float,
    seed: int,
) -> Tensor:
    """The image in [0, 1] whose obfuscation is nearest to what was released, by Adam; a step of each image depends on no other image.

    Minimised is the squared distance between the operator's output and the released image, plus ``smoothness`` times the squared
    differences of neighbouring pixels (Tikhonov's regularisation). Rounding within the operator passes gradients on unchanged.

    Args:
        operator: The obfuscation, from ``(batch, channel, height, width)``.
        obfuscated: What was released, in the shape of the operator's output.
        start: Where the search begins, in the shape of its input.
        steps: How many steps are taken.
        rate: The size of a step, in units of the image.
        smoothness: The weight of the regularisation.
        seed: What a random obfuscation draws from.

    Raises:
        CheckError: The operator passes no gradient on.
    """
    found = start.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([found], lr=rate)
    with torch.enable_grad(), seeded(seed):
        for step in range(steps):
            with rounded_straight_through():
                distance = (operator(found) - obfuscated).pow(2).sum()
            if not distance.requires_grad:
                raise _no_gradient()
            (gradient,) = torch.autograd.grad(distance, found)
            if step == 0 and not bool(gradient.any()) and bool(distance.detach() > 0):
                raise _no_gradient()
            rough = found.diff(dim=2).pow(2).sum() + found.diff(dim=3).pow(2).sum()
            found.grad = gradient + torch.autograd.grad(smoothness * rough, found)[0]
            optimizer.step()
            with torch.no_grad():
                found.clamp_(0, 1)
    return found.detach()


def _no_gradient() -> CheckError:
    return CheckError(
        "no gradient passes through the obfuscation, as if it left the model's tensors or cast them to integers; set `reversal: learned`"
    )


def starting_from(obfuscated: Tensor, like: Tensor) -> Tensor:
    """The released images in the size of the originals; grey where their channels differ."""
    if obfuscated.shape[1] != like.shape[1]:
        return torch.full_like(like, 0.5)
    resized = torch.nn.functional.interpolate(obfuscated, size=like.shape[2:], mode="bilinear", align_corners=False)
    return (obfuscated if obfuscated.shape == like.shape else resized).clamp(0, 1)


class LearnedInverse:
    """The ridge regression from obfuscated to original images, fitted on images of which the attacker has both.

    Args:
        obfuscated: ``(pair, ...)``.
        originals: ``(pair, channel, height, width)``.
        ridge: The penalty, as a share of the mean squared size of an obfuscated image about the mean.
    """

    def __init__(self, obfuscated: Tensor, originals: Tensor, ridge: float) -> None:
        seen, wanted = obfuscated.flatten(1).double(), originals.flatten(1).double()
        self._shape = originals.shape[1:]
        self._centre, self._mean = seen.mean(0), wanted.mean(0)
        seen = seen - self._centre
        products = seen @ seen.T
        penalty = ridge * products.diagonal().mean().clamp(min=1e-12)
        identity = torch.eye(len(seen), dtype=seen.dtype, device=seen.device)
        self._weights = seen.T @ torch.linalg.solve(products + penalty * identity, wanted - self._mean)

    def __call__(self, obfuscated: Tensor) -> Tensor:
        """The images that are guessed behind others, in [0, 1]."""
        guessed: Tensor = (obfuscated.flatten(1).double() - self._centre) @ self._weights + self._mean
        return guessed.clamp(0, 1).reshape(len(obfuscated), *self._shape).to(obfuscated.dtype)

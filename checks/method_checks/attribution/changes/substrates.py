"""What stands where something was removed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_checks.attribution.changes.draws import Draws
from method_checks.attribution.changes.imputation import impute

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from method_cards.check import Context
    from method_cards.subject import View

Substrate: TypeAlias = Literal["mean", "zeros", "blur", "imputation", "mask"]
"""What stands where something was removed.

``mean``: the mean colour of images, of each column of a table, of token embeddings, over the run's examples. ``zeros``: 0 in the
features as the model gets them. ``blur``: the blurred image. ``imputation``: what surrounds the gap, by ROAD's noisy linear imputation
(images). ``mask``: the embedding of the tokenizer's mask token (texts).
"""

REFERENCE = 256
"""How many examples of the run a mean is taken over, at most."""

NOISE = 0.01
"""Standard deviation of the noise on imputed pixels, in units of the input (rong2022consistent)."""

IMAGE = 4
"""How many axes a batch of images has."""


def remover(context: Context, view: View, split: str, substrate: Substrate) -> Callable[[Tensor], Tensor]:
    """A function from removed positions, bool in the shape of the maps, to the features that are left; for several variants at once, too.

    Raises:
        CheckError: There is no such substrate for these features.
    """
    features = view.features
    if substrate in {"blur", "imputation"} and features.dim() != IMAGE:
        raise CheckError(
            f'the substrate "{substrate}" needs images (batch, channel, height, width), and these features have shape '
            f"{tuple(features.shape)}; use `substrate: mean`"
        )
    if substrate == "imputation":
        draws = Draws.shared(context, view.batch, "imputation")
        noise = NOISE * draws.normal(0, features[0].numel()).reshape(features.shape).to(features)
        return lambda removed: imputed(features, removed) + noise * removed.unsqueeze(-3)
    if substrate == "blur":
        there = blurred(features)
    elif substrate == "mask":
        there = _mask_embedding(context)
    elif substrate == "zeros":
        there = torch.zeros((), dtype=features.dtype, device=features.device)
    else:
        there = context.once(("removal", "mean", split, context.indices(split)), lambda _: _mean(context, split))
    return lambda removed: torch.where(view.spread(removed), there, features)


def imputed(images: Tensor, removed: Tensor) -> Tensor:
    """What `impute` gives for each of several masks of the same images.

    Args:
        images: ``(batch, channel, height, width)``.
        removed: Bool ``(*variant, batch, height, width)``.

    Returns:
        ``(*variant, batch, channel, height, width)``.
    """
    masks = removed.reshape(-1, *removed.shape[-2:])
    found = impute(images.repeat(len(masks) // len(images), 1, 1, 1), masks)
    return found.reshape(*removed.shape[:-2], *images.shape[1:])


def blurred(images: Tensor) -> Tensor:
    """A Gaussian blur whose standard deviation is a sixteenth of the shorter side, at least 2 pixels, mirrored at the edges.

    Args:
        images: ``(batch, channel, height, width)``.
    """
    shorter = min(images.shape[2:])
    width = max(2.0, shorter / 16)
    radius = min(math.ceil(2 * width), shorter - 1)
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = (-0.5 * (offsets / width) ** 2).exp()
    kernel = (kernel / kernel.sum()).reshape(1, 1, -1, 1)
    single = images.flatten(0, 1)[:, None]
    padded = torch.nn.functional.pad(single, (radius,) * 4, mode="reflect")
    both = torch.nn.functional.conv2d(torch.nn.functional.conv2d(padded, kernel), kernel.transpose(2, 3))
    return both.reshape(images.shape)


def _mean(context: Context, split: str) -> Tensor:
    """In a shape that broadcasts with features: by channel, by column, or by embedding dimension over content tokens."""
    subject = context.subject
    batch = subject.batch(split, context.indices(split)[:REFERENCE])
    view = subject.view(batch, batch.targets)
    features = view.features
    if features.dim() == IMAGE:
        return features.mean((0, 2, 3))[:, None, None]
    if subject.task == "text-classification":
        return features[view.content].mean(0)
    return features.mean(0)


def _mask_embedding(context: Context) -> Tensor:
    subject = context.subject
    token = getattr(subject.tokenizer, "mask_token_id", None)
    embedding = getattr(subject.adapter, "embedding", None)
    if not isinstance(token, int) or embedding is None:
        raise CheckError(
            'the substrate "mask" needs a text subject whose tokenizer has a `mask_token_id`; use `substrate: mean` or `zeros`'
        )
    found: Tensor = embedding(torch.tensor([token], device=subject.device)).detach()[0]
    return found

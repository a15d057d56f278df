"""Squared length of one layer's parameter gradient for each example, from what went in and what came back.

With inputs ``a`` and output gradients ``d``, a linear layer's weight gradient is the sum over positions of ``d aᵀ``. Its squared
length is a sum of products of two Gram matrices, ``Σ (a aᵀ) ∘ (d dᵀ)``, which for a single position is ``|a|² |d|²``. A
convolution is a linear layer over patches. The gradient itself need not be formed (Goodfellow 2015, arXiv 1510.01799).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from method_cards.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

Rule: TypeAlias = "Callable[[Any, Tensor, Tensor], Tensor]"
"""``rule(layer, inputs, output_gradients)`` gives the squared length for each example, ``(batch,)``, over trained parameters only."""


def rule_for(layer: nn.Module) -> Rule | None:
    """The rule of this layer; None where there is none, or the layer does something that its class does not tell."""
    if "forward" in vars(layer) or not {name for name, _ in layer.named_parameters(recurse=False)} <= {
        "weight",
        "bias",
    }:
        return None
    for name, (rule, holds) in _RULES.items():
        kind: Any = getattr(torch.nn, name)
        if isinstance(layer, kind) and type(layer).forward is kind.forward:
            return rule if holds(layer) else None
    return None


def outer_norms(inputs: Tensor, gradients: Tensor) -> Tensor:
    """Squared Frobenius norm of ``Σ_t d_t a_tᵀ`` for each example, whichever way is shorter.

    Args:
        inputs: ``a``, ``(batch, position, in)``.
        gradients: ``d``, ``(batch, position, out)``.
    """
    positions, into, out = inputs.shape[1], inputs.shape[2], gradients.shape[2]
    if positions == 1:
        return _squares(inputs) * _squares(gradients)
    if positions * (into + out) < into * out:
        grams = (torch.bmm(each, each.transpose(1, 2)) for each in (inputs, gradients))
        return torch.mul(*grams).sum((1, 2))
    return _squares(torch.bmm(gradients.transpose(1, 2), inputs))


def _linear(layer: nn.Linear, inputs: Tensor, gradients: Tensor) -> Tensor:
    inputs, gradients = (each.reshape(len(each), -1, each.shape[-1]) for each in (inputs, gradients))
    total = _nothing(gradients)
    if layer.weight.requires_grad:
        total = total + outer_norms(inputs, gradients)
    return total + _bias(layer, gradients.sum(1))


def _convolution(layer: nn.Conv1d | nn.Conv2d, inputs: Tensor, gradients: Tensor) -> Tensor:
    groups, batch = layer.groups, len(inputs)
    flat = gradients.flatten(2)
    total = _nothing(flat)
    if layer.weight.requires_grad:
        patches = _patches(layer, inputs)
        by_group = (each.reshape(batch * groups, -1, each.shape[2]).transpose(1, 2) for each in (patches, flat))
        total = total + outer_norms(*by_group).reshape(batch, groups).sum(1)
    return total + _bias(layer, flat.sum(2))


def _patches(layer: nn.Conv1d | nn.Conv2d, inputs: Tensor) -> Tensor:
    """What each position of the output sees, ``(batch, channel · kernel, position)``."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    around = layer._reversed_padding_repeated_twice  # noqa: SLF001  (the only place where "same" is a number)
    padded = torch.nn.functional.pad(inputs, around, mode=mode) if any(around) else inputs
    kernel, stride, dilation = layer.kernel_size, layer.stride, layer.dilation
    if padded.dim() == 3:  # noqa: PLR2004  (a signal is a picture of height 1)
        padded, kernel, stride, dilation = padded.unsqueeze(2), (1, *kernel), (1, *stride), (1, *dilation)
    return torch.nn.functional.unfold(padded, kernel, dilation, 0, stride)


def _embedding(layer: nn.Embedding, inputs: Tensor, gradients: Tensor) -> Tensor:
    """Rows that stand in an example several times get the sum of their gradients."""
    ids = inputs.reshape(len(inputs), -1)
    vectors = gradients.reshape(*ids.shape, -1)
    if layer.padding_idx is not None:
        vectors = vectors * (ids != layer.padding_idx).unsqueeze(-1)
    rows = torch.arange(len(ids), device=ids.device).unsqueeze(1)
    used, place = torch.unique(ids + rows * layer.num_embeddings, return_inverse=True)
    summed = vectors.new_zeros(len(used), vectors.shape[2]).index_add_(0, place.flatten(), vectors.flatten(0, 1))
    return _nothing(vectors).index_add_(0, used // layer.num_embeddings, summed.square().sum(1))


def _scale_and_shift(normalised: Callable[[Any, Tensor], Tensor], channel_at: int) -> Rule:
    """Of a layer whose output is ``normalised(inputs) * weight + bias``.

    Args:
        normalised: What the weight multiplies.
        channel_at: 1 when parameters belong to channels; -1 when they have the shape of the last dimensions.
    """

    def rule(layer: Any, inputs: Tensor, gradients: Tensor) -> Tensor:
        scaled = normalised(layer, inputs) * gradients if layer.weight.requires_grad else None
        shape = (
            (len(gradients), layer.weight.numel(), -1)
            if channel_at == 1
            else (len(gradients), -1, layer.weight.numel())
        )
        over = 2 if channel_at == 1 else 1
        total = _nothing(gradients)
        if scaled is not None:
            total = total + _squares(scaled.reshape(shape).sum(over))
        return total + _bias(layer, gradients.reshape(shape).sum(over))

    return rule


def _layer_normalised(layer: nn.LayerNorm, inputs: Tensor) -> Tensor:
    return torch.nn.functional.layer_norm(inputs, layer.normalized_shape, eps=layer.eps)


def _rms_normalised(layer: nn.RMSNorm, inputs: Tensor) -> Tensor:
    return torch.nn.functional.rms_norm(inputs, list(layer.normalized_shape), eps=layer.eps)


def _group_normalised(layer: nn.GroupNorm, inputs: Tensor) -> Tensor:
    return torch.nn.functional.group_norm(inputs, layer.num_groups, eps=layer.eps)


def _batch_normalised(layer: nn.BatchNorm1d, inputs: Tensor) -> Tensor:
    return torch.nn.functional.batch_norm(inputs, layer.running_mean, layer.running_var, eps=layer.eps)


def _bias(layer: Any, summed: Tensor) -> Tensor:
    """Squared length of the bias gradient, which is the output gradient summed over positions, ``(batch, out)``."""
    bias = getattr(layer, "bias", None)
    return _nothing(summed) if bias is None or not bias.requires_grad else _squares(summed)


def _nothing(like: Tensor) -> Tensor:
    return like.new_zeros(len(like))


def _squares(values: Tensor) -> Tensor:
    return values.flatten(1).square().sum(1)


def _always(_layer: Any) -> bool:
    return True


def _plain_embedding(layer: Any) -> bool:
    """Rows are not rescaled when they are looked up, nor their gradients by how often they occur in a batch."""
    return layer.max_norm is None and not layer.scale_grad_by_freq


def _fixed_statistics(layer: Any) -> bool:
    """In evaluation mode with running statistics, so that no example sees another."""
    return not layer.training and layer.running_mean is not None


_RULES: dict[str, tuple[Rule, Callable[[Any], bool]]] = {
    "Linear": (_linear, _always),
    "Conv1d": (_convolution, _always),
    "Conv2d": (_convolution, _always),
    "Embedding": (_embedding, _plain_embedding),
    "LayerNorm": (_scale_and_shift(_layer_normalised, -1), _always),
    "RMSNorm": (_scale_and_shift(_rms_normalised, -1), _always),
    "GroupNorm": (_scale_and_shift(_group_normalised, 1), _always),
    "BatchNorm1d": (_scale_and_shift(_batch_normalised, 1), _fixed_statistics),
    "BatchNorm2d": (_scale_and_shift(_batch_normalised, 1), _fixed_statistics),
}
"""For each class of layer its rule, and whether the rule holds for a layer of that class."""

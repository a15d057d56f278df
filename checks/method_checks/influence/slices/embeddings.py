"""Where examples lie for a model, without their labels: what its last layer gets, or what it would change there.

An embedding that knows the labels, such as the gradient of the loss, knows the errors: clusters in it are clusters of errors, on
any data. The gradient here is therefore taken at the predicted class, as Ash et al. 2020 do (arXiv 1906.03671).
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from method_cards.errors import CheckError, did_you_mean
from method_cards.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from method_cards.data import Batch
    from method_cards.subject import Subject

WIDTH = 128
"""Up to how many numbers the gradient of the last layer is kept as it is; beyond, it is projected to as many."""


def representation(subject: Subject, batch: Batch, layer: str = "") -> tuple[Tensor, Tensor]:
    """What the last linear layer gets, or what a named layer gives, and the logits, from one forward pass.

    Args:
        subject: The subject; its model is left as it was.
        batch: The examples.
        layer: The name of a module whose output is taken, averaged over positions; the last ``nn.Linear``'s input where empty.

    Returns:
        Features ``(batch, feature)`` and logits ``(batch, class)``, float64 on the CPU.

    Raises:
        CheckError: There is no such layer, or it gives something else.
    """
    modules = dict(subject.model.named_modules())
    if layer and layer not in modules:
        raise CheckError(f'the model has no layer "{layer}".{did_you_mean(layer, modules)}')
    seen: list[Any] = []
    with ExitStack() as hooks:
        for name, module in modules.items():
            if layer and name == layer:
                handle = module.register_forward_hook(lambda _module, _args, output: seen.append(output))
            elif not layer and isinstance(module, torch.nn.Linear):
                handle = module.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
            else:
                continue
            hooks.callback(handle.remove)
        logits = subject.outputs(batch)
    fitting = [each for each in seen if isinstance(each, torch.Tensor) and each.dim() > 1 and len(each) == len(batch)]
    if not fitting:
        raise CheckError(
            "the model has no linear layer that gets one row for each example; name a layer whose output describes an example under `layer`"
        )
    last = fitting[-1].detach().double()
    flat = last if last.dim() == 2 else last.flatten(2).mean(-1)  # noqa: PLR2004  (example, feature)
    return flat.cpu(), logits.double().cpu()


def gradient_at_prediction(features: Tensor, logits: Tensor, seed: int = 0) -> Tensor:
    """The gradient of the cross-entropy in the last layer's weights and biases, were the predicted class the label.

    It is ``(p - e) x [h, 1]`` as an outer product, ``e`` for the predicted class; beyond `WIDTH` numbers, a projection that keeps
    inner products on average.

    Args:
        features: The last layer's input ``(example, feature)``.
        logits: Its output ``(example, class)``.
        seed: Of the projection.
    """
    change = logits.softmax(1)
    change = change - torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1]).to(change)
    inputs = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)
    if change.shape[1] * inputs.shape[1] <= WIDTH:
        return torch.einsum("nc,nf->ncf", change, inputs).flatten(1)
    generator = torch.Generator().manual_seed(seed)
    signs = [
        (2 * torch.randint(2, (each.shape[1], WIDTH), generator=generator) - 1).to(each) for each in (change, inputs)
    ]
    projected: Tensor = (change @ signs[0]) * (inputs @ signs[1]) / WIDTH**0.5
    return projected

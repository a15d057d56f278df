"""Gradients of single examples, many at a time by ``vmap`` or one after the other, and their random projections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from method_cards.lazy import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

    from method_checks.influence.gradients.copies import TrainedCopy
    from method_checks.influence.gradients.objectives import Examples, Objective

PerExample: TypeAlias = Literal["vmap", "loop"]
"""How single gradients are computed."""

NUMBERS = 2**25
"""How many gradient entries are held at once."""


def gradients_of(
    copy: TrainedCopy,
    objective: Objective,
    inputs: Examples,
    targets: Tensor,
    way: PerExample,
    reduce: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The gradient of each example, flat and in the order of the parameters, ``(batch, parameter)``.

    Args:
        copy: The model.
        objective: What is differentiated.
        inputs: Encoded inputs.
        targets: Classes ``(batch,)``.
        way: See `ways.way_for`.
        reduce: Applied to each chunk ``(chunk, parameter)`` at once, such as a projection; what it gives is kept instead.
    """
    size = max(1, NUMBERS // sum(each.numel() for each in copy.trained.values()))
    many = _by_vmap if way == "vmap" else _by_loop
    parts = [
        found if reduce is None else reduce(found)
        for chunk, classes in _chunks(inputs, targets, size)
        for found in many(copy, objective, chunk, classes)
    ]
    return torch.cat(parts)


def projection(width: int, dimension: int, seed: int) -> Callable[[Tensor], Tensor]:
    """A random map ``(batch, width)`` to ``(batch, dimension)`` that keeps inner products on average (Johnson and Lindenstrauss).

    Its signs are drawn block by block, so that a matrix for all parameters is never held.
    """
    block = max(1, NUMBERS // dimension)

    def project(gradients: Tensor) -> Tensor:
        found = gradients.new_zeros(len(gradients), dimension)
        generator = torch.Generator().manual_seed(seed)
        for start in range(0, width, block):
            part = gradients[:, start : start + block]
            signs = torch.randint(0, 2, (part.shape[1], dimension), generator=generator, dtype=torch.int8)
            found += part @ (signs.to(part) * 2 - 1)
        return found.div_(dimension**0.5)

    return project


def _chunks(inputs: Examples, targets: Tensor, size: int) -> Iterator[tuple[Examples, Tensor]]:
    for start in range(0, len(targets), size):
        part = slice(start, start + size)
        yield (
            (inputs[part] if isinstance(inputs, torch.Tensor) else {k: v[part] for k, v in inputs.items()}),
            targets[part],
        )


def _by_vmap(copy: TrainedCopy, objective: Objective, inputs: Examples, targets: Tensor) -> Iterator[Tensor]:
    value = _as_module(copy, objective)
    parameters = {f"model.{name}": each.detach() for name, each in copy.trained.items()}

    def of_one(at: dict[str, Tensor], example: Examples, target: Tensor) -> Tensor:
        one = example[None] if isinstance(example, torch.Tensor) else {k: v[None] for k, v in example.items()}
        found: Tensor = torch.func.functional_call(value, at, (one, target[None]), tie_weights=True)
        return found.squeeze(0)

    found = torch.func.vmap(torch.func.grad(of_one), in_dims=(None, 0, 0))(parameters, inputs, targets)
    yield torch.cat([found[name].flatten(1) for name in parameters], dim=1)


def _by_loop(copy: TrainedCopy, objective: Objective, inputs: Examples, targets: Tensor) -> Iterator[Tensor]:
    parameters = list(copy.trained.values())
    for one, target in _chunks(inputs, targets, 1):
        with torch.enable_grad():
            value = objective(copy.adapter, one, target).sum()
        found = (
            torch.autograd.grad(value, parameters, allow_unused=True)
            if value.requires_grad
            else [None for _ in parameters]
        )
        flat = [
            torch.zeros_like(parameter) if each is None else each
            for parameter, each in zip(parameters, found, strict=True)
        ]
        yield torch.cat([each.to_dense().flatten() for each in flat])[None].detach()


def _as_module(copy: TrainedCopy, objective: Objective) -> nn.Module:
    """The objective as a module that holds the model, which is how `torch.func.functional_call` takes other parameters."""

    class Value(torch.nn.Module):  # defined here, since modules must import without torch
        def __init__(self) -> None:
            super().__init__()
            self.model = copy.model

        def forward(self, inputs: Examples, targets: Tensor) -> Tensor:
            return objective(copy.adapter, inputs, targets)

    return Value().eval()

"""Many models from one recipe: one after the other, or stacked so that a step of all costs little more than a step of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from method_cards.adapters import arguments
from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_cards.randomness import seeded
from method_cards.training.recipe import Recipe, taken

if TYPE_CHECKING:
    from torch import Tensor, nn

Train: TypeAlias = "Callable[[Tensor | dict[str, Tensor], Tensor, int], nn.Module]"
"""A training function, ``train(inputs, targets, seed)``, or a recipe."""

WORK: Mapping[str, float] = {"cpu": 3e7, "cuda": 1e9}
"""Up to how many floating-point operations of one model's step stacking pays: beyond, arithmetic and not dispatch takes the time."""

TOGETHER = 64
"""How many models are stacked at most."""

MEMORY = 2**30
"""Bytes that stacked parameters, their gradients and the optimiser's two averages may take."""


def train_many(
    train: Train,
    inputs: Tensor | dict[str, Tensor],
    targets: Tensor,
    members: Tensor,
    seeds: Sequence[int],
    *,
    path: Literal["auto", "stacked", "loop"] = "auto",
) -> list[nn.Module]:
    """Train a model on each of many subsets of some examples.

    Stacked models start from the same weights and see the same batches as those that are trained one by one; sums are rounded in
    another order, which long training amplifies. Which path is taken depends on the recipe, the sizes and the kind of device, never on
    a clock: the same run takes the same one.

    Args:
        train: A recipe; or a function, which is called once for each model with examples on the CPU.
        inputs: All examples ``(n, ...)``, or tensors by name, on the device that is trained on.
        targets: Class numbers ``(n,)``, beside them.
        members: Which examples each model is trained on, bool ``(model, n)``.
        seeds: A seed for each model, ``0 <= seed < 2**31``.
        path: ``stacked`` and ``loop`` insist.

    Returns:
        Models in evaluation mode, on the examples' device.

    Raises:
        CheckError: Stacking was insisted on where it cannot be done, or a training function gave no module.
    """
    if len(members) != len(seeds) or members.shape[1] != len(targets):
        raise ValueError(f"{tuple(members.shape)} memberships for {len(seeds)} seeds and {len(targets)} examples")
    rows = [part.nonzero()[:, 0].to(targets.device) for part in members]
    reason = _not_stackable(train, rows)
    if path == "stacked" and reason:
        raise CheckError(f"these models cannot be trained in one stack: {reason}")
    if isinstance(train, Recipe) and not reason:
        first = min(len(rows[0]), train.batch_size)
        if path == "stacked" or (
            path == "auto" and _pays(train, taken(inputs, rows[0][:first]), targets[rows[0][:first]])
        ):
            size = _together(train)
            return [
                model
                for start in range(0, len(rows), size)
                for model in _stacked(
                    train, inputs, targets, torch.stack(rows[start : start + size]), seeds[start : start + size]
                )
            ]
    return [_one(train, taken(inputs, part), targets[part], seed) for part, seed in zip(rows, seeds, strict=True)]


def step_work(recipe: Recipe, inputs: Tensor | dict[str, Tensor], targets: Tensor) -> int:
    """How many floating-point operations one step on this batch takes."""
    from torch.utils.flop_counter import FlopCounterMode

    with seeded(0), torch.enable_grad(), FlopCounterMode(display=False) as counter:
        model = recipe.build().to(targets.device).train()
        args, named = arguments(model, inputs)
        recipe.loss_of(model(*args, **named), inputs, targets).backward()
    return int(counter.get_total_flops())


def _pays(recipe: Recipe, inputs: Tensor | dict[str, Tensor], targets: Tensor) -> bool:
    return step_work(recipe, inputs, targets) <= WORK.get(targets.device.type, 0.0)


def _not_stackable(train: Train, rows: Sequence[Tensor]) -> str:
    """Why models cannot be trained in one stack; empty when they can."""
    if not isinstance(train, Recipe):
        return "the subject gives a training function; a Recipe says what is in it"
    if len(rows) == 1:
        return "there is one model only"
    if len({len(part) for part in rows}) > 1:
        return "they have different numbers of examples"
    with seeded(0):
        model = train.build()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and module.track_running_stats:  # noqa: SLF001  (the common base)
            return f'running averages of "{name}" are changed in place, which torch.func.vmap does not allow'
    return ""


def _together(recipe: Recipe) -> int:
    with seeded(0):
        numbers = sum(part.numel() * part.element_size() for part in recipe.build().parameters())
    return max(1, min(TOGETHER, MEMORY // (4 * max(1, numbers))))


def _one(train: Train, inputs: Tensor | dict[str, Tensor], targets: Tensor, seed: int) -> nn.Module:
    if isinstance(train, Recipe):
        return train(inputs, targets, seed)
    on_host = {name: part.cpu() for name, part in inputs.items()} if isinstance(inputs, Mapping) else inputs.cpu()
    with torch.enable_grad():
        model = train(on_host, targets.cpu(), seed)
    if not isinstance(model, torch.nn.Module):
        raise CheckError(f"the training function returned a {type(model).__name__}; it must return a torch.nn.Module")
    return model.to(targets.device).eval()


def _stacked(
    recipe: Recipe, inputs: Tensor | dict[str, Tensor], targets: Tensor, rows: Tensor, seeds: Sequence[int]
) -> list[nn.Module]:
    models = []
    for seed in seeds:
        with seeded(seed):
            models.append(recipe.build().to(targets.device).train())
    parameters, buffers = torch.func.stack_module_state(models)
    trained = {
        name: part for name, part in parameters.items() if dict(models[0].named_parameters())[name].requires_grad
    }
    frozen = {name: part for name, part in parameters.items() if name not in trained}
    base = models[0]

    def loss(
        state: dict[str, Tensor], fixed: dict[str, Tensor], batch: Tensor | dict[str, Tensor], labels: Tensor
    ) -> Tensor:
        args, named = arguments(base, batch)
        return recipe.loss_of(torch.func.functional_call(base, {**state, **fixed}, args, named), batch, labels)

    losses = torch.func.vmap(loss, randomness="different")
    with seeded(seeds[0]), torch.enable_grad():
        optimizer = recipe.optimiser(list(trained.values()))
        total = recipe.steps(rows.shape[1])
        step = 0
        for orders in zip(*(recipe.orders(rows.shape[1], seed) for seed in seeds), strict=True):
            for batches in zip(*orders, strict=True):
                chosen = rows.gather(1, torch.stack(batches).to(rows.device))
                optimizer.zero_grad()
                losses(trained, {**frozen, **buffers}, taken(inputs, chosen), targets[chosen]).sum().backward()
                if recipe.clip is not None:
                    _clip(list(trained.values()), recipe.clip)
                recipe.set_rate(optimizer, step, total)
                optimizer.step()
                step += 1
    with torch.no_grad():
        for number, model in enumerate(models):
            for name, part in model.named_parameters():
                part.copy_(parameters[name][number])
    return [model.eval() for model in models]


def _clip(parameters: Sequence[Tensor], limit: float) -> None:
    """What ``clip_grad_norm_`` does, to each model on its own."""
    squares = sum(part.grad.flatten(1).square().sum(1) for part in parameters if part.grad is not None)
    scale = (limit / (torch.as_tensor(squares).sqrt() + 1e-6)).clamp(max=1)
    for part in parameters:
        if part.grad is not None:
            part.grad *= scale.reshape(-1, *(1 for _ in part.shape[1:]))

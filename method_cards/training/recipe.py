"""How a model is trained from scratch, as data: so that a check can train one like it on other examples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

from method_cards.adapters import as_logits, as_tensor, call, token_ids
from method_cards.errors import InputError
from method_cards.lazy import torch
from method_cards.randomness import seeded

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

State: TypeAlias = "dict[str, Tensor]"
"""Parameters and buffers by name, as `torch.nn.Module.state_dict` gives them."""


@dataclass(frozen=True)
class Checkpoint:
    """The model at one moment of its training.

    Attributes:
        load: Gives parameters and buffers by name.
        learning_rate: The step size of the optimiser at that moment, above 0.
    """

    load: Callable[[], State]
    learning_rate: float


@dataclass(frozen=True)
class Recipe:
    """A training that can be repeated: on other examples, from another seed, many at once.

    It is called as any training function is, ``recipe(inputs, targets, seed)``, and so can stand wherever a subject names one; checks
    that need many models train them in one stack, which a function does not allow.

    Attributes:
        build: Makes the untrained model; its random numbers are seeded.
        epochs: How often each example is seen.
        batch_size: Examples a step.
        learning_rate: The optimiser's, at the first step.
        optimizer: As ``torch.optim`` has it: ``sgd``, ``adam`` or ``adamw``.
        momentum: For ``sgd``.
        weight_decay: As the optimiser defines it.
        schedule: ``constant``, or ``cosine`` from the learning rate down to zero.
        clip: The largest norm of a step's gradient; None for any.
        loss: ``cross-entropy`` with class numbers, or ``next-token`` for causal language models, whose targets are not looked at.

    Raises:
        InputError: A number is out of range.
    """

    build: Callable[[], nn.Module]
    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    clip: float | None = None
    loss: Literal["cross-entropy", "next-token"] = "cross-entropy"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate"):
            if getattr(self, name) <= 0:
                raise InputError(f"training recipe: {name} is {getattr(self, name)}; it must be above 0")
        if self.clip is not None and self.clip <= 0:
            raise InputError(f"training recipe: clip is {self.clip}; it must be above 0, or None for no limit")
        if self.momentum and self.optimizer != "sgd":
            raise InputError(f"training recipe: momentum belongs to sgd; {self.optimizer} has its own")
        choices = {
            "optimizer": ("sgd", "adam", "adamw"),
            "schedule": ("constant", "cosine"),
            "loss": ("cross-entropy", "next-token"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise InputError(f'training recipe: {name} "{getattr(self, name)}" is none of {", ".join(known)}')

    def __call__(self, inputs: Tensor | dict[str, Tensor], targets: Tensor, seed: int) -> nn.Module:
        """A model trained on these examples, in evaluation mode, on their device."""
        return self.followed(inputs, targets, seed)[0]

    def followed(
        self, inputs: Tensor | dict[str, Tensor], targets: Tensor, seed: int, keep: Sequence[int] = ()
    ) -> tuple[nn.Module, tuple[Checkpoint, ...]]:
        """A model trained on these examples, and what it was on the way.

        Args:
            inputs: ``(n, ...)``, or tensors by name.
            targets: Class numbers ``(n,)``.
            seed: What the initial weights and the order of the examples follow from.
            keep: After which epochs, counted from 1, the model is kept.

        Returns:
            The model in evaluation mode, and a checkpoint for each kept epoch in order.
        """
        kept: list[Checkpoint] = []
        with seeded(seed), torch.enable_grad():
            model = self.build().to(targets.device).train()
            optimizer = self.optimiser(model.parameters())
            total = self.steps(len(targets))
            step = 0
            for epoch, batches in enumerate(self.orders(len(targets), seed), 1):
                for rows in batches:
                    chosen = rows.to(targets.device)
                    optimizer.zero_grad()
                    self.loss_of(call(model, taken(inputs, chosen)), taken(inputs, chosen), targets[chosen]).backward()
                    if self.clip is not None:
                        torch.nn.utils.clip_grad_norm_(model.parameters(), self.clip)
                    self.set_rate(optimizer, step, total)
                    optimizer.step()
                    step += 1
                if epoch in keep:
                    state = {name: part.detach().clone() for name, part in model.state_dict().items()}
                    kept.append(Checkpoint(partial(dict, state), self.rate(step - 1, total)))
        return model.eval(), tuple(kept)

    def steps(self, examples: int) -> int:
        """How many steps a training on that many examples takes."""
        return self.epochs * math.ceil(examples / self.batch_size)

    def orders(self, examples: int, seed: int) -> Iterator[list[Tensor]]:
        """The examples' numbers of each batch of each epoch: what a seed fixes, however many models are trained beside this one."""
        generator = torch.Generator().manual_seed(seed)
        for _ in range(self.epochs):
            yield list(torch.randperm(examples, generator=generator).split(self.batch_size))

    def optimiser(self, parameters: Iterator[Tensor] | Sequence[Tensor]) -> Optimizer:
        """The optimiser; all three treat each number on its own, which is why models can be stacked."""
        if self.optimizer == "sgd":
            return torch.optim.SGD(
                parameters, lr=self.learning_rate, momentum=self.momentum, weight_decay=self.weight_decay
            )
        kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        return kind(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)

    def rate(self, step: int, total: int) -> float:
        """The learning rate of a step, counted from 0, of so many."""
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * step / total))

    def set_rate(self, optimizer: Optimizer, step: int, total: int) -> None:
        """Tell the optimiser the learning rate of a step."""
        for group in optimizer.param_groups:
            group["lr"] = self.rate(step, total)

    def loss_of(self, output: object, inputs: Tensor | dict[str, Tensor], targets: Tensor) -> Tensor:
        """Mean loss in nats of what the model gave for a batch."""
        cross_entropy = torch.nn.functional.cross_entropy
        if self.loss == "cross-entropy":
            return cross_entropy(as_logits(output), targets)
        ids = token_ids(inputs)
        losses = cross_entropy(as_tensor(output)[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
        if isinstance(inputs, Mapping) and "attention_mask" in inputs:
            weights = inputs["attention_mask"][:, 1:].to(losses.dtype)
            return (losses * weights).sum() / weights.sum()
        return losses.mean()


def taken(inputs: Tensor | dict[str, Tensor], rows: Tensor) -> Tensor | dict[str, Tensor]:
    """These examples, by any index that tensors take."""
    return {name: part[rows] for name, part in inputs.items()} if isinstance(inputs, Mapping) else inputs[rows]

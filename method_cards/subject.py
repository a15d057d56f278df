"""The subject: a model, its data and its task, and the ways in which a check may touch them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from method_cards.adapters import ADAPTERS, TASKS, Adapter
from method_cards.data import Batch, Split, fingerprint, update_digest
from method_cards.errors import CheckError, InputError, did_you_mean
from method_cards.lazy import torch
from method_cards.randomness import kept
from method_cards.training import Checkpoint, Recipe, State, Train

if TYPE_CHECKING:
    from torch import Tensor, nn

BLOCK = 512
"""How many examples go through a model at once where nobody has measured what is best."""


@dataclass(frozen=True)
class View:
    """A batch as an explainer sees it.

    Attributes:
        model: The model, in evaluation mode.
        batch: The examples.
        features: What is explained, ``(batch, ...)`` floating point: pixels, columns or token embeddings.
        targets: The class whose logit is explained, ``(batch,)`` int64.
        outputs: ``outputs(features, rows)`` gives logits ``(n, class)`` at other features ``(n, ...)``, where ``rows`` ``(n,)``
            tells to which example of the batch each belongs, so that its other inputs (a mask, say) go with it. Differentiable.
        as_map: Sums attributions of the features' shape to one number for each position, such as ``(batch, height, width)``.
        mask: Which positions are content, ``(batch, position)``; None when all are.
        spread: Numbers for each position, ``(..., *position)``, in a shape that broadcasts with features ``(..., *features)``.
        inputs_at: ``inputs_at(features, rows)`` gives what the model is called with at other features; texts have no tokens for other
            embeddings, and are refused with `CheckError`.
        block: How many examples go through the model at once at best.
    """

    model: nn.Module
    batch: Batch
    features: Tensor
    targets: Tensor
    outputs: Callable[[Tensor, Tensor], Tensor]
    as_map: Callable[[Tensor], Tensor]
    mask: Tensor | None = None
    spread: Callable[[Tensor], Tensor] = field(kw_only=True)
    inputs_at: Callable[[Tensor, Tensor], Tensor | dict[str, Tensor]] = field(kw_only=True)
    block: int = BLOCK

    @property
    def content(self) -> Tensor:
        """Which positions are content, bool in the shape of the maps."""
        if self.mask is not None:
            return self.mask
        return torch.ones_like(self.as_map(self.features), dtype=torch.bool)

    def inputs(self) -> Tensor | dict[str, Tensor]:
        """What the model is called with, as a person's own function is given it."""
        return self.inputs_at(self.features, self.rows)

    def at(self, features: Tensor, rows: Tensor, targets: Tensor | None = None) -> View:
        """The same examples elsewhere: as if these had been their features.

        Args:
            features: ``(n, ...)``.
            rows: To which example of this view each belongs, ``(n,)``.
            targets: The classes that are explained, ``(n,)``; those of the examples where None.
        """
        given = self.batch.inputs
        is_explained = isinstance(given, torch.Tensor) and given.is_floating_point()
        batch = Batch(
            features if is_explained else _rows(given, rows),
            self.batch.targets[rows],
            tuple(self.batch.indices[row] for row in rows.tolist()),
        )
        return replace(
            self,
            batch=batch,
            features=features,
            targets=self.targets[rows] if targets is None else targets,
            outputs=lambda at, chosen: self.outputs(at, rows[chosen]),
            inputs_at=lambda at, chosen: self.inputs_at(at, rows[chosen]),
            mask=None if self.mask is None else self.mask[rows],
        )

    @property
    def rows(self) -> Tensor:
        """The numbers of the batch's examples, ``0 .. batch - 1``."""
        return torch.arange(len(self.features), device=self.features.device)


@dataclass
class Subject:
    """What is under check.

    Args:
        id: A short name, kebab-case.
        task: One of `method_cards.adapters.TASKS`.
        model: Any ``torch.nn.Module``, in evaluation mode. It is never changed.
        data: Splits by name; see `method_cards.data.Split` for the forms that are taken.
        title: A name for people; the id where empty.
        classes: Names of the classes, in order.
        layers: Names of the modules of interest, from the input to the output; all where empty.
        explainer: The explanation method that ships with the model: its parameters as in ``method-cards.yaml``, or a function
            ``explain(model, inputs, targets)`` that gives attributions of the inputs' shape; None when there is none.
        replicas: Functions that load the parameters of the same model trained again from other seeds.
        tokenizer: Turns texts into named tensors, for text tasks.
        attribute_to: The input or the embedding layer that is explained, where several could be.
        train: Trains the same kind of model from scratch: ``train(inputs, targets, seed)`` gets encoded inputs (a tensor, or tensors by
            name) and classes ``(n,)`` on the CPU and returns a model in evaluation mode; None when there is none. A
            `method_cards.training.Recipe` is such a function, and lets checks train many models in one stack.
        checkpoints: The model at several moments of its training, from the first to the last.
        reference: A model of the same task that was trained on other data from the same source, on none of the splits; None when
            there is none.
        claims: What is claimed of the model and can be refuted, by name: ``epsilon`` and ``delta`` of a differentially private training.
        block: How many examples go through the model at once at best; the engine measures it.

    Raises:
        InputError: The task is unknown, there is no data, or a layer is not part of the model.
    """

    id: str
    task: str
    model: nn.Module
    data: Mapping[str, Split | object]
    title: str = ""
    classes: Sequence[str] = ()
    layers: Sequence[str] = ()
    explainer: Mapping[str, Any] | Callable[..., Tensor] | None = None
    replicas: Sequence[Callable[[], State]] = ()
    tokenizer: Callable[..., Any] | None = None
    attribute_to: str = ""
    train: Train | None = None
    checkpoints: Sequence[Checkpoint] = ()
    reference: nn.Module | None = None
    claims: Mapping[str, float] = field(default_factory=dict)
    block: int = BLOCK
    adapter: Adapter = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.task not in ADAPTERS:
            raise InputError(f'subject "{self.id}": unknown task "{self.task}".{did_you_mean(self.task, TASKS)}')
        for name, model in (("model", self.model), ("reference", self.reference)):
            if not isinstance(model, torch.nn.Module) and not (name == "reference" and model is None):
                raise InputError(f'subject "{self.id}": the {name} is a {type(model).__name__}, not a torch.nn.Module')
        names = [name for name, _ in self.model.named_modules()]
        for layer in self.layers:
            if layer not in names:
                raise InputError(
                    f'subject "{self.id}": the model has no layer "{layer}".{did_you_mean(layer, names[1:])}'
                )
        self.data = {
            name: split if isinstance(split, Split) else Split(name, split) for name, split in self.data.items()
        }
        self.title = self.title or self.id
        self.adapter = ADAPTERS[self.task](self.model, self.attribute_to, self.tokenizer)
        refuse_training_mode(self.id, "model", self.model)
        if self.reference is not None:
            refuse_training_mode(self.id, "reference", self.reference)

    @property
    def recipe(self) -> Recipe | None:
        """How the model was trained, where the subject tells it as data and not as a function."""
        return self.train if isinstance(self.train, Recipe) else None

    def with_model(self, model: nn.Module) -> Subject:
        """The same data and task with another model: a reference, a replica, a checkpoint."""
        return replace(self, model=model, reference=None, checkpoints=(), replicas=())

    @property
    def device(self) -> torch.device:
        """Where the model's first parameter or buffer lives; the CPU for a model without either."""
        for tensor in chain(self.model.parameters(), self.model.buffers()):
            return tensor.device
        return torch.device("cpu")

    def split(self, name: str) -> Split:
        """The split of this name.

        Raises:
            CheckError: There is none.
        """
        found = self.data.get(name)
        if not isinstance(found, Split):
            raise CheckError(f'subject "{self.id}" has no data split "{name}".{did_you_mean(name, self.data)}')
        return found

    def batch(self, split: str, indices: Sequence[int]) -> Batch:
        """These examples of a split, encoded, on the model's device."""
        inputs, targets = self.split(split).take(indices)
        encoded = self.adapter.encode(inputs)
        device = self.device
        moved = (
            {name: part.to(device) for name, part in encoded.items()}
            if isinstance(encoded, Mapping)
            else encoded.to(device)
        )
        return Batch(moved, targets.to(device), tuple(indices))

    def outputs(self, batch: Batch) -> Tensor:
        """Logits ``(batch, class)``, without gradients; vectors ``(batch, width)`` or images where the task gives these.

        Raises:
            CheckError: An output is NaN or infinite, or its shape is not that of the task.
        """
        with torch.no_grad():
            logits = self.adapter.outputs(batch.inputs)
        return finite(_one_each(logits, len(batch)), "the model's output", batch)

    def losses(self, batch: Batch) -> Tensor:
        """Loss in nats of each example, ``(batch,)``, without gradients: cross-entropy, or mean token loss for language models.

        Raises:
            CheckError: A loss is NaN or infinite, or a target is not a class of the model.
        """
        with torch.no_grad():
            losses = self.adapter.losses(batch.inputs, batch.targets)
        return finite(losses, "the model's loss", batch)

    def view(self, batch: Batch, targets: Tensor | None = None) -> View:
        """The batch as an explainer sees it; the explained class is the predicted one unless targets are given."""
        features = self.adapter.features(batch.inputs)
        explained = self.outputs(batch).argmax(1) if targets is None else targets

        def outputs(at: Tensor, rows: Tensor) -> Tensor:
            return _one_each(self.adapter.outputs_at(at, _rows(batch.inputs, rows)), len(rows))

        def inputs_at(at: Tensor, rows: Tensor) -> Tensor | dict[str, Tensor]:
            return self.adapter.inputs_at(at, _rows(batch.inputs, rows))

        return View(
            self.model,
            batch,
            features,
            explained,
            outputs,
            self.adapter.as_map,
            self.adapter.mask(batch.inputs),
            spread=lambda values: self.adapter.spread(values, features),
            inputs_at=inputs_at,
            block=self.block,
        )

    def parameters_sha256(self) -> str:
        """SHA-256, in hexadecimal, of all parameters and buffers with their names, types and shapes."""
        digest = hashlib.sha256()
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            if isinstance(value, torch.Tensor):
                update_digest(digest, value)
        return digest.hexdigest()

    def data_sha256(self, split: str, indices: Sequence[int]) -> str:
        """SHA-256, in hexadecimal, of these examples of a split."""
        return fingerprint(*self.split(split).take(indices))


def refuse_training_mode(subject: str, name: str, model: nn.Module) -> None:
    """Refuse a model of which a module is in training mode.

    Raises:
        InputError: It is; the message names the first of its modules.
    """
    in_training = [part or "the model itself" for part, module in model.named_modules() if module.training]
    if in_training:
        raise InputError(
            f'subject "{subject}": the {name} is in training mode ({len(in_training)} modules, first: {in_training[0]}), so dropout '
            "and batch norm would make every result random; call `model.eval()` first, or return it from the callable that builds the model"
        )


def _one_each(logits: Tensor, examples: int) -> Tensor:
    if len(logits) != examples:
        raise CheckError(
            f"the model gave {len(logits)} outputs for {examples} examples; does it squeeze the batch away, or mix examples?"
        )
    return logits


def finite(values: Tensor, what: str, batch: Batch) -> Tensor:
    """The values, when all are finite.

    Raises:
        CheckError: Some are not; the message says how many examples are concerned and which is the first.
    """
    if bool(values.detach().sum().isfinite()):
        return values  # otherwise a number is not finite, or their sum is too large
    bad = ~torch.isfinite(values.detach()).reshape(len(values), -1).all(1)
    if bool(bad.any()):
        first = batch.indices[int(bad.nonzero()[0, 0])]
        raise CheckError(
            f"{what} is NaN or infinite for {int(bad.sum())} of {len(bad)} examples (first: example {first}); nothing can be measured"
        )
    return values


@contextmanager
def preserved(subject: Subject) -> Iterator[None]:
    """Leave the model and the random state as they were: values, modes, gradients, hooks, flags, all random generators."""
    model = subject.model
    state = {name: (tensor, tensor.data, tensor.detach().clone()) for name, tensor in _tensors(model)}
    gradients = {name: (parameter.grad, parameter.requires_grad) for name, parameter in model.named_parameters()}
    modes = {name: module.training for name, module in model.named_modules()}
    hooks = {name: _hooks(module) for name, module in model.named_modules()}
    with kept():
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, storage, value in state.values():
                    tensor.data = storage
                    if not torch.equal(tensor, value):
                        tensor.copy_(value)
            for name, parameter in model.named_parameters():
                parameter.grad, requires = gradients[name]
                parameter.requires_grad_(requires)
            for name, module in model.named_modules():
                module.training = modes[name]
                for kind, before in hooks[name].items():
                    present = getattr(module, kind)
                    for key in [key for key in present if key not in before]:
                        del present[key]


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _hooks(module: nn.Module) -> dict[str, set[int]]:
    return {kind: set(getattr(module, kind)) for kind in _HOOKS}


def _tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]


def _rows(inputs: Tensor | dict[str, Tensor], rows: Tensor) -> Tensor | dict[str, Tensor]:
    if isinstance(inputs, Mapping):
        return {name: part[rows] for name, part in inputs.items()}
    return inputs if inputs.is_floating_point() else inputs[rows]  # else the features themselves, which are given anew

"""How a model of each task is called: its inputs, the features that are explained, its outputs, its loss.

An adapter is chosen by the subject's task. Adding a task means adding one class here; checks see only `Adapter`.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, get_args

from method_cards.errors import CheckError, InputError
from method_cards.lazy import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

    from method_cards.data import Inputs

Task = Literal[
    "image-classification",
    "tabular-classification",
    "text-classification",
    "text-generation",
    "image-feature-extraction",
    "image-to-image",
]
"""What the model does, by the task names of the Hugging Face hub."""

TASKS: tuple[str, ...] = get_args(Task)

CLASSIFICATION = tuple(task for task in TASKS if task.endswith("-classification"))
"""The tasks whose models give a logit for each class."""

WITHOUT_LOSS: dict[str, str] = {
    "image-feature-extraction": "An image-feature-extraction model gives vectors and has no loss; memorization/deja-vu tests what it kept.",
    "image-to-image": "An image-to-image model changes images and has no loss; the privacy checks test what it leaves to be seen.",
}
"""The tasks whose models have no loss, and why that is; checks that need one do not apply to them."""


class Adapter(ABC):
    """One way to call a model.

    Args:
        model: The model, unchanged.
        attribute_to: Which of several named inputs is explained; empty when there is only one choice.
        tokenizer: What turns texts into tensors by name, for text tasks.
    """

    def __init__(self, model: nn.Module, attribute_to: str = "", tokenizer: Callable[..., Any] | None = None) -> None:
        self.model = model
        self.attribute_to = attribute_to
        self.tokenizer = tokenizer

    def encode(self, inputs: Inputs) -> Tensor | dict[str, Tensor]:
        """Inputs of a split as tensors on the host."""
        if isinstance(inputs, list):
            raise InputError("the data holds texts, but the subject has no tokenizer; name one under `tokenizer:`")
        return inputs

    def outputs(self, inputs: Tensor | dict[str, Tensor]) -> Tensor:
        """Logits ``(batch, class)`` of a batch; other tasks give what their model is for."""
        return as_logits(call(self.model, inputs))

    def losses(self, inputs: Tensor | dict[str, Tensor], targets: Tensor) -> Tensor:
        """Cross-entropy in nats of each example, ``(batch,)``."""
        logits = self.outputs(inputs).double()  # in single precision, all losses of a confident model would be 0
        refuse_unknown_classes(targets, logits.shape[1])
        return torch.nn.functional.cross_entropy(logits, targets, reduction="none")

    @abstractmethod
    def features(self, inputs: Tensor | dict[str, Tensor]) -> Tensor:
        """The floating-point tensor ``(batch, ...)`` that an explanation attributes to."""

    @abstractmethod
    def outputs_at(self, features: Tensor, inputs: Tensor | dict[str, Tensor]) -> Tensor:
        """Logits ``(batch, class)`` when the features are these, all other inputs as they were."""

    @abstractmethod
    def mask(self, inputs: Tensor | dict[str, Tensor]) -> Tensor | None:
        """Which positions are content, ``(batch, position)`` bool, False for padding; None when all are."""

    @abstractmethod
    def as_map(self, attributions: Tensor) -> Tensor:
        """Attributions of the features' shape, summed to one number for each position a person looks at."""

    @abstractmethod
    def spread(self, values: Tensor, features: Tensor) -> Tensor:
        """One number for each position, ``(..., *position)``, in a shape that broadcasts with the features of each example."""

    @abstractmethod
    def inputs_at(self, features: Tensor, inputs: Tensor | dict[str, Tensor]) -> Tensor | dict[str, Tensor]:
        """What the model is called with when the features are these, all other inputs as they were.

        Raises:
            CheckError: There are no such inputs.
        """


class TensorAdapter(Adapter):
    """Images ``(batch, channel, height, width)``, tables ``(batch, column)``, or one such tensor among named ones."""

    def features(self, inputs: Tensor | dict[str, Tensor]) -> Tensor:
        """The input itself; of named inputs, the one to attribute to, or the only floating-point one."""
        tensor = inputs[self._key(inputs)] if isinstance(inputs, Mapping) else inputs
        if not tensor.is_floating_point():
            raise InputError(
                f"inputs are {tensor.dtype}: an explanation needs floating-point inputs; scale and convert them in the data"
            )
        return tensor

    def outputs_at(self, features: Tensor, inputs: Tensor | dict[str, Tensor]) -> Tensor:
        """Logits with the explained input replaced."""
        return self.outputs(self.inputs_at(features, inputs))

    def mask(self, inputs: Tensor | dict[str, Tensor]) -> Tensor | None:  # noqa: ARG002
        """None: every pixel and column is content."""
        return None

    def as_map(self, attributions: Tensor) -> Tensor:
        """Sum over channels for images, ``(batch, height, width)``; tables stay ``(batch, column)``."""
        return attributions.sum(1) if attributions.dim() == 4 else attributions  # noqa: PLR2004

    def spread(self, values: Tensor, features: Tensor) -> Tensor:
        """The same number for each channel of an image; the values themselves for tables."""
        return values.unsqueeze(-3) if features.dim() == 4 else values  # noqa: PLR2004

    def inputs_at(self, features: Tensor, inputs: Tensor | dict[str, Tensor]) -> Tensor | dict[str, Tensor]:
        """The features themselves, or the named inputs with the explained one replaced."""
        return {**inputs, self._key(inputs): features} if isinstance(inputs, Mapping) else features

    def _key(self, inputs: Mapping[str, Tensor]) -> str:
        floating = [name for name, part in inputs.items() if part.is_floating_point()]
        if self.attribute_to in inputs:
            return self.attribute_to
        if len(floating) == 1:
            return floating[0]
        raise InputError(
            f"inputs {sorted(inputs)} have {len(floating)} floating-point tensors; name the explained one under `attribute_to:`"
        )


class TextAdapter(Adapter):
    """Token ids by name; the output of the embedding layer is what is explained."""

    def encode(self, inputs: Inputs) -> Tensor | dict[str, Tensor]:
        """Texts through the tokenizer, padded to the longest; tensors as they are."""
        if not isinstance(inputs, list):
            return inputs
        if self.tokenizer is None:
            return super().encode(inputs)
        try:
            encoded = self.tokenizer(inputs, padding=True, truncation=True, return_tensors="pt")
        except Exception as error:  # a person's own code, or one without a padding token
            raise InputError(
                f"the tokenizer cannot encode {len(inputs)} texts: {type(error).__name__}: {error}"
            ) from error
        return dict(encoded)

    def features(self, inputs: Tensor | dict[str, Tensor]) -> Tensor:
        """Token embeddings ``(batch, token, width)``."""
        embedded: Tensor = self.embedding(token_ids(inputs))
        if embedded.dim() != 3:  # noqa: PLR2004  (example, token, width)
            raise InputError(
                f"the embedding layer gives {tuple(embedded.shape)} for tokens {tuple(token_ids(inputs).shape)}, but an explanation "
                "needs a vector for each token; let the model sum them up itself, after an `nn.Embedding`"
            )
        return embedded.detach()

    def outputs_at(self, features: Tensor, inputs: Tensor | dict[str, Tensor]) -> Tensor:
        """Logits when the embedding layer gives these features instead of its own."""
        with self._embedding_gives(features):
            return self.outputs(inputs)

    def mask(self, inputs: Tensor | dict[str, Tensor]) -> Tensor | None:
        """The attention mask; without one, all but the tokens that the embedding layer declares to be padding."""
        if isinstance(inputs, Mapping) and "attention_mask" in inputs:
            return inputs["attention_mask"].bool()
        try:
            padding, ids = getattr(self.embedding, "padding_idx", None), token_ids(inputs)
        except InputError:  # these have to be known for explanations alone
            return None
        return None if padding is None else ids != padding

    def as_map(self, attributions: Tensor) -> Tensor:
        """Sum over the embedding's width, ``(batch, token)``."""
        return attributions.sum(-1)

    def spread(self, values: Tensor, features: Tensor) -> Tensor:  # noqa: ARG002
        """The same number for all of a token's embedding."""
        return values.unsqueeze(-1)

    def inputs_at(self, features: Tensor, inputs: Tensor | dict[str, Tensor]) -> Tensor | dict[str, Tensor]:
        """The token ids, when these are their embeddings.

        Raises:
            CheckError: No tokens have these embeddings.
        """
        if not torch.equal(features, self.features(inputs)):
            raise CheckError(
                "this check explains changed token embeddings, which no token has; a function of token ids cannot be called with them: "
                "use a bundled explainer, or a Captum class"
            )
        return inputs

    @property
    def embedding(self) -> nn.Module:
        """The layer that turns token ids into vectors: named, Hugging Face's own, or the model's only ``nn.Embedding``."""
        modules: dict[str, nn.Module] = dict(self.model.named_modules())
        if self.attribute_to:
            if self.attribute_to in modules:
                return modules[self.attribute_to]
            raise InputError(
                f"`attribute_to: {self.attribute_to}` is not a layer of the model; its layers are {', '.join(list(modules)[1:9])}, ..."
            )
        own = getattr(self.model, "get_input_embeddings", None)
        if callable(own):
            found = own()
            assert isinstance(found, torch.nn.Module)
            return found
        embeddings = [module for module in modules.values() if isinstance(module, torch.nn.Embedding)]
        if len(embeddings) == 1:
            return embeddings[0]
        raise InputError(
            f"the model has {len(embeddings)} embedding layers; name the token embedding under `attribute_to:`"
        )

    @contextmanager
    def _embedding_gives(self, features: Tensor) -> Iterator[None]:
        handle = self.embedding.register_forward_hook(lambda _module, _inputs, _output: features.clone())
        try:
            yield
        finally:
            handle.remove()


class CausalLanguageModelAdapter(TextAdapter):
    """Next-token prediction. There is no class to explain; what a prompt does to its continuation is seen in `token_log_probabilities`."""

    def outputs_at(self, features: Tensor, inputs: Tensor | dict[str, Tensor]) -> Tensor:  # noqa: ARG002
        """Not defined, as there are no classes: refused.

        Raises:
            CheckError: Always.
        """
        raise CheckError(
            "a text-generation subject has no single class to explain; attribution/language-model-attribution explains its continuations"
        )

    def token_log_probabilities(self, inputs: Tensor | dict[str, Tensor], features: Tensor | None = None) -> Tensor:
        """Log-probability in nats of each token given those before it, padding included, ``(batch, token - 1)``.

        Args:
            inputs: Token ids, or tensors by name.
            features: What the embedding layer gives instead of its own, ``(batch, token, width)``; its own for None.
        """
        with nullcontext() if features is None else self._embedding_gives(features):
            logits = as_tensor(call(self.model, inputs))
        ids = token_ids(inputs)
        return -torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")

    def losses(self, inputs: Tensor | dict[str, Tensor], targets: Tensor) -> Tensor:  # noqa: ARG002
        """Mean negative log-likelihood in nats of the predicted tokens of each text, padding left out, ``(batch,)``.

        The first token is not predicted and not counted, on whatever side the padding stands.
        """
        losses = -self.token_log_probabilities(inputs)
        mask = self.mask(inputs)
        has_context = None if mask is None else (mask != 0) & ((mask != 0).cumsum(1) > 1)
        weights = torch.ones_like(losses) if has_context is None else has_context[:, 1:].to(losses.dtype)
        return (losses * weights).sum(1) / weights.sum(1).clamp(min=1)


class FeatureAdapter(TensorAdapter):
    """Images to one vector each: whatever an encoder gives, pooled."""

    def outputs(self, inputs: Tensor | dict[str, Tensor]) -> Tensor:
        """Representations ``(batch, width)``; see `as_vectors`."""
        return as_vectors(call(self.model, inputs))

    def losses(self, inputs: Tensor | dict[str, Tensor], targets: Tensor) -> Tensor:  # noqa: ARG002
        """Not defined: refused.

        Raises:
            CheckError: Always.
        """
        raise CheckError(WITHOUT_LOSS["image-feature-extraction"])


class ImageAdapter(TensorAdapter):
    """Images to images ``(batch, channel, height, width)``: an obfuscation, for instance."""

    def outputs(self, inputs: Tensor | dict[str, Tensor]) -> Tensor:
        """The changed images; their size may differ from that of the inputs.

        Raises:
            CheckError: The output is no batch of images.
        """
        images = _first_of(call(self.model, inputs), ("reconstruction",))
        if images.dim() != 4:  # noqa: PLR2004
            raise CheckError(
                f"the model's output has shape {tuple(images.shape)}; image-to-image needs (batch, channel, height, width)"
            )
        return images

    def losses(self, inputs: Tensor | dict[str, Tensor], targets: Tensor) -> Tensor:  # noqa: ARG002
        """Not defined: refused.

        Raises:
            CheckError: Always.
        """
        raise CheckError(WITHOUT_LOSS["image-to-image"])


ADAPTERS: dict[str, type[Adapter]] = {
    "image-classification": TensorAdapter,
    "tabular-classification": TensorAdapter,
    "text-classification": TextAdapter,
    "text-generation": CausalLanguageModelAdapter,
    "image-feature-extraction": FeatureAdapter,
    "image-to-image": ImageAdapter,
}


def call(model: nn.Module, inputs: Tensor | dict[str, Tensor]) -> Any:
    """Call a model with a tensor, or with named tensors as keywords where its ``forward`` has those names.

    It gets copies, since a model may change its inputs in place.
    """
    if isinstance(inputs, Mapping):
        args, named = arguments(model, {name: part.clone() for name, part in inputs.items()})
    else:
        args, named = arguments(model, inputs.clone())
    return model(*args, **named)


def arguments(model: nn.Module, inputs: Tensor | dict[str, Tensor]) -> tuple[tuple[Any, ...], dict[str, Tensor]]:
    """What a model is called with: positional arguments, and those by name."""
    if not isinstance(inputs, Mapping):
        return (inputs,), {}
    parameters = inspect.signature(model.forward).parameters
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    if takes_any or set(inputs) <= set(parameters):
        return (), dict(inputs)
    return (dict(inputs),), {}


def as_tensor(output: Any) -> Tensor:
    """The tensor in what a model returned: itself, its ``logits``, or the first of several."""
    found = output
    if isinstance(output, Mapping) and "logits" in output:
        found = output["logits"]
    elif not isinstance(output, torch.Tensor) and hasattr(output, "logits"):
        found = output.logits
    elif isinstance(output, tuple | list) and output:
        found = output[0]
    if not isinstance(found, torch.Tensor):
        keys = f" with {', '.join(map(str, output))}" if isinstance(output, Mapping) else ""
        raise CheckError(
            f"the model returned {type(output).__name__}{keys}; a torch tensor, or an object with `.logits` or another output of the task, "
            "is needed: wrap the model in one whose `forward` returns that"
        )
    return found


def as_logits(output: Any) -> Tensor:
    """Logits ``(batch, class)``; the one logit z of a binary model becomes (−z/2, z/2), which has the same probabilities.

    Raises:
        CheckError: The output has another shape.
    """
    logits = as_tensor(output)
    if not logits.is_floating_point():
        raise CheckError(f"the model's output is {logits.dtype}: numbers of classes, say; return its logits")
    if logits.dim() == 1 or (logits.dim() == 2 and logits.shape[1] == 1):  # noqa: PLR2004
        half = logits.reshape(-1, 1) / 2
        logits = torch.cat([-half, half], dim=1)
    if logits.dim() != 2:  # noqa: PLR2004
        squeezed = "; does it squeeze the batch away, or return a loss first?" if logits.dim() == 0 else ""
        raise CheckError(
            f"the model's output has shape {tuple(logits.shape)}; classification needs (batch, class){squeezed}"
        )
    return logits


def refuse_unknown_classes(targets: Tensor, classes: int) -> None:
    """Refuse targets that are no classes of the model.

    Raises:
        CheckError: There are such.
    """
    if len(targets) and not bool(((targets >= 0) & (targets < classes)).all()):
        raise CheckError(
            f"targets go from {int(targets.min())} to {int(targets.max())}, but the model's {classes} outputs are numbered from 0; map the "
            "labels to these numbers in the data"
        )


def as_vectors(output: Any) -> Tensor:
    """One vector for each image, ``(batch, width)``, from what an encoder returned.

    Taken is ``image_embeds``, else ``pooler_output``, else ``last_hidden_state``, else the tensor itself or the first of several.
    A map ``(batch, channel, height, width)`` is averaged over its places, tokens ``(batch, token, width)`` over all tokens; a model
    whose class token alone counts has to return that token.

    Raises:
        CheckError: The output has another shape.
    """
    found = _first_of(output, ("image_embeds", "pooler_output", "last_hidden_state"))
    if found.dim() == 4:  # noqa: PLR2004  (batch, channel, height, width)
        return found.mean((2, 3))
    if found.dim() == 3:  # noqa: PLR2004  (batch, token, width)
        return found.mean(1)
    if found.dim() != 2:  # noqa: PLR2004
        raise CheckError(
            f"the model's output has shape {tuple(found.shape)}; a representation is (batch, width), a map (batch, channel, height, "
            "width) or tokens (batch, token, width)"
        )
    return found


def _first_of(output: Any, names: tuple[str, ...]) -> Tensor:
    """The first of these parts that a model's output has, or the tensor that it is or begins with."""
    for name in names:
        part = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(part, torch.Tensor):
            return part
    return as_tensor(output)


def token_ids(inputs: Tensor | dict[str, Tensor]) -> Tensor:
    """The token ids ``(batch, token)`` among the inputs of a text model."""
    if not isinstance(inputs, Mapping):
        return inputs
    for name in ("input_ids", "tokens", "ids"):
        if name in inputs:
            return inputs[name]
    raise InputError(f"inputs {sorted(inputs)} hold no `input_ids`")

"""Attention rollout: how much of each token reaches the one that is classified, layer after layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from method_cards.check import Passes
from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_checks.attribution.explainers.base import Bundled
from method_checks.attribution.explainers.custom import resized, spread_map
from method_checks.attribution.explainers.traces import unhooked

if TYPE_CHECKING:
    from torch import Tensor

    from method_cards.subject import Subject, View
    from method_checks.attribution.explainers.generators import Generators

_WAY_OUT = (
    'load the model with `attn_implementation="eager"`, or use a method that needs no attentions, such as gradient'
)


class AttentionRollout(Bundled):
    """The product over layers of the mean attention over heads, half of it replaced by the identity for the skip connection.

    It needs a transformers model whose output holds ``attentions``. It is the same for every class. Of an image, the patches
    that follow the class token are a square grid, or one of the image's proportions, enlarged bilinearly.
    """

    title: ClassVar[str] = "Attention rollout"
    sources: ClassVar[tuple[str, ...]] = ("abnar2020quantifying",)

    method: Literal["attention-rollout"] = "attention-rollout"
    token: Literal["first", "last", "mean"] = Field(
        default="first",
        description="The token that the classifier reads: the first of the content, as of BERT; the last, as of GPT; or the mean of all.",
    )

    @classmethod
    def unsuited(cls, subject: Subject) -> str:
        """Where one example has no attentions, or attentions that have no product, the same reason as an error would have."""
        batch = subject.batch(next(iter(subject.data)), (0,))
        view = subject.view(batch, batch.targets)
        try:
            _at_positions(rolled_out(_attentions(view, view.rows))[:, 0], view)
        except CheckError as error:
            return f"{error}."
        return ""

    @property
    def multiplied(self) -> bool:
        """True: shares of what is there, to be multiplied by nothing."""
        return True

    @property
    def needs_gradient(self) -> bool:
        """False."""
        return False

    def passes(self, samples: int) -> Passes:
        """One forward pass for each example."""
        return Passes(forward=samples)

    def _attributions(self, view: View, generators: Generators) -> Tensor:  # noqa: ARG002
        maps = []
        for rows in view.rows.split(view.block):
            rollout = rolled_out(_attentions(view, rows))
            content = None if view.mask is None else view.mask[rows]
            maps.append(self._read(rollout, content))
        return spread_map(view, _at_positions(torch.cat(maps), view))

    def _read(self, rollout: Tensor, content: Tensor | None) -> Tensor:
        """The rows of the token that is read, ``(batch, token)``."""
        tokens = rollout.shape[-1]
        everywhere = torch.ones(rollout.shape[:2], dtype=torch.bool, device=rollout.device)
        inside = everywhere if content is None or content.shape != everywhere.shape else content
        if self.token == "mean":  # noqa: S105  (no password)
            found = (rollout * inside[:, :, None]).sum(1) / inside.sum(1, keepdim=True).clamp(min=1)
        else:
            places = torch.arange(tokens, device=rollout.device)
            places = places if self.token == "last" else -places  # noqa: S105
            chosen = places.masked_fill(~inside, -tokens).argmax(1)
            found = rollout[torch.arange(len(rollout), device=rollout.device), chosen]
        return found * inside


def rolled_out(attentions: list[Tensor]) -> Tensor:
    """How much of each token each token holds after all layers, ``(batch, token, token)``; rows sum to 1.

    Args:
        attentions: Of each layer, ``(batch, head, token, token)``.
    """
    rollout = torch.eye(attentions[0].shape[-1], device=attentions[0].device, dtype=attentions[0].dtype)
    for attention in attentions:
        mixed = (attention.mean(1) + torch.eye(attention.shape[-1], device=attention.device, dtype=attention.dtype)) / 2
        rollout = mixed / mixed.sum(-1, keepdim=True) @ rollout
    return rollout


def _attentions(view: View, rows: Tensor) -> list[Tensor]:
    """The attentions that the model's output holds at the features."""
    model: Any = view.model
    config = getattr(model, "config", None)
    if config is None or not hasattr(config, "output_attentions"):
        raise CheckError(
            'explainer "attention-rollout" needs a model of transformers, whose output holds attentions; use a method that needs none, '
            "such as gradient"
        )
    found: list[Any] = []
    before = config.output_attentions
    try:
        config.output_attentions = True
    except ValueError as error:
        raise CheckError(
            f'explainer "attention-rollout": the model gives no attentions: {error}; {_WAY_OUT}'
        ) from error
    try:
        with (
            unhooked(model),
            torch.no_grad(),
            model.register_forward_hook(lambda _model, _inputs, out: found.append(out)),
        ):
            view.outputs(view.features[rows], rows)
    finally:
        config.output_attentions = before
    attentions = [part for part in getattr(found[-1], "attentions", None) or () if part is not None]
    if not attentions:
        raise CheckError(f'explainer "attention-rollout": the model gives no attentions; {_WAY_OUT}')
    if len({part.shape for part in attentions}) > 1 or attentions[0].shape[-1] != attentions[0].shape[-2]:
        raise CheckError(
            'explainer "attention-rollout": the layers have different tokens (windows, or a shortened sequence), so their '
            "attentions have no product"
        )
    return attentions


def _at_positions(maps: Tensor, view: View) -> Tensor:
    """A number for each token as one for each position of the features."""
    positions = tuple(view.as_map(view.features).shape[1:])
    if tuple(maps.shape[1:]) == positions:
        return maps
    if len(positions) == 2:  # noqa: PLR2004  (height and width)
        for leading in (1, 2, 0):  # a class token, with a distillation token beside it, or none
            patches = maps.shape[1] - leading
            height = round((patches * positions[0] / positions[1]) ** 0.5)
            if height and patches % height == 0 and height * positions[1] == patches // height * positions[0]:
                grid = maps[:, leading:].reshape(len(maps), height, -1)
                return resized(grid, positions)
    raise CheckError(
        f'explainer "attention-rollout": {maps.shape[1]} tokens do not fit positions {positions}; use a method that explains the '
        "features themselves, such as gradient"
    )

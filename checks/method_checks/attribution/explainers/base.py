"""What all bundled explainers have in common, and the baselines that stand for "nothing"."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, FiniteFloat

from method_cards.check import Passes
from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_cards.subject import finite
from method_checks.attribution.explainers.generators import Generators

if TYPE_CHECKING:
    from torch import Tensor

    from method_cards.subject import Subject, View

Baseline: TypeAlias = Literal["zeros", "minimum"] | FiniteFloat
"""One number for each example: 0, its own smallest feature, or a given one. Never a mean over the batch: attributions
of an example would then depend on the examples beside it."""


class Bundled(BaseModel, ABC):
    """An explainer that comes with this package: its fields are its parameters, as they stand in YAML."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: ClassVar[str]
    """What it is called in the literature."""

    sources: ClassVar[tuple[str, ...]] = ()
    """Keys of the works that describe it in the bibliography."""

    images_only: ClassVar[bool] = False
    """Whether it explains images alone."""

    own_data: ClassVar[bool] = False
    """Whether it compares with the subject's data, so that it explains inputs of that kind and size alone."""

    guides_relu: ClassVar[bool] = False
    """Whether it changes how gradients pass a ReLU, so that a model without one cannot be explained."""

    method: str

    @classmethod
    def unsuited(cls, subject: Subject) -> str:
        """Why the method cannot explain this subject's model, in a sentence; empty when nothing is known against it."""
        if cls.images_only and subject.task != "image-classification":
            method = cls.model_fields["method"].default
            return f'The explainer "{method}" explains images; this subject\'s task is {subject.task}.'
        return ""

    @property
    def claims_completeness(self) -> bool:
        """Whether attributions are meant to add up to the logit's change from a baseline."""
        return False

    @property
    def multiplied(self) -> bool | None:
        """True for contributions, which hold the input's factor already; False for local sensitivities; None for neither."""
        return False

    @property
    def is_random(self) -> bool:
        """Whether another seed gives another explanation."""
        return False

    @property
    def needs_gradient(self) -> bool:
        """Whether the model must be differentiable."""
        return True

    def explain(self, view: View, seed: int, first: int = 0) -> Tensor:
        """Explain the logit of each example's target.

        Args:
            view: The examples.
            seed: What the numbers of random methods follow from, with the example and the number of its copy in the view.
            first: The number of each example's first copy, where a call explains only some of its copies.

        Returns:
            Attributions, detached, in the shape of ``view.features``.

        Raises:
            CheckError: The method cannot be applied to this model, or an attribution is NaN or infinite.
        """
        return finite(
            self._attributions(view, Generators(seed, view, first)).detach(),
            f'the explanation by "{self.method}"',
            view.batch,
        )

    def passes(self, samples: int) -> Passes:
        """What explaining this many examples costs; for methods that remove positions, as many as the subject's examples have."""
        return Passes(backward=samples)

    def bound(self, subject: Subject) -> Self:  # noqa: ARG002
        """The same method, with what it must know of a subject besides the examples of a view."""
        return self

    def reference(self, view: View) -> Tensor | None:  # noqa: ARG002
        """The features from which attributions count, in the shape of ``view.features``; None for methods without a baseline."""
        return None

    @abstractmethod
    def _attributions(self, view: View, generators: Generators) -> Tensor:
        """Attributions in the shape of the features."""


def baseline_of(features: Tensor, value: Baseline, mask: Tensor | None = None) -> Tensor:
    """Features that stand for "nothing", in the shape of the given ones.

    Args:
        features: ``(batch, ...)``.
        value: ``zeros``, ``minimum`` (each example's own smallest feature, which moves with a shift of the input), or a
            number.
        mask: Positions that are content, ``(batch, position)``; a minimum is taken over these alone.
    """
    if value != "minimum":
        return torch.full_like(features, 0.0 if value == "zeros" else float(value))
    return per_example(extremes(features, mask)[0], features).expand_as(features).clone()


def extremes(features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The smallest and the largest feature of each example, ``(batch,)``, over positions that are content."""
    low = high = features
    if mask is not None:
        outside = ~mask.reshape(*mask.shape, *[1] * (features.dim() - mask.dim()))
        low, high = features.masked_fill(outside, torch.inf), features.masked_fill(outside, -torch.inf)
    return low.flatten(1).amin(1), high.flatten(1).amax(1)


def per_example(values: Tensor, features: Tensor) -> Tensor:
    """One number for each example, ``(batch,)``, in a shape that broadcasts with features."""
    return values.reshape(-1, *[1] * (features.dim() - 1))


def groups(view: View, each: int) -> Iterator[Tensor]:
    """The numbers of the examples, as many at a time as fill a block when each takes this many rows of it."""
    yield from view.rows.split(max(1, view.block // each))


def normal(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Standard normal numbers, drawn on the generator's device."""
    return torch.randn(shape, generator=generator, device=generator.device).to(like)


def needs_image(view: View, method: str) -> None:
    """Refuse what is no image.

    Raises:
        CheckError: The features are not ``(batch, channel, height, width)``.
    """
    if view.features.dim() != 4:  # noqa: PLR2004  (an image has four axes)
        raise CheckError(
            f'explainer "{method}" needs images (batch, channel, height, width), not {tuple(view.features.shape)}; '
            "use a method that takes any features, such as integrated-gradients"
        )

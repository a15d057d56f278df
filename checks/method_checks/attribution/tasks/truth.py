"""What checks with a known right answer share: masses of a map, and an explainer that is put to another network than the subject's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from method_cards.errors import CheckError, InputError
from method_cards.subject import Subject
from method_checks.attribution import controls
from method_checks.attribution.explainers import METHODS, AttentionRollout, CustomExplainer, GradCam, GuidedGradCam

if TYPE_CHECKING:
    from torch import Tensor, nn

    from method_cards.check import Context
    from method_cards.subject import View
    from method_checks.attribution.explainers import Explainer

LEAST_MASS = 1e-30
"""A map whose magnitudes sum to less is empty: the division would only amplify rounding."""


def share(masses: Tensor, region: Tensor) -> tuple[Tensor, Tensor]:
    """How much of each map lies in a region.

    Args:
        masses: Numbers that are not negative, ``(batch, *position)``.
        region: The positions that count, bool, ``(batch, *position)``.

    Returns:
        The share of each map, ``(batch,)`` float64 in [0, 1], 0 for an empty map; and which maps are empty, ``(batch,)`` bool.
    """
    flat = masses.double().flatten(1)
    total = flat.sum(1)
    empty = total < LEAST_MASS
    inside = (flat * region.flatten(1)).sum(1)
    return (inside / total.masked_fill(empty, 1)).clamp(0, 1).masked_fill(empty, 0), empty


def explain_other(subject: Subject, explainer: Explainer | CustomExplainer, view: View, seed: int) -> Tensor:
    """Explain a view of another network than the subject's model, such as one that was built around it.

    Returns:
        Attributions in the shape of ``view.features``.

    Raises:
        CheckError: The explainer cannot be applied to that network: it raised an exception there, or it is a function that explains
            the subject's model whatever model it is given.
    """
    if not isinstance(explainer, CustomExplainer):
        return explainer.explain(view, seed)
    with _called(view.model) as other, _called(subject.model) as own:
        try:
            found = explainer.explain(view, seed)
        except CheckError as error:
            raise CheckError(
                f"{error}. This check puts the explainer to another network than the subject's, with inputs of its own shape; a function "
                "explain(model, inputs, targets) has to work for any model that it is given"
            ) from error
    if own and not other:
        raise CheckError(
            f'the explainer "{explainer.method}" ran the subject\'s own model, not the network that it was given; a function that is '
            "bound to one model cannot be checked where the right answer is known. Let it use its argument `model`"
        )
    return found


def not_applicable(subject: Subject, explainer: object, *, own_network: bool = True) -> str:
    """Why a check that has inputs of its own says nothing about a subject's explainer; empty when it applies.

    Args:
        subject: The subject.
        explainer: The check's own parameter.
        own_network: Whether the check explains a network of its own as well, which is a plain one.
    """
    if reason := controls.not_applicable(subject, explainer):
        return reason
    kind = METHODS.get(controls.method_of(subject, explainer))
    if kind is not None and kind.own_data:
        return (
            f'The background of "{kind.model_fields["method"].default}" is the subject\'s data, and the inputs of this check are others, '
            "of another size too; use integrated-gradients, whose baseline fits any of them."
        )
    if kind is AttentionRollout and own_network:
        return (
            'The explainer "attention-rollout" needs a model of transformers, and the network of this check is none; use a method that '
            "needs no attentions, such as gradient."
        )
    return ""


@contextmanager
def _called(model: nn.Module) -> Iterator[list[None]]:
    """A list with one entry for each call of a model."""
    calls: list[None] = []
    handle = model.register_forward_pre_hook(lambda _module, _inputs: calls.append(None))
    try:
        yield calls
    finally:
        handle.remove()


def elsewhere(subject: Subject, name: str, model: nn.Module) -> Subject:
    """Another model as a subject of the same kind, such as one that a check has trained.

    Raises:
        CheckError: It is no model in evaluation mode.
    """
    try:
        return Subject(
            name, subject.task, model.to(subject.device), {}, explainer=subject.explainer, block=subject.block
        )
    except (InputError, AttributeError) as error:
        raise CheckError(f"the trained network cannot be used: {error}") from error


def for_other_network(explainer: Explainer | CustomExplainer) -> Explainer | CustomExplainer:
    """The explainer without the names of layers that only the subject's model has: class activation maps take the last convolution."""
    return explainer.model_copy(update={"layer": ""}) if isinstance(explainer, GradCam | GuidedGradCam) else explainer


def examples_of_own(subject: Subject, context: Context, split: str, available: int) -> Iterator[range]:
    """Numbers of a check's own examples, as many in each batch as the run draws from the subject's split.

    The subject's examples go through its model, so that a broken model is an error and not a verdict on its explainer.

    Args:
        subject: The subject.
        context: What the engine lent to the check.
        split: The split that says how many examples are measured.
        available: How many examples the check has.
    """
    first = 0
    for batch in context.batches(split):
        subject.outputs(batch)
        numbers = range(first, min(available, first + len(batch)))
        first += len(batch)
        if not numbers:
            return
        yield numbers

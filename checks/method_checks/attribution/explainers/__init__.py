"""Explanation methods: bundled ones whose properties are known, Captum's, and the door for a person's own.

An explainer is its parameters, as they stand in YAML under ``explainer:``. Attributions explain the logit of
`View.targets`, never the softmax, and for one example do not depend on the rest of its batch. No hook is left on the
model and no gradient in its parameters. What random methods draw for an example follows from the seed and the example alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, get_args

from pydantic import Field, ValidationError

from method_cards.errors import CheckError, InputError, did_you_mean
from method_checks.attribution.explainers.attention import AttentionRollout
from method_checks.attribution.explainers.backward import Deconvolution, GuidedBackprop
from method_checks.attribution.explainers.base import Baseline, Bundled, baseline_of
from method_checks.attribution.explainers.cam import GradCam, GuidedGradCam
from method_checks.attribution.explainers.custom import CustomExplainer
from method_checks.attribution.explainers.deep_lift import DeepLift
from method_checks.attribution.explainers.gradient import Gradient, InputXGradient, SmoothGrad
from method_checks.attribution.explainers.lrp import Lrp
from method_checks.attribution.explainers.nulls import EdgeFilter, InputItself, Noise
from method_checks.attribution.explainers.path import ExpectedGradients, IntegratedGradients
from method_checks.attribution.explainers.removal import FeatureAblation, Occlusion
from method_checks.attribution.explainers.rise import Rise
from method_checks.attribution.explainers.sampled import KernelShap, Lime, ShapleySampling
from method_checks.attribution.explainers.through_captum import ThroughCaptum, from_captum

if TYPE_CHECKING:
    from method_cards.subject import Subject

__all__ = [
    "METHODS",
    "AttentionRollout",
    "Baseline",
    "Bundled",
    "CustomExplainer",
    "Deconvolution",
    "DeepLift",
    "EdgeFilter",
    "ExpectedGradients",
    "Explainer",
    "FeatureAblation",
    "GradCam",
    "Gradient",
    "GuidedBackprop",
    "GuidedGradCam",
    "InputItself",
    "InputXGradient",
    "IntegratedGradients",
    "KernelShap",
    "Lime",
    "Lrp",
    "Noise",
    "Occlusion",
    "Rise",
    "ShapleySampling",
    "SmoothGrad",
    "ThroughCaptum",
    "baseline_of",
    "resolve",
]

Explainer: TypeAlias = Annotated[
    Gradient
    | InputXGradient
    | SmoothGrad
    | IntegratedGradients
    | ExpectedGradients
    | GuidedBackprop
    | Deconvolution
    | DeepLift
    | Lrp
    | GradCam
    | GuidedGradCam
    | Occlusion
    | FeatureAblation
    | Rise
    | KernelShap
    | Lime
    | ShapleySampling
    | AttentionRollout
    | ThroughCaptum
    | EdgeFilter
    | Noise
    | InputItself,
    Field(discriminator="method", json_schema_extra={"guide": "guide/explainers.md"}),
]
"""A bundled explainer, told from the others by its ``method``."""

METHODS: Mapping[str, type[Explainer]] = {
    kind.model_fields["method"].default: kind for kind in get_args(get_args(Explainer)[0])
}
"""Bundled explainers by the name that YAML gives them."""


def resolve(subject: Subject, chosen: Explainer | None = None) -> Explainer | CustomExplainer:
    """The explainer that a check is to use: its own parameter, or else what ships with the subject.

    Raises:
        CheckError: There is neither.
        InputError: The subject's ``explainer`` is not one: an unknown method, an unknown parameter, a value out of
            range.
    """
    given: object = subject.explainer if chosen is None else chosen
    where = f'subject "{subject.id}": `explainer`'
    if given is None:
        raise CheckError(
            f'subject "{subject.id}" comes without an explainer; name one, such as `explainer: {{method: gradient}}`, '
            "or a function explain(model, inputs, targets)"
        )
    if isinstance(given, Mapping):
        return _validated(given, where).bound(subject)
    if isinstance(given, Bundled):
        return given.bound(subject)  # type: ignore[return-value]  # all that are bundled are members of the union
    captum = from_captum(given)
    if captum is not None:
        return captum.bound(subject) if isinstance(captum, ThroughCaptum) else captum
    if callable(given):
        return CustomExplainer(given, getattr(given, "__qualname__", type(given).__name__))
    raise InputError(
        f"{where} is {given!r}; give a mapping such as `{{method: gradient}}`, or a function "
        "explain(model, inputs, targets)"
    )


def _validated(given: Mapping[str, Any], where: str) -> Explainer:
    if "method" not in given:
        raise InputError(f"{where} names no `method`.{did_you_mean('', METHODS)}")
    method = str(given["method"])
    if method not in METHODS:
        raise InputError(f'{where} has the unknown method "{method}".{did_you_mean(method, METHODS)}')
    kind = METHODS[method]
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        raise InputError("\n".join(_told(where, problem, kind) for problem in error.errors())) from error


def _told(where: str, problem: Mapping[str, Any], kind: type[Explainer]) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f'{where}: unknown parameter "{place}".{did_you_mean(place, kind.model_fields)}'
    return f"{where}{'.' + place if place else ''} is {problem['input']!r}: {problem['msg']}"

"""Any attribution class of Captum, on a module that takes the features, with nothing left on the person's model."""

from __future__ import annotations

import inspect
import math
import sys
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr

from method_cards.check import Passes
from method_cards.errors import CheckError, InputError, did_you_mean
from method_cards.lazy import torch
from method_cards.randomness import seeded
from method_checks.attribution.explainers.base import Bundled, baseline_of
from method_checks.attribution.explainers.custom import CustomExplainer, as_attributions
from method_checks.attribution.explainers.traces import unchanged, unhooked

if TYPE_CHECKING:
    from torch import Tensor, nn

    from method_cards.subject import Subject, View
    from method_checks.attribution.explainers.generators import Generators

COMPLETE = ("IntegratedGradients", "DeepLift", "ShapleyValues", "ShapleyValueSampling", "KernelShap")
REMOVALS = ("FeatureAblation", "Occlusion", "ShapleyValues", "ShapleyValueSampling", "KernelShap", "Lime")
CONTRIBUTIONS = (*COMPLETE, *REMOVALS, "InputXGradient", "LRP", "GradientShap", "DeepLiftShap", "LayerGradCam")
SENSITIVITIES = ("Saliency", "GuidedBackprop", "Deconvolution", "GuidedGradCam")
RANDOM = ("ShapleyValueSampling", "KernelShap", "Lime", "GradientShap", "DeepLiftShap", "NoiseTunnel")
MIXING = ("FeaturePermutation", "LayerFeaturePermutation")
"""Classes that explain an example by the others of its batch."""

GIVEN = ("inputs", "target", "additional_forward_args", "return_convergence_delta")
"""Arguments that are not a person's to give."""


class ThroughCaptum(Bundled):
    """A class of Captum, called on the features, with the arguments of its constructor and of its ``attribute``.

    ``layer`` is a module's name, ``attribution_method`` a class's. What has another shape than the features is summed over
    channels and brought to their positions as ``upsample`` says.
    """

    title: ClassVar[str] = "Captum"
    sources: ClassVar[tuple[str, ...]] = ("kokhlikyan2020captum",)

    method: Literal["captum"] = "captum"
    name: str = Field(description="A class of captum.attr, such as DeepLift.")
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="What the class and its `attribute` are called with."
    )
    upsample: Literal["bilinear", "nearest"] | None = Field(
        default=None, description="How a layer's map is brought to the size of the image."
    )
    _kind: Any = PrivateAttr(default=None)
    _shape: tuple[int, ...] = PrivateAttr(default=(1,))

    @property
    def claims_completeness(self) -> bool:
        """True for classes whose attributions are those of a difference of outputs."""
        return self.name in COMPLETE and self.arguments.get("multiply_by_inputs", True)

    @property
    def baseline(self) -> float | str:
        """The baseline that was given as a number; zero, which is Captum's own, otherwise."""
        given = self.arguments.get("baselines", 0.0)
        return float(given) if isinstance(given, int | float) else "zeros"

    @property
    def multiplied(self) -> bool | None:
        """What is known of the class; None for others."""
        if self.name in CONTRIBUTIONS:
            return bool(self.arguments.get("multiply_by_inputs", True))
        return False if self.name in SENSITIVITIES else None

    @property
    def is_random(self) -> bool:
        """What is known of the class."""
        return self.name in RANDOM

    @property
    def needs_gradient(self) -> bool:
        """False for classes that remove features."""
        return self.name not in REMOVALS

    def reference(self, view: View) -> Tensor:
        """The baseline that was given as a number, or zeros."""
        given = self.baseline
        return baseline_of(view.features, "zeros" if isinstance(given, str) else given, view.mask)

    def bound(self, subject: Subject) -> Self:
        """The same method, once it is known that Captum has such a class and that it takes these arguments.

        Raises:
            CheckError: Captum is not installed.
            InputError: It has no such class, or the class takes no such argument.
        """
        found = self.model_copy()
        found._kind = self._kind or _class(self.name)  # noqa: SLF001  (its own kind)
        _accepted(found._kind, self.arguments)  # noqa: SLF001
        split = subject.split(next(iter(subject.data)))
        batch = subject.batch(split.name, range(min(1, len(split))))
        found._shape = tuple(subject.adapter.features(batch.inputs).shape[1:])  # noqa: SLF001
        return found

    def passes(self, samples: int) -> Passes:
        """What the arguments tell of steps, draws and removed features; one for each example otherwise."""
        defaults = _parameters((self._kind or _class(self.name)).attribute)
        given = {name: self.arguments.get(name, default) for name, default in defaults.items()}
        each = math.prod(
            given[name] for name in ("n_steps", "n_samples", "nt_samples") if isinstance(given.get(name), int)
        )
        if self.name in ("FeatureAblation", "Occlusion", "ShapleyValueSampling"):
            each *= math.prod(self._shape)
        return Passes(backward=each * samples) if self.needs_gradient else Passes(forward=(each + 1) * samples)

    def _attributions(self, view: View, generators: Generators) -> Tensor:
        kind = self._kind or _class(self.name)
        defaults = _parameters(kind.attribute)
        draws = 1
        if "perturbations_per_eval" not in defaults and isinstance(defaults.get("n_samples"), int):
            draws = int(self.arguments.get("n_samples", defaults["n_samples"]))
        module = _on_features(view)
        found = []
        with (
            seeded(generators.together),
            torch.enable_grad(),
            unchanged(view.model),
            unhooked(view.model),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore", UserWarning)  # that hooks are set, and taken away again
            for rows in view.rows.split(max(1, view.block // draws)):
                values = self._called(kind, module, view, rows)
                found.append(
                    as_attributions(values, view.at(view.features[rows], rows), f"captum {self.name}", self.upsample)
                )
        return torch.cat(found)

    def _called(self, kind: Any, module: nn.Module, view: View, rows: Tensor) -> object:
        """What the class gives for these rows."""
        try:
            method = _built(kind, module, view.model, self.arguments)
            takes = _parameters(method.attribute)
            wanted = {name: _plain(value) for name, value in self.arguments.items() if name not in _parameters(kind)}
            together = max(1, view.block // len(rows))
            sizes = {
                "internal_batch_size": view.block,
                "perturbations_per_eval": together,
                "nt_samples_batch_size": together,
                "target": view.targets[rows],
            }
            wanted |= {
                name: size for name, size in sizes.items() if (name in takes or name == "target") and name not in wanted
            }
            if "target" not in takes and "kwargs" not in takes:
                del wanted["target"]
            found: object = method.attribute(
                view.features[rows].clone().requires_grad_(), additional_forward_args=(rows,), **wanted
            )
        except (CheckError, InputError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise CheckError(f'captum "{self.name}" raised {type(error).__name__}: {error}') from error
        return found[0] if isinstance(found, tuple) and len(found) == 1 else found


def from_captum(given: object) -> ThroughCaptum | CustomExplainer | None:
    """A class or an object of Captum as an explainer; None for anything else."""
    captum = sys.modules.get("captum.attr")
    if captum is None:
        return None
    if isinstance(given, type) and issubclass(given, captum.Attribution):
        found = ThroughCaptum(name=given.__name__)
        found._kind = given  # noqa: SLF001  (its own kind)
        return found
    if isinstance(given, captum.Attribution):
        return CustomExplainer(_Object(given), f"captum {type(given).__name__}")
    return None


class _Object:
    """A person's object of Captum, called as a function is."""

    def __init__(self, given: Any) -> None:
        self._given = given

    def __call__(self, model: nn.Module, inputs: Tensor | dict[str, Tensor], targets: Tensor) -> object:
        name = type(self._given).__name__
        if getattr(self._given, "forward_func", getattr(self._given, "model", None)) is not model:
            raise CheckError(
                f"the {name} object of Captum explains another model than the subject's, so checks that change the model would not "
                f"reach it; give the class, as `{{method: captum, name: {name}}}`"
            )
        if isinstance(inputs, Mapping):
            raise CheckError(
                f"the {name} object of Captum cannot be called with named inputs; give the class, as "
                f"`{{method: captum, name: {name}}}`"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            found: object = self._given.attribute(inputs.requires_grad_(), target=targets)
        return found


def _class(name: str) -> Any:
    """The class of captum.attr of this name."""
    try:
        import captum.attr as captum
    except ImportError as error:
        raise CheckError(
            "explainer \"captum\" needs Captum, which is not installed: pip install 'method-cards[captum]'"
        ) from error
    known = {
        key: kind
        for key, kind in vars(captum).items()
        if isinstance(kind, type) and issubclass(kind, captum.Attribution)
    }
    if name not in known:
        raise InputError(f'`explainer`: captum.attr has no attribution class "{name}".{did_you_mean(name, known)}')
    if name in MIXING:
        raise InputError(
            f"`explainer`: {name} explains an example by the others of its batch, so its maps depend on the batch; use "
            "FeatureAblation"
        )
    return known[name]


def _accepted(kind: Any, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that neither the class nor its ``attribute`` takes."""
    takes = {**_parameters(kind), **_parameters(kind.attribute)}
    own = [name for name in takes if name not in (*GIVEN, "forward_func", "model", "kwargs")]
    for name in arguments:
        if name not in own and (name in takes or "kwargs" not in takes):
            raise InputError(f'`explainer`.arguments: {kind.__name__} takes no "{name}" here.{did_you_mean(name, own)}')
    if "layer" in _parameters(kind) and "layer" not in arguments:
        raise InputError(f"`explainer`.arguments: {kind.__name__} needs the name of a module under `layer`")


def _parameters(function: Any) -> dict[str, Any]:
    """Names and defaults of what a class or a method takes."""
    parameters = inspect.signature(function).parameters
    return {name: parameter.default for name, parameter in parameters.items() if name != "self"}


def _built(kind: Any, module: nn.Module, model: nn.Module, arguments: Mapping[str, Any]) -> Any:
    """An object of the class, for the module."""
    takes = _parameters(kind)
    wanted = {name: _plain(arguments[name]) for name in takes if name in arguments}
    if "layer" in wanted:
        layers = dict(model.named_modules())
        name = str(wanted["layer"])
        if name not in layers:
            raise CheckError(f'captum "{kind.__name__}": the model has no layer "{name}".{did_you_mean(name, layers)}')
        wanted["layer"] = layers[name]
    if "attribution_method" in takes:
        wanted["attribution_method"] = _class(str(wanted.get("attribution_method", "Saliency")))(module)
        return kind(**wanted)
    return kind(module, **wanted)


def _plain(value: Any) -> Any:
    """A list of a YAML file as the tuple that Captum expects."""
    return tuple(_plain(item) for item in value) if isinstance(value, list) else value


def _on_features(view: View) -> nn.Module:
    """A module ``(features, rows) -> logits``, with the person's model inside, so that hooks find its layers."""

    class OnFeatures(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = view.model

        def forward(self, features: Tensor, rows: Tensor) -> Tensor:
            return view.outputs(features, rows)

    return OnFeatures().eval()

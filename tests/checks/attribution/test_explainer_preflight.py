"""Explainer preflight: the five proofs, every planted defect, and explainers of a well-known library."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from captum import attr
from torch import Tensor, nn

from method_cards import judge
from method_cards.catalog import Catalog
from method_cards.check import Context
from method_cards.execution import Options, Silent, measure
from method_cards.fitness import probabilities
from method_cards.measurement import Measurements
from method_cards.subject import Subject
from method_cards.verdict import Outcome
from method_checks.attribution import controls
from method_checks.attribution.controls import hygiene as hygiene_controls
from method_checks.attribution.explainer_preflight import ExplainerPreflight
from method_checks.attribution.networks.hygiene import changed, structure
from tests.helpers import scripted, step

if TYPE_CHECKING:
    from collections.abc import Callable

    from method_cards.card import CheckBinding, Prescription

CARD = next(loaded.card for loaded in Catalog.installed() if loaded.card.id == "guided-backprop")
PRESCRIPTIONS = [
    item for item in CARD.prescriptions if item.check is not None and item.check.id == ExplainerPreflight.id
]
DEFECTS = [item for item in ExplainerPreflight.controls() if item.kind == "defect"]


def bound(item: Prescription) -> CheckBinding:
    assert item.check is not None
    return item.check


def run(
    subject: Subject, check: ExplainerPreflight | None = None, *, samples: int = 64, seed: int = 0, batch: int = 64
) -> tuple[str, str, Measurements]:
    check = check or ExplainerPreflight()
    context = Context(subject, samples, seed, batch, scope=check.id)
    return measure(step(check, scripted()), context, Options(exhaustive=True), Silent())


def level(found: Measurements, name: str) -> float:
    return float(found.select(name, {})[0].values.mean())


@cache
def measured(name: str) -> Measurements:
    """What is measured of a control; each is measured once."""
    control = next(item for item in ExplainerPreflight.controls() if item.name == name)
    status, cause, found = run(control.build(0))
    assert (status, cause) == ("complete", "")
    return found


def tiny(forward: Callable[[nn.Module, Tensor], Tensor] | None = None, explainer: Any = None) -> Subject:
    """Two linear layers and a ReLU module on four features, put together by a function."""

    class Tiny(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.relu, self.last = nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.last(self.relu(self.first(x))) if forward is None else forward(self, x)
            return found

    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = Tiny().eval()
        data = torch.randn(64, 4), torch.zeros(64, dtype=torch.long)
    return Subject(
        "tiny", "tabular-classification", model, {"test": data}, explainer=explainer or {"method": "gradient"}
    )


# 1. and 2. Controls


@pytest.mark.parametrize("name", [item.name for item in ExplainerPreflight.controls() if item.kind == "sound"])
def test_a_sound_control_passes(name: str) -> None:
    """Every prescription of the card passes where nothing is planted."""
    for item in PRESCRIPTIONS:
        assert judge.judge(bound(item), measured(name), complete=True).outcome is Outcome.PASSED, item.id


@pytest.mark.parametrize("control", DEFECTS, ids=lambda item: item.name)
def test_a_planted_defect_is_found_under_its_own_name(control: Any) -> None:
    """The prescription that bounds the planted quantity fails because of it, and some prescription bounds it."""
    concerned = [
        item for item in PRESCRIPTIONS if control.because in {part.measurement for part in bound(item).criteria}
    ]
    assert concerned
    for item in concerned:
        found = judge.judge(bound(item), measured(control.name), complete=True)
        assert found.outcome is Outcome.FAILED, item.id
        assert control.because in {part.measurement for part in found.criteria if part.outcome is Outcome.FAILED}


def test_noise_gets_no_verdict_about_its_neighbours() -> None:
    """Of an explainer that depends on the seed one cannot say whether it depends on the batch."""
    item = next(item for item in PRESCRIPTIONS if item.id == "each-example-by-itself")
    found = judge.judge(bound(item), measured("noise"), complete=True)
    assert found.outcome is Outcome.INVALID
    assert "seed_dependence" in found.reason


# 3. A slow reading


def slow(subject: Subject, explain: Any, indices: tuple[int, ...], tolerance: float) -> dict[str, list[bool]]:
    """One example and one number at a time, in plain Python."""
    inputs, _ = subject.split("test").take(indices)
    assert isinstance(inputs, Tensor)

    def maps(x: Tensor) -> list[list[float]]:
        with torch.no_grad():
            targets = subject.model(x).argmax(1)
        return [row.flatten().tolist() for row in explain(subject.model, x.clone(), targets)]

    def differ(one: list[float], other: list[float]) -> bool:
        largest = max(abs(value) for value in (*one, *other))
        return max(abs(a - b) for a, b in zip(one, other, strict=True)) > tolerance * largest

    together, backwards = maps(inputs), maps(inputs.flip(0))[::-1]
    alone = [maps(x[None])[0] for x in inputs]
    return {
        "explanation_batch_dependence": [
            differ(a, b) or differ(a, c) for a, b, c in zip(together, backwards, alone, strict=True)
        ],
        "empty_explanations": [len(set(values)) == 1 for values in together],
    }


@pytest.mark.parametrize("tolerance", [0.01, 0.5])
def test_it_agrees_with_a_slow_reading(tolerance: float) -> None:
    """Each example's findings are those of a loop that explains it in company, backwards and alone."""
    subject = hygiene_controls.subject(0, hygiene_controls.by_batch_maximum)
    expected = slow(subject, hygiene_controls.by_batch_maximum, Context(subject, 24, 0).indices("test"), tolerance)
    _, _, found = run(subject, ExplainerPreflight(tolerance=tolerance), samples=24)
    for name, values in expected.items():
        assert found.select(name, {})[0].values.astype(bool).tolist() == values, name
    assert tolerance != 0.5 or 0 < sum(expected["explanation_batch_dependence"]) < 24, "both kinds were seen"


# 4. A well-known library


def captum_guided(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    found: Tensor = attr.GuidedBackprop(model).attribute(inputs.requires_grad_(), target=targets)
    return found


def captum_deep_lift(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    found: Tensor = attr.DeepLift(model).attribute(inputs.requires_grad_(), target=targets)
    return found


@pytest.mark.filterwarnings("ignore:Setting (forward, )?backward hooks")
@pytest.mark.parametrize("explain", [captum_guided, captum_deep_lift])
def test_captum_leaves_nothing_behind(explain: Any) -> None:
    """On a model that fits, Captum's methods with hooks are reproducible, treat each example by itself, and clean up."""
    _, _, found = run(hygiene_controls.subject(0, explain), samples=16)
    for name in ("explainer_irreproducibility", "explanation_batch_dependence", "hooks_left", "changed_tensors", "training_mode_left"):  # fmt: skip
        assert level(found, name) == 0, name


@pytest.mark.filterwarnings("ignore:Setting (forward, )?backward hooks")
def test_hidden_activations_are_those_that_captum_misses() -> None:
    """Where activations are hidden, Captum's Guided Backprop is the plain gradient; where none is, it is not."""
    for change, hidden in ((None, 0), (hygiene_controls.with_functions, 3)):
        subject = hygiene_controls.subject(0, captum_guided, change)
        view = subject.view(subject.batch("test", range(8)))
        leaf = view.features.clone().requires_grad_()
        score = subject.model(leaf).gather(1, view.targets[:, None]).sum()
        gradient = torch.autograd.grad(score, leaf)[0]
        assert structure(view).hidden == hidden
        assert torch.equal(captum_guided(subject.model, view.features.clone(), view.targets), gradient) == bool(hidden)


@pytest.mark.filterwarnings("ignore:Setting (forward, )?backward hooks")
def test_a_reused_module_is_one_that_captum_refuses() -> None:
    """DeepLIFT of Captum raises on a ReLU that is called twice, and the trace counts it."""

    def twice(model: Any, x: Tensor) -> Tensor:
        found: Tensor = model.last(model.relu(model.relu(model.first(x)) - 0.1))
        return found

    subject = tiny(twice)
    view = subject.view(subject.batch("test", range(4)))
    assert structure(view).reused == 1
    with pytest.raises((RuntimeError, AssertionError)):
        captum_deep_lift(subject.model, view.features.clone(), view.targets)


# 5. Same seed, same result


def test_the_same_seed_gives_the_same_result() -> None:
    """Two runs from one seed agree to the last bit, also for an explainer that is random."""
    subject = controls.digits_by("noise")(0)
    one, same = (run(subject, samples=32)[2] for _ in range(2))
    for series in one:
        assert np.array_equal(series.values, same.select(series.name, {})[0].values), series.name


# The trace


def functional(model: Any, x: Tensor) -> Tensor:
    found: Tensor = model.last(torch.relu(model.first(x)))
    return found


def overwritten(model: Any, x: Tensor) -> Tensor:
    found: Tensor = model.last(torch.relu_(model.first(x)))
    return found


def mixed(model: Any, x: Tensor) -> Tensor:
    found: Tensor = model.last(torch.tanh(model.relu(model.first(x))))
    return found


def composed(model: Any, x: Tensor) -> Tensor:
    hidden = model.first(x)
    found: Tensor = model.last(hidden * (hidden > 0))
    return found


@pytest.mark.parametrize(("forward", "hidden"), [(None, 0), (functional, 1), (overwritten, 1), (mixed, 1), (composed, 0)])  # fmt: skip
def test_hidden_activations_are_counted(forward: Any, hidden: int) -> None:
    """A function counts, in place or not, beside modules or not; what is composed of other operations is not seen, as stated."""
    assert level(run(tiny(forward), samples=8)[2], "hidden_nonlinearities") == hidden


def test_poolings_count_as_nonlinearities() -> None:
    """A max-pooling module is no finding, a functional one is: DeepLIFT has a rule for it."""

    class Pooled(nn.Module):
        def __init__(self, *, functional: bool) -> None:
            super().__init__()
            self.pool, self.last, self.functional = nn.MaxPool1d(2), nn.Linear(2, 3), functional

        def forward(self, x: Tensor) -> Tensor:
            pooled = torch.max_pool1d(x[:, None], 2) if self.functional else self.pool(x[:, None])
            found: Tensor = self.last(pooled[:, 0])
            return found

    for is_functional in (False, True):
        subject = tiny()
        made = Subject(
            "pooled",
            "tabular-classification",
            Pooled(functional=is_functional).eval(),
            subject.data,
            explainer={"method": "gradient"},
        )
        assert structure(made.view(made.batch("test", range(4)))).hidden == int(is_functional)


def test_a_text_model_is_traced_at_its_embeddings() -> None:
    """Two functional ReLU of a reader of texts are hidden, and its gradient reaches the embeddings."""
    _, _, found = run(controls.words_by("gradient")(0), samples=16)
    assert level(found, "hidden_nonlinearities") == 2
    assert level(found, "unreached_inputs") == 0
    assert level(found, "explanation_batch_dependence") == 0


@pytest.mark.parametrize(
    ("after", "share"),
    [
        (lambda z: z, 0),
        (lambda z: z.softmax(1), 1),
        (lambda z: z.sigmoid(), 1),
        (lambda z: z[:, :1].sigmoid(), 1),
        (lambda z: z[:, :1], 0),
        (lambda z: z.log_softmax(1), 0),
        (lambda z: z.softmax(1).mul(0.5).add(0.5 / 3), 1),
    ],
    ids=["logits", "softmax", "sigmoids", "one-sigmoid", "one-logit", "log-softmax", "mixture"],
)
def test_probabilities_are_told_from_scores(after: Callable[[Tensor], Tensor], share: int) -> None:
    """Softmax and sigmoid are seen in the graph, other probabilities by their sum; logits and log-probabilities are scores."""
    subject = tiny(lambda model, x: after(model.last(model.relu(model.first(x)))))  # type: ignore[operator]
    assert level(run(subject, samples=16)[2], "probability_outputs") == share


def test_a_difference_is_relative_to_the_largest_number() -> None:
    """Differences count against the largest magnitude of the example, and zeros do not differ from zeros."""
    one = torch.tensor([[1.0, 100.0], [1.0, 1.0], [0.0, 0.0]])
    other = torch.tensor([[1.5, 100.0], [1.5, 1.0], [0.0, 0.0]])
    assert changed(one, other, 0.01).tolist() == [False, True, False]
    assert changed(1e-9 * one, 1e-9 * other, 0.01).tolist() == [False, True, False]
    rounded = torch.tensor([[1.0, 0.5]], dtype=torch.bfloat16)
    assert changed(rounded, rounded * 1.03, 0.01).tolist() == [False], "a few roundings of bfloat16"
    assert changed(rounded, rounded * 1.2, 0.01).tolist() == [True]
    assert probabilities(torch.tensor([[0.2, 0.8], [1.2, -0.2], [0.5, 0.6]])).tolist() == [True, False, False]


# What is done to the model


def test_a_model_that_is_mistreated_is_put_right() -> None:
    """After a check of an explainer that trains, hooks and forgets, the model is what it was."""
    for explain in (hygiene_controls.in_training, hygiene_controls.with_hook, hygiene_controls.by_backward):
        subject = hygiene_controls.subject(0, explain, hygiene_controls.with_norm)
        before = subject.parameters_sha256()
        list(ExplainerPreflight().measure(subject, Context(subject, 32, scope="here")))
        assert subject.parameters_sha256() == before
        assert not any(module.training or module._forward_hooks for module in subject.model.modules())
        assert all(parameter.grad is None for parameter in subject.model.parameters())


def test_an_explainer_that_cannot_explain_one_example_is_found() -> None:
    """One that squeezes the batch away when it is one works in company only."""

    def squeezing(_model: nn.Module, inputs: Tensor, _targets: Tensor) -> Tensor:
        return inputs.squeeze(0)

    _, _, found = run(tiny(explainer=squeezing), samples=16)
    assert level(found, "explanation_batch_dependence") == 1


def test_a_random_explainer_that_heeds_its_seed_is_reproducible() -> None:
    """Noise from the global generator depends on the seed and is reproducible; it is not reseeded."""

    def noisy(_model: nn.Module, inputs: Tensor, _targets: Tensor) -> Tensor:
        return torch.randn_like(inputs)

    _, _, found = run(tiny(explainer=noisy), samples=16)
    assert level(found, "explainer_irreproducibility") == 0
    assert level(found, "seed_dependence") == 1
    assert level(found, "reseeded_generator") == 0


def test_a_model_without_any_gradient_is_unreached() -> None:
    """A model that computes without gradients counts at every example instead of ending the check."""

    def detached(model: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            found: Tensor = model.last(model.relu(model.first(x)))
        return found

    _, _, found = run(tiny(detached, {"method": "inputs"}), samples=16)
    assert level(found, "unreached_inputs") == 1


def test_the_cost_is_what_is_spent() -> None:
    """The passes that the plan states are those that the model is called for."""
    calls = {"examples": 0}
    subject = tiny(explainer={"method": "integrated-gradients", "steps": 4})
    stated = ExplainerPreflight().passes(subject, 32)
    subject.model.register_forward_pre_hook(
        lambda _module, inputs: calls.__setitem__("examples", calls["examples"] + len(inputs[0]))
    )
    run(subject, samples=32)
    assert calls["examples"] == stated.forward + stated.backward


@pytest.mark.parametrize("batch", [64, 24, 7])
def test_a_long_run_looks_at_few_examples(batch: int) -> None:
    """Of 512 drawn examples the first 40 are looked at, however they are batched, and the check completes."""
    subject = controls.digits_by("gradient")(0)
    status, _, found = run(subject, ExplainerPreflight(examples=40), samples=512, batch=batch)
    assert status == "complete"
    assert found.select("unreached_inputs", {})[0].n == 40
    assert ExplainerPreflight(examples=40).passes(subject, 512).backward == 6 * 40

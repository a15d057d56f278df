"""A subject is in evaluation mode, complete, and handed out in ways that keep it as it is."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from method_cards.errors import CheckError, InputError
from method_cards.subject import Subject, preserved
from tests.helpers import differences, state_of

DATA = torch.randn(12, 4), torch.arange(12) % 3


def network(*, dropout: bool = False) -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5) if dropout else nn.Identity(), nn.Linear(8, 3)
    ).eval()


def subject(model: nn.Module | None = None, **options: Any) -> Subject:
    return Subject("toy", "tabular-classification", model or network(), {"test": DATA}, **options)


# What a subject must be


def test_a_model_in_training_mode_is_refused() -> None:
    """The message counts the modules, names the first, says what would happen and what to do."""
    with pytest.raises(
        InputError, match=r"training mode \(5 modules, first: the model itself\).*call `model.eval\(\)` first"
    ):
        subject(network().train())


def test_one_module_in_training_mode_is_enough_to_be_refused() -> None:
    """A single dropout layer left in training mode would make every result random."""
    model = network(dropout=True)
    model[2].train()  # type: ignore[index]  # a Sequential
    with pytest.raises(InputError, match=r"training mode \(1 modules, first: 2\)"):
        subject(model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "image-clasification"}, 'unknown task "image-clasification". Did you mean "image-classification"?'),
        ({"model": lambda x: x}, "the model is a function, not a torch.nn.Module"),
        ({"model": {"weight": torch.zeros(1)}}, "the model is a dict, not a torch.nn.Module"),
        ({"layers": ("conv1",)}, 'the model has no layer "conv1"'),
        ({"layers": ("head",)}, "Known: 0, 1, 2, 3."),
        ({"data": {"test": (DATA[0][:0], DATA[1][:0])}}, '"test" is empty'),
    ],
)
def test_a_subject_that_cannot_be_measured_is_refused(changes: dict[str, Any], message: str) -> None:
    """The message names the subject, what is wrong and what is known."""
    settings: dict[str, Any] = {
        "id": "toy",
        "task": "tabular-classification",
        "model": network(),
        "data": {"test": DATA},
        **changes,
    }
    with pytest.raises(InputError) as error:
        Subject(**settings)
    assert message in str(error.value)
    assert '"toy"' in str(error.value) or '"test"' in str(error.value)


def test_a_split_that_is_not_there_is_named() -> None:
    """A check that asks for another split learns which there are."""
    with pytest.raises(CheckError, match=r'no data split "tset". Did you mean "test"\?'):
        subject().split("tset")


# Outputs and losses


class Gives(nn.Module):
    """A model with a given output for each example, whatever the input."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: Tensor) -> Tensor:
        return self.output[: len(x)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_outputs_that_are_not_finite_are_refused(value: float) -> None:
    """One bad logit is enough; the message counts the examples and names the first by its number in the split."""
    output = torch.zeros(12, 3)
    output[1, 2] = output[3, 0] = value
    broken = subject(Gives(output).eval())
    with pytest.raises(CheckError, match=r"output is NaN or infinite for 2 of 4 examples \(first: example 8\)"):
        broken.outputs(broken.batch("test", (7, 8, 9, 10)))


def test_losses_are_cross_entropies() -> None:
    """Each example's loss is PyTorch's own, in nats, without a graph."""
    found = subject()
    losses = found.losses(found.batch("test", range(12)))
    expected = nn.functional.cross_entropy(found.model(DATA[0]), DATA[1], reduction="none")
    assert torch.allclose(losses, expected.double())
    assert losses.shape == (12,)
    assert not losses.requires_grad


def test_an_infinite_loss_is_refused() -> None:
    """A loss that is no number is never averaged."""
    output = torch.zeros(12, 3)
    output[:, 0] = torch.inf
    broken = subject(Gives(output).eval())
    with pytest.raises(CheckError, match="the model's loss is NaN or infinite"):
        broken.losses(broken.batch("test", range(12)))


def test_a_target_that_is_no_class_is_refused() -> None:
    """The message says what the targets are and what they must be; -100, which PyTorch would skip, is no class either."""
    for targets, found in ((DATA[1] + 1, "targets go from 1 to 3"), (DATA[1] - 100, "targets go from -100 to")):
        broken = Subject("toy", "tabular-classification", network(), {"test": (DATA[0], targets)})
        with pytest.raises(CheckError, match=found):
            broken.losses(broken.batch("test", range(12)))


def test_confident_losses_are_told_apart() -> None:
    """Losses of very confident outputs stay different, where single precision would make all of them 0."""
    output = torch.zeros(12, 3).scatter(1, DATA[1][:12, None], torch.arange(20.0, 32.0)[:, None])
    sure = subject(Gives(output).eval())
    losses = sure.losses(sure.batch("test", range(12)))
    assert len(set(losses.tolist())) == 12


def test_a_model_that_loses_rows_is_refused() -> None:
    """A model whose output does not have a row for each example mixes examples up, and nothing it says is measured."""

    class Squeezed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros(len(x) + 1, 3)

    broken = subject(Squeezed().eval())
    with pytest.raises(CheckError, match="13 outputs for 12 examples"):
        broken.outputs(broken.batch("test", range(12)))


def test_outputs_leave_no_graph() -> None:
    """Outputs and losses are computed without gradients."""
    found = subject()
    assert not found.outputs(found.batch("test", (0, 1))).requires_grad


# Views


def test_a_view_explains_the_predicted_class_of_its_own_examples() -> None:
    """Targets are the predicted classes unless given; logits at the features are the model's, row by row, and differentiable."""
    found = subject()
    batch = found.batch("test", (4, 2, 7))
    view = found.view(batch)
    logits = found.outputs(batch)
    assert torch.equal(view.targets, logits.argmax(1))
    features = view.features.clone().requires_grad_()
    again = view.outputs(features, view.rows)
    assert torch.allclose(again, logits, atol=1e-6)
    again.sum().backward()
    assert features.grad is not None
    assert torch.equal(found.view(batch, torch.tensor([2, 2, 2])).targets, torch.tensor([2, 2, 2]))


# Preserving


def _rough(model: nn.Module) -> None:
    """Everything that can be done to a model and to the random numbers, without taking parts of it out."""
    model.train()
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.mul_(2)
        next(model.parameters()).data = torch.zeros_like(next(model.parameters()))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
        parameter.requires_grad_(not parameter.requires_grad)
    for module in model.modules():
        module.register_forward_hook(lambda *_: None)
        module.register_forward_pre_hook(lambda *_: None)
        module.register_full_backward_hook(lambda *_: None)
    torch.rand(3)
    random.random()
    np.random.rand()  # noqa: NPY002


@pytest.mark.parametrize("raises", [False, True])
def test_whatever_happens_to_a_model_is_undone(raises: bool) -> None:
    """Values, storage, modes, gradients, flags, hooks and random states are as before, also after an exception."""
    model = network()
    model[0].requires_grad_(requires_grad=False)  # type: ignore[index]  # a Sequential
    model[3].weight.grad = torch.full((3, 8), 7.0)  # type: ignore[index]
    model.register_forward_hook(lambda *_: None)
    found = subject(model)
    before = state_of(model)
    try:
        with preserved(found):
            _rough(model)
            if raises:
                raise RuntimeError  # noqa: TRY301  (as a check would)
    except RuntimeError:
        assert raises
    assert not differences(before, state_of(model))


def test_a_model_with_nan_parameters_is_left_as_it_was() -> None:
    """NaN equals nothing, and is still restored."""
    model = network()
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with preserved(subject(model)):
        _rough(model)
    assert torch.isnan(next(model.parameters())).all()
    assert not model.training


# Digests


def test_the_digest_of_parameters_depends_on_values_names_and_shapes() -> None:
    """Any change of any parameter or buffer changes the digest, and only that."""
    model = network()
    digest = subject(model).parameters_sha256()
    assert digest == subject(model).parameters_sha256()
    with torch.no_grad():
        model[3].bias[1] += 1e-6  # type: ignore[index]
    changed = subject(model).parameters_sha256()
    model[1].running_mean[0] = 5  # type: ignore[index]
    assert len({digest, changed, subject(model).parameters_sha256()}) == 3
    renamed = nn.Sequential()
    for name, module in model.named_children():
        renamed.add_module(f"layer{name}", module)
    assert subject(renamed.eval()).parameters_sha256() != subject(model).parameters_sha256()


def test_the_digest_of_data_is_of_the_examples_that_are_named() -> None:
    """Other examples, or another order, give another digest."""
    found = subject()
    assert found.data_sha256("test", (0, 1)) == found.data_sha256("test", (0, 1))
    assert len({found.data_sha256("test", chosen) for chosen in ((0, 1), (1, 0), (0, 2))}) == 3

"""Disconnected input: the five proofs, and that the network around the model keeps cells apart."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from captum import attr
from torch import Tensor, nn

from method_cards.check import Context
from method_cards.data import Batch
from method_cards.subject import Subject
from method_checks.attribution.controls.functions import blurred_gradient
from method_checks.attribution.disconnected_input import DisconnectedInput, neighbours
from method_checks.attribution.explainers import IntegratedGradients, resolve
from method_checks.attribution.tasks.grids import disconnected, join, joined_view, separate
from method_checks.attribution.tasks.truth import share
from tests.checks.attribution.known_truth import assert_as_stated, run, values
from tests.helpers import binding, criterion

if TYPE_CHECKING:
    from method_cards.check import Control

CRITERIA = binding(
    DisconnectedInput.id, [criterion("connected_share", at_least=0.9)], [criterion("empty_map", at_most=0.1)]
)
CONTROLS = {item.name: item for item in DisconnectedInput.controls()}
SOUND, DEFECT = ([item for item in CONTROLS.values() if item.kind == kind] for kind in ("sound", "defect"))


@cache
def control(name: str, seed: int = 0) -> Subject:
    return CONTROLS[name].build(seed)


# 1. and 2. Controls


@pytest.mark.parametrize("item", SOUND, ids=lambda item: item.name)
def test_a_sound_control_passes(item: Control) -> None:
    """Derivatives stay in the connected cell, of images, texts and tables."""
    assert_as_stated(DisconnectedInput(), item, CRITERIA, samples=128)


@pytest.mark.parametrize("item", DEFECT, ids=lambda item: item.name)
def test_a_defect_control_fails_for_the_stated_reason(item: Control) -> None:
    """Maps that do not know where the score comes from, or smear it, fail by the share of the connected cell."""
    assert_as_stated(DisconnectedInput(), item, CRITERIA)


# 3. A slow re-implementation


def slow(subject: Subject, check: DisconnectedInput, indices: tuple[int, ...]) -> list[float]:
    """Setting of rao2022towards, one example at a time: images pasted into a grid, one cell read back and classified."""
    side, scope = check.side, Context(subject, len(indices), scope=check.id)
    explainer = subject.explainer
    assert callable(explainer)
    found = []
    for number, index in enumerate(indices):
        position = scope.number("cell", index) % side**2
        others = [indices[(number + step) % len(indices)] for step in range(1, side**2)]
        placed = [*others[:position], index, *others[position:]]
        taken = [subject.split("test").take([item])[0] for item in placed]
        images = [item[0] for item in taken if isinstance(item, Tensor)]
        size = images[0].shape[-1]
        grid = torch.zeros(1, 1, side * size, side * size)
        for cell, image in enumerate(images):
            row, column = divmod(cell, side)
            grid[0, 0, row * size : (row + 1) * size, column * size : (column + 1) * size] = image
        top, left = (size * place for place in divmod(position, side))

        class OneCell(nn.Module):
            def forward(self, at: Tensor, top: int = top, left: int = left, size: int = size) -> Tensor:
                logits: Tensor = subject.model(at[:, :, top : top + size, left : left + size])
                return logits

        target = subject.model(images[position][None]).argmax(1)
        map_ = explainer(OneCell(), grid, target)[0, 0].abs()
        found.append((map_[top : top + size, left : left + size].sum() / map_.sum()).item())
    return found


def test_it_agrees_with_a_slow_reading_of_the_paper() -> None:
    """The share of every example is that of a network that cuts out one cell, for a map that leaks into the others."""
    subject, check = control("blurred-gradient"), DisconnectedInput()
    measured = values(check, subject, CRITERIA, "connected_share", samples=20, batch=7)
    assert measured == pytest.approx(slow(subject, check, Context(subject, 20, 0).indices("test")), abs=1e-5)
    assert 0.5 < measured.mean() < 0.9


# 4. Agreement with Captum, and closed forms


def test_it_agrees_with_captum() -> None:
    """Captum's Integrated Gradients of one image alone are those of its cell, and all other cells get exactly zero."""
    subject = control("gradient")
    cells = subject.batch("test", tuple(range(8)))
    apart = disconnected(subject, 4)
    logits = subject.outputs(cells)
    targets = torch.stack([2 * 10 + logits[2].argmax(), 1 * 10 + logits[5].argmax()])
    view = joined_view(apart, cells, (2, 5), targets, 4)
    explainer = resolve(apart, IntegratedGradients(steps=8))
    maps = separate(explainer.explain(view, 0), 4)
    alone = cells.inputs[[2, 5]]  # type: ignore[index]
    expected = attr.IntegratedGradients(subject.model).attribute(alone, target=targets % 10, n_steps=8)
    assert torch.allclose(maps[[2, 5]], expected, atol=1e-5)
    assert torch.equal(maps[[0, 1, 3, 4, 6, 7]], torch.zeros(6, 1, 8, 8))


def test_the_input_itself_has_the_share_of_its_own_mass() -> None:
    """A map that is the input lies on a cell by as much as the image's brightness does."""
    subject, check = control("inputs"), DisconnectedInput()
    measured = values(check, subject, CRITERIA, "connected_share", samples=16)
    drawn = Context(subject, 16, 0).indices("test")
    mass = [subject.batch("test", [index]).inputs.sum().item() for index in drawn]  # type: ignore[union-attr]
    expected = [mass[number] / sum(mass[(number + step) % 16] for step in range(4)) for number in range(16)]
    assert measured == pytest.approx(expected, abs=1e-6)


# 5. Same seed, same result


def test_the_same_seed_gives_the_same_result() -> None:
    """Two runs from one seed measure the same to the last bit, noise included; another seed measures something else."""
    one, same, other = (
        values(DisconnectedInput(), control("noise"), CRITERIA, "connected_share", samples=32, seed=seed)
        for seed in (0, 0, 1)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


# The mathematics


@pytest.mark.parametrize(("shape", "count"), [((8, 3, 2, 5), 4), ((9, 1, 4, 4), 9), ((8, 6, 5), 4), ((8, 7), 4)])
def test_taking_apart_undoes_putting_together(shape: tuple[int, ...], count: int) -> None:
    """Cells of images, texts and tables come back as they were."""
    cells = torch.randn(shape)
    assert torch.equal(separate(join(cells, count), count), cells)


def test_cells_of_images_are_in_reading_order() -> None:
    """The second of four cells is on the top right."""
    cells = torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 1, 2, 2)
    assert join(cells, 4)[0, 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]


def test_the_chosen_example_stands_at_its_position() -> None:
    """The others are those drawn after it, the first after the last."""
    assert neighbours((7, 3, 5, 9, 1), (9, 7), (1, 3), 4) == (1, 9, 7, 3, 3, 5, 9, 7)


def test_a_share_does_not_depend_on_scale_and_an_empty_map_has_none() -> None:
    """Shares of a map times 1e6 are the same; a map of zeros is reported as empty."""
    masses, region = torch.tensor([[1.0, 3.0], [0.0, 0.0]]), torch.tensor([[True, False], [True, False]])
    for factor in (1.0, 1e6, 1e-6):
        shares, empty = share(masses * factor, region)
        assert shares.tolist() == pytest.approx([0.25, 0])
        assert empty.tolist() == [False, True]


@pytest.mark.parametrize("side", [2, 3])
def test_noise_lies_on_the_cell_by_its_area(side: int) -> None:
    """The null is one over the number of cells."""
    measured = values(DisconnectedInput(side=side), control("noise"), CRITERIA, "connected_share", samples=128)
    assert measured.mean() == pytest.approx(1 / side**2, abs=4 * measured.std() / math.sqrt(128))


# The network around the model


class Masked(nn.Module):
    """A text classifier with named inputs, which looks at content alone and at its order."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 6)
        self.head = nn.GRU(6, 3, batch_first=True)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states: Tensor = self.head(self.words(input_ids) * attention_mask[..., None])[0]
        return states[:, -1]


def masked_texts() -> Subject:
    torch.manual_seed(0)
    mask = torch.arange(5)[None] < torch.tensor([2, 5, 3, 4, 1, 5, 5, 2])[:, None]
    data = {"input_ids": torch.randint(20, (8, 5)), "attention_mask": mask.long()}
    return Subject(
        "texts",
        "text-classification",
        Masked().eval(),
        {"test": (data, torch.zeros(8, dtype=torch.long))},
        explainer={"method": "input-x-gradient"},
    )


@pytest.mark.parametrize("name", ["gradient", "words-gradient", "table-gradient", "masked"])
def test_each_cell_goes_through_the_model_alone(name: str) -> None:
    """The logits of four examples side by side are those of each on its own."""
    subject = masked_texts() if name == "masked" else control(name)
    cells = subject.batch("test", tuple(range(8)))
    view = joined_view(disconnected(subject, 4), cells, (0, 4), torch.zeros(2, dtype=torch.long), 4)
    assert torch.allclose(view.outputs(view.features, view.rows).reshape(8, -1), subject.outputs(cells), atol=1e-5)
    assert len(view.features) == 2


def test_padding_is_left_out() -> None:
    """Texts of different lengths keep their masks, and gradients stay in the connected text."""
    subject = masked_texts()
    assert values(DisconnectedInput(), subject, CRITERIA, "connected_share", samples=8) == pytest.approx(np.ones(8))
    view = joined_view(
        disconnected(subject, 4), subject.batch("test", tuple(range(8))), (0, 4), torch.zeros(2).long(), 4
    )
    assert view.content.sum(1).tolist() == [14, 13]


def test_named_inputs_of_a_table_stay_with_their_cell() -> None:
    """A second input that is not explained is used for its own cell."""

    class Scaled(nn.Module):
        def forward(self, columns: Tensor, scale: Tensor) -> Tensor:
            return torch.stack([columns.sum(1) * scale[:, 0], columns[:, 0] * scale[:, 1]], 1)

    inputs = {"columns": torch.randn(8, 3), "scale": torch.arange(16).reshape(8, 2)}
    subject = Subject(
        "scaled",
        "tabular-classification",
        Scaled().eval(),
        {"test": (inputs, torch.zeros(8, dtype=torch.long))},
        attribute_to="columns",
        explainer={"method": "gradient"},
    )
    cells = subject.batch("test", tuple(range(8)))
    view = joined_view(disconnected(subject, 4), cells, (0, 4), torch.zeros(2, dtype=torch.long), 4)
    assert torch.allclose(view.outputs(view.features, view.rows).reshape(8, -1), subject.outputs(cells), atol=1e-5)


def test_activations_of_a_layer_are_had_side_by_side() -> None:
    """The layer named ``joined`` shows all cells' activations, and the logits are unchanged."""
    subject = control("gradient")
    cells = subject.batch("test", tuple(range(4)))
    apart = disconnected(subject, 4, layer="2")
    seen: list[Tensor] = []
    handle = apart.model.get_submodule("joined").register_forward_hook(lambda _m, _i, output: seen.append(output))
    logits = apart.outputs(Batch(join(cells.inputs, 4), cells.targets[:1], (0,)))  # type: ignore[arg-type]
    handle.remove()
    with torch.no_grad():
        alone = subject.model[:3](cells.inputs)  # type: ignore[index]
    assert torch.allclose(seen[0], join(alone, 4), atol=1e-5)
    assert torch.allclose(logits.reshape(4, 10), subject.outputs(cells), atol=1e-5)
    assert not subject.model[2]._forward_hooks  # type: ignore[index]


def test_class_activation_maps_weigh_the_layer_of_all_cells_at_once() -> None:
    """Grad-CAM's share is that of its formula on the activations of four digits side by side, whether the layer is named or found."""
    subject, indices = control("grad-cam"), Context(control("grad-cam"), 6, 0).indices("test")
    named = replace(subject, explainer={"method": "grad-cam", "layer": "2"})
    one, other = (
        values(DisconnectedInput(), item, CRITERIA, "connected_share", samples=6) for item in (subject, named)
    )
    assert np.array_equal(one, other)
    scope, layers = Context(subject, 6, scope=DisconnectedInput.id), subject.model
    assert isinstance(layers, nn.Sequential)
    for number, index in enumerate(indices):
        position = scope.number("cell", index) % 4
        placed = neighbours(indices, (index,), (position,), 4)
        activations = layers[:3](subject.batch("test", placed).inputs).detach().requires_grad_()
        logits = layers[3:](activations)[position]
        logits.max().backward()
        assert activations.grad is not None
        weights = activations.grad.mean((0, 2, 3))
        coarse = join((weights[:, None, None] * activations.detach()).sum(1, keepdim=True), 4).clamp(min=0)
        assert coarse.shape == (1, 1, 16, 16)
        inside = separate(coarse, 4)[position].sum()
        assert one[number] == pytest.approx((inside / coarse.sum()).item(), abs=1e-5)


# What is refused


def test_a_function_that_is_bound_to_one_model_is_refused() -> None:
    """A function that runs the subject's own model, not the one that it is given, is told to use its argument."""
    subject = control("gradient")
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(8), subject.model).eval()
    bound = replace(
        subject, model=pooled, explainer=lambda _model, inputs, targets: blurred_gradient(pooled, inputs, targets % 10)
    )
    status, cause, _ = run(DisconnectedInput(), bound, CRITERIA, samples=8)
    assert status == "errored"
    assert "not the network that it was given" in cause


def test_a_function_that_cannot_take_another_network_is_refused() -> None:
    """An exception inside the function is reported with the reason that it met another network."""
    subject = replace(control("gradient"), explainer=lambda model, inputs, _targets: model[0](inputs)[:, :1])
    status, cause, _ = run(DisconnectedInput(), subject, CRITERIA, samples=8)
    assert status == "errored"
    assert "has to work for any model" in cause


def test_empty_maps_are_counted_and_left_out() -> None:
    """A map of zeros is no evidence: the gate counts it."""
    subject = replace(control("gradient"), explainer=lambda _model, inputs, _targets: torch.zeros_like(inputs))
    status, _, found = run(DisconnectedInput(), subject, CRITERIA, samples=8)
    assert status == "complete"
    assert found.select("empty_map", {})[0].values.tolist() == [1] * 8
    assert not found.select("connected_share", {})


def test_the_cost_is_what_is_spent() -> None:
    """The passes that the plan states are those that the model is called for."""
    subject = control("integrated-gradients")
    check = DisconnectedInput()
    stated = check.passes(subject, 64)
    calls: list[int] = []
    handle = subject.model.register_forward_pre_hook(lambda _module, inputs: calls.append(len(inputs[0])))
    run(check, subject, CRITERIA, samples=64)
    handle.remove()
    assert sum(calls) == stated.forward + stated.backward

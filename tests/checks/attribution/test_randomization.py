"""Stages hold every parameter, random weights are independent and reproducible, and the model is left as it was."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from method_cards.adapters import as_tensor
from method_cards.errors import CheckError
from method_checks.attribution.networks.randomization import (
    Stage,
    random_state,
    recalibrated,
    seeded,
    stages,
    swapped,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed))


def trained(model: nn.Module) -> nn.Module:
    """The model with all values moved off their initial ones, as training would, in evaluation mode."""
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.add_(0.3 * draw(*parameter.shape, seed=number))
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.add_(1.5)
    return model.eval()


class Block(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample = (
            nn.Sequential(nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out)) if width != out else None
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)  # type: ignore[no-any-return]


class Residual(nn.Module):
    """Like a ResNet-18: registered in another order than it is executed in."""

    def __init__(self, depth: int = 2) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 5)
        self.conv1 = nn.Conv2d(3, 4, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(*(Block(4, 4) for _ in range(depth)))
        self.layer2 = nn.Sequential(Block(4, 8), *(Block(8, 8) for _ in range(depth - 1)))
        self.layer3 = nn.Sequential(Block(8, 16), *(Block(16, 16) for _ in range(depth - 1)))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))  # type: ignore[no-any-return]


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, 2, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 16), nn.GELU(), nn.Linear(16, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class VisionTransformer(nn.Module):
    def __init__(self, depth: int = 2, width: int = 8) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, width))
        self.patch_embed = nn.Conv2d(3, width, 4, 4)
        self.blocks = nn.Sequential(*(Attention(width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.lstm = nn.LSTM(6, 6, num_layers=2, batch_first=True)
        self.out = nn.Linear(6, 5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.lstm(self.embedding(ids))[0][:, -1])  # type: ignore[no-any-return]


class Tied(nn.Module):
    """The output layer uses the embedding's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.inner = nn.Linear(6, 6)
        self.out = nn.Linear(6, 20)
        self.out.weight = self.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.inner(self.embedding(ids)).mean(1))  # type: ignore[no-any-return]


class Unused(nn.Module):
    """Two of its layers are never called."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(2, 2)
        self.first = nn.Linear(4, 4)
        self.auxiliary = nn.Linear(4, 2)
        self.last = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x)))  # type: ignore[no-any-return]


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(32, 5),
    )


def bert(layers: int = 2) -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
    )
    return BertForSequenceClassification(config)  # type: ignore[no-any-return]


IMAGES = draw(8, 3, 8, 8)
IDS = torch.randint(1, 20, (4, 7), generator=generator())

MODELS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 5)), draw(4, 4)),
    "cnn": (cnn, IMAGES),
    "residual": (Residual, IMAGES),
    "vision transformer": (VisionTransformer, IMAGES),
    "bert": (bert, IDS),
    "deep bert": (lambda: bert(12), IDS),
    "lstm": (Recurrent, IDS),
    "tied": (Tied, IDS),
    "unused": (Unused, draw(4, 4)),
    "deep": (lambda: nn.Sequential(*(nn.Linear(4, 4) for _ in range(40))), draw(4, 4)),
    "norm first": (lambda: nn.Sequential(nn.BatchNorm1d(4, affine=False), nn.Linear(4, 5)), draw(4, 4)),
}


def made(name: str) -> tuple[nn.Module, Callable[[], Tensor]]:
    make, inputs = MODELS[name]
    torch.manual_seed(0)
    model = trained(make())
    return model, lambda: model(inputs)


def fingerprint(model: nn.Module) -> tuple[str, list[int], list[int]]:
    """Values and identities of all tensors."""
    tensors = [*model.parameters(), *model.buffers()]
    digest = hashlib.sha256(b"".join(tensor.detach().numpy().tobytes() for tensor in tensors))
    return digest.hexdigest(), [id(tensor) for tensor in tensors], [tensor.data_ptr() for tensor in tensors]


def names(found: tuple[Stage, ...]) -> list[str]:
    return [stage.name for stage in found]


@pytest.mark.parametrize("name", MODELS)
def test_stages_hold_every_parameter_once(name: str) -> None:
    """Every parameter and every running statistic is in exactly one stage, of at most twelve with names of their own."""
    model, call = made(name)
    found = stages(model, call)
    parameters = [parameter for stage in found for parameter in stage.parameters]
    assert sorted(parameters) == sorted(dict(model.named_parameters()))
    statistics = [buffer for buffer in dict(model.named_buffers()) if buffer.endswith(("running_mean", "running_var"))]
    assert sorted(buffer for stage in found for buffer in stage.buffers) == sorted(statistics)
    assert len(found) <= 12
    assert len(set(names(found))) == len(found)
    modules = dict(model.named_modules())
    assert all(module in modules for stage in found for module in stage.modules)


@pytest.mark.parametrize("name", MODELS)
def test_finding_stages_changes_nothing(name: str) -> None:
    """The model has the same tensors and no hooks after its stages were found, and after a call that failed."""
    model, call = made(name)
    before = fingerprint(model)
    stages(model, call)
    with pytest.raises(ZeroDivisionError):
        stages(model, lambda: 1 // 0)
    assert fingerprint(model) == before
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_stages_go_from_the_output_to_the_input() -> None:
    """The order is that of execution, reversed, whatever the order of registration; blocks stay whole; the output layer is alone."""
    model, call = made("residual")
    found = stages(model, call)
    assert names(found) == [
        "fc",
        "layer3.1",
        "layer3.0",
        "layer2.1",
        "layer2.0",
        "layer1.1",
        "layer1.0",
        "conv1",
    ]
    assert found[0].parameters == ("fc.weight", "fc.bias")
    assert found[-1].modules == ("conv1", "bn1")
    assert found[-1].buffers == ("bn1.running_mean", "bn1.running_var")


def test_few_layers_are_stages_of_their_own() -> None:
    """A network with no more layers than stages is not grouped."""
    assert names(stages(*made("cnn"))) == ["7", "4", "2", "0"]
    assert names(stages(*made("lstm"))) == ["out", "lstm", "embedding"]


def test_class_token_and_attention_projections_are_covered() -> None:
    """What a transformer holds outside its layers comes last; projections that are no calls of their own stay with their attention."""
    model, call = made("vision transformer")
    found = stages(model, call, most=5)
    assert names(found) == ["head", "blocks.1", "blocks.0", "patch_embed", "cls_token, pos_embed"]
    assert found[-1].parameters == ("cls_token", "pos_embed")
    assert {"blocks.0.attn.in_proj_weight", "blocks.0.attn.out_proj.weight", "blocks.0.norm1.weight"} <= set(
        found[2].parameters
    )


def test_deep_networks_are_cut_between_their_blocks() -> None:
    """When there are more blocks than stages, neighbouring blocks are joined, and the output layer stays alone."""
    found = names(stages(*made("deep bert")))
    assert len(found) == 12
    assert found[0] == "classifier"
    assert "bert.encoder.layer.11" in found
    assert "bert.encoder.layer.9 to bert.encoder.layer.10" in found


@pytest.mark.parametrize("most", [1, 2, 3, 5, 8, 40])
def test_there_are_never_too_many_stages(most: int) -> None:
    """The number of stages keeps to the limit, and the limit is used up where layers have no other structure."""
    assert len(stages(*made("deep"), most=most)) == most
    assert len(stages(*made("residual"), most=most)) <= most


def test_named_layers_divide_the_stages() -> None:
    """Layers of interest are stages, and what lies before, between and after them too, however many there are."""
    model, call = made("residual")
    assert names(stages(model, call, layers=("layer1", "layer3.0"))) == [
        "fc",
        "layer3.1",
        "layer3.0",
        "layer2",
        "layer1",
        "conv1",
    ]
    assert len(stages(model, call, layers=("layer1", "layer3.0"), most=2)) == 6


def test_a_shared_parameter_belongs_to_the_output() -> None:
    """A weight that the embedding and the output layer share is randomised with the output layer."""
    found = stages(*made("tied"))
    assert names(found) == ["out", "inner"]
    assert set(found[0].parameters) == {"embedding.weight", "out.bias"}


def test_layers_that_are_never_called_follow_the_one_before() -> None:
    """Parameters that a call does not use are still covered, in the order of registration."""
    assert names(stages(*made("unused"))) == ["last", "auxiliary", "first", "spare"]


def test_norm_layers_go_with_their_block() -> None:
    """A norm layer joins the layer before it, or the one after it where only that is in its block."""
    model, call = made("vision transformer")
    by_module = {module: stage.name for stage in stages(model, call) for module in stage.modules}
    assert by_module["blocks.1.norm1"] == by_module["blocks.1.attn"]
    assert by_module["blocks.1.norm2"] == by_module["blocks.1.attn.out_proj"]
    assert by_module["norm"] == by_module["blocks.1.mlp.2"]
    assert stages(*made("norm first"))[0].modules == ("0", "1")


class Adapted(nn.Module):
    """A linear layer beside low-rank weights, as own parameters or as layers named as PEFT names them."""

    def __init__(self, out: int, peft: bool) -> None:
        super().__init__()
        self.base_layer, self.peft = nn.Linear(4, out), peft
        if peft:
            self.lora_A = nn.ModuleDict({"default": nn.Linear(4, 2, bias=False)})
            self.lora_B = nn.ModuleDict({"default": nn.Linear(2, out, bias=False)})
        else:
            self.a, self.b = nn.Parameter(torch.randn(4, 2)), nn.Parameter(torch.randn(2, out))

    def forward(self, x: Tensor) -> Tensor:
        low: Tensor = self.lora_B["default"](self.lora_A["default"](x)) if self.peft else x @ self.a @ self.b
        return self.base_layer(x) + low  # type: ignore[no-any-return]


@pytest.mark.parametrize("peft", [False, True])
def test_the_last_layer_is_whole(peft: bool) -> None:
    """The first stage holds all parts of a wrapped output layer: with one part random, the others would go on as trained."""
    model = nn.Sequential(Adapted(4, peft), nn.ReLU(), Adapted(3, peft))
    top, *others = stages(model, lambda: model(torch.zeros(1, 4)))
    assert set(top.parameters) == {f"2.{name}" for name, _ in model[2].named_parameters()}
    assert top.name == "2"
    assert others
    assert not any(name.startswith("2.") for stage in others for name in stage.parameters)


def test_a_model_without_parameters_is_refused() -> None:
    """There is nothing to randomise."""
    with pytest.raises(CheckError, match="nothing to randomise"):
        stages(nn.Flatten(), lambda: None)


@pytest.mark.parametrize("name", MODELS)
def test_random_state_leaves_the_model_alone(name: str) -> None:
    """Drawing new values changes no value, no tensor object, no mode and no global random state."""
    model, _ = made(name)
    before, state = fingerprint(model), torch.get_rng_state()
    random_state(model, generator())
    assert fingerprint(model) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("name", MODELS)
def test_every_trained_parameter_gets_a_new_value(name: str) -> None:
    """A trained network keeps none of its parameters, and forms, types and finiteness are right."""
    model, call = made(name)
    drawn = random_state(model, generator())
    assert drawn.unchanged == ()
    for parameter, value in model.named_parameters():
        assert drawn.state[parameter].shape == value.shape
        assert not torch.equal(drawn.state[parameter], value)
    with swapped(model, drawn.state):
        output = call()
    logits = as_tensor(output)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", MODELS)
def test_the_same_seed_gives_the_same_network(name: str) -> None:
    """A generator's state decides the values; going on with it gives another network."""
    model, _ = made(name)
    running = generator(5)
    first, second, again = random_state(model, running), random_state(model, running), random_state(model, generator(5))
    assert first.state.keys() == second.state.keys()
    for parameter, value in first.state.items():
        assert torch.equal(value, again.state[parameter])
    weights = [parameter for parameter, value in model.named_parameters() if value.dim() > 1]
    assert all(not torch.equal(first.state[weight], second.state[weight]) for weight in weights)


@pytest.mark.parametrize("name", ["cnn", "residual", "vision transformer", "bert", "lstm", "deep"])
def test_layers_of_the_same_shape_get_different_weights(name: str) -> None:
    """No two weights of one network are equal: the random numbers run on from layer to layer."""
    model, _ = made(name)
    weights = [value for value in random_state(model, generator()).state.values() if value.dim() > 1]
    for number, one in enumerate(weights):
        for other in weights[number + 1 :]:
            assert one.shape != other.shape or not torch.equal(one, other)


def test_values_are_those_of_the_modules_own_initialiser() -> None:
    """A layer with ``reset_parameters`` has the spread that it was built with, not the trained one."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(400, 400), nn.BatchNorm1d(400))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(7).add_(1)
    drawn = random_state(model, generator()).state
    assert float(drawn["0.weight"].std()) == pytest.approx(1 / (3 * 400) ** 0.5, rel=0.02)
    assert float(drawn["0.weight"].mean()) == pytest.approx(0, abs=1e-3)
    assert drawn["1.weight"].unique().tolist() == [1]
    assert drawn["1.running_var"].unique().tolist() == [1]


def test_parameters_without_initialiser_keep_mean_and_spread() -> None:
    """A bare parameter, and one behind ``weight_norm``, is normal with its own mean and standard deviation."""

    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(3 + 0.5 * draw(200, 200))
            self.scale = nn.Parameter(torch.tensor(2.0))
            self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(200, 200))

    model = Bare()
    drawn = random_state(model, generator())
    assert float(drawn.state["table"].mean()) == pytest.approx(3, abs=0.02)
    assert float(drawn.state["table"].std()) == pytest.approx(0.5, rel=0.02)
    direction = "normed.parametrizations.weight.original1"
    old = model.get_parameter(direction).detach()
    assert float(drawn.state[direction].std()) == pytest.approx(float(old.std()), rel=0.02)
    assert not torch.equal(drawn.state[direction], old)


def test_constants_are_reported() -> None:
    """A constant without an initialiser, and an untrained scale, cannot be randomised: they are named."""

    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma = nn.Parameter(torch.full((4,), 1e-5))
            self.temperature = nn.Parameter(torch.tensor(2.0))
            self.norm = nn.LayerNorm(4)
            self.linear = nn.Linear(4, 4)

    assert set(random_state(Constant(), generator()).unchanged) == {"gamma", "temperature", "norm.weight", "norm.bias"}


def test_an_initialiser_that_replaces_parameters_cannot_harm_the_model() -> None:
    """A module that makes new parameter objects when it is reset has its own back afterwards."""

    class Replacing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(50))

        def reset_parameters(self) -> None:
            self.weight = nn.Parameter(torch.rand(50) + 5)

    model = Replacing()
    before = fingerprint(model)
    drawn = random_state(model, generator())
    assert fingerprint(model) == before
    assert float(drawn.state["weight"].min()) >= 5
    assert drawn.unchanged == ()


def test_an_initialiser_that_fails_is_named() -> None:
    """The error names the layer and the cause, and the model is as before."""

    class Failing(nn.Linear):
        ready = False

        def reset_parameters(self) -> None:
            if self.ready:
                raise RuntimeError("no")

    model = nn.Sequential(Failing(3, 3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    before = fingerprint(model)
    Failing.ready = True
    with pytest.raises(
        CheckError, match=r'layer "0" cannot be initialised anew: Failing.reset_parameters raised RuntimeError'
    ):
        random_state(model, generator())
    assert fingerprint(model) == before


def test_an_initialiser_with_arguments_is_not_called() -> None:
    """Where ``reset_parameters`` needs arguments that nobody knows, the parameter keeps mean and spread."""

    class Choosy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(draw(100, 100))

        def reset_parameters(self, gain: float) -> None:
            raise AssertionError(gain)

    assert random_state(Choosy(), generator()).unchanged == ()


def test_swapped_tensors_are_put_back() -> None:
    """Within the block the model computes with the new values, without copies; afterwards, and after an error, with its own."""
    model, call = made("residual")
    before, output = fingerprint(model), call()
    drawn = random_state(model, generator())
    with swapped(model, drawn.state):
        assert model.get_parameter("fc.weight").data_ptr() == drawn.state["fc.weight"].data_ptr()
        assert not torch.allclose(call(), output)
    with pytest.raises(ZeroDivisionError), swapped(model, drawn.state):
        1 // 0  # noqa: B018
    assert fingerprint(model) == before
    assert torch.equal(call(), output)


def test_swaps_can_be_nested_and_reach_shared_parameters() -> None:
    """A swap inside a swap ends in reverse order, and a shared parameter changes under both its names."""
    model, call = made("tied")
    before = fingerprint(model)
    one, two = torch.ones(20, 6), torch.zeros(20, 6)
    with swapped(model, {"embedding.weight": one}), swapped(model, {"out.weight": two, "embedding.weight": two}):
        assert torch.equal(call(), model.get_parameter("out.bias").expand(4, -1))
    assert fingerprint(model) == before


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"fc.wieght": torch.ones(5, 16)}, 'no parameter or buffer "fc.wieght". Did you mean "fc.weight"?'),
        (
            {"fc.weight": torch.ones(5, 15)},
            r'"fc.weight" is float32 \(5, 16\) on cpu in the model; it cannot be replaced',
        ),
        ({"fc.bias": torch.ones(5).double()}, "float64"),
    ],
)
def test_only_fitting_tensors_are_swapped(tensors: dict[str, Tensor], message: str) -> None:
    """A wrong name, shape or type is refused before anything is changed."""
    model, _ = made("residual")
    before = fingerprint(model)
    with pytest.raises(CheckError, match=message), swapped(model, {"bn1.weight": torch.ones(4), **tensors}):
        pass
    assert fingerprint(model) == before


def test_gradients_flow_through_swapped_weights() -> None:
    """A gradient that is taken inside the block is that of a network built with these weights."""
    torch.manual_seed(0)
    model, other = trained(Residual()), trained(Residual())
    with torch.no_grad():
        other.get_parameter("conv1.weight").mul_(-1)
    x = IMAGES.clone().requires_grad_()
    (expected,) = torch.autograd.grad(other(x).sum(), x)
    with swapped(model, {**dict(other.named_parameters()), **dict(other.named_buffers())}):
        (found,) = torch.autograd.grad(model(x).sum(), x)
    assert torch.equal(found, expected)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_recalibrated_statistics_are_those_of_the_batch() -> None:
    """Each norm layer gets the mean and variance of what reaches it, its predecessors in the network already recalibrated."""
    model, call = made("residual")
    drawn = random_state(model, generator())
    every = [buffer for stage in stages(model, call) for buffer in stage.buffers]
    seen: dict[str, Tensor] = {}
    with swapped(model, drawn.state), swapped(model, recalibrated(model, every, call)), torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                module.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0]}))
        call()
        assert seen
        for name, inputs in seen.items():
            channels = inputs.transpose(0, 1).flatten(1)
            torch.testing.assert_close(model.get_buffer(f"{name}.running_mean"), channels.mean(1), rtol=0.02, atol=0.01)
            torch.testing.assert_close(model.get_buffer(f"{name}.running_var"), channels.var(1), rtol=0.02, atol=0.01)


def test_stale_statistics_break_the_scale_and_fresh_ones_do_not() -> None:
    """With the trained statistics a random network's output collapses or explodes; recalibrated, it has the usual scale."""
    torch.manual_seed(0)
    model = Residual(4).train()
    for _ in range(20):
        model(5 * IMAGES)
    model.eval()
    calibration = 5 * IMAGES
    drawn = random_state(model, generator())
    parameters = {name: drawn.state[name] for name, _ in model.named_parameters()}
    every = [name for name in drawn.state if name not in parameters]

    def call() -> Tensor:
        return model(calibration)  # type: ignore[no-any-return]

    with torch.no_grad():
        with swapped(model, drawn.state):
            initial = float(call().std())
        with swapped(model, parameters), swapped(model, recalibrated(model, every, call)):
            fresh = float(call().std())
            model.train()
            ideal = float(call().std())
            model.eval()
    assert fresh == pytest.approx(ideal, rel=0.1)
    assert not 0.5 < initial / ideal < 2


def test_only_the_named_norm_layers_are_recalibrated() -> None:
    """Statistics below the randomised stages stay those of training, and the model with its settings stays as it was."""
    model, call = made("residual")
    before = fingerprint(model)
    settings = [(module.training, getattr(module, "momentum", None)) for module in model.modules()]
    found = recalibrated(model, ["layer3.1.bn2.running_mean", "layer3.1.bn2.running_var"], call)
    assert set(found) == {"layer3.1.bn2.running_mean", "layer3.1.bn2.running_var"}
    assert fingerprint(model) == before
    assert [(module.training, getattr(module, "momentum", None)) for module in model.modules()] == settings
    assert recalibrated(model, [], call) == {}


def test_statistics_of_one_number_are_refused() -> None:
    """A batch of one example has no variance: the error says what to do."""
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval()
    with pytest.raises(CheckError, match="give a batch of two examples or more"):
        recalibrated(model, ["1.running_mean", "1.running_var"], lambda: model(draw(1, 4)))
    assert not any(module.training for module in model.modules())


def test_seeded_code_is_reproducible_and_leaves_no_trace() -> None:
    """torch, NumPy and Python draw the same from the same generator, and go on as before after the block."""

    def numbers() -> tuple[float, float, float]:
        return float(torch.rand(())), float(np.random.rand()), random.random()  # noqa: NPY002

    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    expected = numbers()
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    with seeded(generator(9)):
        first = numbers()
    assert numbers() == expected
    with seeded(generator(9)):
        assert numbers() == first
    with seeded(generator(8)):
        assert all(a != b for a, b in zip(numbers(), first, strict=True))

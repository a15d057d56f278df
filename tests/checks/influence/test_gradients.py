"""Gradients of single examples: exact for every layer that has a rule, and never wrong for one that has none."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.self_influence import interleaved
from method_cards.errors import CheckError
from method_cards.subject import Subject
from method_checks.influence.gradients import (
    Objective,
    TrainedCopy,
    Way,
    cross_entropies,
    gradients_of,
    margins,
    projection,
    values_and_norms,
    way_for,
)

CLASSES = 4


def subject_of(model: nn.Module, inputs: Tensor | dict[str, Tensor], task: str = "image-classification") -> Subject:
    count = len(next(iter(inputs.values()))) if isinstance(inputs, dict) else len(inputs)
    targets = torch.arange(count) % CLASSES
    return Subject("model", task, model.eval(), {"train": (inputs, targets)})


class Given(NamedTuple):
    """What every function takes first."""

    copy: TrainedCopy
    objective: Objective
    inputs: Tensor | dict[str, Tensor]
    targets: Tensor


def arguments(model: nn.Module, inputs: Tensor | dict[str, Tensor], task: str = "image-classification") -> Given:
    subject = subject_of(model, inputs, task)
    batch = subject.batch("train", range(len(subject.split("train"))))
    return Given(TrainedCopy.of(subject), cross_entropies, batch.inputs, batch.targets)


def squared_norms(
    copy: TrainedCopy, objective: Objective, inputs: Tensor | dict[str, Tensor], targets: Tensor, way: Way
) -> Tensor:
    return values_and_norms(copy, objective, inputs, targets, way)[1]


def by_vmap(given: Given) -> Tensor:
    """Straight from the definition: the gradient of each example, squared and summed."""
    copy, objective, inputs, targets = given
    return gradients_of(copy, objective, inputs, targets, "vmap").double().square().sum(1)


class Pooled(nn.Module):
    """A layer, something that makes its output depend on everything, and the mean over positions as logits."""

    def __init__(self, *layers: nn.Module, positions_at: int = -1) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.at = positions_at

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layers(x)
        flat = found.movedim(self.at, 1).flatten(2) if found.dim() > 2 else found.unsqueeze(2)
        return (flat.tanh() * torch.linspace(0.5, 1.5, flat.shape[2])).sum(2)[:, :CLASSES]


def shaken(model: nn.Module) -> nn.Module:
    """Parameters and running statistics that are neither zero nor one."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for each in (*model.parameters(), *model.buffers()):
            if each.is_floating_point():
                each.copy_(0.2 + torch.rand(each.shape, generator=generator))
    return model


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def ids(*shape: int) -> Tensor:
    return torch.randint(5, shape, generator=torch.Generator().manual_seed(0))


LAYERS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "linear": lambda: (Pooled(nn.Linear(7, 6)), numbers(5, 7)),
    "linear without bias": lambda: (Pooled(nn.Linear(7, 6, bias=False)), numbers(5, 7)),
    "linear over a short sequence": lambda: (Pooled(nn.Linear(30, 40)), numbers(5, 3, 30)),
    "linear over a long sequence": lambda: (Pooled(nn.Linear(4, 5)), numbers(5, 30, 4)),
    "linear over a picture of positions": lambda: (Pooled(nn.Linear(4, 5)), numbers(5, 3, 2, 4)),
    "conv1d": lambda: (Pooled(nn.Conv1d(3, 6, 3), positions_at=1), numbers(5, 3, 12)),
    "conv1d, stride, dilation, groups, circular": lambda: (
        Pooled(nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2, padding_mode="circular"), positions_at=1),
        numbers(5, 4, 12),
    ),
    "conv2d": lambda: (Pooled(nn.Conv2d(3, 6, 3, padding=1), positions_at=1), numbers(5, 3, 6, 7)),
    "conv2d, few positions": lambda: (Pooled(nn.Conv2d(8, 9, 3), positions_at=1), numbers(5, 8, 4, 4)),
    "conv2d without bias, stride, dilation": lambda: (
        Pooled(nn.Conv2d(3, 6, (3, 2), stride=(2, 1), dilation=(1, 2), bias=False), positions_at=1),
        numbers(5, 3, 8, 7),
    ),
    "conv2d, groups, reflected": lambda: (
        Pooled(nn.Conv2d(4, 8, 3, padding=(1, 2), groups=4, padding_mode="reflect"), positions_at=1),
        numbers(5, 4, 6, 7),
    ),
    "conv2d, even kernel, same": lambda: (
        Pooled(nn.Conv2d(3, 6, (2, 4), padding="same"), positions_at=1),
        numbers(5, 3, 6, 7),
    ),
    "conv2d, replicated": lambda: (
        Pooled(nn.Conv2d(3, 6, 3, padding=1, padding_mode="replicate"), positions_at=1),
        numbers(5, 3, 5, 5),
    ),
    "embedding with repeated tokens": lambda: (Pooled(nn.Embedding(5, 6)), ids(6, 9)),
    "embedding with padding": lambda: (Pooled(nn.Embedding(5, 6, padding_idx=0)), ids(6, 9)),
    "layer norm": lambda: (Pooled(nn.Linear(7, 6), nn.LayerNorm(6)), numbers(5, 3, 7)),
    "layer norm over two dimensions, no bias": lambda: (Pooled(nn.LayerNorm((4, 6), bias=False)), numbers(5, 3, 4, 6)),
    "rms norm": lambda: (Pooled(nn.RMSNorm(6, eps=1e-5)), numbers(5, 3, 6)),
    "group norm": lambda: (Pooled(nn.Conv2d(3, 6, 3), nn.GroupNorm(2, 6), positions_at=1), numbers(5, 3, 6, 6)),
    "batch norm 1d": lambda: (Pooled(nn.Linear(7, 6), nn.BatchNorm1d(6)), numbers(5, 7)),
    "batch norm 1d over a sequence": lambda: (Pooled(nn.BatchNorm1d(6), positions_at=1), numbers(5, 6, 4)),
    "batch norm 2d": lambda: (Pooled(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), positions_at=1), numbers(5, 3, 6, 6)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("layer", LAYERS)
def test_the_closed_form_is_that_of_vmap(layer: str) -> None:
    """For every layer with a rule, the squared length equals that of the gradient itself, to rounding."""
    model, inputs = LAYERS[layer]()
    given = arguments(shaken(model), inputs)
    way = way_for(*given)
    assert way == Way("closed-form", "vmap")
    found, truth = squared_norms(*given, way), by_vmap(given)
    torch.testing.assert_close(found, truth, rtol=1e-5, atol=0)
    assert len(set(truth.tolist())) == len(truth)


class Transformer(nn.Module):
    """Embedding, attention by hand, layer norm, feed-forward, residuals: every rule for sequences at once."""

    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.norm = nn.LayerNorm(8)
        self.qkv = nn.Linear(8, 24)
        self.out = nn.Linear(8, 8)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(8, 11, bias=False)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.embedding(input_ids)
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        mask = torch.ones(x.shape[1], x.shape[1]).tril().log() + attention_mask[:, None].log()
        x = x + self.relu(self.out((q @ k.transpose(1, 2) / 8**0.5 + mask).softmax(-1) @ v))
        logits: Tensor = self.head(x)
        return logits


def texts() -> dict[str, Tensor]:
    tokens = torch.randint(11, (6, 7), generator=torch.Generator().manual_seed(3))
    return {
        "input_ids": tokens,
        "attention_mask": (torch.arange(7) < torch.tensor([[7], [4], [5], [7], [3], [6]])).long(),
    }


def test_a_language_model_has_a_closed_form() -> None:
    """Token losses are averaged over each text, padding left out, and layers that are changed in place do no harm."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        given = arguments(Transformer(), texts(), "text-generation")
    way = way_for(*given)
    assert way.norms == "closed-form"
    torch.testing.assert_close(squared_norms(*given, way), by_vmap(given), rtol=1e-5, atol=0)


class Positions(nn.Module):
    """Embeddings of positions are looked up once, for all examples."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(5, 6), nn.Embedding(9, 6)
        self.norm, self.head = nn.LayerNorm(6), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        embedded = self.tokens(x)
        embedded += self.positions(torch.arange(9)[None])
        out: Tensor = self.head(self.norm(embedded).tanh().mean(1))
        return out


def test_positions_that_all_examples_share_have_a_closed_form() -> None:
    """A layer that is called once for the batch still gives each example its own gradient, for one example as for many."""
    given = arguments(shaken(Positions()), ids(6, 9), "text-classification")
    way = way_for(*given)
    assert way.norms == "closed-form"
    torch.testing.assert_close(squared_norms(*given, way), by_vmap(given), rtol=1e-5, atol=0)
    alone = squared_norms(given.copy, given.objective, ids(6, 9)[:1], given.targets[:1], way)
    torch.testing.assert_close(alone, by_vmap(given)[:1], rtol=1e-5, atol=0)


class Twice(nn.Module):
    """The same layer is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(CLASSES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(self.layer(x).tanh())
        return out


class Functional(nn.Module):
    """A layer's weight is used once by the layer, and once behind its back."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(CLASSES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(self.layer(x).tanh(), self.layer.weight)


class Unseen(nn.Module):
    """A layer that is never called, though its weight is used."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(CLASSES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.layer.weight, self.layer.bias)


class Odd(nn.Linear):
    """A linear layer that is none."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).square()


class Mixing(nn.Module):
    """Examples see each other."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(CLASSES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x)
        return found - 0.5 * found.mean(0, keepdim=True)


def tied() -> nn.Module:
    first, second = nn.Linear(CLASSES, CLASSES), nn.Linear(CLASSES, CLASSES)
    second.weight = first.weight
    return nn.Sequential(first, nn.Tanh(), second)


class PositionsFirst(nn.Module):
    """A recurrent network's way: the batch is the second dimension inside."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x.unflatten(1, (2, 2)).transpose(0, 1)).tanh()
        return found.sum(0)


TRAPS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "called twice": (Twice, "more than once"),
    "tied": (tied, "more than once"),
    "functional": (Functional, "more than once"),
    "never called": (Unseen, "not used by its layer"),
    "another forward": (lambda: Odd(CLASSES, CLASSES), "no closed form"),
    "parametrised": (
        lambda: torch.nn.utils.parametrizations.weight_norm(nn.Linear(CLASSES, CLASSES)),
        "no closed form",
    ),
    "positions first": (PositionsFirst, "first dimension"),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_what_the_closed_form_would_get_wrong_is_left_to_vmap(trap: str) -> None:
    """Tied, re-used and functional weights, unknown layers and other layouts are noticed, and the values stay right."""
    make, because = TRAPS[trap]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        given = arguments(make(), numbers(5, CLASSES), "tabular-classification")
    way = way_for(*given)
    assert (way.norms, way.gradients) == ("vmap", "vmap")
    assert because in way.because
    one_by_one = gradients_of(*given, "loop").double().square().sum(1)
    torch.testing.assert_close(squared_norms(*given, way), one_by_one, rtol=1e-5, atol=0)


def test_tied_language_models_are_left_to_vmap() -> None:
    """The output layer that is the embedding has cross terms, which vmap gets right."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        given = arguments(Transformer(tied=True), texts(), "text-generation")
    way = way_for(*given)
    assert way.norms == "vmap"
    one_by_one = gradients_of(*given, "loop").double().square().sum(1)
    torch.testing.assert_close(squared_norms(*given, way), one_by_one, rtol=1e-5, atol=0)


def test_examples_that_see_each_other_are_taken_one_by_one() -> None:
    """Where the batch changes the output, an example's gradient is that of the example alone."""
    given = arguments(Mixing(), numbers(6, CLASSES), "tabular-classification")
    way = way_for(*given)
    assert way.norms != "closed-form"
    assert "see each other" in way.because
    torch.testing.assert_close(
        squared_norms(*given, way), gradients_of(*given, "loop").double().square().sum(1), rtol=1e-5, atol=0
    )


class Branching(nn.Module):
    """What it does depends on the data, which vmap cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(CLASSES, CLASSES)
        self.scale = nn.Parameter(torch.ones(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x) * self.scale
        return torch.stack([row * 2 if float(row.detach().sum()) > 0 else row for row in found])


def test_code_that_looks_at_its_data_is_looped_over() -> None:
    """Where neither the closed form nor vmap works, each example gets its own backward pass."""
    given = arguments(Branching(), numbers(5, CLASSES), "tabular-classification")
    way = way_for(*given)
    assert (way.norms, way.gradients) == ("loop", "loop")
    found = squared_norms(*given, way)
    assert found.shape == (5,)
    assert bool((found > 0).all())


def test_the_reduction_does_not_shrink_the_gradients() -> None:
    """An example's gradient is the same alone and in a batch: losses are summed, never averaged."""
    model, inputs = LAYERS["conv2d"]()
    given = arguments(shaken(model), inputs)
    copy, objective, _, targets = given
    way = way_for(*given)
    alone = torch.cat([squared_norms(copy, objective, inputs[i : i + 1], targets[i : i + 1], way) for i in range(5)])
    torch.testing.assert_close(squared_norms(*given, way), alone, rtol=1e-5, atol=0)


def test_frozen_parameters_do_not_count() -> None:
    """Only what training changes has a gradient; where everything is frozen for inference, everything counts."""
    model = nn.Sequential(nn.Linear(CLASSES, 6), nn.Tanh(), nn.Linear(6, CLASSES))
    whole = arguments(model, numbers(5, CLASSES), "tabular-classification")
    model[0].requires_grad_(requires_grad=False)
    model[2].bias.requires_grad_(False)
    head = arguments(model, numbers(5, CLASSES), "tabular-classification")
    model.requires_grad_(requires_grad=False)
    frozen = arguments(model, numbers(5, CLASSES), "tabular-classification")
    norms = []
    for given in (whole, head, frozen):
        way = way_for(*given)
        assert way.norms == "closed-form"
        norms.append(squared_norms(*given, way))
        torch.testing.assert_close(norms[-1], by_vmap(given), rtol=1e-5, atol=0)
    assert bool((norms[1] < norms[0]).all())
    assert torch.equal(norms[0], norms[2])


def test_margins_are_log_odds() -> None:
    """The margin is log p / (1 − p), finite even where p rounds to 1."""
    model = nn.Linear(2, 3, bias=False)
    model.weight.data = torch.tensor([[40.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    subject = subject_of(model, torch.tensor([[1.0, 0.0], [0.0, 1.0]]), "tabular-classification")
    copy, _, inputs, targets = arguments(model, torch.tensor([[1.0, 0.0], [0.0, 1.0]]), "tabular-classification")
    found = margins(copy.adapter, inputs, targets)
    chances = subject.model(inputs).double().softmax(1).gather(1, targets[:, None])[:, 0]
    assert found[0].item() == pytest.approx(40 - math.log(2), abs=1e-6)
    assert found[1].item() == pytest.approx((chances[1] / (1 - chances[1])).log().item(), abs=1e-6)


def test_projections_keep_inner_products() -> None:
    """A random projection to 4,000 dimensions keeps inner products to a few per cent, and one seed gives one projection."""
    vectors = numbers(6, 900) + 1
    projected = projection(900, 4000, 1)(vectors)
    torch.testing.assert_close(projected @ projected.T, vectors @ vectors.T, rtol=0.15, atol=0)
    assert torch.equal(projected, projection(900, 4000, 1)(vectors))
    assert not torch.equal(projected, projection(900, 4000, 2)(vectors))


def test_chunks_do_not_change_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many gradients are held at once is a matter of memory, not of values."""
    given = arguments(*LAYERS["linear"]())
    whole = gradients_of(*given, "vmap")
    monkeypatch.setattr("method_checks.influence.gradients.per_example.NUMBERS", 100)
    torch.testing.assert_close(gradients_of(*given, "vmap"), whole, rtol=1e-6, atol=1e-8)


def test_the_subject_is_left_alone() -> None:
    """Loading a checkpoint into the copy does not touch the subject, and one of another architecture is refused."""
    model = nn.Linear(CLASSES, CLASSES)
    subject = subject_of(model, numbers(5, CLASSES), "tabular-classification")
    before = subject.parameters_sha256()
    copy = TrainedCopy.of(subject)
    copy.load({"weight": torch.ones(CLASSES, CLASSES), "bias": torch.zeros(CLASSES)})
    assert subject.parameters_sha256() == before
    with pytest.raises(CheckError, match="does not fit"):
        copy.load({"weight": torch.ones(2, CLASSES), "bias": torch.zeros(2)})


def test_a_model_without_parameters_is_refused() -> None:
    """Nothing can have influenced it."""
    with pytest.raises(CheckError, match="no parameters"):
        TrainedCopy.of(subject_of(nn.Identity(), numbers(5, CLASSES), "tabular-classification"))


class Ordinary(nn.Module):
    """What vmap stumbles over in training mode: dropout, and batch norm that counts."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(CLASSES, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Dropout(0.5), nn.Linear(9, CLASSES)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


@pytest.mark.parametrize("objective", [cross_entropies, margins])
def test_vmap_follows_what_it_is_known_to_stumble_over(objective: Objective) -> None:
    """In evaluation mode dropout and batch norm are deterministic, and no target is turned into a one-hot vector: vmap gives the loop's gradients."""
    copy, _, inputs, targets = arguments(shaken(Ordinary()), numbers(6, CLASSES), "tabular-classification")
    assert way_for(copy, objective, inputs, targets) == Way("closed-form", "vmap")
    one_by_one, together, again = (
        gradients_of(copy, objective, inputs, targets, way) for way in ("loop", "vmap", "vmap")
    )
    torch.testing.assert_close(together, one_by_one, rtol=1e-5, atol=1e-6)
    assert torch.equal(together, again)
    assert not any(module.training for module in copy.model.modules())


def test_the_benchmark_takes_turns_and_counts_cpu_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a shared machine wall clocks mislead: ways are run in turns, the process's own seconds are counted, and the least is kept."""
    clock = iter([0.0, 3.0, 10.0, 11.0, 20.0, 22.0, 30.0, 35.0])
    monkeypatch.setattr("benchmarks.self_influence.time.process_time", lambda: next(clock))
    order: list[str] = []

    def way(name: str) -> Callable[[], Tensor]:
        def run() -> Tensor:
            order.append(name)
            return torch.ones(2)

        return run

    seconds, values = interleaved({"ours": way("ours"), "peer": way("peer")}, 2)
    assert order == ["ours", "peer", "ours", "peer"]
    assert seconds == {"ours": 2.0, "peer": 1.0}
    assert values["peer"].tolist() == [1.0, 1.0]

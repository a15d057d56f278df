"""The engine of the checks by removal: orders, shares, areas, patches, and what is shared."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from sklearn.metrics import auc
from torch import Tensor, nn

from method_cards.check import Context
from method_cards.subject import Subject, View
from method_checks.attribution import controls
from method_checks.attribution.changes.removal import (
    Removal,
    area,
    counts,
    group_means,
    groups,
    positions_of,
    ranks,
    reversed_ranks,
)
from method_checks.attribution.explainers import resolve
from tests.checks.attribution.removal_cases import bright, constant, linear


def removal(subject: Subject, *, rows: int = 32, substrate: str = "zeros", side: int = 1, seed: int = 0) -> Removal:
    context = Context(subject, rows, seed, rows)
    view = subject.view(next(iter(context.batches("test"))))
    return Removal(context, view, resolve(subject), "test", substrate=substrate, side=side)  # type: ignore[arg-type]


# Orders


def test_ranks_are_those_of_a_sorted_list() -> None:
    """The largest value goes first, and padding never."""
    maps = torch.tensor([[0.5, -1.0, 3.0, 9.0], [1.0, 2.0, 3.0, 4.0]])
    content = torch.tensor([[True, True, True, False], [True] * 4])
    found = ranks(maps, content, torch.arange(4).expand(2, 4))
    assert found.tolist() == [[1, 2, 0, 3], [3, 2, 1, 0]]
    assert reversed_ranks(found, content).tolist() == [[1, 0, 2, 3], [0, 1, 2, 3]]


def test_ties_go_in_random_order_not_by_position() -> None:
    """For a constant map the first position goes first in about one example of twelve, as every other does."""
    subject = linear(12, count=960)
    subject.explainer = constant
    first = removal(subject, rows=960).ranks("most").argmin(1)
    assert torch.bincount(first, minlength=12).float().sub(80).abs().max() < 40


def test_an_order_does_not_depend_on_a_monotone_change_of_the_map() -> None:
    """Scaling, shifting and taking the exponential leave all ranks as they are."""
    maps, ties = torch.randn(8, 30).double(), torch.randperm(30).expand(8, 30)
    content = torch.ones(8, 30, dtype=torch.bool)
    for changed in (1e3 * maps, maps + 5, maps.exp()):
        assert torch.equal(ranks(changed, content, ties), ranks(maps, content, ties))


def test_random_orders_belong_to_the_example() -> None:
    """They are permutations, differ between numbers, examples and seeds, and do not depend on the batch or the explainer."""
    subject = linear(12)
    one = removal(subject, rows=32)
    assert torch.equal(one.ranks(0).sort(1).values, torch.arange(12).expand(32, 12))
    assert not torch.equal(one.ranks(0), one.ranks(1))
    assert len({tuple(row) for row in one.ranks(0).tolist()}) == 32
    assert not torch.equal(one.ranks(0), removal(subject, rows=32, seed=1).ranks(0))
    context = Context(subject, 32, 0, 10)
    parts = [
        Removal(context, subject.view(batch), resolve(subject), "test", substrate="zeros").ranks(0)
        for batch in context.batches("test")
    ]
    assert torch.equal(torch.cat(parts), one.ranks(0))


def test_random_orders_are_uniform() -> None:
    """Over 4000 examples of four positions, all 24 orders are about equally frequent (chi squared below its 0.1 % quantile)."""
    subject = linear(4, count=4000)
    found = removal(subject, rows=4000).ranks(0).tolist()
    seen = [sum(row == list(order) for row in found) for order in permutations(range(4))]
    assert sum((count - 4000 / 24) ** 2 / (4000 / 24) for count in seen) < 49.7


# Shares and areas


def test_steps_go_from_nothing_to_all_and_never_beyond_the_content() -> None:
    """The first step removes nothing and the last everything, whatever the number of steps and of positions."""
    content = torch.tensor([[True] * 10, [True] * 3 + [False] * 7])
    assert counts(content, 5).tolist() == [[0, 2, 4, 6, 8, 10], [0, 1, 1, 2, 2, 3]]
    assert counts(content, 100).shape == (2, 11)
    assert counts(content, 100)[1].unique().tolist() == [0, 1, 2, 3]


def test_the_area_is_that_of_scikit_learn() -> None:
    """The trapezoid rule over shares gives scikit-learn's area."""
    heights, shares = torch.rand(5, 9), torch.rand(5, 9).sort(1).values
    expected = [auc(x.numpy(), y.numpy()) for x, y in zip(shares.double(), heights.double(), strict=True)]
    assert area(heights, shares).numpy() == pytest.approx(expected, abs=1e-6)


def test_the_area_does_not_depend_on_the_number_of_steps() -> None:
    """On a linear model of 96 columns, 8 steps give the area of 96 to 2 %, where a step width of one would give a twelfth."""
    subject = linear(96, scale=0.1)
    fine, *coarse = [
        area(curve.logits, curve.shares)
        for curve in (removal(subject).curve("most", steps) for steps in (96, 32, 16, 8))
    ]
    spread = (fine - area(*removal(subject).curve("least", 96)[1::-1])).abs().mean()
    for found in coarse:
        assert float((found - fine).abs().mean() / spread) < 0.02


def test_gradient_times_input_gives_the_extreme_curves_of_a_linear_model() -> None:
    """Of all 120 orders of five columns, none lowers the logit faster than the map's, and none slower than its reverse."""
    subject = linear(5)
    engine = removal(subject, rows=6)
    most, least = (engine.curve(order, 5) for order in ("most", "least"))
    inputs, _ = subject.split("test").take(Context(subject, 6, 0).indices("test"))
    assert isinstance(inputs, Tensor)
    for row, x in enumerate(inputs):
        target = int(subject.model(x[None]).argmax())
        areas = []
        for order in permutations(range(5)):
            heights = []
            for k in range(6):
                changed = x.clone()
                changed[list(order[:k])] = 0
                heights.append(subject.model(changed[None])[0, target].item())
            areas.append(float(np.trapezoid(heights, dx=0.2)))
        assert float(area(most.logits, most.shares)[row]) == pytest.approx(min(areas), abs=1e-5)
        assert float(area(least.logits, least.shares)[row]) == pytest.approx(max(areas), abs=1e-5)


def test_curves_start_at_the_input_and_end_at_the_substrate() -> None:
    """The ends are the model's outputs for the whole input and for none of it, in every order."""
    subject = linear(12)
    engine = removal(subject)
    inputs, _ = subject.split("test").take(Context(subject, 32, 0).indices("test"))
    assert isinstance(inputs, Tensor)
    whole, nothing = (subject.model(at) for at in (inputs, torch.zeros_like(inputs)))
    targets = whole.argmax(1, keepdim=True)
    for order in ("most", "least", 0):
        curve = engine.curve(order, 6)
        assert torch.allclose(curve.logits[:, 0], whole.gather(1, targets)[:, 0], atol=1e-6)
        assert torch.allclose(curve.probabilities[:, -1], nothing.softmax(1).gather(1, targets)[:, 0], atol=1e-6)
        assert bool(curve.kept[:, 0].all())


# Texts


class Mean(nn.Module):
    """Logits that are linear in the mean embedding of the content."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 4)
        self.out = nn.Linear(4, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        weights = attention_mask[..., None].float()
        logits: Tensor = self.out((self.embedding(input_ids) * weights).sum(1))
        return logits


def padded(extra: int, explainer: object) -> Subject:
    torch.manual_seed(1)
    ids = torch.randint(20, (40, 8), generator=torch.Generator().manual_seed(2))
    mask = torch.arange(8 + extra) < torch.randint(3, 9, (40, 1), generator=torch.Generator().manual_seed(3))
    ids = torch.nn.functional.pad(ids, (0, extra)) * mask
    return Subject(
        "padded",
        "text-classification",
        Mean().eval(),
        {"test": ({"input_ids": ids, "attention_mask": mask.long()}, torch.zeros(40, dtype=torch.long))},
        explainer=explainer,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("substrate", ["zeros", "mean"])
def test_padding_is_never_removed_and_changes_nothing(substrate: str) -> None:
    """Five more columns of padding leave every curve as it was."""
    one, other = (removal(padded(extra, {"method": "gradient"}), substrate=substrate) for extra in (0, 5))
    for order in ("most", "least", 0):
        a, b = (engine.curve(order, 32) for engine in (one, other))
        assert torch.allclose(area(a.probabilities, a.shares), area(b.probabilities, b.shares), atol=1e-6)
    gone = other.content.sum(1)
    assert torch.equal(other.ranks("least") < gone[:, None], other.content)


# Patches


def test_patches_at_the_edge_are_smaller() -> None:
    """A side that does not divide the image leaves patches of fewer pixels, and all pixels belong to one."""
    chosen = groups(5, 7, 3)
    assert torch.bincount(chosen).tolist() == [9, 9, 3, 6, 6, 2]
    maps = torch.arange(35.0).expand(2, 35)
    assert group_means(maps, chosen)[0, 5] == pytest.approx((27 + 34) / 2)


def test_a_patch_goes_as_a_whole() -> None:
    """After the first step of a four by four grid, one patch of every channel is gone and nothing else is."""
    subject = bright((3, 8, 8))
    engine = removal(subject, side=2)
    left = engine.without(("most",), torch.ones(32, dtype=torch.long))[0]
    whole = engine.without(("most",), torch.zeros(32, dtype=torch.long))[0]
    changed = (left != whole).all(1)
    assert (changed.flatten(1).sum(1) == 4).all()
    assert torch.nn.functional.max_pool2d(changed.float(), 2).flatten(1).sum(1).eq(1).all()


# What is shared


class Counting(nn.Module):
    """Counts the examples that go through it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        logits: Tensor = self.inner(x)
        return logits


def test_a_curve_is_drawn_once_in_a_run() -> None:
    """Asking again, as another check of the run would, costs no pass; another explainer shares the random orders and the ends."""
    subject = linear(12)
    model = Counting(subject.model).eval()
    subject = Subject("counted", subject.task, model, subject.data, explainer={"method": "noise"})
    context = Context(subject, 32, 0, 32)
    view = subject.view(next(iter(context.batches("test"))))
    model.seen = 0
    for expected in (32 * (2 + 2 * 11), 0):
        engine = Removal(context, view, resolve(subject), "test")
        engine.curve("most", 12)
        engine.curve(0, 12)
        assert model.seen == expected
        model.seen = 0
    Removal(context, view, resolve(linear(12)), "test").curve(0, 12)
    assert model.seen == 0


def test_the_model_is_never_given_more_than_a_block() -> None:
    """No call is larger than the block, or than the batch where that is larger."""
    sizes: list[int] = []
    subject = linear(12)
    subject.block = 100
    subject.model.register_forward_pre_hook(lambda _module, inputs: sizes.append(len(inputs[0])))
    removal(subject, rows=32).curve("most", 12)
    assert max(sizes) == 96


def test_pictures_are_of_images_alone() -> None:
    """Images are shown with what is left of them in both orders; tables and texts are not."""
    subject = bright((3, 8, 8))
    (shown,) = removal(subject).pictures(subject)
    assert shown.values.shape == (4, 4, 8, 8)
    assert not list(removal(linear(12)).pictures(linear(12)))


def test_the_cost_counts_positions_of_an_example() -> None:
    """A digit has 64 positions, a table as many as columns."""
    assert positions_of(controls.digits_by("gradient")(0), "test") == 64
    assert positions_of(linear(12), "test") == 12


def test_views_are_left_as_they_were() -> None:
    """Removal never writes into the features that it was given."""
    subject = bright((1, 6, 6))
    context = Context(subject, 16, 0, 16)
    view: View = subject.view(next(iter(context.batches("test"))))
    before = view.features.clone()
    for substrate in ("mean", "zeros", "blur", "imputation"):
        Removal(context, view, resolve(subject), "test", substrate=substrate).curve("most", 4)
    assert torch.equal(view.features, before)

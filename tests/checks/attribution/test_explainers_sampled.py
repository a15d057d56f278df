"""Methods that remove many positions at once agree with exact values, with Captum and with their papers."""

from __future__ import annotations

import math
from itertools import combinations, permutations
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from captum import attr
from captum._utils.models.linear_model import SkLearnRidge
from torch import Tensor, nn

from method_cards.errors import CheckError
from method_cards.subject import Subject
from method_checks.attribution.explainers import KernelShap, Lime, Rise, ShapleySampling
from method_checks.attribution.explainers.generators import Generators
from method_checks.attribution.explainers.rise import enlarged
from tests.checks.attribution.explained import bert, cnn, draw, generator, images, mlp, table, view_of

if TYPE_CHECKING:
    from method_cards.subject import View


def values(view: View, players: int) -> dict[tuple[int, frozenset[int]], float]:
    """The logit of each example for each coalition of its columns or tokens, all others zero."""
    found: dict[tuple[int, frozenset[int]], float] = {}
    for size in range(players + 1):
        for coalition in combinations(range(players), size):
            kept = torch.zeros(view.as_map(view.features).shape)
            kept[:, list(coalition)] = 1
            kept[~view.content] = 1
            with torch.no_grad():
                logits = view.outputs(view.features * view.spread(kept), view.rows).gather(1, view.targets[:, None])[
                    :, 0
                ]
            found |= {(example, frozenset(coalition)): value for example, value in enumerate(logits.tolist())}
    return found


def shapley(view: View) -> Tensor:
    """Shapley values by their definition: the mean over all orders of what each player adds."""
    players = view.as_map(view.features).shape[1]
    value = values(view, players)
    expected = torch.zeros(len(view.features), players)
    for example in range(len(expected)):
        for player in range(players):
            others = [other for other in range(players) if other != player]
            for size in range(players):
                weight = math.factorial(size) * math.factorial(players - size - 1) / math.factorial(players)
                for coalition in map(frozenset, combinations(others, size)):
                    gain = value[example, coalition | {player}] - value[example, coalition]
                    expected[example, player] += weight * gain
    return expected


def test_kernel_shap_is_exact_where_it_takes_all_coalitions() -> None:
    """With all coalitions, Kernel SHAP gives Shapley values as they are defined, for columns and for tokens beside padding."""
    view = view_of(table(mlp()))
    torch.testing.assert_close(KernelShap().explain(view, 0), shapley(view), rtol=0, atol=1e-5)
    text = view_of(bert())
    found = text.as_map(KernelShap().explain(text, 0))
    torch.testing.assert_close(found, shapley(text), rtol=0, atol=1e-5)
    assert not found[~text.content].any()


def linear(columns: int) -> tuple[View, Tensor]:
    """A view of a linear model, and what each column adds."""
    torch.manual_seed(0)
    model = nn.Linear(columns, 3).eval()
    subject = Subject(
        "s", "tabular-classification", model, {"test": (draw(6, columns), torch.zeros(6, dtype=torch.long))}
    )
    view = view_of(subject)
    return view, (model.weight[view.targets] * view.features).detach()


@pytest.mark.parametrize("method", [KernelShap(samples=100), ShapleySampling(orders=1)], ids=["kernel", "orders"])
@pytest.mark.parametrize("columns", [1, 2, 40])
def test_shapley_values_of_a_linear_model_are_exact(method: KernelShap | ShapleySampling, columns: int) -> None:
    """Of a linear model, what a column adds is weight times value, after few draws too."""
    view, expected = linear(columns)
    torch.testing.assert_close(method.explain(view, 0), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "method", [KernelShap(samples=64, grid=4), ShapleySampling(orders=2, grid=4)], ids=["kernel", "orders"]
)
def test_shapley_values_add_up(method: KernelShap | ShapleySampling) -> None:
    """However few the draws, attributions add up to the logit's change from the baseline, patches over all their features."""
    view = view_of(images(cnn()))
    method = method.model_copy(update={"baseline": 0.1})
    with torch.no_grad():
        ends = [view.outputs(at, view.rows) for at in (view.features, torch.full_like(view.features, 0.1))]
    change = (ends[0] - ends[1]).gather(1, view.targets[:, None])[:, 0]
    found = method.explain(view, 0)
    torch.testing.assert_close(found.sum((1, 2, 3)), change, rtol=1e-4, atol=1e-4)
    assert len(found[0].unique()) == 16, "one value for each patch"


def test_sampled_shapley_values_approach_captums() -> None:
    """Kernel SHAP and Shapley sampling approach Captum's exact values as draws grow, with the same patches."""
    view = view_of(images(cnn()), 0, 1)
    patches = (torch.arange(8) // 2)[:, None] * 4 + torch.arange(8) // 2
    expected = attr.ShapleyValueSampling(view.model).attribute(
        view.features, target=view.targets, feature_mask=patches[None, None], n_samples=300, perturbations_per_eval=16
    )
    expected = expected / 12
    scale = float(expected.abs().mean())
    for method in (KernelShap(samples=2000, grid=4), ShapleySampling(orders=300, grid=4)):
        found = method.explain(view, 0)
        assert float((found - expected).abs().mean()) < 0.1 * scale


def test_shapley_sampling_is_the_mean_over_orders() -> None:
    """With many orders of three columns the estimate approaches the mean over all six, and each order's gains count once."""
    view, expected = linear(3)
    model = nn.Sequential(view.model, nn.Tanh()).eval()
    data = (view.features, torch.zeros(6, dtype=torch.long))
    view = view_of(Subject("s", "tabular-classification", model, {"test": data}))
    value = values(view, 3)
    expected = torch.zeros(6, 3)
    for order in permutations(range(3)):
        for place, player in enumerate(order):
            for example in range(6):
                before, after = frozenset(order[:place]), frozenset(order[: place + 1])
                expected[example, player] += (value[example, after] - value[example, before]) / 6
    found = ShapleySampling(orders=1500).explain(view, 0)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.03)


def test_kernel_shap_refuses_too_few_coalitions() -> None:
    """Coalitions that do not determine the values are refused, with the number that does."""
    with pytest.raises(CheckError, match="100 coalitions do not determine 64 values; set `samples` to at least 128"):
        KernelShap(samples=100).explain(view_of(images(cnn())), 0)


def test_lime_is_captums_regression() -> None:
    """On the same coalitions, weights and penalty, LIME is Captum's with scikit-learn's ridge regression."""
    view = view_of(table(mlp()), 2)
    method = Lime(samples=40)
    drawn = method._drawn(5, 40, Generators(0, view, 0).row(0)).double()
    rows = iter(drawn)

    def weight(_original: Tensor, _perturbed: Tensor, coalition: Tensor, **_: object) -> float:
        distance = 1 - math.sqrt(float(coalition.sum()) / 5)
        return math.sqrt(math.exp(-(distance**2) / 0.25**2))

    captum = attr.LimeBase(
        view.model,
        SkLearnRidge(alpha=1.0),
        weight,
        lambda *_args, **_kwargs: next(rows)[None],
        perturb_interpretable_space=True,
        from_interp_rep_transform=lambda kept, x, **_: x * kept.float(),
        to_interp_rep_transform=None,
    )
    expected = captum.attribute(view.features, target=int(view.targets[0]), n_samples=40)
    torch.testing.assert_close(method.explain(view, 0), expected.float(), rtol=1e-3, atol=1e-5)


def test_lime_is_scikit_learns_ridge() -> None:
    """For a text, tokens are players, and padding has no coefficient."""
    from sklearn.linear_model import Ridge

    view = view_of(bert(), 1)
    method = Lime(samples=60)
    drawn = method._drawn(5, 60, Generators(0, view, 0).row(0)).float()
    kept = torch.ones(60, 7)
    kept[:, :5] = drawn
    with torch.no_grad():
        logits = view.outputs(view.features * kept[..., None], view.rows.repeat(60))[:, view.targets[0]]
    distance = 1 - (drawn.sum(1) / 5).sqrt()
    ridge = Ridge(alpha=1.0).fit(drawn, logits, sample_weight=np.sqrt(np.exp(-(distance.numpy() ** 2) / 0.25**2)))
    found = view.as_map(method.explain(view, 0))[0]
    torch.testing.assert_close(found[:5].double(), torch.as_tensor(ridge.coef_).double(), rtol=1e-3, atol=1e-5)
    assert not found[5:].any()


def test_rise_follows_its_formula() -> None:
    """Each pixel's value is the sum of logits by how much each mask keeps of it, over the sum of what masks keep."""
    view = view_of(images(cnn()), 0, 1)
    method = Rise(samples=30, grid=3, baseline=0.2)
    found = view.as_map(method.explain(view, 0))
    generators = Generators(0, view, 0)
    for example in range(2):
        grids, shifts = method._grids((8, 8), generators.row(example))
        total, weight = torch.zeros(8, 8), torch.zeros(8, 8)
        for grid, (down, across) in zip(grids.float(), shifts.tolist(), strict=True):
            large = nn.functional.interpolate(grid[None, None], size=(12, 12), mode="bilinear")[0, 0]
            mask = large[down : down + 8, across : across + 8]
            x = mask * view.features[example] + (1 - mask) * 0.2
            with torch.no_grad():
                total += mask * view.model(x[None])[0, view.targets[example]]
            weight += mask
        torch.testing.assert_close(found[example], total / weight, rtol=1e-4, atol=1e-5)


def test_masks_of_rise_keep_what_they_should() -> None:
    """Masks are within [0, 1], keep half on average, and every shift fits into the enlarged grid, for sides that are no multiple."""
    grids, shifts = Rise(samples=3000, grid=7)._grids((16, 23), generator())
    masks = enlarged(grids.float(), shifts, (16, 23))
    assert masks.shape == (3000, 16, 23)
    assert 0 <= masks.min() <= masks.max() <= 1
    assert float((masks.mean(0) - 0.5).abs().max()) < 0.05
    assert shifts.amax(0).tolist() == [2, 3]


def test_rise_does_not_mind_a_constant_in_the_logit() -> None:
    """A number that is added to the logit is added to the map: differences between positions stay."""
    plain, raised = cnn().double(), cnn().double()
    raised.get_parameter("6.bias").data += 100
    data = (draw(6, 3, 8, 8).double(), torch.zeros(6))
    maps = []
    for model in (plain, raised):
        view = view_of(Subject("s", "image-classification", model, {"test": data}))
        maps.append(view.as_map(Rise(samples=20).explain(view, 0)))
    torch.testing.assert_close(maps[1] - 100, maps[0])


@pytest.mark.parametrize("make", [lambda: table(mlp()), bert], ids=["columns", "tokens"])
def test_rise_of_columns_and_tokens_is_a_mean_of_those_that_keep_it(make: Any) -> None:
    """Without an image, a position's value is the mean logit of the masks that keep it; padding has none."""
    view = view_of(make(), 0)
    shape = view.as_map(view.features).shape[1]
    method = Rise(samples=40)
    drawn = method._drawn(shape, 40, generator()).float()
    with torch.no_grad():
        logits = view.outputs(view.spread(drawn) * view.features, view.rows.repeat(40))[:, view.targets[0]]
    expected = (drawn * logits[:, None]).sum(0) / drawn.sum(0)
    torch.testing.assert_close(view.as_map(method.explain(view, 0))[0], expected, rtol=1e-4, atol=1e-5)

"""Pixel flipping: a slow reading, a library, and known answers; controls and invariances are in `test_removal_checks`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation
from torch import Tensor

from method_cards.check import Context
from method_checks.attribution.changes.removal import Removal
from method_checks.attribution.explainers import resolve
from method_checks.attribution.pixel_flipping import PixelFlipping
from tests.checks.attribution.carded import control, values
from tests.checks.attribution.removal_cases import contribution, linear, slow_area, slow_probability

# 3. A slow re-implementation, straight from the papers


@pytest.mark.parametrize("steps", [4, 9])
def test_it_agrees_with_a_slow_reading_of_the_papers(steps: int) -> None:
    """Sort a list, replace one more share of it at a time, ask the model, add up trapezoids: the same gains, one example at a time."""
    subject = linear(10, count=40)
    check = PixelFlipping(steps=steps, substrate="zeros", orders=2)
    found = values(check, subject, samples=12, batch=5)
    indices = Context(subject, 12, 0).indices("test")
    inputs, _ = subject.split("test").take(indices)
    assert isinstance(inputs, Tensor)
    context = Context(subject, 12, 0, 12, scope=check.id)
    view = subject.view(next(iter(context.batches("test"))))
    engine = Removal(context, view, resolve(subject), "test", substrate="zeros")
    weight = subject.model.weight.detach()  # type: ignore[operator]
    for row, x in enumerate(inputs):
        target = int(subject.model(x[None]).argmax())
        relevance = (x * weight[target]).tolist()
        most = sorted(range(10), key=lambda i: -relevance[i])
        shares = [int(10 * k / steps + 0.5) for k in range(steps + 1)]

        def mean(order: list[int], x: Tensor = x, target: int = target, shares: list[int] = shares) -> float:
            heights = [slow_probability(subject, x, target, order[:gone], torch.zeros(10)) for gone in shares]
            return slow_area(heights, [gone / 10 for gone in shares])

        chance = np.mean([mean(engine.ranks(number)[row].argsort().tolist()) for number in (0, 1)])
        assert found["relevance_gain"][row] == pytest.approx(mean(most[::-1]) - mean(most), abs=1e-5)
        assert found["most_first_gain"][row] == pytest.approx(chance - mean(most), abs=1e-5)
        assert found["least_first_gain"][row] == pytest.approx(mean(most[::-1]) - chance, abs=1e-5)


# 4. Agreement with Captum


def test_single_removals_agree_with_captum() -> None:
    """The fall of the logit when one position goes is Captum's feature ablation, for every position of a digit."""
    subject = control(PixelFlipping, "integrated-gradients")
    context = Context(subject, 8, 0, 8)
    view = subject.view(next(iter(context.batches("test"))))
    engine = Removal(context, view, resolve(subject), "test", substrate="zeros")
    first = engine.at(0, torch.ones(8, 1, dtype=torch.long)).logits[:, 0]
    ablation = FeatureAblation(subject.model).attribute(view.features, target=view.targets).flatten(1)
    whole = engine.ends().logits[:, 0]
    assert torch.allclose(whole - first, ablation.gather(1, engine.ranks(0).argmin(1, keepdim=True))[:, 0], atol=1e-5)


# Known answers


def test_the_halves_add_up() -> None:
    """The gain is what the most relevant first lose against chance, and what the least relevant first win against it."""
    found = values(PixelFlipping(), control(PixelFlipping, "integrated-gradients"), samples=32)
    assert found["relevance_gain"] == pytest.approx(found["most_first_gain"] + found["least_first_gain"], abs=1e-12)


def test_turning_the_map_around_turns_the_sign_of_the_gain() -> None:
    """Without ties the reverse order gives minus the gain, to rounding."""
    subject = linear()
    one = values(PixelFlipping(), replace(subject, explainer=contribution), samples=32)
    other = values(PixelFlipping(), replace(subject, explainer=negated), samples=32)
    assert other["relevance_gain"] == pytest.approx(-one["relevance_gain"], abs=1e-6)


def negated(_model: object, inputs: Tensor, _targets: Tensor) -> Tensor:
    """Minus the input."""
    return -inputs


def test_the_gain_does_not_depend_on_the_number_of_steps() -> None:
    """With 8, 16 and 64 steps (8, 4 and 1 features at a time) a digit's mean gain stays within 0.03; an area with a step width of one would change eightfold."""
    subject = control(PixelFlipping, "integrated-gradients")
    found = [values(PixelFlipping(steps=steps), subject, samples=64)["relevance_gain"].mean() for steps in (8, 16, 64)]
    assert max(found) - min(found) < 0.03


def test_magnitudes_find_what_speaks_against_the_class_as_well() -> None:
    """By magnitude, a strong negative contribution goes first; by value it goes last."""
    subject = linear(6)
    for by, expected in (("signed", False), ("magnitude", True)):
        context = Context(subject, 32, 0, 32)
        view = subject.view(next(iter(context.batches("test"))))
        engine = Removal(context, view, resolve(subject), "test", by=by)  # type: ignore[arg-type]
        strongest = resolve(subject).explain(view, 0).abs().argmax(1, keepdim=True)
        assert bool((engine.ranks("most").gather(1, strongest) == 0).all()) is expected


def test_zeros_make_every_map_of_the_ink_look_faithful() -> None:
    """On digits the input itself, which sees no model, gains twice as much with zeros as with the mean: why the mean is the default."""
    subject = replace(control(PixelFlipping, "integrated-gradients"), explainer={"method": "inputs"})
    zeros, mean = (
        values(PixelFlipping(substrate=substrate), subject, samples=64)["relevance_gain"].mean()
        for substrate in ("zeros", "mean")
    )
    assert zeros > 2 * mean

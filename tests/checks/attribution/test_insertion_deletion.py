"""Insertion and deletion: a slow reading, a library, and known answers; controls and invariances are in `test_removal_checks`."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from captum.attr import FeatureAblation
from sklearn.metrics import auc
from torch import Tensor

from method_cards.check import Context
from method_checks.attribution.changes.removal import Removal
from method_checks.attribution.changes.substrates import blurred
from method_checks.attribution.explainers import resolve
from method_checks.attribution.insertion_deletion import InsertionDeletion
from tests.checks.attribution.carded import control, values
from tests.checks.attribution.removal_cases import bright, linear

# 3. A slow re-implementation, straight from the paper


def test_it_agrees_with_a_slow_reading_of_the_paper() -> None:
    """Delete pixels from the image, and insert them into the blurred one, one more at a time, with scikit-learn's area."""
    subject = bright((2, 3, 4), count=20)
    check = InsertionDeletion(substrate="zeros", steps=12, orders=1, least_change=1e-4)
    found = values(check, subject, samples=6)
    inputs, _ = subject.split("test").take(Context(subject, 6, 0).indices("test"))
    assert isinstance(inputs, Tensor)
    for row, image in enumerate(inputs):
        target = int(subject.model(image[None]).argmax())
        sign = 1 if target == 0 else -1
        order = sorted(range(12), key=lambda i: -sign * float(image.sum(0).flatten()[i]))
        blur = blurred(image[None])[0]
        deletion: list[float] = []
        insertion: list[float] = []
        for k in range(13):
            gone = torch.zeros(12, dtype=torch.bool)
            gone[order[:k]] = True
            mask = gone.reshape(3, 4)
            for start, heights in (
                (torch.where(mask, 0.0, image), deletion),
                (torch.where(mask, image, blur), insertion),
            ):
                heights.append(subject.model(start[None]).softmax(1)[0, target].item())
        shares = [k / 12 for k in range(13)]
        assert found["deletion"][row] == pytest.approx(auc(shares, deletion), abs=1e-5)
        assert found["insertion"][row] == pytest.approx(auc(shares, insertion), abs=1e-5)


# 4. Agreement with Captum


def test_half_of_a_digit_agrees_with_captum() -> None:
    """The fall of the logit when a half goes at once is Captum's ablation of a group of features."""
    subject = control(InsertionDeletion, "integrated-gradients")
    context = Context(subject, 8, 0, 8)
    view = subject.view(next(iter(context.batches("test"))))
    engine = Removal(context, view, resolve(subject), "test", substrate="zeros")
    half = engine.ranks("most") < 32
    fall = engine.ends().logits[:, 0] - engine.at("most", torch.full((8, 1), 32)).logits[:, 0]
    for row in range(8):
        ablation = FeatureAblation(subject.model).attribute(
            view.features[row : row + 1],
            target=int(view.targets[row]),
            feature_mask=half[row].long().reshape(1, 1, 8, 8),
        )
        assert float(ablation.flatten()[half[row]][0]) == pytest.approx(float(fall[row]), abs=1e-5)


# Known answers


def test_with_one_substrate_both_areas_come_from_the_same_curves() -> None:
    """Insertion of the most relevant first is deletion of the least relevant first, read from its end: two plus R curves, not four plus 2 R."""
    subject = linear(12)
    one, two = InsertionDeletion(), InsertionDeletion(insertion_substrate="zeros")
    assert one.passes(subject, 10).forward < 0.7 * two.passes(subject, 10).forward
    found = values(InsertionDeletion(steps=12), subject, samples=16)
    assert (found["insertion"] > found["deletion"]).mean() > 0.9


def test_the_background_of_random_orders_leaves_the_gain() -> None:
    """A model that is twice as confident has another deletion area for noise, and the same gain: none."""
    subject = linear(scale=0.2)
    means = []
    for scale in (0.2, 2.0):
        subject = replace(linear(scale=scale), explainer={"method": "noise"})
        found = values(InsertionDeletion(), subject, samples=96)
        means.append((found["deletion"].mean(), found["deletion_gain"].mean()))
    assert means[1][0] - means[0][0] > 0.1
    assert max(abs(gain) for _, gain in means) < 0.05

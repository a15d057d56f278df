"""Selectivity: a slow reading, a library, and known answers; controls and invariances are in `test_removal_checks`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation
from torch import Tensor

from method_cards.check import Context
from method_checks.attribution.changes.removal import Removal, groups
from method_checks.attribution.explainers import resolve
from method_checks.attribution.selectivity import Selectivity
from tests.checks.attribution.carded import control, values
from tests.checks.attribution.removal_cases import bright, linear, slow_area, slow_probability

# 3. A slow re-implementation, straight from the papers


def test_it_agrees_with_a_slow_reading_of_the_papers() -> None:
    """Rank patches by their mean relevance, cover one more at a time, and average the drops; patches at the edges are cut."""
    subject = bright((3, 5, 7), count=20)
    check = Selectivity(side=3, substrate="zeros", orders=1, least_change=1e-4)
    found = values(check, subject, samples=6)
    inputs, _ = subject.split("test").take(Context(subject, 6, 0).indices("test"))
    assert isinstance(inputs, Tensor)
    patches = [
        [(r, c) for r in range(top, min(top + 3, 5)) for c in range(left, min(left + 3, 7))]
        for top in (0, 3)
        for left in (0, 3, 6)
    ]
    for row, image in enumerate(inputs):
        target = int(subject.model(image[None]).argmax())
        sign = 1 if target == 0 else -1
        relevance = [np.mean([sign * float(image[:, r, c].sum()) for r, c in patch]) for patch in patches]
        changed, heights = image.clone(), [slow_probability(subject, image, target, [], image)]
        for number in sorted(range(6), key=lambda k: -relevance[k]):
            for r, c in patches[number]:
                changed[:, r, c] = 0
            heights.append(slow_probability(subject, changed, target, [], changed))
        drop = heights[0] - slow_area(heights, [k / 6 for k in range(7)])
        assert found["perturbation_area"][row] == pytest.approx(drop, abs=1e-5)


# 4. Agreement with Captum


def test_patches_agree_with_captum() -> None:
    """The fall of the logit when one patch goes is Captum's ablation of that group of pixels."""
    subject = control(Selectivity, "integrated-gradients")
    context = Context(subject, 8, 0, 8)
    view = subject.view(next(iter(context.batches("test"))))
    engine = Removal(context, view, resolve(subject), "test", substrate="zeros", side=2)
    first = engine.at("most", torch.ones(8, 1, dtype=torch.long)).logits[:, 0]
    chosen = groups(8, 8, 2)
    ablation = (
        FeatureAblation(subject.model)
        .attribute(view.features, target=view.targets, feature_mask=chosen.reshape(1, 1, 8, 8))
        .flatten(1)
    )
    place = engine.ranks("most").argmin(1)
    expected = torch.stack([ablation[row][chosen == place[row]][0] for row in range(8)])
    assert torch.allclose(engine.ends().logits[:, 0] - first, expected, atol=1e-5)


# Known answers


def test_only_images_have_patches() -> None:
    """Tables are told which checks apply to them."""
    assert "attribution/pixel-flipping" in Selectivity().not_applicable(linear())


def test_the_side_of_a_patch_follows_the_image() -> None:
    """A sixteenth of the shorter side, at least two pixels: an image of 64 by 48 has patches of 3."""
    assert Selectivity()._side(64, 48) == 3
    assert Selectivity()._side(8, 8) == 2
    assert Selectivity(side=9)._side(64, 48) == 9

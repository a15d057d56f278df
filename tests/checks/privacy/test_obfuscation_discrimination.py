"""Recognising people on obfuscated images: the five proofs, and what must never pass."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor, nn

from method_cards import judge
from method_cards.card import CheckBinding
from method_cards.check import Context
from method_cards.errors import CheckError
from method_cards.measurement import Measurements, Series
from method_cards.subject import Subject
from method_cards.verdict import Outcome
from method_checks.privacy.obfuscation.discrimination_controls import USE
from method_checks.privacy.obfuscation.operators import pixelation, private_pixelation
from method_checks.privacy.obfuscation.people import People
from method_checks.privacy.obfuscation.recognition import Recogniser
from method_checks.privacy.obfuscation_discrimination import ObfuscationDiscrimination
from method_checks.privacy.obfuscation_reversal import ObfuscationReversal
from tests.helpers import binding, criterion

GATE = criterion("recognised_without_obfuscation", at_least=0.5)
PEOPLE = CheckBinding.model_validate(
    binding(ObfuscationDiscrimination.id, [criterion("recognised_beyond_chance", at_most=0.1)], [GATE])
)
UTILITY = CheckBinding.model_validate(
    binding(ObfuscationDiscrimination.id, [criterion("utility_lost", at_most=0.2)], [GATE])
)


@cache
def control(name: str, seed: int = 0) -> Subject:
    return next(item for item in ObfuscationDiscrimination.controls() if item.name == name).build(seed)


def measured(subject: Subject, *, samples: int | None = 300, seed: int = 0, **parameters: Any) -> Measurements:
    check = ObfuscationDiscrimination(**parameters)
    found = Measurements()
    for yielded in check.measure(subject, Context(subject, samples, seed, scope=check.id)):
        found.add(yielded)
    return found


@cache
def found_on(name: str) -> Measurements:
    return measured(control(name), utility_train=USE["utility_train"], utility_test=USE["utility_test"])


def series(found: Measurements, name: str) -> Series:
    return found.select(name, {})[0]


def outcome(bound: CheckBinding, name: str) -> Outcome:
    return judge.judge(bound, found_on(name), complete=True).outcome


def small(operator: nn.Module) -> Subject:
    """Four people on six known images and four others each."""
    generator = torch.Generator().manual_seed(0)
    drawn = People.drawn(4, generator)
    data = {"gallery": drawn.photographed(6, generator), "test": drawn.photographed(4, generator)}
    return Subject("small", "image-to-image", operator.eval(), data)


@pytest.mark.parametrize("name", ["two-cells", "private-two-cells"])
def test_sound_controls_pass(name: str) -> None:
    """Of two cells, whose light differs more between images than between people, nobody is recognised."""
    assert outcome(PEOPLE, name) is Outcome.PASSED


@pytest.mark.parametrize("name", ["coarse-pixelation", "gaussian-blur"])
def test_defect_controls_fail_because_people_are_recognised(name: str) -> None:
    """Four cells and a blur leave people to be told apart."""
    result = judge.judge(PEOPLE, found_on(name), complete=True)
    assert result.outcome is Outcome.FAILED
    assert (result.criteria[0].measurement, result.criteria[0].outcome) == ("recognised_beyond_chance", Outcome.FAILED)
    assert result.gates[0].outcome is Outcome.PASSED


def test_an_obfuscation_that_destroys_its_images_fails_by_utility() -> None:
    """One mean for an image hides the person and loses what the image is for; two means keep it."""
    assert outcome(PEOPLE, "one-cell") is Outcome.PASSED
    assert outcome(UTILITY, "one-cell") is Outcome.FAILED
    assert outcome(UTILITY, "two-cells") is Outcome.PASSED


def test_people_who_look_alike_give_no_verdict() -> None:
    """Where the recogniser fails on the originals too, recognising nobody is invalid."""
    assert outcome(PEOPLE, "people-who-look-alike") is Outcome.INVALID


def test_every_control_is_used_here() -> None:
    """No control is left untested by the tests above."""
    assert Counter(item.kind for item in ObfuscationDiscrimination.controls()) == {
        "sound": 2,
        "defect": 3,
        "confounded": 1,
    }


def test_what_cannot_be_reversed_can_be_told_apart() -> None:
    """The same four cells that no reversal opens, with hundreds of people, give away which of twenty it is."""
    few = control("coarse-pixelation")
    check = ObfuscationReversal(reversal="learned")
    reversed_ = Measurements()
    for yielded in check.measure(few, Context(few, 300, 0, scope=check.id)):
        reversed_.add(yielded)
    found = found_on("coarse-pixelation")
    assert series(reversed_, "identified_after_reversal").values.mean() < series(found, "recognised").values.mean() / 2


def test_guessing_is_subtracted_image_by_image() -> None:
    """An obfuscation that leaves nothing is at zero beyond chance, however frequent the most frequent person is."""
    subject = small(nn.Identity())
    images, people = subject.split("gallery").take(range(24))
    assert isinstance(images, Tensor)
    skewed = (images, torch.where(people > 1, 0, people))
    data = {"gallery": skewed, "test": (subject.split("test").take(range(16))[0], torch.zeros(16))}
    hidden = Subject("hidden", "image-to-image", pixelation(32, 1, 1), data)
    found = measured(hidden)
    assert series(found, "chance").values.tolist() == [0.75]
    beyond, right = (series(found, name).values for name in ("recognised_beyond_chance", "recognised"))
    np.testing.assert_array_equal(beyond, right - 1.0)


def test_agrees_with_a_slow_implementation_and_with_scikit_learn() -> None:
    """Images obfuscated, saved, projected on principal components from an SVD, and given to scikit-learn's analysis: the same people."""
    subject = control("coarse-pixelation")
    rows, labels = {}, {}
    for name in ("gallery", "test"):
        images, people = subject.split(name).take(range(len(subject.split(name))))
        assert isinstance(images, Tensor)
        cells = images.reshape(-1, 2, 16, 2, 16).mean((2, 4)).repeat_interleave(16, 1).repeat_interleave(16, 2)
        rows[name], labels[name] = (cells.double() * 255).round().numpy().reshape(len(people), -1) / 255, people.numpy()
    centre = rows["gallery"].mean(0)
    axes = np.linalg.svd(rows["gallery"] - centre, full_matrices=False)[2][:64]
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    theirs.fit((rows["gallery"] - centre) @ axes.T, labels["gallery"])
    right = theirs.predict((rows["test"] - centre) @ axes.T) == labels["test"]
    order = list(Context(subject, 300, 0).indices("test"))
    assert np.mean(series(found_on("coarse-pixelation"), "recognised").values == right[order]) > 0.97


def test_the_classifier_is_chosen_on_the_attackers_images() -> None:
    """Clusters inside a ring of another label need neighbours, shifted means an analysis: each is found by cross-validation."""
    generator = torch.Generator().manual_seed(0)
    angle = torch.rand(120, generator=generator) * 6.28
    ring = torch.stack([angle.cos(), angle.sin()], 1) * (torch.arange(120) % 2 * 2.0 + 0.3)[:, None]
    shifted = torch.randn(120, 2, generator=generator) + 3 * (torch.arange(120) % 2)[:, None]
    names = []
    for points in (ring, shifted):
        recogniser = Recogniser(points.reshape(120, 1, 1, 2), torch.arange(120) % 2, "known")
        names.append(type(recogniser._classifier).__name__)
        assert recogniser.right(points.reshape(120, 1, 1, 2), torch.arange(120) % 2).mean() > 0.9
    assert names == ["KNeighborsClassifier", "LinearDiscriminantAnalysis"]


def test_the_same_seed_gives_the_same_measurements() -> None:
    """Two runs agree to the last bit, noise included; another seed draws other noise."""
    runs = [measured(small(private_pixelation(32, 8, 8, 1.0, 4)), seed=seed) for seed in (0, 0, 1)]
    values = [series(run, "recognised").values.tolist() for run in runs]
    assert values[0] == values[1] != values[2]


def test_too_few_images_of_a_person_are_refused() -> None:
    """Two images of somebody cannot train a recogniser, nor can one person: the message names the split."""
    images = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(CheckError, match=r'label 1 has 2 images in "known"; a recogniser needs at least 3'):
        Recogniser(images, torch.tensor([0, 0, 0, 0, 0, 0, 1, 1]), "known")
    with pytest.raises(CheckError, match='of "known" have the label 0'):
        Recogniser(images, torch.zeros(8, dtype=torch.long), "known")


def test_strangers_are_refused() -> None:
    """Nobody can be recognised who is not known to the attacker."""
    subject = small(nn.Identity())
    images, people = subject.split("test").take(range(16))
    strange = Subject("strange", "image-to-image", subject.model, {**subject.data, "test": (images, people + 3)})
    with pytest.raises(CheckError, match="show people who are not in"):
        measured(strange)


def test_parameters_that_mean_nothing_are_refused() -> None:
    """Learning and measuring need different splits, and utility both of its splits; the check needs an obfuscation."""
    for wrong in ({"known": "test"}, {"utility_train": "a", "utility_test": "a"}):
        with pytest.raises(ValidationError, match="must be different splits"):
            ObfuscationDiscrimination(**wrong)
    with pytest.raises(ValidationError, match="or neither"):
        ObfuscationDiscrimination(utility_train="a")
    assert ObfuscationDiscrimination(**USE).splits() == ("test", "gallery", "use_train", "use_test")
    other = Subject("other", "image-classification", nn.Flatten().eval(), {"test": small(nn.Identity()).split("test")})
    assert "image-to-image" in ObfuscationDiscrimination().not_applicable(other)

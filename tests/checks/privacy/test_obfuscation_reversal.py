"""Reversal of obfuscated images: the five proofs, and what must never pass."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn

from method_cards import judge
from method_cards.card import CheckBinding
from method_cards.check import Context
from method_cards.errors import CheckError
from method_cards.judge import Judged
from method_cards.measurement import Measurements, Pictures, Series
from method_cards.subject import Subject
from method_cards.verdict import Outcome
from method_checks.privacy.obfuscation.operators import gaussian_blur, pixelation, private_pixelation
from method_checks.privacy.obfuscation.people import People
from method_checks.privacy.obfuscation.released import as_saved, rounded_straight_through
from method_checks.privacy.obfuscation.reversal import LearnedInverse, by_gradient, starting_from
from method_checks.privacy.obfuscation_reversal import ObfuscationReversal, psnr
from tests.helpers import binding, criterion

GATES = [criterion("identified_without_obfuscation", at_least=0.5), criterion("chance", at_most=0.02)]
CRITERIA = [
    criterion("identified_after_reversal", at_most=0.05),
    criterion("identified_in_obfuscated_gallery", at_most=0.05),
]
BINDING = CheckBinding.model_validate(binding(ObfuscationReversal.id, CRITERIA, GATES))


@cache
def control(name: str, seed: int = 0) -> Subject:
    return next(item for item in ObfuscationReversal.controls() if item.name == name).build(seed)


def measured(subject: Subject, *, samples: int | None = 300, seed: int = 0, **parameters: Any) -> Measurements:
    check = ObfuscationReversal(**parameters)
    found = Measurements()
    for yielded in check.measure(subject, Context(subject, samples, seed, scope=check.id)):
        found.add(yielded)
    return found


@cache
def found_on(name: str, reversal: str = "learned") -> Measurements:
    return measured(control(name), reversal=reversal)


def judged(name: str, reversal: str) -> Judged:
    return judge.judge(BINDING, found_on(name, reversal), complete=True)


def series(found: Measurements, name: str, **by: str) -> Series:
    return found.select(name, by)[0]


def share(found: Measurements, name: str) -> float:
    return float(series(found, name).values.mean())


def small(operator: nn.Module, people: int = 12, side: int = 32) -> Subject:
    """A few people, cut to a corner of their images."""
    generator = torch.Generator().manual_seed(0)
    drawn = People.drawn(people, generator)
    splits = {"gallery": drawn.photographed(2, generator), "test": drawn.photographed(1, generator)}
    data = {name: (images[..., :side, :side], who) for name, (images, who) in splits.items()}
    return Subject("small", "image-to-image", operator.eval(), data)


@pytest.mark.parametrize(
    ("name", "reversal"),
    [("coarse-pixelation", "gradient"), ("coarse-pixelation", "learned"), ("private-pixelation", "learned")],
)
def test_sound_controls_pass(name: str, reversal: str) -> None:
    """Behind four cells, and behind noise, nobody is found, by gradient or by a learned map or in an obfuscated gallery."""
    assert judged(name, reversal).outcome is Outcome.PASSED


@pytest.mark.parametrize("reversal", ["gradient", "learned"])
def test_gaussian_blur_fails_because_it_can_be_reversed(reversal: str) -> None:
    """A blur that hides people from the naked comparison gives them back once it is reversed, at 8 bits, by either way."""
    result = judged("gaussian-blur", reversal)
    assert result.outcome is Outcome.FAILED
    assert (result.criteria[0].measurement, result.criteria[0].outcome) == ("identified_after_reversal", Outcome.FAILED)
    assert [gate.outcome for gate in result.gates] == [Outcome.PASSED, Outcome.PASSED]
    found = found_on("gaussian-blur", reversal)
    assert share(found, "identified_after_reversal") > 4 * share(found, "identified_in_obfuscated_gallery")


def test_fine_pixelation_fails_because_the_gallery_can_be_obfuscated_too() -> None:
    """Cells that are small enough to tell people apart need no reversal: the attacker obfuscates the gallery."""
    result = judged("fine-pixelation", "learned")
    assert result.outcome is Outcome.FAILED
    assert result.criteria[1].measurement == "identified_in_obfuscated_gallery"
    assert result.criteria[1].outcome is Outcome.FAILED


@pytest.mark.parametrize("name", ["people-who-look-alike", "gallery-of-four"])
def test_confounded_controls_are_invalid(name: str) -> None:
    """Where nobody can be identified before, or everybody by guessing, finding nobody behind an obfuscation is no verdict."""
    assert judged(name, "learned").outcome is Outcome.INVALID


def test_every_control_is_used_here() -> None:
    """No control is left untested by the tests above."""
    assert Counter(item.kind for item in ObfuscationReversal.controls()) == {"sound": 2, "defect": 2, "confounded": 2}


def test_the_signal_to_noise_ratio_decides_nothing() -> None:
    """Fine pixelation gains less than 0.2 dB by gradient and identifies a third of the people; blur gains more."""
    found = found_on("fine-pixelation", "gradient")
    before, after = (series(found, "psnr", image=image).values.mean() for image in ("obfuscated", "reversed"))
    assert after - before < 0.2
    assert share(found, "identified_after_reversal") > 0.3


def test_a_simulation_in_floats_is_not_what_is_saved() -> None:
    """The same blur gives away far more when it is not saved in 8 bits, so the format is part of the question."""
    exact, coarse = (
        share(
            measured(control("gaussian-blur"), reversal="learned", saved=saved, ridge=1e-6), "identified_after_reversal"
        )
        for saved in ("float", "8-bit")
    )
    assert exact > coarse + 0.05


def test_the_blur_is_scipys() -> None:
    """The control blurs as SciPy's Gaussian filter does with repeated borders."""
    image = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = gaussian_filter(image[0, 0].double().numpy(), 2.0, mode="nearest", radius=6)
    np.testing.assert_allclose(gaussian_blur(2, 32)(image)[0, 0].detach().numpy(), expected, atol=1e-6)


def test_the_noise_of_private_pixelation_has_its_scale() -> None:
    """The noise is Laplace's with scale pixels / (cell size times epsilon): mean absolute deviation and median are its own."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        cells = private_pixelation(8, 2, 1, 2.0, 4)(torch.full((3000, 1, 8, 8), 0.5))[:, 0, ::4, 0].flatten()
    assert (cells - 0.5).abs().mean().item() == pytest.approx(4 / (4 * 8 * 2.0), rel=0.05)
    assert (cells - 0.5).abs().median().item() == pytest.approx(np.log(2) / 16, rel=0.06)


def test_a_pixelation_is_reversed_no_further_than_its_cells() -> None:
    """Closed form: with no regularisation and a start of equal pixels the gradient is the same within a cell, so nothing changes."""
    operator = pixelation(8, 2, 2)
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        obfuscated = operator(images)
    found = by_gradient(operator, obfuscated, torch.full_like(images, 0.5), steps=300, rate=0.02, smoothness=0, seed=0)
    torch.testing.assert_close(found, obfuscated, atol=2e-3, rtol=0)


def test_agrees_with_a_slow_implementation() -> None:
    """Adam by hand, one image at a time, on the sum of squares and of squared differences: the same images."""
    operator = gaussian_blur(1, 6)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        obfuscated = as_saved(operator(torch.rand(2, 1, 6, 6, generator=generator)), "8-bit")
    found = by_gradient(operator, obfuscated, obfuscated, steps=25, rate=0.05, smoothness=0.01, seed=0)
    matrix = operator.get_parameter("rows").detach().double().numpy()
    for one, wanted in zip(found, obfuscated, strict=True):
        np.testing.assert_allclose(one[0].numpy(), slow_reversal(matrix, wanted[0].double().numpy()), atol=2e-4)


def slow_reversal(matrix: Any, wanted: Any) -> Any:
    """The gradient of |M X M' - Y|^2 is 2 M' (M X M' - Y) M; those of the differences are written out pixel by pixel."""
    x, first, second = wanted.copy(), np.zeros_like(wanted), np.zeros_like(wanted)
    for step in range(1, 26):
        gradient = 2 * matrix.T @ (matrix @ x @ matrix.T - wanted) @ matrix
        for i in range(6):
            for j in range(6):
                for a, b in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
                    if 0 <= a < 6 and 0 <= b < 6:
                        gradient[i, j] += 0.01 * 2 * (x[i, j] - x[a, b])
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        x = x - 0.05 * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        x = np.clip(x, 0, 1)
    return x


def test_the_learned_inverse_is_scikit_learns_ridge_regression() -> None:
    """The same penalty in the same units gives the same images, cut off at 0 and 1."""
    generator = torch.Generator().manual_seed(0)
    originals = torch.rand(30, 1, 4, 4, generator=generator)
    obfuscated = originals.flatten(1) @ torch.rand(16, 9, generator=generator)
    centred = (obfuscated - obfuscated.mean(0)).double()
    penalty = 0.05 * float((centred**2).sum(1).mean())
    theirs = Ridge(alpha=penalty).fit(obfuscated.double().numpy(), originals.flatten(1).double().numpy())
    expected = np.clip(theirs.predict(obfuscated.double().numpy()), 0, 1)
    found = LearnedInverse(obfuscated, originals, 0.05)(obfuscated)
    np.testing.assert_allclose(found.flatten(1).numpy(), expected, atol=1e-5)


def test_people_are_matched_as_scikit_learn_matches_them() -> None:
    """The nearest gallery image by Euclidean distance names the person."""
    subject = control("fine-pixelation")
    found = found_on("fine-pixelation")
    gallery, test = (subject.batch(name, range(len(subject.split(name)))) for name in ("gallery", "test"))
    assert isinstance(gallery.inputs, Tensor)
    assert isinstance(test.inputs, Tensor)
    nearest = KNeighborsClassifier(1, algorithm="brute").fit(gallery.inputs.flatten(1).numpy(), gallery.targets.numpy())
    order = Context(subject, 300, 0).indices("test")
    right = nearest.predict(test.inputs.flatten(1).numpy()) == test.targets.numpy()
    np.testing.assert_array_equal(series(found, "identified_without_obfuscation").values, right[list(order)])


def test_the_same_seed_gives_the_same_measurements() -> None:
    """Two runs agree to the last bit, noise included; another seed draws other noise."""
    subject = small(private_pixelation(32, 8, 8, 1.0, 1))
    runs = [measured(subject, seed=seed, steps=5) for seed in (0, 0, 1)]
    values = [sorted(series(run, "psnr", image="reversed").values.tolist()) for run in runs]
    assert values[0] == values[1] != values[2]


class Rounding(nn.Module):
    """Pixelation that gives 8-bit values by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = pixelation(32, 16, 16)

    def forward(self, images: Tensor) -> Tensor:
        values: Tensor = self.cells(images)
        return torch.round(values * 255) / 255


class Casting(Rounding):
    """The same through whole numbers, which no gradient passes."""

    def forward(self, images: Tensor) -> Tensor:
        values: Tensor = self.cells(images)
        return (values * 255).to(torch.uint8).float() / 255


def test_gradients_pass_through_rounding() -> None:
    """An obfuscation that rounds by itself is reversed like one that does not; outside the context rounding has no gradient."""
    image = torch.tensor([0.3, 1.7], requires_grad=True)
    with rounded_straight_through():
        values = torch.round(image) + image.floor()
    assert values.tolist() == [0.0, 3.0]
    assert torch.autograd.grad(values.sum(), image)[0].tolist() == [2.0, 2.0]
    assert torch.autograd.grad(torch.round(image).sum(), image)[0].tolist() == [0.0, 0.0]
    found = [measured(small(operator), steps=20) for operator in (Rounding(), pixelation(32, 16, 16))]
    results = [series(each, "psnr", image="reversed").values for each in found]
    np.testing.assert_allclose(results[0], results[1], atol=0.5)


def test_an_obfuscation_without_gradients_is_refused_and_can_be_learned() -> None:
    """Whole numbers stop gradients: the message names the other way, which works."""
    with pytest.raises(CheckError, match="set `reversal: learned`"):
        measured(small(Casting()))
    assert share(measured(small(Casting()), reversal="learned"), "identified_after_reversal") > 0.5


def test_an_image_of_another_size_is_searched_from_its_enlargement() -> None:
    """What was released smaller is enlarged to begin with; what has other channels begins with grey."""
    like = torch.zeros(2, 1, 8, 8)
    assert starting_from(torch.full((2, 1, 4, 4), 0.25), like).unique().tolist() == [0.25]
    assert starting_from(torch.ones(2, 3, 8, 8), like).unique().tolist() == [0.5]
    found = measured(small(nn.AvgPool2d(2)), steps=30)
    assert share(found, "identified_without_obfuscation") > 0.9
    assert series(found, "identified_after_reversal").n == 12


class Masked(nn.Module):
    """One cell, where a mask says so."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = pixelation(32, 1, 1)

    def forward(self, pixel_values: Tensor, mask: Tensor) -> Tensor:
        return torch.where(mask, self.cells(pixel_values), pixel_values)


def test_other_inputs_of_the_obfuscation_go_with_each_image() -> None:
    """An obfuscation that takes a mask by name is reversed with the mask of each image."""
    plain = small(pixelation(32, 1, 1))
    data = {}
    for name in ("gallery", "test"):
        images, people = plain.split(name).take(range(len(plain.split(name))))
        assert isinstance(images, Tensor)
        mask = torch.zeros_like(images, dtype=torch.bool)
        mask[len(images) // 2 :] = True
        data[name] = ({"pixel_values": images, "mask": mask}, people)
    found = measured(Subject("masked", "image-to-image", Masked().eval(), data), steps=3)
    errors = series(found, "psnr", image="obfuscated").values
    assert sorted(errors > 40) == [False] * 6 + [True] * 6


def test_psnr_is_its_definition() -> None:
    """Ten times the logarithm of one over the mean squared error; 100 for equal images."""
    images = torch.zeros(2, 1, 2, 2)
    assert psnr(images, images + torch.tensor([0.1, 0.0]).reshape(2, 1, 1, 1)).tolist() == pytest.approx([20.0, 100.0])


def test_images_beyond_one_and_strangers_are_refused() -> None:
    """Images have to be scaled to 0..1, and everybody has to be in the gallery: the message says what to do."""
    subject = small(pixelation(32, 8, 8))
    inputs, people = subject.split("test").take(range(12))
    assert isinstance(inputs, Tensor)
    subject.data = {**subject.data, "bright": (inputs * 255, people), "strange": (inputs, people + 5)}
    subject = Subject("small", "image-to-image", subject.model, subject.data)
    with pytest.raises(CheckError, match=r"scale them to 0..1"):
        measured(subject, split="bright", steps=1)
    with pytest.raises(CheckError, match="show people who are not in"):
        measured(subject, split="strange", steps=1)


def test_it_applies_to_obfuscations_only() -> None:
    """A classifier is told what the check is for; one split cannot be measured and known."""
    other = Subject("other", "image-classification", nn.Flatten().eval(), {"test": small(nn.Identity()).split("test")})
    assert "image-to-image" in ObfuscationReversal().not_applicable(other)
    with pytest.raises(ValidationError, match="the gallery holds other images"):
        ObfuscationReversal(gallery="test")


def test_images_are_shown() -> None:
    """Original, released and reversed images of the first batch stand side by side."""
    check = ObfuscationReversal(steps=2)
    subject = small(pixelation(32, 8, 8))
    shown = [
        item for item in check.measure(subject, Context(subject, 12, scope=check.id)) if isinstance(item, Pictures)
    ]
    assert [item.values.shape for item in shown] == [(4, 3, 32, 32)]
    assert not np.array_equal(shown[0].values[:, 0], shown[0].values[:, 1])

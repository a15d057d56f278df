"""ROAD: a slow reading, a library, and known answers; controls and invariances are in `test_removal_checks`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from method_cards.check import Context
from method_cards.subject import Subject
from method_checks.attribution.changes.draws import Draws
from method_checks.attribution.changes.removal import Removal
from method_checks.attribution.changes.substrates import NOISE
from method_checks.attribution.explainers import resolve
from method_checks.attribution.road import Road
from tests.checks.attribution.carded import control, run, values
from tests.checks.attribution.removal_cases import bright, linear
from tests.checks.attribution.test_imputation import slow

# 3. A slow re-implementation, straight from the paper, with SciPy's sparse solver (4.)


@pytest.mark.parametrize("channels", [1, 3])
def test_it_agrees_with_a_slow_reading_of_the_paper(channels: int) -> None:
    """For grey and colour images, solve each image's sparse system with SciPy, add the noise, and see whether the class is kept."""
    subject = bright((channels, 7, 6), count=24)
    check = Road(percentages=(20, 50, 80), orders=1)
    _, _, found = run(check, subject, samples=10)
    context = Context(subject, 10, 0, 10, scope=check.id)
    batch = next(iter(context.batches("test")))
    images = batch.inputs
    assert isinstance(images, Tensor)
    noise = NOISE * Draws.shared(context, batch, "imputation").normal(0, channels * 42).reshape(images.shape)
    for percentage in (20, 50, 80):
        kept = {"most": [], "least": []}  # type: dict[str, list[float]]
        for row, image in enumerate(images):
            target = int(subject.model(image[None]).argmax())
            relevance = (image.sum(0).flatten() * (1 if target == 0 else -1)).tolist()
            most = sorted(range(42), key=lambda i: -relevance[i])
            for name, order in (("most", most), ("least", most[::-1])):
                gone = torch.zeros(42, dtype=torch.bool)
                gone[order[: int(42 * percentage / 100 + 0.5)]] = True
                filled = torch.tensor(slow(image, gone.reshape(7, 6))) + noise[row] * gone.reshape(7, 6)
                kept[name].append(float(subject.model(filled.float()[None]).argmax() == target))
        for name, expected in kept.items():
            (series,) = found.select(f"{name}_first_accuracy", {"percentage": percentage})
            assert series.values.tolist() == expected


def test_imputed_images_agree_with_quantus() -> None:
    """Without noise, what Quantus imputes for one grey image at a time is what is imputed here, to the solver's tolerance."""
    perturb = pytest.importorskip("quantus.functions.perturb_func")
    from method_checks.attribution.changes.imputation import impute

    images = torch.rand(3, 1, 12, 12)
    gone = torch.rand(3, 12, 12) < 0.5
    for row in range(3):
        expected = perturb.noisy_linear_imputation(
            arr=images[row].double().numpy(), indices=gone[row].flatten().nonzero()[:, 0].numpy(), noise=0.0
        )
        assert impute(images, gone)[row].numpy() == pytest.approx(expected, abs=1e-3)


# Known answers


class Corner(nn.Module):
    """Whether the upper left pixel is bright: known from the first pixel alone."""

    def forward(self, images: Tensor) -> Tensor:
        z = 40 * (images[:, 0, 0, 0] - 0.5)
        return torch.stack([-z, z], 1)


def corner(_model: object, inputs: Tensor, _targets: Tensor) -> Tensor:
    """The one pixel that counts, and no order among the others."""
    found = torch.zeros_like(inputs)
    found[:, :, 0, 0] = 1
    return found


def corners(count: int) -> Subject:
    """A corner that is the opposite of all around it, in every second image; else the image is of one colour."""
    images = torch.zeros(count, 1, 6, 6)
    images[1::2] = 1
    images[::4, 0, 0, 0] = 1
    images[1::4, 0, 0, 0] = 0
    return Subject(
        "corner",
        "image-classification",
        Corner().eval(),
        {"test": (images, torch.zeros(count, dtype=torch.long))},
        explainer=corner,
    )


@pytest.mark.parametrize("batch", [64, 128])
def test_every_batch_counts(batch: int) -> None:
    """For 128 images of which exactly a half loses its class with its corner, the accuracy is a half whatever the batch."""
    subject = corners(128)
    _, _, found = run(Road(percentages=(10,)), subject, samples=128, batch=batch)
    assert found.select("most_first_accuracy", {"percentage": 10})[0].values.mean() == 0.5
    assert found.select("least_first_accuracy", {"percentage": 10})[0].values.mean() == 1.0


def test_colour_images_are_measured() -> None:
    """Three channels are filled in and measured like one, and a good map gains."""
    found = values(Road(), bright((3, 8, 8)), samples=64)
    assert found["accuracy_gain"].mean() > 0.3


def test_only_images_can_be_filled_in() -> None:
    """Tables are told which check applies to them."""
    assert "comprehensiveness-sufficiency" in Road().not_applicable(linear())


@pytest.mark.parametrize("percentages", [(0,), (100,), (10, 10)])
def test_percentages_that_mean_nothing_are_refused(percentages: tuple[int, ...]) -> None:
    """Nothing, everything, and the same twice are no percentages to ask for."""
    with pytest.raises(ValueError, match="different whole numbers from 1 to 99"):
        Road(percentages=percentages)


def test_removed_pixels_are_the_asked_share() -> None:
    """At 25 per cent of 64 pixels, sixteen of every image change and no other."""
    subject = control(Road, "integrated-gradients")
    context = Context(subject, 16, 0, 16)
    view = subject.view(next(iter(context.batches("test"))))
    engine = Removal(context, view, resolve(subject), "test", substrate="imputation")
    changed = engine.without(("most",), torch.full((16,), 16))[0] != view.features
    assert changed.flatten(1).sum(1).tolist() == [16] * 16

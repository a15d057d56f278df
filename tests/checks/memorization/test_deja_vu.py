"""Déjà vu: the five proofs, and what must never pass."""

from __future__ import annotations

import math
from collections import Counter
from functools import cache
from itertools import starmap
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn

from method_cards import judge
from method_cards.card import CheckBinding
from method_cards.check import Context
from method_cards.errors import CheckError
from method_cards.judge import Judged
from method_cards.measurement import Measurements, Series
from method_cards.subject import Subject
from method_cards.verdict import Outcome
from method_checks.memorization.deja_vu import DejaVu, difference, excess, most_confident
from method_checks.memorization.representations.controls import World, cropped
from method_checks.memorization.representations.neighbours import Metric, Neighbours, prepared
from tests.helpers import binding, criterion

METRICS: tuple[Metric, ...] = ("cosine", "euclidean")

GATE = criterion("blind_auc", at_most=0.55)
CRITERIA = [criterion("deja_vu_excess", at_most=0.1), criterion("confident_deja_vu_excess", at_most=0.2)]
BINDING = CheckBinding.model_validate(binding(DejaVu.id, CRITERIA, [GATE]))


@cache
def control(name: str, seed: int = 0) -> Subject:
    return next(item for item in DejaVu.controls() if item.name == name).build(seed)


def measured(subject: Subject, *, samples: int | None = 1500, seed: int = 0, **parameters: Any) -> Measurements:
    check = DejaVu(**parameters)
    found = Measurements()
    for yielded in check.measure(subject, Context(subject, samples, seed, scope=check.id)):
        found.add(yielded)
    return found


@cache
def found_on(name: str) -> Measurements:
    parameters = next(item for item in DejaVu.controls() if item.name == name).parameters
    return measured(control(name), blind_blocks=4, **parameters)


def judged(name: str) -> Judged:
    return judge.judge(BINDING, found_on(name), complete=True)


def series(found: Measurements, name: str, **by: str) -> Series:
    return found.select(name, by)[0]


def tiny(changes: dict[str, Any] | None = None, model: nn.Module | None = None) -> Subject:
    """A random linear encoder of crops and images of six numbers."""
    generator = torch.Generator().manual_seed(0)
    sizes = {"train": 40, "test": 50, "public": 60, "public_crops": 30}
    data: dict[str, Any] = {
        name: (torch.randn(size, 1, 2, 3, generator=generator), torch.randint(3, (size,), generator=generator))
        for name, size in sizes.items()
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        linear = nn.Sequential(nn.Flatten(), nn.Linear(6, 4))
    return Subject("tiny", "image-feature-extraction", (model or linear).eval(), {**data, **(changes or {})})


@pytest.mark.parametrize("name", ["many-images-seen-once", "memorised-other-images"])
def test_sound_controls_pass(name: str) -> None:
    """An encoder that saw many images once, and one that memorised other images, pass both criteria."""
    assert judged(name).outcome is Outcome.PASSED


@pytest.mark.parametrize("name", ["memorised-its-images", "memorised-beside-a-reference", "memorised-a-quarter"])
def test_defect_controls_fail_because_they_know_their_crops(name: str) -> None:
    """An encoder that knows its crops by heart, or a quarter of them, names their foreground more often than that of held-out crops."""
    result = judged(name)
    assert result.outcome is Outcome.FAILED
    assert {item.measurement: item.outcome for item in result.criteria} == {
        "deja_vu_excess": Outcome.FAILED,
        "confident_deja_vu_excess": Outcome.FAILED,
    }
    assert result.gates[0].outcome is Outcome.PASSED


@pytest.mark.parametrize("name", ["brighter-crops", "other-backgrounds"])
def test_confounded_controls_are_invalid_whatever_the_encoder_did(name: str) -> None:
    """Where training and held-out crops differ without the encoder, no verdict is given."""
    assert judged(name).outcome is Outcome.INVALID


def test_every_control_is_used_here() -> None:
    """No control is left untested by the tests above."""
    assert Counter(item.kind for item in DejaVu.controls()) == {"sound": 2, "defect": 3, "confounded": 2}


def test_yes_and_no_is_not_memorised() -> None:
    """On crops that no encoder saw, a tenth and more are named by the encoder and not by its reference, and as many the other way round."""
    found = found_on("memorised-beside-a-reference")
    right = series(found, "label_accuracy", crops="test", predictor="encoder").values
    reference = series(found, "label_accuracy", crops="test", predictor="reference").values
    assert np.mean((right == 1) & (reference == 0)) > 0.1
    interval = judge.interval_of(series(found, "deja_vu", crops="test"), 0.95)
    assert interval.low < 0 < interval.high


def test_the_strength_of_the_reference_cancels() -> None:
    """A reference that is stronger than the encoder makes the plain difference negative on crops of both kinds; the excess stays at zero."""
    found = found_on("memorised-other-images")
    for crops in ("train", "test"):
        assert judge.interval_of(series(found, "deja_vu", crops=crops), 0.95).high < 0
    assert abs(series(found, "deja_vu_excess").values.mean()) < 0.05


def test_encoder_and_reference_are_compared_on_the_same_confident_crops() -> None:
    """The rows are chosen by the encoder's confidence alone, the first of equal ones, and stay in the order drawn."""
    confidence = [-0.5, -0.1, -0.1, -0.9, -0.1]
    scores = np.array([[row % 2, row, each] for row, each in enumerate(confidence)], dtype=np.float64)
    assert most_confident(scores, 0.4)[:, 1].tolist() == [1, 2]
    assert most_confident(scores, 0.8)[:, 1].tolist() == [0, 1, 2, 4]
    assert len(most_confident(scores, 0.1)) == 0


def test_crops_are_not_chosen_by_what_is_measured() -> None:
    """Sorted by the difference itself, guesses at random look memorised; chosen by confidence, they do not."""
    generator = np.random.default_rng(0)
    groups = []
    for _ in range(2):
        right = generator.random((4000, 2)) < 0.3
        groups.append(np.column_stack([right, generator.random(4000)]).astype(np.float64))
    best = [each[np.argsort(-difference(each))[:800]] for each in groups]
    assert difference(best[0]).mean() > 0.8
    chosen = excess(*(most_confident(each, 0.2) for each in groups))
    assert abs(chosen.mean()) < 3 * chosen.std() / len(chosen) ** 0.5


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_agrees_with_a_slow_implementation(metric: str) -> None:
    """Neighbours by sorting all distances, labels by counting, entropy by its formula: the same guesses, confidences and differences."""
    subject = tiny()
    found = measured(subject, samples=30, k=7, metric=metric, most_confident=0.5)
    public = vectors(subject, "public", range(60))
    rights, confidences = {}, {}
    for split in ("train", "test"):
        indices = Context(subject, 30, 0).indices(split)
        guesses = [slow_guess(each, public, 7, metric) for each, _ in vectors(subject, split, indices)]
        labels = [label for _, label in vectors(subject, split, indices)]
        rights[split] = [float(guess == label) for (guess, _), label in zip(guesses, labels, strict=True)]
        confidences[split] = [confidence for _, confidence in guesses]
        np.testing.assert_array_equal(
            series(found, "label_accuracy", crops=split, predictor="encoder").values, rights[split]
        )
    references = {split: series(found, "label_accuracy", crops=split, predictor="reference").values for split in rights}
    differences = {split: np.array(rights[split]) - references[split] for split in rights}
    np.testing.assert_array_equal(series(found, "deja_vu_excess").values, differences["train"] - differences["test"])
    top = {split: [row for row in range(30) if rank(confidences[split], row) < 15] for split in ("train", "test")}
    expected = differences["train"][top["train"]] - differences["test"][top["test"]]
    np.testing.assert_array_equal(series(found, "confident_deja_vu_excess").values, expected)


def vectors(subject: Subject, split: str, indices: Any) -> list[tuple[list[float], int]]:
    batch = subject.batch(split, tuple(indices))
    return list(zip(subject.outputs(batch).double().tolist(), batch.targets.tolist(), strict=True))


def slow_guess(vector: list[float], public: list[tuple[list[float], int]], k: int, metric: str) -> tuple[int, float]:
    def similarity(one: list[float], other: list[float]) -> float:
        if metric == "euclidean":
            return -math.dist(one, other)
        lengths = [sum(a * a for a in each) ** 0.5 for each in (one, other)]
        return float(sum(a * b for a, b in zip(one, other, strict=True)) / (lengths[0] * lengths[1]))

    nearest = sorted(((similarity(vector, each), label) for each, label in public), reverse=True)[:k]
    counts = Counter(label for _, label in nearest)
    summed = {label: sum(value for value, other in nearest if other == label) for label in counts}
    guess = max(counts, key=lambda label: (counts[label], summed[label]))
    return guess, sum(count / k * np.log(count / k) for count in counts.values())


def rank(confidences: list[float], row: int) -> int:
    return sum(each > confidences[row] + 1e-9 for each in confidences) + sum(
        abs(each - confidences[row]) < 1e-9 for each in confidences[:row]
    )


@pytest.mark.parametrize("metric", METRICS)
def test_agrees_with_scikit_learn(metric: Metric) -> None:
    """With an odd number of neighbours and two labels no count is equal, and the guesses are those of scikit-learn."""
    generator = torch.Generator().manual_seed(1)
    public = (torch.randn(200, 1, 2, 3, generator=generator), torch.arange(200) % 2)
    subject = tiny({"public": public})
    neighbours = Neighbours.of(subject, "public", 15, metric)
    batch = subject.batch("test", range(50))
    keys = subject.outputs(subject.batch("public", range(200)))
    theirs = KNeighborsClassifier(15, metric=metric, algorithm="brute").fit(keys.numpy(), public[1].numpy())
    outputs = subject.outputs(batch)
    guesses, confidences = neighbours.named(outputs)
    np.testing.assert_array_equal(guesses.numpy(), theirs.predict(outputs.numpy()))
    shares = theirs.predict_proba(outputs.numpy())
    entropy = -sum(np.where(each > 0, each * np.log(np.where(each > 0, each, 1)), 0) for each in shares.T)
    np.testing.assert_allclose(confidences.numpy(), -entropy, atol=1e-12)


def test_equal_counts_are_decided_by_similarity() -> None:
    """Of two labels with as many neighbours the nearer one wins, whichever number it has."""
    keys = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.6, 0.4], [0.5, 0.5], [-1.0, 0.0]])
    for labels in ([5, 5, 2, 2, 7], [2, 2, 5, 5, 7]):
        classes, index = torch.unique(torch.tensor(labels), return_inverse=True)
        for metric in METRICS:
            keys64 = prepared(keys.double(), metric)
            neighbours = Neighbours(keys64, classes, index, 4, metric, [])
            label, confidence = neighbours.named(torch.tensor([[1.0, 0.05]]))
            assert label.item() == labels[0]
            assert confidence.item() == pytest.approx(-np.log(2))


def test_the_guesses_do_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Distances in blocks of one crop give what one block gives."""
    subject = tiny()
    vectors = subject.outputs(subject.batch("test", range(50)))
    neighbours = Neighbours.of(subject, "public", 9, "cosine")
    whole = neighbours.named(vectors)
    monkeypatch.setattr("method_checks.memorization.representations.neighbours.CELLS", 1)
    assert all(starmap(torch.equal, zip(whole, neighbours.named(vectors), strict=True)))


def test_the_same_seed_gives_the_same_measurements() -> None:
    """Two runs agree to the last bit; another seed draws other crops."""
    runs = [measured(tiny(), samples=30, k=5, seed=seed) for seed in (0, 0, 1)]
    values = [series(run, "deja_vu_excess").values.tolist() for run in runs]
    assert values[0] == values[1] != values[2]


def test_exchanged_splits_are_refused() -> None:
    """Held-out crops that the encoder knows better than the training crops: the splits are exchanged, and nothing is passed."""
    with pytest.raises(CheckError, match="are the splits exchanged"):
        measured(control("memorised-its-images"), members="test", held_out="train")


def test_a_crop_that_is_public_is_refused() -> None:
    """A crop that is its own neighbour, or that the reference learned from, looks memorised: the message names the split."""
    train = tiny().split("train").take(range(40))
    for split in ("public", "public_crops"):
        with pytest.raises(CheckError, match=f'are also in "{split}"'):
            measured(tiny({split: train}), k=5)


def test_training_images_among_the_public_ones_look_memorised() -> None:
    """Why public images must not be training images: an encoder that was never trained finds the source of each crop, and fails."""
    world = World(torch.Generator().manual_seed(0))
    train, held_out, others = (world.draw(300) for _ in range(3))
    data = {"train": cropped(train), "test": cropped(held_out), "public": train, "public_crops": cropped(others)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(144, 64))
    subject = Subject("untrained", "image-feature-extraction", encoder.eval(), data)
    interval = judge.interval_of(series(measured(subject, k=1, blind_blocks=2), "deja_vu_excess"), 0.95)
    assert interval.low > 0.1


def test_splits_that_share_crops_are_refused() -> None:
    """A training crop among the held-out ones hides what was memorised."""
    with pytest.raises(CheckError, match="overlap"):
        measured(tiny({"test": tiny().split("train").take(range(40))}), k=5)


def test_public_data_that_cannot_be_used_is_refused() -> None:
    """Fewer images than neighbours, one label, or one representation for all: each is named."""
    public = tiny().split("public").take(range(60))
    with pytest.raises(CheckError, match="fewer than the 100 neighbours"):
        measured(tiny())
    for split in ("public", "public_crops"):
        with pytest.raises(CheckError, match=rf'"{split}" have the label 0; at least two are needed'):
            measured(tiny({split: (public[0], torch.zeros(60))}), k=5)
    with pytest.raises(CheckError, match="the same representation; does it read its input"):
        measured(tiny(model=Constant()), k=5)


def test_labels_that_no_public_image_has_are_refused() -> None:
    """Crops whose labels are numbered otherwise could never be named, and a test that cannot succeed would pass: it is refused."""
    crops, labels = tiny().split("train").take(range(40))
    with pytest.raises(CheckError, match="have labels that no public image has"):
        measured(tiny({"train": (crops, labels + 1)}), k=5)


class Constant(nn.Module):
    """The same vector for every image."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.ones(len(images), 3)


def test_it_applies_to_encoders_only() -> None:
    """A classifier is told what the check is for, and an encoder without a reference model that it needs one."""
    classifier = Subject("classifier", "image-classification", nn.Flatten().eval(), {"test": tiny().split("test")})
    assert "image-feature-extraction" in DejaVu().not_applicable(classifier)
    assert DejaVu().not_applicable(tiny()) == ""
    assert "reference" in DejaVu(reference="model").not_applicable(tiny())
    assert DejaVu(reference="model").splits() == ("train", "test", "public")


def test_a_split_cannot_stand_for_two() -> None:
    """Members, held-out and public data are different splits."""
    with pytest.raises(ValidationError, match="must be different splits"):
        DejaVu(held_out="train")


def test_a_crop_shows_nothing_of_the_foreground() -> None:
    """The controls' crops are zero where the foreground was, and nowhere else."""
    images = torch.ones(2, 1, 12, 12)
    crops, _ = cropped((images, torch.zeros(2)))
    assert crops.sum() == 2 * (144 - 36)
    assert images.sum() == 288

"""The blind classifier: what it must find, what it must not find, and that its evidence is counted once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB
from torch import Tensor, nn

from method_cards.intervals import delong
from method_cards.intervals.interval import Interval
from method_cards.subject import Subject
from method_checks.memorization.controls.language_models import part
from method_checks.memorization.groups.blind import (
    LIMIT,
    VOCABULARY,
    WIDTH,
    Examples,
    _naive_bayes,
    blind_scores,
    contents_of,
    examples_of,
)

DIGITS = load_digits()


def area(members: Examples, non_members: Examples, seed: int = 0) -> Interval:
    blocks = list(blind_scores(members, non_members, 8, seed))
    return delong(np.concatenate([first for first, _ in blocks]), np.concatenate([second for _, second in blocks]))


def digits(seed: int, *, file_order: bool = False) -> tuple[Examples, Examples]:
    rng = np.random.default_rng(seed)
    half = len(DIGITS.target) // 2
    order = np.arange(2 * half) if file_order else rng.permutation(2 * half)
    halves = (rng.permutation(order[:half]), rng.permutation(order[half:]))
    first, second = (Examples(DIGITS.data[part] / 16, DIGITS.target[part].astype(np.int64)) for part in halves)
    return first, second


def subject_of(inputs: Any, task: str, labels: Tensor | None = None, **options: Any) -> Subject:
    count = len(next(iter(inputs.values()))) if isinstance(inputs, dict) else len(inputs)
    targets = torch.zeros(count, dtype=torch.long) if labels is None else labels
    return Subject("seen", task, nn.Identity().eval(), {"data": (inputs, targets)}, **options)


def test_halves_of_one_distribution_look_alike() -> None:
    """On random halves of one data set no interval lies above the gate's bound, and most hold one half."""
    found = [area(*digits(seed)) for seed in range(8)]
    assert all(interval.low < 0.55 for interval in found)
    assert sum(interval.low <= 0.5 <= interval.high for interval in found) >= 6


@pytest.mark.parametrize("shift", ["file order", "brightness", "sensor noise", "labels", "label noise"])
def test_finds_planted_shifts(shift: str) -> None:
    """The order of the digits file, 5 % more light, a little noise, other class frequencies and labels that were spoiled after the split are found."""
    rng = np.random.default_rng(1)
    first, second = digits(1, file_order=shift == "file order")
    if shift == "brightness":
        second = Examples(second.features * 1.05, second.labels)
    elif shift == "sensor noise":
        second = Examples(second.features + 0.03 * rng.normal(size=second.features.shape), second.labels)
    elif shift == "labels":
        keep = rng.random(len(second)) < np.linspace(0.2, 1, 10)[second.labels]
        second = Examples(second.features[keep], second.labels[keep])
    elif shift == "label noise":
        first = Examples(
            first.features, np.where(rng.random(len(first)) < 0.4, rng.integers(0, 10, len(first)), first.labels)
        )
    assert area(first, second).low > 0.52


def test_a_word_gives_texts_away() -> None:
    """A token that stands in a third of the members and in no other text is found among fifty others."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, 30_000, (1200, 50), generator=generator)
    ids[:200, 7] = 2023
    order = torch.cat([torch.randperm(600, generator=generator), 600 + torch.randperm(600, generator=generator)])
    subject = subject_of({"input_ids": ids[order]}, "text-generation")
    seen = examples_of(subject, subject.batch("data", range(1200)))
    members, non_members = (Examples(seen.features[part], seen.labels[part]) for part in (slice(600), slice(600, None)))
    assert area(members, non_members).low > 0.53


def test_the_order_of_words_gives_texts_away() -> None:
    """Non-members of the same words, in which three in ten have their words shuffled, are found; their counts alone tell nothing."""
    generator = torch.Generator().manual_seed(0)
    ids = part(3, 1, 1600)["input_ids"]
    mask = part(3, 1, 1600)["attention_mask"]
    shuffled = ids.clone()
    for row, length in enumerate(mask.sum(1).tolist()):
        shuffled[row, 1:length] = ids[row, 1 + torch.randperm(length - 1, generator=generator)]
    is_changed = torch.arange(1600) >= 800
    is_changed &= torch.rand(1600, generator=generator) < 0.3
    subject = subject_of(
        {"input_ids": torch.where(is_changed[:, None], shuffled, ids), "attention_mask": mask}, "text-generation"
    )
    seen = examples_of(subject, subject.batch("data", range(1600)))
    assert seen.pairs is not None
    halves = (slice(800), slice(800, None))
    members, non_members = (Examples(seen.features[half], seen.labels[half], seen.pairs[half]) for half in halves)
    assert area(members, non_members).low > 0.55
    members, non_members = (Examples(group.features, group.labels) for group in (members, non_members))
    assert area(members, non_members).low < 0.5


def test_pairs_of_texts_of_one_language_look_alike() -> None:
    """On two draws of one language no interval lies above the gate's bound, and most hold one half."""
    found = []
    for seed in range(4):
        first, second = (subject_of(part(seed, number, 250), "text-generation") for number in (1, 2))
        seen = [examples_of(each, each.batch("data", range(250))) for each in (first, second)]
        found.append(area(seen[0], seen[1]))
    assert all(interval.low < 0.55 for interval in found)
    assert sum(interval.low <= 0.5 <= interval.high for interval in found) >= 3


def test_pairs_are_those_of_scikit_learn() -> None:
    """Counts of neighbouring tokens are scikit-learn's bigram counts, its naive Bayes classifier ranks texts alike, and gaps make no pairs."""
    ids = torch.randint(1, 9, (60, 7), generator=torch.Generator().manual_seed(0))
    subject = subject_of({"input_ids": ids}, "text-generation")
    pairs = examples_of(subject, subject.batch("data", range(60))).pairs
    counts = CountVectorizer(ngram_range=(2, 2), token_pattern=r"\S+").fit_transform(
        " ".join(map(str, row)) for row in ids.tolist()
    )
    assert pairs is not None
    used = pairs[:, pairs.sum(0) > 0]
    assert sorted(map(tuple, used.T)) == sorted(map(tuple, counts.toarray().T)), "no two of these 64 share a place"
    is_member = np.arange(60) < 30
    chances = MultinomialNB().fit(pairs, is_member).predict_log_proba(pairs)
    np.testing.assert_allclose(
        _naive_bayes(pairs, is_member, pairs), chances[:, 1] - chances[:, 0], rtol=1e-6, atol=1e-6
    )
    gap = {"input_ids": torch.tensor([[3, 4, 5]]), "attention_mask": torch.tensor([[1, 0, 1]])}
    apart = subject_of(gap, "text-generation")
    assert examples_of(apart, apart.batch("data", [0])).pairs is not None
    assert not np.any(examples_of(apart, apart.batch("data", [0])).pairs)


def test_scores_do_not_depend_on_who_is_a_member_later() -> None:
    """Exchanging members and non-members of the last block leaves the scores of all earlier blocks as they were."""
    first, second = digits(2)
    last = np.arange(len(first)) * 8 // len(first) == 7
    swapped_first = Examples(
        np.where(last[:, None], second.features, first.features), np.where(last, second.labels, first.labels)
    )
    swapped_second = Examples(
        np.where(last[:, None], first.features, second.features), np.where(last, first.labels, second.labels)
    )
    before, after = list(blind_scores(first, second, 8, 0)), list(blind_scores(swapped_first, swapped_second, 8, 0))
    assert len(before) == 7
    for (members, others), (members_again, others_again) in zip(before[:-1], after[:-1], strict=True):
        np.testing.assert_array_equal(members, members_again)
        np.testing.assert_array_equal(others, others_again)
    np.testing.assert_array_equal(before[-1][0], after[-1][1])


def test_the_same_seed_gives_the_same_scores() -> None:
    """Scores follow from the examples and the seed alone."""
    first, second = digits(3)
    once, again = (
        np.concatenate([np.concatenate(pair) for pair in blind_scores(first, second, 4, 5)]) for _ in range(2)
    )
    np.testing.assert_array_equal(once, again)


def test_groups_of_other_sizes_are_cut_to_the_smaller_one() -> None:
    """As many members as non-members are scored, so that no classifier gains from guessing the larger group."""
    first, second = digits(4)
    small = Examples(second.features[:200], second.labels[:200])
    scored = list(blind_scores(first, small, 4, 0))
    assert [len(members) for members, _ in scored] == [len(others) for _, others in scored] == [50, 50, 50]


def test_hardly_any_examples_give_few_scores_and_no_error() -> None:
    """One example a side is for training only, and scores nothing; two a side score one pair."""
    first, second = digits(5)
    for size, blocks in ((1, 0), (2, 1)):
        groups = [Examples(group.features[:size], group.labels[:size]) for group in (first, second)]
        assert len(list(blind_scores(groups[0], groups[1], 8, 0))) == blocks


def test_many_examples_are_cut_at_the_limit() -> None:
    """Beyond its limit the classifier looks at no further examples."""
    rng = np.random.default_rng(0)
    groups = [Examples(rng.normal(size=(LIMIT + 100, 2)), np.zeros(LIMIT + 100, dtype=np.int64)) for _ in range(2)]
    assert sum(len(members) for members, _ in blind_scores(groups[0], groups[1], 2, 0)) == LIMIT // 2


@pytest.mark.parametrize("shape", [(3, 224, 224), (1, 8, 8), (12,), (1000,), (30, 40)])
def test_examples_become_rows_of_bounded_width(shape: tuple[int, ...]) -> None:
    """Pictures, tables and series of any size become a bounded number of finite features, each row from its own example alone."""
    inputs = torch.randn(6, *shape, generator=torch.Generator().manual_seed(0))
    inputs[0].view(-1)[:2] = torch.tensor([float("nan"), float("inf")])
    subject = subject_of(inputs, "image-classification" if len(shape) == 3 else "tabular-classification")
    together = examples_of(subject, subject.batch("data", range(6)))
    alone = examples_of(subject, subject.batch("data", [4]))
    assert together.features.shape[1] <= WIDTH + 4
    assert np.isfinite(together.features).all()
    np.testing.assert_allclose(together.features[4], alone.features[0], rtol=1e-4, atol=1e-5)


def test_named_inputs_are_all_seen() -> None:
    """Of a dict of tensors every tensor is described, whole numbers among them."""
    subject = subject_of({"b": torch.arange(8).reshape(4, 2), "a": torch.ones(4, 3)}, "tabular-classification")
    seen = examples_of(subject, subject.batch("data", range(4)))
    np.testing.assert_array_equal(seen.features[1], [1, 1, 1, 2, 3])


def test_padding_leaves_no_trace() -> None:
    """A text has the same features and the same content however far its batch is padded, so that batches do not give members away."""
    ids = torch.tensor([[5, 6, 7], [5, 6, 0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    longer = {
        "input_ids": torch.cat([ids, torch.zeros(2, 4, dtype=torch.long)], 1),
        "attention_mask": torch.cat([mask, torch.zeros(2, 4, dtype=torch.long)], 1),
    }
    short, long = (
        subject_of(inputs, "text-classification") for inputs in ({"input_ids": ids, "attention_mask": mask}, longer)
    )
    first, second = (each.batch("data", [0, 1]) for each in (short, long))
    np.testing.assert_array_equal(examples_of(short, first).features, examples_of(long, second).features)
    np.testing.assert_array_equal(examples_of(short, first).pairs, examples_of(long, second).pairs)
    assert examples_of(short, first).features.shape[1] == VOCABULARY + 1
    assert contents_of(short, first) == contents_of(long, second)
    assert contents_of(short, first)[0] != contents_of(short, first)[1]


def test_equal_inputs_have_equal_contents() -> None:
    """Contents are equal exactly where inputs are, for tables, pictures and named tensors of any type."""
    for inputs in (
        torch.eye(3),
        torch.eye(3).reshape(3, 1, 1, 3).to(torch.bfloat16),
        torch.eye(3).reshape(3, 1, 1, 3).permute(0, 3, 2, 1),
        {"a": torch.eye(3).bool(), "b": torch.zeros(3, 1)},
    ):
        subject = subject_of(inputs, "tabular-classification")
        first, second = (
            contents_of(subject, subject.batch("data", [0, 1, 2])),
            contents_of(subject, subject.batch("data", [2, 0])),
        )
        assert len(set(first)) == 3
        assert second == [first[2], first[0]]

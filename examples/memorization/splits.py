"""The data of the example: digits, breast cancer, and sentences of an invented language with canaries among them.

Everything that is done to the data is done before it is split, label noise too: an attack must not be able to read the treatment.
"""

from __future__ import annotations

from functools import cache

import torch
from sklearn.datasets import load_breast_cancer, load_digits
from torch import Tensor

Table = tuple[Tensor, Tensor]

NOISE = 0.15
"""The share of labels that are replaced by random ones: what only a model that memorises can learn."""

WORDS = 64
"""How many words the invented language has; canaries are made of these too."""

LENGTH = 24
"""Words of each sentence."""

SECRET = 4
"""The last words of a canary, drawn at random."""

DIGITS = 10
"""The first so many words stand for digits: secrets are made of them."""


@cache
def _digits() -> Table:
    loaded = load_digits()
    return _shuffled(torch.tensor(loaded.images, dtype=torch.float32)[:, None] / 16, torch.tensor(loaded.target), 1)


@cache
def _cancer() -> Table:
    loaded = load_breast_cancer()
    rows = torch.tensor(loaded.data, dtype=torch.float32)
    return _shuffled((rows - rows.mean(0)) / rows.std(0), torch.tensor(loaded.target), 2)


def _shuffled(inputs: Tensor, targets: Tensor, seed: int) -> Table:
    """In random order, since the files are sorted by who wrote or measured, and with noisy labels."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(targets), generator=generator)
    inputs, targets = inputs[order], targets[order]
    noisy = torch.rand(len(targets), generator=generator) < NOISE
    return inputs, torch.where(
        noisy, torch.randint(int(targets.max()) + 1, targets.shape, generator=generator), targets
    )


def digits_train() -> Table:
    """Members."""
    inputs, targets = _digits()
    return inputs[:898], targets[:898]


def digits_test() -> Table:
    """Non-members."""
    inputs, targets = _digits()
    return inputs[898:], targets[898:]


def cancer_train() -> Table:
    """Members."""
    inputs, targets = _cancer()
    return inputs[:284], targets[:284]


def cancer_test() -> Table:
    """Non-members."""
    inputs, targets = _cancer()
    return inputs[284:], targets[284:]


@cache
def _sentences() -> Tensor:
    """3,000 sentences ``(sentence, word)`` of a Markov chain: each word is followed by one of few."""
    generator = torch.Generator().manual_seed(3)
    logits = 2.0 * torch.randn(WORDS, WORDS, generator=generator)
    follows = logits.softmax(1)
    words = [torch.randint(WORDS, (3000,), generator=generator)]
    for _ in range(LENGTH - 1):
        words.append(torch.multinomial(follows[words[-1]], 1, generator=generator)[:, 0])
    return torch.stack(words, dim=1)


@cache
def _all_canaries() -> Tensor:
    """300 sentences, each ending in its own secret, of which the first 150 are trained on."""
    generator = torch.Generator().manual_seed(4)
    canaries = _sentences()[2700:].clone()
    canaries[:, -SECRET:] = torch.randint(DIGITS, (300, SECRET), generator=generator)
    return canaries


def _texts(ids: Tensor) -> Table:
    return ids, torch.zeros(len(ids), dtype=torch.long)


def text_train() -> Table:
    """Members: 850 sentences and 150 canaries, once each."""
    return _texts(torch.cat([_sentences()[:850], _all_canaries()[:150]]))


def text_test() -> Table:
    """Non-members, with as many canaries that were not inserted."""
    return _texts(torch.cat([_sentences()[850:1700], _all_canaries()[150:]]))


def text_other() -> Table:
    """What the reference model is trained on."""
    return _texts(_sentences()[1700:2700])


def canaries() -> Table:
    """Canaries that were trained on."""
    return _texts(_all_canaries()[:150])


def controls() -> Table:
    """Canaries that were not."""
    return _texts(_all_canaries()[150:])

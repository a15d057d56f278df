"""The data of the example: scikit-learn's 1,797 digits, one half to train on and one half that the models never see."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits


def _all() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images in [0, 1] ``(n, 1, 8, 8)``, classes ``(n,)``, and a fixed random order."""
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    # The file is sorted by writer: without a shuffle, the halves would differ in who wrote them.
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))
    return images[order], torch.tensor(data.target)[order], order


def train() -> tuple[torch.Tensor, torch.Tensor]:
    """The examples that the models are trained on."""
    images, targets, _ = _all()
    return images[:900], targets[:900]


def test() -> tuple[torch.Tensor, torch.Tensor]:
    """The examples that no model is trained on."""
    images, targets, _ = _all()
    return images[900:], targets[900:]


def noisy_train() -> tuple[torch.Tensor, torch.Tensor]:
    """The training half, a fifth of its labels replaced by random ones."""
    return _with_noise(*train())


def noisy_test() -> tuple[torch.Tensor, torch.Tensor]:
    """The other half with the same share of random labels: what a fair comparison with `noisy_train` needs."""
    return _with_noise(*test())


def _with_noise(images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(int(targets.sum()))
    noisy = torch.rand(len(targets), generator=generator) < 0.2  # noqa: PLR2004  (a fifth)
    return images, torch.where(noisy, torch.randint(10, targets.shape, generator=generator), targets)

"""A small recogniser of obfuscated images: a discriminant analysis or near neighbours, whichever does better on its own data."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from method_cards.errors import CheckError

if TYPE_CHECKING:
    from torch import Tensor

Floats: TypeAlias = NDArray[np.float64]

COMPONENTS = 64
"""How many principal components of an image are looked at."""

FOLDS = 3
"""In how many parts the training images are cut to choose between the classifiers."""


class Recogniser:
    """From images to labels.

    Args:
        images: ``(sample, channel, height, width)``.
        labels: ``(sample,)``.
        split: Where they come from, for messages.

    Raises:
        CheckError: There is one label only, or one with fewer images than folds.
    """

    def __init__(self, images: Tensor, labels: Tensor, split: str) -> None:
        from sklearn.decomposition import PCA
        from sklearn.model_selection import StratifiedKFold, cross_val_score
        from threadpoolctl import threadpool_limits

        rows, wanted = _rows(images), labels.cpu().numpy()
        kinds, counts = np.unique(wanted, return_counts=True)
        if len(kinds) == 1:
            raise CheckError(
                f'all {len(wanted)} images of "{split}" have the label {kinds[0]}; at least two are needed'
            )
        if counts.min() < FOLDS:
            raise CheckError(
                f'label {kinds[counts.argmin()]} has {counts.min()} images in "{split}"; a recogniser needs at least {FOLDS} of each'
            )
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # constant columns and close scores are no concern of the user
            self._components: Any = PCA(min(COMPONENTS, rows.shape[1], len(rows) - 1), svd_solver="full")
            rows = self._components.fit_transform(rows)
            candidates = _candidates()
            scores = [cross_val_score(each, rows, wanted, cv=folds).mean() for each in candidates]
            self._classifier: Any = candidates[int(np.argmax(scores))].fit(rows, wanted)
        self.constant = kinds[counts.argmax()]

    def right(self, images: Tensor, labels: Tensor) -> Floats:
        """Whether each image is given its label, 0 or 1, ``(batch,)``."""
        return np.asarray(
            self._classifier.predict(self._components.transform(_rows(images))) == labels.cpu().numpy(),
            dtype=np.float64,
        )

    def right_by_guessing(self, labels: Tensor) -> Floats:
        """Whether the most frequent label of the training images is right, 0 or 1, ``(batch,)``."""
        return np.asarray(labels.cpu().numpy() == self.constant, dtype=np.float64)


def _rows(images: Tensor) -> Floats:
    return np.asarray(images.flatten(1).double().cpu().numpy())


def _candidates() -> tuple[Any, Any]:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.neighbors import KNeighborsClassifier

    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"), KNeighborsClassifier(3)

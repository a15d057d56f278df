"""What the background tells of the foreground in the data at large, for whoever has no encoder: a classifier of crops."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from method_cards.errors import CheckError
from method_checks.memorization.groups.blind import examples_of
from method_checks.memorization.representations.neighbours import digests

if TYPE_CHECKING:
    from collections.abc import Sequence

    from method_cards.data import Batch
    from method_cards.subject import Subject

Floats: TypeAlias = NDArray[np.float64]


class CropClassifier:
    """Logistic regression from the pooled pixels of a crop to the label of its foreground.

    Args:
        subject: Gives the crops; its model is not called.
        split: Crops of images that the model under check was not trained on, with labels.
        indices: Which of them are used.

    Raises:
        CheckError: All have one label.
    """

    def __init__(self, subject: Subject, split: str, indices: Sequence[int]) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from threadpoolctl import threadpool_limits

        starts = range(0, len(indices), subject.block)
        batches = [subject.batch(split, indices[start : start + subject.block]) for start in starts]
        self.digests = [digest for batch in batches for digest in digests(subject, batch)]
        parts = [examples_of(subject, batch) for batch in batches]
        labels = np.concatenate([part.labels for part in parts])
        if len(np.unique(labels)) == 1:
            raise CheckError(
                f'all {len(labels)} crops of "{split}" have the label {labels[0]}; at least two are needed'
            )
        self._subject = subject
        self._classifier: Any = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fit that stops short of convergence is a reference like any other
            self._classifier.fit(np.concatenate([part.features for part in parts]), labels)

    def right(self, batch: Batch) -> Floats:
        """Whether the label of each crop of a batch is named rightly, 0 or 1, ``(batch,)``."""
        found = examples_of(self._subject, batch)
        return np.asarray(self._classifier.predict(found.features) == found.labels, dtype=np.float64)

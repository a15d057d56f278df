"""A logistic regression that tells members from non-members, and scores only examples that it was not trained on."""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterator

Floats = NDArray[np.float64]


def forward_scores(members: Floats, non_members: Floats, blocks: int) -> Iterator[tuple[slice, Floats, Floats]]:
    """Score each block of examples by a classifier that was trained on the blocks before it.

    Cross-validation would use each example for training and for testing; the interval of the area does not know that, and is too narrow.

    Args:
        members: Features ``(sample, feature)``, in random order.
        non_members: The same of the other group; what the larger group has more is left out.
        blocks: In how many blocks both groups are cut. The first is for training only.

    Yields:
        Which rows of both groups a block is, and scores of its members and of its non-members in (0, 1): ranks within the block, which
        makes blocks comparable.
    """
    from scipy.stats import rankdata
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    size = min(len(members), len(non_members))
    edges = [size * number // blocks for number in range(blocks + 1)]
    for start, stop in pairwise(edges):
        if not start or start == stop:
            continue
        train = np.concatenate([members[:start], non_members[:start]])
        test = np.concatenate([members[start:stop], non_members[start:stop]])
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fit that stops short of convergence scores as well as any
            classifier.fit(train, np.repeat([True, False], start))
            ranks = (rankdata(classifier.decision_function(test)) - 0.5) / len(test)
        yield slice(start, stop), ranks[: stop - start], ranks[stop - start :]

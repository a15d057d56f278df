"""Whether examples come in groups of near-copies, so that no half of them tells anything new about the other.

Where density is even around an example, the next neighbour is as a rule hardly farther away than the last one: of d dimensions, the
distance to the neighbour after the k-th is more than f times that to the k-th with probability f^(-dk). Around a near-copy there
is a gap: its copies are near, and all else is far.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

COPIES = 64
"""How many copies of one example are recognised at most."""

GAP = 4.0
"""How many times farther all other examples are than the copies. By chance this is so for at most 1 / (4^d - 1) of examples."""


def has_copies(embeddings: Floats) -> Flags:
    """Whether an example has neighbours that are far nearer than all others, ``(example,)``; none where fewer than three differ.

    Args:
        embeddings: ``(example, dimension)``. Equal ones are one example: exact copies stand in one half and do no harm.
    """
    from sklearn.neighbors import NearestNeighbors
    from threadpoolctl import threadpool_limits

    distinct, place = np.unique(np.asarray(embeddings, dtype=np.float64), axis=0, return_inverse=True)
    count = min(COPIES + 1, len(distinct) - 1)
    if count < 2:  # noqa: PLR2004  (a gap lies between two neighbours)
        return np.zeros(0, dtype=np.bool_)
    with threadpool_limits(1):
        distances, _ = NearestNeighbors(n_neighbors=count).fit(distinct).kneighbors()
    gaps: Flags = (distances[:, 1:] > GAP * distances[:, :-1]).any(1)
    return gaps[place.reshape(-1)]

"""Slices within predicted classes, found by k-means, and the worst of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

COMPONENTS = 16
"""In how many principal components examples are compared at most."""

LEAST = 10
"""How many examples a slice has on average at least: smaller classes are cut into fewer."""


@dataclass(frozen=True)
class Slices:
    """A partition of all examples: each belongs to the nearest centre of its predicted class.

    Attributes:
        mean: What is subtracted from embeddings, ``(feature,)``.
        axes: Onto what they are projected, ``(feature, component)``.
        centres: ``(slice, component)``.
        predicted: The class that the examples of each slice are predicted to be, ``(slice,)``.
        nearest: The number of the example that is nearest to each centre, ``(slice,)``.
    """

    mean: Floats
    axes: Floats
    centres: Floats
    predicted: Integers
    nearest: Integers

    def places(self, embeddings: Floats) -> Floats:
        """Where examples lie, ``(example, component)``."""
        return np.asarray((embeddings - self.mean) @ self.axes, dtype=np.float64)

    def of(self, embeddings: Floats, predicted: Integers) -> Integers:
        """The slice of each example, ``(example,)``; -1 where its predicted class was never seen.

        Args:
            embeddings: ``(example, feature)``.
            predicted: ``(example,)``.
        """
        places = self.places(embeddings)
        slices = np.full(len(predicted), -1)
        for label in np.unique(predicted):
            rows, numbers = np.flatnonzero(predicted == label), np.flatnonzero(self.predicted == label)
            if numbers.size:
                distances = ((places[rows, None] - self.centres[numbers]) ** 2).sum(2)
                slices[rows] = numbers[distances.argmin(1)]
        return slices


def found(embeddings: Floats, predicted: Integers, slices: int, seed: int, *, whiten: bool) -> Slices:
    """Cut each predicted class into so many slices.

    Args:
        embeddings: Without labels in them, ``(example, feature)``.
        predicted: ``(example,)``.
        slices: In how many each class is cut; fewer where a slice would have fewer than `LEAST` examples.
        seed: Of k-means.
        whiten: Whether principal components are scaled to one variance.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    mean = embeddings.mean(0)
    axes = _components(embeddings - mean, whiten=whiten)
    places = (embeddings - mean) @ axes
    centres, classes, nearest = [], [], []
    for label in np.unique(predicted):
        rows = np.flatnonzero(predicted == label)
        count = max(1, min(slices, len(rows) // LEAST, len(np.unique(places[rows], axis=0))))
        with threadpool_limits(1):
            fitted = KMeans(count, n_init=4, random_state=seed % 2**32).fit(places[rows])
        centres.append(fitted.cluster_centers_)
        classes += [int(label)] * count
        nearest += [int(rows[part]) for part in fitted.transform(places[rows]).argmin(0)]
    return Slices(mean, axes, np.concatenate(centres), np.array(classes), np.array(nearest))


def _components(centred: Floats, *, whiten: bool) -> Floats:
    """The principal directions of the largest variance, ``(feature, component)``; divided by its root where whitened."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))
    variances, directions = variances[::-1][:COMPONENTS], directions[:, ::-1][:, :COMPONENTS]
    kept = variances > 1e-12 * variances[0]
    kept[0] = True  # where all embeddings are the same, one direction in which they are
    scale = np.sqrt(variances[kept]) if whiten and variances[0] > 0 else 1.0
    return np.asarray(directions[:, kept] / scale, dtype=np.float64)


def worst(slices: Integers, predicted: Integers, stratum: Integers, wrong: Flags, share: float) -> list[int]:
    """The slices with the most errors in excess of their strata, until they hold a share of the examples.

    Excesses of small slices are shrunk by `LEAST` imagined examples without any. A slice that would bring more than half of its class
    among the worst is passed over: there would be too little left to compare it with.

    Args:
        slices: The slice of each example, ``(example,)``.
        predicted: Its predicted class.
        stratum: The examples that it is compared with.
        wrong: Whether it is an error.
        share: Of all examples.
    """
    rates = {label: wrong[stratum == label].mean() for label in np.unique(stratum)}
    surplus = wrong - np.array([rates[label] for label in stratum])
    numbers = [int(number) for number in np.unique(slices[slices >= 0])]
    excess = {number: surplus[slices == number].sum() / ((slices == number).sum() + LEAST) for number in numbers}
    chosen: list[int] = []
    for number in sorted(numbers, key=lambda number: (-excess[number], number)):
        own = predicted == predicted[slices == number][0]
        if 2 * (own & np.isin(slices, [*chosen, number])).sum() > own.sum():
            continue
        chosen.append(number)
        if np.isin(slices, chosen).sum() >= share * slices.size:
            break
    return chosen

"""Measurements are finite, within their range, and add up batch by batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from method_cards.errors import CheckError
from method_cards.measurement import Exact, Measurements, PerSample, Pictures, Quantity, Series, TwoGroups
from tests.helpers import COUNT, LEVEL, ONES, SEPARATION, pictures

NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize("value", [NAN, INFINITY, -INFINITY])
def test_no_measurement_is_ever_nan_or_infinite(value: float) -> None:
    """Whatever kind it is, it is refused when it is made, with its name and how many values are bad."""
    makers: list[Any] = [
        lambda: Exact("a", value=value),
        lambda: PerSample("a", values=[0.5, value]),
        lambda: TwoGroups("a", positives=[value], negatives=[0.0]),
        lambda: TwoGroups("a", positives=[0.0], negatives=[value]),
    ]
    for maker in makers:
        with pytest.raises(CheckError, match='"a" holds 1 values that are NaN or infinite'):
            maker()


@pytest.mark.parametrize("value", [-0.01, 1.01])
def test_a_value_outside_its_range_is_refused(value: float) -> None:
    """The message names the measurement, what it was, and what it may be."""
    with pytest.raises(CheckError, match="outside its range 0 to 1"):
        LEVEL.per_sample([0.5, value])
    with pytest.raises(CheckError, match="outside its range 0 to inf"):
        COUNT.exact(-1)


def test_a_proportion_is_of_zeros_and_ones() -> None:
    """A share of ones cannot be taken of anything else."""
    with pytest.raises(CheckError, match="not all of its values are 0 or 1"):
        ONES.per_sample([0.0, 0.5])
    assert np.asarray(ONES.per_sample(np.array([True, False])).values).tolist() == [1.0, 0.0]


def test_values_are_flat_and_cannot_be_changed() -> None:
    """Whatever shape a check hands over, one number for each sample is kept, and nobody can change it afterwards."""
    values = np.asarray(LEVEL.per_sample(np.full((2, 3), 0.5, dtype=np.float32)).values)
    assert values.shape == (6,)
    assert values.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 1


def test_the_array_of_a_check_stays_its_own() -> None:
    """Handing an array over does not freeze it for the check, and changing it later does not change the measurement."""
    mine = np.full(3, 0.5)
    measurement = LEVEL.per_sample(mine)
    mine[0] = 1.0
    assert np.asarray(measurement.values).tolist() == [0.5, 0.5, 0.5]


def test_series_gather_batches_in_order() -> None:
    """Values of one name and breakdown are joined in the order in which they came; a later exact value replaces an earlier one."""
    found = Measurements()
    for values, stage in (([0.1, 0.2], 1), ([0.9], 2), ([0.3], 1)):
        found.add(LEVEL.per_sample(values, stage=stage))
    found.add(COUNT.exact(1))
    found.add(COUNT.exact(2))
    found.add(SEPARATION.two_groups([1.0], [2.0, 3.0]))
    found.add(SEPARATION.two_groups([4.0], []))
    assert {series.label: series.values.tolist() for series in found} == {
        "level (stage 1)": [0.1, 0.2, 0.3], "level (stage 2)": [0.9], "count": [2.0], "separation": [1.0, 4.0],
    }  # fmt: skip
    (separation,) = found.select("separation", {})
    assert (separation.negatives.tolist(), separation.n) == ([2.0, 3.0], 2)
    assert [series.by["stage"] for series in found.select("level", {"stage": 2})] == [2]


@pytest.mark.parametrize(
    ("quantity", "kind"), [(COUNT.exact(1), "exact"), (ONES.per_sample([1.0]), "proportion"), (LEVEL.per_sample([1.0]), "mean"), (SEPARATION.two_groups([1.0], [1.0]), "auc")]
)  # fmt: skip
def test_a_quantity_yields_its_own_kind(quantity: Any, kind: str) -> None:
    """What a quantity makes is of the kind that it declares."""
    assert Series.of(quantity).kind == kind


def test_a_quantity_gives_its_unit_and_range() -> None:
    """Unit, range and breakdown are written once, in the quantity."""
    loss = Quantity("loss", "mean", "the loss", unit="nats", range=(0.0, 10.0), by=("split",)).per_sample(
        [2.0], split="test"
    )
    assert (loss.unit, loss.range, loss.by) == ("nats", (0.0, 10.0), {"split": "test"})


def test_pictures_are_whole() -> None:
    """As many titles as arrays, finite values, and a name that can be the name of a file."""
    with pytest.raises(CheckError, match="arrays for 2 rows"):
        Pictures("maps", "c", ("a",), ("one", "two"), np.zeros((1, 1, 2, 2), dtype=np.float32), (True,))
    with pytest.raises(CheckError, match="NaN or infinite"):
        Pictures("maps", "c", ("a",), ("one",), np.full((1, 1, 2, 2), np.nan, dtype=np.float32), (True,))
    for shape in ((), (0,), (4, 0), (4, 4, 3)):
        with pytest.raises(CheckError, match="neither a height and width nor a number of positions"):
            Pictures("maps", "c", ("a",), ("one",), np.zeros((1, 1, *shape), dtype=np.float32), (True,))
    for name in ("../maps", "a/b", "", "Maps", "a b", ".maps"):
        with pytest.raises(CheckError, match="snake_case"):
            pictures(name)

"""What a check yields: named, finite, bounded quantities, and pictures. No verdicts, no thresholds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from method_cards import display
from method_cards.errors import CheckError

Key: TypeAlias = tuple[str, tuple[tuple[str, str | int | float], ...]]
"""What tells one series from another: the name and the breakdown."""

Floats: TypeAlias = NDArray[np.float64]

Kind: TypeAlias = Literal["exact", "mean", "proportion", "auc"]

_SNAKE = re.compile(r"[a-z][a-z0-9_]*")


def _finite(name: str, values: ArrayLike, low: float, high: float) -> Floats:
    array = np.array(values, dtype=np.float64).reshape(-1)  # a copy: a check may use its own array again
    if not np.isfinite(array).all():
        raise CheckError(
            f'measurement "{name}" holds {int((~np.isfinite(array)).sum())} values that are NaN or infinite, of {array.size}'
        )
    if array.size and (array.min() < low or array.max() > high):
        raise CheckError(
            f'measurement "{name}" goes from {array.min():g} to {array.max():g}, outside its range {low:g} to {high:g}'
        )
    array.setflags(write=False)
    return array


@dataclass(frozen=True)
class _Named:
    """What all measurements have.

    Attributes:
        name: The quantity, snake_case, as cards refer to it.
        unit: Its unit; empty for pure numbers.
        range: The smallest and largest value it can take; infinities where it has no bound.
        by: What it is broken down by, such as ``{"stage": 1}``; empty for a total.
    """

    name: str
    unit: str = field(default="", kw_only=True)
    range: tuple[float, float] = field(default=(0.0, 1.0), kw_only=True)
    by: Mapping[str, str | int | float] = field(default_factory=dict, kw_only=True)

    _repr_mimebundle_ = display.mimebundle

    @property
    def key(self) -> Key:
        """The identity of the series that this measurement belongs to."""
        return self.name, tuple(sorted(self.by.items()))


@dataclass(frozen=True)
class Exact(_Named):
    """A quantity without sampling error, such as a count of layers.

    Attributes:
        value: The number, finite and within the range.
    """

    value: float = field(kw_only=True)

    def __post_init__(self) -> None:
        _finite(self.name, [self.value], *self.range)


@dataclass(frozen=True)
class PerSample(_Named):
    """One number for each independent example; what is judged is the mean (of zeros and ones: the proportion).

    Attributes:
        values: The numbers of this batch, ``(sample,)``.
        needs: How many examples must be drawn before there are values, where there are none yet; None where that is not the reason.
        binary: Whether they are zeros and ones, so that an exact interval for a proportion holds.
    """

    values: ArrayLike = field(kw_only=True)
    needs: int | None = None
    binary: bool = False

    def __post_init__(self) -> None:
        values = _finite(self.name, self.values, *self.range)
        if self.binary and not np.isin(values, (0.0, 1.0)).all():
            raise CheckError(f'measurement "{self.name}" is a proportion, but not all of its values are 0 or 1')
        object.__setattr__(self, "values", values)


@dataclass(frozen=True)
class TwoGroups(_Named):
    """A score for each example of two groups; what is judged is the AUC, the chance that a positive scores above a negative.

    Attributes:
        positives: Scores of this batch's examples of the first group, such as members.
        negatives: Scores of the second group, such as non-members.
    """

    positives: ArrayLike = field(kw_only=True)
    negatives: ArrayLike = field(kw_only=True)
    range: tuple[float, float] = field(default=(-np.inf, np.inf), kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "positives", _finite(self.name, self.positives, *self.range))
        object.__setattr__(self, "negatives", _finite(self.name, self.negatives, *self.range))


@dataclass(frozen=True)
class Pictures:
    """Arrays that are shown side by side: a row for each example, a column for each condition.

    Attributes:
        name: What they show, snake_case; the last one of a name is kept.
        caption: One sentence that says what to look for.
        columns: Titles of the columns.
        rows: Titles of the rows.
        values: ``(row, column, height, width)``, or ``(row, column, position)`` for maps over columns of a table or tokens.
        signed: For each column, whether zero is the middle of its colours (attributions) or not (images).
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    values: NDArray[np.float32]
    signed: tuple[bool, ...]

    _repr_mimebundle_ = display.mimebundle

    def __post_init__(self) -> None:
        if not _SNAKE.fullmatch(self.name):
            raise CheckError(f'pictures "{self.name}" must be named in snake_case: a file is named after them')
        if self.values.shape[:2] != (len(self.rows), len(self.columns)) or len(self.signed) != len(self.columns):
            raise CheckError(
                f'pictures "{self.name}": {self.values.shape[:2]} arrays for {len(self.rows)} rows and {len(self.columns)} columns'
            )
        if self.values.ndim not in (3, 4) or not self.values.size:
            raise CheckError(
                f'pictures "{self.name}": {self.values.shape[2:]} is neither a height and width nor a number of positions'
            )
        if not np.isfinite(self.values).all():
            raise CheckError(f'pictures "{self.name}" hold NaN or infinite values')


@dataclass(frozen=True)
class Quantity:
    """What a check declares that it measures: written once, used for documentation, for validating cards, and to yield.

    Attributes:
        name: snake_case, as cards refer to it.
        kind: ``exact``: one number without sampling error. ``mean``: one number for each example, judged by their mean.
            ``proportion``: zero or one for each example, judged by the share of ones. ``auc``: scores of two groups.
        meaning: One sentence for people.
        unit: Its unit; empty for pure numbers.
        range: The smallest and largest value; the mean of a quantity without bounds cannot be judged.
        by: The names of its breakdowns, such as ``("stage",)``.
    """

    name: str
    kind: Kind
    meaning: str
    unit: str = ""
    range: tuple[float, float] = (0.0, 1.0)
    by: tuple[str, ...] = ()

    def exact(self, value: float, **by: str | float) -> Exact:
        """This quantity as one number."""
        return Exact(self.name, value=value, unit=self.unit, range=self.range, by=by)

    def per_sample(self, values: ArrayLike, *, needs: int | None = None, **by: str | float) -> PerSample:
        """This quantity for the examples of one batch, ``(sample,)``; where there are none yet, how many must be drawn."""
        return PerSample(
            self.name,
            values=values,
            unit=self.unit,
            range=self.range,
            by=by,
            needs=needs,
            binary=self.kind == "proportion",
        )

    def two_groups(self, positives: ArrayLike, negatives: ArrayLike, **by: str | float) -> TwoGroups:
        """Scores of one batch of each of two groups."""
        return TwoGroups(self.name, positives=positives, negatives=negatives, unit=self.unit, by=by)


Measurement: TypeAlias = Exact | PerSample | TwoGroups
"""Anything that a criterion can be put on."""

Yielded: TypeAlias = Measurement | Pictures
"""Anything that a check yields."""


@dataclass
class Series:
    """All values of one measurement that a run has collected so far.

    Attributes:
        name: The quantity.
        kind: How it is judged.
        unit: Its unit.
        range: Its smallest and largest value.
        by: What it is broken down by.
        needs: How many examples must be drawn before there are values; None where that is not known.
    """

    name: str
    kind: Kind
    unit: str
    range: tuple[float, float]
    by: Mapping[str, str | int | float]
    needs: int | None = None
    _parts: list[Floats] = field(default_factory=list)
    _others: list[Floats] = field(default_factory=list)

    _repr_mimebundle_ = display.mimebundle

    @classmethod
    def of(cls, measurement: Measurement) -> Series:
        """An empty series for measurements like this one."""
        kind: Kind = "exact"
        if isinstance(measurement, PerSample):
            kind = "proportion" if measurement.binary else "mean"
        elif isinstance(measurement, TwoGroups):
            kind = "auc"
        return cls(measurement.name, kind, measurement.unit, measurement.range, dict(measurement.by))

    def add(self, measurement: Measurement) -> None:
        """Take in what one batch adds; a later exact value replaces an earlier one."""
        if isinstance(measurement, Exact):
            self._parts = [np.array([measurement.value])]
        elif isinstance(measurement, PerSample):
            self._parts.append(np.asarray(measurement.values))
            self.needs = measurement.needs
        else:
            self._parts.append(np.asarray(measurement.positives))
            self._others.append(np.asarray(measurement.negatives))

    @property
    def values(self) -> Floats:
        """All values in order; scores of the positive group where there are two."""
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        return self._parts[0] if self._parts else np.empty(0)

    @property
    def negatives(self) -> Floats:
        """Scores of the negative group; empty where there is only one group."""
        if len(self._others) > 1:
            self._others = [np.concatenate(self._others)]
        return self._others[0] if self._others else np.empty(0)

    @property
    def n(self) -> int:
        """How many values there are; of the smaller group where there are two."""
        return min(self.values.size, self.negatives.size) if self.kind == "auc" else self.values.size

    @property
    def label(self) -> str:
        """The name with its breakdown, for people."""
        return (
            f"{self.name} ({', '.join(f'{key} {value}' for key, value in self.by.items())})" if self.by else self.name
        )


class Measurements:
    """Everything that one execution of a check has yielded so far."""

    def __init__(self, series: Iterable[Series] = (), pictures: Iterable[Pictures] = ()) -> None:
        self._series = {(item.name, tuple(sorted(item.by.items()))): item for item in series}
        self.pictures = {item.name: item for item in pictures}

    def add(self, yielded: Yielded) -> None:
        """Take in what a check yielded."""
        if isinstance(yielded, Pictures):
            self.pictures[yielded.name] = yielded
            return
        if yielded.key not in self._series:
            self._series[yielded.key] = Series.of(yielded)
        self._series[yielded.key].add(yielded)

    def __iter__(self) -> Iterator[Series]:
        return iter(self._series.values())

    def __len__(self) -> int:
        return len(self._series)

    def select(self, name: str, where: Mapping[str, str | int | float]) -> list[Series]:
        """The series of this name whose breakdown has these values."""
        return [
            item
            for item in self
            if item.name == name and all(item.by.get(key) == value for key, value in where.items())
        ]

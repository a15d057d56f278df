"""One run of each control: what a check finds on a subject that has the defect, and on one that has not, to be shown side by side.

They are kept by ``method-cards calibrate`` beside the card, in ``controls.json``: verdict, intervals, and the maps of a few examples as
small arrays, which a page colours as it colours those of a record.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from method_cards.card import CheckBinding, Criterion
from method_cards.document import compact_json, read_compact, whole
from method_cards.errors import InputError, MethodCardsError
from method_cards.measurement import Pictures
from method_cards.verdict import CriterionResult, IntervalData, Outcome

FILE = "controls.json"

ROWS, COLUMNS, SIZE = 2, 5, 16
"""How many examples and conditions are kept, and the greatest height and width: enough to see what the check is about."""

LEVELS = 127
"""How many steps an array's values keep on each side of zero: more than an eye tells apart."""


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Decision(_Data):
    """What became of one criterion; what the criterion says stands in the card."""

    outcome: Outcome
    interval: IntervalData | None = None
    range: tuple[FiniteFloat | None, FiniteFloat | None] = (None, None)
    unit: str = ""
    reason: str = ""
    """Why nothing was measured, where nothing was."""

    @classmethod
    def of(cls, result: CriterionResult) -> Decision:
        """The part of a result that does not stand in the card, with numbers as short as a drawing needs them."""
        found = result.interval
        ends = {} if found is None else {name: short(getattr(found, name)) for name in ("estimate", "low", "high")}
        return cls(
            outcome=result.outcome,
            interval=None if found is None else found.model_copy(update=ends),
            range=result.range,
            unit=result.unit,
            reason="" if found is not None else result.reason,
        )

    def result(self, criterion: Criterion) -> CriterionResult:
        """The whole result again."""
        low, high = criterion.bounds
        return CriterionResult(
            claim=criterion.claim,
            measurement=criterion.measurement,
            where=dict(criterion.where),
            bound=criterion.bound_text(),
            low_bound=low,
            high_bound=high,
            source="",
            outcome=self.outcome,
            reason=self.reason,
            unit=self.unit,
            range=self.range,
            interval=self.interval,
        )


class ControlRun(_Data):
    """What the check found on one control."""

    control: str
    kind: Literal["defect", "sound", "confounded"]
    description: str
    outcome: Outcome
    is_expected: bool
    """Whether it is what the control was built for: failed for the stated reason, invalid, or anything but failed."""
    reason: str = ""
    """The verdict's, where it was not decided from intervals."""
    criteria: tuple[Decision, ...] = ()
    """In the order of the card."""
    gates: tuple[Decision, ...] = ()
    pictures: tuple[str, ...] = ()
    """Keys into the pictures of the file."""


class ControlRuns(_Data):
    """One run of each control of a prescription's check, all with one seed."""

    prescription: str
    """``card/prescription``."""
    check: str
    check_version: str
    digest: str
    """As in a calibration: with another one these runs are of other criteria."""
    samples: int | None
    seed: int
    measured_on: dt.date
    controls: tuple[ControlRun, ...]

    def is_current(self, check_version: str, digest: str) -> bool:
        """Whether these runs are of this version of the check and these criteria."""
        return (self.check_version, self.digest) == (check_version, digest)

    def results(
        self, run: ControlRun, binding: CheckBinding
    ) -> tuple[tuple[CriterionResult, ...], tuple[CriterionResult, ...]]:
        """What became of each criterion, and of each condition of the run; of the binding that they were decided by."""
        return (
            tuple(item.result(criterion) for item, criterion in zip(run.criteria, binding.criteria, strict=False)),
            tuple(item.result(criterion) for item, criterion in zip(run.gates, binding.valid_if, strict=False)),
        )


class KeptPictures(_Data):
    """Arrays that are shown side by side, each brought to steps of its own scale, which is how they are coloured anyway."""

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    signed: tuple[bool, ...]
    shape: tuple[int, ...] = Field(min_length=3, max_length=4)
    steps: str
    """Signed bytes, compressed, in base64."""

    @classmethod
    def of(cls, pictures: Pictures) -> KeptPictures:
        """A few rows and columns, reduced to a small size."""
        rows, columns = range(min(ROWS, len(pictures.rows))), spread(len(pictures.columns), COLUMNS)
        values = reduced(np.asarray(pictures.values, dtype=np.float64)[np.ix_(rows, columns)], SIZE)
        axes = tuple(range(2, values.ndim))
        least = values.min(axes, keepdims=True)
        unsigned = ~np.array(pictures.signed)[list(columns)].reshape(1, -1, *[1] * len(axes))
        shifted = np.where(unsigned, values - least, values)
        greatest = np.abs(shifted).max(axes, keepdims=True)
        steps = np.rint(LEVELS * shifted / np.where(greatest > 0, greatest, 1)).astype(np.int8)
        return cls(
            name=pictures.name,
            caption=pictures.caption,
            columns=tuple(pictures.columns[column] for column in columns),
            rows=tuple(pictures.rows[row] for row in rows),
            signed=tuple(pictures.signed[column] for column in columns),
            shape=steps.shape,
            steps=base64.b64encode(zlib.compress(steps.tobytes(), 9)).decode(),
        )

    def pictures(self) -> Pictures:
        """The arrays again, in steps.

        Raises:
            InputError: They are not what they say they are.
        """
        size = math.prod(self.shape)
        try:
            if size > len(self.rows) * len(self.columns) * SIZE**2 or min(self.shape) < 1:
                raise InputError("larger than any that is kept")
            unpacker = zlib.decompressobj()
            data = unpacker.decompress(base64.b64decode(self.steps, validate=True), size)
            steps = np.frombuffer(data, np.int8).reshape(self.shape).astype(np.float32)
            return Pictures(self.name, self.caption, self.columns, self.rows, steps, self.signed)
        except (MethodCardsError, ValueError, zlib.error, binascii.Error) as error:
            raise InputError(f'the kept pictures "{self.name}" cannot be read: {error}') from error

    @property
    def key(self) -> str:
        """A name made of the content."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]


class KeptRuns(_Data):
    """All control runs of one card."""

    schema_version: Literal[1] = 1
    prescriptions: dict[str, ControlRuns] = Field(default_factory=dict)
    """By slug."""
    pictures: dict[str, KeptPictures] = Field(default_factory=dict)
    """By key; prescriptions that are decided from one measurement share them."""


def short(value: float) -> float:
    """A number as short as drawings and rank statistics need it: four significant digits, its sign kept."""
    return float(f"{value:.4g}")


def spread(count: int, most: int) -> tuple[int, ...]:
    """At most so many places of a row, first and last among them, evenly spread."""
    if count <= most:
        return tuple(range(count))
    return tuple(round(place * (count - 1) / (most - 1)) for place in range(most))


def reduced(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Arrays reduced by whole factors to this height and width, each value the mean of a block."""
    for axis in range(2, values.ndim):
        length = values.shape[axis]
        factor = -(-length // size)
        kept = np.take(values, range(length // factor * factor), axis)
        values = kept.reshape(*kept.shape[:axis], length // factor, factor, *kept.shape[axis + 1 :]).mean(axis + 1)
    return values


def read(folder: Path) -> KeptRuns:
    """The control runs of the card in this folder; none where none were kept.

    Raises:
        InputError: The file is damaged.
    """
    return read_compact(folder / FILE, KeptRuns, "method-cards calibrate --once")


def write(
    folder: Path, runs: Mapping[str, ControlRuns], pictures: Sequence[KeptPictures], slugs: frozenset[str]
) -> Path:
    """Write control runs over older ones of the same prescriptions.

    Args:
        folder: The card's.
        runs: By slug.
        pictures: What they show.
        slugs: The card's prescriptions; runs of others, and pictures that no run shows, are dropped.
    """
    before = read(folder)
    merged = {slug: item for slug, item in sorted({**before.prescriptions, **runs}.items()) if slug in slugs}
    shown = {key for item in merged.values() for run in item.controls for key in run.pictures}
    known = {**before.pictures, **{item.key: item for item in pictures}}
    kept = KeptRuns(prescriptions=merged, pictures={key: known[key] for key in sorted(shown) if key in known})
    path = folder / FILE
    data = {"schema_version": 1, **kept.model_dump(mode="json", exclude_defaults=True)}
    with whole(path) as handle:
        handle.write(compact_json(data).encode())
    return path

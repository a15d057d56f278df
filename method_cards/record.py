"""The record of a run: one JSON file and plain arrays. Pages, notebooks and terminals show it; nothing is ever measured again for that.

A record lives in ``records/<subject>/<run>/record.json``, its pictures beside it as ``.npy`` arrays that are read without unpickling.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PrivateAttr, ValidationError

from method_cards import display
from method_cards.document import parse_json, whole
from method_cards.errors import CheckError, InputError
from method_cards.measurement import Kind, Measurements, Pictures, Series
from method_cards.verdict import Outcome, Verdict

SCHEMA_VERSION = 1

FILE = "record.json"

PARTIAL = "-partial"
"""In the name of a run that was asked for some cards or prescriptions only."""

RunStatus = Literal["complete", "interrupted"]
ExecutionStatus = Literal["complete", "stopped_early", "interrupted", "timed_out", "errored"]

SUBJECT = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""The form of a subject's id: its records lie in a folder of this name, and its page in a file."""

_NUMBERS = re.compile(r"\[\n\s*(-?\d[^\[\]{}\"]*)\]")
"""A list of numbers that is broken over several lines."""


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As in pydantic, without what was derived from fields that may have changed."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(copied).model_fields.keys():
            del copied.__dict__[name]
        return copied


class SeriesData(_Data):
    """All values of one measurement."""

    name: str
    kind: Kind
    unit: str = ""
    range: tuple[FiniteFloat | None, FiniteFloat | None]
    """Smallest and largest value; None where there is no bound."""
    by: dict[str, str | int | float] = Field(default_factory=dict)
    values: tuple[FiniteFloat, ...]
    negatives: tuple[FiniteFloat, ...] = ()

    _repr_mimebundle_ = display.mimebundle

    @classmethod
    def of(cls, series: Series) -> SeriesData:
        """A series as data, to six significant digits."""
        low, high = (bound if np.isfinite(bound) else None for bound in series.range)
        return cls(
            name=series.name,
            kind=series.kind,
            unit=series.unit,
            range=(low, high),
            by=dict(series.by),
            values=tuple(_rounded(series.values)),
            negatives=tuple(_rounded(series.negatives)),
        )

    @cached_property
    def mean(self) -> float:
        """The mean of the values."""
        return float(np.mean(self.values))


class PicturesData(_Data):
    """Where pictures lie and how they are to be shown."""

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    signed: tuple[bool, ...]
    file: str
    """The ``.npy`` file beside the record."""


class SplitData(_Data):
    """Which examples of a split were measured."""

    name: str
    n: int
    size: int
    sha256: str
    """Of the examples that were drawn; empty when they could not be read."""


class Execution(_Data):
    """One execution of one check with one set of parameters."""

    check: str
    version: str
    distribution: str
    """The package that the check came from, with its version."""
    parameters: dict[str, Any]
    status: ExecutionStatus
    cause: str = ""
    """Why it did not run to its end; empty when it did."""
    samples: int | None
    """How many samples the plan fixed; None for all."""
    seconds: FiniteFloat
    forward: int
    """Examples passed forward, as the plan estimated."""
    backward: int
    """Examples passed forward and backward, as the plan estimated."""
    splits: tuple[SplitData, ...] = ()
    measurements: tuple[SeriesData, ...] = ()
    pictures: tuple[PicturesData, ...] = ()

    def select(self, name: str, **by: str | float) -> list[SeriesData]:
        """The series of this name whose breakdown has these values."""
        return [
            item
            for item in self.measurements
            if item.name == name and all(item.by.get(key) == value for key, value in by.items())
        ]


class SubjectData(_Data):
    """What was under check."""

    id: str
    title: str
    task: str
    model: str
    """The reference it was built from, such as ``model.py:build``."""
    parameters: int
    """How many parameters it has."""
    parameters_sha256: str
    explainer: str = ""
    """The explanation method that ships with it, in words."""
    classes: tuple[str, ...] = ()
    claims: dict[str, float] = {}
    """What was claimed of it, by name."""


class Asked(_Data):
    """What a run was asked for; with seed, device and block it says how to repeat it."""

    samples: int | None = None
    """How many examples a check measures, unless a card asks for more; None for all."""
    cards: tuple[str, ...] = ()
    """The cards that were asked for; those of the subject where empty."""
    only: tuple[str, ...] = ()
    """The prescriptions that were asked for, as ``card/prescription``; all where empty."""
    checks: tuple[str, ...] = ()
    """Checks that were named beside those of ``method-cards.yaml``."""
    exhaustive: bool = False
    """Whether all samples were measured even when everything was decided."""
    time_limit: FiniteFloat | None = None
    """Seconds that one check could take; None for as long as it needed."""
    in_python: bool = False
    """Whether it was asked for by ``method_cards.run``, with a model that was at hand."""


class Record(_Data):
    """Everything that one run left."""

    schema_version: Literal[1] = 1
    id: str
    """The run: its start in UTC."""
    started: dt.datetime
    finished: dt.datetime
    status: RunStatus
    seed: int
    device: str
    environment: dict[str, str]
    """Versions of Python, torch, this package, and the platform."""
    block: int | None = None
    """How many examples went through the model at once; with the seed it gives the same results to the last digit."""
    asked: Asked | None = None
    """What the run was asked for; None in records of before it was kept."""
    git_revision: str = ""
    """The revision of the subject's folder, with ``+`` when it has uncommitted changes; empty outside git."""
    subject: SubjectData
    cards: dict[str, str]
    """SHA-256 of each card that was applied."""
    executions: tuple[Execution, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    criteria: int = 0
    """How many criteria were decided from data in this run."""
    confidence: FiniteFloat = 0.95
    """The confidence of the Holm-adjusted view over all of them."""
    _path: Path | None = PrivateAttr(default=None)

    _repr_mimebundle_ = display.mimebundle
    __repr__ = __str__ = display.text

    def __eq__(self, other: object) -> bool:
        """A record is the same wherever it lies."""
        return isinstance(other, Record) and super().__eq__(other.at(self._path))

    __hash__ = None  # type: ignore[assignment]  # it holds mappings

    @property
    def path(self) -> Path | None:
        """Its ``record.json``, beside which its pictures lie; None for one that was never written nor read."""
        return self._path

    def at(self, path: Path | None) -> Record:
        """The same record, known to lie there."""
        found = self.model_copy()
        found._path = path  # noqa: SLF001  (its own)
        return found

    @property
    def seconds(self) -> float:
        """How long the run took."""
        return (self.finished - self.started).total_seconds()

    @property
    def exit_status(self) -> int:
        """0 when every MUST that applies and that a check decides passed, else 1; questions that wait for a person do not count.

        A card of which no check applied ends with 1, too: nothing was found out about it.
        """
        bad = self.status == "interrupted" or self.idle_cards or any(item.stops for item in self.verdicts)
        return int(bool(bad))

    @property
    def idle_cards(self) -> tuple[str, ...]:
        """Cards that were asked for, whose checks all do not apply to the subject."""
        found: dict[str, set[bool]] = {}
        for item in self.verdicts:
            if not item.question:
                found.setdefault(item.card, set()).add(item.outcome is Outcome.NOT_APPLICABLE)
        return tuple(card for card in self.cards if found.get(card) == {True})

    @cached_property
    def by_id(self) -> dict[str, Verdict]:
        """The verdicts by ``card/prescription``."""
        return {verdict.id: verdict for verdict in self.verdicts}

    def of_card(self, card: str) -> list[Verdict]:
        """The verdicts about the prescriptions of one card, in the card's order."""
        return [verdict for verdict in self.verdicts if verdict.card == card]


def write(record: Record, folder: Path, arrays: Iterable[tuple[str, np.ndarray[Any, Any]]] = ()) -> Path:
    """Write a record and its new picture arrays, each atomically.

    Args:
        record: What to keep.
        folder: The folder of this run; made if need be.
        arrays: File names and arrays that are not there yet.

    Returns:
        The path of ``record.json``.

    Raises:
        InputError: It cannot be written.
    """
    path = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in arrays:
            with whole(folder / name) as handle:
                np.save(handle, array, allow_pickle=False)
        with whole(path) as handle:
            handle.write(to_json(record).encode())
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path


def to_json(record: Record) -> str:
    """The record as JSON, a line for each field and each list of numbers; text, which holds no bare line breaks, stays as it is."""
    text = record.model_dump_json(indent=1)
    return _NUMBERS.sub(lambda found: "[" + re.sub(r"\s+", " ", found[1]).rstrip() + "]", text) + "\n"


def read(path: Path) -> Record:
    """Read a record.

    Raises:
        InputError: The file is missing, is not a record, or is of a schema version that this release does not know.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        found = Record.model_validate_json(content)
    except ValidationError as error:
        raise _refusal(path, content, error.errors()[0]["msg"]) from error
    if "schema_version" not in found.model_fields_set:
        raise _refusal(path, content, "schema_version is missing")
    if not re.fullmatch(SUBJECT, found.subject.id):
        raise InputError(
            f'{path}: the subject "{found.subject.id}" cannot name a page: use letters, digits, ".", "_", "-"'
        )
    return found.at(path)


def _refusal(path: Path, content: bytes, said: str) -> InputError:
    """Why a file is no record: read again, piece by piece, since the quick way does not tell a wrong version from a wrong field."""
    try:
        data = parse_json(content)
    except ValueError as error:
        return InputError(f"{path}: is not JSON: {error}; delete the folder or run again")
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        return InputError(
            f"{path}: schema version {version!r:.40} is not known; this release reads version {SCHEMA_VERSION}"
        )
    try:
        Record.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return InputError(f"{path}: is not a valid record: {where}: {first['msg']} ({error.error_count()} problems)")
    return InputError(
        f"{path}: is not a valid record: {said}"
    )  # half of a character, which Python takes and JSON does not


def read_pictures(folder: Path, data: PicturesData) -> Pictures:
    """Read the arrays of pictures.

    Raises:
        InputError: The file lies outside the record's folder, is missing, or does not hold the arrays that the record promises.
    """
    if Path(data.file).name != data.file:
        raise InputError(
            f'{folder / "record.json"}: picture file "{data.file}" must be a name within the record\'s folder'
        )
    path = folder / data.file
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: cannot be read as an array: {error}") from error
    try:
        return Pictures(data.name, data.caption, data.columns, data.rows, values, data.signed)
    except (CheckError, TypeError) as error:
        raise InputError(f"{path}: does not hold the pictures that the record promises: {error}") from error


def find(root: Path, subject: str | None = None) -> list[Path]:
    """All records below a folder, oldest first, for one subject or all."""
    return sorted(root.glob(f"{subject or '*'}/*/{FILE}"), key=lambda path: (path.parts[-3], _natural(path.parts[-2])))


def latest(root: Path) -> dict[str, Path]:
    """The newest record of each subject below a folder; one of a few prescriptions only where there is no other."""
    paths = find(root)
    whole = [path for path in paths if PARTIAL not in path.parts[-2]]
    return {path.parts[-3]: path for path in (*(path for path in paths if path not in whole), *whole)}


def _natural(name: str) -> list[str | int]:
    """A key that sorts ids of runs as they came: ``-2``, of the same second, before ``-10``."""
    return [int(part) if part.isdecimal() else part for part in re.split("([0-9]+)", name)]


def data_of(measurements: Measurements) -> tuple[SeriesData, ...]:
    """All series as data."""
    return tuple(SeriesData.of(series) for series in measurements if series.n)


def _rounded(values: np.ndarray[Any, Any]) -> list[float]:
    return [float(f"{value:.6g}") for value in values.tolist()]

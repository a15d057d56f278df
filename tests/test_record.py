"""Records are whole or not there, read without unpickling, and never lead out of their folder."""

from __future__ import annotations

import datetime as dt
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from method_cards import record
from method_cards.errors import InputError
from method_cards.measurement import Measurements, Series
from method_cards.record import Execution, PicturesData, Record, SeriesData, SubjectData, to_json
from tests.helpers import LEVEL, SEPARATION, pictures

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)

DATA = PicturesData(name="maps", caption="c", columns=("a",), rows=("one",), signed=(True,), file="0-maps.npy")


def made(**changes: Any) -> Record:
    subject = SubjectData(
        id="toy",
        title="Toy",
        task="tabular-classification",
        model="model.py:build",
        parameters=3,
        parameters_sha256="0" * 64,
    )
    settings: dict[str, Any] = {
        "id": "20260301T120000Z", "started": NOW, "finished": NOW, "status": "complete", "seed": 0, "device": "cpu",
        "environment": {"python": "3.11"}, "subject": subject, "cards": {},
    }  # fmt: skip
    return Record(**{**settings, **changes})


def execution(cause: str = "", values: tuple[float, ...] = (0.5, 0.25)) -> Execution:
    series = SeriesData(name="level", kind="mean", range=(0.0, 1.0), by={"stage": 1, "layers": "a to b"}, values=values)
    return Execution(
        check="toy/scripted", version="1", distribution="tests", parameters={"share": 0.5, "list": [1, 2]}, status="complete", cause=cause,
        samples=None, seconds=1.5, forward=1, backward=2, measurements=(series,), pictures=(DATA,),
    )  # fmt: skip


@given(cause=st.text(), values=st.lists(st.floats(allow_nan=False, allow_infinity=False)).map(tuple))
def test_what_is_written_is_what_is_read(cause: str, values: tuple[float, ...]) -> None:
    """Any text and any finite numbers survive JSON exactly, brackets, line breaks and exponents included."""
    kept = made(executions=(execution(cause, values), execution("[ 1  2 ]\n[\n 3\n]")))
    assert Record.model_validate(json.loads(to_json(kept))) == kept


def test_lists_of_numbers_take_one_line() -> None:
    """A record can be read and compared by people: a line for each field and each list of numbers."""
    text = to_json(made(executions=(execution(values=(0.5,) * 100),)))
    assert len(text.splitlines()) < 100
    assert '"values": [0.5, 0.5,' in text


def test_a_record_on_disk_can_be_read_again(tmp_path: Path) -> None:
    """Writing makes the folder, the JSON file and the arrays; reading gives the same record and the same arrays."""
    kept = made(executions=(execution(),))
    shown = pictures("maps")
    path = record.write(kept, tmp_path / "toy" / kept.id, [("0-maps.npy", shown.values)])
    assert record.read(path) == kept.at(path)
    assert np.array_equal(record.read_pictures(path.parent, DATA).values, shown.values)
    assert sorted(item.name for item in path.parent.iterdir()) == ["0-maps.npy", "record.json"]


def test_a_record_can_be_read_by_those_who_may_read_the_folder(tmp_path: Path) -> None:
    """Files have the permissions that the person's umask gives to any new file, not those of a secret."""
    plain = tmp_path / "plain"
    plain.touch()
    path = record.write(made(), tmp_path / "toy", [("a.npy", np.zeros(1))])
    assert {path.stat().st_mode, (path.parent / "a.npy").stat().st_mode} == {plain.stat().st_mode}


def test_a_failed_write_leaves_the_old_record(tmp_path: Path) -> None:
    """When writing fails half-way the file that was there stays as it was, and nothing else is left behind."""
    path = record.write(made(), tmp_path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="Object arrays"):
        record.write(made(seed=1), tmp_path, [("a.npy", np.array([{}], dtype=object))])
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b'{"schema_version": 1,', "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[]", "schema version None is not known"),
        (b'{"schema_version": 2}', "schema version 2 is not known; this release reads version 1"),
        (b'{"schema_version": 1}', "is not a valid record: id: Field required"),
    ],
)
def test_a_damaged_record_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    """What is no record, or of a later schema, is bad input with the path and the reason."""
    path = tmp_path / "record.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        record.read(path)
    assert str(path) in str(error.value)


def test_half_a_character_is_refused(tmp_path: Path) -> None:
    """A lone surrogate, which JSON can write and no page can, is refused."""
    path = record.write(made(device="DEVICE"), tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace("DEVICE", "\\ud800"), encoding="utf-8")
    with pytest.raises(InputError, match=r"is not a valid record: .*JSON"):
        record.read(path)


def test_a_missing_record_is_refused(tmp_path: Path) -> None:
    """A path without a file is bad input."""
    with pytest.raises(InputError, match="cannot be read: No such file"):
        record.read(tmp_path / "record.json")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_record_holds_finite_numbers_only(value: float) -> None:
    """NaN and infinity are refused when a record is made and when one is read."""
    with pytest.raises(ValueError, match="finite"):
        execution(values=(value,))
    text = to_json(made(executions=(execution(values=(0.123,)),))).replace(
        "0.123", str(value).replace("inf", "Infinity").replace("nan", "NaN")
    )
    with pytest.raises(ValueError, match="finite"):
        Record.model_validate(json.loads(text))


@pytest.mark.parametrize("file", ["../secret.npy", "/etc/passwd", "a/b.npy"])
def test_pictures_never_leave_their_folder(file: str, tmp_path: Path) -> None:
    """A crafted record cannot make a page read another file."""
    np.save(tmp_path / "secret.npy", np.zeros((1, 1, 2, 2)))
    with pytest.raises(InputError, match="must be a name within the record's folder"):
        record.read_pictures(tmp_path / "run", DATA.model_copy(update={"file": file}))


class Payload:
    """Something that runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._marker),)


def test_nothing_in_a_record_is_unpickled(tmp_path: Path) -> None:
    """An array file that holds a pickle is refused, and does not run."""
    marker = tmp_path / "ran"
    np.save(tmp_path / "0-maps.npy", np.array([Payload(marker)], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="cannot be read as an array"):
        record.read_pictures(tmp_path, DATA)
    (tmp_path / "0-maps.npy").write_bytes(pickle.dumps(Payload(marker)))
    with pytest.raises(InputError, match="cannot be read as an array"):
        record.read_pictures(tmp_path, DATA)
    assert not marker.exists()


def test_the_newest_record_of_each_subject_is_found(tmp_path: Path) -> None:
    """Records are found below their subjects, oldest first; a folder without a record is passed over."""
    for subject, name in (("a", "20260301T120000Z"), ("a", "20260302T120000Z"), ("b", "20250101T000000Z")):
        record.write(made(id=name), tmp_path / subject / name)
    (tmp_path / "a" / "20270101T000000Z").mkdir()
    assert [path.parent.name for path in record.find(tmp_path, "a")] == ["20260301T120000Z", "20260302T120000Z"]
    assert {subject: path.parent.name for subject, path in record.latest(tmp_path).items()} == {
        "a": "20260302T120000Z",
        "b": "20250101T000000Z",
    }


def test_runs_of_one_second_stand_as_they_came(tmp_path: Path) -> None:
    """The tenth run of a second comes after the second, not before it."""
    names = ["20260301T120000Z", *(f"20260301T120000Z-{number}" for number in range(2, 12)), "20260301T120001Z"]
    for name in names:
        record.write(made(id=name), tmp_path / "a" / name)
    assert [path.parent.name for path in record.find(tmp_path)] == names


def test_values_are_kept_to_six_digits() -> None:
    """A series becomes data with its breakdown, its bounds where it has any, and both groups."""
    series = Series.of(SEPARATION.two_groups([1 / 3], [2 / 3]))
    series.add(SEPARATION.two_groups([1 / 3, 1e-9], [2 / 3]))
    data = SeriesData.of(series)
    assert (data.values, data.negatives, data.range) == ((0.333333, 1e-9), (0.666667,), (None, None))


def test_a_series_without_values_is_not_kept() -> None:
    """A measurement of no samples leaves nothing in the record that could be taken for a result."""
    found = Measurements()
    found.add(LEVEL.per_sample([]))
    assert record.data_of(found) == ()

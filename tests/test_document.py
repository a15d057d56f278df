"""Reading YAML: what is data is read with its place, and everything else is refused with a clear message."""

from __future__ import annotations

import hashlib
import itertools
import os
import pickle
import time
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field

from method_cards import document
from method_cards.document import MAX_DEPTH, MAX_NODES, SIZE_LIMIT, Document, to_yaml
from method_cards.document.reader import Place, read
from method_cards.errors import DocumentError, Problem

LOADERS = [yaml.SafeLoader, yaml.CSafeLoader]


def load(folder: Path, text: str | bytes) -> Document:
    path = folder / "file.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return document.load(path)


def refused(folder: Path, text: str | bytes) -> tuple[Problem, ...]:
    with pytest.raises(DocumentError) as caught:
        load(folder, text)
    return caught.value.problems


def only(problems: tuple[Problem, ...]) -> tuple[int, int, str]:
    assert len(problems) == 1
    return problems[0].line, problems[0].column, problems[0].message


def test_values_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    """Unquoted scalars mean what YAML 1.2 says, and dates stay text."""
    text = "a: true\nb: 12\nc: 1e-3\nd: 0x1F\ne: ~\nf: 2026-03-01\ng: plain text\nh: 'no'\ni: \"010\"\nj: [-1.5, +2, .5]\nk: |\n  no\n"
    assert load(tmp_path, text).value == {
        "a": True,
        "b": 12,
        "c": 0.001,
        "d": 31,
        "e": None,
        "f": "2026-03-01",
        "g": "plain text",
        "h": "no",
        "i": "010",
        "j": [-1.5, 2, 0.5],
        "k": "no\n",
    }


@pytest.mark.parametrize("word", ["no", "No", "NO", "off", "n", "N"])
def test_words_that_yaml_1_1_reads_as_false_are_refused(tmp_path: Path, word: str) -> None:
    """A bare `no` is neither text nor false: the message says to write one of the two."""
    message = f'YAML 1.1 reads {word} as false: write false, or "{word}" in quotes for the text'
    assert only(refused(tmp_path, f"a: {word}\n")) == (1, 4, message)


@pytest.mark.parametrize("word", ["yes", "Yes", "YES", "on", "On", "y", "Y"])
def test_words_that_yaml_1_1_reads_as_true_are_refused(tmp_path: Path, word: str) -> None:
    """A bare `yes` is neither text nor true: the message says to write one of the two."""
    assert "write true, or" in only(refused(tmp_path, f"a: [{word}]\n"))[2]


@pytest.mark.parametrize(
    ("scalar", "reading"),
    [
        ("1:30", "base 60"),
        ("190:20:30.15", "base 60"),
        ("010", "base 8"),
        ("0o17", "base 8"),
        ("0b101", "base 2"),
        ("1_000", "digits in groups"),
        (".nan", "infinite number or none"),
        ("-.inf", "infinite number or none"),
        ("1e999", "too large"),
        ("1" * 50, "50 digits"),
    ],
)
def test_numbers_that_can_be_read_in_two_ways_are_refused(tmp_path: Path, scalar: str, reading: str) -> None:
    """A number that versions of YAML read differently, or that is not finite, is refused by name."""
    line, column, message = only(refused(tmp_path, f"a: 1\nb: {scalar}\n"))
    assert (line, column) == (2, 4)
    assert reading in message
    assert "quotes" in message


def test_keys_that_yaml_1_2_reads_as_text_are_text(tmp_path: Path) -> None:
    """A key such as `on` is text: it could be nothing else here."""
    assert load(tmp_path, "on: 1\nno: 2\n").value == {"on": 1, "no": 2}


@pytest.mark.parametrize("key", ["1", "1.5", "true", "null", "~", "010"])
def test_keys_that_are_not_text_are_refused(tmp_path: Path, key: str) -> None:
    """A key that would be a number, a boolean or nothing must be put in quotes."""
    assert only(refused(tmp_path, f"{key}: x\n")) == (1, 1, f'keys are text: put quotes around it, "{key}"')


@pytest.mark.parametrize("text", ["? [a]\n: 1\n", "{a: 1}: 2\n", "a: &x 1\n*x : 2\n"])
def test_keys_that_are_not_scalars_are_refused(tmp_path: Path, text: str) -> None:
    """Lists, mappings and aliases cannot be keys."""
    assert "key" in only(refused(tmp_path, text))[2]


def test_duplicate_keys_are_refused(tmp_path: Path) -> None:
    """A key that stands twice is refused at its second place, and the first one is named."""
    problem = refused(tmp_path, "a:\n  b: 1\n  c: 2\n  b: 3\n")[0]
    assert (problem.line, problem.column, problem.field) == (4, 3, "a.b")
    assert "line 2" in problem.message


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!foo", "!!str", "!"])
@pytest.mark.parametrize("value", ["x", "[x]", "{x: 1}"])
def test_tags_are_refused(tmp_path: Path, tag: str, value: str) -> None:
    """A tag is never obeyed, whatever it stands before."""
    assert "tag" in only(refused(tmp_path, f"a: {tag} {value}\n"))[2]


def test_merge_keys_are_refused(tmp_path: Path) -> None:
    """A merge key is refused, and the message says to write the fields out."""
    assert "write the fields out" in only(refused(tmp_path, "a: &x {b: 1}\nc:\n  <<: *x\n"))[2]


def test_anchors_in_moderation_are_read(tmp_path: Path) -> None:
    """An alias stands for the value of its anchor, and what is wrong in it is shown where it is written."""
    loaded = load(tmp_path, "a: &x {b: 1}\nc: [*x, *x]\nd: &y text\ne: *y\n")
    assert loaded.value == {"a": {"b": 1}, "c": [{"b": 1}, {"b": 1}], "d": "text", "e": "text"}
    assert loaded.locate(("c", 1, "b")) == (1, 11)


@pytest.mark.parametrize("text", ["a: &x [*x]\n", "a: &x {b: {c: *x}}\n"])
def test_aliases_of_themselves_are_refused(tmp_path: Path, text: str) -> None:
    """An alias inside its own anchor would never end."""
    assert "without end" in only(refused(tmp_path, text))[2]


def test_aliases_of_nothing_are_refused(tmp_path: Path) -> None:
    """An alias without an anchor before it is refused."""
    assert only(refused(tmp_path, "a: *x\n"))[:2] == (1, 4)


def test_billion_laughs_are_refused_at_once(tmp_path: Path) -> None:
    """Aliases of aliases that stand for a billion values are counted, not expanded."""
    rows = ["a: &a [" + ", ".join(["lol"] * 10) + "]"]
    names = "abcdefghij"
    rows += [f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in itertools.pairwise(names)]
    start = time.perf_counter()
    message = only(refused(tmp_path, "\n".join(rows)))[2]
    assert time.perf_counter() - start < 1
    assert message == f"more than {MAX_NODES:,} values, counting what aliases stand for"


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_deep_nesting_is_refused_at_once(tmp_path: Path, opening: str) -> None:
    """Nesting without end is refused where it becomes too deep, before the rest is read."""
    start = time.perf_counter()
    message = only(refused(tmp_path, opening * (SIZE_LIMIT // len(opening))))[2]
    assert time.perf_counter() - start < 1
    assert (
        message in (f"nested more than {MAX_DEPTH} deep", "keys are text, not lists or mappings")
        or "keys are text" in message
    )


def test_nesting_up_to_the_limit_is_read(tmp_path: Path) -> None:
    """As many levels as the limit says are read."""
    assert load(tmp_path, "[" * MAX_DEPTH + "]" * MAX_DEPTH).value


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "~\n", "\ufeff"])
def test_the_empty_file_is_refused(tmp_path: Path, text: str) -> None:
    """A file that says nothing is refused as empty."""
    assert "is empty" in only(refused(tmp_path, text))[2]


def test_several_documents_are_refused(tmp_path: Path) -> None:
    """A file holds one document; the second one is refused where it begins."""
    assert only(refused(tmp_path, "---\na: 1\n---\nb: 1\n"))[:2] == (3, 1)


def test_tabs_are_refused(tmp_path: Path) -> None:
    """A tab that indents is named as such."""
    assert only(refused(tmp_path, "a:\n\tb: 1\n")) == (2, 1, "a tab cannot indent YAML: use spaces")


@pytest.mark.parametrize(
    "text", ["a: b: c\n", 'a: "never closed\n', "a: [1, 2\n", "a: @x\n", "a: 1\n b: 2\n", "- a\nb: c\n"]
)
def test_broken_yaml_is_refused(tmp_path: Path, text: str) -> None:
    """What is no YAML gives one problem with its place."""
    line, column, message = only(refused(tmp_path, text))
    assert line >= 1
    assert column >= 1
    assert message


def test_unclosed_quotes_are_shown_where_they_open(tmp_path: Path) -> None:
    """The place of quotes that are never closed is where they open, not the end of the file."""
    assert only(refused(tmp_path, 'a: 1\nb: "x\nc: 2\n'))[:2] == (2, 4)


def test_all_findings_of_a_file_are_listed(tmp_path: Path) -> None:
    """One reading lists everything that is wrong, in the order of the file, with the line and a caret."""
    with pytest.raises(DocumentError) as caught:
        load(tmp_path, "a: no\nb: !x 1\nc: 010\na: 2\n")
    assert [problem.line for problem in caught.value.problems] == [1, 2, 3, 4]
    assert f"{tmp_path}/file.yaml:1:4: a: YAML 1.1 reads no as false" in str(caught.value)
    assert "\n    a: no\n       ^" in str(caught.value)


def test_missing_files_are_refused(tmp_path: Path) -> None:
    """A file that is not there is a problem of that file."""
    with pytest.raises(DocumentError, match=r"nothing\.yaml:1:1: there is no such file"):
        document.load(tmp_path / "nothing.yaml")


def test_folders_are_refused(tmp_path: Path) -> None:
    """A folder is not a file."""
    with pytest.raises(DocumentError, match="is a folder"):
        document.load(tmp_path)


def test_pipes_are_refused(tmp_path: Path) -> None:
    """What could block for ever, such as a pipe, is not opened."""
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(DocumentError, match="not a regular file"):
        document.load(tmp_path / "pipe.yaml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    """A file without permission to read says so."""
    (tmp_path / "closed.yaml").write_text("a: 1\n")
    (tmp_path / "closed.yaml").chmod(0)
    with pytest.raises(DocumentError, match="cannot be read"):
        document.load(tmp_path / "closed.yaml")


def test_impossible_names_are_refused() -> None:
    """A name that no file can have is a problem, not a traceback."""
    with pytest.raises(DocumentError, match="cannot be read"):
        document.load("a\0b.yaml")


def test_large_files_are_refused_without_reading_them(tmp_path: Path) -> None:
    """A file of 50 MB is refused by its size alone."""
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.truncate(50_000_000)
    start = time.perf_counter()
    with pytest.raises(DocumentError, match="has 50,000,000 bytes, more than the 1,048,576"):
        document.load(path)
    assert time.perf_counter() - start < 0.1


def test_the_size_limit_can_be_chosen(tmp_path: Path) -> None:
    """A caller may allow more or less."""
    (tmp_path / "file.yaml").write_text("a: 1\n")
    assert document.load(tmp_path / "file.yaml", limit=5).value == {"a": 1}
    with pytest.raises(DocumentError, match="has 5 bytes, more than the 4"):
        document.load(tmp_path / "file.yaml", limit=4)


def test_invalid_utf_8_is_refused(tmp_path: Path) -> None:
    """A byte that is no UTF-8 is shown with its place."""
    line, column, message = only(refused(tmp_path, b"a: 1\nb: caf\xe9\n"))
    assert (line, column) == (2, 7)
    assert "0xe9" in message


@pytest.mark.parametrize("character", ["\0", "\x1b", "\x07", "\ufffe"])
def test_control_characters_are_refused(tmp_path: Path, character: str) -> None:
    """Characters that could steer a terminal are refused, and are not printed."""
    problem = refused(tmp_path, f"a: 1\nb: x{character}y\n")[0]
    assert (problem.line, problem.column) == (2, 5)
    assert character not in str(problem)


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    """Editors that write a byte order mark do no harm, and columns do not count it."""
    assert load(tmp_path, b"\xef\xbb\xbfa: 1\n").locate("a") == (1, 4)


def test_windows_line_ends_are_read(tmp_path: Path) -> None:
    """Lines may end as on Windows."""
    loaded = load(tmp_path, "a: 1\r\nb:\r\n  - x\r\n")
    assert loaded.value == {"a": 1, "b": ["x"]}
    assert loaded.locate("b.0") == (3, 5)


def test_both_parsers_agree() -> None:
    """The parser in C and the one in Python give the same values and places, and find the same things wrong."""
    path = Path(__file__).parent / "cards" / "attribution" / "input-gradient" / "card.yaml"
    texts = [
        path.read_text(),
        "a: &x [no, 010]\nb: *x\nb: !t 1\n<<: 2\n",
        "a: 'é\U0001f600' # c\n\U0001f600: [1, {b: ~}]\n",
        "[" * 99,
    ]
    for text in texts:
        results = [read(text, loader) for loader in LOADERS]
        assert results[0] == results[1]


def test_locate_finds_values_and_keys(tmp_path: Path) -> None:
    """Text and numbers are found where they stand, mappings and lists at their key, what is missing at its parent."""
    loaded = load(tmp_path, "a: 1\nb:\n  c: text\n  d:\n    - e: 2\n    -   3\n  f:\ng: {}\n")
    assert loaded.locate("a") == (1, 4)
    assert loaded.locate("a", key=True) == (1, 1)
    assert loaded.locate("b") == (2, 1)
    assert loaded.locate("b.c") == (3, 6)
    assert loaded.locate(("b", "d")) == (4, 3)
    assert loaded.locate(("b", "d", 0)) == (5, 7)
    assert loaded.locate(("b", "d", 1)) == (6, 9)
    assert loaded.locate("b.f") == (7, 3)
    assert loaded.locate("g") == (8, 4)
    assert loaded.locate("b.nothing.at.all") == (2, 1)
    assert loaded.locate("nothing") == loaded.locate(()) == (1, 1)


def test_problems_of_later_layers_have_a_place(tmp_path: Path) -> None:
    """Whoever finds something wrong later can say where it stands, with the line and a caret."""
    problem = load(tmp_path, "checks:\n  - id: a/b\n").problem(("checks", 0, "id"), "no check is called that")
    assert str(problem).endswith("file.yaml:2:9: checks.0.id: no check is called that\n      - id: a/b\n            ^")


def test_long_lines_are_cut(tmp_path: Path) -> None:
    """A line of a million characters is not printed."""
    assert len(str(refused(tmp_path, "a: [no, " + "x, " * 100_000 + "]")[0])) < 600
    assert len(str(refused(tmp_path, "a: [" + "x, " * 10_000 + "no]")[0])) < 400


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    """A record can say which version of a file it was made with."""
    assert load(tmp_path, "a: é\n").sha256 == hashlib.sha256("a: é\n".encode()).hexdigest()


def test_the_place_of_everything_is_known() -> None:
    """Every value of a card has a place inside the file."""
    path = Path(__file__).parent / "cards" / "attribution" / "input-gradient" / "card.yaml"
    loaded = document.load(path)

    def paths(value: object, place: object) -> int:
        assert isinstance(place, Place if isinstance(value, dict | list) else tuple)
        pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return 1 + sum(paths(inner, place.items[key]) for key, inner in pairs if isinstance(place, Place))

    assert paths(loaded.value, loaded.places) > 300


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: int
    kind: Literal["small", "large"] = "small"


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    inner: list[Inner] = Field(default=[], min_length=1)
    either: int | list[int] | None = None
    part: Inner | str | None = None
    words: dict[str, Inner] = {}
    day: date | None = None
    ratio: float = Field(default=0.5, gt=0, lt=1, allow_inf_nan=False)
    aliased: int = Field(default=0, alias="as")


def invalid(folder: Path, text: str) -> list[tuple[int, int, str, str]]:
    with pytest.raises(DocumentError) as caught:
        load(folder, text).validate(Outer)
    return [(item.line, item.column, item.field, item.message) for item in caught.value.problems]


def test_valid_documents_become_models(tmp_path: Path) -> None:
    """A document that fits a model becomes one; keys may be aliases, and dates are parsed."""
    model = load(tmp_path, "name: x\nas: 3\nday: 2026-03-01\neither: [1]\n").validate(Outer)
    assert (model.name, model.aliased, model.day, model.either) == ("x", 3, date(2026, 3, 1), [1])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nam: x\n", [(1, 1, "nam", 'unknown key "nam". Did you mean "name"?')]),
        ("inner: [{size: 1}]\n", [(1, 1, "", '"name" is missing')]),
        ("name: x\ninner:\n  - kind: small\n", [(3, 5, "inner.0", '"size" is missing')]),
        ("name: x\nwords:\n  w:\n    sise: 1\n", [(4, 5, "words.w.sise", 'unknown key "sise". Did you mean "size"?')]),
        ("name: x\naliased: 1\n", [(2, 1, "aliased", None)]),
        ("name: 3\n", [(1, 7, "name", "must be text, not 3: put quotes around it")]),
        ("name:\n", [(1, 1, "name", "is empty: write text")]),
        (
            "name: x\ninner: [{size: 1, kind: Smal}]\n",
            [(2, 25, "inner.0.kind", 'must be small or large, not "Smal". Did you mean "small"?')],
        ),
        ("name: x\ninner: []\n", [(2, 8, "inner", "needs at least 1 item, and has 0")]),
        ("name: x\ninner: {}\n", [(2, 8, "inner", "must be a list, not a mapping")]),
        ("name: x\neither: x\n", [(2, 9, "either", 'must be a whole number or a list, not "x"')]),
        ("name: x\npart: {size: x}\n", [(2, 14, "part.size", 'must be a whole number, not "x"')]),
        ("name: x\npart: [1]\n", [(2, 1, "part", "must be a mapping of keys to values or text, not a list of 1 item")]),
        ("name: x\nday: soon\n", [(2, 6, "day", 'must be a date, year-month-day, not "soon"')]),
        ("name: x\nratio: 2\n", [(2, 8, "ratio", "must be less than 1, not 2")]),
        ("just text\n", [(1, 1, "", 'must be a mapping of keys to values, not "just text"')]),
        ("[1, 2]\n", [(1, 1, "", "must be a mapping of keys to values, not a list of 2 items")]),
    ],
)
def test_what_does_not_fit_a_model_is_explained(tmp_path: Path, text: str, expected: list[tuple[Any, ...]]) -> None:
    """Every error of pydantic becomes a message with place, value and a way out, and only one for a union."""
    found = invalid(tmp_path, text)
    assert [item[:3] for item in found] == [item[:3] for item in expected]
    assert [item[3] for item in found if expected[0][3]] == [item[3] for item in expected if expected[0][3]]


def test_all_problems_are_reported_in_the_order_of_the_file(tmp_path: Path) -> None:
    """One validation lists everything that is wrong, from top to bottom."""
    text = "ratio: x\ninner:\n  - {size: p, kind: q}\nextra: 1\n"
    assert [(line, field) for line, _, field, _ in invalid(tmp_path, text)] == [
        (1, ""),
        (1, "ratio"),
        (3, "inner.0.size"),
        (3, "inner.0.kind"),
        (4, "extra"),
    ]


def test_long_values_are_cut_in_messages(tmp_path: Path) -> None:
    """A value of any length makes a message of a line."""
    assert len(invalid(tmp_path, f"name: x\nratio: {'y' * 5000}\n")[0][3]) < 100


class _Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class _Dog(BaseModel):
    kind: Literal["dog"]


class _Owner(BaseModel):
    pet: Annotated[_Cat | _Dog, Field(discriminator="kind")]


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("pet: {kind: cta}\n", (1, 13), 'pet.kind: must be cat or dog, not "cta". Did you mean "cat"?'),
        ("pet: {lives: 7}\n", (1, 1), 'pet: "kind" is missing'),
        ("pet: {kind: cat, lives: x}\n", (1, 25), 'pet.lives: must be a whole number, not "x"'),
    ],
)
def test_alternatives_told_by_a_tag_are_explained(
    tmp_path: Path, text: str, place: tuple[int, int], message: str
) -> None:
    """A wrong or missing tag is pointed to, with what it may be; what is wrong within an alternative has its own place."""
    with pytest.raises(DocumentError) as raised:
        load(tmp_path, text).validate(_Owner)
    (problem,) = raised.value.problems
    assert (problem.line, problem.column) == place
    assert f"{problem.field}: {problem.message}" == message


def test_problems_come_from_another_process_as_they_are() -> None:
    """An error that a worker raises tells the same, with its places, where it arrives."""
    error = DocumentError(
        [Problem(Path("card.yaml"), 3, 1, "level", "is wrong"), Problem(Path("card.yaml"), 9, 2, "", "is missing")]
    )
    found = pickle.loads(pickle.dumps(error))
    assert isinstance(found, DocumentError)
    assert (found.problems, str(found)) == (error.problems, str(error))


@pytest.mark.parametrize(
    "text",
    ["N", "on", "1e5", "0", "0o7", "1_000", "12:30", "null", "~", "", "- a", "a: b", "# a", "plain", "true", ".inf"],
)
def test_what_is_written_is_read_as_it_was(tmp_path: Path, text: str) -> None:
    """Text that YAML 1.1 or 1.2 would take for something else is quoted, as a value and as a key."""
    data = {"key": text, f"{text}x": [text]}
    assert load(tmp_path, to_yaml(data)).value == data
    assert load(tmp_path, to_yaml({text or "x": 1})).value == {text or "x": 1}

"""YAML text to plain values, with the place of each; one pass over the parser's events, without recursion.

Only data is read: mappings with text keys, lists, text, numbers, true, false and null. Everything else is a finding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)

from method_cards.document.scalars import AmbiguousError, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH = 64
MAX_NODES = 100_000

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The parser in C where PyYAML has it."""

FieldPath: TypeAlias = tuple[str | int, ...]
Mark: TypeAlias = tuple[int, int]
"""Line and column, from 1."""


@dataclass(slots=True)
class Place:
    """Where a mapping or list stands, and what is inside it.

    Attributes:
        mark: Where it begins.
        keys: Where the keys of a mapping stand.
        items: Where the values in it stand; for text and numbers only the mark, as there are many of them.
    """

    mark: Mark
    keys: dict[str | int, Mark]
    items: dict[str | int, Place | Mark]


@dataclass(frozen=True)
class Finding:
    """Something wrong, and where."""

    mark: Mark
    path: FieldPath
    message: str


@dataclass(slots=True)
class _Open:
    """A mapping or list whose end has not been reached."""

    value: Any
    place: Place
    anchor: str | None
    key: str | None = None
    size: int = 1
    skip: bool = False
    """Whether the value that comes next is dropped, because its key is wrong."""


class _StopError(Exception):
    """Nothing after this can be read."""

    def __init__(self, mark: Mark, message: str) -> None:
        super().__init__(message)
        self.mark = mark


def read(text: str, loader: Any = LOADER) -> tuple[Any, Place, list[Finding]]:
    """Read one YAML document.

    Args:
        text: The document, printable text.
        loader: The loader of PyYAML whose parser is used.

    Returns:
        Its value, the places, and everything that is wrong with it; the value is of no use where something is.
    """
    reader = _Reader()
    try:
        reader.consume(yaml.parse(text, Loader=loader))
    except _StopError as stop:
        reader.find(stop.mark, str(stop))
    except yaml.MarkedYAMLError as error:
        reader.find(*_syntax(text, error))
    return reader.value, reader.place, reader.findings


_UNCLOSED = "unexpected end of stream"


def _syntax(text: str, error: yaml.MarkedYAMLError) -> tuple[Mark, str]:
    """Where the text is no YAML, and why."""
    problem = error.problem or ""
    at = error.context_mark if _UNCLOSED in problem and error.context_mark else error.problem_mark or error.context_mark
    mark = (at.line + 1, at.column + 1) if at is not None else (1, 1)
    lines = text.splitlines()
    line = lines[mark[0] - 1] if mark[0] <= len(lines) else ""
    if line[mark[1] - 1 : mark[1]] == "\t":
        return mark, "a tab cannot indent YAML: use spaces"
    if _UNCLOSED in problem:
        return mark, "the quotes that open here are never closed"
    if "nesting depth" in problem:  # libyaml has a limit of its own since 0.2.6, far beyond this one
        return mark, f"nested more than {MAX_DEPTH} deep"
    if "mapping values are not allowed" in problem:
        return mark, "a second key on one line, or a wrong indent: put text that holds a colon in quotes"
    return mark, f"not valid YAML: {' '.join(part for part in (error.context, problem) if part)}"


class _Reader:
    """Builds values from events."""

    def __init__(self) -> None:
        self.value: Any = None
        self.place = Place((1, 1), {}, {})
        self.findings: list[Finding] = []
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Any, Place | Mark, int] | None] = {}
        self._nodes = 0
        self._documents = 0

    def find(self, mark: Mark, message: str) -> None:
        """Note that something is wrong here."""
        path = tuple(frame.key if frame.key is not None else len(frame.value) for frame in self._open)
        path = path[:-1] if self._open and self._awaits_key() else path
        self.findings.append(Finding(mark, path, message))

    def consume(self, events: Iterator[yaml.Event]) -> None:
        """Read to the end, or to where nothing more can be read."""
        for event in events:
            if isinstance(event, ScalarEvent):
                self._scalar(event)
            elif isinstance(event, CollectionStartEvent):
                self._begin(event)
            elif isinstance(event, CollectionEndEvent):
                frame = self._open.pop()
                self._complete(frame.value, frame.place, frame.size, frame.anchor)
            elif isinstance(event, AliasEvent):
                self._alias(event)
            elif isinstance(event, DocumentStartEvent):
                self._documents += 1
                if self._documents > 1:
                    raise _StopError(_mark(event), "a second document begins here: a file holds one; remove the ---")

    def _awaits_key(self) -> bool:
        top = self._open[-1]
        return isinstance(top.value, dict) and top.key is None

    def _scalar(self, event: ScalarEvent) -> None:
        mark = _mark(event)
        self._count(1, mark)
        self._refuse_tag(event, mark)
        bare = not event.style  # None in the Python parser, "" in the one in C
        if self._open and self._awaits_key():
            self._key(event.value, mark, bare=bare)
            self._name(event.anchor, (event.value, mark, 1))
            return
        value: Any = event.value
        if bare:
            try:
                value = plain(value)
            except AmbiguousError as error:
                self.find(mark, str(error))
        if bare and not event.value and self._open:  # nothing is written: show what it is missing from
            mark = self._open[-1].place.keys.get(self._open[-1].key or "", mark)
        self._complete(value, mark, 1, event.anchor)

    def _key(self, key: str, mark: Mark, *, bare: bool) -> None:
        top = self._open[-1]
        top.key = key
        if key in top.place.keys:
            first = top.place.keys[key][0]
            self.find(mark, f'"{key}" stands here again; it first stands on line {first}: keep one of them')
            top.skip = True
        elif bare and key == "<<":
            self.find(mark, "merge keys (<<) are not read: write the fields out")
            top.skip = True
        elif bare and not _is_text(key):
            self.find(mark, f'keys are text: put quotes around it, "{key}"')
        top.place.keys.setdefault(key, mark)

    def _begin(self, event: CollectionStartEvent) -> None:
        mark = _mark(event)
        self._count(1, mark)
        self._refuse_tag(event, mark)
        if self._open and self._awaits_key():
            raise _StopError(
                mark, "keys are text, not lists or mappings; put quotes around a text that begins with [ or {"
            )
        if len(self._open) >= MAX_DEPTH:
            raise _StopError(mark, f"nested more than {MAX_DEPTH} deep")
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        value: Any = {} if isinstance(event, MappingStartEvent) else []
        self._open.append(_Open(value, Place(mark, {}, {}), event.anchor))

    def _alias(self, event: AliasEvent) -> None:
        mark = _mark(event)
        if self._open and self._awaits_key():
            raise _StopError(mark, f"an alias cannot be a key: write the text that *{event.anchor} stands for")
        if event.anchor not in self._anchors:
            raise _StopError(mark, f"*{event.anchor} stands for nothing: no &{event.anchor} comes before it")
        anchored = self._anchors[event.anchor]
        if anchored is None:
            raise _StopError(mark, f"*{event.anchor} stands inside what it stands for, without end")
        value, place, size = anchored
        self._count(size, mark)
        self._complete(value, place, size, None)

    def _complete(self, value: Any, place: Place | Mark, size: int, anchor: str | None) -> None:
        """Put a finished value where it belongs."""
        self._name(anchor, (value, place, size))
        if not self._open:
            self.value, self.place = value, place if isinstance(place, Place) else Place(place, {}, {})
            return
        top = self._open[-1]
        top.size += size
        if isinstance(top.value, list):
            top.place.items[len(top.value)] = place
            top.value.append(value)
            return
        if not top.skip and top.key is not None:
            top.value[top.key] = value
            top.place.items[top.key] = place
        top.key, top.skip = None, False

    def _name(self, anchor: str | None, anchored: tuple[Any, Place | Mark, int]) -> None:
        if anchor is not None:
            self._anchors[anchor] = anchored

    def _count(self, nodes: int, mark: Mark) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise _StopError(mark, f"more than {MAX_NODES:,} values, counting what aliases stand for")

    def _refuse_tag(self, event: NodeEvent, mark: Mark) -> None:
        tag = getattr(event, "tag", None)
        if tag is not None:
            name = tag.replace("tag:yaml.org,2002:", "!!")
            self.find(mark, f"the tag {name} is not read: YAML is data here; remove it")


def _is_text(key: str) -> bool:
    """Whether an unquoted key is text in YAML 1.2; `on` is."""
    try:
        return isinstance(plain(key), str)
    except AmbiguousError:
        return key[0].isalpha()


def _mark(event: yaml.Event) -> Mark:
    return (event.start_mark.line + 1, event.start_mark.column + 1) if event.start_mark is not None else (1, 1)

"""One YAML file: its values, the place of each, and problems with their place."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from method_cards.document.explain import explain, holds
from method_cards.document.files import SIZE_LIMIT, decode, read_bytes
from method_cards.document.reader import FieldPath, Finding, Mark, Place, read
from method_cards.errors import DocumentError, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

_LONGEST_EXCERPT = 200

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Document:
    """A YAML file that was read.

    Attributes:
        path: The file.
        value: What it says: mappings with text keys, lists, text, numbers, true, false and None. Dates are text.
        sha256: The SHA-256 of its bytes.
        lines: Its lines.
        places: Where everything stands.
    """

    path: Path
    value: Any = dataclass_field(repr=False)
    sha256: str
    lines: tuple[str, ...] = dataclass_field(repr=False)
    places: Place = dataclass_field(repr=False)

    def locate(self, field: str | Sequence[str | int], *, key: bool = False) -> Mark:
        """Line and column of a field, from 1.

        Text and numbers are found where they stand, mappings and lists where their key stands. For a field that is not
        there it is the place of what should hold it.

        Args:
            field: Keys and numbers of items from the top, ``("prescriptions", 2, "level")``, or the same with dots.
            key: Whether to point to the key, whatever its value is.
        """
        steps = _steps(field)
        place, mark = self.places, self.places.mark
        for number, step in enumerate(steps):
            inner = place.items.get(step)
            if inner is None:
                return place.keys.get(step, mark)
            if not isinstance(inner, Place):
                return place.keys.get(step, inner) if key and number == len(steps) - 1 else inner
            at_key = inner.items or key
            mark = place.keys.get(step, inner.mark) if at_key else inner.mark
            place = inner
        return mark

    def problem(self, field: str | Sequence[str | int], message: str, *, key: bool = False) -> Problem:
        """Something wrong with a field, with its place.

        Args:
            field: As for `locate`.
            message: What is wrong, which value, what to do.
            key: Whether the key is wrong, rather than its value.
        """
        steps = _steps(field)
        return _problem(self.path, self.lines, Finding(self.locate(steps, key=key), steps, message))

    def problems(
        self, error: ValidationError, model: type[BaseModel], field: str | Sequence[str | int] = ()
    ) -> list[Problem]:
        """What pydantic found wrong with a part of this file, in the order of the file.

        Args:
            error: What pydantic raised.
            model: What the part was validated as.
            field: The part; the whole document where left out.
        """
        steps = _steps(field)
        found = [
            self.problem((*steps, *item.path), item.message, key=item.at_key)
            for item in explain(error, _part(self.value, steps), model)
        ]
        return sorted(found, key=lambda problem: (problem.line, problem.column))

    def validate(self, model: type[M]) -> M:
        """The document as a pydantic model; keys are those of the file, aliases included.

        Raises:
            DocumentError: Something is wrong; every problem is listed, in the order of the file.
        """
        try:
            return model.model_validate(self.value, by_alias=True, by_name=False)
        except ValidationError as error:
            raise DocumentError(self.problems(error, model)) from None


def load(path: Path | str, *, limit: int = SIZE_LIMIT) -> Document:
    """Read a YAML file.

    Args:
        path: The file.
        limit: How many bytes it may have. A larger one is not opened.

    Raises:
        DocumentError: There is no such file, it is too large, no text, no YAML, or more than data; every problem that
            could be found is listed.
    """
    path = Path(path)
    data = read_bytes(path, limit)
    text = decode(path, data)
    value, places, findings = read(text)
    lines = tuple(text.splitlines())
    if not findings and value is None:
        findings = [Finding((1, 1), (), "is empty: there is nothing in this file")]
    if findings:
        ordered = sorted(findings, key=lambda finding: finding.mark)
        raise DocumentError([_problem(path, lines, finding) for finding in ordered])
    return Document(path, value, hashlib.sha256(data).hexdigest(), lines, places)


def _problem(path: Path, lines: Sequence[str], finding: Finding) -> Problem:
    line, column = finding.mark
    excerpt = lines[line - 1].replace("\t", " ").rstrip() if line <= len(lines) else ""
    if len(excerpt) > _LONGEST_EXCERPT:
        excerpt = f"{excerpt[:_LONGEST_EXCERPT]}..." if column <= _LONGEST_EXCERPT else ""
    return Problem(path, line, column, ".".join(str(step) for step in finding.path), finding.message, excerpt)


def _steps(field: str | Sequence[str | int]) -> FieldPath:
    if isinstance(field, str):
        return tuple(int(step) if step.isdigit() else step for step in field.split(".") if step)
    return tuple(field)


def _part(value: Any, steps: FieldPath) -> Any:
    for step in steps:
        if not holds(value, step):
            return None
        value = value[step]
    return value

"""Everything that can go wrong, as one small tree.

    MethodCardsError
    ├── InputError          a file, option or answer that a person gave is wrong: exit status 2
    │   └── DocumentError   ... and its place in a YAML file is known: file:line:column
    └── CheckError          a check could not measure: the verdict is "errored", with this cause

Every message says what is wrong, where, which value, and what to do.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


class MethodCardsError(Exception):
    """Base of all errors that this package raises on purpose."""


class InputError(MethodCardsError):
    """Something that a person wrote or named is wrong; the message says what to do."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the message. What is wrong is in the cell, and no line of this package would help to find it."""
        return [f"{type(self).__name__}: {self}"]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a YAML file.

    Attributes:
        path: The file.
        line: Line number, from 1.
        column: Column number, from 1.
        field: Where in the document, such as ``prescriptions.2.level``; empty for the document itself.
        message: What is wrong, which value, what to do.
        excerpt: The line of the file, for display with a caret; empty where it cannot be shown.
    """

    path: Path
    line: int
    column: int
    field: str
    message: str
    excerpt: str = ""

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}:{self.column}: "
        text = f"{where}{self.field}: {self.message}" if self.field else f"{where}{self.message}"
        if self.excerpt:
            text += f"\n    {self.excerpt}\n    {' ' * (self.column - 1)}^"
        return text


class DocumentError(InputError):
    """A YAML file is wrong; every problem that could be found is listed with its place."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))

    def __reduce__(self) -> tuple[type[DocumentError], tuple[tuple[Problem, ...]]]:
        """How it comes from another process: with its problems, not with its message."""
        return type(self), (self.problems,)


class CheckError(MethodCardsError):
    """A check cannot measure this subject: its verdict is *errored* with this message as the cause."""


def foreign(error: BaseException) -> str:
    """What another library's exception says, with what to do where that is well known."""
    what = f"{type(error).__name__}: {error}"
    if "on ScriptModules" in what:
        what += (
            "; the model is compiled by torch.jit.script, which has no hooks: check the module that it was made from"
        )
    return what


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name: `` Did you mean "x"?``, or what is known, or nothing.

    Args:
        name: What was written.
        known: What could have been meant.

    Returns:
        A sentence with a leading space, or an empty string when nothing is known.
    """
    candidates = sorted(known)
    close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    if close:
        return f' Did you mean "{close[0]}"?'
    if not candidates:
        return ""
    shown = ", ".join(candidates[:12]) + (", ..." if len(candidates) > 12 else "")  # noqa: PLR2004
    return f" Known: {shown}."

"""The file ``answers.yaml`` beside ``method-cards.yaml``: answers that were collected from notebooks.

A person's own file is never rewritten, since that would lose comments and layout; this one is data, and written anew each time.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict

from method_cards import document
from method_cards.errors import InputError
from method_cards.verdict import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from method_cards.document import Document

FILE = "answers.yaml"

LOCK = Path(".cache/method-cards/answers.lock")
"""Beside it, and held while it is read and written anew."""

PATIENCE = 20
"""Seconds that one who collects waits for another."""

HEAD = """\
# Answers that `method-cards notebook collect` took over from notebooks, by subject and prescription.
# `run` and all pages read them with those in method-cards.yaml; one question is answered in one of the two files.
"""


class AnswersFile(BaseModel):
    """The file ``answers.yaml``."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: Literal[1]
    """The version of this format."""
    subjects: dict[str, dict[str, Answer]] = {}
    """Answers by subject, then by `card/prescription`."""


def read(folder: Path) -> tuple[Mapping[str, Mapping[str, Answer]], Document | None]:
    """The answers beside a project's file, by subject and prescription, and the file, for problems with their place.

    Args:
        folder: The folder of ``method-cards.yaml``.

    Raises:
        DocumentError: The file is wrong.
    """
    path = folder / FILE
    if not path.exists():
        return {}, None
    source = document.load(path)
    return source.validate(AnswersFile).subjects, source


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Read and write the answers while no other process does: of two that collect at once, the second waits for the first.

    Args:
        folder: The folder of ``method-cards.yaml``.

    Raises:
        InputError: The lock cannot be had.
    """
    path = folder / LOCK
    lock = FileLock(path, timeout=PATIENCE)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise InputError(
            f"{folder / FILE}: another process has been collecting answers for {PATIENCE} seconds ({path} is locked): wait for its end, "
            "and collect again"
        ) from None
    except (OSError, NotImplementedError) as error:
        raise InputError(f"{path}: cannot be locked: {getattr(error, 'strerror', None) or error}") from error
    try:
        yield
    finally:
        lock.release()


def write(folder: Path, subjects: Mapping[str, Mapping[str, Answer]]) -> Path:
    """Write the answers, whole or not at all; the same answers give the same bytes.

    Args:
        folder: The folder of ``method-cards.yaml``.
        subjects: All answers, by subject and prescription.

    Raises:
        InputError: The file cannot be written, or would be too large to be read again.
    """
    path = folder / FILE
    data = {
        name: {full: found[full].model_dump(exclude_defaults=True) for full in sorted(found)}
        for name, found in sorted(subjects.items())
        if found
    }
    content = f"{HEAD}{document.to_yaml({'schema_version': 1, 'subjects': data})}".encode()
    if len(content) > document.SIZE_LIMIT:
        raise InputError(
            f"{path}: would have {len(content):,} bytes, more than the {document.SIZE_LIMIT:,} that a file may have"
        )
    try:
        with document.whole(path) as handle:
            handle.write(content)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    return path

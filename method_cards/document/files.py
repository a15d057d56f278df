"""Files that people write: read whole, only when they are small, regular and text."""

from __future__ import annotations

import json
import re
import stat
from typing import TYPE_CHECKING, Any, NoReturn

from method_cards.errors import DocumentError, Problem

if TYPE_CHECKING:
    from pathlib import Path

SIZE_LIMIT = 1 << 20
"""How many bytes a file may have: 1 MiB."""

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


def read_bytes(path: Path, limit: int = SIZE_LIMIT) -> bytes:
    """Read a small file.

    Args:
        path: The file.
        limit: How many bytes it may have. A larger one is not opened.

    Raises:
        DocumentError: There is no such file, it is no regular file, too large, or cannot be read.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            _refuse(path, "is a folder: name a file in it")
        if not stat.S_ISREG(status.st_mode):
            _refuse(path, "is not a regular file")
        if status.st_size > limit:
            _refuse(path, _too_large(status.st_size, limit))
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        _refuse(path, "there is no such file")
    except (OSError, ValueError) as error:
        _refuse(path, f"cannot be read: {getattr(error, 'strerror', None) or error}")
    if len(data) > limit:
        _refuse(path, _too_large(len(data), limit))
    return data


def decode(path: Path, data: bytes) -> str:
    """The text of a file.

    Args:
        path: The file, for messages.
        data: Its bytes.

    Raises:
        DocumentError: It is no UTF-8, or holds control characters.
    """
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8").splitlines() or [""]
        message = f"is not UTF-8 text: byte 0x{data[error.start]:02x} here; save the file as UTF-8"
        raise DocumentError([Problem(path, len(before), len(before[-1]) + 1, "", message)]) from None
    if unprintable := _UNPRINTABLE.search(text):
        lines = (text[: unprintable.start()] + ".").splitlines()
        message = f"the character U+{ord(unprintable[0]):04X} cannot stand in a YAML file: remove it"
        raise DocumentError([Problem(path, len(lines), len(lines[-1]), "", message)])
    return text


def parse_json(data: bytes) -> Any:
    """What JSON says.

    Raises:
        ValueError: It is none; the message says why, without the file.
    """
    if not data.strip():
        raise ValueError("it is empty")
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError("it is not text in UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"nothing can be read from line {error.lineno}, column {error.colno} on") from error
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    except ValueError as error:
        raise ValueError("a number in it has thousands of digits") from error


def _too_large(size: int, limit: int) -> str:
    return f"has {size:,} bytes, more than the {limit:,} that a file may have"


def _refuse(path: Path, message: str) -> NoReturn:
    raise DocumentError([Problem(path, 1, 1, "", message)])

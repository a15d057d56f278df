"""What ``method-cards init`` writes: a project that is valid at once, and JSON Schemas for the editor."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING

from method_cards import schema
from method_cards.errors import InputError
from method_cards.project import ProjectConfig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable
    from pathlib import Path

SCHEMAS = ".schemas"
"""The folder of the JSON Schemas, named in the first line of each YAML file."""

RENAMED = {"gitignore": ".gitignore"}
"""Templates that cannot bear their own name, since tools would obey them here."""


def write(folder: Path) -> list[tuple[Path, bool]]:
    """Set up a folder. A file that is there already is kept as it is.

    Args:
        folder: The folder; made if need be.

    Returns:
        The path of each file, and whether it was written.

    Raises:
        InputError: Something cannot be written.
    """
    return [(folder / name, _write(folder / name, text)) for name, text in contents().items()]


def contents() -> dict[str, str]:
    """The text of each file by its path in the folder."""
    templates = dict(_texts(files("method_cards") / "templates" / "project"))
    return templates | {
        f"{SCHEMAS}/method-cards.json": _json(schema.draft_07(ProjectConfig)),
        f"{SCHEMAS}/card.json": _json(schema.card_schema()),
    }


def _texts(root: Traversable, prefix: str = "") -> Iterator[tuple[str, str]]:
    for item in sorted(root.iterdir(), key=lambda item: item.name):
        name = RENAMED.get(item.name, item.name)
        if item.is_dir() and name != "__pycache__":
            yield from _texts(item, f"{prefix}{name}/")
        elif item.is_file():
            yield f"{prefix}{name}", item.read_text(encoding="utf-8")


def _json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _write(path: Path, text: str) -> bool:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        if path.is_file():
            return False
        raise InputError(f"{path}: cannot be written: something that is no file stands in its way") from None
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written: {error.strerror}; choose a folder that you may write to"
        ) from error
    return True

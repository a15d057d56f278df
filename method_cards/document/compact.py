"""JSON that programs keep and people compare: a line for each field, and one for each list or object of nothing but numbers or words."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from method_cards.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

M = TypeVar("M", bound=BaseModel)

_LEAF = re.compile(r"([\[{])\n\s*([^\[\]{}]*?)\s*([\]}])")
_BREAK = re.compile(r",\n\s*")
LONGEST = 160
"""An object that would make a longer line stays broken; a list of numbers never does."""


def compact_json(data: Any) -> str:
    """Data as JSON with short parts on one line; strings hold no bare line break, so none is changed."""

    def joined(found: re.Match[str]) -> str:
        inside = _BREAK.sub(", ", found[2])
        is_list = found[1] == "[" and '"' not in inside
        return f"{found[1]}{inside}{found[3]}" if is_list or len(inside) <= LONGEST else found[0]

    return _LEAF.sub(joined, json.dumps(data, indent=1, ensure_ascii=False)) + "\n"


def read_compact(path: Path, model: type[M], writer: str) -> M:
    """What a file holds; nothing, as the model is without any of its fields, where there is no file.

    Args:
        path: The file.
        model: What it holds.
        writer: The command that writes it.

    Raises:
        InputError: The file is damaged, or cannot be read.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return model()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        found = f"{where}: {first['msg']}" if where else first["msg"]
        raise InputError(f"{path}: is damaged: {found}; run `{writer}` again") from error

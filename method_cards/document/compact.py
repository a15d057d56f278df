"""JSON that people can compare: a line for each field, and one for each list or object that holds nothing but numbers or words."""

from __future__ import annotations

import json
import re
from typing import Any

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

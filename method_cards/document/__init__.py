"""YAML files that people write: read safely, with the line and column of everything in them.

`load` reads a file and refuses all that is not plain data; `Document.validate` makes a pydantic model of it, and puts
what is wrong into words, with file, line and column. `compact_json` writes what programs keep beside them.
"""

from method_cards.document.compact import compact_json, read_compact
from method_cards.document.document import Document, load
from method_cards.document.dumping import to_key, to_yaml
from method_cards.document.files import SIZE_LIMIT, decode, parse_json, read_bytes
from method_cards.document.reader import MAX_DEPTH, MAX_NODES, FieldPath
from method_cards.document.writing import whole

__all__ = [
    "MAX_DEPTH",
    "MAX_NODES",
    "SIZE_LIMIT",
    "Document",
    "FieldPath",
    "compact_json",
    "decode",
    "load",
    "parse_json",
    "read_bytes",
    "read_compact",
    "to_key",
    "to_yaml",
    "whole",
]

"""The parameters of a check, read from its JSON Schema: name, type, default, meaning."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

FEW = 3
"""So many objects to choose from stand in a type itself; more are listed apart, one in a line."""

GUIDE = "guide"
"""Under this key a schema may name the page that describes what there is to choose from."""


@dataclass(frozen=True)
class Alternative:
    """One of the objects that a parameter may be.

    Attributes:
        name: How it is called in YAML: ``{method: lime}``.
        meaning: The first sentence of its documentation; empty where it has none.
        fields: Its own parameters, as ``name: type = default``.
    """

    name: str
    meaning: str
    fields: tuple[str, ...]


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    Attributes:
        name: As it stands under ``with:``.
        type: For people: ``number``, ``"zeros" | "minimum" | number``, ``one of 22, told apart by method``.
        default: The value where it is left out.
        is_required: Whether it must be given.
        meaning: One sentence; empty where the check gives none.
        alternatives: For a choice between objects, each with its own parameters.
        guide: The page that describes them, within the pages that people write; empty where the check names none.
    """

    name: str
    type: str
    default: Any
    is_required: bool
    meaning: str
    alternatives: tuple[Alternative, ...] = ()
    guide: str = ""


def parameters(schema: dict[str, Any]) -> list[Parameter]:
    """All parameters of a check."""
    definitions = schema.get("$defs", {})
    required = schema.get("required", [])
    return [
        Parameter(
            name,
            _type(part, definitions),
            part.get("default"),
            name in required,
            part.get("description", ""),
            tuple(_alternative(choice, definitions) for choice in _objects(part, definitions)),
            next((str(piece[GUIDE]) for piece in _parts(part, definitions) if GUIDE in piece), ""),
        )
        for name, part in schema.get("properties", {}).items()
    ]


def _type(part: dict[str, Any], definitions: dict[str, Any]) -> str:
    part = _resolved(part, definitions)
    choices = part.get("anyOf") or part.get("oneOf")
    if choices:
        tag = part.get("discriminator", {}).get("propertyName", "")
        if tag and len(choices) > FEW:
            return f"one of {len(choices)}, told apart by {tag}"
        return " | ".join(dict.fromkeys(_type(choice, definitions) for choice in choices))
    if "const" in part:
        return json.dumps(part["const"])
    if "enum" in part:
        return " | ".join(json.dumps(item) for item in part["enum"])
    kind = str(part.get("type", "anything"))
    if kind == "array":
        items = _type(part.get("items", {}), definitions)
        return f"list of {items}" if " | " not in items else f"list of ({items})"
    if kind == "object":
        return _named(part) or "mapping"
    return {"string": "text", "null": "none", "boolean": "true | false"}.get(kind, kind) + _limits(part)


def _limits(part: dict[str, Any]) -> str:
    words = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {part[key]:g}" for key, sign in words.items() if key in part]
    return f" ({', '.join(found)})" if found else ""


def _parts(part: dict[str, Any], definitions: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A type and all that it is a choice between or a list of."""
    part = _resolved(part, definitions)
    yield part
    for choice in (*part.get("anyOf", ()), *part.get("oneOf", ()), *([part["items"]] if "items" in part else ())):
        yield from _parts(choice, definitions)


def _objects(part: dict[str, Any], definitions: dict[str, Any]) -> list[dict[str, Any]]:
    return [piece for piece in _parts(part, definitions) if piece.get("properties")]


def _alternative(part: dict[str, Any], definitions: dict[str, Any]) -> Alternative:
    meaning = " ".join(str(part.get("description", "")).partition("\n\n")[0].split())
    return Alternative(_named(part), meaning.partition(". ")[0].removesuffix("."), tuple(_fields(part, definitions)))


def _fields(part: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    for name, item in part["properties"].items():
        if "const" not in item:
            default = f" = {json.dumps(item['default'])}" if "default" in item else ""
            yield f"{name}: {_type(item, definitions)}{default}"


def _named(part: dict[str, Any]) -> str:
    """How an object is called in YAML: by the one field that tells it from the other options, else by its title."""
    fixed = next(
        (f"{{{name}: {item['const']}}}" for name, item in part.get("properties", {}).items() if "const" in item), ""
    )
    return fixed or str(part.get("title", ""))


def _resolved(part: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    reference = part.get("$ref", "")
    if not reference:
        return part
    target = definitions.get(reference.rpartition("/")[2], {})
    return {**target, **{key: item for key, item in part.items() if key != "$ref"}}

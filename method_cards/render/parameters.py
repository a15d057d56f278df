"""The parameters of a check, read from its JSON Schema: name, type, default, meaning."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    Attributes:
        name: As it stands under ``with:``.
        type: For people: ``number``, ``"zeros" | "minimum" | number``, ``one of the options``.
        default: The value where it is left out.
        is_required: Whether it must be given.
        meaning: One sentence; empty where the check gives none.
        options: For a choice between objects, each with its own parameters.
    """

    name: str
    type: str
    default: Any
    is_required: bool
    meaning: str
    options: tuple[str, ...] = ()


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
            _options(part, definitions),
        )
        for name, part in schema.get("properties", {}).items()
    ]


def _type(part: dict[str, Any], definitions: dict[str, Any]) -> str:
    part = _resolved(part, definitions)
    choices = part.get("anyOf") or part.get("oneOf")
    if choices:
        return " | ".join(dict.fromkeys(_type(choice, definitions) for choice in choices))
    if "const" in part:
        return json.dumps(part["const"])
    if "enum" in part:
        return " | ".join(json.dumps(item) for item in part["enum"])
    kind = str(part.get("type", "anything"))
    if kind == "array":
        return f"list of {_type(part.get('items', {}), definitions)}"
    if kind == "object":
        return _named(part) or "mapping"
    return {"string": "text", "null": "none", "boolean": "true | false"}.get(kind, kind) + _limits(part)


def _limits(part: dict[str, Any]) -> str:
    words = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {part[key]:g}" for key, sign in words.items() if key in part]
    return f" ({', '.join(found)})" if found else ""


def _options(part: dict[str, Any], definitions: dict[str, Any]) -> tuple[str, ...]:
    part = _resolved(part, definitions)
    choices = [_resolved(choice, definitions) for choice in part.get("anyOf", part.get("oneOf", [part]))]
    nested = [
        option
        for choice in choices
        if choice.get("anyOf") or choice.get("oneOf")
        for option in _options(choice, definitions)
    ]
    objects = [choice for choice in choices if choice.get("properties")]
    return (
        *nested,
        *(f"{_named(choice)}: {_fields(choice, definitions)}" for choice in objects if _fields(choice, definitions)),
    )


def _fields(part: dict[str, Any], definitions: dict[str, Any]) -> str:
    found = []
    for name, item in part["properties"].items():
        if "const" not in item:
            default = f" = {json.dumps(item['default'])}" if "default" in item else ""
            found.append(f"{name}: {_type(item, definitions)}{default}")
    return ", ".join(found)


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

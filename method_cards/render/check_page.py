"""The page of one check: what it claims and measures, its parameters, and how often it is right."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from method_cards.render.page import Links, compact, render
from method_cards.render.source import Rates

if TYPE_CHECKING:
    from method_cards.catalog import LoadedCard
    from method_cards.check import Check
    from method_cards.measurement import Quantity
    from method_cards.registry import Entry
    from method_cards.render.source import Source


@dataclass(frozen=True)
class Parameter:
    """One row of the table of parameters."""

    name: str
    kind: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Use:
    """A prescription that the check verifies, with its error rates."""

    loaded: LoadedCard
    slug: str
    rates: Rates


def check_page(entry: Entry, source: Source) -> str:
    """The page of a check as Markdown."""
    found = source.check(entry.id)
    links = Links(f"checks/{entry.id}.md", directory_urls=source.directory_urls)
    uses = [Use(loaded, slug, source.calibration(loaded, slug)) for loaded, slug, _ in source.users(entry.id)]
    if isinstance(found, str):
        return render("broken_check.md.jinja", entry=entry, cause=found, uses=uses, links=links)
    return render(
        "check.md.jinja",
        entry=entry,
        check=found,
        page=found.page(),
        parameters=parameters(found),
        quantities=[(quantity, spread(quantity)) for quantity in found.quantities],
        uses=uses,
        links=links,
        kinds={"defect": "has the defect", "sound": "is sound", "confounded": "allows no verdict"},
    )


def parameters(check: type[Check]) -> list[Parameter]:
    """The table of parameters, from the schema."""
    schema = check.model_json_schema()
    definitions: dict[str, Any] = schema.get("$defs", {})
    return [
        Parameter(
            name=name,
            kind=_kind(field, definitions),
            default=compact(field["default"]) if "default" in field else "",
            meaning=str(field.get("description", "")),
        )
        for name, field in schema.get("properties", {}).items()
    ]


def spread(quantity: Quantity) -> str:
    """The range of a quantity for people."""
    low, high = quantity.range
    if math.isinf(low) and math.isinf(high):
        return "any number"
    if math.isinf(high):
        return f"from {low:g}"
    return f"up to {high:g}" if math.isinf(low) else f"{low:g} to {high:g}"


def _kind(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    """A type of JSON Schema in words."""
    if "$ref" in field:
        name = str(field["$ref"]).rpartition("/")[2]
        return _kind(definitions[name], definitions) if "enum" in definitions.get(name, {}) else name
    for key in ("anyOf", "oneOf"):
        if key in field:
            return " or ".join(dict.fromkeys(_kind(item, definitions) for item in field[key]))
    if "enum" in field:
        return ", ".join(compact(value) for value in field["enum"])
    if "const" in field:
        return compact(field["const"])
    limits = [f"{sign} {field[key]:g}" for key, sign in _LIMITS.items() if key in field]
    return " ".join([_TYPES.get(str(field.get("type", "")), "anything"), *limits])


_LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "yes or no", "array": "list", "object": "mapping", "null": "nothing"}

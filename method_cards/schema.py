"""JSON Schema of the files that people write, for editors.

Editors complete keys, show the fields' documentation and underline mistakes when the first line of a card is
``# yaml-language-server: $schema=<file or address>``. The server in most editors understands JSON Schema up to
draft-07, so that is what this gives. What needs more than one field of the card, such as references between
prescriptions, only ``method-cards validate`` can tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from method_cards.card import Card

if TYPE_CHECKING:
    from pydantic import BaseModel

DRAFT = "http://json-schema.org/draft-07/schema#"


def card_schema() -> dict[str, Any]:
    """The JSON Schema, draft-07, of a card."""
    return draft_07(Card)


def draft_07(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema, draft-07, of any model that a YAML file is validated as."""
    schema = model.model_json_schema(by_alias=True, mode="validation")
    definitions = {name: _converted(part) for name, part in schema.pop("$defs", {}).items()}
    return {"$schema": DRAFT, **_converted(schema), "definitions": definitions}


def _converted(schema: Any) -> Any:
    """From draft 2020-12 to draft-07, and without what editors would only show as noise."""
    if isinstance(schema, list):
        return [_converted(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    converted: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            converted[key] = {name: _property(part) for name, part in value.items()}
        elif key == "prefixItems":
            converted |= {"items": _converted(value), "additionalItems": False}
        elif key == "$ref":
            converted[key] = value.replace("#/$defs/", "#/definitions/")
        elif key in ("const", "enum", "default", "required"):
            converted[key] = value
        else:
            converted[key] = _converted(value)
    if "$ref" in converted and len(converted) > 1:  # draft-07 ignores whatever stands beside a reference
        converted["allOf"] = [*converted.get("allOf", []), {"$ref": converted.pop("$ref")}]
    return converted


def _property(schema: dict[str, Any]) -> Any:
    """A field: its title would only repeat its name, and a default of nothing says nothing."""
    return _converted(
        {
            key: value
            for key, value in schema.items()
            if key != "title" and not (key == "default" and value in (None, ""))
        }
    )

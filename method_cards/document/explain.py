"""What pydantic found, in words for the person who wrote the file."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

from pydantic import BaseModel

from method_cards.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pydantic import ValidationError

FieldPath: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True)
class Explained:
    """One thing that is wrong with a value.

    Attributes:
        path: The field.
        message: What is wrong, which value, what to do.
        at_key: Whether the key is wrong, rather than its value.
    """

    path: FieldPath
    message: str
    at_key: bool = False


@dataclass(frozen=True)
class _Found:
    """One error of pydantic, with the part of its place that exists in the file."""

    path: FieldPath
    branch: tuple[FieldPath, str] | None
    error: Mapping[str, Any]


def explain(error: ValidationError, value: Any, model: type[BaseModel]) -> list[Explained]:
    """Put the errors of one validation into words.

    Args:
        error: What pydantic raised.
        value: What was validated.
        model: What it was validated as.

    Returns:
        What is wrong, each once: of the alternatives of a union, only the one that comes closest.
    """
    found = [_located(item, value) for item in error.errors(include_url=False) if not _follows(item)]
    unions: dict[FieldPath, list[_Found]] = defaultdict(list)
    explained: list[Explained] = []
    for item in found:
        if item.branch is None:
            explained.append(_explained(item, model))
        else:
            unions[item.branch[0]].append(item)
    for path, items in unions.items():
        explained += _closest(path, items, model)
    return _without_misspelt(list(dict.fromkeys(explained)))


def holds(value: Any, step: str | int) -> bool:
    """Whether a mapping has this key, or a list this item."""
    if isinstance(value, list):
        return isinstance(step, int) and step < len(value)
    return isinstance(value, dict) and step in value


def _follows(error: Mapping[str, Any]) -> bool:
    """Whether a list is only short because items of it are wrong, which is reported on its own."""
    return error["type"] == "too_short" and bool(len(error["input"]) >= error["ctx"]["min_length"])


def _located(error: Mapping[str, Any], value: Any) -> _Found:
    """Follow pydantic's place into the file; what it adds for alternatives of a union is not in the file."""
    path: list[str | int] = []
    branch: tuple[FieldPath, str] | None = None
    loc: Sequence[str | int] = error["loc"]
    for number, step in enumerate(loc):
        last = number == len(loc) - 1
        if holds(value, step):
            value = value[step]
        elif last and (error["type"] == "missing" or step == "[key]"):
            path += [] if step == "[key]" else [step]
            break
        else:
            branch = branch or (tuple(path), str(step))
            continue
        path.append(step)
    return _Found(tuple(path), branch, error)


def _closest(path: FieldPath, items: list[_Found], model: type[BaseModel]) -> list[Explained]:
    """Of the alternatives of a union, what is wrong with the one that fits best."""
    branches: dict[str, list[_Found]] = defaultdict(list)
    for item in items:
        branches[item.branch[1] if item.branch else ""].append(item)
    kinds = [_KINDS.get(group[0].error["type"]) for group in branches.values() if len(group) == 1]
    if len(branches) > 1 and len(kinds) == len(branches) and all(kinds) and all(item.path == path for item in items):
        expected = list(dict.fromkeys(map(str, kinds)))
        if "a number" in expected and "a whole number" in expected:
            expected.remove("a whole number")
        return [Explained(path, f"must be {_or(expected)}, not {say(items[0].error['input'])}")]
    wrong_kind = [group for group in branches.values() if any(item.path == path for item in group)]
    candidates = [group for group in branches.values() if group not in wrong_kind] or list(branches.values())
    best = min(candidates, key=len)
    return [_explained(item, model) for item in best]


def _explained(found: _Found, model: type[BaseModel]) -> Explained:
    kind = found.error["type"]
    if kind == "missing":
        return Explained(found.path[:-1], f'"{found.path[-1]}" is missing')
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        key = str(found.path[-1])
        return Explained(found.path, f'unknown key "{key}".{hint(key, _keys(model, found.path[:-1]))}', at_key=True)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        context = found.error["ctx"]
        tag = str(context["discriminator"]).strip("'")
        if kind == "union_tag_not_found":
            return Explained(found.path, f'"{tag}" is missing')
        return Explained((*found.path, tag), _not_allowed(context["tag"], str(context["expected_tags"])))
    if found.error["loc"] and found.error["loc"][-1] == "[key]":
        return Explained(found.path, _message(found.error), at_key=True)
    return Explained(found.path, _message(found.error))


def _message(error: Mapping[str, Any]) -> str:
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind in ("enum", "literal_error"):
        return _not_allowed(value, str(context["expected"]))
    if kind in _KINDS:
        if value is None or value == "":
            return f"is empty: write {_KINDS[kind]}"
        cure = ": put quotes around it" if kind == "string_type" and not isinstance(value, list | dict) else ""
        return f"must be {_KINDS[kind]}, not {say(value)}{cure}"
    if kind in _MESSAGES:
        return _MESSAGES[kind](context, value)
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if message.startswith("Input should"):
        return f"must{message.removeprefix('Input should')}, not {say(value)}"
    return message


def _items(count: int) -> str:
    return "1 item" if count == 1 else f"{count} items"


_MESSAGES: dict[str, Callable[[Mapping[str, Any], Any], str]] = {
    "string_pattern_mismatch": lambda context, value: (
        "is empty: write some text"
        if context["pattern"] == r"\S"
        else f"{say(value)} does not match {context['pattern']}"
    ),
    "string_too_short": lambda _, value: "is empty: write some text" if not value else f"{say(value)} is too short",
    "too_short": lambda context, value: f"needs at least {_items(context['min_length'])}, and has {len(value)}",
    "too_long": lambda context, value: f"may have at most {_items(context['max_length'])}, and has {len(value)}",
    "finite_number": lambda _, value: f"must be a finite number, not {say(value)}",
}

_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping of keys to values",
    "mapping_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "dataclass_type": "a mapping of keys to values",
    "path_type": "a path",
    "date_type": "a date, year-month-day",
    "date_parsing": "a date, year-month-day",
    "date_from_datetime_parsing": "a date, year-month-day",
    "date_from_datetime_inexact": "a date, year-month-day",
}


def _not_allowed(value: Any, expected: str) -> str:
    allowed = [quoted or bare for quoted, bare in re.findall(r"'((?:[^'\\]|\\.)*)'|([^\s,']+)(?=,|$| or )", expected)]
    if value is None:
        return f"is empty: write {_or(allowed)}"
    message = f"must be {_or(allowed)}, not {say(value)}"
    meant = hint(str(value), allowed)
    return f"{message}.{meant}" if meant.startswith(" Did") else message


def hint(name: str, known: Sequence[str]) -> str:
    """A suggestion for a misspelt name, upper and lower case being the same."""
    for candidate in known:
        if candidate.casefold() == name.casefold().replace("_", " ").strip():
            return f' Did you mean "{candidate}"?'
    return did_you_mean(name, known)


_LONGEST_VALUE = 60


def say(value: Any) -> str:
    """A value, short enough for a message."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return f"a list of {_items(len(value))}"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= _LONGEST_VALUE else f'{text[: _LONGEST_VALUE - 4]}..."'


def _or(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _keys(model: type[BaseModel], path: FieldPath) -> list[str]:
    """The keys that the models at this place know."""
    models = {model}
    for step in path:
        if isinstance(step, str):
            inner = {
                part
                for known in models
                for name, field in known.model_fields.items()
                if step in (field.alias or name, name)
                for part in _models(field.annotation)
            }
            models = inner or models
    return sorted({field.alias or name for known in models for name, field in known.model_fields.items()})


def _models(annotation: Any) -> set[type[BaseModel]]:
    """The models inside a type, such as the ``Source`` of ``tuple[Source, ...] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {model for argument in get_args(annotation) for model in _models(argument)}


def _without_misspelt(explained: list[Explained]) -> list[Explained]:
    """Leave out that a key is missing where another one is suspected to be meant for it."""
    suspected = {
        (item.path[:-1], match[1])
        for item in explained
        if item.at_key and (match := re.search(r'Did you mean "(.*)"\?$', item.message))
    }
    missing = re.compile(r'"(.*)" is missing')
    return [
        item
        for item in explained
        if not ((match := missing.fullmatch(item.message)) and (item.path, match[1]) in suspected)
    ]

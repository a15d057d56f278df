"""YAML that `load` reads back as it was: what either version of YAML would take for something else stands in quotes."""

from __future__ import annotations

from typing import Any

import yaml

from method_cards.document.scalars import AmbiguousError, plain


class _Dumper(yaml.SafeDumper):
    """Quotes more than YAML 1.1 asks for."""


def to_yaml(data: Any) -> str:
    """Data as YAML, in its own order."""
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))


def to_key(text: str) -> str:
    """A short text as a key of YAML, in quotes where it needs them."""
    return to_yaml({text: 0}).removesuffix(": 0\n")


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    try:
        is_text = plain(text) == text
    except AmbiguousError:
        is_text = False
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if is_text else '"')


_Dumper.add_representer(str, _text)

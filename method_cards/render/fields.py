"""Any part of a card as HTML: for the sections that need no layout of their own, today's and tomorrow's."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup
from pydantic import BaseModel

from method_cards.card import Source
from method_cards.render import markdown
from method_cards.render.citations import Citations
from method_cards.render.page import heading


def fields(part: BaseModel, citations: Citations, skip: frozenset[str] = frozenset()) -> Markup:
    """A definition list of everything that was filled in.

    Args:
        part: The section.
        citations: How works are cited on this page.
        skip: Fields that are shown elsewhere.
    """
    rows = [(name, value) for name, value in part if name not in skip and value not in (None, "", (), {}, False)]
    if not rows:
        return Markup()
    items = (
        Markup("<dt>{}</dt><dd>{}</dd>").format(_label(part, name), value_html(value, citations))
        for name, value in rows
    )
    return Markup('<dl class="mc-fields">{}</dl>').format(Markup().join(items))


def value_html(value: Any, citations: Citations) -> Markup:
    """One value: text as Markdown, lists as lists, sections as definition lists."""
    if isinstance(value, bool):
        return Markup("{}").format("yes" if value else "no")
    if isinstance(value, Source):
        return citations.source(value)
    if isinstance(value, BaseModel):
        return fields(value, citations)
    if isinstance(value, tuple | list):
        items = Markup().join(Markup("<li>{}</li>").format(value_html(item, citations)) for item in value)
        return Markup("<ul>{}</ul>").format(items)
    if isinstance(value, Mapping):
        return Markup(", ").join(Markup("{} {}").format(key, item) for key, item in value.items())
    if isinstance(value, dt.date | int | float):
        return Markup("{}").format(value)
    text = str(value)
    if text.startswith(("https://", "http://")) and not any(char.isspace() for char in text):
        return Markup('<a href="{}" rel="noopener noreferrer">{}</a>').format(text, text)
    return markdown.block(text) if "\n" in text.strip() else markdown.inline(text)


def _label(part: BaseModel, name: str) -> str:
    return heading(type(part).model_fields[name].alias or name)

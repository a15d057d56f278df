"""The works that a check's docstring names by their keys in the bibliography."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from method_cards.catalog import Reference

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_:+-]*[A-Za-z0-9]")


def cited(text: str, references: Mapping[str, Reference]) -> str:
    """Text in which keys become author and year, with a link."""

    def mark(found: re.Match[str]) -> str:
        work = references.get(found[0])
        if work is None:
            return found[0]
        return f"[{work.short}]({work.link})" if work.link else work.short

    return _KEY.sub(mark, text)


def works(text: str, references: Mapping[str, Reference]) -> Iterator[Reference]:
    """The works whose keys stand in a text, in order."""
    for key in dict.fromkeys(_KEY.findall(text)):
        if key in references:
            yield references[key]


def besides(text: str, references: Mapping[str, Reference]) -> str:
    """A text that says more than which works there are; empty where it only lists keys."""
    rest = _KEY.sub(lambda found: "" if found[0] in references else found[0], text)
    return text if re.search(r"\w", rest) else ""

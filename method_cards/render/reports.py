"""The forms that a kept record is written in, by the name of their option."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from method_cards.render.html_report import html_report
from method_cards.render.junit import junit
from method_cards.render.report import print_record
from method_cards.render.sarif import sarif

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from method_cards.project import Project
    from method_cards.render.source import Source, View

__all__ = ["WRITERS", "print_record"]


def _html(source: Source, views: Sequence[View], _: Project) -> str:
    return html_report(views, source)


def _junit(_: Source, views: Sequence[View], __: Project) -> str:
    return junit([view.record for view in views])


def _sarif(_: Source, views: Sequence[View], project: Project) -> str:
    return json.dumps(sarif([view.record for view in views], project), indent=1, ensure_ascii=False) + "\n"


WRITERS: Mapping[str, Callable[[Source, Sequence[View], Project], str]] = {
    "html": _html,
    "junit": _junit,
    "sarif": _sarif,
}

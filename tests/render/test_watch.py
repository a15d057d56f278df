"""Who watches a run that was started from Python."""

from __future__ import annotations

import io
import sys

import pytest

from method_cards.execution import Silent
from method_cards.record import Record
from method_cards.render.progress import TerminalProgress
from method_cards.render.watch import INTERVAL, NotebookProgress, watching
from tests.render.test_report import Terminal, plan, step


def test_a_notebook_has_a_bar_that_ends_as_a_line(every_outcome: Record) -> None:
    """A bar in plain HTML moves with the work, the same in words beside it; when the run is over, one quiet line is left."""
    now = [0.0]
    seen: list[tuple[str, str]] = []
    progress = NotebookProgress(lambda html, text: seen.append((html, text)), clock=lambda: now[0])
    small, large = step("a/small", 100, 1000), step("a/large", 100, 3000)
    progress.planned(plan(small, large))
    progress.started(small)
    progress.finished(small, every_outcome.executions[0], ())
    progress.started(large)
    now[0] = 8.0
    progress.advanced(large, 50)
    html, text = seen[-1]
    assert '<progress max="1" value="0.625"' in html
    assert text == " 62% large, 2 of 2, about 8 s left"
    assert "<script" not in html
    progress.finished(large, every_outcome.executions[0], ())
    assert seen[-1][1] == "2 checks ran"
    assert "<progress" not in seen[-1][0]


def test_a_bar_is_not_drawn_more_often_than_can_be_seen() -> None:
    """A thousand small batches within a moment make one picture of the bar."""
    now = [0.0]
    seen: list[str] = []
    progress = NotebookProgress(lambda _html, text: seen.append(text), clock=lambda: now[0])
    only = step("a/only", 1000, 1000)
    progress.planned(plan(only))
    progress.started(only)
    before = len(seen)
    for _ in range(1000):
        now[0] += INTERVAL / 2000
        progress.advanced(only, 1)
    assert len(seen) - before <= 1


def test_a_script_has_a_bar_only_where_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal there is the terminal's bar; where standard error is kept as a log, nothing is written."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with watching() as watcher:
        assert isinstance(watcher, TerminalProgress)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with watching() as watcher:
        assert isinstance(watcher, Silent)

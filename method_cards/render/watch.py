"""How a run that was started from Python gets on: a bar in a notebook, a bar on a terminal, nothing where output is kept as a log.

The bar of a notebook is plain HTML with the same in words beside it, sent again and again in place of itself: no widget, no script. When
the run is over it is one quiet line.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

from markupsafe import Markup
from rich.console import Console

from method_cards.execution import Progress, Silent
from method_cards.render import words
from method_cards.render.progress import Account, TerminalProgress, is_live

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from method_cards.plan import Plan, Step
    from method_cards.record import Execution
    from method_cards.verdict import Verdict

INTERVAL = 0.2
"""Seconds between two pictures of the bar: more often, and a fast run would spend its time on them."""


class Screen(Protocol):
    """A place in a notebook that shows one thing at a time."""

    def __call__(self, html: str, text: str) -> None:
        """Show this instead of what is there."""


@contextmanager
def watching() -> Iterator[Progress]:
    """Who watches a run: whatever fits the place where it was started."""
    screen = _screen()
    if screen is not None:
        yield NotebookProgress(screen)
        return
    console = Console(stderr=True, highlight=False)
    if is_live(console):
        with TerminalProgress(console) as terminal:
            yield terminal
    else:
        yield Silent()


class NotebookProgress:
    """Shows a run in a notebook; see `method_cards.execution.Progress`.

    Args:
        show: Shows HTML, or text where HTML is not understood, in place of what it showed before.
        clock: Gives seconds.
    """

    def __init__(self, show: Screen, clock: Callable[[], float] = time.monotonic) -> None:
        self._show = show
        self._clock = clock
        self._account: Account | None = None
        self._shown = float("-inf")

    def planned(self, planned: Plan) -> None:
        """Say what is coming."""
        self._account = Account(planned, self._clock)
        if self._account.count:
            self._draw(0.0, f"{words.plural(self._account.count, 'check')}, {words.cost(planned)}")

    def started(self, step: Step) -> None:
        """A check begins."""
        assert self._account is not None
        self._account.started()
        self._tell(step)

    def advanced(self, step: Step, examples: int) -> None:
        """A check has measured so many more examples."""
        assert self._account is not None
        self._account.advanced(step, examples)
        if self._clock() - self._shown >= INTERVAL:
            self._tell(step)

    def finished(self, step: Step, execution: Execution, verdicts: Sequence[Verdict]) -> None:  # noqa: ARG002
        """A check has ended."""
        assert self._account is not None
        self._account.finished(step)
        if self._account.is_over or execution.status == "interrupted":
            ran, count = self._account.number, self._account.count
            said = (
                f"{words.plural(ran, 'check')} ran" if ran == count else f"{ran} of {words.plural(count, 'check')} ran"
            )
            self._show(str(Markup('<small style="opacity:.75">{}</small>').format(said)), said)

    def _tell(self, step: Step) -> None:
        account = self._account
        assert account is not None
        left = account.left(step)
        said = f"{step.check.id.rpartition('/')[2]}, {account.number + 1} of {account.count}" + (
            f", {left}" if left else ""
        )
        self._draw(account.completed(step) / (account.total or 1.0), said)

    def _draw(self, share: float, said: str) -> None:
        self._shown = self._clock()
        bar = Markup('<progress max="1" value="{:.3f}" style="width:16em">{:.0%}</progress> <small>{}</small>')
        self._show(str(bar.format(share, share, said)), f"{share:4.0%} {said}")


def _screen() -> Screen | None:
    """The output of the cell that runs, where there is one."""
    ipython, marimo = (sys.modules.get(name) for name in ("IPython", "marimo"))
    if marimo is not None and marimo.running_in_notebook():
        return lambda html, text: marimo.output.replace(marimo.Html(html))  # noqa: ARG005
    if ipython is None or getattr(ipython.get_ipython(), "kernel", None) is None:
        return None
    name = uuid4().hex
    is_new = True

    def show(html: str, text: str) -> None:
        nonlocal is_new
        data = {"text/html": html, "text/plain": text}
        ipython.display.display(data, raw=True, display_id=name, update=not is_new)
        is_new = False

    return show

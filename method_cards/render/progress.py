"""How a run gets on, on standard error: a bar with the time left on a terminal, a plain line for each check elsewhere."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from method_cards.render import words
from method_cards.render.terminal import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from method_cards.calibration import Calibration
    from method_cards.card import Prescription
    from method_cards.catalog import LoadedCard
    from method_cards.plan import Plan, Step
    from method_cards.record import Execution
    from method_cards.registry import Registry
    from method_cards.verdict import Verdict


MINUTES = 90
"""From so many seconds on, time left is told in minutes."""


class Account:
    """How far a run has got, counted in passes through the model.

    Time left is what remains of the estimated passes, at the pace of the passes that were really made: a check that was decided early
    does not make the rest look faster.

    Args:
        planned: What will run.
        clock: Gives seconds.
    """

    def __init__(self, planned: Plan, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._left = list(planned.steps)
        self.count = len(self._left)
        self.total = sum(map(_cost, self._left))
        self._passed_by = 0.0
        self._done = 0.0
        self._examples = 0

    @property
    def number(self) -> int:
        """How many checks have ended."""
        return self.count - len(self._left)

    @property
    def is_over(self) -> bool:
        """Whether all have."""
        return not self._left

    def started(self) -> None:
        """A check begins."""
        self._examples = 0

    def advanced(self, step: Step, examples: int) -> None:
        """A check has measured so many more examples."""
        before = self._fraction(step)
        self._examples += examples
        self._done += _cost(step) * (self._fraction(step) - before)

    def finished(self, step: Step) -> None:
        """A check has ended."""
        self._left = [other for other in self._left if other is not step]
        self._passed_by += _cost(step)
        self._examples = 0

    def completed(self, step: Step) -> float:
        """How many of the passes are behind, while a check runs or when it has ended."""
        return self._passed_by + (_cost(step) * self._fraction(step) if step in self._left else 0.0)

    def left(self, step: Step) -> str:
        """How much longer it will take, in words; empty until there is a pace to go by."""
        remaining = sum(map(_cost, self._left)) - _cost(step) * self._fraction(step)
        elapsed = self._clock() - self._began
        if self._done <= 0 or elapsed < 1:
            return ""
        seconds = max(round(elapsed * remaining / self._done), 1)
        return f"about {seconds} s left" if seconds < MINUTES else f"about {round(seconds / 60)} min left"

    def _fraction(self, step: Step) -> float:
        return min(self._examples / step.examples, 1.0) if step.examples else 0.0


class TerminalProgress:
    """Shows a run on a console; see `method_cards.execution.Progress`.

    Args:
        console: Where to show it; standard error where None.
        clock: Gives seconds.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._writer = Writer(self._console)
        self._clock = clock
        self._account: Account | None = None
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def planned(self, planned: Plan) -> None:
        """Say what is coming."""
        self._account = Account(planned, self._clock)
        count = self._account.count
        self._writer.line(f"{planned.subject.id}: {words.plural(count, 'check')}, {words.cost(planned)}", style="dim")
        if count and is_live(self._console):
            columns = (
                SpinnerColumn("line"),
                TextColumn("{task.description}"),
                BarColumn(20),
                TextColumn("{task.percentage:>3.0f}%"),
            )
            self._bar = Progress(*columns, TextColumn("{task.fields[left]}"), console=self._console, transient=True)
            self._task = self._bar.add_task("", total=self._account.total, left="")
            self._bar.start()

    def started(self, step: Step) -> None:
        """A check begins."""
        assert self._account is not None
        self._account.started()
        if self._bar is not None:
            self._bar.update(self._task, description=step.check.id.rpartition("/")[2])

    def advanced(self, step: Step, examples: int) -> None:
        """A check has measured so many more examples."""
        assert self._account is not None
        self._account.advanced(step, examples)
        if self._bar is not None:
            self._bar.update(self._task, completed=self._account.completed(step), left=self._account.left(step))

    def finished(self, step: Step, execution: Execution, verdicts: Sequence[Verdict]) -> None:
        """A check has ended: say how, above the bar."""
        assert self._account is not None
        account = self._account
        account.finished(step)
        ending = {"stopped_early": ", decided early", "complete": "", "errored": ""}.get(
            execution.status, f", {words.word_of(execution.status)}"
        )
        took = f"{words.duration(execution.seconds)}{ending}"
        self._writer.line(f"[{account.number}/{account.count}] {execution.check}: {words.counted(verdicts)} ({took})")
        if self._bar is not None:
            self._bar.update(self._task, completed=account.completed(step))
        if account.is_over or execution.status == "interrupted":
            self.stop()

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def is_live(console: Console) -> bool:
    """Whether a bar may move: on a real terminal, not where output is kept as a log."""
    stream = getattr(console.file, "isatty", None)
    return (
        bool(stream and stream())
        and not console.is_dumb_terminal
        and os.environ.get("CI", "").lower() in ("", "0", "false")
    )


def calibrate(
    chosen: Sequence[tuple[LoadedCard, Prescription]],
    registry: Registry,
    *,
    seeds: int,
    jobs: int,
    console: Console,
    more: bool = False,
    once: bool = False,
) -> None:
    """Measure the error rates of prescriptions' checks, print them and keep them beside their cards.

    Args:
        chosen: Cards, each with one of its prescriptions that has a check.
        registry: Where checks are found.
        seeds: How many times each control is built and checked.
        jobs: How many processes share the work.
        console: Where the rates go; progress goes to standard error.
        more: Whether runs that are kept beside the cards count.
        once: Whether each control is run once, to be shown, and error rates are left as they are.
    """
    from method_cards.calibrate import alike, keep, keep_runs
    from method_cards.calibrate import calibrate as measure

    writer, errors = Writer(console), Console(stderr=True, highlight=False)
    with Progress(
        SpinnerColumn("line"),
        TextColumn("{task.description} {task.completed} runs"),
        console=errors,
        disable=not is_live(errors),
    ) as bar:
        for together in alike(chosen, registry):
            names = [f"{loaded.card.id}/{prescription.id}" for loaded, prescription in together]
            task = bar.add_task(", ".join(names), total=None)
            found = measure(
                together,
                registry,
                seeds=1 if once else seeds,
                jobs=jobs,
                more=more and not once,
                advanced=partial(bar.advance, task),
            )
            bar.remove_task(task)
            for (loaded, _), one in zip(together, found, strict=True):
                path = keep_runs(loaded, [one])
                _told(writer, one.rates, path if once else keep(loaded, [one.rates]), once=once)


def _told(writer: Writer, found: Calibration, path: str, *, once: bool) -> None:
    """What was found for one prescription, control by control, and where it is kept."""
    writer.line(writer.text(found.prescription, "bold"), writer.text(f"  {words.duration(found.seconds)}", "dim"))
    if not once:
        writer.line(words.rates(found), indent=2)
    for control in found.controls:
        if once:
            outcome = ", ".join(words.word(outcome) for outcome in control.outcomes)
            writer.line(f"{control.kind}: {control.control}: {outcome}", style="dim", indent=4)
            continue
        shares = f"{control.expected} of {control.runs}"
        writer.line(f"{control.kind}: {control.control}: {shares} {EXPECTED[control.kind]}", style="dim", indent=4)
    writer.line(f"kept in {path}", style="dim", indent=2)


EXPECTED = {"defect": "failed for the right reason", "confounded": "refused a verdict", "sound": "false alarms"}


def _cost(step: Step) -> float:
    return max(step.cost, 1.0)

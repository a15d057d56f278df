"""Execute one check, whatever it does: it may raise, run for ever or yield nonsense, and costs no more than its own verdict.

Full isolation in worker processes belongs beside this module: it would execute the same steps and hand back the same measurements.
"""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from method_cards import judge
from method_cards.check import Context
from method_cards.errors import CheckError, MethodCardsError, foreign
from method_cards.lazy import torch
from method_cards.measurement import Exact, Measurements, PerSample, Pictures, Series, TwoGroups, Yielded
from method_cards.plan import Plan, Step
from method_cards.randomness import seeded
from method_cards.record import Execution, ExecutionStatus
from method_cards.subject import preserved
from method_cards.verdict import Verdict

LONGEST = 1e7
"""Seconds that a timer can count; about four months."""

GROWTH = 1.25
"""How much the number of samples must have grown before it is looked at again whether everything is decided."""


class Progress(Protocol):
    """Who wants to see how a run gets on."""

    def planned(self, planned: Plan) -> None:
        """The run is about to begin."""

    def started(self, step: Step) -> None:
        """A check begins."""

    def advanced(self, step: Step, examples: int) -> None:
        """A check has measured so many more examples."""

    def finished(self, step: Step, execution: Execution, verdicts: Sequence[Verdict]) -> None:
        """A check has ended, and these prescriptions are decided."""


class Silent:
    """Nobody."""

    def planned(self, planned: Plan) -> None:
        """Nothing."""

    def started(self, step: Step) -> None:
        """Nothing."""

    def advanced(self, step: Step, examples: int) -> None:
        """Nothing."""

    def finished(self, step: Step, execution: Execution, verdicts: Sequence[Verdict]) -> None:
        """Nothing."""


class _TimeLimit(BaseException):
    """The time of a check is up. No ``except Exception`` of a check can swallow it."""


@dataclass
class Options:
    """How to run.

    Attributes:
        device: ``auto`` takes CUDA, then MPS, then the CPU.
        seed: The project's own where None.
        samples: The project's own where None.
        exhaustive: Whether to measure all planned samples even when everything is decided.
        time_limit: Seconds that a check may take; None for no limit.
        cards: The cards to apply; the subject's own where empty.
        only: The full ids of the prescriptions to decide; all where empty.
        block: How many examples go through the model at once; measured before the run where None.
        checks: Checks that are named beside those of the project, which has loaded them; kept to say how to repeat the run.
    """

    device: str = "auto"
    seed: int | None = None
    samples: int | None = None
    exhaustive: bool = False
    time_limit: float | None = None
    cards: Sequence[str] = ()
    only: Sequence[str] = ()
    block: int | None = None
    checks: Sequence[str] = ()


@dataclass
class _Watch:
    """Counts examples, tells progress, and looks now and then whether everything is decided."""

    step: Step
    progress: Progress
    measurements: Measurements
    examples: int = 0
    looked_at: int = 0
    decided: bool = field(default=False)

    def __call__(self, examples: int) -> None:
        self.examples += examples
        self.progress.advanced(self.step, examples)

    def look(self) -> bool:
        """Whether all criteria are decided by intervals that hold at every stopping time."""
        if self.examples < max(judge.LEAST_SAMPLES, self.looked_at * GROWTH):
            return False
        self.looked_at = self.examples
        bindings = [bound.prescription.check for bound in self.step.prescriptions]
        return all(judge.is_decided(binding, self.measurements) for binding in bindings if binding is not None)


def measure(
    step: Step, context: Context, options: Options, progress: Progress
) -> tuple[ExecutionStatus, str, Measurements]:
    """Execute the check of a step, whatever it does.

    Args:
        step: The check and what it decides.
        context: What the check is lent.
        options: Time limit, and whether to go on when everything is decided.
        progress: Who wants to see how it gets on.

    Returns:
        How it ended, why (empty when it ran to its end), and what was measured until then.
    """
    measurements = Measurements()
    watch = _Watch(step, progress, measurements)
    status, cause = _measure(step, replace(context, on_examples=watch), watch, measurements, options)
    return status, cause, measurements


def _measure(
    step: Step, context: Context, watch: _Watch, measurements: Measurements, options: Options
) -> tuple[ExecutionStatus, str]:
    try:
        with (
            preserved(context.subject),
            seeded(context.number("global")),
            _time_limit(options.time_limit),
            _closing(step.check.measure(context.subject, context)) as measured,
        ):
            for yielded in measured:
                if not options.exhaustive and watch.look():
                    return "stopped_early", ""
                measurements.add(_declared(step, yielded))
    except KeyboardInterrupt:
        return "interrupted", "Ctrl-C"
    except _TimeLimit:
        return (
            "timed_out",
            f"It ran past its time limit of {options.time_limit:g} seconds; raise --time-limit or lower --samples.",
        )
    except MethodCardsError as error:
        return "errored", str(error)
    except torch.cuda.OutOfMemoryError as error:
        return (
            "errored",
            f"The GPU ran out of memory: {str(error).splitlines()[0]} Use --device cpu, or a smaller model.",
        )
    except (Exception, SystemExit) as error:  # noqa: BLE001  (whatever a check does costs its own verdict and no other)
        last = traceback.extract_tb(error.__traceback__)[-1]
        return "errored", f"{foreign(error)} ({last.filename}:{last.lineno})"
    return "complete", ""


def _declared(step: Step, yielded: Yielded) -> Yielded:
    if isinstance(yielded, Pictures):
        return yielded
    if not isinstance(yielded, Exact | PerSample | TwoGroups):
        raise CheckError(f"the check yielded a {type(yielded).__name__}, which is neither a measurement nor pictures")
    quantity = step.check.quantity(yielded.name)
    if quantity is None:
        raise CheckError(f'the check yielded "{yielded.name}", which it does not declare among its quantities')
    kind = Series.of(yielded).kind
    if kind != quantity.kind:
        raise CheckError(f'the check yielded "{yielded.name}" as {kind}, but declares it as {quantity.kind}')
    if kind != "auc" and tuple(yielded.range) != tuple(quantity.range):
        raise CheckError(
            f'the check yielded "{yielded.name}" on {yielded.range}, but declares its range as {quantity.range}'
        )
    return yielded


@contextmanager
def _closing(measured: Iterator[Yielded]) -> Iterator[Iterator[Yielded]]:
    """Let a check tidy up while its model is still looked after and its time still counts."""
    try:
        yield measured
    finally:
        if isinstance(measured, Generator):
            measured.close()


@contextmanager
def _time_limit(seconds: float | None) -> Iterator[None]:
    usable = (
        seconds is not None and hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    )
    if not usable:
        yield
        return

    def up(*_: object) -> None:
        raise _TimeLimit

    before = signal.signal(signal.SIGALRM, up)
    assert seconds is not None
    signal.setitimer(signal.ITIMER_REAL, min(seconds, LONGEST), 0.5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

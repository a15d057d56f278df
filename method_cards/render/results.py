"""What a page shows of one verdict: the numbers, the drawings, the pictures, how to run it again, how often the check is right."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from method_cards import record as records
from method_cards.errors import InputError
from method_cards.render import words
from method_cards.render.charts import Chart, charts
from method_cards.render.figures import Drawer, Drawn
from method_cards.render.pictures import Sheet, sheet
from method_cards.verdict import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from method_cards.record import Record
    from method_cards.render.source import Judged
    from method_cards.verdict import Verdict

FIGURES = "assets/figures"
"""The folder for pictures, within the site."""

GRAVITY = (
    Outcome.FAILED,
    Outcome.ERRORED,
    Outcome.INVALID,
    Outcome.INCONCLUSIVE,
    Outcome.UNANSWERED,
    Outcome.PASSED,
    Outcome.ANSWERED,
    Outcome.NOT_APPLICABLE,
)
"""What needs a person's attention comes first."""

UNFINISHED = {
    "stopped_early": "Measuring stopped as soon as every criterion was decided.",
    "interrupted": "The run was interrupted; what had been measured was kept.",
    "timed_out": "The time limit was reached; what had been measured was kept.",
    "errored": "The check ended with an error; what had been measured before was kept.",
}


@dataclass(frozen=True)
class Figure:
    """A drawn chart."""

    chart: Chart
    drawn: Drawn


@dataclass(frozen=True)
class Result:
    """One verdict, ready to be shown.

    Attributes:
        judged: The verdict with its record.
        figures: The drawings of what it was decided from.
        sheets: The pictures that the check kept; shown once for all verdicts of one execution.
        problems: Pictures that could not be read, each with the reason.
    """

    judged: Judged
    figures: tuple[Figure, ...] = ()
    sheets: tuple[Sheet, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """What was decided."""
        return self.judged.verdict

    @property
    def record(self) -> Record:
        """Where it stands."""
        return self.judged.record

    @property
    def anchor(self) -> str:
        """The place on the card's page."""
        return f"{self.verdict.prescription}--{self.record.subject.id}"

    @property
    def needs_attention(self) -> bool:
        """Whether a person should look at it."""
        return self.verdict.outcome not in (Outcome.PASSED, Outcome.ANSWERED, Outcome.NOT_APPLICABLE)

    @property
    def advice(self) -> str:
        """What to do where the card's remedy is not what is asked for; empty where nothing is to be done."""
        outcome = self.verdict.outcome
        if outcome is Outcome.INCONCLUSIVE:
            return words.more_samples(self.record, self.verdict)
        if outcome is Outcome.INVALID:
            return "Mend the run, not the model: the condition below has to hold first. More samples would not help."
        if outcome is Outcome.ERRORED:
            return "Mend the cause and run it again; until then nothing is shown."
        if outcome is Outcome.UNANSWERED:
            return f"Answer {self.verdict.id} under `answers` of this subject in method-cards.yaml, with who, when and evidence."
        return ""

    @property
    def contents(self) -> str:
        """What the folded part holds; empty when there is nothing."""
        gates = sum(gate.outcome is Outcome.PASSED for gate in self.verdict.gates)
        parts = [
            _counted(len(self.sheets), "sheet of pictures", "sheets of pictures") if self.sheets else "",
            _counted(len(self.figures), "figure", "figures") if self.figures else "",
            _counted(gates, "condition of the run", "conditions of the run") if gates else "",
            "problems" if self.problems else "",
        ]
        listed = ", ".join(part for part in parts if part)
        return (
            f"Evidence: {listed}" if listed else "Numbers" if self.verdict.criteria and not self.needs_attention else ""
        )

    @property
    def command(self) -> str:
        """What runs it again."""
        return f"{words.rerun(self.record, self.verdict)} --device {shlex.quote(self.record.device.partition(':')[0])}"

    @property
    def status(self) -> str:
        """Why the execution did not run to its end, in words; empty when it did."""
        execution = self.judged.execution
        if execution is None or execution.status == "complete":
            return ""
        return UNFINISHED[execution.status] + (f" Cause: {execution.cause}" if execution.cause else "")

    @property
    def origin(self) -> str:
        """Why it may not be the last word: an earlier run, or a card that has changed since; empty where it is."""
        earlier = (
            f"From an earlier run of the same model, {self.record.started:%d %B %Y, %H:%M} UTC."
            if self.judged.is_earlier
            else ""
        )
        changed = "" if self.judged.is_current else "The card has changed since: run it again."
        return " ".join(part for part in (earlier, changed) if part)


@dataclass
class Results:
    """Makes results, and keeps the files that they need.

    Args:
        drawer: Draws figures.
    """

    drawer: Drawer
    files: dict[str, bytes] = field(default_factory=dict)

    def of_card(self, verdicts: Sequence[Judged]) -> list[Result]:
        """The verdicts of one subject on one card; each picture and figure stands once, with the gravest verdict that it shows."""
        shown: set[tuple[str, int, object]] = set()
        made = {
            judged.verdict.id: self._one(judged, shown)
            for judged in sorted(verdicts, key=lambda judged: GRAVITY.index(judged.verdict.outcome))
        }
        return [made[judged.verdict.id] for judged in verdicts]

    def _one(self, judged: Judged, shown: set[tuple[str, int, object]]) -> Result:
        execution = judged.execution
        if execution is None:
            return Result(judged)

        def is_new(what: object) -> bool:
            key = (judged.record.id, judged.verdict.execution or 0, what)
            is_shown = key in shown
            shown.add(key)
            return not is_shown

        verdict = judged.verdict
        results = (*verdict.criteria, *(gate for gate in verdict.gates if gate.outcome is not Outcome.PASSED))
        found = charts(execution, results, with_histograms=verdict.outcome is not Outcome.PASSED)
        figures = tuple(Figure(chart, self.drawer(chart.drawing)) for chart in found if is_new(chart.drawing))
        self.files |= {f"{FIGURES}/{figure.drawn.name}": figure.drawn.svg for figure in figures}
        sheets: list[Sheet] = []
        problems: list[str] = []
        for data in execution.pictures if is_new("pictures") else ():
            try:
                made = sheet(records.read_pictures(judged.folder, data))
            except InputError as error:
                problems.append(str(error))
            else:
                sheets.append(made)
                self.files[f"{FIGURES}/{made.name}"] = made.png
        return Result(judged, figures, tuple(sheets), tuple(problems))


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"

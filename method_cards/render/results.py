"""What a page shows of one verdict: the numbers, the drawings, the pictures, how to run it again, how often the check is right."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from method_cards import record as records
from method_cards.errors import InputError
from method_cards.judge import number
from method_cards.render import words
from method_cards.render.charts import Chart, charts
from method_cards.render.figures import Drawer, Drawn
from method_cards.render.interval import label
from method_cards.render.pictures import Sheet, sheet
from method_cards.verdict import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from method_cards.record import Record
    from method_cards.render.source import Judged
    from method_cards.verdict import CriterionResult, Verdict

NBSP = "\N{NO-BREAK SPACE}"

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
        return anchor_of(self.judged)

    @property
    def needs_attention(self) -> bool:
        """Whether a person should look at it."""
        return self.verdict.outcome not in (Outcome.PASSED, Outcome.ANSWERED, Outcome.NOT_APPLICABLE)

    @property
    def shown(self) -> tuple[CriterionResult, ...]:
        """What is seen first: the conditions and criteria that made it this verdict, or all criteria where all hold."""
        return shown(self.verdict)

    @property
    def headline(self) -> str:
        """The verdict in a line."""
        return headline(self.verdict)

    @property
    def because(self) -> str:
        """The reason, where no criterion tells it and no person has."""
        return "" if self.shown or self.verdict.answer else self.verdict.reason

    @property
    def certainty(self) -> str:
        """How sure the decision is, as far as this run alone tells."""
        found = [result.interval for result in self.shown if result.interval is not None]
        outcome = self.verdict.outcome
        if not found or outcome not in (Outcome.PASSED, Outcome.FAILED):
            return ""
        sampled = [interval for interval in found if interval.method != "exact"]
        if not sampled:
            return "The quantity is exact: no sample could have misled."
        side = "inside" if outcome is Outcome.PASSED else "outside"
        whole = f"The whole {sampled[0].confidence:.0%} interval lies {side} the bound."
        if len(sampled) > 1:
            whole = f"Each {sampled[0].confidence:.0%} interval lies wholly {side} its bound."
        weak = max((result.p_holm or 0.0 for result in self.shown), default=0.0)
        if weak > 1 - self.record.confidence:
            whole += f" It is less sure when all criteria of the run are taken together (Holm's adjusted p is {number(weak)})."
        return whole

    @property
    def advice(self) -> str:
        """What to do where the card's remedy is not what is asked for; empty where nothing is to be done."""
        outcome = self.verdict.outcome
        if outcome is Outcome.INCONCLUSIVE:
            return words.more_samples(self.record, self.verdict)
        if outcome is Outcome.INVALID:
            return "Mend the run, not the model: the condition above has to hold first. More samples would not help."
        if outcome is Outcome.ERRORED:
            return "Mend the cause and run it again; until then nothing is shown."
        return ""

    @property
    def is_open(self) -> bool:
        """Whether its pictures, or its first figure, are seen at once: where a person should look, and they mean something."""
        return self.needs_attention and self.verdict.outcome is not Outcome.INVALID

    @property
    def folded(self) -> tuple[Figure, ...]:
        """The figures that are shown on demand."""
        return self.figures[1:] if self.is_open and not self.sheets else self.figures

    @property
    def contents(self) -> str:
        """What the folded part holds; empty when there is nothing."""
        sheets = 0 if self.is_open else len(self.sheets)
        parts = [
            _counted(sheets, "sheet of pictures", "sheets of pictures") if sheets else "",
            _counted(len(self.folded), "figure", "figures") if self.folded else "",
            "all numbers" if self.verdict.criteria or self.verdict.gates else "",
        ]
        return words.capital(words.listed([part for part in parts if part]))

    @property
    def command(self) -> str:
        """What runs it again."""
        return words.rerun(self.record, self.verdict, self.record.device.partition(":")[0])

    @property
    def status(self) -> str:
        """Why the execution did not run to its end, in words; empty when it did."""
        execution = self.judged.execution
        if execution is None or execution.status == "complete":
            return ""
        return UNFINISHED[execution.status] + (f" Cause: {execution.cause}" if execution.cause else "")

    @property
    def is_cut_short(self) -> bool:
        """Whether something kept the execution from its end."""
        execution = self.judged.execution
        return execution is not None and execution.status not in ("complete", "stopped_early")

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


STATES = {
    Outcome.PASSED: "Holds",
    Outcome.FAILED: "Not true here",
    Outcome.INCONCLUSIVE: "Not decided",
    Outcome.ERRORED: "Not measured",
}
"""What became of a claim."""


def anchor_of(judged: Judged) -> str:
    """The place of a result on its card's page."""
    return f"{judged.verdict.prescription}--{judged.record.subject.id}"


def shown(verdict: Verdict) -> tuple[CriterionResult, ...]:
    """What a verdict rests on: the conditions and criteria that made it what it is, or all criteria where all hold."""
    return verdict.criteria if verdict.outcome is Outcome.PASSED else tuple(words.decisive(verdict))


def headline(verdict: Verdict) -> str:
    """A verdict in a line for people: the claim and what became of it first, then the number."""
    results = shown(verdict)
    if not results:
        return verdict.reason
    first = results[0]
    said = f"{STATES[first.outcome]}: {first.claim}"
    if first.interval is not None:
        measured = words.measured(first.interval, first.unit)
        said += f" {words.capital(label(first))} is {measured}; allowed: {first.bound.replace(' ', NBSP)}."
    return said if len(results) == 1 else f"{said} (And {len(results) - 1} more.)"


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"

"""Verdicts as data: what was decided about each prescription, from which interval, and why."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from method_cards import clock, display
from method_cards.errors import InputError
from method_cards.intervals import Interval

Where = Annotated[dict[str, str | int | float], Field(default_factory=dict)]


class Outcome(StrEnum):
    """What can be said of a prescription. There is no other answer, and none of them is empty."""

    PASSED = "passed"
    """The interval lies inside the bound."""
    FAILED = "failed"
    """The interval lies outside the bound."""
    INCONCLUSIVE = "inconclusive"
    """The interval straddles the bound; more samples would decide it."""
    INVALID = "invalid"
    """A condition of this very run is violated, so the numbers mean nothing; more samples would not help."""
    NOT_APPLICABLE = "not_applicable"
    """The prescription says nothing about this subject."""
    ERRORED = "errored"
    """The check could not measure."""
    UNANSWERED = "unanswered"
    """A question that a person has not answered."""
    ANSWERED = "answered"
    """A question that a person has answered, with evidence."""


class _Data(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        ser_json_inf_nan="constants",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class IntervalData(_Data):
    """A confidence interval."""

    estimate: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    confidence: FiniteFloat
    method: str
    """The name of the procedure, such as ``clopper-pearson``; ``exact`` for a quantity without sampling error."""
    n: int
    """How many independent samples it rests on; of the smaller group for two groups."""
    anytime: bool
    """Whether it holds at every stopping time."""

    @classmethod
    def of(cls, interval: Interval) -> IntervalData:
        """An interval as data."""
        return cls(**asdict(interval))


class CriterionResult(_Data):
    """What became of one criterion."""

    claim: str
    measurement: str
    where: Where
    bound: str
    """The bound in words, such as ``≤ 0.05``."""
    low_bound: FiniteFloat | None = None
    high_bound: FiniteFloat | None = None
    source: str
    """Where the bound comes from."""
    outcome: Outcome
    reason: str
    unit: str = ""
    range: tuple[float | None, float | None] = (None, None)
    """The least and greatest possible value; None where there is no bound."""
    interval: IntervalData | None = None
    p_value: FiniteFloat | None = None
    """Against the nearest value on the other side of the bound; None for exact quantities."""
    p_holm: FiniteFloat | None = None
    """The same, adjusted for all criteria of the run by Holm's procedure."""
    samples_needed: int | None = None
    """Roughly how many samples would decide it, when it is inconclusive."""

    _repr_mimebundle_ = display.mimebundle


class Waiver(_Data):
    """A documented exception; it stands beside a verdict and never replaces it."""

    prescription: str
    """``card/prescription``."""
    reason: str = Field(min_length=1)
    """Why this is acceptable for now."""
    expires: dt.date
    """The last day on which it holds."""
    approved_by: str = ""
    """Who decided."""

    @property
    def has_expired(self) -> bool:
        """Whether it no longer holds on the day on which this is asked, whenever the run was."""
        return self.expires < clock.today()


class Answer(_Data):
    """What a person answered to a question of a card."""

    answer: str = Field(min_length=1)
    """What is answered, in free text."""
    by: str = Field(min_length=1)
    """Who answered."""
    on: dt.date
    """On which day."""
    evidence: str = Field(min_length=1)
    """Where the evidence is: a path, a link, a ticket."""
    question: str = ""
    """What was asked. Where it is given, the answer holds only as long as the card asks the same."""


def answer_from(fields: Mapping[str, str]) -> Answer:
    """An answer that a person wrote into the fields of a form.

    Raises:
        InputError: A field is empty or cannot be kept, or the day is none or has yet to come; every problem is told.
    """
    found = {name: fields.get(name, "").strip() for name in ("answer", "by", "on", "evidence")}
    problems = [f"`{name}` is empty" for name, text in found.items() if not text]
    for name, text in found.items():
        if len(text) > MOST_CHARACTERS:
            problems.append(
                f"`{name}` has {len(text):,} characters, more than {MOST_CHARACTERS:,}: put them into a file, and name it as evidence"
            )
        if hidden := _HIDDEN.search(text):
            problems.append(f"`{name}` holds the character U+{ord(hidden[0]):04X}, which nobody can see: remove it")
    if found["on"] and (problem := _day_problem(found["on"])):
        problems.append(problem)
    if problems:
        raise InputError("; ".join(problems))
    return Answer.model_validate(found)


MOST_CHARACTERS = 4000
"""Of a field of an answer."""

_HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufffe\uffff]"
)
"""Control characters, surrogates, and what turns the reading direction."""

_FURTHEST_EAST = dt.timezone(dt.timedelta(hours=14))
"""Where a day begins first: what is today there may be today for whoever answers."""


def _day_problem(text: str) -> str:
    try:
        day = dt.date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or text != day.isoformat():
        return f'`on` is "{text}": write the day as 2026-03-01'
    today = dt.datetime.now(_FURTHEST_EAST).date()
    return f"`on` is {day}, which has yet to come: write the day of the answer" if day > today else ""


class Verdict(_Data):
    """What was decided about one prescription of one card."""

    card: str
    prescription: str
    """The slug within the card."""
    level: str = Field(pattern=r"^((MUST|SHOULD)( NOT)?|MAY)$")
    statement: str
    outcome: Outcome
    reason: str
    """One sentence that a person can act on."""
    criteria: tuple[CriterionResult, ...] = ()
    gates: tuple[CriterionResult, ...] = ()
    """The conditions of the run itself (``valid_if``)."""
    execution: int | None = Field(default=None, ge=0)
    """Which execution of the record was judged; None for questions and for what did not run."""
    question: str = ""
    answer: Answer | None = None
    waiver: Waiver | None = None
    waiver_expired: bool = False
    """Whether it had expired when this was written. What is shown later asks the waiver itself, since days go by."""

    _repr_mimebundle_ = display.mimebundle
    __repr__ = __str__ = display.text

    def waived(self, waiver: Waiver | None) -> Verdict:
        """The verdict with this waiver beside it, or with none."""
        expired = waiver is not None and waiver.has_expired
        return self.model_copy(update={"waiver": waiver, "waiver_expired": expired})

    def answered(self, answer: Answer | None) -> Verdict:
        """The verdict with a person's answer to its question; as it is where nothing was asked or answered.

        An answer to what the card used to ask answers nothing.
        """
        if answer is None or not self.question:
            return self
        if answer.question and answer.question != self.question:
            reason = (
                f"The question has changed since {answer.by} answered it on {answer.on}: it has to be answered again."
            )
            return self.model_copy(update={"outcome": Outcome.UNANSWERED, "answer": None, "reason": reason})
        reason = f"{answer.by} answered on {answer.on}: {answer.answer}"
        return self.model_copy(update={"outcome": Outcome.ANSWERED, "answer": answer, "reason": reason})

    @property
    def id(self) -> str:
        """``card/prescription``."""
        return f"{self.card}/{self.prescription}"

    @property
    def stops(self) -> bool:
        """Whether it makes a run end with exit status 1: a MUST that a check did not find to hold, or a check that could not measure."""
        unmet = (Outcome.FAILED, Outcome.INVALID, Outcome.INCONCLUSIVE)
        return self.outcome is Outcome.ERRORED or (self.is_must and self.outcome in unmet)

    @property
    def is_must(self) -> bool:
        """Whether the level is MUST or MUST NOT."""
        return self.level.startswith("MUST")

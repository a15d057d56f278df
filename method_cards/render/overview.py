"""What a reviewer wants to know of one subject, in that order: what is wrong, what changed, what is to be answered, what holds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from method_cards import document
from method_cards.render import words
from method_cards.render.difference import baseline, difference, is_partial
from method_cards.render.history import courses, standing
from method_cards.render.results import GRAVITY, Result
from method_cards.verdict import Outcome

if TYPE_CHECKING:
    from method_cards.card import Prescription
    from method_cards.catalog import LoadedCard
    from method_cards.record import Execution, Record
    from method_cards.render.difference import Difference
    from method_cards.render.history import Course
    from method_cards.render.source import Judged, Source, View
    from method_cards.verdict import CriterionResult, Verdict

LEVELS = ("MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY")


@dataclass(frozen=True)
class Item:
    """One verdict with what its card says of it.

    Attributes:
        judged: The verdict, with its record.
        card: The title of its card.
        prescription: The prescription; None where the card is gone or has it no longer.
        since: Since when it is so, in words; empty where only one run decided it.
    """

    judged: Judged
    card: str
    prescription: Prescription | None
    since: str = ""

    @property
    def verdict(self) -> Verdict:
        """What was decided."""
        return self.judged.verdict

    @property
    def advice(self) -> str:
        """What to do where the card's remedy is not what is asked for."""
        return Result(self.judged).advice

    @property
    def broken(self) -> list[CriterionResult]:
        """The criteria that made the verdict what it is."""
        return words.decisive(self.verdict)


@dataclass(frozen=True)
class Group:
    """One card.

    Attributes:
        card: Its id.
        title: Its title; the id where the card is gone.
        is_known: Whether it has a page.
        items: What checks decided, the gravest first.
        outcomes: What became of all its prescriptions, questions included.
    """

    card: str
    title: str
    is_known: bool
    items: tuple[Item, ...]
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True)
class Overview:
    """One subject as its page and its report show it.

    Attributes:
        view: The subject with its verdicts and runs.
        source: What pages are made from.
    """

    view: View
    source: Source

    @property
    def record(self) -> Record:
        """The newest run."""
        return self.view.record

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """Every verdict, in the order of the cards."""
        return tuple(self._item(judged) for judged in self.view.judged)

    @cached_property
    def wrong(self) -> tuple[Item, ...]:
        """What somebody has to look at: what stops a release first, then the gravest."""
        found = [item for item in self.items if item.verdict.outcome in words.TROUBLE]
        return tuple(
            sorted(found, key=lambda item: (not item.verdict.stops, words.TROUBLE.index(item.verdict.outcome)))
        )

    @property
    def headline(self) -> str:
        """In one sentence whether the subject may be relied on."""
        if reasons := self.reasons:
            return words.listed(reasons)
        return "Every MUST that a check decides passed" + (f"; {self.waiting}" if self.waiting else "")

    @property
    def reasons(self) -> list[str]:
        """Why a run with these verdicts ends with exit status 1; empty where it ends with 0."""
        reasons = words.unmet([item.verdict for item in self.items])
        reasons += [f"no check of {card} applies" for card in self.record.idle_cards]
        return reasons + (["the newest run was interrupted"] if self.record.status == "interrupted" else [])

    @property
    def waiting(self) -> str:
        """How many questions of level MUST nobody has answered; empty where none."""
        return words.waiting(item.verdict.is_must for item in self.unanswered)

    @property
    def state(self) -> Outcome:
        """The gravest verdict that counts: of what makes a run end with 1, else of what waits for a person, else passed."""
        stopping = {item.verdict.outcome for item in self.items if item.verdict.stops}
        if stopping:
            return next(outcome for outcome in GRAVITY if outcome in stopping)
        if self.reasons:
            return Outcome.INCONCLUSIVE
        return Outcome.UNANSWERED if self.waiting else Outcome.PASSED

    @property
    def word(self) -> str:
        """The standing in a word or two."""
        return {Outcome.PASSED: "every MUST passed", Outcome.UNANSWERED: "MUSTs to answer"}.get(
            self.state, words.word(self.state)
        )

    @property
    def musts(self) -> int:
        """How many prescriptions of level MUST and MUST NOT there are."""
        return sum(item.verdict.is_must for item in self.items)

    @property
    def failed_musts(self) -> int:
        """How many of them failed."""
        return sum(item.verdict.is_must and item.verdict.outcome is Outcome.FAILED for item in self.items)

    @cached_property
    def levels(self) -> list[tuple[str, list[Outcome]]]:
        """What became of the prescriptions of each level."""
        levels = sorted({item.verdict.level for item in self.items}, key=_rank)
        return [
            (level, [item.verdict.outcome for item in self.items if item.verdict.level == level]) for level in levels
        ]

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """What checks decided, by card."""
        return tuple(self._group(card) for card in dict.fromkeys(item.verdict.card for item in self.items))

    @cached_property
    def troubled(self) -> tuple[Group, ...]:
        """Cards with verdicts that somebody has to look at, the gravest first."""
        found = [group for group in self.groups if any(outcome in words.TROUBLE for outcome in group.outcomes)]
        return tuple(sorted(found, key=lambda group: min(map(GRAVITY.index, group.outcomes))))

    @cached_property
    def unanswered(self) -> tuple[Item, ...]:
        """Questions that wait for a person, MUSTs first."""
        found = [item for item in self.items if item.verdict.outcome is Outcome.UNANSWERED]
        return tuple(sorted(found, key=lambda item: _rank(item.verdict.level)))

    @cached_property
    def answered(self) -> tuple[Item, ...]:
        """Questions that a person has answered."""
        return tuple(item for item in self.items if item.verdict.answer is not None)

    @cached_property
    def waived(self) -> tuple[Item, ...]:
        """Verdicts with a waiver; those that have expired, and those that will soon, first."""
        found = [(item.verdict.waiver.expires, item) for item in self.items if item.verdict.waiver is not None]
        return tuple(item for _, item in sorted(found, key=lambda pair: pair[0]))

    @cached_property
    def idle(self) -> tuple[Item, ...]:
        """What says nothing about this subject."""
        return tuple(item for item in self.items if item.verdict.outcome is Outcome.NOT_APPLICABLE)

    def form(self, most: int | None = None, *, brief: bool = False) -> str:
        """The YAML that answers the open questions, to be filled in.

        Args:
            most: How many of them; all where left out.
            brief: Whether each takes one line.
        """
        lines = ["subjects:", f"  {document.to_key(self.record.subject.id)}:", "    answers:"]
        for item in self.unanswered[:most]:
            if brief:
                lines.append(f'      {item.verdict.id}: {{answer: "", by: "", on: YYYY-MM-DD, evidence: ""}}')
                continue
            asked = " ".join(words.clean(item.verdict.question).split())
            lines += [f"      # {asked}", f"      {item.verdict.id}:"]
            lines += ['        answer: ""', '        by: ""', "        on: YYYY-MM-DD", '        evidence: ""']
        return "\n".join(lines)

    @cached_property
    def difference(self) -> Difference | None:
        """The newest run against the one before it; None where there is none to compare with."""
        before = baseline(self.record, self._earlier)
        return difference(self.record, before) if before is not None else None

    @property
    def _earlier(self) -> list[Record]:
        return [run for run in self.view.runs if run is not self.record]

    @cached_property
    def courses(self) -> list[Course]:
        """How each measurement went over the runs; the gravest verdicts first."""
        found = courses(self.view.judged, self.view.runs)
        return sorted(found, key=lambda course: GRAVITY.index(course.verdict.outcome))

    @cached_property
    def executions(self) -> list[tuple[Execution, Record]]:
        """What the verdicts rest on, each execution once, with the run that it stands in."""
        found: dict[tuple[str, int | None], tuple[Execution, Record]] = {}
        for judged in self.view.judged:
            if judged.execution is not None:
                found.setdefault((judged.record.id, judged.verdict.execution), (judged.execution, judged.record))
        return list(found.values())

    @cached_property
    def shaky(self) -> list[tuple[Verdict, CriterionResult]]:
        """What the newest run decided, and what does not hold when all its criteria are taken together."""
        return [
            (verdict, result)
            for verdict in self.record.verdicts
            for result in (*verdict.gates, *verdict.criteria)
            if result.p_holm is not None
            and result.p_holm > 1 - self.record.confidence
            and result.outcome in (Outcome.PASSED, Outcome.FAILED)
        ]

    @property
    def is_partial(self) -> bool:
        """Whether the newest run was asked for some cards or prescriptions only."""
        return is_partial(self.record)

    def loaded(self, card: str) -> LoadedCard | None:
        """A card, where it is still there."""
        return self.source.catalog.get(card) if card in self.source.catalog else None

    def _item(self, judged: Judged) -> Item:
        loaded = self.loaded(judged.verdict.card)
        prescription = None
        if loaded is not None:
            slug = judged.verdict.prescription
            prescription = next((item for item in loaded.card.prescriptions if item.id == slug), None)
        title = loaded.card.title if loaded is not None else judged.verdict.card
        return Item(judged, title, prescription, self._since(judged))

    def _since(self, judged: Judged) -> str:
        if judged.verdict.outcome not in words.TROUBLE:
            return ""
        found = standing(judged, self.view.runs)
        if found.runs > 1:
            outcome = words.word(judged.verdict.outcome).capitalize()
            return f"{outcome} in {found.runs} runs of this model in a row, since {found.since.started:%d %B %Y, %H:%M} UTC."
        return f"New: the run of this model before had {words.word(found.before)} here." if found.before else ""

    @cached_property
    def _by_card(self) -> dict[str, list[Item]]:
        found: dict[str, list[Item]] = {}
        for item in self.items:
            found.setdefault(item.verdict.card, []).append(item)
        return found

    def _group(self, card: str) -> Group:
        mine = self._by_card[card]
        checked = [
            item for item in mine if not item.verdict.question and item.verdict.outcome is not Outcome.NOT_APPLICABLE
        ]
        ordered = sorted(checked, key=lambda item: GRAVITY.index(item.verdict.outcome))
        return Group(
            card,
            mine[0].card,
            self.loaded(card) is not None,
            tuple(ordered),
            tuple(item.verdict.outcome for item in mine),
        )


def _rank(level: str) -> tuple[int, str]:
    """Levels in their order; what no card may say, but a record does, comes last."""
    return LEVELS.index(level) if level in LEVELS else len(LEVELS), level

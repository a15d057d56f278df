"""What terminal and notebook say in the same words: outcomes, measured numbers, error rates, the command that runs a check again."""

from __future__ import annotations

import json
import re
import shlex
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING, Any

from method_cards import calibration
from method_cards.judge import number, roughly
from method_cards.record import PARTIAL, Asked
from method_cards.render.interval import label, of
from method_cards.verdict import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from method_cards.calibration import Calibration
    from method_cards.card import Criterion, Prescription
    from method_cards.catalog import LoadedCard, Reference
    from method_cards.plan import Plan
    from method_cards.record import Execution, Record
    from method_cards.verdict import CriterionResult, IntervalData, Verdict

SYMBOLS = {
    Outcome.PASSED: "✓",
    Outcome.FAILED: "✗",
    Outcome.INCONCLUSIVE: "~",
    Outcome.INVALID: "⊘",
    Outcome.NOT_APPLICABLE: "-",
    Outcome.ERRORED: "!",
    Outcome.UNANSWERED: "?",
    Outcome.ANSWERED: "»",
}
"""A mark for each outcome that is told apart without colour; the word always stands beside it."""

TROUBLE = (Outcome.FAILED, Outcome.ERRORED, Outcome.INVALID, Outcome.INCONCLUSIVE)
"""What somebody has to look at, the worst first."""

_ESCAPE = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\))")
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_INVISIBLE_BUT_NEEDED = "\n\t\u200d"


def clean(text: object) -> str:
    """Text without control characters: no card or record can move the cursor, colour the screen or turn the reading direction."""
    readable = _ESCAPE.sub("", str(text))
    return "".join(
        char for char in readable if char in _INVISIBLE_BUT_NEEDED or unicodedata.category(char) not in _HIDDEN
    )


def word(outcome: Outcome) -> str:
    """The outcome for people."""
    return word_of(outcome.value)


def word_of(name: str) -> str:
    """The value of an enumeration for people."""
    return name.replace("_", " ")


def measured(interval: IntervalData, unit: str = "") -> str:
    """An estimate with its interval: ``0.81, 95% interval 0.77 to 0.84, n = 128``."""
    value = f"{number(interval.estimate)} {unit}".strip()
    if interval.method == "exact":
        return f"{value}, an exact quantity"
    return f"{value}, {interval.confidence:.0%} interval {number(interval.low)} to {number(interval.high)}, n = {interval.n:,}"


PROCEDURES = {
    "clopper-pearson": "Clopper-Pearson",
    "delong": "DeLong",
    "hoeffding": "Hoeffding",
    "empirical-bernstein": "empirical Bernstein",
}


def procedure(method: str) -> str:
    """How an interval was computed, as the literature writes it."""
    return PROCEDURES.get(method, method.replace("-", " "))


def counted(verdicts: Iterable[Verdict]) -> str:
    """How many of each outcome: ``3 passed · 1 failed``."""
    counts = Counter(verdict.outcome for verdict in verdicts)
    return " · ".join(f"{counts[outcome]} {word(outcome)}" for outcome in Outcome if counts[outcome]) or "nothing"


def musts(record: Record) -> str:
    """What became of the prescriptions of level MUST and MUST NOT."""
    found = [verdict for verdict in record.verdicts if verdict.is_must]
    return f"{len(found)} of {plural(len(record.verdicts), 'prescription')}: {counted(found)}" if found else "none"


def adjusted(record: Record) -> str:
    """How many criteria were decided, and how many decisions hold when all criteria are taken together."""
    results = [result for verdict in record.verdicts for result in (*verdict.gates, *verdict.criteria)]
    sampled = [result for result in results if result.p_holm is not None]
    exact = sum(result.interval is not None and result.interval.method == "exact" for result in results)
    decided = [result for result in sampled if result.outcome in (Outcome.PASSED, Outcome.FAILED)]
    hold = sum(result.p_holm is not None and result.p_holm <= 1 - record.confidence for result in decided)
    more = f"; {exact} more rest on exact quantities" if exact else ""
    if not sampled:
        return f"no criterion rests on a sample{more}"
    verb = "holds" if hold == 1 else "hold"
    together = f"{hold} of {plural(len(decided), 'decision')} also {verb} at {record.confidence:.0%} over all criteria together (Holm)"
    return f"{len(decided)} of {len(sampled)} were decided from data; {together}{more}"


def why(record: Record) -> str:
    """Why a run ends with its exit status."""
    reasons = unmet(record.verdicts)
    reasons += [f"no check of {card} applies to this subject" for card in record.idle_cards]
    reasons += ["the run was interrupted"] if record.status == "interrupted" else []
    if reasons:
        return listed(reasons)
    unanswered = waiting(verdict.is_must and verdict.outcome is Outcome.UNANSWERED for verdict in record.verdicts)
    return "every MUST that a check decides passed" + (f"; {unanswered}" if unanswered else "")


def waiting(asked: Iterable[bool]) -> str:
    """How many questions of level MUST nobody has answered; empty where none."""
    count = sum(asked)
    return f"{plural(count, 'MUST')} {'waits' if count == 1 else 'wait'} for an answer" if count else ""


def unmet(verdicts: Iterable[Verdict]) -> list[str]:
    """What makes a run with these verdicts end with 1: ``2 MUSTs failed``."""
    stopping = [verdict.outcome for verdict in verdicts if verdict.stops]
    errored = stopping.count(Outcome.ERRORED)
    counts = {outcome: stopping.count(outcome) for outcome in (Outcome.FAILED, Outcome.INVALID, Outcome.INCONCLUSIVE)}
    reasons = [
        f"{plural(count, 'MUST')} {'' if outcome is Outcome.FAILED else 'is ' if count == 1 else 'are '}{word(outcome)}"
        for outcome, count in counts.items()
        if count
    ]
    return reasons + ([f"{plural(errored, 'verdict')} could not be measured"] if errored else [])


NOT_CALIBRATED = "Not calibrated: how often this check errs has not been measured."


def rates(found: Calibration) -> str:
    """Measured error rates in one sentence: how many of how many."""
    confounded = [row for row in found.controls if row.kind == "confounded"]
    unclear, refused = sum(row.runs for row in confounded), sum(row.expected for row in confounded)
    defects, hits = found.detection.n - unclear, _count(found.detection) - refused
    parts = [f"Of {plural(defects, 'subject')} built with the defect it found {_of(hits, defects)}"]
    parts += [f"of {unclear:,} that allow no verdict it refused {_of(refused, unclear)}"] if unclear else []
    parts += [f"of {found.false_alarm.n:,} sound ones it failed {_of(_count(found.false_alarm), found.false_alarm.n)}"]
    return "; ".join(parts) + "."


def stale(found: Calibration) -> str:
    """What has to be said of error rates that were measured for something else."""
    return f"Not calibrated: the error rates of {found.measured_on} are of other criteria, parameters or another version of the check."


def shortcoming(found: Calibration) -> str:
    """In what a check falls short of what is promised; empty where it does not."""
    parts = [f"finds less than {calibration.PROMISED_DETECTION:.0%} of defects"] if found.misses_too_many else []
    parts += (
        [f"fails more than {calibration.PROMISED_FALSE_ALARMS:.0%} of sound subjects"] if found.alarms_too_often else []
    )
    return f"Worse than promised: it {listed(parts)}." if parts else ""


def calibrated(loaded: LoadedCard, prescription: Prescription, version: str = "") -> tuple[Calibration | None, str]:
    """The error rates of a prescription's check, and what has to be said of them.

    Args:
        loaded: The card.
        prescription: One of its prescriptions.
        version: The version of the check that is asked about; any where empty.

    Returns:
        The calibration, None where there is none for these criteria; and a sentence: the rates, or why there are none.
    """
    if prescription.check is None:
        return None, "A person answers this; there are no error rates."
    home, slug = loaded.home(prescription)
    found = calibration.read(home.folder).prescriptions.get(slug)
    if found is None:
        return None, NOT_CALIBRATED
    if not found.is_current(version or found.check_version, calibration.digest(prescription.check)):
        return None, stale(found)
    shares = f"Detection {_share(found.detection)}, false alarms {_share(found.false_alarm)}."
    return found, " ".join(part for part in (rates(found), shares, shortcoming(found)) if part)


def rerun(record: Record, verdict: Verdict, device: str = "") -> str:
    """What decides this one prescription again, with more samples where there are enough to decide it: a command, or a call in Python.

    Args:
        record: The run.
        verdict: What was decided.
        device: Where to run; left to the command where empty.
    """
    found = execution(record, verdict)
    samples = found.samples if found is not None else None
    needed = samples_needed(verdict) if verdict.outcome is Outcome.INCONCLUSIVE else None
    if needed is not None and (found is None or all(split.size >= needed for split in found.splits)):
        samples = needed
    asked = record.asked or Asked()
    if asked.in_python:
        return _call(record, [verdict.id], samples, device)
    card = ["--card", verdict.card] if asked.cards else []  # one that the subject may not name
    more = ["--samples", str(samples)] if samples is not None else []
    more += _each("--check", asked.checks)
    more += ["--device", device] if device else []
    return command("run", record.subject.id, *card, "--only", verdict.id, "--seed", str(record.seed), *more)


def _call(record: Record, cards: Sequence[str], samples: int | None, device: str = "") -> str:
    """The call in Python that runs cards again; the dots stand for model, data and whatever else was given."""
    more = f", samples={samples}" if samples is not None else ""
    more += f", seed={record.seed}" + (f", device={json.dumps(device)}" if device else "")
    return f"method_cards.run(..., cards={json.dumps(list(cards))}{more})"


TIME_LIMIT = 3600.0
"""Seconds that a check may take where `run` is told nothing."""


def whole_rerun(record: Record) -> str:
    """The command, or the call in Python, that repeats a run, with every option that decides what is measured."""
    asked = record.asked or Asked(cards=tuple(record.cards) if PARTIAL in record.id else (), time_limit=TIME_LIMIT)
    if asked.in_python:
        return _call(record, asked.only or tuple(record.cards), asked.samples, record.device.partition(":")[0])
    options = [*_each("--card", asked.cards), *_each("--only", asked.only), *_each("--check", asked.checks)]
    options += ["--seed", str(record.seed)]
    options += ["--samples", str(asked.samples)] if asked.samples is not None else []
    options += ["--device", record.device.partition(":")[0]]
    options += ["--block", str(record.block)] if record.block else []
    options += ["--exhaustive"] if asked.exhaustive else []
    options += [] if asked.time_limit == TIME_LIMIT else ["--time-limit", f"{asked.time_limit or 0:g}"]
    return command("run", record.subject.id, *options)


def _each(option: str, values: Iterable[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def samples_needed(verdict: Verdict) -> int | None:
    """About how many samples would decide all undecided criteria; None where no reasonable number would."""
    undecided = [result for result in decisive(verdict) if result.outcome is Outcome.INCONCLUSIVE]
    needed = [result.samples_needed for result in undecided if result.samples_needed is not None]
    return max(needed) if needed and len(needed) == len(undecided) else None


def more_samples(record: Record, verdict: Verdict) -> str:
    """What to do about a verdict that is inconclusive, and whether there is data enough for it."""
    needed = samples_needed(verdict)
    if needed is None:
        return "More samples are unlikely to decide it: treat it as not shown."
    found = execution(record, verdict)
    smallest = min(found.splits, key=lambda split: split.size, default=None) if found else None
    if smallest is not None and smallest.size < needed:
        lack = f'but the split "{smallest.name}" has {smallest.size:,}: add data, or treat it as not shown'
        return f"Measure more: about {roughly(needed)} samples would decide it, {lack}."
    return f"Measure more: about {roughly(needed)} samples would decide it."


def execution(record: Record, verdict: Verdict) -> Execution | None:
    """What a verdict was decided from; None where nothing ran."""
    number = verdict.execution
    return record.executions[number] if number is not None and number < len(record.executions) else None


def command(*words: str) -> str:
    """A command line of this package, quoted for a shell."""
    return shlex.join(("method-cards", *words))


def bound(criterion: Criterion) -> str:
    """A criterion of a card: ``completeness gap ≤ 0.05 at 95% confidence``."""
    return f"{quantity(criterion)} {criterion.bound_text()} at {criterion.confidence:.0%} confidence"


def quantity(criterion: Criterion) -> str:
    """What a criterion bounds: ``similarity (stage 1)``."""
    return of(criterion.measurement, criterion.where)


def source(criterion: Criterion, references: Mapping[str, Reference]) -> str:
    """Where a criterion's bound comes from: ``Adebayo et al. 2018, section 3: why it follows``."""
    key = criterion.source.ref or ""
    work = references[key].short if key in references else key
    cited = ", ".join(part for part in (work, criterion.source.locator) if part)
    return ": ".join(part for part in (cited, criterion.source.note) if part)


def decisive(verdict: Verdict) -> list[CriterionResult]:
    """The criteria that made the verdict what it is: violated or undecided conditions of the run first."""
    gates = [gate for gate in verdict.gates if gate.outcome is not Outcome.PASSED]
    if gates:
        return gates
    return [result for result in verdict.criteria if result.outcome is not Outcome.PASSED]


def of_card(cards: Mapping[str, LoadedCard] | None, verdict: Verdict) -> tuple[LoadedCard | None, Prescription | None]:
    """The card and the prescription that a verdict is about, where they are still there."""
    loaded = (cards or {}).get(verdict.card)
    if loaded is None:
        return None, None
    return loaded, next((item for item in loaded.card.prescriptions if item.id == verdict.prescription), None)


def name(result: CriterionResult) -> str:
    """The quantity that was bounded, for people."""
    return label(result)


def waived(verdict: Verdict) -> str:
    """What a waiver says; it stands beside the verdict and never replaces it."""
    waiver = verdict.waiver
    if waiver is None:
        return ""
    by = f" by {waiver.approved_by}" if waiver.approved_by else ""
    state = f"the waiver expired on {waiver.expires}" if waiver.has_expired else f"waived{by} until {waiver.expires}"
    return f"{state}: {waiver.reason}"


def plural(count: int, noun: str) -> str:
    """A count with its noun."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def cost(planned: Plan) -> str:
    """What a plan will cost: examples through the model, and seconds where the pace was measured."""
    passes = planned.passes
    counted = f"about {passes.forward:,} examples forward and {passes.backward:,} forward and backward"
    if passes.trainings and planned.subject.recipe is not None:
        counted += f", {passes.trainings:,} trainings among them"
    elif passes.trainings:
        counted += f", besides {passes.trainings:,} trainings, whose length only your function knows"
    if planned.pace is None or planned.seconds is None:
        return counted
    return f"{counted}, {duration(planned.seconds)} of passes here at most, {planned.pace.block:,} examples at once"


def duration(seconds: float) -> str:
    """A time for people: ``0.4 s``, ``12 s``, ``3 min 20 s``."""
    if seconds < 60:  # noqa: PLR2004
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = (f"{hours} h", f"{minutes} min") if hours else (f"{minutes} min", f"{rest} s")
    return " ".join(part for part in parts if not part.startswith("0 "))


def value(something: Any) -> str:
    """A parameter's value as it stands in YAML, on one line."""
    if isinstance(something, bool):
        return str(something).lower()
    if something is None:
        return "none"
    if isinstance(something, dict):
        return "{" + ", ".join(f"{key}: {value(item)}" for key, item in something.items()) + "}"
    if isinstance(something, list | tuple):
        return "[" + ", ".join(value(item) for item in something) + "]"
    return str(something)


def listed(items: Sequence[str]) -> str:
    """Words in a row: ``a, b and c``."""
    return " and ".join(part for part in (", ".join(items[:-1]), *items[-1:]) if part)


def _count(rate: IntervalData) -> int:
    return round(rate.estimate * rate.n)


def _of(count: int, total: int) -> str:
    return "none" if count == 0 else "all" if count == total else f"{count:,}"


def capital(text: str) -> str:
    """A text that begins a sentence."""
    return text[:1].upper() + text[1:]


def _share(interval: IntervalData) -> str:
    return f"{interval.estimate:.0%} ({interval.confidence:.0%} interval {interval.low:.0%} to {interval.high:.0%})"

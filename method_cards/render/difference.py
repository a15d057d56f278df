"""What changed from one run of a subject to the next: verdicts, numbers beyond their intervals, and what was not alike about the runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from method_cards.judge import number
from method_cards.record import PARTIAL
from method_cards.render import words
from method_cards.verdict import Outcome

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Collection, Iterable, Sequence

    from method_cards.record import Execution, Record
    from method_cards.verdict import CriterionResult, Verdict

WORST_FIRST = (*words.TROUBLE, Outcome.UNANSWERED)
"""What is not as it should be; everything else is."""

SHORT = 12
"""How many characters of a hash tell two apart for a person."""


@dataclass(frozen=True)
class Unlike:
    """Something about two runs that was not the same, so that a difference may come from it.

    Attributes:
        what: What it is.
        before: How it was.
        now: How it is.
    """

    what: str
    before: str
    now: str


@dataclass(frozen=True)
class Moved:
    """One criterion whose estimate changed so much that the intervals of both runs do not overlap."""

    before: CriterionResult
    now: CriterionResult


@dataclass(frozen=True)
class Change:
    """One prescription whose verdict, numbers or rules changed.

    Attributes:
        before: The verdict of the earlier run.
        now: The verdict of the later run.
        rules: What changed about how it is decided, in words: the card, the check, a bound.
        moved: Criteria whose numbers changed beyond their intervals.
    """

    before: Verdict
    now: Verdict
    rules: tuple[str, ...] = ()
    moved: tuple[Moved, ...] = ()


@dataclass(frozen=True)
class Difference:
    """The later run against the earlier one; every prescription that both decided stands in exactly one of the first five groups.

    Attributes:
        now: The later run.
        before: The earlier run.
        unlike: What was not the same about the runs.
        worse: Verdicts that are in trouble now, and graver than before.
        better: Verdicts that are passed or answered now, and were not.
        other: Verdicts that changed in another way, such as from failed to not applicable.
        moved: The same verdict, with numbers beyond the intervals, or by other rules.
        same: How many are as they were.
        added: Verdicts on prescriptions that the earlier run did not decide, though nobody asked it for a part only.
        gone: Verdicts on prescriptions that the later run did not decide, though nobody asked it for a part only.
        apart: How many prescriptions one of the runs was not asked for.
        expired: Verdicts whose waiver held on the day of the earlier run, and holds no longer today.
        cards: Cards that were edited in between.
    """

    now: Record
    before: Record
    unlike: tuple[Unlike, ...]
    worse: tuple[Change, ...]
    better: tuple[Change, ...]
    other: tuple[Change, ...]
    moved: tuple[Change, ...]
    same: int
    added: tuple[Verdict, ...]
    gone: tuple[Verdict, ...]
    apart: int
    expired: tuple[Verdict, ...]
    cards: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all changed about what was decided."""
        return not (self.worse or self.better or self.other or self.moved or self.added or self.gone or self.expired)


def baseline(now: Record, earlier: Iterable[Record]) -> Record | None:
    """The run to compare with: the latest of those that ran to their end and share most prescriptions with this one.

    Args:
        now: The run that is looked at.
        earlier: Runs of the same subject before it, in any order.
    """
    decided = {verdict.id for verdict in now.verdicts}

    def fitness(record: Record) -> tuple[bool, int, object]:
        return record.status == "complete", sum(item.id in decided for item in record.verdicts), record.started

    best = max(earlier, key=fitness, default=None)
    return best if best is not None and any(item.id in decided for item in best.verdicts) else None


def difference(now: Record, before: Record) -> Difference:
    """Compare two runs of one subject, like with like: prescriptions that both decided, criteria that both measured."""
    old = {verdict.id: verdict for verdict in before.verdicts}
    shared = [(old[verdict.id], verdict) for verdict in now.verdicts if verdict.id in old]
    changes = [
        Change(was, verdict, _rules(before, was, now, verdict), tuple(_moved(was, verdict))) for was, verdict in shared
    ]
    worse = [change for change in changes if _is_worse(change)]
    better = [change for change in changes if _is_better(change)]
    same_outcome = [change for change in changes if change.before.outcome is change.now.outcome]
    moved = [change for change in same_outcome if change.moved or change.rules]
    settled = (*worse, *better, *same_outcome)
    new = {verdict.id for verdict in now.verdicts}
    added = tuple(verdict for verdict in now.verdicts if verdict.id not in old)
    gone = tuple(verdict for verdict in before.verdicts if verdict.id not in new)
    return Difference(
        now=now,
        before=before,
        unlike=unlike(now, before),
        worse=tuple(sorted(worse, key=_gravity)),
        better=tuple(better),
        other=tuple(change for change in changes if not any(change is item for item in settled)),
        moved=tuple(moved),
        same=len(same_outcome) - len(moved),
        added=() if is_partial(before) else added,
        gone=() if is_partial(now) else gone,
        apart=(len(added) if is_partial(before) else 0) + (len(gone) if is_partial(now) else 0),
        expired=tuple(verdict for verdict in now.verdicts if _expired_since(verdict, before.started.date())),
        cards=tuple(card for card, sha in now.cards.items() if before.cards.get(card, sha) != sha),
    )


def unlike(now: Record, before: Record) -> tuple[Unlike, ...]:
    """What was not the same about two runs, the weightiest first."""
    found = [
        ("model", _short(before.subject.parameters_sha256), _short(now.subject.parameters_sha256)),
        ("built by", before.subject.model, now.subject.model),
        ("explainer", before.subject.explainer or "none", now.subject.explainer or "none"),
        ("run", _kind(before), _kind(now)),
        ("seed", str(before.seed), str(now.seed)),
        ("examples", *_examples(before, now)),
        ("data", *_data(before, now)),
        ("device", before.device, now.device),
        ("examples at once", str(before.block or ""), str(now.block or "")),
        ("revision", _revision(before), _revision(now)),
    ]
    names = dict.fromkeys([*before.environment, *now.environment])
    found += [(name, before.environment.get(name, "none"), now.environment.get(name, "none")) for name in names]
    return tuple(Unlike(*item) for item in found if item[1] != item[2])


def other_rules(before: Execution | None, now: Execution | None) -> list[str]:
    """What changed about a check, in words."""
    if before is None or now is None:
        return []
    found = []
    if before.check != now.check:
        found.append(f"the check was {before.check}, and is {now.check}")
    elif before.version != now.version:
        found.append(f"{now.check} went from version {before.version} to {now.version}")
    elif before.distribution != now.distribution:
        found.append(f"{now.check} came from {before.distribution}, and comes from {now.distribution}")
    if before.check == now.check and before.parameters != now.parameters:
        keys = dict.fromkeys([*before.parameters, *now.parameters])
        changed = [key for key in keys if before.parameters.get(key) != now.parameters.get(key)]
        found.append(f"{now.check} was run with another value of {words.listed(changed)}")
    return found


def paired(
    before: Sequence[CriterionResult], now: Sequence[CriterionResult]
) -> list[tuple[CriterionResult, CriterionResult]]:
    """The criteria of two runs that are the same: those on the same part of the same quantity.

    Where several are, as an upper and a lower bound, claim and kind of bound tell them apart; what these do not tell, the order does.
    """
    pairs = []
    for what in dict.fromkeys(map(_quantity, now)):
        old = [result for result in before if _quantity(result) == what]
        new = [result for result in now if _quantity(result) == what]
        for same in (_claim, _kind_of_bound, _quantity):
            for result in tuple(new):
                was = next((item for item in old if same(item) == same(result)), None)
                if was is not None:
                    pairs.append((was, result))
                    old = [item for item in old if item is not was]
                    new = [item for item in new if item is not result]
    return pairs


def _quantity(result: CriterionResult) -> object:
    return result.measurement, *sorted((name, str(value)) for name, value in result.where.items())


def _claim(result: CriterionResult) -> object:
    return result.claim


def _kind_of_bound(result: CriterionResult) -> object:
    return result.low_bound is None, result.high_bound is None


def _is_worse(change: Change) -> bool:
    return change.now.outcome in words.TROUBLE and (
        change.before.outcome not in WORST_FIRST
        or WORST_FIRST.index(change.now.outcome) < WORST_FIRST.index(change.before.outcome)
    )


def _is_better(change: Change) -> bool:
    return change.now.outcome in (Outcome.PASSED, Outcome.ANSWERED) and change.before.outcome in WORST_FIRST


def _gravity(change: Change) -> tuple[bool, int]:
    return not change.now.is_must, WORST_FIRST.index(change.now.outcome)


def _moved(before: Verdict, now: Verdict) -> Iterable[Moved]:
    if Outcome.INVALID in (before.outcome, now.outcome):
        return  # numbers that mean nothing are not compared
    for was, result in paired(before.criteria, now.criteria):
        if was.interval is None or result.interval is None:
            continue
        apart = result.interval.low > was.interval.high or result.interval.high < was.interval.low
        if apart and number(result.interval.estimate) != number(was.interval.estimate):
            yield Moved(was, result)


def _rules(before: Record, was: Verdict, now: Record, verdict: Verdict) -> tuple[str, ...]:
    found = []
    if was.level != verdict.level:
        found.append(f"the level was {was.level}, and is {verdict.level}")
    for old, result in (*paired(was.gates, verdict.gates), *paired(was.criteria, verdict.criteria)):
        if old.bound != result.bound:
            found.append(f"the bound on {words.name(result)} was {old.bound}, and is {result.bound}")
    found += other_rules(words.execution(before, was), words.execution(now, verdict))
    if was.statement != verdict.statement:
        found.append("the card states it in other words")
    return tuple(found)


def _expired_since(verdict: Verdict, day: dt.date) -> bool:
    return verdict.waiver is not None and verdict.waiver.has_expired and verdict.waiver.expires >= day


def _kind(record: Record) -> str:
    asked = f"of {words.listed(list(record.cards))} only" if is_partial(record) else "whole"
    return f"{asked}, interrupted" if record.status == "interrupted" else asked


def is_partial(record: Record) -> bool:
    """Whether the run was asked for some cards or prescriptions only."""
    return PARTIAL in record.id


def _examples(before: Record, now: Record) -> tuple[str, str]:
    """How many examples of a split the checks drew that both runs executed: from the fewest to the most, where not all the same."""
    both = {item.check for item in before.executions} & {item.check for item in now.executions}

    def drawn(record: Record) -> dict[tuple[str, str], int]:
        return {
            (item.check, split.name): split.n
            for item in record.executions
            if item.check in both
            for split in item.splits
        }

    old, new = drawn(before), drawn(now)
    return ("", "") if old == new else (_spread(old.values()), _spread(new.values()))


def _spread(counts: Collection[int]) -> str:
    if not counts:
        return "none"
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _data(before: Record, now: Record) -> tuple[str, str]:
    """Splits that hold other examples than before, though the same number was drawn with the same seed."""
    if before.seed != now.seed:
        return "", ""
    old, new = _drawn(before), _drawn(now)
    names = sorted(name for name in new if name in old and old[name] != new[name])
    return (
        ", ".join(f"{split} {_short(old[split, n])}" for split, n in names),
        ", ".join(f"{split} {_short(new[split, n])}" for split, n in names),
    )


def _drawn(record: Record) -> dict[tuple[str, int], str]:
    return {(split.name, split.n): split.sha256 for item in record.executions for split in item.splits if split.sha256}


def _revision(record: Record) -> str:
    revision = record.git_revision
    if not revision:
        return "not under git"
    return _short(revision.rstrip("+")) + (" with uncommitted changes" if revision.endswith("+") else "")


def _short(sha: str) -> str:
    return sha[:SHORT]

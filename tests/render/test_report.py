"""The terminal: the report of a run, plans, progress, cards, checks, lists."""

from __future__ import annotations

import datetime as dt
import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from method_cards import clock
from method_cards.catalog import Catalog, LoadedCard
from method_cards.check import Passes
from method_cards.pace import Pace
from method_cards.record import Execution, Record
from method_cards.registry import Registry
from method_cards.render import report, words
from method_cards.render.bar import ASCII, bar
from method_cards.render.progress import Account, TerminalProgress
from method_cards.verdict import CriterionResult, IntervalData, Outcome, Verdict


def console(width: int = 80, **settings: Any) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, width=width, highlight=False, **settings), stream


def printed(record: Record, cards: dict[str, LoadedCard] | None = None, width: int = 80) -> str:
    target, stream = console(width)
    report.print_record(record, target, cards=cards, path=Path("records/digits-cnn/1/record.json"))
    return stream.getvalue()


def flat(text: str) -> str:
    return " ".join(text.split())


def block(text: str, prescription: str) -> str:
    """The part of a report that explains one verdict."""
    return text.split(f"toy-maps/{prescription} ─")[1].split("Run it again", maxsplit=1)[0]


def criterion(low: float, estimate: float, high: float, **bounds: Any) -> CriterionResult:
    interval = IntervalData(
        estimate=estimate, low=low, high=high, confidence=0.95, method="betting", n=99, anytime=True
    )
    settings = {
        "claim": "c",
        "measurement": "m",
        "where": {},
        "bound": "b",
        "source": "s",
        "reason": "r",
        "range": (0.0, 1.0),
    }
    return CriterionResult.model_validate({**settings, "outcome": Outcome.FAILED, "interval": interval, **bounds})


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_has_its_symbol_and_word(every_outcome: Record, outcome: Outcome) -> None:
    """Each outcome is told by a symbol and a word of its own, so that no colour is needed."""
    assert f"{words.SYMBOLS[outcome]} {outcome.value.replace('_', ' ')}" in printed(every_outcome)
    assert len(set(words.SYMBOLS.values())) == len(Outcome)


@pytest.mark.parametrize("width", [80, 120])
def test_width_is_kept(every_outcome: Record, toy_card: LoadedCard, width: int) -> None:
    """No line is longer than the terminal, but for commands and paths, which are kept whole to be copied."""
    lines = printed(every_outcome, {"toy-maps": toy_card}, width).splitlines()
    assert max(len(line) for line in lines if "method-cards run" not in line) <= width


def test_what_is_not_passed_is_explained(every_outcome: Record, toy_card: LoadedCard) -> None:
    """A block stands below for failed, inconclusive, invalid and errored verdicts, and for no other."""
    text = printed(every_outcome, {"toy-maps": toy_card})
    explained = {
        verdict.prescription for verdict in every_outcome.verdicts if f"toy-maps/{verdict.prescription} ─" in text
    }
    assert explained == {"sensitive", "stable", "no-leak", "measurable", "waived"}


def test_failure_says_what_how_sure_and_what_to_do(every_outcome: Record, toy_card: LoadedCard) -> None:
    """A failed prescription shows its symptom, its interval against the bound, error rates, the first remedies and a command."""
    text = printed(every_outcome, {"toy-maps": toy_card})
    said = flat(block(text, "sensitive"))
    assert "Not true here: the similarity is as it must be" in said
    assert "Maps of different models look alike (sensitive)" in said
    assert "0.81, 95% interval 0.77 to 0.84, n = 128 (betting); the bound is ≤ 0.3" in said
    assert "Of 60 subjects built with the defect it found all" in said
    assert "First remedy of sensitive" in said
    assert "1 more remedy: method-cards show toy-maps" in said
    assert "method-cards run digits-cnn --only toy-maps/sensitive --seed 7 --samples 128\n" in text


def test_decision_that_does_not_survive_holm_says_so(every_outcome: Record) -> None:
    """A failure that does not hold over all criteria together says so where it is explained."""
    assert "does not hold at 95% over all criteria of this run together (Holm-adjusted p = 0.2)" in flat(
        block(printed(every_outcome), "sensitive")
    )


def test_inconclusive_asks_for_samples(every_outcome: Record) -> None:
    """An inconclusive verdict names the number of samples that would decide it, in words and in its command."""
    text = printed(every_outcome)
    assert "about 2,300 samples would decide it" in flat(text)
    assert "--only toy-maps/stable --seed 7 --samples 2300" in text


def test_samples_that_are_not_there(every_outcome: Record) -> None:
    """When more samples would be needed than the split has, the report says so."""
    split = {"name": "test", "n": 128, "size": 360, "sha256": ""}
    execution = Execution.model_validate({**every_outcome.executions[0].model_dump(), "splits": [split]})
    text = printed(every_outcome.model_copy(update={"executions": (execution,)}))
    assert 'but the split "test" has 360' in flat(text)
    assert "--samples 2300" not in text


def test_invalid_blames_the_run(every_outcome: Record, toy_card: LoadedCard) -> None:
    """An invalid verdict shows the violated condition, says that samples would not help, and names no remedy for the model."""
    said = flat(block(printed(every_outcome, {"toy-maps": toy_card}), "no-leak"))
    assert "(a condition of this run): members and non-members are alike" in said
    assert "More samples would not help" in said
    assert "First remedy" not in said


def test_error_is_no_verdict_on_the_model(every_outcome: Record) -> None:
    """An errored verdict shows its cause and says that it says nothing about the model."""
    said = flat(block(printed(every_outcome), "measurable"))
    assert "the model's output is NaN" in said
    assert "says nothing about the model" in said


def test_waiver_stands_beside_the_verdict(every_outcome: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """A waived failure is still shown as failed, with reason, person and expiry; an expired one says so."""
    text = flat(printed(every_outcome))
    assert "✗ failed SHOULD NOT waived" in text
    assert "waived by R. Viewer until 2027-01-01: Shown to experts only." in text
    monkeypatch.setattr(clock, "today", lambda: dt.date(2027, 1, 2))
    assert "the waiver expired on 2027-01-01: Shown to experts only." in flat(printed(every_outcome))


def test_questions_are_shown(every_outcome: Record) -> None:
    """An open question is asked and says where the answer goes; an answer comes with person, day and evidence."""
    text = flat(printed(every_outcome))
    assert "Is the baseline without meaning?" in text
    assert "1 question to answer: method-cards notebook digits-cnn writes a notebook that asks them" in text
    assert "yes (A. Person, 2026-03-01; evidence: minutes of March)" in text


def test_summary_counts(every_outcome: Record) -> None:
    """The summary counts outcomes, MUSTs and criteria, and says how many decisions survive Holm's adjustment."""
    text = flat(printed(every_outcome))
    assert "1 passed · 2 failed · 1 inconclusive · 1 invalid" in text
    assert "4 of 9 prescriptions: 1 passed · 1 failed · 1 invalid · 1 unanswered" in text
    assert "3 of 4 were decided from data; 2 of 3 decisions also hold at 95% over all criteria together (Holm)" in text
    assert "1 more rest on exact quantities" in text
    assert "12 s on cpu, seed 7" in text
    assert "exit status 1: 1 MUST failed, 1 MUST is invalid and 1 verdict could not be measured" in text


def test_endings_agree_with_their_numbers(every_outcome: Record) -> None:
    """One MUST is invalid, two are; one waits, two wait."""
    twice = (*every_outcome.verdicts, *every_outcome.verdicts)
    assert words.unmet(twice) == ["2 MUSTs failed", "2 MUSTs are invalid", "2 verdicts could not be measured"]
    assert words.waiting([True, False]) == "1 MUST waits for an answer"
    assert words.waiting([True, True]) == "2 MUSTs wait for an answer"
    assert words.waiting([False]) == ""


def test_good_ending_names_what_is_open(every_outcome: Record) -> None:
    """A run without failures that leaves a MUST undecided says so beside its exit status."""
    kept = tuple(
        verdict for verdict in every_outcome.verdicts if verdict.outcome in (Outcome.PASSED, Outcome.UNANSWERED)
    )
    text = flat(printed(every_outcome.model_copy(update={"verdicts": kept})))
    assert "exit status 0: every MUST that a check decides passed; 1 MUST waits for an answer" in text


def test_report_needs_no_card(every_outcome: Record) -> None:
    """A record whose cards are gone is still reported: what was decided stands in the record."""
    text = printed(every_outcome, {})
    assert "Maps MUST change when the parameters are randomised." in text
    assert "method-cards show toy-maps says what to do" in flat(text)


def test_no_color(every_outcome: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR takes every colour away and leaves every word."""
    monkeypatch.setenv("NO_COLOR", "1")
    target, stream = console(force_terminal=True, color_system="truecolor")
    report.print_record(every_outcome, target)
    assert "\x1b[3" not in stream.getvalue().replace("\x1b[3m", "")
    assert "✗ failed" in stream.getvalue()


def test_text_is_no_markup(every_outcome: Record) -> None:
    """Brackets, emoji codes and escape sequences in a record are shown or dropped, never obeyed."""
    hostile = "[red]x[/red] :bomb: \x1b[2J\x07\u202egnp.exe"
    verdict = every_outcome.verdicts[1].model_copy(update={"reason": hostile, "statement": hostile})
    text = printed(every_outcome.model_copy(update={"verdicts": (verdict,)}))
    assert "[red]x[/red] :bomb: gnp.exe" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_ascii_terminal(every_outcome: Record, toy_card: LoadedCard) -> None:
    """A terminal that takes only ASCII gets a report in ASCII, with other symbols."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    target = Console(file=stream, width=80, highlight=False)
    report.print_record(every_outcome, target, cards={"toy-maps": toy_card})
    report.print_card(toy_card, target)
    stream.flush()
    text = raw.getvalue().decode("ascii")
    assert "x failed" in text
    assert "the bound is <= 0.3" in flat(text)


def test_bar_keeps_sides_apart() -> None:
    """In the drawing a failed interval never touches what is allowed, however close it is."""
    drawn = bar(criterion(0.3001, 0.5, 0.9, high_bound=0.3), 40)
    assert drawn is not None
    assert len(drawn.allowed) <= len(drawn.measured) - len(drawn.measured.lstrip())
    below = bar(criterion(0.1, 0.5, 0.8999, low_bound=0.9), 40)
    assert below is not None
    assert len(below.measured) <= len(below.allowed) - len(below.allowed.lstrip())


def test_bar_shows_bounds_and_ends() -> None:
    """The drawing names bounds and ends of the scale, has both edges of an interval, and never exceeds its width."""
    drawn = bar(criterion(0.05, 0.2, 0.35, low_bound=0.1, high_bound=0.4), 40, ASCII)
    assert drawn is not None
    assert drawn.scale.split() == ["0", "0.1", "0.4", "1"]
    assert drawn.measured.strip().startswith("|-")
    assert "o" in drawn.measured
    assert max(len(drawn.allowed), len(drawn.measured), len(drawn.scale)) <= 40


def step(check: str, examples: int, forward: int) -> Any:
    prescriptions = [SimpleNamespace(card="toy-maps", prescription=SimpleNamespace(id="complete"))]
    passes = Passes(forward)
    return SimpleNamespace(
        check=SimpleNamespace(id=check),
        examples=examples,
        passes=passes,
        cost=float(forward),
        prescriptions=prescriptions,
    )


def plan(*steps: Any, verdicts: tuple[Verdict, ...] = ()) -> Any:
    passes = Passes(sum(item.passes.forward for item in steps))
    return SimpleNamespace(
        subject=SimpleNamespace(id="digits-cnn"),
        steps=list(steps),
        verdicts=list(verdicts),
        seed=7,
        passes=passes,
        pace=Pace(256, 0.001, 0.003),
        seconds=75.0,
    )


def test_plan_shows_cost_and_what_is_left_out(every_outcome: Record) -> None:
    """A plan shows each check with its passes and share, and every prescription without one with the reason."""
    target, stream = console()
    report.print_plan(
        plan(step("a/b", 128, 3000), step("a/c", 128, 1000), verdicts=every_outcome.verdicts[5:6]), target
    )
    text = flat(stream.getvalue())
    assert "2 checks for 2 prescriptions" in text
    assert (
        "about 4,000 examples forward and 0 forward and backward, 1 min 15 s of passes here at most, 256 examples at once"
        in text
    )
    assert "a/b 128 3,000 0 75%" in text
    assert "It applies to text inputs" in text


def test_progress_in_a_log(every_outcome: Record) -> None:
    """Where no bar can move, there is one plain line for each check."""
    target, stream = console()
    steps = [step("a/b", 128, 3000), step("a/c", 128, 1000)]
    with TerminalProgress(target) as progress:
        progress.planned(plan(*steps))
        for item in steps:
            progress.started(item)
            progress.advanced(item, 128)
            progress.finished(item, every_outcome.executions[0], every_outcome.verdicts[:2])
    lines = stream.getvalue().splitlines()
    assert lines[-2:] == [f"[{number}/2] attribution/completeness: 1 passed · 1 failed (2.5 s)" for number in (1, 2)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal(every_outcome: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a bar with the time left moves, and is gone when the last check has ended."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    now = [0.0]
    progress = TerminalProgress(Console(file=stream, width=100, force_terminal=True), clock=lambda: now[0])
    only = step("a/b", 100, 1000)
    progress.planned(plan(only))
    progress.started(only)
    now[0] = 10.0
    progress.advanced(only, 25)
    progress.finished(only, every_outcome.executions[0], every_outcome.verdicts[:1])
    assert stream.getvalue().rstrip().endswith(("\x1b[2K", "\x1b[?25h"))
    assert "[1/1] attribution/completeness" in stream.getvalue()


def test_time_left_is_weighted_by_cost() -> None:
    """What is left is judged by passes: after half of a check that is a tenth of the work, 19 times as much is to come."""
    now = [0.0]
    small, large = step("a/b", 100, 1000), step("a/c", 100, 9000)
    account = Account(plan(small, large), clock=lambda: now[0])
    account.started()
    now[0] = 2.0
    account.advanced(small, 50)
    assert account.left(small) == "about 38 s left"
    assert account.completed(small) == 500


def test_early_stop_does_not_hurry_the_clock() -> None:
    """A check that was decided after a tenth of its samples does not make the next one look faster."""
    now = [0.0]
    first, second = step("a/b", 100, 1000), step("a/c", 100, 1000)
    account = Account(plan(first, second), clock=lambda: now[0])
    account.started()
    now[0] = 2.0
    account.advanced(first, 10)
    account.finished(first)
    account.started()
    assert account.left(second) == "about 20 s left"
    assert account.completed(first) == 1000


def test_card_in_the_terminal(toy_card: LoadedCard) -> None:
    """A card shows each prescription with level, why, symptom, remedies, criterion with source, and error rates."""
    target, stream = console()
    report.print_card(toy_card, target)
    text = flat(stream.getvalue())
    for prescription in toy_card.card.prescriptions:
        assert f"{prescription.level} {prescription.id}" in text
        assert flat(prescription.statement) in text
    assert "Maps of different models look alike (sensitive)" in text
    assert "if a <b:" in text
    assert "similarity ≤ 0.3 at 95% confidence (Adebayo et al. 2018, section 3: seed against seed)" in text
    assert "Of 60 subjects built with the defect it found all" in text
    assert "Not calibrated" in text
    assert "Did an expert look at the maps?" in text
    assert "https://arxiv.org/abs/1810.03292" in text


def test_rates_of_other_criteria_are_not_shown(toy_card: LoadedCard) -> None:
    """Error rates that were measured with other criteria are called outdated instead of being shown."""
    path = toy_card.folder / "calibration.json"
    data = json.loads(path.read_text())
    data["prescriptions"]["sensitive"]["digest"] = "another"
    path.write_text(json.dumps(data))
    found, said = words.calibrated(toy_card, toy_card.card.prescriptions[1])
    assert found is None
    assert "of other criteria" in said


@pytest.mark.parametrize("check", Registry.installed().ids)
def test_every_check_in_the_terminal(check: str, toy_card: LoadedCard) -> None:
    """Every installed check shows its claim, each parameter with type and default, each quantity, and its controls."""
    entry = Registry.installed().get(check)
    target, stream = console()
    report.print_check(entry, Catalog({"toy-maps": toy_card}), target)
    text, kind = flat(stream.getvalue()), entry.load()
    assert flat(kind.page().claim.replace("`", ""))[:60] in text
    for name in kind.model_fields:
        assert f"{name}: " in text
    for quantity in kind.quantities:
        assert f"{quantity.name} {quantity.kind}" in text
    for control in kind.controls():
        assert f"{control.name}: " in text


@pytest.mark.parametrize("width", [80, 120])
def test_list_is_one_line_each(toy_card: LoadedCard, width: int) -> None:
    """The list has one line for each card and check, ids uncut, with how many prescriptions are calibrated."""
    target, stream = console(width)
    registry = Registry.installed()
    report.print_list(Catalog({"toy-maps": toy_card}), registry, target)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1 + 1 + 1 + 1 + len(registry)
    assert lines[1].split()[0] == "toy-maps"
    assert lines[1].endswith("1 of 7    ")
    assert [line.split()[0] for line in lines[4:]] == list(registry.ids)


def test_listing_is_json(toy_card: LoadedCard) -> None:
    """The machine-readable list holds ids, titles, families, cost and calibration, and no number that JSON lacks."""
    found = json.loads(
        json.dumps(report.listing(Catalog({"toy-maps": toy_card}), Registry.installed()), allow_nan=False)
    )
    card = found["cards"][0]
    assert (card["id"], card["title"], card["family"], card["cost"]) == (
        "toy-maps",
        "Toy saliency maps",
        "attribution",
        "4.0 s, 2 CPU cores",
    )
    rates = {item["id"]: item["calibration"] for item in card["prescriptions"] if "check" in item}
    assert rates["toy-maps/sensitive"]["detection"]["estimate"] == 1.0
    assert rates["toy-maps/stable"] == {
        "current": False,
        "reason": "Not calibrated: how often this check errs has not been measured.",
    }
    assert {check["id"] for check in found["checks"]} == set(Registry.installed().ids)


def test_report_imports_no_torch() -> None:
    """Printing a report, and writing a notebook, start without torch."""
    code = "import sys, method_cards.render.report, method_cards.render.notebook; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

"""The page of a subject: what is wrong first, what changed, what is to be answered, and how it went from run to run."""

from __future__ import annotations

import datetime as dt
import html
import inspect
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from markdown import Markdown
from typer.testing import CliRunner

from method_cards import cli, clock, document
from method_cards import record as records
from method_cards.cli import app
from method_cards.project import SubjectConfig
from method_cards.record import Asked, Record
from method_cards.render import board, site, words
from method_cards.render.overview import Overview
from method_cards.render.site import Source
from method_cards.verdict import CriterionResult, IntervalData, Outcome, Verdict
from tests import helpers
from tests.render import sample

PAGE = "subjects/digits-guided.md"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return sample.source(tmp_path_factory.mktemp("project"), cache=tmp_path_factory.mktemp("figures"))


def text(page: str) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


def guided(source: Source) -> tuple[Record, Path]:
    return next((kept, folder) for kept, folder in source.records if kept.subject.id == "digits-guided")


def with_runs(source: Source, *changes: dict[str, Any]) -> Source:
    """The source with earlier runs of the second subject, the first a day before the newest, the next two days, and so on."""
    kept, folder = guided(source)
    earlier = [
        kept.model_copy(
            update={"id": f"2026112{2 - days}T101500Z", "started": kept.started - dt.timedelta(days=days), **change}
        )
        for days, change in enumerate(changes, 1)
    ]
    return replace(source, records=(*source.records, *((run, folder) for run in earlier)))


def page(source: Source) -> str:
    return site.pages(source)[PAGE]


def part(shown: str, title: str) -> str:
    return re.split(r"\n## ", shown.split(f"\n## {title}")[1])[0]


def changed(record: Record, outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """The verdicts of a record with other outcomes for some prescriptions."""
    return {
        "verdicts": tuple(
            item.model_copy(update={"outcome": outcomes[item.prescription]}) if item.prescription in outcomes else item
            for item in record.verdicts
        )
    }


def test_what_is_wrong_comes_first_and_leads_to_its_evidence(source: Source) -> None:
    """Above every table stand the verdicts that somebody has to look at, MUSTs first, each with its claim and a link to its result."""
    shown = page(source)
    assert shown.index("## What is wrong") < shown.index("## All verdicts")
    assert "1 MUST failed and 1 verdict could not be measured." in text(shown.split("\n## ")[0])
    wrong = part(shown, "What is wrong")
    order = re.findall(r'<section class="mc-wrong mc-(\w+)">', wrong)
    assert order == ["failed", "errored", "invalid", "inconclusive"]
    first = wrong.split("<section")[1]
    assert "Not true here: After all layers are randomised the signed map is unlike the original one." in text(first)
    assert "To mend it: Use a method without modified backward rules" in text(first)
    assert first.count('href="../cards/saliency-sanity.html#depends-on-parameters--digits-guided"') == 2
    assert "Condition of the run that does not hold:" in text(wrong)


def test_the_form_for_open_questions_can_be_pasted(source: Source, tmp_path: Path) -> None:
    """The YAML that the page offers is valid once it is filled in, whatever the question says."""
    view = next(view for view in source.views if view.record.subject.id == "digits-guided")
    kept, _ = guided(source)
    hostile = tuple(
        item.model_copy(update={"question": "Why:\n- {a: [b]}?\n\x1b[0m# no"}) if item.question else item
        for item in kept.verdicts
    )
    for one in (
        view,
        replace(view, judged=tuple(replace(item, verdict=new) for item, new in zip(view.judged, hostile, strict=True))),
    ):
        filled = Overview(one, source).form().replace('""', '"x"').replace("YYYY-MM-DD", "2026-11-30")
        (tmp_path / "form.yaml").write_text(filled, encoding="utf-8")
        answers = document.load(tmp_path / "form.yaml").value["subjects"]["digits-guided"]["answers"]
        settings = {
            "task": "image-classification",
            "model": "m.py:m",
            "data": {"test": "m.py:d"},
            "cards": ["saliency-sanity"],
        }
        found = SubjectConfig.model_validate({**settings, "answers": answers}).answers
        assert [*found] == ["saliency-sanity/reviewed-by-domain-expert"]
    shown = page(source)
    assert "saliency-sanity/reviewed-by-domain-expert:" in part(shown, "Questions for a person")
    assert "The notes of the session." in text(part(shown, "Questions for a person"))


@pytest.mark.parametrize("name", ["true", "1.0", "no", "1e5", "2026-01-01", "0x1F", "null", "a.b-c_d"])
def test_the_form_names_any_subject(name: str, source: Source, tmp_path: Path) -> None:
    """A subject whose name YAML would take for something else stands in quotes."""
    view = next(view for view in source.views if view.record.subject.id == "digits-guided")
    subject = view.record.subject.model_copy(update={"id": name})
    form = Overview(replace(view, record=view.record.model_copy(update={"subject": subject})), source).form()
    (tmp_path / "form.yaml").write_text(form, encoding="utf-8")
    assert [*document.load(tmp_path / "form.yaml").value["subjects"]] == [name]


def test_answers_come_with_who_when_and_evidence(source: Source) -> None:
    """An answered question shows its answer, the person, the day and where the evidence is."""
    shown = text(part(site.pages(source)["subjects/digits-cnn.md"], "Questions for a person"))
    for said in ("three maps followed the pen", "M. Okafor, 2026-11-03", "notes/2026-11-03.md"):
        assert said in shown


def test_an_expired_waiver_is_loud(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that no longer holds stands at the top of the page, before anything else is told; one that holds does not."""
    head = page(source).split("\n## ")[0]
    assert "waiver" not in head
    assert "expired" not in part(page(source), "Waivers")
    monkeypatch.setattr(clock, "today", lambda: dt.date(2027, 3, 2))  # the same record, on a later day
    assert "A waiver expired on 2027-03-01: Depends on parameters" in text(page(source).split("\n## ")[0])
    assert "The demo shows this map on purpose." in text(part(page(source), "Waivers"))
    assert "waiver expired" in part(page(source), "Waivers")


def test_what_is_not_applicable_says_why(source: Source) -> None:
    """Prescriptions that say nothing about a subject are listed with the reason."""
    kept, folder = guided(source)
    reason = "It applies to text inputs; this subject's are image."
    verdicts = (
        kept.verdicts[0].model_copy(update={"outcome": Outcome.NOT_APPLICABLE, "reason": reason}),
        *kept.verdicts[1:],
    )
    shown = page(replace(source, records=((kept.model_copy(update={"verdicts": verdicts}), folder),)))
    assert reason in text(part(shown, "Not applicable, and why"))
    assert reason not in text(part(shown, "All verdicts"))


def test_one_run_has_no_history(source: Source) -> None:
    """Where there is nothing to compare with, the page says nothing of changes or of the past."""
    shown = page(source)
    assert "## History" not in shown
    assert "## What changed" not in shown


def test_the_page_says_what_changed_since_the_last_run(source: Source) -> None:
    """New failures, mended verdicts and what was not alike about the runs stand on the page, each with its link."""
    kept, _ = guided(source)
    before = changed(kept, {"depends-on-parameters": Outcome.PASSED, "repeatable": Outcome.FAILED})
    shown = part(page(with_runs(source, {**before, "seed": 5})), "What changed since the last run")
    said = text(shown)
    assert said.index("Worse") < said.index("passed → failed MUST Depends on parameters")
    assert "seed 5 → 0" in said
    assert "The same model." in said
    assert 'href="../cards/saliency-sanity.html#depends-on-parameters--digits-guided"' in shown
    wrong = part(page(with_runs(source, before)), "What is wrong")
    assert "New: the run of this model before had passed here." in text(wrong)


def test_the_history_marks_another_model_and_skips_it_in_rows(source: Source) -> None:
    """Runs of a model that was retrained since are drawn apart, marked in the list, and not counted as the same failure."""
    kept, _ = guided(source)
    other = kept.subject.model_copy(update={"parameters_sha256": "0a" * 32})
    found = with_runs(source, {}, {"subject": other})
    shown = part(page(found), "History")
    assert shown.count('class="mc-course"') == len(re.findall("mc-break", shown)) > 0
    assert "(another model)" in shown
    assert "0a0a0a0a another model b6df676+ 1 failed" in text(shown)
    assert "Failed in 2 runs of this model in a row, since 21 November 2026, 10:15 UTC." in text(
        part(page(found), "What is wrong")
    )


def test_a_partial_run_says_so(source: Source) -> None:
    """Where the newest run was asked for a part only, the page says where the rest comes from."""
    kept, folder = guided(source)
    newest = kept.model_copy(
        update={
            "id": "20261123T101500Z-partial",
            "started": kept.started + dt.timedelta(days=1),
            "verdicts": kept.verdicts[:1],
        }
    )
    shown = page(replace(source, records=((kept, folder), (newest, folder))))
    assert "The newest run was asked for a part only." in text(shown)
    assert "From an earlier run of the same model, 2026-11-22 10:15 UTC." in text(part(shown, "All verdicts"))
    assert "4 prescriptions are left out" in text(part(shown, "What changed since the last run"))


@pytest.mark.parametrize(("checks", "questions"), [(60, 0), (80, 50), (300, 100)])
def test_many_verdicts_and_runs_stay_below_the_budget(source: Source, checks: int, questions: int) -> None:
    """Many criteria over twenty runs, and many open questions, leave room for the frame of the site within 100 kB."""
    kept, folder = guided(source)
    asked = next(item for item in kept.verdicts if item.question)
    cards = {"saliency-sanity": "0" * 64} if checks < 200 else {f"card-{number}": "0" * 64 for number in range(60)}
    verdicts = (
        *(_wide(kept.verdicts[0], number, [*cards][number % len(cards)]) for number in range(checks)),
        *(asked.model_copy(update={"prescription": f"question-{number}"}) for number in range(questions)),
    )
    runs = [
        kept.model_copy(
            update={
                "id": f"202601{day:02}T000000Z",
                "started": kept.started - dt.timedelta(days=day),
                "verdicts": verdicts,
                "cards": cards,
            }
        )
        for day in range(20 if checks < 200 else 3)
    ]
    shown = page(replace(source, records=tuple((run, folder) for run in runs)))
    made = Markdown(extensions=["attr_list", "toc", "tables"]).convert(shown.split("---\n", 2)[2])
    assert len(made.encode()) < 76_000
    assert text(made).count("Did a domain expert look at fifty maps?") == min(questions, 60 if checks < 200 else 20)


def _wide(verdict: Verdict, number: int, card: str) -> Verdict:
    found = IntervalData(estimate=0.5, low=0.4, high=0.6, confidence=0.95, method="betting", n=512, anytime=True)
    criterion: CriterionResult = verdict.criteria[0].model_copy(
        update={"measurement": f"a_quantity_{number}", "interval": found, "where": {}, "outcome": Outcome.PASSED}
    )
    outcome = Outcome.FAILED if number % 25 < 4 else Outcome.PASSED
    return verdict.model_copy(
        update={
            "criteria": (criterion,),
            "gates": (),
            "outcome": outcome,
            "waiver": None,
            "card": card,
            "prescription": f"number-{number}",
        }
    )


ATTACK = "</p><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7 * 7 }}[x](javascript:alert(1))"


def test_hostile_records_do_no_harm_in_history_and_difference(source: Source) -> None:
    """Markup in every text of two differing runs is shown as text."""
    kept, _ = guided(source)

    def hostile(item: Verdict, outcome: Outcome) -> Verdict:
        criteria = tuple(
            one.model_copy(
                update={
                    "measurement": ATTACK,
                    "bound": ATTACK,
                    "claim": ATTACK,
                    "where": {ATTACK: ATTACK},
                    "unit": ATTACK,
                }
            )
            for one in item.criteria
        )
        return item.model_copy(
            update={"criteria": criteria, "reason": ATTACK, "question": item.question and ATTACK, "outcome": outcome}
        )

    first = kept.model_copy(
        update={"verdicts": tuple(hostile(item, item.outcome) for item in kept.verdicts), "device": ATTACK}
    )
    found = replace(source, records=((first, guided(source)[1]),))
    was = {
        "verdicts": tuple(hostile(item, Outcome.PASSED) for item in kept.verdicts),
        "environment": {ATTACK: ATTACK},
        "git_revision": ATTACK,
        "subject": kept.subject.model_copy(update={"explainer": ATTACK, "parameters_sha256": ATTACK}),
    }
    shown = page(with_runs(found, was))
    assert "## History" in shown
    assert "## What changed" in shown
    made = Markdown(extensions=["attr_list", "toc", "tables", "pymdownx.superfences"]).convert(shown)
    assert not re.search(r'<script|<img src="?x|(href|src)="javascript|\{\{', made)


def test_the_index_tells_who_may_be_relied_on(source: Source) -> None:
    """Each subject stands with its task, its gravest standing, its failed MUSTs, and the day that it was checked."""
    shown = site.pages(source)["subjects/index.md"]
    rows = [text(row) for row in shown.split("<tr>") if "parameters</p>" in row]
    assert len(rows) == 2
    assert "1 of 2" in rows[1]
    for said in ("Digits CNN, Guided Backprop", "image classification", "failed", "1 MUST failed", "22 November 2026"):
        assert said in rows[1]
    assert 'href="../cards/saliency-sanity.html#depends-on-parameters--digits-guided"' in shown
    assert "1 of 2 MUST failed, 1 errored" in text(shown.split("## By card")[1])


def test_of_many_cards_the_board_shows_the_gravest(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are more cards than a page has room for, those left out are counted."""
    assert "not shown" not in site.pages(source)["subjects/index.md"]
    twice = board.rows(source) * 2
    monkeypatch.setattr(board, "MOST", 1)
    monkeypatch.setattr(board, "rows", lambda _: twice)
    shown = text(board.board("subjects/index.md", source))
    assert "1 more card is not shown" in shown
    assert shown.count("Saliency maps that depend on the model") == 1


def test_the_command_repeats_the_run(tmp_path: Path) -> None:
    """The command of the page names every option that was given, and leaves a record of the same numbers, decided in the same way."""
    check = helpers.scripted(helpers.criterion("ones", at_most=0.9))
    helpers.write_project(
        tmp_path, [helpers.prescription(slug, check=check) for slug in ("a", "b")], more={"checks": []}
    )
    asked = ["--card", "toy-card", "--only", "toy-card/b", "--check", "tests.helpers:Scripted", "--samples", "40"]
    given = ["run", "toy", *asked, "--seed", "5", "--block", "16", "--exhaustive", "--time-limit", "90"]

    def ran(arguments: list[str]) -> Record:
        done = CliRunner().invoke(app, [*arguments, "--project", str(tmp_path)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return records.read(records.find(tmp_path / "records")[-1])

    first = ran(given)
    _, *shown = shlex.split(words.whole_rerun(first))
    assert {*given} <= {*shown}
    again = ran(shown)
    assert again.id != first.id
    assert (again.asked, again.seed, again.block) == (first.asked, first.seed, first.block)
    assert [item.measurements for item in again.executions] == [item.measurements for item in first.executions]


def test_what_was_not_given_is_not_in_the_command(source: Source) -> None:
    """Options that say what holds anyway are left out; a run of a part, in a record of before options were kept, names its cards."""
    kept, folder = guided(source)
    asked = Asked(samples=900, time_limit=words.TIME_LIMIT)
    newest = kept.model_copy(update={"asked": asked})
    command = "method-cards run digits-guided --seed 0 --samples 900 --device cpu"
    assert words.whole_rerun(newest) == command
    assert command in text(part(page(replace(source, records=((newest, folder),))), "What was run"))
    old = kept.model_copy(update={"id": f"{kept.id}-partial"})
    assert words.whole_rerun(old) == "method-cards run digits-guided --card saliency-sanity --seed 0 --device cpu"
    default = inspect.signature(cli.run).parameters["time_limit"].default
    assert default == words.TIME_LIMIT

"""The report in one file: it needs nothing else, says everything, and lets no text of a card or a record become markup."""

from __future__ import annotations

import datetime as dt
import html
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from method_cards.record import Record
from method_cards.render.html_report import html_report
from method_cards.render.site import Source
from method_cards.render.source import View
from method_cards.verdict import Outcome, Verdict
from tests.render import sample

VOID = {"meta", "img", "br", "hr", "input", "link"}
ATTACK = "</p></style></title><script>alert(1)</script><img src=x onerror=alert(1)><a href='javascript:alert(1)' onclick=alert(1)>{{ 7 * 7 }}[x](javascript:alert(1))"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return sample.source(tmp_path_factory.mktemp("project"), cache=tmp_path_factory.mktemp("figures"))


@pytest.fixture(scope="module")
def report(source: Source) -> str:
    return html_report([source.views[1]], source)


def text(page: str) -> str:
    shown = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", shown))).replace("\N{NO-BREAK SPACE}", " ")


class Elements(HTMLParser):
    """Every element with its attributes, and whether all of them are closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def asks_nobody(page: str) -> None:
    elements = Elements(page)
    assert not elements.open
    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in elements.found}
    for tag, attributes in elements.found:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        if tag == "img":
            assert str(attributes["src"]).startswith(("data:image/png;base64,", "data:image/svg+xml;base64,"))
            assert attributes["alt"]
        if "href" in attributes:
            assert str(attributes["href"]).startswith("https://")
    styles = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert not re.search(r"@import|url\(", "".join(styles))


def test_the_file_asks_nobody_for_anything(report: str) -> None:
    """There is no script, no link to a style or font, no address but of a work that a card cites, and pictures lie within."""
    asks_nobody(report)
    assert report.count("data:image/") >= 3
    assert "default-src 'none'" in report


def test_a_failure_is_explained_whole(report: str) -> None:
    """What is wrong, how sure, what to do and how to run it again stand in the file, with interval, error rates and remedies."""
    first = text(report.split('<section class="mc-wrong')[1])
    parts = (
        "✗ failed MUST Depends on parameters",
        "What is wrong",
        "Not true here: After all layers are randomised the signed map is unlike the original one.",
        "You may see: Maps of different classes look alike",
        "How sure",
        "95% interval",
        "allowed: ≤ 0.2",
        "The bound comes from: Adebayo et al. 2018, Fig. 4",
        "Of 120 subjects built with the defect it found 118",
        "What to do",
        "Use a method without modified backward rules",
        "explainer = IntegratedGradients(model)",
        "method-cards run digits-guided --only saliency-sanity/depends-on-parameters --seed 0 --samples 512 --device cpu",
        "Waived until 2027-03-01, approved by R. Ito",
    )
    for part in parts:
        assert part in first
    assert (
        first.index("What is wrong") < first.index("How sure") < first.index("What to do") < first.index("Run it again")
    )
    assert '<svg class="mc-interval"' in report


def test_everything_else_is_there(report: str) -> None:
    """Verdicts of all cards, questions with their form, waivers, hashes and versions stand in the file."""
    shown = text(report)
    parts = (
        "1 MUST failed and 1 verdict could not be measured.",
        "Did a domain expert look at fifty maps?",
        "saliency-sanity/reviewed-by-domain-expert:",
        "Nothing is known: an error says nothing about the model",
        "9c" * 32,
        "torch 2.13.0",
        "b6df676+",
        "on cpu, seed 0",
        "test: 256 of 360",
        "A waiver stands beside a verdict",
        "Condition of the run that does not hold:",
    )
    for part in parts:
        assert part in shown


def test_outcomes_are_words_with_symbols(report: str) -> None:
    """No verdict needs a style sheet, a colour or an icon to be read: a viewer of mail may drop all three."""
    chips = re.findall(r'<span class="mc-chip mc-(\w+)"[^>]*>([^<]*)</span>', report)
    assert {name for name, _ in chips} >= {"failed", "errored", "invalid", "inconclusive", "unanswered"}
    for name, said in chips:
        if name != "waived":
            assert re.fullmatch(rf"\S&nbsp;(\d+ )?{name.replace('_', ' ')}", said)


def test_formulas_are_letters(source: Source, tmp_path: Path) -> None:
    """Where no script can draw them, formulas are readable text."""
    card = sample.CARD.replace(
        "Maps of different classes look alike", r"The agreement $\rho_k \le \frac{1}{5}$ is <small"
    )
    shown = html_report([source.views[1]], replace(source, catalog=sample.catalog(tmp_path, card)))
    assert "The agreement <i>ρ_k ≤1/5</i> is &lt;small" in shown
    assert "arithmatex" not in shown


def test_several_subjects_and_runs_are_compared(source: Source) -> None:
    """The file of several subjects has a part for each; with an earlier run it says what changed and draws the history."""
    kept, folder = source.records[1]
    passed = tuple(
        item.model_copy(update={"outcome": Outcome.PASSED}) if item.prescription == "depends-on-parameters" else item
        for item in kept.verdicts
    )
    before = kept.model_copy(
        update={"id": "20261101T000000Z", "started": kept.started - dt.timedelta(days=9), "verdicts": passed}
    )
    views = replace(source, records=(*source.records, (before, folder))).views
    shown = html_report(views, source)
    asks_nobody(shown)
    assert shown.count("<article>") == 2
    assert "✓ passed → ✗ failed MUST Depends on parameters" in text(shown)
    assert '<svg class="mc-course"' in shown


def hostile_view(source: Source) -> View:
    kept, _ = source.records[1]

    def attacked(item: Verdict) -> Verdict:
        criteria = tuple(
            one.model_copy(
                update={"claim": ATTACK, "measurement": ATTACK, "bound": ATTACK, "unit": ATTACK, "source": ATTACK}
            )
            for one in item.criteria
        )
        waiver = item.waiver and item.waiver.model_copy(update={"reason": ATTACK, "approved_by": ATTACK})
        changes = {
            "reason": ATTACK,
            "statement": ATTACK,
            "question": item.question and ATTACK,
            "criteria": criteria,
            "waiver": waiver,
        }
        return item.model_copy(update=changes)

    subject = kept.subject.model_copy(
        update={"title": ATTACK, "explainer": ATTACK, "model": ATTACK, "classes": (ATTACK,)}
    )
    execution = kept.executions[0].model_copy(update={"check": ATTACK, "parameters": {ATTACK: ATTACK}, "cause": ATTACK})
    changes = {
        "subject": subject,
        "verdicts": tuple(map(attacked, kept.verdicts)),
        "environment": {ATTACK: ATTACK},
        "git_revision": ATTACK,
        "device": ATTACK,
        "executions": (execution,),
    }
    hostile: Record = kept.model_copy(update=changes)
    earlier = hostile.model_copy(
        update={"started": kept.started - dt.timedelta(days=1), "environment": {ATTACK: "2"}, "device": "cpu"}
    )
    judged = tuple(
        replace(item, verdict=verdict, record=hostile)
        for item, verdict in zip(source.views[1].judged, hostile.verdicts, strict=True)
    )
    return View(hostile, judged, (earlier, hostile))


def test_a_hostile_record_and_card_stay_text(source: Source, tmp_path: Path) -> None:
    """Markup in every text of a record, and in the texts of its card that the report shows, does not become an element."""
    card = sample.CARD.replace("Use a method without modified backward rules", ATTACK.replace("'", "")).replace(
        "Maps of different classes look alike", ATTACK.replace("'", "").replace("{{ 7 * 7 }}", "")
    )
    catalog = sample.catalog(tmp_path / "hostile", card)
    shown = html_report([hostile_view(source)], replace(source, catalog=catalog))
    asks_nobody(shown)
    assert "alert(1)" in text(shown)


def test_the_same_record_gives_the_same_bytes(source: Source, report: str) -> None:
    """A report does not depend on the hour."""
    assert html_report([source.views[1]], source) == report

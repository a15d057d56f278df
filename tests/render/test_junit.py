"""JUnit XML: what is a failure, an error, a skip; sums that are right; text that XML can hold."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from method_cards.record import Record
from method_cards.render.junit import junit
from method_cards.verdict import Outcome, Waiver
from tests.render.runs import DAY, run, simple, verdict

SUITES = {"name", "time", "tests", "failures", "errors"}
SUITE = SUITES | {"skipped", "timestamp", "id"}
CASE = {"name", "classname", "time"}
KINDS = {"failure", "error", "skipped"}


def suites(*records: Record) -> ET.Element:
    return ET.fromstring(junit(records).encode())


@pytest.mark.parametrize(
    ("outcome", "level", "kind"),
    [
        (Outcome.PASSED, "MUST", ""),
        (Outcome.ANSWERED, "MUST", ""),
        (Outcome.FAILED, "MUST", "failure"),
        (Outcome.FAILED, "MAY", "failure"),
        (Outcome.INCONCLUSIVE, "MUST NOT", "failure"),
        (Outcome.INCONCLUSIVE, "SHOULD", "skipped"),
        (Outcome.INVALID, "MUST", "failure"),
        (Outcome.INVALID, "SHOULD NOT", "skipped"),
        (Outcome.ERRORED, "MAY", "error"),
        (Outcome.NOT_APPLICABLE, "MUST", "skipped"),
        (Outcome.UNANSWERED, "MUST", "skipped"),
    ],
)
def test_each_outcome_has_its_element(outcome: Outcome, level: str, kind: str) -> None:
    """A failed verdict fails at any level; an undecided one fails where a MUST was not found to hold, and is skipped elsewhere."""
    (case,) = suites(run(1, [verdict("a", outcome, level=level)])).iter("testcase")
    assert [element.tag for element in case if element.tag in KINDS] == ([kind] if kind else [])
    if kind:
        assert case[0].get("type") == outcome.value
        assert f"{outcome.value.replace('_', ' ')} {level}: " in str(case[0].get("message"))


def test_the_document_is_of_the_common_form() -> None:
    """Elements, attributes and their order are those that the readers of CI servers share."""
    root = suites(
        run(1, [simple("a", Outcome.FAILED, 0.9), verdict("b", Outcome.PASSED)]), run(2, [verdict("c", Outcome.PASSED)])
    )
    assert root.tag == "testsuites"
    assert set(root.attrib) == SUITES
    for suite in root:
        assert suite.tag == "testsuite"
        assert set(suite.attrib) == SUITE
        assert suite[0].tag == "properties"
        assert all(set(item.attrib) == {"name", "value"} for item in suite[0])
        for case in suite[1:]:
            assert case.tag == "testcase"
            assert set(case.attrib) == CASE
            assert {element.tag for element in case} <= KINDS | {"system-out"}


def test_sums_and_times_are_right() -> None:
    """Counts stand at each suite and at the top; the time of an execution counts once, however many verdicts rest on it."""
    verdicts = [
        simple("a", Outcome.FAILED, 0.9),
        simple("b", Outcome.PASSED, 0.1),
        verdict("c", Outcome.ERRORED),
        verdict("d", Outcome.UNANSWERED, question="Why?"),
        verdict("e", Outcome.PASSED, card="other"),
    ]
    root = suites(run(1, verdicts))
    assert [suite.get("name") for suite in root] == ["net: toy", "net: other"]
    counts = [tuple(suite.get(name) for name in ("tests", "failures", "errors", "skipped")) for suite in root]
    assert counts == [("4", "1", "1", "1"), ("1", "0", "0", "0")]
    assert tuple(root.get(name) for name in ("tests", "failures", "errors")) == ("5", "1", "1")
    assert [case.get("time") for case in root.iter("testcase")] == ["1.000", "0.000", "0.000", "0.000", "0.000"]
    assert root.get("time") == "3.000"


def test_a_waiver_changes_no_outcome() -> None:
    """A waived failure is a failure whose message names the waiver."""
    waiver = Waiver(prescription="toy/a", reason="until May", expires=DAY)
    (case,) = suites(run(1, [simple("a", Outcome.FAILED, 0.9, waiver=waiver)])).iter("testcase")
    assert case[0].tag == "failure"
    assert f"waived until {DAY}: until May" in str(case[0].get("message"))


def test_a_failure_tells_numbers_and_how_to_run_it_again() -> None:
    """The body of a failure holds statement, claim, interval, bound and command."""
    (case,) = suites(run(1, [simple("a", Outcome.FAILED, 0.9)])).iter("testcase")
    for part in (
        "a MUST",
        "the similarity is small",
        "0.9, 95% interval 0.85 to 0.95",
        "bound ≤ 0.5",
        "method-cards run net --only toy/a",
    ):
        assert part in str(case[0].text)


@pytest.mark.parametrize("text", ["]]><script>", "\x00\x0b\x1b[31mred", "\ufffe\uffff", "& < > \" '", "\u202egnp.exe"])
def test_any_text_gives_well_formed_xml(text: str) -> None:
    """Markup, control characters and characters that XML cannot hold do not break the document."""
    found = verdict(f"a{text}", Outcome.FAILED, reason=text, statement=text)
    (case,) = suites(run(1, [found], device=text, environment={text: text})).iter("testcase")
    assert case[0].tag == "failure"

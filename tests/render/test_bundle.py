"""How cards, records, verdicts and measurements show themselves in a notebook."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from method_cards import record as records
from method_cards.catalog import LoadedCard
from method_cards.measurement import Measurement, Pictures, Quantity
from method_cards.record import Execution, PicturesData, Record, SeriesData
from method_cards.render.citations import Citations
from method_cards.verdict import Outcome
from tests.render.test_notebook import HOSTILE, Elements


def shown(thing: Any) -> dict[str, str]:
    found: dict[str, str] = thing._repr_mimebundle_()
    assert set(found) == {"text/html", "text/markdown", "text/plain"}
    return found


def test_a_record_shows_every_verdict(every_outcome: Record) -> None:
    """Every verdict stands in each form with symbol, word and numbers; in HTML its interval is drawn against its bound."""
    found = shown(every_outcome)
    for verdict in every_outcome.verdicts:
        assert all(verdict.id in form for form in found.values())
    html = found["text/html"]
    assert html.count("<svg") == 5
    assert "waived by R. Viewer until 2027-01-01" in html
    assert "Evidence: minutes of March" in html
    assert "0.81, 95% interval 0.77 to 0.84, n = 128" in found["text/markdown"]
    assert found["text/plain"] == repr(every_outcome) == str(every_outcome)
    assert found["text/plain"].splitlines()[0].startswith("Digits CNN: 1 passed · 2 failed · ")


def test_what_needs_attention_comes_first(every_outcome: Record) -> None:
    """Failed, errored, invalid and inconclusive verdicts stand open and first, in this order; the others are folded."""
    html = shown(every_outcome)["text/html"]
    order = re.findall(r"<code>toy-maps/([a-z-]+)</code>", html)
    assert order == [
        "sensitive",
        "waived",
        "measurable",
        "no-leak",
        "stable",
        "complete",
        "worded",
        "baseline",
        "reviewed",
    ]
    assert html.count("<details") == 4


def test_one_verdict_is_not_folded(every_outcome: Record) -> None:
    """The record of one prescription, as a cell of a notebook makes it, shows all that there is, whatever the outcome."""
    only = every_outcome.model_copy(update={"verdicts": every_outcome.verdicts[:1]})
    assert every_outcome.verdicts[0].outcome is Outcome.PASSED
    assert "<details" not in shown(only)["text/html"]


class Drawings(HTMLParser):
    """The text within drawings, and whether each drawing is told apart from the page by its size of type alone."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.used: list[str] = []
        self.drawings: list[bool] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [value for value in [found.get("id")] if value]
        self.used += re.findall(r'(?:href="|url\()#([^")]+)', self.get_starttag_text() or "")
        if tag == "svg":
            outside = self.open[-1][1].get("style") == "font-size:0"
            self.drawings.append(outside and ("font-size" in found or "font:" in (found.get("style") or "")))
            assert found["role"] == "img"
            assert found["aria-label"]
        if tag not in ("br", "img"):
            self.open.append((tag, found))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in ("br", "img"):
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        self.open.pop()


def test_drawings_are_in_the_colours_of_the_notebook(every_outcome: Record) -> None:
    """Charts stand in the page and take its colour, not the browser's; two of them share no id; and where a notebook that is not trusted
    loses the elements of a drawing and keeps their text, that text has no size."""

    def measured(highest: float) -> Execution:
        name = every_outcome.verdicts[1].criteria[0].measurement
        curve = [
            SeriesData(name=name, kind="mean", range=(0, 1), by={"stage": stage}, values=(0.1, highest / (1 + stage)))
            for stage in range(4)
        ]
        return every_outcome.executions[0].model_copy(update={"measurements": tuple(curve)})

    verdicts = tuple(every_outcome.verdicts[1].model_copy(update={"execution": number}) for number in range(2))
    update = {"executions": (measured(0.8), measured(0.9)), "verdicts": verdicts}
    html = shown(every_outcome.model_copy(update=update))["text/html"]
    found = Drawings(html)
    assert len(found.drawings) == 4, "an interval and a curve for each verdict"
    assert all(found.drawings)
    assert len(set(found.ids)) == len(found.ids) > 4
    assert set(found.used) <= set(found.ids)
    assert "prefers-color-scheme" not in html
    assert 'stroke="currentColor"' in html


def test_a_record_shows_its_pictures(every_outcome: Record, tmp_path: Path) -> None:
    """Pictures that lie beside a record are shown, once for each execution; where they are lost, it says which and shows the rest."""
    pictures = Pictures("maps", "See.", ("a",), ("b",), np.ones((1, 1, 4, 4), dtype=np.float32), (True,))
    data = PicturesData(name="maps", caption="See.", columns=("a",), rows=("b",), signed=(True,), file="0-maps.npy")
    execution = every_outcome.executions[0].model_copy(update={"pictures": (data,)})
    found = every_outcome.model_copy(update={"executions": (execution,)})
    assert "data:image/png" not in shown(found)["text/html"]
    path = records.write(found, tmp_path, [("0-maps.npy", pictures.values)])
    assert shown(records.read(path))["text/html"].count("data:image/png") == 1
    (tmp_path / "0-maps.npy").unlink()
    html = shown(records.read(path))["text/html"]
    assert "0-maps.npy: cannot be read" in html
    assert "toy-maps/sensitive" in html


def test_what_is_shown_needs_nothing_from_elsewhere(every_outcome: Record, toy_card: LoadedCard) -> None:
    """No script, no style sheet, no class, no request; text has the page's own colour, in light and dark."""
    for thing in (every_outcome, *every_outcome.verdicts, toy_card):
        html = shown(thing)["text/html"]
        found = Elements()
        found.feed(html)
        assert found.dangerous == []
        assert "http" not in html
        assert "class=" not in html
        assert "<style" not in html
        assert not re.search(r"(?<![-\w])(color|background)[\w-]*:", html)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(every_outcome: Record, toy_card: LoadedCard, text: str) -> None:
    """No text of a record or a card becomes an element, a link that runs code, or a request."""
    verdict = every_outcome.verdicts[1]
    criterion = verdict.criteria[0].model_copy(
        update={"claim": text, "source": text, "measurement": text, "unit": text}
    )
    verdict = verdict.model_copy(
        update={"reason": text, "statement": text, "criteria": (criterion,), "prescription": text}
    )
    subject = every_outcome.subject.model_copy(update={"title": text})
    overview = toy_card.card.overview.model_copy(update={"summary": text})
    card = toy_card.card.model_copy(update={"title": text, "overview": overview})
    pictures = Pictures("maps", text, (text,), (text,), np.ones((1, 1, 4, 4), dtype=np.float32), (True,))
    whole = every_outcome.model_copy(update={"verdicts": (verdict,), "subject": subject})
    for thing in (whole, verdict, criterion, card, pictures):
        found = Elements()
        found.feed(shown(thing)["text/html"])
        assert found.dangerous == []


def test_a_card_shows_what_it_asks(toy_card: LoadedCard) -> None:
    """A card shows its summary and each prescription with level and how it is verified; where it was found makes no difference."""
    found = shown(toy_card.card)
    assert found == shown(toy_card)
    for prescription in toy_card.card.prescriptions:
        assert all(prescription.statement in form for form in (found["text/html"], found["text/plain"]))
    assert "check attribution/completeness" in found["text/html"]
    assert "a person answers" in found["text/html"]


def test_a_place_shows_code_as_code(toy_card: LoadedCard) -> None:
    """A file named in the place of a citation is code, and nothing else there is read as Markdown or HTML."""
    mark = Citations(toy_card).mark("unknown", "`a<b>.py` and *[c](d)* <i>")
    assert mark == "(unknown, <code>a&lt;b&gt;.py</code> and *[c](d)* &lt;i&gt;)"


LEVEL = Quantity("level", "mean", "a level", "s", (0.0, 9.0), by=("stage",))

MEASURED = [
    (
        LEVEL.per_sample([1.0, 2.0, 6.0], stage=2),
        "level (stage 2): examples 3, mean 3 s, median 2 s, from, to 1 to 6 s",
    ),
    (Quantity("ones", "proportion", "ones").per_sample([1.0, 0.0]), "ones: examples 2, share 0.5"),
    (Quantity("count", "exact", "a count", range=(0.0, 99.0)).exact(7), "count: value 7"),
    (
        Quantity("auc", "auc", "apart").two_groups([1.0, 3.0], [0.0]),
        "auc: positives 2, median 2, negatives 1, median 0",
    ),
    (LEVEL.per_sample([]), "level: examples 0"),
]


@pytest.mark.parametrize(("measurement", "text"), MEASURED, ids=[text[:12] for _, text in MEASURED])
def test_a_measurement_shows_its_numbers(measurement: Measurement, text: str) -> None:
    """A measurement shows its name and breakdown, how many examples, and the numbers that say most of them."""
    found = shown(measurement)
    assert found["text/plain"] == text
    assert text.split(":", maxsplit=1)[0] in found["text/html"]

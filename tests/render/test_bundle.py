"""How cards, records, verdicts and measurements show themselves in a notebook."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from method_cards import record as records
from method_cards.catalog import LoadedCard
from method_cards.measurement import Measurement, Pictures, Quantity
from method_cards.record import PicturesData, Record
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

"""No page of a site weighs more than a reader's patience: the bundled cards, each with two models that fail in everything."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from method_cards import record
from method_cards.card import Card, Criterion
from method_cards.catalog import Catalog, LoadedCard
from method_cards.judge import bounds
from method_cards.record import Record, SubjectData
from method_cards.registry import Registry
from method_cards.render import build
from method_cards.render.card_page import card_pages
from method_cards.render.figures import Drawer
from method_cards.render.results import Results
from method_cards.render.source import Source
from method_cards.render.subject_page import subject_page
from method_cards.verdict import CriterionResult, IntervalData, Outcome, Verdict
from tests.test_site_plugin import settings

LIMIT = 100_000
SUBJECTS = ("careful", "careless")


def result(criterion: Criterion) -> CriterionResult:
    """The criterion, violated."""
    low, high = bounds(criterion)
    value = high + 0.123 if abs(high) < 1e9 else low - 0.123
    found = IntervalData(
        estimate=value, low=value - 0.0123, high=value + 0.0123, confidence=0.95, method="betting", n=897, anytime=True
    )
    return CriterionResult(
        claim=criterion.claim, measurement=criterion.measurement, where=criterion.where, bound=criterion.bound_text(),
        low_bound=low if abs(low) < 1e9 else None, high_bound=high if abs(high) < 1e9 else None,
        source="s", outcome=Outcome.FAILED, reason="outside", interval=found, p_value=1.23e-5, p_holm=2.34e-5,
    )  # fmt: skip


def verdicts(card: Card) -> Iterator[Verdict]:
    """Every prescription of a card, failed or unanswered."""
    for item in card.prescriptions:
        facts: dict[str, Any] = {
            "card": card.id, "prescription": item.id, "level": item.level.value, "statement": item.statement,
        }  # fmt: skip
        if item.check is None:
            assert item.question is not None
            reason = "A person has to answer this."
            yield Verdict(**facts, outcome=Outcome.UNANSWERED, reason=reason, question=item.question.question)
        else:
            criteria = tuple(result(criterion) for criterion in item.check.criteria)
            yield Verdict(**facts, outcome=Outcome.FAILED, reason="outside", criteria=criteria)


def new_record(cards: tuple[LoadedCard, ...], subject: str) -> Record:
    """A run of every card of a family."""
    started = dt.datetime(2026, 11, 22, 10, 15, tzinfo=dt.UTC)
    return Record(
        id="20261122T101500Z", started=started, finished=started, status="complete", seed=0, device="cpu", environment={},
        subject=SubjectData(id=subject, title=f"A {subject} model", task="image-classification", model="model.py:build",
                            parameters=38_282, parameters_sha256="9c" * 32),
        cards={loaded.card.id: loaded.document.sha256 for loaded in cards},
        verdicts=tuple(verdict for loaded in cards for verdict in verdicts(loaded.card)), executions=(), criteria=1,
    )  # fmt: skip


def test_no_page_is_heavy(tmp_path: Path) -> None:
    """With the theme around it, every generated page of the bundled cards stays below 100 kB."""
    pytest.importorskip("mkdocs", reason="needs MkDocs: pip install method-cards[site]")
    catalog = Catalog.installed()
    for family in {loaded.family for loaded in catalog}:
        cards = tuple(loaded for loaded in catalog if loaded.family == family)
        for subject in (f"{family}-{kind}" for kind in SUBJECTS):
            folder = tmp_path / "records" / subject / "20261122T101500Z"
            folder.mkdir(parents=True)
            (folder / record.FILE).write_text(new_record(cards, subject).model_dump_json(), encoding="utf-8")
    (tmp_path / "site").mkdir()
    ours = settings()
    for path in _pages(ours["nav"]):
        (tmp_path / "site" / path).parent.mkdir(parents=True, exist_ok=True)
        if not path.startswith(("cards", "checks", "subjects")):
            (tmp_path / "site" / path).write_text(f"# {path}\n", encoding="utf-8")
    ours |= {"plugins": ["search", "offline", {"method-cards": {"records": "records"}}], "strict": False}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(ours), encoding="utf-8")
    built = build.build_site(tmp_path / "mkdocs.yml", strict=False)
    sizes = {path.relative_to(built).as_posix(): path.stat().st_size for path in built.rglob("*.html")}
    assert sum(name.startswith("cards/") for name in sizes) > len(catalog)
    assert {name: size for name, size in sizes.items() if size >= LIMIT} == {}


def test_two_subjects_keep_a_line_for_each_result(tmp_path: Path) -> None:
    """On the heaviest bundled card the results of two failing subjects still stand beside the prescriptions, with their numbers."""
    catalog = Catalog.installed()
    loaded = catalog.get("integrated-gradients")
    names = ("trained-with-care", "broken-on-purpose")  # as long as names are
    records = [(new_record((loaded,), name), tmp_path) for name in names]
    pages = card_pages(loaded, Source(catalog, Registry.installed(), records), Results(Drawer()))
    page = pages["cards/integrated-gradients.md"]
    assert page.count('<section class="mc-result') == 2 * len(loaded.card.prescriptions)


def test_a_card_with_many_subjects_leads_to_their_pages(tmp_path: Path) -> None:
    """With six failing subjects the page keeps its table alone: each verdict is a place on it and leads to that subject's page."""
    catalog = Catalog.installed()
    loaded = catalog.get("integrated-gradients")
    names = [f"model-{number}" for number in range(6)]
    records = [(new_record((loaded,), name), tmp_path) for name in names]
    pages = card_pages(loaded, Source(catalog, Registry.installed(), records), Results(Drawer()))
    page = pages["cards/integrated-gradients.md"]
    assert len(page.encode()) < 76_000
    for name in names:
        anchor = f"completeness--{name}"
        assert f'<td id="{anchor}"><a href="integrated-gradients/on-{name}.html#{anchor}">' in page
        assert f'id="{anchor}"' in pages[f"cards/integrated-gradients/on-{name}.md"]


def test_the_page_of_a_card_does_not_grow_with_its_subjects(tmp_path: Path) -> None:
    """With forty subjects the table counts, and every other page leads to the page of the card and the subject, where each result is named."""
    catalog = Catalog.installed()
    loaded = catalog.get("integrated-gradients")
    records = [(new_record((loaded,), f"model-{number:02}"), tmp_path) for number in range(40)]
    source = Source(catalog, Registry.installed(), records)
    pages = card_pages(loaded, source, Results(Drawer()))
    page = pages["cards/integrated-gradients.md"]
    assert len(page.encode()) < 76_000
    assert '<span class="mc-chip mc-failed">40 failed</span>' in page
    assert "16 more with no graver verdict" in page
    assert 'href="integrated-gradients/on-model-07.html"' in page
    told = subject_page(source.views[7], source)
    places = re.findall(r'href="\.\./cards/integrated-gradients([^"]*--[^"]*)"', told)
    assert places
    for place in places:
        target, _, anchor = place.partition("#")
        assert target == "/on-model-07.html"
        assert f'id="{anchor}"' in pages["cards/integrated-gradients/on-model-07.md"]


def _pages(nav: list[Any]) -> Iterator[str]:
    for item in nav:
        for value in item.values() if isinstance(item, dict) else [item]:
            yield from _pages(value) if isinstance(value, list) else [value]

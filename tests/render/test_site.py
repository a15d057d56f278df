"""The pages hold everything that a reader needs in order to trust a verdict and to act on it."""

from __future__ import annotations

import datetime as dt
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown import Markdown

from method_cards.catalog import Catalog
from method_cards.errors import InputError
from method_cards.render import board, card_page, check_page, site
from method_cards.render.cards_index import cards_index
from method_cards.render.page import Links
from method_cards.render.site import Source
from method_cards.render.source import source_from
from method_cards.verdict import Outcome
from tests.render import sample

CARD = "cards/saliency-sanity.md"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return sample.source(tmp_path_factory.mktemp("project"), cache=tmp_path_factory.mktemp("figures"))


@pytest.fixture(scope="module")
def pages(source: Source) -> dict[str, str]:
    return site.pages(source)


def text(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def section(page: str, slug: str) -> str:
    """The part of a card's page about one prescription."""
    return re.split(r"\n###? ", re.split(rf"\{{ #{slug} ", page)[1])[0]


def test_there_is_a_page_for_everything(pages: dict[str, str]) -> None:
    """Each card, check and subject has its page, and each kind has a page that leads to them."""
    assert set(pages) == {
        "cards/index.md",
        CARD,
        "checks/index.md",
        "checks/attribution/sample-randomization.md",
        "subjects/index.md",
        "subjects/digits-cnn.md",
        "subjects/digits-guided.md",
    }


def test_every_prescription_has_its_anchor_and_all_its_parts(pages: dict[str, str], source: Source) -> None:
    """A prescription is shown with level, statement, reason, symptom, remedy, evidence, and its check or question, at a stable place."""
    for item in source.catalog.get("saliency-sanity").card.prescriptions:
        shown = text(section(pages[CARD], item.id))
        assert f"{item.level} " in shown
        for part in ("Why", "If ignored", "Evidence", "mend it"):
            assert part in shown
        assert item.remediation[0].action.split("*")[0][:30] in shown
        assert (item.check.id if item.check else "Evidence required") in shown


def test_a_failed_verdict_says_what_is_wrong_how_sure_and_how_to_mend_it(pages: dict[str, str]) -> None:
    """Before any figure a failed result names the finding, the interval, the bound, n, and the first remedy."""
    box = section(pages[CARD], "depends-on-parameters").split('id="depends-on-parameters--digits-guided"')[1]
    head = text(box.split("<details")[0])
    said = (
        "failed",
        "Not true here:",
        "95% interval",
        "n = 256. Allowed: ≤ 0.2",
        "To mend it: Use a method without modified backward rules",
        "How sure: The whole 95% interval lies outside the bound",
        "found the defect in 98% (94% to 100%) of runs",
    )
    assert [head.find(part) for part in said] == sorted(head.find(part) for part in said)
    assert all(part in head for part in said)
    assert 'href="#depends-on-parameters-remedy"' in box
    assert 'id="depends-on-parameters-remedy"' in pages[CARD]


def test_a_page_that_asks_for_the_board_gets_it(source: Source, pages: dict[str, str]) -> None:
    """The mark on a person's page becomes subjects and cards, each cell with its gravest verdict; filled twice, it is the same."""
    own = f"# Mine\n\n{board.MARK}\n\nMy last words, and `{board.MARK}` in code.\n"
    filled = board.fill(own, "index.md", source)
    assert filled.startswith("# Mine\n")
    assert filled.endswith("My last words, and `<!-- method-cards: board -->` in code.\n")
    assert board.fill(filled, "index.md", source) == filled
    assert board.fill("# Mine\n", "index.md", source) == "# Mine\n"
    cell = next(part for part in filled.split("<td>") if "--digits-guided" in part)
    assert re.search(
        r'href="cards/saliency-sanity.html#([a-z-]+)--digits-guided"><span class="mc-chip mc-failed">', cell
    )
    assert "1 of 2 MUST failed" in text(cell)
    assert_links_lead_somewhere({**pages, "index.md": f"---\n---\n{filled}"}, directory_urls=False)
    elsewhere = board.fill(own, "about/us.md", replace(source, directory_urls=True))
    assert 'href="../../cards/saliency-sanity/#' in elsewhere


def test_without_records_the_board_says_how_to_get_some(source: Source) -> None:
    """Before anything was checked the board names the command that checks."""
    assert "method-cards run" in board.fill(board.MARK, "index.md", replace(source, records=()))


def many(source: Source, number: int) -> Source:
    """The same with copies of its card, of which only the first was run."""
    one = source.catalog.get("saliency-sanity")
    cards = {"saliency-sanity": one}
    for position in range(1, number):
        name = f"a-method-of-the-field-{position}"
        card = one.card.model_copy(update={"id": name, "title": f"A method of the field, number {position}"})
        cards[name] = replace(one, card=card, family=f"family-{position % 20:02}")
    return replace(source, catalog=Catalog(cards))


def test_cards_can_be_chosen_by_what_they_are(source: Source) -> None:
    """Every row of the list carries the numbers of its traits, and each number is an option of a filter."""
    page = cards_index(many(source, 3))["cards/index.md"]
    options = dict(re.findall(r'<option value="(\d+)">([^<]*)</option>', page))
    for name, expected in (("saliency-sanity", {"seconds", "failed", "unanswered"}), ("number 2", {"not run"})):
        before, _, row = page.partition(name)
        numbers = [before.rpartition("<ul")[2], before.rpartition("<li")[2]]
        found = " ".join(re.findall(r'data-traits="([^"]*)"', "".join(numbers)))
        traits = {options[number] for number in found.split() if number in options}
        assert traits >= expected, name
        assert ("ran in 2.8 s" in row.split("</li>")[0]) == (name == "saliency-sanity")
    assert "hidden>" in page.split("<form")[1].split("\n")[0]


def test_a_thousand_cards_fit_on_pages(source: Source) -> None:
    """With many cards the list is terse: their names under what became of them; with too many, each family has a page."""
    assert list(cards_index(many(source, 600))) == ["cards/index.md"]
    made = cards_index(many(source, 1000))
    assert max(len(page.encode()) for page in made.values()) < 72_000
    families = {path: page for path, page in made.items() if path != "cards/index.md"}
    assert len(families) == 21
    assert sum(page.count("<li") for page in families.values()) == 1000
    for path in families:
        assert f'href="{path.removeprefix("cards/").removesuffix(".md")}.html"' in made["cards/index.md"]
    assert "<form" not in made["cards/index.md"]


def test_a_check_that_many_cards_use_keeps_a_page_of_its_size(source: Source) -> None:
    """A few prescriptions are shown in full, the known ones first; others are named, and the rest are counted."""
    page = site.pages(many(source, 300))["checks/attribution/sample-randomization.md"]
    assert page.count("\n### ") == check_page.MOST + 1
    assert page.count("<li><a href=") >= check_page.NAMED
    assert re.search(r"And \d+ more\.", page)
    assert len(page.encode()) < 76_000


def test_a_heavy_card_gets_pages_of_its_own(
    source: Source, pages: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the background leaves the card's page, then the results, one page a subject; nothing is lost, and no place moves."""
    monkeypatch.setattr(card_page, "HEAVY", len(pages[CARD].encode()))
    once = site.pages(source)
    assert set(once) - set(pages) == {"cards/saliency-sanity/background.md"}
    monkeypatch.setattr(card_page, "HEAVY", len(once[CARD].encode()))
    twice = site.pages(source)
    on = {subject: f"cards/saliency-sanity/on-{subject}.md" for subject in ("digits-cnn", "digits-guided")}
    assert set(twice) - set(once) == set(on.values())
    assert len(twice[CARD]) < len(once[CARD]) < len(pages[CARD])
    places = re.compile(r'<section class="mc-result[^>]* id="([^"]*)"')
    assert places.findall(twice[CARD]) == places.findall(pages[CARD])
    moved = set(places.findall("".join(twice[path] for path in on.values())))
    assert moved == set(places.findall(pages[CARD]))
    every = "".join(page for path, page in twice.items() if path.startswith("cards/"))
    for name in re.findall(r"\n## (.*)", pages[CARD]):
        assert f"\n## {name}\n" in every, name
    line = section(twice[CARD], "depends-on-parameters").split('id="depends-on-parameters--digits-guided"')[1]
    assert "Not true here: After all layers are randomised" in text(line)
    assert "allowed: ≤ 0.2" in text(line)
    for directory_urls in (False, True):
        assert_links_lead_somewhere(site.pages(replace(source, directory_urls=directory_urls)), directory_urls)


def test_each_outcome_is_a_word(pages: dict[str, str]) -> None:
    """No verdict is told by colour or by an icon alone."""
    words = set(re.findall(r'class="mc-verdict"><span class="mc-chip mc-(\w+)"[^>]*>([^<]*)<', pages[CARD]))
    assert words >= {
        (name, name.replace("_", " "))
        for name in ("passed", "failed", "inconclusive", "invalid", "errored", "answered", "unanswered")
    }


def test_the_numbers_of_an_invalid_run_are_not_shown_as_a_result(pages: dict[str, str]) -> None:
    """Where a condition of the run does not hold, the condition stands first, and the criteria are marked as not to be read as a result."""
    box = section(pages[CARD], "no-membership-leak")
    before, after = box.split("not to be read as a result", 1)
    assert "Not true here:" in before
    assert "<code>loss</code>" not in before
    assert "<code>loss</code>" in after


def test_error_rates_stand_beside_the_verdicts(pages: dict[str, str]) -> None:
    """A verdict comes with its check's measured error rates, or with the plain statement that they are unknown."""
    assert "found the defect in 98% (94% to 100%)" in text(section(pages[CARD], "depends-on-parameters"))
    assert "measured for other criteria" in text(section(pages[CARD], "repeatable"))
    assert "has not been calibrated" in text(section(pages[CARD], "complete"))


def test_waivers_and_answers_stand_beside_the_verdict(pages: dict[str, str]) -> None:
    """A waiver replaces no verdict; an answer is shown with who, when and evidence."""
    waived = text(section(pages[CARD], "depends-on-parameters").split("--digits-guided")[1])
    assert "failed" in waived
    assert "Waived until 2027-03-01, approved by R. Ito" in waived
    answered = text(section(pages[CARD], "reviewed-by-domain-expert"))
    assert "M. Okafor, 2026-11-03. Evidence: notes/2026-11-03.md" in answered


def test_pictures_and_curves_are_shown_with_what_they_show(pages: dict[str, str], source: Source) -> None:
    """The maps stand side by side in one file, once for a subject, and the curve says its course in words."""
    found = re.findall(r'<img [^>]*src="([^"]*)"[^>]*alt="([^"]*)"', pages[CARD])
    files = site.build(source).files
    assert all(name.removeprefix("../") in files for name, _ in found)
    maps = [words for name, words in found if name.endswith(".png")]
    assert len(maps) == 2
    assert all("A map that stays the same does not explain the model" in words for words in maps)
    assert any("signed goes from 1 at stage 0 to 0.85" in words for name, words in found if name.endswith(".svg"))
    assert "signed goes from 1 at stage 0 to 0.85" in text(pages[CARD])


def test_a_verdict_can_be_run_again(pages: dict[str, str]) -> None:
    """Each measured result shows the command that decides it again, with its seed and device."""
    command = "method-cards run digits-guided --only saliency-sanity/depends-on-parameters --seed 0 --samples 512 --device cpu"
    assert command in text(pages[CARD])


def test_the_subject_page_says_what_was_checked_with_what(pages: dict[str, str]) -> None:
    """Hashes, versions, device, seed, duration, revision, splits and the adjusted view stand on the subject's page."""
    shown = text(pages["subjects/digits-guided.md"])
    parts = (
        "9c" * 32,
        "torch 2.13.0",
        "on cpu, seed 0",
        "in 4.2 s",
        "b6df676+",
        "test: 256 of 360",
        "Holm",
        "NaN values",
        "waived",
    )
    for part in parts:
        assert part in shown


def test_the_check_page_comes_from_the_docstring(pages: dict[str, str]) -> None:
    """Claim, sections, parameters, quantities, conditions and error rates stand on the check's page, keys of works as citations."""
    shown = text(pages["checks/attribution/sample-randomization.md"])
    parts = (
        "Explanations change",
        "Assumptions",
        "The explainer is differentiable",
        "In which order layers",
        "share of ones",
        "118 failed",
    )
    for part in parts:
        assert part in shown
    assert '<a href="https://arxiv.org/abs/1810.03292"' in pages["checks/attribution/sample-randomization.md"]


def test_pages_are_plain_markdown(pages: dict[str, str]) -> None:
    """HTML stands in blocks without blank lines or indentation, so that every site generator passes it through as it is."""
    for page in pages.values():
        body = page.split("---\n", 2)[2]
        for block in re.split(r"\n{2,}", body.strip()):
            lines = block.splitlines()
            assert lines[0].startswith(("#", "<")) or not block.count("<"), block[:200]
            assert not any(line.startswith((" ", "\t")) for line in lines), block[:200]
            opened = re.findall(r"<(div|section|details|table|ul|ol|dl|p)\b", block)
            closed = re.findall(r"</(div|section|details|table|ul|ol|dl|p)>", block)
            assert sorted(opened) == sorted(closed), block[:200]


def test_links_within_the_site_lead_somewhere(source: Source) -> None:
    """Every link from page to page finds a page, and the place on it, however the generator serves its pages."""
    for directory_urls in (False, True):
        assert_links_lead_somewhere(site.pages(replace(source, directory_urls=directory_urls)), directory_urls)


def assert_links_lead_somewhere(pages: dict[str, str], directory_urls: bool) -> None:
    served = {_address(path, directory_urls): _ids(page) for path, page in pages.items()}
    for path, page in pages.items():
        here = _address(path, directory_urls)
        for link in re.findall(r'href="([^"]*)"', page):
            if link.startswith("https://"):
                continue
            target, _, place = link.partition("#")
            address = _join(here, target) if target else here
            assert address in served, f"{path}: {link} leads to {address}"
            assert not place or place in served[address], f"{path}: {link}"


def _address(path: str, directory_urls: bool) -> str:
    if not directory_urls:
        return path.removesuffix(".md") + ".html"
    return path.removesuffix("index.md") if path.endswith("index.md") else path.removesuffix(".md") + "/"


def _join(here: str, link: str) -> str:
    from urllib.parse import urljoin

    return urljoin(f"http://x/{here}", link).removeprefix("http://x/")


def _ids(page: str) -> set[str]:
    html = Markdown(extensions=["attr_list", "toc", "tables"]).convert(page.split("---\n", 2)[2])
    return set(re.findall(r'id="([^"]*)"', html))


def test_a_run_of_one_card_hides_no_other(source: Source) -> None:
    """What an earlier run of the same model decided is still shown, with its date; what another model did is not."""
    kept, folder = source.records[0]
    first = kept.verdicts[0]
    later = kept.model_copy(
        update={"id": "20261123T000000Z", "started": kept.started + dt.timedelta(days=1), "verdicts": (first,)}
    )
    view = replace(source, records=[(kept, folder), (later, folder)]).views[0]
    assert len(view.judged) == len(kept.verdicts)
    assert [item.is_earlier for item in view.judged] == [False, *[True] * (len(kept.verdicts) - 1)]
    subject = later.subject.model_copy(update={"parameters_sha256": "00" * 32})
    retrained = later.model_copy(update={"subject": subject})
    view = replace(source, records=[(kept, folder), (retrained, folder)]).views[0]
    assert [item.verdict.id for item in view.judged] == [first.id]


def test_a_verdict_on_a_changed_card_says_so(source: Source, pages: dict[str, str]) -> None:
    """A verdict that was given by other words of the card is marked."""
    assert "The card has changed since" not in pages[CARD]
    records = [
        (kept.model_copy(update={"cards": {"saliency-sanity": "00" * 32}}), folder) for kept, folder in source.records
    ]
    assert "The card has changed since" in site.pages(replace(source, records=records))[CARD]


ATTACK = "</p></section><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7 * 7 }}[x](javascript:alert(1))"
TEXTS = [
    "title",
    "summary",
    "description",
    "goals",
    "rationale",
    "action",
    "failure_symptom",
    "symptom",
    "cause",
    "claim",
    "scenario",
    "walkthrough",
    "formulation",
    "code",
    "name",
    "note",
    "pseudo_code",
    "choice",
    "recommended",
    "question",
    "likely_cause",
    "definition",
    "protocol",
    "reported_effect",
    "locator",
    "outcome",
    "fairness",
    "text",
]


def _attacked(data: Any) -> Any:
    """The card with every free text replaced by an attack."""
    if isinstance(data, list):
        return [_attacked(item) if isinstance(item, dict) else item for item in data]
    changed = {key: _attacked(value) if isinstance(value, dict | list) else value for key, value in data.items()}
    changed |= {key: ATTACK for key, value in changed.items() if key in TEXTS and isinstance(value, str)}
    return changed | ({"statement": f"{ATTACK} {changed['level']}"} if "statement" in changed else {})


def test_a_card_that_is_hostile_throughout_does_nothing(source: Source, tmp_path: Path) -> None:
    """Markup in every text of a card and of a record is shown as text on every page."""
    catalog = sample.catalog(tmp_path / "hostile", json.dumps(_attacked(yaml.safe_load(sample.CARD)), default=str))
    records = [
        (
            kept.model_copy(
                update={
                    "verdicts": tuple(
                        item.model_copy(update={"reason": ATTACK, "question": ATTACK}) for item in kept.verdicts
                    ),
                    "subject": kept.subject.model_copy(update={"title": ATTACK, "explainer": ATTACK, "model": ATTACK}),
                    "environment": {ATTACK: ATTACK},
                    "git_revision": ATTACK,
                }
            ),
            folder,
        )
        for kept, folder in source.records
    ]
    pages = site.pages(replace(source, catalog=catalog, records=records))
    for path, page in pages.items():
        assert not re.search(r"<script|<img src=x|\{\{|\{%", page), path
        html = Markdown(extensions=["attr_list", "toc", "tables", "pymdownx.superfences"]).convert(page)
        assert not re.search(r'<script|<img src="?x|(href|src)="javascript', html), path
        assert "alert(1)" in html or "checks/" in path


def test_pictures_that_lie_outside_their_record_are_refused(source: Source, tmp_path: Path) -> None:
    """A record that names a file elsewhere shows nothing of it, and the page says why."""
    kept, folder = source.records[0]
    found = kept.executions[0]
    moved = found.model_copy(update={"pictures": (found.pictures[0].model_copy(update={"file": "../../secret.npy"}),)})
    page = site.pages(replace(source, records=[(kept.model_copy(update={"executions": (moved,)}), folder)]))[CARD]
    assert "must be a name within the record" in text(page)
    assert ".png" not in page


def test_a_check_that_cannot_be_loaded_has_a_page_that_says_so(source: Source) -> None:
    """A missing check breaks no page: the card is shown, and the check's own page names the cause."""
    from method_cards.registry import Entry, Registry

    broken = Registry([Entry("attribution/sample-randomization", "no_such_module:Nothing", "lost 1.0")])
    pages = site.pages(replace(source, registry=broken))
    assert "No module named" in text(pages["checks/attribution/sample-randomization.md"]).replace(
        "&#x27;", "'"
    ).replace("&#39;", "'")
    assert (
        "attribution/sample-randomization" not in site.pages(replace(source, registry=Registry([])))["checks/index.md"]
    )


def test_pages_without_records_say_what_to_run(source: Source) -> None:
    """Before anything was checked, pages show the cards and the way to a first result."""
    pages = site.pages(replace(source, records=()))
    assert "Nothing was checked yet" in pages["subjects/index.md"]
    assert "mc-result" not in pages[CARD]


def test_the_same_source_gives_the_same_bytes(source: Source, pages: dict[str, str], tmp_path: Path) -> None:
    """Pages do not depend on the hour, the cache or the order of records."""
    again = replace(source, records=tuple(reversed(source.records)), cache=tmp_path)
    assert site.pages(again) == pages


def test_a_changed_record_draws_its_own_figures_again(source: Source, tmp_path: Path) -> None:
    """After one record has changed, a rebuild draws what that record shows anew, and takes the rest from the cache."""
    cached = replace(source, cache=tmp_path)
    before = site.build(cached).files
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == {name.rpartition("/")[2] for name in before if name.endswith(".svg")}
    (kept, folder), *others = source.records
    execution = kept.executions[0]
    series = execution.measurements[0]
    changed = series.model_copy(update={"values": tuple(value * 0.99 for value in series.values)})
    moved = execution.model_copy(update={"measurements": (changed, *execution.measurements[1:])})
    records = [(kept.model_copy(update={"executions": (moved,)}), folder), *others]
    after = site.build(replace(cached, records=records)).files
    new = {path.name for path in tmp_path.iterdir()} - drawn
    assert new == {name.rpartition("/")[2] for name in after.keys() - before.keys()}
    assert len(new) == 1


def test_pages_are_made_without_torch(tmp_path: Path) -> None:
    """Building every page of the bundled cards and checks, results included, never loads torch."""
    sample.write_project(tmp_path)
    code = f"""
import sys
from pathlib import Path
from method_cards.render import site
made = site.build(site.source_from([Path({str(tmp_path / "cards")!r})], Path({str(tmp_path / "records")!r})))
assert "cards/saliency-sanity.md" in made.pages, list(made.pages)
assert made.files
sys.exit("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_damaged_record_is_refused_with_its_path(tmp_path: Path) -> None:
    """A record that cannot be read ends the build with its path, never with a page that leaves it out."""
    path = tmp_path / "records" / "digits" / "20260101T000000Z" / "record.json"
    path.parent.mkdir(parents=True)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(str(path))):
        source_from(records=tmp_path / "records")


def test_assets_hold_the_licences_and_nothing_from_elsewhere() -> None:
    """Styles and scripts are served by the site itself, and what others wrote comes with its licence."""
    found = site.assets()
    assert set(site.STYLES) | set(site.SCRIPTS) | {site.POLYFILL} <= set(found)
    assert f"{site.ASSETS}/katex/LICENSE" in found
    assert not [name for name in found if name.endswith((".map", ".ttf", ".woff"))]
    styles = b"".join(content for name, content in found.items() if name.endswith(".css")).decode()
    for address in re.findall(r"url\(([^)]*)\)", styles):
        assert address.strip("\"'").startswith(("data:image/svg+xml", "fonts/")), address


@pytest.mark.parametrize(
    ("page", "target", "file", "folder"),
    [
        ("cards/x.md", "subjects/y.md", "../subjects/y.html", "../../subjects/y/"),
        ("cards/x.md", "cards/index.md", "index.html", "../"),
        ("cards/index.md", "cards/x.md", "x.html", "x/"),
        ("checks/a/b.md", "index.md", "../../index.html", "../../../"),
        ("cards/x.md", "cards/x.md", "x.html", "./"),
    ],
)
def test_links_fit_both_ways_of_serving_pages(page: str, target: str, file: str, folder: str) -> None:
    """A link is right whether a page is served as a file or as a folder."""
    assert Links(page, directory_urls=False).page(target) == file
    assert Links(page, directory_urls=True).page(target) == folder


def test_every_outcome_has_its_style() -> None:
    """The style sheet knows every outcome, so that none is shown without its icon."""
    styles = site.assets()[f"{site.ASSETS}/method-cards.css"].decode()
    for outcome in Outcome:
        assert f".mc-{outcome.value} {{ --mc-tone" in styles

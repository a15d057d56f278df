"""Whatever stands in a card, a record, a check or a bibliography, the site shows it and does nothing of it."""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import html5lib
import jinja2
import pytest
from rich.console import Console

from method_cards import record
from method_cards.errors import InputError
from method_cards.render import build, site
from method_cards.render.site import Site, Source
from tests.render import hostile

ADDRESSES = (
    "href",
    "src",
    "srcset",
    "action",
    "formaction",
    "data",
    "poster",
    "background",
    "cite",
    "ping",
    "xlink:href",
)


@dataclass
class Look:
    """What the pages of a site consist of, as a browser reads them."""

    parts: set[tuple[str, str]] = field(default_factory=set)
    classes: set[tuple[str, str]] = field(default_factory=set)
    styles: set[str] = field(default_factory=set)
    addresses: list[tuple[Path, str, str, str]] = field(default_factory=list)
    headings: dict[Path, int] = field(default_factory=dict)
    comments: list[str] = field(default_factory=list)


def look(built: Path) -> Look:
    found = Look()
    for page in sorted(built.rglob("*.html")):
        tree = html5lib.parse(page.read_text(encoding="utf-8"), namespaceHTMLElements=False)
        for element in tree.iter():
            if not isinstance(element.tag, str):
                found.comments.append(str(element.text))
                continue
            found.parts |= {(element.tag, ""), *((element.tag, str(name)) for name in element.attrib)}
            found.classes |= {(element.tag, name) for name in element.attrib.get("class", "").split()}
            found.styles |= {re.sub(r"\d+", "0", style) for style in [element.attrib.get("style")] if style}
            found.headings[page] = found.headings.get(page, 0) + (element.tag == "h1")
            found.addresses += [
                (page, element.tag, str(name), value)
                for name, value in element.attrib.items()
                if str(name) in ADDRESSES
            ]
    return found


@pytest.fixture(scope="module")
def benign(tmp_path_factory: pytest.TempPathFactory) -> Look:
    """The same site where every text is well-meant and uses all that a text may."""
    folder = tmp_path_factory.mktemp("benign")
    made = site.build(hostile.project(folder, hostile.BENIGN))
    return look(build.build_site(hostile.write_site(folder, made), strict=False))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return hostile.project(tmp_path_factory.mktemp("hostile"), hostile.ATTACK, control=hostile.CONTROL)


@pytest.fixture(scope="module")
def made(source: Source) -> Site:
    return site.build(source)


@pytest.fixture(scope="module")
def built(source: Source, made: Site) -> Path:
    folder = source.records[0][1].parents[2]
    return build.build_site(hostile.write_site(folder, made), strict=False)


@pytest.fixture(scope="module")
def attacked(built: Path) -> Look:
    return look(built)


def test_every_text_field_is_attacked(source: Source) -> None:
    """The attack stands in every field that takes free text: else what follows would prove nothing."""
    card = json.dumps(source.cards[0].card.model_dump(mode="json"))
    kept = json.dumps(source.records[0][0].model_dump(mode="json"))
    assert card.count("window.__pwned=1</script>") > 150 * 5
    assert kept.count("window.__pwned=1</script>") > 60 * 5
    assert "\\u001b" in kept


def test_text_adds_no_element_attribute_class_or_style(benign: Look, attacked: Look) -> None:
    """A browser finds no element and no attribute that well-meant text would not give: no script, no handler, no form, no comment."""
    assert attacked.parts - benign.parts == set()
    assert attacked.classes - benign.classes == set()
    assert attacked.styles - benign.styles == set()
    assert attacked.comments == []
    assert not [part for part in attacked.parts if part[1].startswith("on")]
    assert set(attacked.headings.values()) == {1}


def test_links_lead_to_the_web_or_into_the_site_and_nothing_is_fetched_from_elsewhere(
    built: Path, attacked: Look
) -> None:
    """Addresses are of the web, mail or the site itself; whatever a page loads is a file of the site."""
    for page, tag, name, address in attacked.addresses:
        parts = urlsplit(address)
        if tag == "a" and name == "href" and parts.scheme:
            assert parts.scheme in ("https", "http", "mailto"), address
        else:
            assert not parts.scheme, (page, tag, address)
            assert not parts.netloc, (page, tag, address)
            target = (page.parent / unquote(parts.path)) if parts.path else page
            if page.name != "404.html":
                assert target.resolve().is_relative_to(built.resolve()), (page, tag, address)
                assert target.is_file(), (page, tag, address)


def test_front_matter_cannot_be_taken_over(built: Path, attacked: Look) -> None:
    """The title of a page is the card's title as text; no template is named, and nothing unseen stands on a page."""
    for page in built.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        title = re.search(r"<title>(.*?)</title>", text, re.DOTALL)
        assert title is not None
        assert "taken over" not in title[1][:60]
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069]", text), page


def test_template_plugins_find_nothing_to_run(made: Site) -> None:
    """A page that goes through a template engine, as with the macros plugin of MkDocs, comes out as it went in."""
    engine = jinja2.Environment(autoescape=False, keep_trailing_newline=True)
    for path, page in made.pages.items():
        assert engine.from_string(page).render() == page, path


def test_the_search_index_holds_text(built: Path) -> None:
    """What the search shows of a page holds no element that runs or fetches anything."""
    for entry in json.loads((built / "search" / "search_index.json").read_text(encoding="utf-8"))["docs"]:
        for text in (entry["title"], entry["text"]):
            tree = html5lib.parseFragment(text, namespaceHTMLElements=False)
            for element in tree.iter():
                assert element.tag in (
                    "DOCUMENT_FRAGMENT",
                    "p",
                    "code",
                    "pre",
                    "ul",
                    "ol",
                    "li",
                    "span",
                    "div",
                    "strong",
                    "em",
                ), element.tag
                assert not [name for name in element.attrib if name.startswith("on") or name in ADDRESSES], text


def test_no_file_is_read_or_written_elsewhere(made: Site) -> None:
    """Pictures that a record places outside its folder are refused, and no page or file leaves the site."""
    for path in (*made.pages, *made.files):
        assert ".." not in path.split("/")
        assert not path.startswith("/")
    assert any("must be a name within the record" in page for page in made.pages.values())
    pictures = [name for name in made.files if name.endswith(".png")]
    assert len(pictures) == 1


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "a/b", "..", ".hidden", "a\nb", "x" * 70, ""])
def test_a_record_whose_subject_could_be_no_file_is_refused(source: Source, tmp_path: Path, name: str) -> None:
    """The id of a subject names its page; one that would lead out of the folder is refused."""
    kept = source.records[0][0]
    bad = kept.model_copy(update={"subject": kept.subject.model_copy(update={"id": name})})
    path = record.write(bad, tmp_path)
    with pytest.raises(InputError, match=re.escape(str(path))):
        record.read(path)


def test_nothing_takes_the_place_of_a_list(source: Source) -> None:
    """A subject that is called as the page of all subjects is refused, rather than hiding the others."""
    kept, folder = source.records[0]
    named = kept.model_copy(update={"subject": kept.subject.model_copy(update={"id": "index"})})
    with pytest.raises(InputError, match=r'subjects/index\.md .* "index"'):
        site.build(Source(source.catalog, source.registry, ((named, folder),)))


def test_nothing_commands_the_terminal(source: Source) -> None:
    """The report and the card in the terminal hold no control character of a record or a card."""
    from method_cards.render.report import print_record
    from method_cards.render.show import print_card

    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=False, color_system=None)
    print_record(source.records[0][0], console, cards=source.catalog.cards)
    print_card(source.cards[0], console)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", out.getvalue())
    assert "window.__pwned" in out.getvalue()


def test_long_texts_and_many_values_take_a_moment_and_not_a_minute(tmp_path: Path) -> None:
    """A text of a megabyte and thousands of breakdowns are shown or shortened, in time that grows with their length alone."""
    import time

    source = hostile.project(tmp_path, "a short text")
    kept, folder = source.records[0]
    [first, *_] = kept.executions
    [series, *_] = first.measurements
    many = tuple(series.model_copy(update={"by": {"step": step, "kind": f"k{step % 40}"}}) for step in range(4000))
    reasons = [verdict.model_copy(update={"reason": "a *b $c [d](" * 80_000}) for verdict in kept.verdicts[:2]]
    changes = {
        "executions": (first.model_copy(update={"measurements": many}),),
        "verdicts": (*reasons, *kept.verdicts[2:]),
    }
    began = time.process_time()
    made = site.build(Source(source.catalog, source.registry, ((kept.model_copy(update=changes), folder),)))
    assert time.process_time() - began < 20
    assert all(len(page) < 12_000_000 for page in made.pages.values())

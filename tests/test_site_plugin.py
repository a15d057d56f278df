"""The MkDocs plugin hands over what `method_cards.render` makes, and the site that comes out asks nobody else for anything."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import html5lib
import pytest
import yaml
from markdown import Markdown
from mkdocs.commands.build import build as mkdocs_build
from mkdocs.config import load_config

from method_cards.catalog import Catalog
from method_cards.errors import InputError
from method_cards.project import Project
from method_cards.registry import Registry
from method_cards.render import blocks, board, build, site
from method_cards.render.source import Source
from tests.render import sample

REPOSITORY = Path(__file__).parents[1]
WRITTEN = ("decisions", "evidence", "guide", "reference")


class _Loader(yaml.SafeLoader):
    """Reads mkdocs.yml, whose Python names stand for nothing here."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/name:", lambda _loader, name, _node: name)


def settings() -> dict[str, Any]:
    found: dict[str, Any] = yaml.load((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"), _Loader)
    return found


class Page(HTMLParser):
    """What a page refers to, and the places on it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.handlers: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.handlers += [name for name in found if name.startswith("on")]
        self.places |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link" and found.get("rel") not in ("canonical", "prev", "next", "alternate", "edit"):
            self.fetched.append(found["href"])
        self.fetched += [found[name] for name in ("src", "srcset", "poster") if name in found]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of a project with a handwritten page, cards and records, with the settings of this repository."""
    folder = tmp_path_factory.mktemp("project")
    sample.write_project(folder)
    (folder / "site").mkdir()
    (folder / "site" / "index.md").write_text(
        "# Home\n\n[The card](cards/saliency-sanity.md#repeatable), [a result](cards/saliency-sanity.md#repeatable--digits-cnn)\n",
        encoding="utf-8",
    )
    ours = {"method-cards": {"cards": ["cards"], "records": "records"}}
    written = settings() | {
        "plugins": ["search", "offline", ours],
        "nav": [{"Home": "index.md"}, {"Cards": "cards/index.md"}],
        "extra_css": [],  # of pages that are not here
    }
    written["not_in_nav"] = "/checks/*\n/subjects/*\n/cards/*\n"
    config = folder / "mkdocs.yml"
    config.write_text(yaml.safe_dump(written), encoding="utf-8")
    found = build.build_site(config)
    assert found == folder / "build" / "site"
    return found


def pages(built: Path) -> dict[str, Page]:
    return {
        path.relative_to(built).as_posix(): Page(path.read_text(encoding="utf-8")) for path in built.rglob("*.html")
    }


def test_a_build_never_empties_the_sources() -> None:
    """MkDocs empties site_dir before it builds; its default is `site`, where the sources of this project lie."""
    assert settings()["docs_dir"] == "site"
    assert settings()["site_dir"] == "build/site"
    config = load_config(str(REPOSITORY / "mkdocs.yml"))
    assert Path(config.docs_dir) == REPOSITORY / "site"
    assert Path(config.site_dir) == REPOSITORY / "build" / "site"


def test_nothing_is_fetched_from_elsewhere(built: Path) -> None:
    """No page refers to a font, script, picture or style of another server, and neither does a style sheet."""
    for name, page in pages(built).items():
        for address in page.fetched:
            assert not urlsplit(address).netloc, f"{name} fetches {address}"
    for path in built.rglob("*.css"):
        for address in re.findall(r"url\(\s*['\"]?([^)'\"]*)", path.read_text(encoding="utf-8")):
            assert not re.match(r"(https?:)?//", address), f"{path} fetches {address}"


def test_every_link_of_the_site_leads_somewhere(built: Path) -> None:
    """Each link to a page of the site finds the page, and the place on it; each file that a page needs is there."""
    found = pages(built)
    for name, page in found.items():
        for address in (*page.links, *page.fetched):
            from_root = name == "404.html" and address.startswith("/")  # it is served at any depth
            parts = urlsplit(f".{address}" if from_root else address)
            if parts.scheme or not (parts.path or parts.fragment):
                continue
            target = (built / name).parent / unquote(parts.path) if parts.path else built / name
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{name}: {address}"
            if parts.fragment and target.suffix == ".html" and not parts.fragment.startswith("__"):
                there = found[target.resolve().relative_to(built.resolve()).as_posix()]
                assert unquote(parts.fragment) in there.places, f"{name}: {address}"


@pytest.mark.slow
def test_the_site_of_this_project_is_whole_and_light(tmp_path: Path) -> None:
    """The real site builds without a warning, and no page that is written or made from kept results has more than 100 kB."""
    config = load_config(str(REPOSITORY / "mkdocs.yml"), site_dir=str(tmp_path), strict=True)
    config.plugins.on_startup(command="build", dirty=False)
    mkdocs_build(config)
    config.plugins.on_shutdown()
    found = [page for folder in WRITTEN for page in (tmp_path / folder).rglob("*.html")]
    assert len(found) > 40
    assert {page.name: page.stat().st_size for page in found if page.stat().st_size > 100_000} == {}


def test_an_address_that_leads_nowhere_leads_on(built: Path) -> None:
    """The page of a wrong address says so, and leads to each part of the site from its root, whatever the depth of the address."""
    article = re.findall("<article.*?</article>", (built / "404.html").read_text(encoding="utf-8"), re.DOTALL)[0]
    assert "Search for it at the top of this page" in article
    assert re.findall(r'<a href="([^"]*)">([^<]*)</a>', article) == [
        ("/index.html", "Home"),
        ("/cards/index.html", "Cards"),
    ]


def test_no_page_runs_what_is_written_in_it(built: Path) -> None:
    """No element of a page has an event handler."""
    for name, page in pages(built).items():
        assert not page.handlers, f"{name}: {page.handlers}"


def wrong(html: str) -> list[str]:
    """What is no good HTML: what a parser complains about, ids that stand twice, links within links, headings that skip a level, pictures without words."""
    parser = html5lib.HTMLParser(namespaceHTMLElements=False)
    tree = parser.parse(html)
    found = [f"{code} at {place}" for place, code, _ in parser.errors]
    elements = [element for element in tree.iter() if isinstance(element.tag, str)]
    ids = [element.attrib["id"] for element in elements if "id" in element.attrib]
    found += [f"the id {name} stands twice" for name in sorted({name for name in ids if ids.count(name) > 1})]
    controls = ("a", "button", "summary", "select", "input")
    found += [
        f"{inner.tag} within {outer.tag}"
        for outer in elements
        if outer.tag in ("a", "button")
        for inner in outer.iter()
        if inner is not outer and inner.tag in controls
    ]
    levels = [int(element.tag[1]) for element in elements if re.fullmatch("h[1-6]", element.tag)]
    found += [f"h{after} after h{before}" for before, after in pairwise(levels) if after > before + 1]
    return found + [
        f"no alt: {dict(item.attrib)}" for item in elements if item.tag == "img" and "alt" not in item.attrib
    ]


def test_pages_are_good_html(built: Path) -> None:
    """No page has what a strict parser or a screen reader stumbles over; and the test itself would see it."""
    assert {
        name: problems
        for path in built.rglob("*.html")
        if (problems := wrong(path.read_text("utf-8")))
        for name in [path.name]
    } == {}
    bad = wrong(
        "<!DOCTYPE html><html><body><h1>a</h1><h3 id=x>b</h3><p id=x><a href=y><button>c</button></a><img></p></div></body></html>"
    )
    assert len(bad) == 5


def test_html_that_is_kept_from_markdown_comes_out_as_through_it(tmp_path: Path) -> None:
    """The plugin takes HTML out of a page and puts it back; the page is what Python-Markdown makes of the whole of it."""
    extensions = {
        next(iter(item)) if isinstance(item, dict) else item: next(iter(item.values()))
        if isinstance(item, dict)
        else {}
        for item in settings()["markdown_extensions"]
    }

    def converted(text: str) -> str:
        found: str = Markdown(extensions=list(extensions), extension_configs=extensions).convert(text)
        return found

    made = site.pages(sample.source(tmp_path))
    for path, page in made.items():
        rest, taken = blocks.take_out(page)
        assert taken, path
        assert path.endswith("index.md") or len(rest) < len(page) / 4, path
        whole, mended = (
            re.sub(r">\s+<", "><", text) for text in (converted(page), blocks.put_back(converted(rest), taken))
        )
        assert mended == whole, path
        assert set(re.findall(r'\sid="([^"]+)"', whole)) >= blocks.anchors(taken)


def test_every_prescription_is_on_the_site(built: Path) -> None:
    """The place of each prescription is there under its own name."""
    places = pages(built)["cards/saliency-sanity.html"].places
    assert places >= {
        "depends-on-parameters",
        "repeatable",
        "complete",
        "no-membership-leak",
        "reviewed-by-domain-expert",
    }


def test_cards_are_no_siblings_in_the_navigation(built: Path) -> None:
    """The navigation of a page names the page of all cards and not each card: else pages would grow with the number of cards."""
    html = (built / "index.html").read_text(encoding="utf-8")
    navigation = "".join(re.findall(r'<nav class="md-(?:nav md-nav--primary|tabs).*?</nav>', html, re.DOTALL))
    assert "cards/index.html" in navigation
    assert "saliency-sanity" not in navigation


def test_a_wrong_card_ends_the_build_with_its_place(tmp_path: Path) -> None:
    """A typo in a card ends the build with file, line and column."""
    sample.write_project(tmp_path)
    path = tmp_path / "cards" / "attribution" / "saliency-sanity" / "card.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("status: reviewed", "statsu: reviewed"), encoding="utf-8")
    (tmp_path / "docs").mkdir()
    config = tmp_path / "mkdocs.yml"
    config.write_text("site_name: x\nplugins:\n  - method-cards:\n      cards: [cards]\n", encoding="utf-8")
    with pytest.raises(InputError, match=rf"{re.escape(str(path))}:\d+:\d+: .*statsu"):
        build.build_site(config)


def test_a_missing_configuration_says_what_to_do(tmp_path: Path) -> None:
    """Without mkdocs.yml the message names the command that writes one."""
    with pytest.raises(InputError, match="method-cards init"):
        build.build_site(tmp_path / "mkdocs.yml")


def test_a_strict_build_shows_the_warnings_that_ended_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A broken link ends a strict build, and standard error names the page and the link."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# Home\n\n[gone](nowhere.md)\n", encoding="utf-8")
    config = tmp_path / "mkdocs.yml"
    config.write_text("site_name: x\nplugins: []\n", encoding="utf-8")
    with pytest.raises(InputError, match="1 warnings in strict mode"):
        build.build_site(config)
    assert re.search(r"warning: .*'index\.md'.*'nowhere\.md'", capsys.readouterr().err)


def test_a_page_that_a_person_wrote_wins(tmp_path: Path) -> None:
    """A handwritten page in the place of a generated one is kept."""
    sample.write_project(tmp_path)
    (tmp_path / "docs" / "cards").mkdir(parents=True)
    (tmp_path / "docs" / "cards" / "index.md").write_text("# Our own list\n", encoding="utf-8")
    (tmp_path / "docs" / "index.md").write_text(f"# Ours\n\n{board.MARK}\n", encoding="utf-8")
    config = tmp_path / "mkdocs.yml"
    config.write_text(
        "site_name: x\nplugins:\n  - method-cards:\n      cards: [cards]\n      records: records\n", encoding="utf-8"
    )
    built = build.build_site(config, strict=False)
    assert "Our own list" in (built / "cards" / "index.html").read_text(encoding="utf-8")
    assert (built / "cards" / "saliency-sanity" / "index.html").is_file()
    home = (built / "index.html").read_text(encoding="utf-8")
    assert re.search(r'href="cards/saliency-sanity/#[a-z-]+--digits-guided"><span class="mc-chip mc-failed"', home)


def test_another_generator_gets_the_same_pages(tmp_path: Path) -> None:
    """`build --markdown` writes every page and every file that it needs, and leaves the others alone unless they ask for the board."""
    project = Project.load(REPOSITORY / "examples" / "digits")
    mine = "Käse".encode("latin-1")
    (tmp_path / "mine.md").write_bytes(mine)
    (tmp_path / "home.md").write_text(f"# Home\n\n{board.MARK}\n\nThe end.\n", encoding="utf-8")
    count = build.write_markdown(project, tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == count + 2
    home = (tmp_path / "home.md").read_text(encoding="utf-8")
    assert home.startswith("# Home\n")
    assert "method-cards run" in home or 'class="mc-table mc-board' in home  # with or without the records of a demo
    assert home.endswith("The end.\n")
    build.write_markdown(project, tmp_path)
    assert (tmp_path / "home.md").read_text(encoding="utf-8") == home
    assert (tmp_path / "mine.md").read_bytes() == mine
    for loaded in project.catalog:
        assert (tmp_path / "cards" / f"{loaded.card.id}.md").is_file()


def test_a_page_keeps_what_a_person_wrote_between_two_boards() -> None:
    """A mark above a board that is filled in already takes nothing of what lies between."""
    source = Source(Catalog.installed(), Registry.installed())
    once = board.fill(f"{board.MARK}\n\nThe end.\n", "home.md", source)
    twice = board.fill(f"{board.MARK}\n\nMy words.\n\n{once}", "home.md", source)
    assert twice.count(board.END) == twice.count(board.MARK) == 2
    assert "My words." in twice
    assert board.fill(twice, "home.md", source) == twice

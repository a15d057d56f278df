"""Every kind of page can be used by anybody: with a keyboard alone, on a phone, in the dark, with a screen reader; and a hostile one does nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from method_cards.render import build
from method_cards.render import site as pages
from tests.browser.visit import MARKS, Visit, served
from tests.render import hostile

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page

pytestmark = MARKS

CARD = "cards/saliency-sanity.html"
KINDS = (
    "index.html",
    CARD,
    "cards/index.html",
    "subjects/index.html",
    "subjects/digits-guided.html",
    "checks/index.html",
    "checks/attribution/sample-randomization.html",
)


def violations(page: Page) -> list[str]:
    """What axe-core calls serious or critical, with the first places of each."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    found: dict[str, Any] = axe.Axe().run(page, options={"resultTypes": ["violations"]}).response
    return [
        f"{item['id']} ({item['impact']}): {[node['html'][:160] for node in item['nodes'][:3]]}"
        for item in found["violations"]
        if item["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(site: str, browser: Browser, scheme: str) -> None:
    """No kind of page has a serious or critical violation of WCAG that a machine can find, folded parts included."""
    found: dict[str, list[str]] = {}
    with Visit(browser, scheme=scheme) as visit:
        for kind in KINDS:
            visit.page.goto(site + kind, wait_until="networkidle")
            visit.page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true })")
            if problems := violations(visit.page):
                found[kind] = problems
    assert found == {}


def test_the_keyboard_reaches_everything_and_is_never_caught(site: str, browser: Browser) -> None:
    """The first stop is the link to the content; folds open with Enter; every stop is seen; Tab reaches the end of the page."""
    with Visit(browser) as visit:
        page = visit.page
        page.goto(site + CARD, wait_until="networkidle")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.matches('.md-skip')")
        folds = page.locator("article details:visible > summary")
        fold = folds.first
        before = fold.evaluate("summary => summary.parentElement.open")
        fold.focus()
        page.keyboard.press("Enter")
        assert fold.evaluate("summary => summary.parentElement.open") is not before
        page.keyboard.press("Space")
        assert fold.evaluate("summary => summary.parentElement.open") is before
        reached = page.evaluate(
            "[...document.querySelectorAll('a[href], button, summary, input, select, [tabindex]')].length"
        )
        stops: list[list[Any]] = []
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        for _ in range(reached + 5):
            page.keyboard.press("Tab")
            stop = page.evaluate(
                "(() => { const at = document.activeElement, box = at.getBoundingClientRect();"
                " if (at === document.body) return null;"
                " at.dataset.stop = at.dataset.stop || Math.random();"
                " const style = getComputedStyle(at);"
                " const ring = style.outlineStyle !== 'none' || style.boxShadow !== 'none';"
                " return [at.dataset.stop, at.outerHTML.slice(0, 120), box.width * box.height > 0, ring] })()"
            )
            if stop is None or (stops and stop[0] == stops[0][0]):
                break
            stops.append(stop)
        names = [stop[0] for stop in stops]
        assert len(set(names)) == len(names), "Tab comes to the same place twice"
        assert len(stops) > 20
        scrolling = page.evaluate(
            "[...document.querySelectorAll('article *')].filter(part => part.scrollWidth > part.clientWidth + 1"
            " && ['auto', 'scroll'].includes(getComputedStyle(part).overflowX) && part.tabIndex < 0"
            " && !part.querySelector('a, button, [tabindex]')).map(part => part.outerHTML.slice(0, 120))"
        )
        assert scrolling == []


def test_a_phone_has_the_navigation_in_a_drawer(site: str, browser: Browser) -> None:
    """At 390 pixels the button opens the drawer, and a link in it leads on; nothing is wider than the screen."""
    with Visit(browser, width=390) as visit:
        page = visit.page
        page.goto(site + CARD, wait_until="networkidle")
        page.locator("label.md-header__button[for=__drawer]").click()
        link = page.locator(".md-nav--primary a.md-nav__link:visible").first
        link.wait_for()
        link.click()
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        assert visit.complaints == []


def test_the_dark_stays_dark(site: str, browser: Browser) -> None:
    """Who chose the dark page finds the next one dark, too."""
    with Visit(browser) as visit:
        visit.page.goto(site + CARD)
        visit.page.locator("label[title='Switch to dark']").click()
        visit.page.goto(f"{site}cards/index.html")
        assert visit.page.locator("body").get_attribute("data-md-color-scheme") == "slate"


def test_the_search_works_from_a_file(built: Path, browser: Browser) -> None:
    """Opened from a disk, without a server, the search answers."""
    with Visit(browser) as visit:
        visit.page.goto((built / "index.html").as_uri(), wait_until="networkidle")
        visit.page.locator(".md-search__input").click()
        visit.page.locator(".md-search__input").press_sequentially("randomised")
        visit.page.locator(".md-search-result__item").first.wait_for()
        assert all(url.startswith(("file:", "data:", "blob:")) for url in visit.requests)


def test_a_hostile_project_does_nothing(browser: Browser, tmp_path: Path) -> None:
    """A card, a record and a check with an attack in every text: no dialog, no request elsewhere, nothing runs, on the pages and in the search."""
    source = hostile.project(tmp_path, hostile.ATTACK, control=hostile.CONTROL)
    built = build.build_site(hostile.write_site(tmp_path, pages.build(source)), strict=False)
    dialogs: list[str] = []

    def dismissed(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    with served(built) as address, Visit(browser) as visit:
        visit.page.on("dialog", dismissed)
        for page in sorted(built.rglob("*.html")):
            name = page.relative_to(built).as_posix()
            visit.page.goto(address + name, wait_until="networkidle")
            visit.page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true })")
            visit.page.mouse.move(300, 300)
            assert visit.page.evaluate("window.__pwned") is None, name
        visit.page.goto(f"{address}index.html", wait_until="networkidle")
        visit.page.locator(".md-search__input").click()
        visit.page.locator(".md-search__input").press_sequentially("script pwned onerror")
        visit.page.locator(".md-search-result__item").first.wait_for()
        visit.page.wait_for_timeout(300)
        assert visit.page.evaluate("window.__pwned") is None
        assert [url for url in visit.requests if not url.startswith((address, "data:", "blob:"))] == []
        assert dialogs == []
        left = f"failed: {address}"  # what a page was still loading when the next one was opened
        assert [said for said in visit.complaints if not said.startswith(left)] == []

"""The pages in a browser: they ask nobody for anything, raise no error, and can be read in light and dark, on a desk and on a phone."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from markdown import Markdown
from PIL import Image

from method_cards.render import cards_index
from tests.browser.visit import MARKS, Visit
from tests.render import sample
from tests.render.test_site import many

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

CARD = "cards/saliency-sanity.html"
PAGES = (
    CARD,
    "cards/index.html",
    "subjects/index.html",
    "subjects/digits-guided.html",
    "checks/attribution/sample-randomization.html",
)

ASSETS = Path(cards_index.__file__).parent / "assets"

pytestmark = MARKS


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("path", PAGES)
def test_a_page_stays_at_home_and_raises_no_error(
    site: str, browser: Browser, path: str, scheme: str, width: int
) -> None:
    """No request leaves localhost, nothing is missing, the console is silent, and nothing is wider than the screen."""
    with Visit(browser, scheme=scheme, width=width) as visit:
        visit.page.goto(site + path, wait_until="networkidle")
        assert [url for url in visit.requests if not url.startswith((site, "data:", "blob:"))] == []
        assert visit.complaints == []
        assert visit.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        assert visit.page.locator("body").get_attribute("data-md-color-scheme") == (
            "slate" if scheme == "dark" else "default"
        )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_drawings_follow_the_text_colour(site: str, browser: Browser, scheme: str) -> None:
    """Lines of intervals have the colour of the page's text, so that they are read in both themes."""
    with Visit(browser, scheme=scheme) as visit:
        visit.page.goto(f"{site}{CARD}")
        colours = visit.page.evaluate(
            "['.mc-scale', '.mc-claim'].map(place => { const style = getComputedStyle(document.querySelector(place));"
            " return place.includes('scale') ? style.stroke : style.color })"
        )
        assert len(set(colours)) == 1


def test_formulas_are_drawn(site: str, browser: Browser) -> None:
    """KaTeX draws every formula from the site's own files, on handwritten and on generated pages."""
    with Visit(browser) as visit:
        for path in ("index.html", CARD, "checks/attribution/sample-randomization.html"):
            visit.page.goto(site + path, wait_until="networkidle")
            marked = visit.page.locator(".arithmatex").count()
            assert marked > 0
            visit.page.wait_for_function(
                f"document.querySelectorAll('.arithmatex .katex').length === {marked}", timeout=10_000
            )
            assert visit.page.locator(".katex-error").count() == 0


def test_a_failed_verdict_is_one_click_from_the_board(site: str, browser: Browser) -> None:
    """From the subject's list of verdicts one click leads to the failed result, which is then on the screen."""
    with Visit(browser) as visit:
        visit.page.goto(f"{site}subjects/digits-guided.html")
        visit.page.locator("tr.mc-failed a").first.click()
        visit.page.wait_for_url("**/cards/saliency-sanity.html#depends-on-parameters--digits-guided")
        result = visit.page.locator("#depends-on-parameters--digits-guided")
        assert result.locator(".mc-verdict .mc-chip").first.inner_text() == "failed"
        box = result.bounding_box()
        assert box is not None
        assert 0 <= box["y"] < 900


def test_search_finds_a_card_without_a_server_of_its_own(site: str, browser: Browser) -> None:
    """The search of the site answers from its own index."""
    with Visit(browser) as visit:
        visit.page.goto(site, wait_until="networkidle")
        visit.page.locator(".md-search__input").click()
        ready = "!document.querySelector('.md-search-result__meta').textContent.includes('Initializing')"
        visit.page.wait_for_function(ready)
        visit.page.locator(".md-search__input").press_sequentially("randomised")
        visit.page.locator(".md-search-result__item").first.wait_for()
        assert "Saliency maps" in visit.page.locator(".md-search-result__list").inner_text()


def test_pages_can_be_read_without_scripts(site: str, browser: Browser) -> None:
    """Verdicts, reasons, drawings and remedies are there when no script runs."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site}{CARD}")
    result = page.locator("#depends-on-parameters--digits-guided")
    assert "outside the bound" in result.inner_text()
    assert result.locator("svg.mc-interval").first.is_visible()
    context.close()


def test_figures_switch_with_the_palette(site: str, browser: Browser) -> None:
    """The button in the header turns the page dark, and every figure with it: the corner of each picture has the page's ground."""
    with Visit(browser) as visit:
        visit.page.goto(f"{site}{CARD}")
        visit.page.add_style_tag(content="img.mc-figure { border-radius: 0 !important }")
        visit.page.locator("details:has(img.mc-figure) summary").first.click()
        figure = visit.page.locator("details[open] img.mc-figure").first
        figure.scroll_into_view_if_needed()
        assert _corner(figure) == (255, 255, 255)
        visit.page.locator("label[title='Switch to dark']").click()
        visit.page.wait_for_function("document.body.dataset.mdColorScheme === 'slate'")
        ground = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert f"rgb{_corner(figure)}" == ground


def _corner(figure: Locator) -> tuple[int, ...]:
    """The colour of a picture a few pixels from its corner, as it is on the screen."""
    figure.evaluate("image => image.complete || new Promise(done => image.addEventListener('load', done))")
    screen = Image.open(io.BytesIO(figure.screenshot())).convert("RGB")
    return tuple(np.asarray(screen)[4, 4].tolist())


def _shown(page: Page) -> list[str]:
    return page.locator("ul.mc-cards > li:visible .mc-card-title a").all_inner_texts()


def test_cards_are_chosen_by_search_and_filters(site: str, browser: Browser) -> None:
    """Words and filters narrow the list together, the count is said, and the choice stands in the address and comes back with it."""
    with Visit(browser) as visit:
        page = visit.page
        page.goto(f"{site}cards/index.html")
        everything = _shown(page)
        form = page.get_by_role("search", name="Choose cards")
        form.get_by_label("Verdict").select_option("failed")
        assert _shown(page) == ["Saliency maps that depend on the model"]
        form.get_by_label("Verdict").select_option("not run")
        form.get_by_label("Search").press_sequentially("gradients integrated")
        chosen = _shown(page)
        assert "Integrated Gradients" in chosen
        assert len(chosen) < len(everything)
        assert form.get_by_role("status").inner_text() == f"{len(chosen)} of {len(everything)} cards"
        headings = page.locator(".md-typeset h2:visible").count()
        assert 0 < headings < page.locator(".md-typeset h2").count()
        page.reload()
        assert _shown(page) == chosen
        assert form.get_by_label("Search").input_value() == "gradients integrated"
        page.goto(f"{site}cards/index.html#?Time=seconds&Search=unheard-of%20zeugma")
        page.wait_for_function("document.querySelector('.mc-filters output').textContent.startsWith('0 of')")
        form.get_by_role("button", name="Clear").press("Enter")
        page.wait_for_function(
            f"document.querySelector('.mc-filters output').textContent === '{len(everything)} cards'"
        )
        assert _shown(page) == everything
        assert visit.complaints == []


def test_cards_are_chosen_without_a_server(built: Path, browser: Browser) -> None:
    """From file:// the filters work too, and without a script every card is there and the form is not."""
    address = (built / "cards" / "index.html").as_uri()
    with Visit(browser) as visit:
        visit.page.goto(address)
        visit.page.get_by_label("Verdict").select_option("failed")
        assert _shown(visit.page) == ["Saliency maps that depend on the model"]
        assert "Verdict=failed" in visit.page.evaluate("location.hash")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator("ul.mc-cards > li:visible").count() == page.locator("ul.mc-cards > li").count() > 1
    assert not page.locator("form.mc-filters").is_visible()
    context.close()


def test_the_terse_list_is_chosen_from_too(tmp_path: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where names stand under what became of them, a filter hides the verdicts and families of which nothing is left."""
    monkeypatch.setattr(cards_index, "MOST", 0)
    made = Markdown(extensions=["meta", "attr_list"]).convert(
        cards_index.cards_index(many(sample.source(tmp_path), 5))["cards/index.md"]
    )
    script = (ASSETS / "method-cards.js").read_text(encoding="utf-8")
    with Visit(browser) as visit:
        page = visit.page
        page.set_content(f"<article>{made}</article><script>{script}</script>")
        names = page.locator("ul.mc-terse > li:visible")
        everything = names.count()
        assert page.get_by_text("not run", exact=True).filter(visible=True).count() > 1
        page.get_by_label("Search").fill("failed")
        assert names.all_inner_texts() == ["Saliency maps that depend on the model"]
        assert page.locator("h2:visible").count() == 1
        assert page.locator("p.mc-verdict:visible").all_inner_texts() == ["failed"]
        page.get_by_label("Search").fill("")
        assert names.count() == everything > 1


def test_the_board_leads_to_the_gravest_verdict(site: str, browser: Browser) -> None:
    """On the home page one click leads from a model and a card to the verdict that matters most, which is then on the screen."""
    with Visit(browser) as visit:
        visit.page.goto(site)
        visit.page.locator(".mc-home td a:has(.mc-failed)").first.click()
        visit.page.wait_for_url("**/cards/saliency-sanity.html#*")
        result = visit.page.locator(f"[id='{visit.page.url.partition('#')[2]}']")
        assert result.locator(".mc-chip").first.inner_text() == "failed"
        box = result.bounding_box()
        assert box is not None
        assert 0 <= box["y"] < 900


def test_a_printed_page_is_unfolded_and_light(site: str, browser: Browser) -> None:
    """On paper nothing is folded away, and a figure is light even where the screen was dark."""
    with Visit(browser, scheme="dark") as visit:
        visit.page.goto(f"{site}{CARD}")
        visit.page.emulate_media(media="print")
        visit.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert visit.page.locator("details:not([open])").count() == 0
        visit.page.add_style_tag(content="img.mc-figure { border-radius: 0 !important }")
        figure = visit.page.locator("img.mc-figure").first
        figure.scroll_into_view_if_needed()
        assert _corner(figure) == (255, 255, 255)
        visit.page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert visit.page.locator("details:not([open])").count() > 0

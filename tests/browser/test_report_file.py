"""The report in one file, opened as a person opens an attachment: it asks nobody, runs nothing, and fits a phone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from method_cards.render.html_report import html_report
from tests.browser.visit import MARKS
from tests.render import sample
from tests.render.test_html_report import hostile_view

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog

pytestmark = MARKS


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The report of a well-meant record, and of one with an attack in every text."""
    folder = tmp_path_factory.mktemp("report")
    source = sample.source(folder / "project", cache=folder / "figures")
    made = {"good": html_report(source.views, source), "hostile": html_report([hostile_view(source)], source)}
    for name, text in made.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in made}


@pytest.mark.parametrize("name", ["good", "hostile"])
@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 390)])
def test_the_file_asks_nobody_and_runs_nothing(
    files: dict[str, Path], browser: Browser, name: str, scheme: Any, width: int
) -> None:
    """No request but for the file itself, no dialog, no complaint on the console, every picture drawn, nothing wider than the screen."""
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    page = context.new_page()
    requests: list[str] = []
    complaints: list[str] = []

    def dismissed(dialog: Dialog) -> None:
        complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", dismissed)
    address = files[name].as_uri()
    page.goto(address, wait_until="networkidle")
    assert [url for url in requests if not url.startswith("data:")] == [address]
    assert complaints == []
    assert page.evaluate("[...document.images].filter(image => !image.naturalWidth).length") == 0
    assert page.evaluate("document.querySelectorAll('script, [onerror], [onclick], [href^=javascript]').length") == 0
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark is (scheme == "dark")
    context.close()


def test_the_file_is_readable_without_its_style(files: dict[str, Path], browser: Browser) -> None:
    """Without the style sheet, as in a strict viewer of mail, every verdict is still a symbol and a word, and no number is lost."""
    context = browser.new_context(java_script_enabled=True)
    page = context.new_page()
    page.goto(files["good"].as_uri())
    page.evaluate("document.querySelectorAll('style, svg').forEach(element => element.remove())")
    shown = page.locator("main").inner_text().replace("\N{NO-BREAK SPACE}", " ")
    for part in ("✗ failed", "! errored", "⊘ invalid", "95% interval", "allowed: ≤ 0.2", "n = 256"):
        assert part in shown
    context.close()

"""Whatever a card or a record says, a page shows it and does not do it."""

from __future__ import annotations

import re

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown import Markdown

from method_cards.render import markdown

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt&colon;alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](vbscript:alert(1))",
    "<javascript:alert(1)>",
    '[x](https://a.b "onmouseover=alert(1)")',
    "[x]\n\n[x]: javascript:alert(1)",
    "word {: onclick=alert(1) }",
    "# head {: onclick=alert(1) }",
    "$</span><script>alert(1)</script>$",
    "$$\n</div><script>alert(1)</script>\n$$",
    "```html\n</code></pre><script>alert(1)</script>\n```",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "</section></div></td></table><script>alert(1)</script>",
    '" onfocus=alert(1) autofocus="',
    '<div markdown="1">\n\n<script>alert(1)</script>\n\n</div>',
)

TAG = re.compile(r"<[a-zA-Z/](?:[^<>\"']|\"[^\"]*\"|'[^']*')*>")
SAFE = re.compile(
    r"<(/?(a|b|p|ul|ol|li|pre|code|em|strong|span|div|br|hr|blockquote|table|thead|tbody|tr|th|td|h[1-6])\b)"
)


def site(text: str) -> str:
    """A page of a site whose generator reads Markdown with the extensions of mkdocs.yml."""
    extensions = [
        "admonition",
        "attr_list",
        "tables",
        "toc",
        "pymdownx.arithmatex",
        "pymdownx.highlight",
        "pymdownx.superfences",
    ]
    return str(
        Markdown(extensions=extensions, extension_configs={"pymdownx.arithmatex": {"generic": True}}).convert(text)
    )


def dangers(html: str) -> list[str]:
    """Tags that could run something."""
    return [
        tag
        for tag in TAG.findall(html)
        if not SAFE.match(tag) or re.search(r"\son\w+\s*=|javascript:|data:|vbscript:", tag, re.IGNORECASE)
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_as_text_in_every_context(text: str) -> None:
    """No text of a card becomes a tag, an attribute or an address that runs something, before or after the site generator has read it."""
    for safe in (markdown.block(text), markdown.inline(text), markdown.code(text)):
        assert dangers(safe) == []
        assert dangers(site(f"<div>\n{safe}\n</div>")) == []
    for safe in (markdown.cell(text), markdown.plain(text), markdown.title(text)):
        assert dangers(safe) == []
        assert dangers(site(f"| a |\n| - |\n| {safe} |\n\n# {safe}")) == []


@pytest.mark.parametrize(
    "text",
    ["{{ 7 * 7 }}", "{% raw %}", "{# gone #}", "{{config}}", "`{{ 7 * 7 }}`", "{{{ 7 }}}", "```\n{{ 7 * 7 }}\n```"],
)
def test_template_syntax_is_shown_and_never_run(text: str) -> None:
    """A template plugin of the site generator finds nothing to run, and the reader sees what was written."""
    for safe in (
        markdown.block(text),
        markdown.inline(text),
        markdown.code(text),
        markdown.cell(text),
        markdown.plain(text),
        markdown.title(text),
    ):
        assert not re.search(r"\{[{%#]|[}%#]\}", safe)
        assert jinja2.Environment(autoescape=True).from_string(safe).render() == safe


def test_addresses_of_the_web_become_links_and_paths_do_not() -> None:
    """A link leads to the web, to mail or to a place on the page; a path to another file is dropped."""
    assert 'href="https://example.org/a_b"' in markdown.block("[x](https://example.org/a_b)")
    assert 'href="#evidence"' in markdown.block("[x](#evidence)")
    for address in ("../../etc/passwd", "/absolute", "file:///etc/passwd", "//evil.example/x", "ftp://a.b"):
        assert "href" not in markdown.block(f"[x]({address})")


def test_no_picture_is_fetched_for_a_text() -> None:
    """A picture in a text becomes its description, so that a page never asks another server for anything."""
    assert markdown.block("![a map](https://tracker.example/x.png)") == "<p><em>a map</em></p>"


def test_formulas_are_marked_and_prices_are_not() -> None:
    """TeX between dollar signs is marked for KaTeX with its characters as they are; money is left alone."""
    assert markdown.inline("$x_1 < y$") == r'<span class="arithmatex">\(x_1 &lt; y\)</span>'
    assert markdown.block("$$\na\n- b\n= c\n$$") == r'<div class="arithmatex">\[a - b = c\]</div>'
    assert "arithmatex" not in markdown.inline("from $5 to $6")
    assert markdown.inline(r"a \$5 note") == "a $5 note"


def test_code_keeps_its_lines_and_its_indentation() -> None:
    """A block of code stands on one line of the page, with its line breaks as entities, and comes out as it was written."""
    safe = markdown.code("if x < 1:\n\n    y()\n")
    assert "\n" not in safe
    assert "if x &lt; 1:&#10;&#10;    y()" in safe
    assert "if x &lt; 1:&#10;&#10;    y()" in site(f"<div>\n{safe}\n</div>")


@given(st.text(max_size=60))
def test_any_text_leaves_the_outline_of_a_page_alone(text: str) -> None:
    """Whatever the text, the table that it stands in keeps its one row and one column, and the page its one heading."""
    html = site(
        f"# {markdown.title(text)}x\n\n| a |\n| - |\n| x{markdown.plain(text)} |\n\n| b |\n| - |\n| x{markdown.cell(text)} |\n"
    )
    assert html.count("<td>") == 2
    assert html.count("<h1") == 1


@given(st.text(alphabet="ab1Zé .,;:=()%+/?'-\n", max_size=30))
def test_plain_words_need_no_parser(text: str) -> None:
    """Words that mean nothing to CommonMark come out as they would if they were parsed."""
    flat = " ".join(text.split())
    assert markdown.inline(text) == markdown._safe(markdown._parser().renderInline(flat), markdown._INLINE_TAGS)
    assert markdown.block(text) == markdown._safe(markdown._parser().render(text), markdown._BLOCK_TAGS)


@given(st.text(max_size=60))
def test_any_text_survives_as_plain_text(text: str) -> None:
    """Plain text comes out of the site generator with every character that can be seen, in order."""
    import html

    shown = re.sub(r"<[^>]+>", "", site(f"x{markdown.plain(text)}x"))
    expected = " ".join(text.split())
    assert (
        html.unescape(shown).replace("\x02", "").replace("\x03", "").split()
        == f"x{expected}x".replace("\x02", "").replace("\x03", "").split()
    )

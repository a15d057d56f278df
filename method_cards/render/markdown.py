"""Text from cards and records, made safe. It may hold HTML, links that run code, templates, or Markdown that breaks a page.

Each context has its function, and nothing else puts text on a page:

- `block` and `inline`: a card's CommonMark with TeX, as HTML for an HTML block of a page.
- `cell`: the same as one line for a place where the site's own Markdown is read, such as a cell of a table.
- `plain`: text that means nothing but itself, for such a place.
- `title`: text for headings, navigation and metadata, which site generators are known to print without escaping.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

import nh3
from markdown_it import MarkdownIt
from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping, Sequence

    from markdown_it.renderer import RendererHTML
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token
    from markdown_it.utils import OptionsDict

_INLINE_TAGS = frozenset({"a", "code", "em", "strong", "span", "br"})
_BLOCK_TAGS = _INLINE_TAGS | {
    "p",
    "ul",
    "ol",
    "li",
    "pre",
    "blockquote",
    "hr",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "div",
}
_ATTRIBUTES = {"a": {"href"}, "span": {"class"}, "div": {"class"}, "ol": {"start"}}
_FENCE = "$$"
_MOST_LINES = 200
"""How long a formula may be; what never ends would be looked for again and again."""
_OWN_CLASS = "arithmatex"
_LINK = re.compile(r"^(https?://|mailto:|#[A-Za-z0-9_-]+$)")
_MARKUP = re.compile(r"[\\`*_{}\[\]|~^$@:=<>]")
_LOOK_ALIKES = {ord("<"): "\u2039", ord(">"): "\u203a", ord('"'): "\u201d"}
_AMPERSAND = "\uff06"
_ENTITY = re.compile(r"&(?=#?\w+;)")
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ufffe\uffff]")
_TEMPLATE = re.compile(r"\{(?=[{%#])|\}(?<=[}%#]\})")
_WORDS = re.compile(r"(?:[^\W\d_](?:[^\W_]|[ ,.;:=()%+/?'-])*)?")
"""Text that CommonMark and HTML leave as it is: most texts of most cards, which need no parser then."""


def block(text: str) -> Markup:
    """CommonMark with TeX as blocks of safe HTML, without a blank line, so that every site generator passes them through."""
    flat = text.strip(" \n")
    if flat and _WORDS.fullmatch(flat):
        return Markup(f"<p>{flat}</p>")  # noqa: S704  (no character of it means anything)
    return _safe(_parser().render(text), _BLOCK_TAGS)


def inline(text: str) -> Markup:
    """CommonMark with TeX as one line of safe HTML."""
    flat = " ".join(text.split())
    if _WORDS.fullmatch(flat):
        return Markup(flat)  # noqa: S704  (no character of it means anything)
    return _safe(_parser().renderInline(flat), _INLINE_TAGS)


def cell(text: str) -> Markup:
    """Like `inline`, for a place where Markdown is read: no character of the text means anything there."""
    return Markup(re.sub(r"<[^<>]*>|[^<>]+", _cell_piece, inline(text)))  # noqa: S704  (inline made it safe)


def plain(text: object) -> Markup:
    """Text that stands for itself both in Markdown and in HTML, on one line."""
    flat = " ".join(str(text).split())
    return Markup("".join(_entity(char) if _MARKUP.match(char) or char in "&\"'#!" else char for char in flat))  # noqa: S704


def title(text: object) -> Markup:
    """Text for headings and metadata: what could be HTML, even after unescaping twice, is replaced by look-alikes."""
    flat = " ".join(str(text).split()).translate(_LOOK_ALIKES)
    flat = _ENTITY.sub(_AMPERSAND, flat)
    return Markup(re.sub(r"[\\`*_{}\[\]|~^$#]", lambda found: _entity(found[0]), flat))  # noqa: S704


def metadata(text: object) -> str:
    """A title for a page's front matter, where generators print what stands there without escaping."""
    flat = " ".join(visible(str(text)).split()).translate(
        _LOOK_ALIKES | dict(zip(map(ord, "{[}]"), "(())", strict=True))
    )
    return _ENTITY.sub(_AMPERSAND, flat).replace("\\", "/")


def visible(text: str) -> str:
    """The text without characters that nobody sees and that do something: control characters, and those that turn what follows around.

    It is one quick pass over a whole page, and leaves what a page needs, such as joiners and soft hyphens. `words.clean` takes more away:
    a terminal also obeys escape sequences, and breaks lines where a browser does not.
    """
    return _UNSEEN.sub("", text)


def code(text: str) -> Markup:
    """A block of code as one line of HTML: site generators neither indent nor read it."""
    lines = escape(text.strip("\n")).replace("\n", Markup("&#10;"))
    return Markup('<div class="highlight"><pre><code>{}</code></pre></div>').format(no_templates(lines))


def _cell_piece(found: re.Match[str]) -> str:
    piece = found[0]
    return re.sub(r"[\\`*_{}\[\]|~^$@:]" if piece.startswith("<") else _MARKUP, lambda char: _entity(char[0]), piece)


def _entity(char: str) -> str:
    return f"&#{ord(char)};"


def _safe(html: str, tags: frozenset[str]) -> Markup:
    clean = nh3.clean(
        html,
        tags=set(tags),
        attributes={tag: set(names) for tag, names in _ATTRIBUTES.items()},
        attribute_filter=_attribute,
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer",
    )
    one_line = re.sub(r"<pre>.*?</pre>", lambda found: found[0].replace("\n", "&#10;"), clean, flags=re.DOTALL)
    one_line = re.sub(r"\n\s*", "\n", one_line).strip()
    return no_templates(Markup(one_line))  # noqa: S704  (nh3 has cleaned it)


def _attribute(tag: str, name: str, value: str) -> str | None:
    if name == "href":
        return value if _LINK.match(value) else None
    if name == "class":
        return value if value == _OWN_CLASS else None
    return value if (tag, name) != ("ol", "start") or value.isdigit() else None


def no_templates(html: Markup) -> Markup:
    """Break up ``{{``, ``{%`` and ``{#``, which template plugins of site generators would run."""
    if "{" not in html and "}" not in html:
        return html
    return Markup(_TEMPLATE.sub(lambda found: _entity(found[0]), html))  # noqa: S704  (only braces change)


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.inline.ruler.before("escape", "tex", _read_inline_tex)
    parser.block.ruler.before("fence", "tex", _read_block_tex, {"alt": ["paragraph"]})
    for name, rule in _RULES.items():
        parser.add_render_rule(name, rule)
    return parser


def _read_inline_tex(state: StateInline, silent: bool) -> bool:
    found = _TEX.match(state.src, state.pos)
    if found is None:
        return False
    if not silent:
        state.push("tex", "", 0).content = rf"\[{found[1]}\]" if found[1] else rf"\({found[2]}\)"
    state.pos = found.end()
    return True


def _read_block_tex(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    if not state.src.startswith(_FENCE, state.bMarks[start] + state.tShift[start]):
        return False
    end = min(end, start + _MOST_LINES)
    lines = [state.getLines(line, line + 1, state.tShift[line], False).strip() for line in range(start, end)]
    last = next(
        (number for number, line in enumerate(lines) if line.endswith(_FENCE) and (number or line != _FENCE)), None
    )
    if last is None:
        return False
    if not silent:
        state.push("tex", "", 0).content = rf"\[{' '.join(lines[: last + 1]).strip('$').strip()}\]"
    state.line = start + last + 1
    return True


def _tex(
    _renderer: RendererHTML, tokens: Sequence[Token], index: int, _options: OptionsDict, _env: MutableMapping[str, Any]
) -> str:
    content = escape(tokens[index].content)
    return (
        f'<div class="{_OWN_CLASS}">{content}</div>\n'
        if tokens[index].block
        else f'<span class="{_OWN_CLASS}">{content}</span>'
    )


def _picture(
    _renderer: RendererHTML, tokens: Sequence[Token], index: int, _options: OptionsDict, _env: MutableMapping[str, Any]
) -> str:
    return f"<em>{escape(tokens[index].content)}</em>"


def _heading(
    _renderer: RendererHTML, tokens: Sequence[Token], index: int, _options: OptionsDict, _env: MutableMapping[str, Any]
) -> str:
    return "<p><strong>" if tokens[index].nesting > 0 else "</strong></p>\n"


_TEX = re.compile(r"\$\$([^$]+)\$\$|\$(?!\s)((?:\\.|[^$\\])+?)(?<!\s)\$(?!\d)")
_RULES: dict[str, Callable[..., str]] = {
    "tex": _tex,
    "image": _picture,
    "heading_open": _heading,
    "heading_close": _heading,
}
"""A picture becomes its description, since nothing is fetched for a page; a heading is bold: a page's outline is not the card's."""

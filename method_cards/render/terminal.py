"""Pieces that the terminal's pages are made of. No text of a card or record is ever read as markup of rich or as an escape sequence."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from markdown_it import MarkdownIt
from rich.markdown import Markdown
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from method_cards.render.words import SYMBOLS, clean, word
from method_cards.verdict import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, RenderableType

STYLES = {
    Outcome.PASSED: "green",
    Outcome.FAILED: "bold red",
    Outcome.INCONCLUSIVE: "yellow",
    Outcome.INVALID: "magenta",
    Outcome.NOT_APPLICABLE: "dim",
    Outcome.ERRORED: "bold red",
    Outcome.UNANSWERED: "cyan",
    Outcome.ANSWERED: "blue",
}

THEME = Theme(
    {
        "markdown.code": "cyan",
        "markdown.code_block": "cyan",
        "markdown.item.bullet": "dim",
        "markdown.item.number": "none",
    }
)
"""Code without a background of its own, so that it is legible on light and dark terminals."""

_ASCII_SYMBOLS = {"✓": "+", "✗": "x", "⊘": "#", "»": ">"}
_ASCII = str.maketrans(
    {
        "≤": "<=",
        "≥": ">=",
        "·": "-",
        "—": "-",
        "–": "-",
        "…": "...",
        "“": '"',
        "”": '"',
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "→": "->",
        "•": "*",
        "×": "x",
    }
)
_PICTURE = re.compile(r"!(?=\[)")


class Prose(Markdown):
    """A card's Markdown: HTML in it is text, links are written out, pictures are their description."""

    def __init__(self, text: str, style: str = "none") -> None:
        source = _PICTURE.sub("", clean(text))
        super().__init__(source, hyperlinks=False, style=style, code_theme="bw")
        self.parsed = MarkdownIt("commonmark", {"html": False}).enable("table").parse(source)


class Writer:
    """Writes to a console what can be written there.

    Args:
        console: Where to write.

    Attributes:
        width: Characters in a line.
        ascii: Whether the console takes nothing but ASCII.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.width = console.width
        self.ascii = console.options.ascii_only
        if self.ascii and hasattr(console.file, "reconfigure"):
            console.file.reconfigure(errors="replace")

    def text(self, content: object, style: str = "") -> Text:
        """Text of a card, a record or this program, in a style."""
        readable = clean(content)
        return Text(readable.translate(_ASCII) if self.ascii else readable, style=style)

    def prose(self, content: str, style: str = "none") -> Prose:
        """Markdown of a card."""
        readable = clean(content)
        return Prose(readable.translate(_ASCII) if self.ascii else readable, style)

    def outcome(self, outcome: Outcome) -> Text:
        """An outcome as symbol and word."""
        symbol = SYMBOLS[outcome]
        return Text(
            f"{_ASCII_SYMBOLS.get(symbol, symbol) if self.ascii else symbol} {word(outcome)}", style=STYLES[outcome]
        )

    def line(self, *parts: object, style: str = "", indent: int = 0) -> None:
        """One paragraph of pieces side by side."""
        joined = Text(style=style)
        for part in parts:
            joined.append_text(part if isinstance(part, Text) else self.text(part))
        self.console.print(Padding(joined, (0, 0, 0, indent)) if indent else joined)

    def blank(self) -> None:
        """An empty line."""
        self.console.print()

    def heading(self, title: object, aside: object = "") -> None:
        """A title with a line below it, and something smaller after it."""
        joined = self.text(title, "bold")
        if aside:
            joined.append_text(self.text(f"  {clean(aside)}", "dim"))
        self.blank()
        self.console.print(joined)
        self.console.print(Text(("-" if self.ascii else "─") * min(self.width, max(joined.cell_len, 24)), style="dim"))

    def fields(self, rows: Iterable[tuple[str, RenderableType | str]], *, indent: int = 2, label: int = 14) -> None:
        """Labels on the left, what they label on the right."""
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(width=label, style="dim")
        table.add_column(ratio=1)
        table.expand = True
        for name, content in rows:
            table.add_row(self.text(name), self.text(content) if isinstance(content, str) else content)
        self.console.print(Padding(table, (0, 0, 0, indent)))

    def command(self, label: str, words: str, *, indent: int = 2, width: int = 14) -> None:
        """A command line that can be copied whole: it is never broken into lines."""
        joined = (
            Text(" " * indent)
            .append_text(self.text(f"{label:<{width}}  ", "dim"))
            .append_text(self.text(words, "bold"))
        )
        self.console.print(joined, soft_wrap=True)

    def table(self, *columns: str | tuple[str, dict[str, Any]]) -> Table:
        """A table without lines, with headings."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for column in columns:
            name, settings = (column, {}) if isinstance(column, str) else column
            table.add_column(name, **settings)
        return table

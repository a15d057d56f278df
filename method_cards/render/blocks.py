"""Blocks of HTML that Python-Markdown need not read: it goes through each character of them twice, and changes none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_BLOCK = re.compile(r"(?<=\n\n)<.*?(?=\n\n)", re.DOTALL)
_PLACE = re.compile(r'<div data-method-cards="(\d+)"></div>')
_ANCHOR = re.compile(r'\sid="([^"]+)"')


def take_out(markdown: str) -> tuple[str, list[str]]:
    """A generated page with an empty mark for each of its blocks of HTML, and the blocks.

    Generated pages have no fences, and all HTML on them has passed `page.html`: no blank line, no line that begins without a tag.
    """
    blocks: list[str] = []

    def mark(found: re.Match[str]) -> str:
        blocks.append(found[0])
        return f'<div data-method-cards="{len(blocks) - 1}"></div>'

    return _BLOCK.sub(mark, markdown), blocks


def put_back(html: str, blocks: Sequence[str]) -> str:
    """The page as HTML with its blocks at their places."""
    return _PLACE.sub(lambda found: blocks[int(found[1])], html)


def anchors(blocks: Sequence[str]) -> set[str]:
    """The places within the blocks that links may lead to."""
    return {found for block in blocks for found in _ANCHOR.findall(block)}

"""How works are cited on a card's page: by author and year, each mark a link to the list of references."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from method_cards.card import Evidence, Source
from method_cards.render import markdown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from method_cards.catalog import LoadedCard, Reference


_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Work:
    """One entry of a page's list of references.

    Attributes:
        key: Its key in the bibliography.
        short: For the running text.
        text: For the list, without the identifier.
        identifier: Its DOI, arXiv id or web address; empty where it has none.
        link: Where that leads.
        kind: What kind of work it is.
        claims: What it is cited for, each with its place.
    """

    key: str
    short: str
    text: str
    identifier: str
    link: str
    kind: str
    claims: tuple[str, ...]


class Citations:
    """The works that a card cites.

    Args:
        loaded: The card.
        page: The address of the page that lists the works, where it is another one.
    """

    def __init__(self, loaded: LoadedCard, page: str = "") -> None:
        self._page = page
        self.works = tuple(
            Work(
                key=entry.ref,
                short=reference.short,
                text=reference.format().removesuffix(f" {_identifier(reference)}."),
                identifier=_identifier(reference),
                link=reference.link,
                kind=entry.kind,
                claims=tuple(": ".join(part for part in (claim.locator, claim.text) if part) for claim in entry.claims),
            )
            for entry in loaded.card.evidence
            if (reference := loaded.references.get(entry.ref)) is not None
        )
        self._by_key = {work.key: work for work in self.works}
        self._elsewhere = {key: work for key, work in loaded.references.items() if key not in self._by_key}

    def mark(self, key: str, locator: str = "") -> Markup:
        """Author and year, as a link to the reference."""
        work = self._by_key.get(key)
        where = Markup(", {}").format(_place(locator)) if locator else ""
        if work is None:
            other = self._elsewhere.get(key)  # of a check that is taken over from another card
            return Markup("({}{})").format(other.short if other is not None else key, where)
        return Markup('<a class="mc-cite" href="{}#ref-{}">({}{})</a>').format(self._page, key, work.short, where)

    def source(self, source: Source) -> Markup:
        """A source in words: what the work reports, a note, the work, how strong it is."""
        parts: list[Markup] = []
        if isinstance(source, Evidence) and source.reported_effect:
            parts.append(markdown.inline(source.reported_effect))
        if source.note:
            parts.append(markdown.inline(source.note))
        if source.ref is not None:
            parts.append(self.mark(source.ref, source.locator))
        if isinstance(source, Evidence) and source.strength is not None:
            parts.append(Markup('<span class="mc-tag">{}</span>').format(source.strength))
        return Markup(" ").join(parts)

    def sources(self, sources: Iterable[Source]) -> list[Markup]:
        """Several sources."""
        return [self.source(source) for source in sources]


def _place(locator: str) -> Markup:
    """A place in a work: names of files and functions as code, and no other Markdown, since a link would stand in a link."""
    parts = enumerate(_CODE.split(locator))
    return Markup("").join(Markup("<code>{}</code>").format(part) if number % 2 else part for number, part in parts)


def _identifier(reference: Reference) -> str:
    if reference.doi:
        return f"doi:{reference.doi}"
    return f"arXiv:{reference.arxiv}" if reference.arxiv else reference.url.partition("://")[2]

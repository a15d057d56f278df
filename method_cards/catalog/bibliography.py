"""The works that cards rest on: ``references.bib``, read and shown in one style."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from method_cards.document import decode, read_bytes
from method_cards.errors import DocumentError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FILE = "references.bib"

_VENUES = ("journal", "booktitle", "howpublished", "publisher", "institution", "school", "organization")
_MOST_AUTHORS = 8
_LATEX = re.compile(r"[\\{}$~%&#^_`]|''|--")
"""Any character that could mean something to LaTeX; a line without one is its own text."""
_ARXIV_DOI = "10.48550/arxiv."
_FORMS = {
    "doi": (re.compile(r"10\.\d{4,9}/\S+"), "10.48550/arXiv.1703.01365"),
    "arxiv": (re.compile(r"\d{4}\.\d{4,5}(v\d+)?|[a-z-]+(\.[A-Z]{2})?/\d{7}(v\d+)?"), "1703.01365"),
    "url": (re.compile(r"https?://[^\s<>\"'`\\]+"), "https://example.org/paper"),
}


@dataclass(frozen=True)
class Reference:
    """One work.

    Attributes:
        key: Its key in ``references.bib``.
        authors: Names as they are written, given name first.
        surnames: The family names alone.
        title: Its title.
        venue: Where it appeared; empty where the entry does not say.
        year: When.
        doi: Its DOI; empty where it has none.
        arxiv: Its arXiv id; empty where it has none.
        url: Its web address; empty where none is given.
    """

    key: str
    authors: tuple[str, ...]
    surnames: tuple[str, ...]
    title: str
    venue: str
    year: str
    doi: str = ""
    arxiv: str = ""
    url: str = ""

    @property
    def link(self) -> str:
        """The best web address: by DOI, by arXiv id, or as given; empty where there is none."""
        if self.doi:
            return f"https://doi.org/{self.doi}"
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else self.url

    @property
    def short(self) -> str:
        """For the running text: ``Sundararajan et al. 2017``."""
        if len(self.surnames) > 2:  # noqa: PLR2004  (one name, two names, or "et al.")
            return f"{self.surnames[0]} et al. {self.year}"
        return f"{' and '.join(self.surnames)} {self.year}"

    def format(self) -> str:
        """For a list of references: authors, title, venue, year, and where it is identified."""
        names = self.authors[:_MOST_AUTHORS]
        if len(self.authors) > _MOST_AUTHORS:
            authors = f"{', '.join(names)} et al"
        else:
            authors = " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
        parts = [authors, self.title, ", ".join(part for part in (self.venue, self.year) if part)]
        if self.doi:
            parts.append(f"doi:{self.doi}")
        elif self.arxiv:
            parts.append(f"arXiv:{self.arxiv}")
        return " ".join(part if part.endswith((".", "?", "!")) else f"{part}." for part in parts)


def read_bibliography(path: Path) -> dict[str, Reference]:
    """Read a BibTeX file.

    Args:
        path: The file.

    Raises:
        DocumentError: It is missing or is no BibTeX, an entry lacks its author, title or year, or an identifier has a
            wrong form; every problem is listed.
    """
    from bibtexparser.entrypoint import parse_string
    from bibtexparser.middlewares import SeparateCoAuthors, SplitNameParts

    text = decode(path, read_bytes(path))
    library = parse_string(text, append_middleware=[SeparateCoAuthors(), SplitNameParts()])
    problems = [
        Problem(path, (block.start_line or 0) + 1, 1, "", f"not valid BibTeX: {' '.join(str(block.error).split())}")
        for block in library.failed_blocks
    ]
    references: dict[str, Reference] = {}
    for entry in library.entries:
        fields = {field.key.lower(): field.value for field in entry.fields}
        reference = _reference(entry.key, fields)
        line = (entry.start_line or 0) + 1
        problems += [Problem(path, line, 1, reference.key, message) for message in _wrong(reference)]
        references[reference.key] = reference
    if problems:
        raise DocumentError(sorted(problems, key=lambda problem: problem.line))
    return references


def _reference(key: str, fields: Mapping[str, Any]) -> Reference:
    people = fields.get("author") or fields.get("editor") or []
    archived = str(fields.get("archiveprefix", "")).lower() == "arxiv"
    doi = _one_line(fields.get("doi")).removeprefix("https://doi.org/")
    arxiv = _one_line(fields.get("arxiv") or (fields.get("eprint") if archived else ""))
    if not arxiv and doi.lower().startswith(_ARXIV_DOI):
        arxiv = doi[len(_ARXIV_DOI) :]
    venue = next((_text(fields[name]) for name in _VENUES if fields.get(name)), "arXiv" if arxiv else "")
    return Reference(
        key=key,
        authors=tuple(_text(" ".join([*name.first, *name.von, *name.last, *name.jr])) for name in people),
        surnames=tuple(_text(" ".join([*name.von, *name.last])) for name in people),
        title=_text(fields.get("title")),
        venue=venue,
        year=_one_line(fields.get("year") or fields.get("date"))[:4],
        doi=doi,
        arxiv=arxiv,
        url=_one_line(fields.get("url")),
    )


def _wrong(reference: Reference) -> Iterator[str]:
    for name, value in (("author", reference.authors), ("title", reference.title), ("year", reference.year)):
        if not value:
            yield f"has no {name}: add it"
    for name, (form, example) in _FORMS.items():
        value = getattr(reference, name)
        if value and not form.fullmatch(value):
            yield f'{name} "{value}" is not of the form {example}'


def _text(value: object) -> str:
    r"""LaTeX to letters: ``M{\"u}ller`` is Müller; mathematics stays between dollar signs."""
    line = _one_line(value)
    if not _LATEX.search(line):
        return line
    reader, context = _latex()
    return _one_line(reader.latex_to_text(line, latex_context=context))


@cache
def _latex() -> tuple[Any, Any]:
    """What reads LaTeX, and the macros that it knows: dear to make."""
    from pylatexenc.latex2text import LatexNodes2Text
    from pylatexenc.latexwalker import get_default_latex_context_db

    return LatexNodes2Text(math_mode="verbatim"), get_default_latex_context_db()


def _one_line(value: object) -> str:
    return " ".join(str(value or "").split())

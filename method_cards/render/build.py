"""Build the site of a project: with MkDocs, or as plain Markdown for another generator."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from method_cards.document import whole
from method_cards.errors import InputError
from method_cards.render import board, site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from method_cards.project import Project

CACHE = Path(".cache/method-cards/figures")
"""The folder that keeps drawings, within a project."""


def source_of(project: Project, *, directory_urls: bool = False, written: frozenset[str] = frozenset()) -> site.Source:
    """What the pages of a project are made from."""
    return site.source_from(
        records=project.records,
        catalog=project.catalog,
        registry=project.registry,
        cache=project.folder / CACHE,
        directory_urls=directory_urls,
        written=written,
        told=project.told,
    )


def write_markdown(project: Project, folder: Path) -> int:
    """Write all pages and their files for any site generator; gives how many files were written.

    Args:
        project: The project.
        folder: Where they go. Other files there are left alone, but for pages that ask for the board: it is filled in.
    """
    source = source_of(project)
    made = site.build(source)
    files = {**{path: text.encode() for path, text in made.pages.items()}, **made.files, **site.assets()}
    try:
        for path, content in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        _fill_boards(folder, source)
    except OSError as error:
        raise InputError(f"{error.filename or folder}: cannot be written: {error.strerror}") from error
    return len(files)


def _fill_boards(folder: Path, source: site.Source) -> None:
    """Fill in the board on each page that asks for it."""
    for page in sorted(path for path in folder.rglob("*.md") if path.is_file()):
        if board.MARK.encode() in page.read_bytes():  # pages that do not ask for the board may be in any encoding
            try:
                text = page.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                raise InputError(f"{page}: asks for the board and is not UTF-8 text: save it as UTF-8") from None
            filled = board.fill(text, page.relative_to(folder).as_posix(), source)
            with whole(page.resolve()) as handle:
                handle.write(filled.encode())


def build_site(config: Path, *, strict: bool = True) -> Path:
    """Build the site with MkDocs; gives its folder.

    Args:
        config: ``mkdocs.yml``.
        strict: Whether warnings are errors.

    Raises:
        InputError: There is no such file, or MkDocs cannot build it.
    """
    from mkdocs.commands.build import build
    from mkdocs.exceptions import MkDocsException

    settings = _configured(config, strict=strict)
    try:
        with _told():
            settings.plugins.on_startup(command="build", dirty=False)
            build(settings)
    except (MkDocsException, SystemExit) as error:
        raise InputError(
            f"{config}: the site cannot be built: {error.__cause__ or error.__context__ or error}"
        ) from error
    finally:
        settings.plugins.on_shutdown()
    return Path(settings.site_dir)


def serve_site(config: Path, address: str) -> None:
    """Serve the site, and rebuild it when a page, a card or a record changes.

    Args:
        config: ``mkdocs.yml``.
        address: ``host:port``.
    """
    from mkdocs.commands.serve import serve

    _exists(config)
    os.environ.setdefault("NO_MKDOCS_2_WARNING", "1")
    serve(config_file=str(config), dev_addr=address)


def _configured(config: Path, *, strict: bool) -> Any:
    from mkdocs.config import load_config
    from mkdocs.exceptions import MkDocsException

    _exists(config)
    os.environ.setdefault("NO_MKDOCS_2_WARNING", "1")
    try:
        return load_config(config_file=str(config), strict=strict)
    except MkDocsException as error:
        raise InputError(f"{config}: {error}") from error


@contextmanager
def _told() -> Iterator[None]:
    """Show MkDocs' warnings on standard error: its own command does, and "aborted with 2 warnings" says nothing without them."""
    shown = logging.StreamHandler()
    shown.setLevel(logging.WARNING)
    shown.setFormatter(logging.Formatter("warning: %(message)s"))
    logger = logging.getLogger("mkdocs")
    logger.addHandler(shown)
    try:
        yield
    finally:
        logger.removeHandler(shown)


def _exists(config: Path) -> None:
    if not config.is_file():
        raise InputError(f"{config}: there is no such file; `method-cards init` writes one")

"""The MkDocs plugin: hands the pages that `method_cards.render` makes to MkDocs, and adds nothing of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.config import config_options
from mkdocs.config.base import Config
from mkdocs.exceptions import PluginError
from mkdocs.plugins import BasePlugin, event_priority
from mkdocs.structure.files import File, Files

from method_cards.answers import FILE as ANSWERS
from method_cards.errors import InputError
from method_cards.project import FILE, Project
from method_cards.render import blocks, board, build, site

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.livereload import LiveReloadServer
    from mkdocs.structure.pages import Page


THEME = Path(__file__).parent / "render" / "theme"
"""Templates that stand before those of the theme; a person's own stand before them."""


class Options(Config):  # type: ignore[no-untyped-call]  # MkDocs annotates only parts of itself
    """What ``mkdocs.yml`` may say under ``method-cards``; paths are relative to its folder."""

    project = config_options.Type(str, default="")
    """``method-cards.yaml`` or its folder; by default the folder of ``mkdocs.yml``, where there is one."""
    cards = config_options.ListOfItems(config_options.Type(str), default=[])
    """Folders of cards, for a site without a project."""
    records = config_options.Type(str, default="")
    """The folder that runs are kept in, for a site without a project."""


class MethodCardsPlugin(BasePlugin[Options]):  # type: ignore[no-untyped-call]  # as above
    """Pages of cards, checks and subjects."""

    def on_config(self, config: MkDocsConfig) -> MkDocsConfig:
        """Add the styles and scripts of the pages, none of them from elsewhere, and a page for addresses that lead nowhere."""
        config.theme.dirs.insert(1 if config.theme.custom_dir else 0, str(THEME))
        config.extra_css = [*site.STYLES, *config.extra_css]
        config.extra_javascript = [*site.SCRIPTS, *config.extra_javascript]
        return config

    def on_files(self, files: Files, config: MkDocsConfig) -> Files:
        """Add the pages and their files.

        Raises:
            PluginError: A card, a record or the project is wrong.
        """
        self._blocks: dict[str, list[str]] = {}
        try:
            self._shown = self._source(config, frozenset(files.src_uris))
            made = site.build(self._shown)
        except InputError as error:
            raise PluginError(str(error)) from error
        contents: dict[str, str | bytes] = {**made.pages, **made.files, **site.assets()}
        for path, content in contents.items():
            if path not in files.src_uris:  # a page that a person wrote wins
                files.append(File.generated(config, path, content=content))
                self._blocks[path] = []
        return files

    @event_priority(-100)  # after whatever else changes the page, so that it is the page that is read
    def on_page_markdown(self, markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG002
        """Put the board where a person's page asks for it; keep the HTML of generated pages from being read as Markdown."""
        path = page.file.src_uri
        if path not in self._blocks:
            return board.fill(markdown, path, self._shown)
        markdown, self._blocks[path] = blocks.take_out(markdown)
        return markdown

    @event_priority(100)  # before anything else changes the page
    def on_page_content(self, html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG002
        """Put the HTML of generated pages back."""
        found = self._blocks.pop(page.file.src_uri, None)  # a large site would hold all of it twice
        if not found:
            return html
        page.present_anchor_ids = (page.present_anchor_ids or set()) | blocks.anchors(found)
        return blocks.put_back(html, found)

    def on_serve(self, server: LiveReloadServer, config: MkDocsConfig, builder: object) -> LiveReloadServer:  # noqa: ARG002
        """Rebuild when a card, a record or an answer changes."""
        for path in self._watched(config):
            if path.exists():
                server.watch(str(path))
        return server

    def _project(self, config: MkDocsConfig) -> Path | None:
        path = _root(config) / self.config.project
        file = path / FILE if path.is_dir() else path
        return file if self.config.project or file.is_file() else None

    def _source(self, config: MkDocsConfig, written: frozenset[str]) -> site.Source:
        project = self._project(config)
        if project is not None:
            return build.source_of(Project.load(project), directory_urls=config.use_directory_urls, written=written)
        root = _root(config)
        return site.source_from(
            [root / folder for folder in self.config.cards],
            root / self.config.records if self.config.records else None,
            cache=root / build.CACHE,
            directory_urls=config.use_directory_urls,
            written=written,
        )

    def _watched(self, config: MkDocsConfig) -> list[Path]:
        project = self._project(config)
        if project is None:
            return [_root(config) / folder for folder in (*self.config.cards, self.config.records) if folder]
        loaded = Project.load(project)
        beside = loaded.folder / ANSWERS
        return [loaded.records, *([beside] if beside.is_file() else []), *{card.folder for card in loaded.catalog}]


def _root(config: MkDocsConfig) -> Path:
    return Path(config.config_file_path or "mkdocs.yml").resolve().parent

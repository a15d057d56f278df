"""Where cards are found: the bundled ones, those of installed packages, and folders that a person names."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from method_cards.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.resources.abc import Traversable

GROUP = "method_cards.cards"
"""The entry-point group: each entry is a function without arguments that gives a folder."""


@dataclass(frozen=True)
class CardFolder:
    """A folder of families of cards.

    Attributes:
        path: The folder; it holds ``<family>/<card>/card.yaml`` and ``references.bib``.
        origin: Where it comes from: the name of the installed package, or the folder itself.
    """

    path: Path
    origin: str


def bundled_cards() -> Traversable:
    """The folder of the cards that come with this package.

    Raises:
        InputError: The installation lacks it.
    """
    package = files("method_cards")
    checkout = Path(str(package)).parent / "cards"
    for folder in (package / "cards", checkout):
        if folder.is_dir():
            return folder
    raise InputError(f"the bundled cards are missing from {package}: install method-cards again")


def card_folders(extra: Iterable[Path | str] = ()) -> list[CardFolder]:
    """All folders of cards: those of installed packages, by name, then those that a person names.

    Args:
        extra: Folders of the person's own.

    Raises:
        InputError: A package's entry point does not give a folder; the message names the package.
    """
    points = sorted(entry_points(group=GROUP), key=lambda point: (_package(point), point.name))
    return [*map(_installed, points), *(CardFolder(Path(folder), str(folder)) for folder in extra)]


def _installed(point: EntryPoint) -> CardFolder:
    where = f'the package {_package(point)} names cards by the entry point "{point.name}" ({point.value})'
    try:
        folder = point.load()()
    except Exception as error:
        raise InputError(f"{where}, which failed: {type(error).__name__}: {error}") from error
    if not isinstance(folder, Path | str) or not Path(folder).is_dir():
        raise InputError(f"{where}, which gives {folder!r}, not a folder: the entry must be a function that gives one")
    return CardFolder(Path(folder), _package(point))


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else ""

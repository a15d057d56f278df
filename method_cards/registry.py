"""Find checks. Bundled ones and those of other packages come in through the same door: the entry-point group ``method_cards.checks``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from method_cards import load
from method_cards.check import Check
from method_cards.errors import InputError, did_you_mean

GROUP = "method_cards.checks"


@dataclass(frozen=True)
class Entry:
    """An installed check that need not be imported yet.

    Attributes:
        id: ``family/name``.
        value: ``package.module:Class``.
        distribution: The package it came from, with its version.
    """

    id: str
    value: str
    distribution: str

    @property
    def family(self) -> str:
        """The part before the slash."""
        return self.id.partition("/")[0]

    def load(self) -> type[Check]:
        """Import the class; for a file (``path.py:Class``) its path must be absolute.

        Raises:
            InputError: It cannot be imported, is no check, or calls itself by another id.
        """
        try:
            found = load.attribute(self.value, Path())
        except InputError as error:
            raise InputError(f'check "{self.id}" of {self.distribution} cannot be loaded: {error}') from error
        if not (isinstance(found, type) and issubclass(found, Check)):
            raise InputError(
                f'check "{self.id}" of {self.distribution}: {self.value} is not a subclass of method_cards.Check'
            )
        own = getattr(found, "id", "")
        if own != self.id:
            raise InputError(
                f'check "{self.id}" of {self.distribution}: {self.value} calls itself "{own}"; both must be the same'
            )
        return found


class Registry:
    """All checks by id.

    Args:
        entries: What is registered.

    Raises:
        InputError: Two entries have one id.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries: dict[str, Entry] = {}
        for entry in entries:
            other = self._entries.get(entry.id)
            if other is not None and other != entry:
                raise InputError(
                    f'check "{entry.id}" is registered twice: by {other.distribution} and by {entry.distribution}'
                )
            self._entries[entry.id] = entry

    @classmethod
    def installed(cls, extra: Iterable[str] = (), folder: Path = Path()) -> Registry:
        """The checks of all installed packages.

        Args:
            extra: More checks as ``path.py:Class`` or ``package.module:Class``, for code that is not packaged.
            folder: The folder that paths are relative to.
        """
        found = [Entry(point.name, point.value, _distribution(point)) for point in entry_points(group=GROUP)]
        return cls([*found, *(_unpackaged(value, folder) for value in extra)])

    def __iter__(self) -> Iterator[Entry]:
        return iter(sorted(self._entries.values(), key=lambda entry: entry.id))

    def __len__(self) -> int:
        return len(self._entries)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """All ids in order."""
        return tuple(sorted(self._entries))

    def get(self, check: str) -> Entry:
        """The entry of this id.

        Raises:
            InputError: There is none.
        """
        if check not in self._entries:
            raise InputError(f'no check is called "{check}".{did_you_mean(check, self.ids)}')
        return self._entries[check]


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "an unknown package"


def _unpackaged(value: str, folder: Path) -> Entry:
    found = load.attribute(value, folder)
    if not (isinstance(found, type) and issubclass(found, Check)):
        raise InputError(f"{value} is not a subclass of method_cards.Check")
    if not isinstance(getattr(found, "id", None), str):
        raise InputError(f'{value} has no id: give the class `id: ClassVar[str] = "family/name"`')
    source, _, name = value.rpartition(":")
    absolute = f"{(folder / source).resolve()}:{name}" if source.endswith(".py") else value
    return Entry(found.id, absolute, f"{source}, not packaged")

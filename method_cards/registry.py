"""Find checks. Bundled ones and those of other packages come in through the same door: the entry-point group ``method_cards.checks``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from method_cards import load
from method_cards.check import Check
from method_cards.errors import InputError, did_you_mean
from method_cards.measurement import Quantity

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
            raise InputError(f"{self} cannot be loaded: {error}") from error
        check = _whole(found, f"{self}: {self.value}")
        own = getattr(check, "id", "")
        if own != self.id:
            raise InputError(f'{self}: {self.value} calls itself "{own}"; both must be the same')
        return check

    def made(self, parameters: Mapping[str, Any]) -> Check:
        """The check with these parameters.

        Raises:
            ValidationError: A parameter is unknown or out of range.
            InputError: It cannot be loaded, or its own code fails.
        """
        kind = self.load()
        try:
            return kind.model_validate(parameters)
        except ValidationError:
            raise
        except Exception as error:
            raise InputError(
                f"{self}: {self.value} cannot be made with the parameters {dict(parameters)}: {type(error).__name__}: {error}"
            ) from error

    def __str__(self) -> str:
        return f'check "{self.id}" of {self.distribution}'


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


def _whole(found: object, name: str) -> type[Check]:
    """The class, when it is a check to which nothing is missing.

    Raises:
        InputError: It is none.
    """
    if not (isinstance(found, type) and issubclass(found, Check)):
        raise InputError(f"{name} is not a subclass of method_cards.Check")
    if missing := sorted(found.__abstractmethods__):
        raise InputError(f"{name} is not complete: write its {', '.join(missing)}")
    quantities = getattr(found, "quantities", None)
    if not (isinstance(quantities, tuple) and all(isinstance(item, Quantity) for item in quantities)):
        raise InputError(
            f"{name} does not say what it measures: give the class `quantities`, a tuple of method_cards.Quantity"
        )
    return found


def _unpackaged(value: str, folder: Path) -> Entry:
    found = _whole(load.attribute(value, folder), value)
    if not isinstance(getattr(found, "id", None), str):
        raise InputError(f'{value} has no id: give the class `id: ClassVar[str] = "family/name"`')
    source, _, name = value.rpartition(":")
    absolute = f"{(folder / source).resolve()}:{name}" if source.endswith(".py") else value
    return Entry(found.id, absolute, f"{source}, not packaged")

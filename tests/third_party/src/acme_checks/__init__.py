"""Acme's checks and cards."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable


def cards() -> Traversable:
    """The folder of Acme's cards."""
    return files("acme_checks") / "cards"

"""torch, loaded when it is first used.

Listing checks, validating a card and building pages read the parameters and docstrings of check classes, and must not
wait seconds for torch. Bundled checks therefore write ``from method_cards.lazy import torch`` where they would write
``import torch``; type checkers see the real module. A check that imports torch directly works just as well, and only makes
those commands slower.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch as torch  # noqa: PLC0414  (re-exported under its own name)
else:
    import importlib
    from types import ModuleType

    class _Torch(ModuleType):
        """A stand-in that becomes a mirror of torch at the first look-up, at no cost for later ones."""

        def __getattr__(self, name: str) -> Any:
            value = getattr(importlib.import_module("torch"), name)
            setattr(self, name, value)
            return value

    torch = _Torch("torch")

__all__ = ["torch"]

"""How an object of this package shows itself in a notebook: the one door from what is shown to what shows it.

Cards, verdicts, records and measurements lie below the pages that draw them, and know nothing of HTML. Each takes `mimebundle` as its
``_repr_mimebundle_``; `method_cards.render.bundle` is loaded when something is shown for the first time.
"""

from __future__ import annotations

from importlib import import_module


def mimebundle(thing: object, include: object = None, exclude: object = None) -> dict[str, str]:  # noqa: ARG001  (a notebook's protocol)
    """What a notebook shows of an object: by media type, HTML, Markdown and text, of which it takes what it likes best."""
    found: dict[str, str] = import_module("method_cards.render.bundle").bundle(thing)
    return found


def text(thing: object) -> str:
    """What a terminal shows of an object."""
    return mimebundle(thing)["text/plain"]

"""The page of one check: what it claims and measures, its parameters, and how often it is right."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from method_cards.render.page import Links, render
from method_cards.render.parameters import parameters
from method_cards.render.source import Rates

if TYPE_CHECKING:
    from method_cards.catalog import LoadedCard
    from method_cards.measurement import Quantity
    from method_cards.registry import Entry
    from method_cards.render.source import Source


@dataclass(frozen=True)
class Use:
    """A prescription that the check verifies, with its error rates."""

    loaded: LoadedCard
    slug: str
    rates: Rates


def check_page(entry: Entry, source: Source) -> str:
    """The page of a check as Markdown."""
    found = source.check(entry.id)
    links = Links(f"checks/{entry.id}.md", directory_urls=source.directory_urls)
    uses = [Use(loaded, slug, source.calibration(loaded, slug)) for loaded, slug, _ in source.users(entry.id)]
    if isinstance(found, str):
        return render("broken_check.md.jinja", entry=entry, cause=found, uses=uses, links=links)
    return render(
        "check.md.jinja",
        entry=entry,
        check=found,
        claim=found.page().claim,
        sections={name: cited(text, source) for name, text in found.page().sections.items()},
        parameters=parameters(found.model_json_schema()),
        quantities=[(quantity, spread(quantity)) for quantity in found.quantities],
        uses=uses,
        links=links,
        kinds={"defect": "has the defect", "sound": "is sound", "confounded": "allows no verdict"},
    )


def cited(text: str, source: Source) -> str:
    """Text in which keys of the bibliography become author and year, with a link."""

    def mark(found: re.Match[str]) -> str:
        work = source.catalog.references.get(found[0])
        if work is None:
            return found[0]
        return f"[{work.short}]({work.link})" if work.link else work.short

    return re.sub(r"[A-Za-z][A-Za-z0-9_:+-]*[A-Za-z0-9]", mark, text)


def spread(quantity: Quantity) -> str:
    """The range of a quantity for people."""
    low, high = quantity.range
    if math.isinf(low) and math.isinf(high):
        return "any number"
    if math.isinf(high):
        return f"from {low:g}"
    return f"up to {high:g}" if math.isinf(low) else f"{low:g} to {high:g}"

"""The page of one check: what it claims and measures, its parameters, how often it is right, and what that looks like on its controls."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from method_cards.render import words
from method_cards.render.needs import needs
from method_cards.render.page import Links, render
from method_cards.render.parameters import Parameter, parameters
from method_cards.render.results import FIGURES
from method_cards.render.sources import besides, cited, works
from method_cards.render.summary import check_title
from method_cards.render.trust import Trust, trusts

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

    from method_cards.card import Criterion
    from method_cards.measurement import Quantity
    from method_cards.registry import Entry
    from method_cards.render.source import Source

BEFORE = ("What it measures", "Assumptions", "Cost", "Departures from the paper")
"""Sections of the docstring that stand before the parameters."""

MOST = 12
"""So many prescriptions are shown with all that is known of them; cards of a large library are named in a line each."""

NAMED = 200
"""So many more are named."""

KINDS = {"defect": "has the defect", "sound": "is sound", "confounded": "allows no verdict"}
JUDGED_BY = {"exact": "its value", "mean": "the mean", "proportion": "the share of ones", "auc": "the AUC"}


@dataclass(frozen=True)
class Binding:
    """How to bind the check in a card: with all its defaults.

    Attributes:
        yaml: A prescription's ``check:``.
        of: The prescription whose criteria are shown; empty where no card uses the check.
    """

    yaml: str
    of: str


def check_page(entry: Entry, source: Source, files: MutableMapping[str, bytes]) -> str:
    """The page of a check as Markdown.

    Args:
        entry: The check.
        source: What pages are made from.
        files: Takes the pictures that the page shows.
    """
    found = source.check(entry.id)
    links = Links(f"checks/{entry.id}.md", directory_urls=source.directory_urls)
    every = trusts(entry.id, source)
    if isinstance(found, str):
        return render("broken_check.md.jinja", entry=entry, cause=found, trusts=every[:NAMED], links=links)
    shown, others = parted(every)
    page = found.page()
    references = source.catalog.references
    listed = parameters(found.model_json_schema())
    for trust in shown:
        for side in trust.sides:
            files.update({f"{FIGURES}/{sheet.name}": sheet.png for sheet in side.sheets})
    return render(
        "check.md.jinja",
        entry=entry,
        check=found,
        title=check_title(found),
        claim=page.claim,
        needed=needs(found),
        sections={name: cited(page.sections[name], references) for name in BEFORE if name in page.sections},
        works=list(works(page.sections.get("Sources", ""), references)),
        other_sources=cited(besides(page.sections.get("Sources", ""), references), references),
        parameters=listed,
        guides={item.guide for item in listed if item.guide in source.written},
        quantities=[(quantity, spread(quantity)) for quantity in found.quantities],
        bounded=list(dict.fromkeys(item.measurement for one in shown for item in one.binding.criteria)),
        trusts=shown,
        others=others[:NAMED],
        unnamed=len(others[NAMED:]),
        several_cards=len({trust.loaded.card.id for trust in shown}) > 1,
        binding=binding(entry.id, listed, found.gates, shown),
        links=links,
        kinds=KINDS,
        judged_by=JUDGED_BY,
        figure_folder=FIGURES,
    )


def parted(every: Sequence[Trust]) -> tuple[Sequence[Trust], Sequence[Trust]]:
    """The prescriptions that are shown in full, those whose error rates are known first, and the others."""
    if len(every) <= MOST:
        return every, ()
    ordered = sorted(every, key=lambda trust: not trust.is_known)
    return ordered[:MOST], ordered[MOST:]


def binding(check: str, listed: Sequence[Parameter], gates: Sequence[str], shown: Sequence[Trust]) -> Binding:
    """A prescription's ``check:`` with every default, and the criteria of the first card that uses it."""
    lines = ["check:", f"  id: {check}"]
    given = [item for item in listed if not item.is_required and item.default is not None]
    needed = [item for item in listed if item.is_required]
    if given or needed:
        lines.append("  with:")
        lines += [f"    {item.name}: …  # required" for item in needed]
        lines += [f"    {item.name}: {_yaml(item.default)}" for item in given]
    first = next(iter(shown), None)
    if first is not None:
        lines += _criteria("criteria", first.binding.criteria)
        lines += _criteria("valid_if", first.binding.valid_if)
    else:
        lines += ["  criteria: …"]
        lines += [f"  valid_if: …  # must bound {', '.join(gates)}"] if gates else []
    return Binding("\n".join(lines), "" if first is None else first.name)


def spread(quantity: Quantity) -> str:
    """The range of a quantity for people."""
    low, high = quantity.range
    if math.isinf(low) and math.isinf(high):
        return "any number"
    if math.isinf(high):
        return f"from {low:g}"
    return f"up to {high:g}" if math.isinf(low) else f"{low:g} to {high:g}"


def _criteria(name: str, criteria: Sequence[Criterion]) -> list[str]:
    lines = [f"  {name}:"] if criteria else []
    for criterion in criteria:
        bound = criterion.model_dump(
            mode="json", include={"where", "at_most", "at_least", "between", "confidence"}, exclude_defaults=True
        )
        lines += [f"    - claim: {_yaml(criterion.claim)}", f"      measurement: {criterion.measurement}"]
        lines += [f"      {key}: {_yaml(value)}" for key, value in bound.items()]
        lines += ["      source: {note: …}  # where the bound comes from"]
    return lines


def _yaml(value: object) -> str:
    """A value as it stands in YAML."""
    if isinstance(value, str):
        is_plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_ ./-]*", value) and value not in (
            "true",
            "false",
            "yes",
            "no",
            "null",
        )
        return value if is_plain else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    return words.value(value)

"""The page of one explainer: what every check found on every model, with numbers."""

from __future__ import annotations

import html
import inspect
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from chosen import parameters

from method_cards.catalog import Catalog
from method_checks.attribution.explainers import METHODS

Entry = dict[str, Any]

SECTIONS = (
    ("Failed", ("failed",), "The measured interval lies outside the bound of the card."),
    (
        "No verdict",
        ("inconclusive", "invalid"),
        "Inconclusive: the interval straddles the bound. Invalid: a condition of the check does not hold, so its number means nothing.",
    ),
    ("Passed", ("passed",), "The check has found no fault of the kind that it looks for."),
)

MARKS = {"failed": "✗", "inconclusive": "~", "invalid": "⊘", "passed": "✓"}


def explainer_page(name: str, entries: Sequence[Entry], models: Mapping[str, str]) -> str:
    """The page as Markdown."""
    what = (inspect.getdoc(METHODS[name]) or "").partition("\n")[0]
    parts = [
        f"---\ntitle: {name}\nhide: [navigation]\n---\n",
        f"# {name}: what is known about it\n",
        f"{what} [Parameters and sources](../../guide/explainers.md#{name}) · [all explainers](../explainers.md)\n",
        *counts(entries, models),
    ]
    for title, outcomes, meaning in SECTIONS:
        own = [entry for entry in entries if entry["outcome"] in outcomes]
        if own:
            parts += [f"## {title}\n", f"{meaning}\n", table(own, models), ""]
    return "\n".join([*parts, *unmeasured(entries, models), *elsewhere(entries)]).rstrip() + "\n"


def counts(entries: Sequence[Entry], models: Mapping[str, str]) -> list[str]:
    """How many prescriptions came out how, on each model; or why none did."""
    if all(entry["outcome"] == "not_applicable" for entry in entries):
        [(reason, _)] = Counter(entry["reason"] for entry in entries).most_common(1)
        return [f"None of the four models can be explained by it: {_safe(short(reason))}.\n"]
    lines = [
        "Verdicts with the bounds of the cards, on 128 examples unless a card asks for more:\n",
        "| model | failed | no verdict | passed |",
        "| --- | ---: | ---: | ---: |",
    ]
    for model, title in models.items():
        found = [entry["outcome"] for entry in entries if entry["model"] == model]
        if found:
            open_ = sum(found.count(outcome) for outcome in ("inconclusive", "invalid", "errored"))
            lines.append(f"| {title} | {found.count('failed')} | {open_} | {found.count('passed')} |")
    return [*lines, "", *not_by_default(entries[0]["explainer"], models)]


def not_by_default(explainer: str, models: Mapping[str, str]) -> list[str]:
    """With which parameters it was measured on a model, where these are not the defaults."""
    where: dict[str, list[str]] = {}
    for model, title in models.items():
        if given := parameters(model, explainer):
            told = ", ".join(f"`{key}: {value}`" for key, value in given.items())
            where.setdefault(told, []).append(f"{title[0].lower()}{title[1:]}")
    return [
        f"Parameters that are not the defaults: {told}{'' if len(titles) == len(models) else ' on ' + '; '.join(titles)}.\n"
        for told, titles in where.items()
    ]


def table(entries: Sequence[Entry], models: Mapping[str, str]) -> str:
    """A row for each prescription, with a line for each model."""
    lines = ["| what the card demands | measured |", "| --- | --- |"]
    rows: dict[tuple[str, str], list[Entry]] = {}
    for entry in sorted(entries, key=lambda entry: (entry["check"], list(models).index(entry["model"]))):
        rows.setdefault((entry["check"], entry["prescription"]), []).append(entry)
    for (_, prescription), found in rows.items():
        told = "<br>".join(f"{MARKS[entry['outcome']]} **{entry['model']}** {numbers(entry)}" for entry in found)
        lines.append(f"| {demanded(prescription)} | {told} |")
    return "\n".join(lines)


def demanded(prescription: str) -> str:
    """A prescription's name and statement, with a link to all about it."""
    card, _, slug = prescription.partition("/")
    statement = _statements()[prescription]
    return f"[{slug.replace('-', ' ')}](../../cards/{card}.md#{slug})<br><small>{_safe(statement)}</small>"


@cache
def _statements() -> dict[str, str]:
    cards = [loaded.card for loaded in Catalog.installed()]
    return {f"{card.id}/{item.id}": item.statement for card in cards for item in card.prescriptions}


def numbers(entry: Entry) -> str:
    """What decided it: the criteria, those that did not hold first, or the reason."""
    criteria = [criterion for criterion in entry["criteria"] if criterion["interval"] is not None]
    if entry["outcome"] in ("failed", "invalid", "inconclusive"):
        decisive = [criterion for criterion in criteria if criterion["outcome"] != "passed"]
        criteria = decisive or criteria
    return " · ".join(map(number, criteria)) or _safe(short(entry["reason"]))


def number(criterion: Entry) -> str:
    """A criterion on one line."""
    estimate, low, high = criterion["interval"]
    where = " ".join(str(value) for value in criterion["where"].values())
    spread = f" ({low:.3g} to {high:.3g})" if low < high else ""
    bound = criterion["bound"].replace(" ", "&nbsp;")
    return f"`{criterion['measurement']}`{f' {where}' if where else ''} {estimate:.3g}{spread}, bound {bound}"


def unmeasured(entries: Iterable[Entry], models: Mapping[str, str]) -> list[str]:
    """Why some prescriptions have no verdict."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for entry in entries:
        if entry["outcome"] == "errored":
            slug = entry["prescription"].partition("/")[2].replace("-", " ")
            reasons.setdefault(short(entry["reason"]), {}).setdefault(models[entry["model"]], []).append(slug)
    if not reasons:
        return []
    lines = ["## Could not be measured\n"]
    for reason, found in sorted(reasons.items()):
        lines += [f"{_safe(reason)}:\n", *(f"- {model}: {', '.join(slugs)}" for model, slugs in found.items()), ""]
    return lines


def elsewhere(entries: Iterable[Entry]) -> list[str]:
    """Which prescriptions apply on no model."""
    outcomes: dict[str, set[str]] = {}
    for entry in entries:
        outcomes.setdefault(entry["prescription"], set()).add(entry["outcome"])
    names = [
        f"[{name.partition('/')[2].replace('-', ' ')}](../../cards/{name.partition('/')[0]}.md#{name.partition('/')[2]})"
        for name, found in sorted(outcomes.items())
        if found == {"not_applicable"}
    ]
    return ["## Applies to none of these models\n", f"{', '.join(names)}.", ""] if names else []


def short(reason: str) -> str:
    """Why nothing could be measured, in one sentence."""
    told = " ".join(reason.removeprefix("The check could not measure: ").split())
    return re.split(r"[;.] ", told)[0].rstrip(".")


def _safe(text: str) -> str:
    """Text in a cell of a table."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", "&#124;")

"""The page of one explainer: what every check found on every model, with numbers."""

from __future__ import annotations

import html
import inspect
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import names
from chosen import parameters
from names import MODELS

from method_checks.attribution.explainers import METHODS

Entry = dict[str, Any]

SECTIONS = (
    ("Failed", ("failed",), "The measured interval lies outside what the card allows."),
    (
        "No verdict",
        ("inconclusive", "invalid"),
        "Inconclusive (~): the interval straddles the bound. Invalid (⊘): a condition does not hold, so the number means nothing.",
    ),
    ("Passed", ("passed",), "The check has found no fault of the kind that it looks for."),
)

MARKS = {"failed": "✗", "inconclusive": "~", "invalid": "⊘", "passed": "✓"}


def explainer_page(name: str, entries: Sequence[Entry]) -> str:
    """The page as Markdown."""
    what = (inspect.getdoc(METHODS[name]) or "").partition("\n")[0]
    title = names.explainer(name)
    parts = [
        f"---\ntitle: {title}\nhide: [navigation]\n---\n",
        f"# {title}: what is known about it\n",
        f"{what} [Parameters and sources](../../guide/explainers.md#{name}) · [all explainers](../explainers.md)\n",
        *counts(entries),
    ]
    for title, outcomes, meaning in SECTIONS:
        own = [entry for entry in entries if entry["outcome"] in outcomes]
        if own:
            parts += [f"## {title}\n", f"{meaning}\n", table(own), ""]
    return "\n".join([*parts, *unmeasured(entries), *elsewhere(entries)]).rstrip() + "\n"


def counts(entries: Sequence[Entry]) -> list[str]:
    """How many prescriptions came out how, on each model; or why none did."""
    if all(entry["outcome"] == "not_applicable" for entry in entries):
        [(reason, _)] = Counter(entry["reason"] for entry in entries).most_common(1)
        return [f"None of the four models can be explained by it: {_safe(short(reason))}.\n"]
    lines = [
        "Verdicts with the bounds of the cards, on 128 examples unless a card asks for more:\n",
        "| model | failed | no verdict | passed |",
        "| --- | ---: | ---: | ---: |",
    ]
    for model, title in MODELS.items():
        found = [entry["outcome"] for entry in entries if entry["model"] == model]
        if found:
            open_ = sum(found.count(outcome) for outcome in ("inconclusive", "invalid", "errored"))
            lines.append(f"| {title} | {found.count('failed')} | {open_} | {found.count('passed')} |")
    return [*lines, "", *not_by_default(entries[0]["explainer"])]


def not_by_default(explainer: str) -> list[str]:
    """With which parameters it was measured on a model, where these are not the defaults."""
    where: dict[str, list[str]] = {}
    for model in MODELS:
        if given := parameters(model, explainer):
            told = ", ".join(f"`{key}: {value}`" for key, value in given.items())
            where.setdefault(told, []).append(names.model(model))
    return [
        f"Parameters that are not the defaults: {told}{'' if len(titles) == len(MODELS) else ' on ' + '; '.join(titles)}.\n"
        for told, titles in where.items()
    ]


def table(entries: Sequence[Entry]) -> str:
    """A row for each prescription, with a line for each model."""
    lines = [
        '<div class="mc-found"><table>',
        '<thead><tr><th scope="col">What the card demands</th><th scope="col">Measured</th></tr></thead><tbody>',
    ]
    rows: dict[tuple[str, str], list[Entry]] = {}
    for entry in sorted(entries, key=lambda entry: (entry["check"], list(MODELS).index(entry["model"]))):
        rows.setdefault((entry["check"], entry["prescription"]), []).append(entry)
    for (_, prescription), found in rows.items():
        told = "".join(
            f"<p>{MARKS[entry['outcome']]} {MODELS[entry['model']]}<br><span>{numbers(entry)}</span></p>"
            for entry in found
        )
        lines.append(f"<tr><td>{demanded(prescription)}</td><td>{told}</td></tr>")
    return "\n".join([*lines, "</tbody></table></div>"])


def demanded(prescription: str) -> str:
    """A prescription's name and statement, with a link to all about it."""
    link = f'<a href="../../{names.place(prescription)}">{_safe(names.heading(prescription))}</a>'
    return f"{link}<br><span>{_safe(names.prescriptions()[prescription].statement)}</span>"


def numbers(entry: Entry) -> str:
    """What decided it: the criteria, those that did not hold first, or the reason."""
    criteria = [criterion for criterion in entry["criteria"] if criterion["interval"] is not None]
    if entry["outcome"] in ("failed", "invalid", "inconclusive"):
        decisive = [criterion for criterion in criteria if criterion["outcome"] != "passed"]
        criteria = decisive or criteria
    return "; ".join(map(number, criteria)) or _safe(short(entry["reason"]))


def number(criterion: Entry) -> str:
    """A criterion on one line."""
    estimate, low, high = criterion["interval"]
    where = " ".join(str(value) for value in criterion["where"].values())
    spread = f" ({_number(low)} to {_number(high)})" if low < high else ""
    bound = html.escape(criterion["bound"]).replace(" ", "&nbsp;")
    name = names.quantity(criterion["measurement"])
    return f"{name}{f' {where}' if where else ''} <b>{_number(estimate)}</b>{spread}, allowed {bound}"


def _number(value: float) -> str:
    return f"{value:.3g}"


def unmeasured(entries: Iterable[Entry]) -> list[str]:
    """Why some prescriptions have no verdict."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for entry in entries:
        if entry["outcome"] == "errored":
            name = names.heading(entry["prescription"])
            reasons.setdefault(short(entry["reason"]), {}).setdefault(MODELS[entry["model"]], []).append(name)
    if not reasons:
        return []
    lines = ["## Could not be measured\n"]
    for reason, found in sorted(reasons.items()):
        lines += [f"{_safe(reason)}:\n", *(f"- {model}: {', '.join(those)}" for model, those in found.items()), ""]
    return lines


def elsewhere(entries: Iterable[Entry]) -> list[str]:
    """Which prescriptions apply on no model."""
    outcomes: dict[str, set[str]] = {}
    for entry in entries:
        outcomes.setdefault(entry["prescription"], set()).add(entry["outcome"])
    idle = [
        f"[{names.heading(name)}](../../{names.place(name).replace('.html', '.md')})"
        for name, found in sorted(outcomes.items())
        if found == {"not_applicable"}
    ]
    return ["## Applies to none of these models\n", f"{', '.join(idle)}.", ""] if idle else []


def short(reason: str) -> str:
    """Why nothing could be measured, in one sentence."""
    told = " ".join(reason.removeprefix("The check could not measure: ").split())
    return re.split(r"[;.] ", told)[0].rstrip(".")


def _safe(text: str) -> str:
    """Text in a cell of a table."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", "&#124;")

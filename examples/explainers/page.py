"""Write the page that shows every explainer against every check: ``python page.py`` turns results.json into Markdown."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from notes import NOTES, NULLS, expected

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
PAGE = HERE.parents[1] / "site" / "evidence" / "explainers.md"

MODELS = {
    "cnn": "A CNN on digits",
    "residual": "A residual CNN with batch norm, on enlarged digits",
    "words": "A text classifier with token embeddings",
    "table": "A network for a table",
}

MARKS = {
    "passed": "✓",
    "failed": "✗",
    "inconclusive": "~",
    "invalid": "⊘",
    "not_applicable": "·",
    "errored": "!",
}

HEAD = """---
hide: [navigation, toc]
---

# Every explainer against every check

Each cell is one run of one check on one model and one explanation method, as `method-cards run` makes it: 128 examples unless the card
asks for more, seed 0, one thread. The bounds are those of the cards; how often each check is right on subjects with a known answer stands
on the page of its card. Made by `python measure.py && python page.py` in `examples/explainers`.

**✓** passed, **✗** failed, **~** inconclusive, **⊘** invalid (a condition of the check does not hold), **·** not applicable,
**!** the check could not measure. Point at a mark to read the numbers. A column of ✓ is no seal: a check that passes has found no fault
of the kind that it looks for.

`edges`, `inputs` and `noise` know nothing of the model. They are here to be found out; what they pass all the same is listed
[below](#what-knows-no-model-and-passes).
"""

NULLS_HEAD = """## What knows no model and passes

No single check refutes every map. How many prescriptions each null explainer fails, passes and leaves without a verdict, and which it
passes, with the reason that the check says nothing against it:
"""

Entry = dict[str, Any]


def page(entries: Sequence[Entry]) -> str:
    """The page as Markdown."""
    parts = [HEAD]
    for model, title in MODELS.items():
        own = [entry for entry in entries if entry["model"] == model and "prescription" in entry]
        if own:
            parts += [f"## {title}\n", table(own), "", *remarks(model, own)]
    every = {entry["explainer"]: None for entry in entries}
    measured = {(entry["model"], entry["explainer"]) for entry in entries}
    waiting = {
        title: [f"`{explainer}`" for explainer in every if (model, explainer) not in measured]
        for model, title in MODELS.items()
    }
    if any(waiting.values()):
        parts.append("## Not measured yet\n")
        parts += [f"- {title}: {', '.join(missing)}" for title, missing in waiting.items() if missing]
        parts.append("")
    parts += [*nulls(entries), *unmeasured(entries)]
    refused = [entry for entry in entries if "refused" in entry]
    if refused:
        parts.append("## What was refused\n")
        parts += [
            f"- `{entry['explainer']}` on `{entry['model']}`: {html.escape(entry['refused'])}" for entry in refused
        ]
    return "\n".join(parts).rstrip() + "\n"


def table(entries: Sequence[Entry]) -> str:
    """One model: a row for each prescription, a column for each explainer."""
    explainers = list(dict.fromkeys(entry["explainer"] for entry in entries))
    rows: dict[tuple[str, str], dict[str, Entry]] = {}
    for entry in sorted(entries, key=lambda entry: entry["check"]):
        rows.setdefault((entry["check"], entry["prescription"]), {})[entry["explainer"]] = entry
    lines = [
        "| prescription | " + " | ".join(f'<span class="mc-turned">{name}</span>' for name in explainers) + " |",
        "| --- |" + " :---: |" * len(explainers),
    ]
    for (check, prescription), cells in rows.items():
        card, _, slug = prescription.partition("/")
        name = f"[{slug.replace('-', ' ')}](../cards/{card}.md#{slug})<br><small>{check.partition('/')[2]}</small>"
        lines.append(f"| {name} | " + " | ".join(cell(cells.get(explainer)) for explainer in explainers) + " |")
    return "\n".join(lines)


def cell(entry: Entry | None) -> str:
    """One mark, with the numbers behind it."""
    if entry is None:
        return ""
    outcome = entry["outcome"]
    if outcome == "not_applicable":
        return f'<span class="mc-cell mc-{outcome}">{MARKS[outcome]}</span>'
    told = f"{entry['explainer']}: {outcome.replace('_', ' ')}. {'; '.join(map(numbers, entry['criteria'])) or entry['reason']}"
    told = html.escape(" ".join(told.split())).replace("|", "&#124;").replace("_", "&#95;").replace("*", "&#42;")
    return (
        f'<span class="mc-cell mc-{outcome}" role="img" aria-label="{outcome}" title="{told}">{MARKS[outcome]}</span>'
    )


def remarks(model: str, own: Sequence[Entry]) -> list[str]:
    """What a reader should know of some rows of a model's table, where the numbers bear it out."""
    found = []
    for note in NOTES:
        row = {
            entry["explainer"]: {
                criterion["measurement"]: criterion["interval"][0]
                for criterion in entry["criteria"]
                if criterion["interval"] is not None
            }
            for entry in own
            if entry["prescription"].endswith(f"/{note.slug}")
        }
        try:
            if note.model == model and note.holds(row):
                found.append(f"- *{note.slug.replace('-', ' ')}*. {note.text.format(**row)}")
        except KeyError:  # not measured
            continue
    return [*found, ""] if found else []


def nulls(entries: Sequence[Entry]) -> list[str]:
    """What explainers that know nothing of the model pass."""
    lines = [
        NULLS_HEAD,
        "| model | explainer | failed | passed | no verdict |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    passed: dict[tuple[str, str], dict[str, list[str]]] = {}
    for model in MODELS:
        for explainer in NULLS:
            own = [entry for entry in entries if (entry["model"], entry["explainer"]) == (model, explainer)]
            outcomes = [entry["outcome"] for entry in own if entry.get("outcome", "not_applicable") != "not_applicable"]
            if not outcomes:
                continue
            counts = outcomes.count("failed"), outcomes.count("passed")
            lines.append(f"| {model} | `{explainer}` | {counts[0]} | {counts[1]} | {len(outcomes) - sum(counts)} |")
            for entry in own:
                if entry["outcome"] == "passed":
                    slug = entry["prescription"].partition("/")[2]
                    reason = expected(entry["check"], slug, explainer) or "**no reason is known: look into it**"
                    passed.setdefault((entry["check"], reason), {}).setdefault(f"`{explainer}`", []).append(model)
    lines += ["", "| check | who passes | why |", "| --- | --- | --- |"]
    for (check, reason), who in sorted(passed.items()):
        told = "; ".join(f"{explainer} ({', '.join(dict.fromkeys(models))})" for explainer, models in who.items())
        lines.append(f"| {check.partition('/')[2]} | {told} | {reason} |")
    return [*lines, ""] if passed else []


def unmeasured(entries: Sequence[Entry]) -> list[str]:
    """Why some cells have no verdict at all."""
    reasons: dict[str, list[str]] = {}
    for entry in entries:
        if entry.get("outcome") == "errored":
            reason = entry["reason"].removeprefix("The check could not measure: ")
            cell = f"`{entry['explainer']}` on {entry['model']}: {entry['check'].partition('/')[2]}"
            reasons.setdefault(reason, []).append(cell)
    if not reasons:
        return []
    told = [f"- {html.escape(reason)} ({'; '.join(dict.fromkeys(cells))})" for reason, cells in sorted(reasons.items())]
    return ["## What could not be measured\n", *told, ""]


def numbers(criterion: Entry) -> str:
    """A criterion on one line."""
    where = " ".join(str(value) for value in criterion["where"].values())
    name = f"{criterion['measurement']}{f' ({where})' if where else ''}"
    if criterion["interval"] is None:
        return f"{name}: {criterion['outcome']}"
    estimate, low, high = criterion["interval"]
    return f"{name} {estimate:.3g} [{low:.3g}, {high:.3g}], bound {criterion['bound']}"


def main() -> None:
    """Write the page."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Write the pages that show every explainer against every check: ``python page.py`` turns results.json into Markdown.

One page has the marks of all explainers; each explainer has a page with its numbers.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from notes import NOTES, NULLS, expected
from one_explainer import explainer_page, short

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
EVIDENCE = HERE.parents[1] / "site" / "evidence"

MODELS = {
    "cnn": "A CNN on digits",
    "residual": "A residual CNN with batch norm, on enlarged digits",
    "words": "A text classifier with token embeddings",
    "table": "A network for a table",
}

WORDS = {
    "passed": "passed",
    "failed": "failed",
    "inconclusive": "inconclusive",
    "invalid": "invalid",
    "not_applicable": "n/a",
    "errored": "errored",
}
"""What stands in a cell, for those who hear the page; the style sheet draws a mark in its place."""

CLASSES = {
    "passed": "",
    "failed": " class=f",
    "inconclusive": " class=o",
    "invalid": " class=i",
    "not_applicable": " class=n",
    "errored": " class=e",
}
"""Of the cells: short, as there are thousands."""

HEAD = """---
hide: [navigation, toc]
---

# Every explainer against every check

Each mark is one run of one check on one model and one explanation method, as `method-cards run` makes it: 128 examples unless the card
asks for more, seed 0, one thread, with the bounds of the cards. Parameters are the defaults, but for those that the page of a method names.
**The name of a method leads to its numbers**; the name of a row leads to what the card demands, and to how often the check is right on
subjects with a known answer.

<ul class="mc-key"><li><i class=p></i> passed<li><i class=f></i> failed<li><i class=o></i> inconclusive
<li><i class=i></i> invalid: a condition of the check does not hold<li><i class=e></i> errored: could not be measured
<li><i class=n></i> not applicable</ul>

A column of ✓ is no seal: a check that passes has found no fault of the kind that it looks for. `edges`, `inputs` and `noise` know
nothing of the model. They are here to be found out; what they pass all the same is listed [below](#what-knows-no-model-and-passes).

Rows that apply to no method on a model are left out. Made by `python measure.py && python page.py` in `examples/explainers`.
"""

NULLS_HEAD = """## What knows no model and passes

No single check refutes every map. How many prescriptions each null explainer fails, passes and leaves without a verdict, and which it
passes, with the reason that the check says nothing against it:
"""

Entry = dict[str, Any]


def pages(entries: Sequence[Entry]) -> dict[str, str]:
    """All pages as Markdown, by their paths in the folder of evidence."""
    explainers = dict.fromkeys(entry["explainer"] for entry in entries)
    every = {
        f"explainers/{name}.md": explainer_page(
            name, [entry for entry in entries if entry["explainer"] == name], MODELS
        )
        for name in explainers
    }
    return {"explainers.md": overview(entries), **every}


def overview(entries: Sequence[Entry]) -> str:
    """The page of all explainers."""
    parts = [HEAD]
    for model, title in MODELS.items():
        own = [entry for entry in entries if entry["model"] == model and "prescription" in entry]
        if own:
            parts += [f"## {title}\n", matrix(own), "", *remarks(model, own)]
    parts += [*waiting(entries), *nulls(entries), *unmeasured(entries)]
    return "\n".join(parts).rstrip() + "\n"


def matrix(entries: Sequence[Entry]) -> str:
    """One model: a row for each prescription that applies to some method, a column for each method that could be run.

    The tags that HTML lets one leave out are left out: this is most of the page.
    """
    columns = [name for name in dict.fromkeys(entry["explainer"] for entry in entries) if _ran(entries, name)]
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for entry in sorted(entries, key=lambda entry: entry["check"]):
        rows.setdefault((entry["check"], entry["prescription"]), {})[entry["explainer"]] = entry["outcome"]
    lines = [
        '<div class="mc-matrix" tabindex="0" role="region" aria-label="Verdicts"><table class=mc-marks>',
        "<thead><tr><td>",
    ]
    lines += [f'<th scope=col><a href="explainers/{name}.html">{name}</a>' for name in columns]
    lines.append("<tbody>")
    for (_, prescription), outcomes in rows.items():
        if all(outcomes.get(name, "not_applicable") == "not_applicable" for name in columns):
            continue
        card, _, slug = prescription.partition("/")
        cells = "".join(cell(outcomes.get(name, "")) for name in columns)
        lines.append(f'<tr><th scope=row><a href="../cards/{card}.html#{slug}">{slug.replace("-", " ")}</a>{cells}')
    return "\n".join([*lines, "</table></div>"])


def _ran(entries: Iterable[Entry], explainer: str) -> bool:
    """Whether a method gave maps at all on a model."""
    return any(
        entry["outcome"] not in ("not_applicable", "errored") for entry in entries if entry["explainer"] == explainer
    )


def cell(outcome: str) -> str:
    """One mark."""
    return f"<td{CLASSES[outcome]}>{WORDS[outcome]}" if outcome else "<td class=m>not measured"


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


def waiting(entries: Sequence[Entry]) -> list[str]:
    """Which pairs of a model and a method have not been measured."""
    every = dict.fromkeys(entry["explainer"] for entry in entries)
    measured = {(entry["model"], entry["explainer"]) for entry in entries}
    missing = {
        title: [f"`{explainer}`" for explainer in every if (model, explainer) not in measured]
        for model, title in MODELS.items()
    }
    told = [f"- {title}: {', '.join(names)}" for title, names in missing.items() if names]
    return ["## Not measured\n", *told, ""] if told else []


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
        lines.append(f"| [{check.partition('/')[2]}](../checks/{check}.md) | {told} | {reason} |")
    return [*lines, ""] if passed else []


def unmeasured(entries: Sequence[Entry]) -> list[str]:
    """Why some cells have no verdict at all, with the methods and models that this concerns."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for entry in entries:
        if entry.get("outcome") == "errored":
            reasons.setdefault(short(entry["reason"]), {}).setdefault(entry["explainer"], []).append(entry["model"])
    if not reasons:
        return []
    told = [f"- {html.escape(reason, quote=False)}: {_who(who)}." for reason, who in sorted(reasons.items())]
    return ["## What could not be measured\n", *told, ""]


def _who(found: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(
        f"[`{explainer}`](explainers/{explainer}.md) ({', '.join(dict.fromkeys(models))})"
        for explainer, models in found.items()
    )


def main() -> None:
    """Write the pages."""
    for path, text in pages(json.loads(RESULTS.read_text(encoding="utf-8"))).items():
        file = EVIDENCE / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

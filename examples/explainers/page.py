"""Write the pages that show every explainer against every check: ``python page.py`` turns results.json into Markdown.

One page has the marks of all explainers; each explainer has a page with its numbers.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import names
from names import MODELS
from notes import NOTES, NULLS, expected
from one_explainer import explainer_page, short

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
EVIDENCE = HERE.parents[1] / "site" / "evidence"

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

A column of ✓ is no seal: a check that passes has found no fault of the kind that it looks for. The edge filter, the input itself and
noise know nothing of the model. They are here to be found out; what they pass all the same is listed
[below](#what-knows-no-model-and-passes).

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
        f"explainers/{name}.md": explainer_page(name, [entry for entry in entries if entry["explainer"] == name])
        for name in explainers
    }
    return {"explainers.md": overview(entries), **every}


def overview(entries: Sequence[Entry]) -> str:
    """The page of all explainers."""
    parts = [HEAD]
    for model, title in MODELS.items():
        own = [entry for entry in entries if entry["model"] == model and "prescription" in entry]
        if own:
            parts += [f"## {title}\n", matrix(own, title), "", *remarks(model, own)]
    parts += [*waiting(entries), *nulls(entries), *unmeasured(entries)]
    return "\n".join(parts).rstrip() + "\n"


def matrix(entries: Sequence[Entry], title: str) -> str:
    """One model: a row for each prescription that applies to some method, a column for each method that could be run.

    The tags that HTML lets one leave out are left out: this is most of the page.
    """
    columns = [name for name in dict.fromkeys(entry["explainer"] for entry in entries) if _ran(entries, name)]
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for entry in sorted(entries, key=lambda entry: entry["check"]):
        rows.setdefault((entry["check"], entry["prescription"]), {})[entry["explainer"]] = entry["outcome"]
    lines = [
        f'<div class="mc-matrix" tabindex="0" role="region" aria-label="{html.escape(title)}: verdicts"><table class=mc-marks>',
        "<thead><tr><td>",
    ]
    lines += [f'<th scope=col><a href="explainers/{name}.html">{names.explainer(name)}</a>' for name in columns]
    lines.append("<tbody>")
    for (_, prescription), outcomes in rows.items():
        if all(outcomes.get(name, "not_applicable") == "not_applicable" for name in columns):
            continue
        cells = "".join(cell(outcomes.get(name, "")) for name in columns)
        row = f'<a href="../{names.place(prescription)}">{names.heading(prescription)}</a>'
        lines.append(f"<tr><th scope=row>{row}{cells}")
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
                name = next(entry["prescription"] for entry in own if entry["prescription"].endswith(f"/{note.slug}"))
                found.append(f"- *{names.heading(name)}*. {note.text.format(**row)}")
        except KeyError:  # not measured
            continue
    return [*found, ""] if found else []


def waiting(entries: Sequence[Entry]) -> list[str]:
    """Which pairs of a model and a method have not been measured."""
    every = dict.fromkeys(entry["explainer"] for entry in entries)
    measured = {(entry["model"], entry["explainer"]) for entry in entries}
    missing = {
        title: [names.explainer(explainer) for explainer in every if (model, explainer) not in measured]
        for model, title in MODELS.items()
    }
    told = [f"- {title}: {', '.join(those)}" for title, those in missing.items() if those]
    return ["## Not measured\n", *told, ""] if told else []


def nulls(entries: Sequence[Entry]) -> list[str]:
    """What explainers that know nothing of the model pass."""
    lines = [
        NULLS_HEAD,
        "| model | explainer | failed | passed | no verdict |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    passed: dict[tuple[str, str], dict[str, list[str]]] = {}
    ran: dict[str, list[str]] = {}
    for model, title in MODELS.items():
        for explainer in NULLS:
            name = names.explainer(explainer)
            own = [entry for entry in entries if (entry["model"], entry["explainer"]) == (model, explainer)]
            outcomes = [entry["outcome"] for entry in own if entry.get("outcome", "not_applicable") != "not_applicable"]
            if not outcomes:
                continue
            ran.setdefault(name, []).append(names.model(model))
            counts = outcomes.count("failed"), outcomes.count("passed")
            lines.append(f"| {title} | {name} | {counts[0]} | {counts[1]} | {len(outcomes) - sum(counts)} |")
            for entry in own:
                if entry["outcome"] == "passed":
                    slug = entry["prescription"].partition("/")[2]
                    reason = expected(entry["check"], slug, explainer) or "**no reason is known: look into it**"
                    passed.setdefault((entry["check"], reason), {}).setdefault(name, []).append(names.model(model))
    lines += ["", "| check | who passes | why |", "| --- | --- | --- |"]
    for (check, reason), who in sorted(passed.items()):
        told = "<br>".join(f"{name}: {_on(list(dict.fromkeys(models)), ran[name])}" for name, models in who.items())
        lines.append(f"| [{names.check(check)}](../checks/{check}.md) | {told} | {reason} |")
    return [*lines, ""] if passed else []


def _on(models: Sequence[str], ran: Sequence[str]) -> str:
    """Some of the models on which a method ran."""
    return "on every model" if len(models) == len(ran) > 1 else "; ".join(f"on {model}" for model in models)


def unmeasured(entries: Iterable[Entry]) -> list[str]:
    """Why some cells have no verdict at all, with the models and methods that this concerns."""
    reasons: dict[str, dict[str, dict[str, None]]] = {}
    for entry in entries:
        if entry.get("outcome") == "errored":
            where = reasons.setdefault(short(entry["reason"]), {}).setdefault(entry["model"], {})
            where[f"[{names.explainer(entry['explainer'])}](explainers/{entry['explainer']}.md)"] = None
    if not reasons:
        return []
    told = [
        f"- {html.escape(reason, quote=False)}: "
        + "; ".join(f"{', '.join(links)} on {names.model(model)}" for model, links in found.items())
        + "."
        for reason, found in sorted(reasons.items())
    ]
    return ["## What could not be measured\n", *told, ""]


def main() -> None:
    """Write the pages."""
    for path, text in pages(json.loads(RESULTS.read_text(encoding="utf-8"))).items():
        file = EVIDENCE / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

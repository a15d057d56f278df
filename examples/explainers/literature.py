"""Write the page that puts what the literature found beside what is measured here: ``python literature.py``.

Every number on it is read from a file that is kept, and whether it agrees is computed from the numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import names
from findings import FINDINGS, Finding
from remembered import REMEMBERED, Remembered

from method_cards.catalog import Catalog

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
TRAININGS = HERE / "trainings.json"
EVIDENCE = HERE.parents[1] / "site" / "evidence"

Interval = tuple[float, float, float]

HEAD = """# What the literature found, re-measured

Findings of papers, in the authors' own terms as far as they could be read, and the same question put to small models here, with seed 0.
Small networks on digits, made-up texts and one table are not ImageNet: agreement says that the check sees what the paper saw, and
disagreement that it depends on the setting.

The papers give no bounds for these measures. What counts as agreement is the *rule*, written for this page. **yes**: it holds wherever the
means lie in their 95 % intervals; **no**: it holds nowhere in them; **open**: the intervals allow both.
"""

MADE = """
Made by `python measure.py && python literature.py` in `examples/explainers`, from the networks of
[every explainer against every check](explainers.md).
"""


def pages(entries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The page as Markdown, by its path in the folder of evidence."""
    explained = [(finding.claim, anchor(finding), *block(finding, entries)) for finding in FINDINGS]
    remembered = [(each.claim, slug(each.claim), *remembered_block(each)) for each in REMEMBERED]
    parts = [HEAD]
    for title, shown in (("Attribution", explained), ("Memorisation", remembered)):
        parts += [f"**{title}**\n", "| finding | agrees |", "| --- | --- |"]
        parts += [f"| [{claim}](#{place}) | {agrees} |" for claim, place, agrees, _ in shown]
        parts.append("")
    for title, shown, foot in (("Attribution", explained, MADE), ("Memorisation", remembered, "")):
        parts.append(f"## {title}\n{foot}")
        parts += [f"### {claim} {{#{place}}}\n\n{text}\n" for claim, place, _, text in shown]
    return {"literature.md": "\n".join(parts).rstrip() + "\n"}


def slug(claim: str) -> str:
    """A claim as the name of a place."""
    return re.sub(r"[^a-z0-9]+", "-", claim.lower()).strip("-")


def remembered_block(finding: Remembered) -> tuple[str, str]:
    """Whether a finding on memorisation agrees, and the table that says so."""
    found = finding.measured()
    agrees = verdict(finding.agrees, found)
    measured = "".join(f"<br>{name}: {shown(interval)}" for name, interval in found.items())
    return agrees, table(
        finding.source,
        agrees=agrees,
        reported=finding.reported,
        measured=finding.quantity + measured,
        rule=finding.rule,
        why=finding.why.get(agrees.strip("*"), ""),
        command=finding.command,
    )


def anchor(finding: Finding) -> str:
    """Where on the page a finding stands."""
    return f"{finding.prescription.partition('/')[2]}-{finding.model}-{finding.measurement.replace('_', '-')}-{finding.explainers[0]}"


def block(finding: Finding, entries: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Whether a finding agrees, and the table that says so."""
    found = {explainer: value_of(entries, finding, explainer) for explainer in finding.explainers}
    there = {explainer: interval for explainer, interval in found.items() if interval is not None}
    agrees = verdict(finding.agrees, there)
    place = names.place(finding.prescription).replace(".html", ".md")
    measured = "".join(
        f"<br>[{names.explainer(explainer)}](explainers/{explainer}.md): {shown(interval)}"
        for explainer, interval in there.items()
    )
    why = finding.why.get(agrees.strip("*"), "")
    return agrees, table(
        finding.source,
        agrees=agrees,
        reported=finding.reported,
        measured=f"[{names.quantity(finding.measurement)}](../{place}) on {names.model(finding.model)}{measured}",
        rule=finding.rule,
        why=why.format(**json.loads(TRAININGS.read_text(encoding="utf-8"))) if why else "",
        command=f"python measure.py --models {finding.model} --explainers {' '.join(finding.explainers)} --only {finding.prescription}",
    )


def table(source: str, *, agrees: str, reported: str, measured: str, rule: str, why: str, command: str) -> str:
    """The table of one finding."""
    work = Catalog.installed().references[source]
    program, _, folder = command.partition(" in ")
    lines = [
        f"| agrees | {agrees} |",
        "| --- | --- |",
        f"| reported | {reported} ([{work.short}]({work.link})) |",
        f"| measured here | {measured} |",
        f"| rule | {rule} |",
        *([f"| why | {why} |"] if why else []),
        f"| command | `{program}`{f' in `{folder}`' if folder else ''} |",
    ]
    return "\n".join(lines)


def shown(interval: Interval) -> str:
    """A number with its interval, where it has one."""
    estimate, low, high = interval
    return f"{estimate:.2f} ({low:.2f} to {high:.2f})" if low < high else f"{estimate:.2f}"


def verdict(agrees: Callable[[Mapping[str, float]], bool], there: Mapping[str, Interval]) -> str:
    """Whether the measured intervals agree with a finding: at all of their ends, at none, or at some."""
    names = tuple(there)
    try:
        found = {
            agrees(dict(zip(names, ends, strict=True)))
            for ends in product(*((low, high) for _, low, high in there.values()))
        }
    except KeyError as missing:
        return f"not measured: {missing.args[0]}"
    if len(found) > 1:
        return "open"
    return "yes" if found.pop() else "**no**"


def value_of(entries: Sequence[Mapping[str, Any]], finding: Finding, explainer: str) -> Interval | None:
    """The interval of one explainer; None where it was not measured."""
    for entry in entries:
        wanted = (finding.model, explainer, finding.prescription)
        if (entry["model"], entry["explainer"], entry.get("prescription")) == wanted:
            for criterion in entry["criteria"]:
                if criterion["measurement"] == finding.measurement and criterion["interval"] is not None:
                    estimate, low, high = criterion["interval"]
                    return estimate, low, high
    return None


def main() -> None:
    """Write the page."""
    for path, text in pages(json.loads(RESULTS.read_text(encoding="utf-8"))).items():
        (EVIDENCE / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""Write the page that sets models that memorise beside models that do not: ``python comparison.py`` after ``method-cards run``."""

from __future__ import annotations

import html
from functools import cache
from pathlib import Path

from method_cards import Project, Record, Verdict, record
from method_cards.catalog import Catalog
from method_cards.judge import number
from method_cards.render.interval import of

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "site" / "evidence" / "memorization.md"

MARKS = {
    "passed": "✓",
    "failed": "✗",
    "inconclusive": "~",
    "invalid": "⊘",
    "not_applicable": "·",
    "errored": "!",
}

HEAD = """# Models that memorise beside models that do not

Pairs of models of one architecture on the same data: the first of each pair is trained until it knows its examples by heart, the second is
regularised. Each row is a prescription whose check was run on both, with the bounds of the cards and seed 0. Labels are noisy, and were
made noisy before the split. Made in `examples/memorization` by

```console
$ method-cards run  # exit status 1: the first of each pair fails
$ python comparison.py
```

**✓** passed, **✗** failed, **~** inconclusive, **⊘** invalid (a condition of the check does not hold), **·** not applicable,
**!** the check could not measure. Below each mark stands what decided it: the estimate with its confidence interval, and the bound.
A passed check has found no fault of the kind that it looks for; it does not prove that there is none.

Rows of `data-influence` and `error-slice-discovery` are not about memorisation: they ask whether a method that looks for wrong labels
works on this model, and whether errors gather in a group. A thousand examples decide few of them. Regularised models may still fail where
an attack has help: a reference model that shares the data's difficulty tells training texts from others after a few passes over
them, though the likelihood alone does not.
"""


def page(project: Project, records: dict[str, Record]) -> str:
    """The page as Markdown."""
    parts = [HEAD]
    subjects = list(project.config.subjects)
    for first, second in zip(subjects[::2], subjects[1::2], strict=True):
        if first not in records or second not in records:
            continue
        pair = records[first], records[second]
        parts += [
            f"## {pair[0].subject.title.partition(', ')[0]}\n",
            f"| prescription | {pair[0].subject.title} | {pair[1].subject.title} |",
            "| --- | --- | --- |",
            *(
                row(one, other)
                for one, other in zip(*(each.verdicts for each in pair), strict=True)
                if measured(one, other)
            ),
            "",
        ]
    return "\n".join(parts)


def measured(one: Verdict, other: Verdict) -> bool:
    """Whether a check ran on either of the two."""
    return one.execution is not None or other.execution is not None


def row(one: Verdict, other: Verdict) -> str:
    """A prescription with both verdicts."""
    card, _, slug = one.id.partition("/")
    return f"| [{heading(one.id)}](../cards/{card}.md#{slug}) | {cell(one)} | {cell(other)} |"


@cache
def heading(prescription: str) -> str:
    """What a prescription is called."""
    cards = [loaded.card for loaded in Catalog.installed()]
    return next(item.heading for card in cards for item in card.prescriptions if f"{card.id}/{item.id}" == prescription)


def cell(verdict: Verdict) -> str:
    """What was decided, and from which interval."""
    parts = [f"{MARKS[str(verdict.outcome)]} {str(verdict.outcome).replace('_', ' ')}"]
    for result in (*verdict.criteria, *verdict.gates):
        if result.interval is not None and (result in verdict.criteria or str(result.outcome) != "passed"):
            where = f" ({', '.join(map(str, result.where.values()))})" if result.where else ""
            interval = result.interval
            spread = f" ({number(interval.low)} to {number(interval.high)})" if interval.low < interval.high else ""
            bound = result.bound.replace(" ", "&nbsp;")
            parts.append(f"{of(result.measurement)}{where} {number(interval.estimate)}{spread}, allowed {bound}")
    if len(parts) == 1:
        parts.append(html.escape(verdict.reason).replace("|", "&#124;"))
    return "<br>".join(parts)


def main() -> None:
    """Read the newest record of each subject and write the page."""
    project = Project.load(HERE)
    newest = record.latest(project.records)
    PAGE.write_text(page(project, {name: record.read(path) for name, path in newest.items()}), encoding="utf-8")


if __name__ == "__main__":
    main()

"""A card, a record, a check and a bibliography whose every text is the same text: what a site makes of untrusted input.

`project` fills every field of the models by walking their types, so that a field of tomorrow is attacked without a change here.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

import numpy as np
import yaml
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from method_cards import record
from method_cards.calibration import Calibrations, digest
from method_cards.card import Card, Question
from method_cards.catalog import Catalog
from method_cards.check import Check, Context, Control, Passes
from method_cards.measurement import Quantity, Yielded
from method_cards.record import Record
from method_cards.registry import Entry, Registry
from method_cards.render import site
from method_cards.render.site import Source
from method_cards.subject import Subject
from method_cards.verdict import Outcome

ID = "hostile"
"""Every slug: of the card, of its prescriptions, of its failure modes, of the family and the subject."""

SLUGS = {
    outcome: ID if outcome is Outcome.FAILED else f"{ID}-{outcome.name.lower().replace('_', '-')}"
    for outcome in Outcome
}
"""A prescription for each outcome."""

RUN = "window.__pwned=1"
ELSEWHERE = "https://elsewhere.example"

VECTORS = (
    f"<script>{RUN}</script>",
    f"</script><script src={ELSEWHERE}/a.js></script>",
    f"<img src=x onerror={RUN}>",
    f"<svg onload={RUN}></svg></svg>",
    f"<svg><animate onbegin={RUN} attributeName=x dur=1s>",
    f"<iframe srcdoc='<script>parent.{RUN}</script>'></iframe>",
    f"<style>@import '{ELSEWHERE}/a.css'; body{{display:none}}</style><link rel=stylesheet href={ELSEWHERE}/b.css>",
    f"<base href={ELSEWHERE}/><meta http-equiv=refresh content='0;url={ELSEWHERE}'>",
    f"<form action={ELSEWHERE}><input autofocus onfocus={RUN}></form>",
    f"</p></div></section></details></td></tr></table></article><script>{RUN}</script>",
    f"<!-- --><script>{RUN}</script><!-- <![CDATA[ ]]> <?php ?> <!DOCTYPE x>",
    f"&lt;script&gt;{RUN}&lt;/script&gt; &amp;lt;img src=x onerror={RUN}&amp;gt; &#60;script>{RUN}&#60;/script>",
    f"\" onmouseover=\"{RUN}\" ' onfocus='{RUN}' x=",
    f"[a](javascript:{RUN}) [b](JaVaScRiPt&colon;{RUN}) [c](java\tscript:{RUN}) [d](vbscript:x) <javascript:{RUN}>",
    "[e](data:text/html;base64,PHNjcmlwdD4=) [f](//elsewhere.example) [g](../../../../etc/passwd) [h](file:///etc/passwd)",
    f"[i]({ELSEWHERE} '\" onclick={RUN} x=\"')",
    f"![j]({ELSEWHERE}/p.png) ![k](data:image/svg+xml,%3Csvg%20onload=alert(1)%3E) ![l](../../../secret.png){{: onerror={RUN} }}",
    "{{ 7 * 7 }} {% include '/etc/passwd' %} {# x #} ${7*7} {{ config.__class__ }}",
    f"$\\href{{javascript:{RUN}}}{{x}} \\includegraphics{{{ELSEWHERE}/x.png}} \\htmlData{{onclick={RUN}}}{{x}}$",
    f"$</span><script>{RUN}</script>$ \\(x\\) \\[y\\] $\\rule{{9999em}}{{9999em}}$ $\\def\\a{{\\a\\a}}\\a$",
    "\u202etxet desrever\u202c \u2066isolated\u2069 zero\u200bwidth\u2060\ufeff",
    "\x02wzxhzdk:0\x03 \x02klzzwxh:0001\x03 \x02amp\x03",
    "| a | b |",
)
"""What may stand within a line."""

LINES = (
    "---\ntitle: taken over\ntemplate: evil.html\n---",
    f"# heading {{#{ID} .mc-passed onclick={RUN} style=position:fixed }}",
    f"{{: #content onclick={RUN} }}",
    f'<div markdown="1">\n<script>{RUN}</script>\n</div>',
    f"```html {{ .x onclick={RUN} }}\n</code></pre><script>{RUN}</script>\n```",
    f"    indented <script>{RUN}</script>",
    '!!! note "<img src=x onerror=1>"\n    text',
    f"[ref]\n\n[ref]: javascript:{RUN}",
    '--8<-- "/etc/passwd"',
    "| a | b |\n| - | - |\n| <b>c</b> | d |",
    f"$$\n</div><script>{RUN}</script>\n$$",
    "- list\n    - deeper\n\n1. one\n\n> quote\n\n***\n\nsetext\n===",
)
"""What means something at the start of a line."""

CONTROL = "\x1b[31mred\x1b]0;title\x07\x08\x00\x0c\x7f\x9b31m"
"""What a terminal would obey; YAML files cannot hold it, records can."""

ATTACK = "\n\n".join([*VECTORS, *LINES, "end"])

BENIGN = "plain *a* **b** `c` [d](https://example.org) [e](mailto:a@example.org) [f](#hostile) $x$\n\n$$\ny\n$$\n\n- g\n\n1. h\n\n3. i\n\n> j\n\n```\nk\n```\n\n| l | m |\n| - | - |\n| n | o |\n\n***\n\nhard  \nbreak\n\n2. p"
"""What a card may do: every element that a text can become."""


def filled(kind: Any, text: str) -> Any:
    """Data for a type, in which every text is this one, or what comes closest to it where a pattern forbids it."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {
            field.alias or name: filled(Annotated[field.annotation, *(field.metadata or [None])], text)
            for name, field in kind.model_fields.items()
        }
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    origin, arguments = get_origin(bare), get_args(bare)
    if origin in (Union, UnionType):
        options = [option for option in arguments if option is not NoneType]
        return filled(next((option for option in options if option is str), options[0]), text)
    if isinstance(bare, type) and issubclass(bare, BaseModel):
        return filled(bare, text)
    if origin is tuple:
        return [filled(argument, text) for argument in arguments if argument is not Ellipsis]
    if origin is dict:
        return {filled(arguments[0], text): filled(arguments[1], text)}
    if origin is Literal:
        return arguments[0]
    return _leaf(kind, text)


def _leaf(kind: Any, text: str) -> Any:
    """The attack itself where the type takes it, else the first value that it does take."""
    adapter = TypeAdapter(kind)
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    members = [member.value for member in bare] if isinstance(bare, type) and issubclass(bare, Enum) else []
    address = f"https://example.org/{''.join(text.split())}"
    breaking = f"{ELSEWHERE}/{{{{7}}}}){{:onclick={RUN}}}("
    for value in (text, address, breaking, *members, ID, f"{ID}/{ID}", "MUST", "2026-01-02", 1, 0.9, True):
        try:
            adapter.validate_python(value)
        except ValidationError:
            continue
        return value
    raise AssertionError(f"no value is known for {kind}")


def card(text: str) -> dict[str, Any]:
    """A card as data: a prescription with a check and one with a question; what cards may not contradict is set right."""
    found: dict[str, Any] = filled(Card, text)
    checked = found["prescriptions"][0]
    checked |= {"statement": f"{text} {checked['level']}", "depends_on": [], "contradicts": [], "related_to": []}
    del checked["checked_as"], checked["question"]
    for criterion in (*checked["check"]["criteria"], *checked["check"]["valid_if"]):
        criterion["measurement"] = "quantity"
        del criterion["at_least"], criterion["between"]
    checked["check"] |= {"id": f"{ID}/{ID}", "with": {"option": text}}
    del checked["check"]["samples"]
    asked = {name: value for name, value in checked.items() if name != "check"}
    asked |= {"id": f"{ID}-question", "question": filled(Question, text)}
    every = [{**checked, "id": slug} for slug in SLUGS.values()]
    found |= {"prescriptions": [*every, asked], "supersedes": []}
    for example in found["examples"]:
        example["notebook"] = f"{ELSEWHERE}/x"
    return found


def check(text: str) -> type[Check]:
    """A check of another package whose docstring and parameters are that text."""

    class Hostile(Check):
        id: ClassVar[str] = f"{ID}/{ID}"
        quantities: ClassVar[tuple[Quantity, ...]] = (
            Quantity("quantity", "mean", text, unit=text, by=("step", "kind")),
            Quantity("other", "auc", text),
        )
        option: str = Field(default=text, description=text)
        choice: Literal["a", "b"] = Field(default="a", description=text)

        def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
            raise NotImplementedError

        def splits(self) -> tuple[str, ...]:
            return (text,)

        def passes(self, subject: Subject, samples: int) -> Passes:
            return Passes(0, samples)

        @classmethod
        def controls(cls) -> tuple[Control, ...]:
            return ()

    body = textwrap.indent(text, " " * 8)
    Hostile.__doc__ = f"{' '.join(text.split())}\n\n    What it measures:\n{body}\n\n    Assumptions:\n{body}\n"
    return Hostile


class Found(Entry):
    """An entry whose check is at hand."""

    check: ClassVar[type[Check]]

    def load(self) -> type[Check]:
        return self.check


def registry(text: str) -> Registry:
    """The one check."""
    entry = type("Found", (Found,), {"check": check(text)})
    return Registry([entry(f"{ID}/{ID}", "module:Hostile", text)])


def bibliography(text: str) -> str:
    """A work whose authors, title and venue are that text, as far as BibTeX can hold it."""
    words = "".join(char for char in " ".join(text.split()) if char not in "{}\\\x02\x03\x00,")
    return f"@article{{{ID}, author={{{words} and Other, Name}}, title={{{words}}}, journal={{{words}}}, year={{2020}}, url={{https://example.org/a}}}}\n"


def make_record(text: str) -> Record:
    """A record with every outcome, every kind of figure, pictures, and pictures that lie elsewhere."""
    data: dict[str, Any] = filled(Record, text)
    data["subject"]["id"] = ID
    data |= {"started": "2026-01-02T00:00:00Z", "finished": "2026-01-02T00:00:09Z", "cards": {ID: "0" * 64, text: text}}
    [execution], [verdict] = data["executions"], data["verdicts"]
    [series] = execution["measurements"]
    rng = np.random.default_rng(0)

    def values(size: int = 40) -> list[float]:
        return [round(float(value), 3) for value in rng.random(size)]

    steps = [
        {
            **series,
            "name": "quantity",
            "kind": "mean",
            "by": {"step": step, "kind": text},
            "values": values(),
            "negatives": [],
        }
        for step in range(5)
    ]
    execution["measurements"] = [
        *steps,
        {**series, "name": "other", "kind": "auc", "by": {}, "values": values(), "negatives": values()},
        {**series, "name": text, "kind": "mean", "by": {}, "values": values(), "negatives": []},
    ]
    [pictures] = execution["pictures"]
    pictures |= {"columns": [text, text], "rows": [text], "signed": [True, False]}
    execution["pictures"] = [
        pictures | {"name": "maps", "file": "maps.npy"},
        pictures | {"file": "../../secret.npy"},
        pictures,
    ]
    execution |= {"check": f"{ID}/{ID}", "status": "errored"}
    [criterion] = verdict["criteria"]
    names = (
        {"measurement": "quantity", "where": {"step": 1, "kind": text}},
        {"measurement": "other"},
        {"measurement": text},
    )
    criteria = [
        {**criterion, "where": {}, "low_bound": None, "high_bound": 0.5, "range": [0, 1], **name} for name in names
    ]
    verdicts = []
    for outcome, slug in SLUGS.items():
        changes: dict[str, Any] = {"card": ID, "prescription": slug, "outcome": outcome.value, "execution": 0}
        changes |= {"criteria": criteria, "gates": [{**item, "outcome": "failed"} for item in criteria]}
        changes |= {"level": "MUST", "answer": verdict["answer"] if outcome is Outcome.ANSWERED else None}
        verdicts.append({**verdict, **changes})
    asked = {**verdicts[-1], "prescription": f"{ID}-question", "criteria": [], "gates": [], "execution": None}
    gone = [{**verdicts[0], "card": text}, {**verdicts[0], "prescription": text}]
    data |= {"executions": [execution], "verdicts": [*verdicts, asked, *gone]}
    return Record.model_validate(data)


def project(folder: Path, text: str, *, control: str = "") -> Source:
    """Everything that pages are made from, written to a folder and read again.

    Args:
        folder: Where.
        text: What stands in every field.
        control: What stands in the fields of the record besides.
    """
    home = folder / "cards" / ID / ID
    home.mkdir(parents=True)
    printable = "".join(char for char in text if char.isprintable() or char == "\n").replace("\ufeff", "")
    data = card(printable)
    (home / "card.yaml").write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    (folder / "cards" / "references.bib").write_text(bibliography(printable), encoding="utf-8")
    catalog = Catalog.load([folder / "cards"])
    binding = catalog.get(ID).card.prescriptions[0].check
    assert binding is not None
    rates = filled(Calibrations, text)
    [rate] = rates["prescriptions"].values()
    rate |= {"digest": digest(binding), "check_version": "1", "seconds": 1.0}
    (home / "calibration.json").write_text(
        json.dumps({"schema_version": 1, "prescriptions": {ID: rate}}), encoding="utf-8"
    )
    place = folder / "records" / ID / "20260102T000000Z"
    pictures = np.random.default_rng(0).random((1, 2, 8, 8)).astype(np.float32)
    record.write(make_record(text + control), place, [("maps.npy", pictures)])
    np.save(folder / "records" / "secret.npy", pictures)
    return Source(catalog, registry(text + control), ((record.read(place / record.FILE), place),))


def write_site(folder: Path, made: site.Site) -> Path:
    """The pages of a project as any site generator would get them, with the settings of this repository; gives mkdocs.yml."""
    files: Mapping[str, bytes] = {
        **{path: page.encode() for path, page in made.pages.items()},
        **made.files,
        **site.assets(),
    }
    for path, content in files.items():
        target = folder / "docs" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    (folder / "docs" / "index.md").write_text("# Home\n", encoding="utf-8")
    settings: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "mkdocs.yml").read_text(encoding="utf-8"))
    settings |= {
        "docs_dir": "docs",
        "plugins": ["search", "offline"],
        "nav": [{"Home": "index.md"}],
        "not_in_nav": "/*/*\n",
    }
    settings |= {"extra_css": list(site.STYLES), "extra_javascript": list(site.SCRIPTS)}
    config = folder / "mkdocs.yml"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return config

"""The reference of the file formats says what the models of these files say: every key, with an example that is valid.

Run as a program, this file writes the pages: ``python -m tests.test_reference``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

import method_cards
from method_cards.card import Card
from method_cards.document import load
from method_cards.project import ProjectConfig
from method_cards.schema import card_schema, draft_07

REPOSITORY = Path(__file__).parents[1]
REFERENCE = REPOSITORY / "site" / "reference"
EXAMPLES = REPOSITORY / "examples"
SAMPLE = REPOSITORY / "tests" / "cards" / "attribution" / "input-gradient" / "card.yaml"
MORE = REPOSITORY / "tests" / "cards" / "more.yaml"

Schema = Mapping[str, Any]

PATTERNS = {
    "(-[a-z0-9]+)*)?/": "check",
    ")?[a-z][a-z0-9]*(-": "card/prescription",
    "*(-[a-z0-9]+)*": "name",
    "*(_": "name",
    "[A-Za-z0-9._-]": "name",
}
"""What a pattern means, by what tells it from others; any other text is text."""
FORMATS = {"date": "date, as 2026-03-01", "path": "path", "uri": "address"}
KINDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "null"}
LIMITS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
LONGEST = 110
"""Characters of an example."""


@dataclass(frozen=True)
class Format:
    """A page about one kind of file.

    Attributes:
        head: What stands above.
        schema: The JSON Schema of the file.
        documents: Files whose values are the examples, the first that has a key first.
        sections: The definitions that stand on the page, where it is not the page of the whole file.
        elsewhere: Definitions that stand on another page, with its address.
    """

    head: str
    schema: Schema
    documents: tuple[Any, ...]
    sections: tuple[str, ...] = ()
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    @property
    def definitions(self) -> dict[str, Schema]:
        found: dict[str, Schema] = self.schema["definitions"]
        return {name: part for name, part in found.items() if "properties" in part}

    def page(self) -> str:
        """The page as Markdown."""
        root = [] if self.sections else [(ROOT, self.schema)]
        examples = self.examples()
        parts = [self.head.rstrip() + "\n"]
        for name, part in [*root, *((name, self.definitions[name]) for name in self.sections or self.order())]:
            parts += [f"## {spoken(name)} {{#{anchor(name)}}}\n", f"{plain(part.get('description', ''))}\n"]
            parts += ["| key | meaning, and an example |", "| --- | --- |"]
            required = part.get("required", [])
            for key, given in part["properties"].items():
                needed = " · **required**" if key in required else ""
                place = f"{anchor(name)}-{key.replace('_', '-')}"
                kind = f"<small>{self.kind(given)}{needed}</small>"
                meaning = plain(given.get("description", "") or self.meaning(given)) + self.default(given)
                example = examples.get((name, key), "")
                shown = f"<br>`{example}`" if example else ""
                parts.append(f"| `{key}`{{#{place}}}<br>{kind} | {meaning}{shown} |")
            parts.append("")
        return "\n".join(parts).rstrip() + "\n"

    def order(self) -> list[str]:
        """The parts of a file in the order in which a reader meets them."""
        found: dict[str, None] = {}

        def visit(part: Schema) -> None:
            for key in part.get("properties", {}).values():
                for name in referred(key):
                    if name in self.definitions and name not in found and name not in self.elsewhere:
                        found[name] = None
                        visit(self.definitions[name])

        visit(self.schema)
        return list(found)

    def meaning(self, part: Schema) -> str:
        """What the part that a key holds is, for a key without words of its own."""
        return next((self.schema["definitions"][name].get("description", "") for name in referred(part)), "")

    def kind(self, part: Schema) -> str:
        """What a value must be, for people; a part of the format is a link to its section."""
        if names := referred(part, deep=False):
            return self.named(names[0])
        if choices := part.get("anyOf"):
            return " or ".join(dict.fromkeys(self.kind(choice) for choice in choices if choice.get("type") != "null"))
        if "const" in part or "enum" in part:
            return " or ".join(f"`{value}`" for value in part.get("enum", [part.get("const")]))
        if part.get("type") == "array":
            items = part.get("items", {})
            if isinstance(items, list):
                return f"list of {len(items)}: {self.kind(items[0])}"
            return f"list of {self.kind(items)}"
        if part.get("type") == "object":
            values = part.get("additionalProperties") or next(iter(part.get("patternProperties", {}).values()), None)
            return f"names, each with {self.kind(values)}" if isinstance(values, Mapping) and values else "mapping"
        if pattern := part.get("pattern"):
            return next((name for mark, name in PATTERNS.items() if mark in pattern), "text")
        if part.get("format") in FORMATS:
            return FORMATS[part["format"]]
        limits = ", ".join(f"{word} {part[key]:g}" for key, word in LIMITS.items() if key in part)
        return KINDS.get(part.get("type", ""), "anything") + (f" {limits}" if limits else "")

    def named(self, name: str) -> str:
        if name in self.elsewhere:
            return f"[{spoken(name).lower()}]({self.elsewhere[name]}#{anchor(name)})"
        if name in self.definitions:
            return f"[{spoken(name).lower()}](#{anchor(name)})"
        return self.kind(self.schema["definitions"][name])

    def default(self, part: Schema) -> str:
        given = part.get("default")
        is_empty = not any(given.values()) if isinstance(given, Mapping) else given in (None, "", [], False)
        return "" if is_empty else f" Where left out: `{json.dumps(given)}`."

    def examples(self) -> dict[tuple[str, str], str]:
        """For each key the first value that a document gives it, where it is short enough to be one."""
        found: dict[tuple[str, str], str] = dict(INSTEAD)
        for document in self.documents:
            for name, key, value in self.walk(ROOT, self.schema, document):
                if (name, key) not in found and (told := as_yaml(value)):
                    found[name, key] = told
        return found

    def walk(self, name: str, part: Schema, value: Any) -> Iterator[tuple[str, str, Any]]:
        """Every key of a document, with the section that it belongs to."""
        for key, given in part.get("properties", {}).items():
            if isinstance(value, Mapping) and key in value:
                parts = [inner for inner in referred(given) if inner in self.definitions]
                if not parts:
                    yield name, key, value[key]
                for inner in parts:
                    each = value[key]
                    listed = (
                        each if isinstance(each, list) else [*each.values(), each] if isinstance(each, Mapping) else []
                    )
                    for item in listed:
                        if isinstance(item, Mapping):
                            yield from self.walk(inner, self.definitions[inner], item)


def referred(part: Any, *, deep: bool = True) -> list[str]:
    """The definitions that a part of a schema refers to, in lists and mappings too where ``deep``."""
    if isinstance(part, list):
        return [name for item in part for name in referred(item, deep=deep)]
    if not isinstance(part, Mapping):
        return []
    own = [part["$ref"].rpartition("/")[2]] if "$ref" in part else []
    keys = ("allOf", "anyOf", "items", "additionalProperties") if deep else ("allOf",)
    inner = [part.get(key) for key in keys] + (list(part.get("patternProperties", {}).values()) if deep else [])
    return [*own, *(name for each in inner for name in referred(each, deep=deep))]


def as_yaml(value: object) -> str:
    """A value on one line as YAML writes it; empty where it is a part with keys of its own, or long."""
    if isinstance(value, list) and value and all(isinstance(item, str | int | float) for item in value):
        told = f"[{', '.join(map(as_yaml, value))}]"
        while len(told) > LONGEST and len(value) > 1:
            value = value[:-1]
            told = f"[{', '.join(map(as_yaml, value))}, …]"
    elif isinstance(value, bool | date):
        told = str(value).lower()
    elif isinstance(value, str | int | float):
        told = " ".join(str(value).split())
        if isinstance(value, str) and not is_plain(told):
            told = json.dumps(told, ensure_ascii=False)
    elif isinstance(value, Mapping) and value and all(isinstance(item, str | int | float) for item in value.values()):
        told = f"{{{', '.join(f'{key}: {as_yaml(item)}' for key, item in value.items())}}}"
    else:
        return ""
    if len(told) > LONGEST:
        told = f"{told[:LONGEST].rpartition(' ')[0]} …"
    return "" if "|" in told or "`" in told else told


def is_plain(text: str) -> bool:
    """Whether YAML reads a text as that text without quotation marks."""
    try:
        return bool(yaml.safe_load(text) == text)
    except yaml.YAMLError:
        return False


def spoken(name: str) -> str:
    """The name of a class as a heading."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.removesuffix("Config")).capitalize()
    return re.sub(r"\bai\b", "AI", words)


def anchor(name: str) -> str:
    return spoken(name).lower().replace(" ", "-").replace(".", "")


def plain(text: str) -> str:
    return " ".join(text.replace("``", "`").split()).replace("|", "&#124;")


EVERYTHING = """
schema_version: 1
cards: cards
checks: [checks/noise_stability.py:NoiseStability]
records: records
seed: 0
subjects:
  sentiment:
    task: text-classification
    model: model.py:build
    trust: false
    data: {test: model.py:test}
    layers: [encoder.layer.0, encoder.layer.1, classifier]
    tokenizer: model.py:tokenizer
    attribute_to: embeddings.word_embeddings
    checkpoints:
      - {weights: weights/epoch-1.safetensors, learning_rate: 0.1}
    claims: {epsilon: 3.0, delta: 1.0e-6}
    cards: [integrated-gradients]
    answers:
      integrated-gradients/baseline-stated:
        answer: "yes"
        by: A. Person
        "on": 2026-03-01
        evidence: https://example.org/decisions/17
        question: Is the baseline stated beside each map?
    waivers:
      - prescription: integrated-gradients/complete
        reason: A pilot with five users who see the confidence as well.
        expires: 2026-12-31
        approved_by: R. Viewer
"""
"""What the examples' files do without."""

INSTEAD = {
    ("Prescription", "title"): "Grad-CAM carries the class",
    ("Prescription", "checked_as"): "integrated-gradients/depends-on-parameters",
    ("Criterion", "at_least"): "0.8",
}
"""Examples of keys that stand in place of another key that the sample has."""

ROOT = "File"
"""The name of the outermost part."""

PRESCRIPTION = (
    "Prescription",
    "AppliesWhen",
    "CheckBinding",
    "Criterion",
    "Source",
    "Question",
    "Evidence",
    "Remediation",
    "Mapping",
)
"""The parts of a card that stand on a page of their own."""

CARD_HEAD = """# card.yaml

Every key of a `card.yaml`, with the values of one card as examples. [Write a card](../guide/write-a-card.md) shows a whole one. Its
[prescriptions](prescription.md) have a page of their own. An unknown key is an error.

`method-cards schema card` prints the same for an editor; `method-cards validate` also knows what needs more than one key, such as references
between prescriptions.
"""

PRESCRIPTION_HEAD = """# Prescription

Every key of one item under `prescriptions:` of a [card](card.md): what to do, and the check or the question that verifies it.
"""

PROJECT_HEAD = """# method-cards.yaml

Every key of the file that says what is checked. [Check your own model](../guide/your-own-model.md) explains it by examples, and `method-cards init`
writes a commented one. Paths are relative to the file. An unknown key is an error.

`method-cards schema project` prints the same for an editor.
"""


def formats() -> dict[str, Format]:
    """The pages, by their names."""
    card, project = draft_07(Card), draft_07(ProjectConfig)
    sample = merged(load(SAMPLE).value, load(MORE).value)
    Draft7Validator(card_schema()).validate(sample)
    projects = tuple(load(EXAMPLES / name / "method-cards.yaml").value for name in ("digits", "memorization"))
    definitions = Format("", card, ()).definitions
    ProjectConfig.model_validate(everything := yaml.safe_load(EVERYTHING))
    return {
        "card": Format(CARD_HEAD, card, (sample,), elsewhere=dict.fromkeys(PRESCRIPTION, "prescription.md")),
        "prescription": Format(
            PRESCRIPTION_HEAD,
            card,
            (sample,),
            sections=PRESCRIPTION,
            elsewhere={name: "card.md" for name in definitions if name not in PRESCRIPTION},
        ),
        "project": Format(PROJECT_HEAD, project, (*projects, everything)),
    }


def merged(one: Any, other: Any) -> Any:
    """A document with the keys of another one; lists are merged item by item."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return {**one, **{key: merged(one[key], value) if key in one else value for key, value in other.items()}}
    if isinstance(one, list) and isinstance(other, list) and all(isinstance(item, Mapping) for item in one):
        return [*(merged(*pair) for pair in zip(one, other, strict=False)), *one[len(other) :]]
    return one


@pytest.mark.parametrize("name", ["card", "prescription", "project"])
def test_the_page_says_what_the_model_says(name: str) -> None:
    """Each page is that of the models; this file, run as a program, writes them."""
    assert (REFERENCE / f"{name}.md").read_text(encoding="utf-8") == formats()[name].page(), (
        "run python -m tests.test_reference"
    )


def test_every_public_name_is_in_the_reference() -> None:
    """What can be imported from the package stands on one of the pages on Python."""
    text = "".join(page.read_text(encoding="utf-8") for page in REFERENCE.glob("python*.md"))
    shown = re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)
    assert set(method_cards.__all__) <= {name.rpartition(".")[2] for name in shown}


def test_every_key_has_an_example_or_parts() -> None:
    """A row without an example leads to the section of its parts."""
    for name in formats():
        rows = [line for line in (REFERENCE / f"{name}.md").read_text(encoding="utf-8").splitlines() if "{#" in line]
        bare = [row for row in rows if row.startswith("|") and "<br>`" not in row]
        assert [row for row in bare if not re.search(r"<small>[^|]*\]\(", row)] == [], name


def test_every_key_of_a_file_is_in_the_reference() -> None:
    """Each key of each part of both files has its row, on one of the pages."""
    pages = {name: (REFERENCE / f"{name}.md").read_text(encoding="utf-8") for name in formats()}
    for model, names in ((Card, ("card", "prescription")), (ProjectConfig, ("project",))):
        schema = draft_07(model)
        text = "".join(pages[name] for name in names)
        for part, definition in schema["definitions"].items():
            for key in definition.get("properties", {}):
                assert f"| `{key}`{{#{anchor(part)}-{key.replace('_', '-')}}}" in text, (part, key)


if __name__ == "__main__":
    REFERENCE.mkdir(exist_ok=True)
    for stem, made in formats().items():
        (REFERENCE / f"{stem}.md").write_text(made.page(), encoding="utf-8")

"""The JSON Schema of a card: editors understand it, and it accepts and refuses what the model does."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from pydantic import ValidationError

from method_cards import document
from method_cards.card import Card, Level
from method_cards.schema import DRAFT, card_schema

SAMPLE = Path(__file__).parent / "cards" / "attribution" / "input-gradient" / "card.yaml"
REMOVED = object()
VALIDATOR = Draft7Validator(card_schema())


def accepted(data: Any) -> tuple[bool, bool]:
    """Whether the model accepts it, and whether the schema does."""
    try:
        Card.model_validate(data, by_alias=True, by_name=False)
    except ValidationError:
        model = False
    else:
        model = True
    return model, VALIDATOR.is_valid(data)


def changed(path: str, value: object) -> Any:
    data = copy.deepcopy(document.load(SAMPLE).value)
    *parents, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    part = data
    for step in parents:
        part = part[step]
    if value is REMOVED:
        del part[last]
    else:
        part[last] = value
    return data


def test_the_schema_is_draft_07() -> None:
    """The schema is valid draft-07, with nothing of later drafts in it."""
    schema = card_schema()
    Draft7Validator.check_schema(schema)
    text = json.dumps(schema)
    assert schema["$schema"] == DRAFT == "http://json-schema.org/draft-07/schema#"
    assert "definitions" in schema
    for later in ("$defs", "prefixItems", "unevaluated", "dependentRequired", "minContains"):
        assert later not in text


def test_nothing_stands_beside_a_reference() -> None:
    """Draft-07 ignores what stands beside a reference, so nothing does."""
    pending: list[Any] = [card_schema()]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            assert "$ref" not in part or len(part) == 1
            pending += part.values()
        elif isinstance(part, list):
            pending += part


def test_fields_bring_their_documentation() -> None:
    """Editors show what a field is for: the docstring under it."""
    definitions = card_schema()["definitions"]
    assert definitions["Criterion"]["properties"]["at_most"]["description"] == "The largest value that is good."
    assert definitions["CheckBinding"]["properties"]["with"]["description"].startswith("Parameters of the check")
    for name, definition in definitions.items():
        assert definition.get("description"), name


def test_a_card_with_the_line_for_editors_is_valid(tmp_path: Path) -> None:
    """The first line that names the schema is a comment to everything but editors."""
    path = tmp_path / "card.yaml"
    path.write_text(
        "# yaml-language-server: $schema=card.schema.json\n" + SAMPLE.read_text(encoding="utf-8"), encoding="utf-8"
    )
    loaded = document.load(path)
    loaded.validate(Card)
    assert not list(VALIDATOR.iter_errors(loaded.value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("title", "Another title"),
        ("tuning", REMOVED),
        ("tuning", None),
        ("prescriptions.0.check.with", {"anything": {"at": ["all", None, 1.5]}}),
        ("prescriptions.0.check.with", REMOVED),
        ("prescriptions.0.question", None),
        ("prescriptions.0.depends_on", ["other-card/slug"]),
        ("prescriptions.0.check.criteria.0.where", {"stage": 1, "layer": "x", "alpha": 0.5}),
        ("prescriptions.0.check.criteria.0.at_most", 1),
        ("prescriptions.0.check.criteria.1.between", [0, 0.5]),
        ("prescriptions.1.statement", "Maps SHOULD\nNOT be published alone."),
        ("examples.0.notebook", "figures/notebook.ipynb"),
        ("recipe.hyperparameters.0.default", None),
        ("recipe.hyperparameters.0.default", True),
        ("review.on", "2026-12-31"),
    ],
)
def test_what_the_model_accepts_the_schema_accepts(path: str, value: object) -> None:
    """Editors do not underline what is right."""
    assert accepted(changed(path, value)) == (True, True)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("title", REMOVED),
        ("title", ""),
        ("title", " "),
        ("title", 3),
        ("titel", "x"),
        ("id", "Not-Kebab"),
        ("id", "trailing-"),
        ("schema_version", 2),
        ("schema_version", "1"),
        ("status", "final"),
        ("version.date", "1 March 2026"),
        ("version.date", 1772323200),
        ("prescriptions", []),
        ("prescriptions", None),
        ("failure_modes", []),
        ("responsible_ai", {}),
        ("conforms_to", "javascript:alert(1)"),
        ("examples.0.notebook", "../secret.ipynb"),
        ("examples.0.notebook", "/etc/passwd"),
        ("examples.0.notebook", "file:///etc/passwd"),
        ("prescriptions.0.level", "must"),
        ("prescriptions.0.statement", "Maps must change."),
        ("prescriptions.0.statement", "Maps SHOULD change."),
        ("prescriptions.0.statement", "Maps MUST NOT change."),
        ("prescriptions.0.statement", "Maps MUST change and MAY move."),
        ("prescriptions.1.statement", "Maps SHOULD NOT be published, but SHOULD be kept."),
        ("prescriptions.0.check", REMOVED),
        ("prescriptions.0.question", {"question": "Really?", "evidence_required": "A note."}),
        ("prescriptions.0.evidence.0", {"locator": "section 3"}),
        ("prescriptions.0.evidence.0.strength", "strong"),
        ("prescriptions.0.remediation", []),
        ("prescriptions.0.applies_when", "task == 'image'"),
        ("prescriptions.0.check.id", "no-family"),
        ("prescriptions.0.check.parameters", {}),
        ("prescriptions.0.check.criteria", []),
        ("prescriptions.0.check.samples", 0),
        ("prescriptions.0.check.samples", 1.5),
        ("prescriptions.0.check.samples", True),
        ("prescriptions.0.check.criteria.0.at_most", REMOVED),
        ("prescriptions.0.check.criteria.0.at_most", "0.3"),
        ("prescriptions.0.check.criteria.0.at_most", True),
        ("prescriptions.0.check.criteria.0.at_least", 0.1),
        ("prescriptions.0.check.criteria.0.confidence", 0.5),
        ("prescriptions.0.check.criteria.0.confidence", 1),
        ("prescriptions.0.check.criteria.0.where", {"stage": True}),
        ("prescriptions.0.check.criteria.0.source", REMOVED),
        ("prescriptions.0.check.criteria.1.between", [0.5]),
        ("prescriptions.0.check.criteria.1.between", [0.5, 0.6, 0.7]),
        ("design_decisions.0.adaptations.0.condition", "x"),
        ("requirements.model_access", ["gradient"]),
        ("requirements.checkpoints", "true"),
        ("evidence.0.checked_on", True),
    ],
)
def test_what_the_model_refuses_the_schema_refuses(path: str, value: object) -> None:
    """Editors underline what is wrong, as far as one field and its neighbours tell."""
    assert accepted(changed(path, value)) == (False, False)


@pytest.mark.parametrize("level", list(Level))
@pytest.mark.parametrize("keyword", ["MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY", "SHALL", "RECOMMENDED", "can"])
def test_model_and_schema_agree_on_keywords(level: Level, keyword: str) -> None:
    """For each level and each keyword in the statement, model and schema say the same."""
    data = changed("prescriptions.0.level", str(level))
    data["prescriptions"][0]["statement"] = f"Maps {keyword} change."
    assert accepted(data) == ((keyword == level,) * 2)


def test_the_exported_schema_is_the_current_one() -> None:
    """The file that the bundled cards name in their first line is what `method-cards schema card` prints today."""
    exported = Path(__file__).parents[1] / "cards" / "card.schema.json"
    assert json.loads(exported.read_text(encoding="utf-8")) == card_schema()
    for card in exported.parent.glob("*/*/card.yaml"):
        first = card.read_text(encoding="utf-8").splitlines()[0]
        assert first == "# yaml-language-server: $schema=../../card.schema.json"

"""One recommendation that an engineer can act on."""

import re
from enum import StrEnum
from typing import Any, Self

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from method_cards.card.part import Markdown, Part, PrescriptionRef, Rating, Slug, Stage, Text, Url
from method_cards.card.verification import CheckBinding, Evidence, Question


class Level(StrEnum):
    """How binding a prescription is, as in RFC 2119 and RFC 8174."""

    MUST = "MUST"
    MUST_NOT = "MUST NOT"
    SHOULD = "SHOULD"
    SHOULD_NOT = "SHOULD NOT"
    MAY = "MAY"


_KEYWORDS = (
    "MUST NOT",
    "MUST",
    "SHOULD NOT",
    "SHOULD",
    "MAY",
    "SHALL NOT",
    "SHALL",
    "REQUIRED",
    "RECOMMENDED",
    "OPTIONAL",
)
_KEYWORD = re.compile(r"\b(" + "|".join(_KEYWORDS).replace(" ", r"\s+") + r")\b")


class AppliesWhen(Part):
    """To which subjects a prescription applies: everything that is given must hold."""

    tasks: tuple[Text, ...] = ()
    """Tasks, one of which the subject has, such as `image-classification`."""

    modalities: tuple[Text, ...] = ()
    """Kinds of input, one of which the subject takes, such as `image`."""

    explainers: tuple[Text, ...] = ()
    """Explanation methods, one of which the subject uses."""

    splits: tuple[Text, ...] = ()
    """Data splits that the subject must have; all of them."""

    layers: tuple[Text, ...] = ()
    """Class names of modules that the model must contain, such as `Conv2d`; all of them."""


class Remediation(Part):
    """One way to mend what is wrong."""

    action: Markdown
    """What to do."""

    effort: Rating | None = None
    """How much work it is."""

    side_effects: str = ""
    """What else it changes."""

    code: str = ""
    """A few lines of code that do it."""

    link: Url | None = None
    """Where it is explained."""

    recheck: str = ""
    """How to see that it worked, where running the check again is not enough."""


class Mapping(Part):
    """The clause of a standard or law that something answers to."""

    framework: Text
    """Such as `NIST AI RMF 1.0`."""

    clause: Text
    """Such as `MEASURE 2.9`."""

    note: str = ""
    """How far it answers to it."""


def _statement_rules(schema: dict[str, Any]) -> None:
    """Say in JSON Schema what `Prescription` demands beyond the types of its fields."""
    kinds = {"check": "object", "checked_as": "string", "question": "object"}
    schema["oneOf"] = [{"required": [name], "properties": {name: {"type": kind}}} for name, kind in kinds.items()]
    schema["allOf"] = [
        {
            "if": {"required": ["level"], "properties": {"level": {"const": str(level)}}},
            "then": {"properties": {"statement": {"pattern": _statement_pattern(level)}}},
        }
        for level in Level
    ]


def _statement_pattern(level: Level) -> str:
    words = "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in _KEYWORDS if word != level)
    negated = r"(?!\s+NOT\b)"
    own = rf"\b{str(level).replace(' ', chr(92) + 's+')}\b" + ("" if level.endswith("NOT") else negated)
    others = rf"\b({words})\b" if not level.endswith("NOT") else rf"\b(?!{own})({words})\b"
    return rf"^(?![\s\S]*{others})[\s\S]*{own}"


class Prescription(Part):
    """One recommendation: what to do, why, what one sees when it is violated, how to mend it, and how it is verified.

    It has exactly one of `check`, which a machine runs, `checked_as`, which names another prescription whose check it takes over, and
    `question`, which a person answers.
    """

    model_config = ConfigDict(json_schema_extra=_statement_rules)

    id: Slug
    """A name that is never used again for something else; the full id is `card/slug`."""

    title: Text | None = None
    """What it is called on pages, where the words of its id do not do."""

    level: Level
    """How binding it is."""

    stage: Stage
    """When in the life of the model it is followed."""

    statement: Text
    """One sentence that says what to do, with the keyword of its level in capitals."""

    applies_when: AppliesWhen | None = None
    """To which subjects it applies; to all where left out."""

    exceptions: tuple[Text, ...] = ()
    """When not following it is right, in words."""

    rationale: Markdown
    """Why: the mechanism."""

    evidence: tuple[Evidence, ...] = Field(min_length=1)
    """What speaks for it."""

    failure_symptom: Markdown
    """What an engineer sees when it is violated."""

    failure_mode: Slug | None = None
    """The failure mode of this card that it guards against."""

    severity: Rating
    """How bad it is when it is violated."""

    likelihood: Rating | None = None
    """How often it is violated when nobody looks."""

    confidence: Rating | None = None
    """How sure the authors are of the recommendation."""

    remediation: tuple[Remediation, ...] = Field(min_length=1)
    """What to do about it, in the order in which to try."""

    check: CheckBinding | None = None
    """How a machine verifies it."""

    checked_as: PrescriptionRef | None = None
    """The prescription of another card, as `card/slug`, whose check, criteria and error rates hold for this one too."""

    question: Question | None = None
    """How a person verifies it."""

    depends_on: tuple[PrescriptionRef, ...] = ()
    """Prescriptions without which this one means nothing."""

    related_to: tuple[PrescriptionRef, ...] = ()
    """Prescriptions to read with this one."""

    contradicts: tuple[PrescriptionRef, ...] = ()
    """Prescriptions that cannot be followed together with this one."""

    mappings: tuple[Mapping, ...] = ()
    """Clauses of standards and laws that it answers to."""

    tags: tuple[Text, ...] = ()
    """Words to find it by."""

    since: str = ""
    """The version of the card that brought it."""

    @property
    def heading(self) -> str:
        """What it is called on pages: its title, else the words of its id."""
        return self.title or self.id.replace("-", " ").capitalize()

    @field_validator("statement")
    @classmethod
    def _one_keyword(cls, statement: str, info: ValidationInfo) -> str:
        level = info.data.get("level")
        if level is None:  # it is wrong itself
            return statement
        found = {" ".join(match.split()) for match in _KEYWORD.findall(statement)}
        if others := sorted(found - {level}):
            raise ValueError(f"says {', '.join(others)} but its level is {level}: keep the keyword of the level alone")
        if level not in found:
            raise ValueError(f"lacks its keyword: write {level} in capitals where the sentence demands it")
        return statement

    @model_validator(mode="after")
    def _verified_once(self) -> Self:
        given = [name for name in ("check", "checked_as", "question") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(
                f'has both "{given[0]}" and "{given[1]}": keep the one that verifies it, or split the prescription in two'
            )
        if not given:
            raise ValueError(
                'has neither "check" (for a machine) nor "question" (for a person), nor "checked_as" (the prescription of another card '
                "that verifies it): one of them must verify it"
            )
        return self

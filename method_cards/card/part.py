"""What every piece of a card is made of: the base class, and the few kinds of text and number that fields hold."""

import re
from collections.abc import Iterable, Sequence
from datetime import date
from enum import StrEnum
from typing import Annotated, Any, NoReturn, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError


class Part(BaseModel):
    """A piece of a card: it never changes, and a key that it does not know is an error.

    `model_validate` of what ``model_dump(mode="json", by_alias=True)`` gave restores it.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        populate_by_name=True,
        str_strip_whitespace=True,
        allow_inf_nan=False,
    )


class Section(Part):
    """A part whose fields are all optional, but which is left out where none of them is filled in."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    def model_post_init(self, _context: Any) -> None:
        """Refuse the empty section.

        Raises:
            ValueError: No field is filled in.
        """
        if not self.model_fields_set:
            raise ValueError("is empty: fill in at least one field, or leave the section out")


def _matching(pattern: str, description: str) -> tuple[AfterValidator, Any]:
    """Text that must match a pattern; the message says in words what is asked for."""

    def check(value: str) -> str:
        if not re.search(pattern, value):
            raise PydanticCustomError(
                "pattern", '"{value}" is not {description}', {"value": value, "description": description}
            )
        return value

    return AfterValidator(check), Field(json_schema_extra={"pattern": pattern})


def _iso_date(value: object) -> object:
    if isinstance(value, date) or (isinstance(value, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", value)):
        return value
    raise PydanticCustomError("date", "is not a date: write it as year-month-day, such as 2026-03-31")


_SLUG = r"[a-z][a-z0-9]*(-[a-z0-9]+)*"
_KEBAB = "in kebab-case: small letters, digits and single hyphens"

Text: TypeAlias = Annotated[str, StringConstraints(pattern=r"\S")]
"""Text that is not empty."""

Markdown: TypeAlias = Text
"""CommonMark with TeX between dollar signs, not empty."""

Slug: TypeAlias = Annotated[str, *_matching(rf"^{_SLUG}$", f'{_KEBAB}, such as "even-padding"')]
"""A name in kebab-case."""

PrescriptionRef: TypeAlias = Annotated[
    str,
    *_matching(rf"^({_SLUG}/)?{_SLUG}$", f'{_KEBAB}: the slug of a prescription of this card, or "other-card/slug"'),
]
"""A prescription of this card by its slug, or of another one as ``card/slug``."""

CheckId: TypeAlias = Annotated[
    str, *_matching(rf"^{_SLUG}/{_SLUG}$", 'the id of a check: family/name, such as "attribution/completeness"')
]
"""``family/name`` of a check."""

Snake: TypeAlias = Annotated[
    str,
    *_matching(r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$", 'the name of a measurement in snake_case, such as "completeness_gap"'),
]
"""A name in snake_case."""

BibKey: TypeAlias = Annotated[
    str, *_matching(r"^[A-Za-z][A-Za-z0-9_:.+-]*$", 'a key of references.bib, such as "sundararajan2017"')
]
"""The key of an entry in ``references.bib``."""

Url: TypeAlias = Annotated[
    str, *_matching(r"^https?://[^\s<>\"'`\\]+$", "a web address that begins with https:// or http://")
]
"""A web address."""

Link: TypeAlias = Annotated[
    str,
    *_matching(
        r"^(https?://[^\s<>\"'`\\]+|(?!.*(^|/)\.\.(/|$))[A-Za-z0-9_.][A-Za-z0-9_./ -]*)$",
        "a web address, or the path of a file inside the card's folder",
    ),
]
"""A web address, or a file inside the card's folder."""

Number: TypeAlias = Annotated[float, Field(strict=True)]
"""A finite number, written as a number."""

Count: TypeAlias = Annotated[int, Field(strict=True, ge=1)]
"""A whole number from 1."""

Flag: TypeAlias = Annotated[bool, Field(strict=True)]
"""``true`` or ``false``."""

Scalar: TypeAlias = (
    Annotated[str, Field(strict=True)]
    | Annotated[bool, Field(strict=True)]
    | Annotated[int, Field(strict=True)]
    | Annotated[float, Field(strict=True)]
)
"""Text, a number, or ``true`` or ``false``."""

Coordinate: TypeAlias = (
    Annotated[str, Field(strict=True)] | Annotated[int, Field(strict=True)] | Annotated[float, Field(strict=True)]
)
"""Text or a number: which one of a breakdown."""

Day: TypeAlias = Annotated[
    date, BeforeValidator(_iso_date), Field(json_schema_extra={"pattern": r"^\d{4}-\d{2}-\d{2}$"})
]
"""A date, year-month-day."""


class Rating(StrEnum):
    """How much: low, medium or high."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Stage(StrEnum):
    """Where in the life of a model something is done."""

    DATA = "data"
    DESIGN = "design"
    TRAINING = "training"
    EVALUATION = "evaluation"
    EXPLANATION = "explanation"
    RELEASE = "release"
    DEPLOYMENT = "deployment"
    MONITORING = "monitoring"


Loc: TypeAlias = tuple[str | int, ...]
"""The place of a field inside a part: names of fields and numbers of items."""


def refuse(findings: Iterable[tuple[Loc, str]]) -> None:
    """Report what is wrong with fields of the part under validation, each at its own place.

    Args:
        findings: For each, the field's place inside the part, and what is wrong with it.

    Raises:
        ValidationError: There was a finding.
    """
    details = [
        InitErrorDetails(type=PydanticCustomError("rule", "{message}", {"message": message}), loc=loc, input=None)
        for loc, message in findings
    ]
    if details:
        _raise(details)


def _raise(details: Sequence[InitErrorDetails]) -> NoReturn:
    raise ValidationError.from_exception_data("card", list(details))

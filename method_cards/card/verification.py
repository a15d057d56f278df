"""How a claim is backed and a prescription is verified: sources, criteria, checks, questions."""

from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from method_cards.card.part import BibKey, CheckId, Coordinate, Count, Number, Part, Snake, Text, refuse


class Source(Part):
    """Where a number or a claim comes from: an entry of the bibliography, or a reason in words."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": ["ref"], "properties": {"ref": {"type": "string"}}},
                {"required": ["note"], "properties": {"note": {"pattern": r"\S"}}},
            ]
        }
    )

    ref: BibKey | None = None
    """The key of the work in `references.bib`; the card's `evidence` lists it too."""

    locator: str = ""
    """Where in the work: a section, table, figure or equation."""

    note: str = ""
    """What the work itself does not say, such as why a bound follows from it; or the reason in words."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.ref is None and not self.note:
            raise ValueError('needs "ref" (a key of references.bib) or "note" (the reason in words)')
        return self


class Evidence(Source):
    """What speaks for a recommendation."""

    reported_effect: str = ""
    """What the work reports, with its numbers."""

    strength: Literal["theory", "replicated", "single study", "expert opinion"] | None = None
    """How well it is established."""


_BOUNDS = ("at_most", "at_least", "between")


class Criterion(Part):
    """A bound on a measurement; it is decided from a confidence interval, never from a point estimate.

    Exactly one of `at_most`, `at_least` and `between` is given.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": [name], "properties": {name: {"type": ["number", "array"]}}} for name in _BOUNDS]
        }
    )

    claim: Text
    """What is true of the subject when the criterion is met: one sentence."""

    measurement: Snake
    """The quantity that is bounded, as the check names it."""

    where: dict[str, Coordinate] = Field(default={})
    """Which one of a quantity that is broken down, such as `{stage: 1}`."""

    at_most: Number | None = None
    """The largest value that is good."""

    at_least: Number | None = None
    """The smallest value that is good."""

    between: tuple[Number, Number] | None = None
    """The smallest and the largest value that are good."""

    confidence: Number = Field(default=0.95, gt=0.5, lt=1)
    """How sure the decision must be: the level of the interval."""

    source: Source
    """Where the bound comes from."""

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        given = [name for name in _BOUNDS if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"has {' and '.join(given)}" if given else "has no bound"
            raise ValueError(f"{found}: give exactly one of at_most, at_least, between")
        if self.between and self.between[0] >= self.between[1]:
            refuse(
                [(("between",), f"{self.between[0]:g} is not below {self.between[1]:g}: write the smaller bound first")]
            )
        return self

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """The least and the greatest value that are good; None where there is no such bound."""
        return self.between or (self.at_least, self.at_most)

    def bound_text(self) -> str:
        """The bound for people: ``≤ 0.05``, ``≥ 0.9``, ``between 0.1 and 0.3``."""
        if self.between is not None:
            return f"between {self.between[0]:g} and {self.between[1]:g}"
        return f"≤ {self.at_most:g}" if self.at_most is not None else f"≥ {self.at_least:g}"


class CheckBinding(Part):
    """Which check verifies a prescription, with which parameters, and what its measurements must be."""

    id: CheckId
    """The check: `family/name`."""

    parameters: dict[str, Any] = Field(default={}, alias="with")
    """Parameters of the check, over its own defaults."""

    criteria: tuple[Criterion, ...] = Field(min_length=1)
    """What must hold of the measurements; all of them."""

    valid_if: tuple[Criterion, ...] = ()
    """What must hold for the run to say anything; where one of these is violated, the verdict is *invalid*."""

    samples: Count | None = None
    """The least number of examples that decides the criteria."""


class Question(Part):
    """A question that only a person can answer."""

    question: Text
    """What is asked; it is answered with yes or no, and evidence."""

    evidence_required: Text
    """What must be shown with the answer, such as a report or a link to a decision."""

    assessor: str = "the engineer responsible for the model"
    """Who answers."""

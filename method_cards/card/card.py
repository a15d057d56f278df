"""The card itself."""

from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from method_cards import display
from method_cards.card.governance import (
    BibliographyEntry,
    Change,
    Deployment,
    Example,
    Limitations,
    Person,
    Prompt,
    RelatedCard,
    ResponsibleAi,
    Review,
    Term,
    Version,
)
from method_cards.card.judgement import DesignDecision, Diagnostic, Evaluation, Explanation, FailureMode, Tuning
from method_cards.card.method import Applicability, Audience, DataGuidance, Overview, Recipe, Requirements
from method_cards.card.part import Part, Slug, Text, Url, refuse
from method_cards.card.prescription import Mapping, Prescription
from method_cards.card.references import circular, repeated, uncited, unknown, unknown_in_prescriptions


class Card(Part):
    """What to do about one method, technique or failure mode, and why."""

    model_config = ConfigDict(title="Method card")

    schema_version: Literal[1]
    """The version of this format."""

    id: Slug
    """The name of the card and of its folder; it is never used again for something else."""

    title: Text
    """As it should be shown."""

    aliases: tuple[Text, ...] = ()
    """Other names of the method."""

    version: Version
    """Which version of the card this is."""

    status: Literal["draft", "reviewed", "deprecated", "superseded"]
    """How far it can be relied on."""

    supersedes: tuple[Slug, ...] = ()
    """Cards that this one takes the place of."""

    license: Text
    """The licence of the card's text, as SPDX identifier."""

    owners: tuple[Person, ...] = Field(min_length=1)
    """Who answers for it."""

    authors: tuple[Person, ...] = Field(min_length=1)
    """Who wrote it."""

    card_type: Literal["method", "failure-mode", "checklist"]
    """What it is about; all but checklists have at least one prescription with a check."""

    conforms_to: Url | None = None
    """A specification that the card follows."""

    overview: Overview
    audience: Audience
    applicability: Applicability
    requirements: Requirements
    data_guidance: DataGuidance | None = None
    recipe: Recipe

    design_decisions: tuple[DesignDecision, ...] = Field(min_length=1)
    """Choices, and why they were made this way."""

    prescriptions: tuple[Prescription, ...] = Field(min_length=1)
    """What to do."""

    failure_modes: tuple[FailureMode, ...] = Field(min_length=1)
    """How it goes wrong."""

    diagnostics: tuple[Diagnostic, ...] = Field(min_length=1)
    """From what one sees to what one does."""

    tuning: Tuning | None = None
    evaluation: Evaluation
    explanation: Explanation | None = None
    responsible_ai: ResponsibleAi
    deployment: Deployment | None = None
    limitations: Limitations

    examples: tuple[Example, ...] = Field(min_length=1)
    """Cases, from the failure to the mended model."""

    evidence: tuple[BibliographyEntry, ...] = Field(min_length=1)
    """The works that the card rests on; whatever is cited in the card stands here."""

    related_cards: tuple[RelatedCard, ...] = ()
    """Other cards."""

    model_cards: tuple[Url, ...] = ()
    """Model cards of models that use the method."""

    datasheets: tuple[Url, ...] = ()
    """Datasheets of data that it was tried on."""

    saliency_cards: tuple[Url, ...] = ()
    """Saliency cards of the method."""

    system_cards: tuple[Url, ...] = ()
    """System cards of systems that use it."""

    mappings: tuple[Mapping, ...] = ()
    """Clauses of standards and laws that the whole card answers to."""

    changelog: tuple[Change, ...] = Field(min_length=1)
    """What each version changed, the newest first."""

    review: Review | None = None
    feedback: str = ""
    """Where to say that something is wrong or missing."""

    glossary: tuple[Term, ...] = ()
    """Words and their meaning."""

    citation: str = ""
    """How to cite the card."""

    prompts: tuple[Prompt, ...] = ()
    """Questions of other documentation templates, and where this card answers them."""

    _repr_mimebundle_ = display.mimebundle

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse([*repeated(self), *unknown_in_prescriptions(self), *unknown(self), *uncited(self)])
        if not any(item.check or item.checked_as for item in self.prescriptions) and self.card_type != "checklist":
            message = f'no prescription has a "check", and a card of type {self.card_type} needs one'
            refuse([(("card_type",), f"{message}; a card of questions alone is a checklist")])
        refuse(circular(self))
        return self

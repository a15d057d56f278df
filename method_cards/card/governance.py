"""Sections on answering for it: who, harm, production, limits, cases, literature, versions, other templates."""

from typing import Literal, Self

from pydantic import Field, model_validator

from method_cards.card.part import BibKey, Day, Flag, Link, Markdown, Part, Section, Slug, Text
from method_cards.card.verification import Source


class Version(Part):
    """One version of a card."""

    name: Text
    """Such as `1.2.0`; in quotes, so that `1.10` stays text."""

    date: Day
    """When it was published."""

    diff: str = ""
    """What changed since the version before, in a sentence."""


class Person(Part):
    """A person or team."""

    name: Text
    """As it should be shown."""

    contact: str = ""
    """An e-mail address, a web address or an account."""


class ResponsibleAi(Section):
    """Who may be harmed; where nothing is known, say so and why."""

    fairness: str = ""
    """Whom it treats worse."""

    privacy: str = ""
    """What it gives away about people."""

    security: str = ""
    """How it is attacked."""

    safety: str = ""
    """What it can break."""

    robustness: str = ""
    """What it does on unusual inputs."""

    human_oversight: str = ""
    """Where a person decides."""

    recourse: str = ""
    """What those affected can do."""

    environmental_impact: str = ""
    """What it costs in energy."""


class Deployment(Section):
    """What to mind in production."""

    constraints: str = ""
    """What it needs to run."""

    numerics: str = ""
    """What precision and quantisation do to it."""

    runtime_monitors: tuple[Text, ...] = ()
    """What to watch."""

    update_triggers: tuple[Text, ...] = ()
    """When to do it again."""

    reporting_cadence: str = ""
    """How often to report."""

    rollback: str = ""
    """How to go back."""


class Limitations(Part):
    """What it cannot do."""

    caveats: tuple[Text, ...] = Field(min_length=1)
    """What to keep in mind."""

    open_questions: tuple[Text, ...] = ()
    """What nobody knows."""

    known_disagreements: tuple[Text, ...] = ()
    """Where the literature contradicts itself."""


class Example(Part):
    """One case, from the failure to the mended model."""

    title: Text
    """In a few words."""

    scenario: Markdown
    """What the situation is."""

    walkthrough: Markdown
    """What was done, step by step."""

    notebook: Link | None = None
    """A notebook that does it."""

    model: str = ""
    """Which model."""

    data: str = ""
    """Which data."""

    outcome: str = ""
    """What failed, and how it was mended."""


class Claim(Part):
    """Something that a work says."""

    text: Text
    """What it says."""

    locator: str = ""
    """Where: a section, table, figure or equation."""

    reported_value: str = ""
    """The numbers."""

    dataset: str = ""
    """On which data."""


class BibliographyEntry(Part):
    """A work that the card rests on, what it is cited for, and when somebody looked."""

    ref: BibKey
    """Its key in `references.bib`."""

    kind: Literal["peer-reviewed", "preprint", "repository", "standard"]
    """What kind of work it is."""

    claims: tuple[Claim, ...] = ()
    """What it is cited for."""

    replications: tuple[Source, ...] = ()
    """Who found the same, or did not."""

    checked_on: Day | None = None
    """When a person last compared the claims with the work."""


class RelatedCard(Part):
    """Another card."""

    id: Slug
    """Its id."""

    relation: Literal["requires", "complements", "contradicts", "refines"]
    """What it is to this one."""

    note: str = ""
    """Why."""


class Change(Part):
    """What one version changed."""

    version: Text
    """Its name."""

    date: Day
    """When."""

    changes: tuple[Text, ...] = Field(min_length=1)
    """What a user must know."""


class Review(Part):
    """Who looked at the card, when, and when again."""

    by: Text
    """Who."""

    on: Day
    """When."""

    next: Day | None = None
    """When it is due again."""


class Term(Part):
    """A word and its meaning."""

    term: Text
    """The word."""

    definition: Markdown
    """What it means here."""


class Prompt(Part):
    """A question of another documentation template, and where this card answers it."""

    template: Text
    """The template, such as `method-cards-2022`."""

    section: str = ""
    """Its section."""

    question: Text
    """Word for word."""

    answer: str = ""
    """The answer, where no field of the card holds it."""

    required: Flag = False
    """Whether the template demands an answer."""

    maps_to: str = ""
    """The field of the card that answers it, such as `recipe.hyperparameters`."""

    @model_validator(mode="after")
    def _answered(self) -> Self:
        if self.required and not (self.answer or self.maps_to):
            raise ValueError('must be answered: write "answer", or name the field that answers it in "maps_to"')
        return self

"""Sections on doing it well: choices, failures and their cure, how to tell whether it works, how to explain it."""

from typing import Literal

from pydantic import Field

from method_cards.card.part import Flag, Markdown, Part, Rating, Section, Slug, Text
from method_cards.card.prescription import Remediation
from method_cards.card.verification import Evidence


class Adaptation(Part):
    """What to change when the situation is another one."""

    condition: Text = Field(alias="if")
    """What is different."""

    then: Text
    """What to change with it."""

    risk: str = ""
    """What breaks silently."""


class DesignDecision(Part):
    """A choice, and why it was made this way."""

    choice: Text
    """What had to be decided."""

    options: tuple[Text, ...] = ()
    """What could be chosen."""

    recommended: Text
    """What to choose."""

    rationale: Markdown
    """Why."""

    evidence: tuple[Evidence, ...] = ()
    """What speaks for it."""

    consequences: str = ""
    """What follows from it."""

    adaptations: tuple[Adaptation, ...] = ()
    """When to choose otherwise."""


class FailureMode(Part):
    """A way in which the method goes wrong."""

    id: Slug
    """A name that is never used again for something else."""

    title: Text
    """In a few words."""

    symptom: Markdown
    """What one sees."""

    cause: Markdown
    """Why it happens."""

    conditions: str = ""
    """When it happens."""

    detected_by: tuple[Slug, ...] = ()
    """The prescriptions of this card whose checks or questions find it."""

    impact: str = ""
    """What it costs, and whom."""

    likelihood: Rating | None = None
    """How often it happens."""

    affected_groups: tuple[Text, ...] = ()
    """Who is hurt most."""

    example: str = ""
    """A case that happened."""

    remediation: tuple[Remediation, ...] = ()
    """What to do about it, in the order in which to try."""

    evidence: tuple[Evidence, ...] = ()
    """Where it was described."""


class Diagnostic(Part):
    """One row of the troubleshooting table: from what one sees to what one does."""

    symptom: Markdown
    """What one sees."""

    question: str = ""
    """What to ask next."""

    prescription: Slug | None = None
    """The prescription of this card whose check answers it."""

    inspection: str = ""
    """What to look at by hand."""

    likely_cause: Markdown
    """What it probably is."""

    action: Markdown
    """What to do."""


class Lever(Part):
    """Something to turn."""

    lever: Text
    """What to change."""

    direction: str = ""
    """Which way."""

    expected_effect: Text
    """What to expect."""

    cost: str = ""
    """What it costs."""


class Tuning(Section):
    """How to make it better."""

    levers: tuple[Lever, ...] = ()
    """What to turn."""

    order_of_attempts: tuple[Text, ...] = ()
    """In which order."""

    stop_rule: str = ""
    """How to know that it is enough."""


class Metric(Part):
    """A number that says how good it is."""

    name: Text
    """As the field calls it."""

    definition: Markdown
    """Exactly how it is computed."""

    direction: Literal["higher is better", "lower is better", "near a target"]
    """Which way is good."""


class Uncertainty(Section):
    """How sure the numbers are."""

    ci_method: str = ""
    """How intervals are made."""

    repeats: str = ""
    """What is repeated, and how often."""


class Validity(Section):
    """Whether the evaluation measures what it says."""

    reliability: str = ""
    """Whether it gives the same answer twice."""

    validity: str = ""
    """Whether it measures what it is said to measure."""

    robustness: str = ""
    """What it depends on that it should not depend on."""


class Evaluation(Part):
    """How to tell whether it works."""

    metrics: tuple[Metric, ...] = Field(min_length=1)
    """What is measured."""

    factors: tuple[Text, ...] = ()
    """What the numbers are expected to depend on."""

    slices: tuple[Text, ...] = ()
    """Parts of the data that are reported on their own."""

    datasets: tuple[Text, ...] = ()
    """What it is measured on."""

    protocol: Markdown
    """How it is measured."""

    baselines: tuple[Text, ...] = ()
    """What it is compared with."""

    ablations: tuple[Text, ...] = ()
    """What is taken away to see whether it matters."""

    uncertainty: Uncertainty | None = None
    """How sure the numbers are."""

    thresholds: tuple[Text, ...] = ()
    """Which numbers are good enough, and who says so."""

    validity: Validity | None = None
    """Whether the evaluation measures what it says."""

    reporting_rules: tuple[Text, ...] = ()
    """What must be reported with the numbers."""


class Explanation(Part):
    """What kind of explanation the method gives; for cards on explanation methods."""

    target: Text
    """What is explained: a logit, a probability, a loss, a neuron."""

    scope: Literal["local", "global"]
    """One prediction, or the model."""

    family: str = ""
    """What it belongs to."""

    medium: str = ""
    """What it looks like: a map, a list of weights, an example."""

    determinism: str = ""
    """Whether it gives the same explanation twice."""

    hyperparameter_dependence: str = ""
    """How much it depends on what a person sets."""

    model_agnosticism: str = ""
    """Which models it can explain."""

    computational_efficiency: str = ""
    """What one explanation costs."""

    semantic_directness: str = ""
    """How directly a person can read it."""

    baseline: str = ""
    """What it compares the input with."""

    multiply_by_inputs: Flag | None = None
    """Whether it is multiplied by the input."""

    causality_vs_actionability: str = ""
    """Whether it says what causes the output, or what to change."""

    information_leakage: str = ""
    """What it tells about the training data or the model."""

    misuse: str = ""
    """How it can be used to deceive."""

    invariance: str = ""
    """Under which changes it stays the same."""

    validation: str = ""
    """How it was validated: with people, or on synthetic data."""

"""Sections on the method itself: what it is, whom it is for, when to use it, what it needs, how to do it."""

from typing import Literal

from pydantic import Field

from method_cards.card.part import Flag, Markdown, Number, Part, Scalar, Section, Slug, Stage, Text, Url


class Overview(Part):
    """What the method is, in a minute."""

    summary: Text
    """One or two sentences, for lists."""

    description: str = ""
    """A few paragraphs."""

    goals: Markdown
    """Which problem the method solves."""

    tasks: tuple[Text, ...] = ()
    """Tasks it is for, such as `image-classification`."""

    modalities: tuple[Text, ...] = ()
    """Kinds of input it is for, such as `image`, `text`, `tabular`."""

    method_family: str = ""
    """What it belongs to, such as `gradient-based attribution`."""

    lifecycle_stages: tuple[Stage, ...] = Field(min_length=1)
    """When in the life of a model it matters."""

    tags: tuple[Text, ...] = ()
    """Words to find it by."""


class Audience(Part):
    """Whom the card is for."""

    intended_readers: tuple[Text, ...] = Field(min_length=1)
    """Who acts on it; the ML engineer first."""

    prerequisite_knowledge: tuple[Text, ...] = ()
    """What a reader should know already."""

    stakeholders: tuple[Text, ...] = ()
    """Who else is affected."""

    decision_supported: str = ""
    """The decision that the card helps to take."""


class Alternative(Part):
    """Another method."""

    method: Text
    """Its name."""

    when_better: Text
    """When to use it instead."""


class Applicability(Part):
    """When to use the method, and when not."""

    prescribed_uses: tuple[Text, ...] = Field(min_length=1)
    """What it is right for."""

    proscribed_uses: tuple[Text, ...] = Field(min_length=1)
    """What it must not be used for."""

    assumptions: tuple[Text, ...] = ()
    """What it takes for granted."""

    preconditions: tuple[Text, ...] = ()
    """What must be true before it is used."""

    out_of_scope: str = ""
    """What the card says nothing about."""

    alternatives: tuple[Alternative, ...] = ()
    """Other methods, and when they are better."""

    tradeoffs: tuple[Text, ...] = ()
    """What is given up for what."""


class DataNeeds(Part):
    """Which data the method needs."""

    train_data: Flag = False
    """The data that the model was trained on."""

    labels: Flag = False
    """Targets for the examples."""

    group_attributes: Flag = False
    """Attributes of groups of people."""

    environments: Flag = False
    """Which environment an example comes from."""

    masks: Flag = False
    """Masks of the parts that matter."""


class Compute(Section):
    """What the method costs on a stated device."""

    device: str = ""
    """Such as `2 CPU cores`."""

    seconds: Number | None = Field(default=None, ge=0)
    """How long it takes."""

    memory: str = ""
    """How much memory it takes, with the unit."""


class Requirements(Part):
    """What the method needs of a model, its data and the machine."""

    model_access: tuple[Literal["black-box", "gradients", "activations", "weights", "training-loop"], ...] = Field(
        min_length=1
    )
    """What must be reachable in the model."""

    data_needs: DataNeeds = DataNeeds()
    """Which data it needs."""

    checkpoints: Flag = False
    """Whether it needs checkpoints of the training."""

    retraining: Flag = False
    """Whether it needs the model to be trained again."""

    compute: Compute | None = None
    """What it costs."""

    dependencies: tuple[Text, ...] = ()
    """Packages it needs."""


class DataGuidance(Section):
    """What to mind about data."""

    collection: str = ""
    """How it should be collected."""

    composition: str = ""
    """What it should hold."""

    sampling_and_imbalance: str = ""
    """How to sample, and what to do about rare classes."""

    annotation_protocol: str = ""
    """How it should be labelled."""

    preprocessing: str = ""
    """What to do with it before it reaches the model."""

    augmentation: str = ""
    """Which changes keep its meaning."""

    splits_and_leakage: str = ""
    """How to split it, and how it leaks."""

    sensitive_attributes: str = ""
    """Which attributes need care."""

    known_correlations: str = ""
    """What goes together without a cause."""

    typical_examples: str = ""
    """What most examples look like."""

    atypical_examples: str = ""
    """Which examples are rare and matter."""

    datasets: tuple[Url, ...] = ()
    """Croissant descriptions of data sets that suit it."""

    prescriptions: tuple[Slug, ...] = ()
    """The prescriptions of this card that are about data."""


class Hyperparameter(Part):
    """A number or choice that a person sets."""

    name: Text
    """As in the formulation or the code."""

    default: Scalar | None = None
    """The value to begin with."""

    range: str = ""
    """Which values make sense."""

    how_to_set: str = ""
    """How to choose it."""

    sensitivity: str = ""
    """How much the result depends on it."""


class Determinism(Section):
    """Whether the same inputs give the same result."""

    sources_of_randomness: tuple[Text, ...] = ()
    """What is random in it; nothing where empty."""

    seeds: str = ""
    """How to fix it, and how many repetitions are enough."""


class Implementation(Part):
    """Code that does it."""

    repo: Url
    """Where it is."""

    revision: str = ""
    """The version or commit that was looked at."""

    license: str = ""
    """Its licence, as SPDX identifier."""


class Reproduction(Part):
    """How to obtain a known result."""

    config: str = ""
    """What was run, with all its settings."""

    seed: Scalar | None = None
    """The seed."""

    expected_result: Text
    """What comes out, with its spread."""


class Recipe(Part):
    """The method itself, exactly enough to do it again."""

    inputs_outputs: Markdown
    """What goes in and what comes out, with shapes, units and ranges."""

    formulation: str = ""
    """The formulas, in TeX."""

    steps: tuple[Markdown, ...] = Field(min_length=1)
    """What to do, in order."""

    pseudo_code: str = ""
    """The same, as pseudo-code."""

    architecture: str = ""
    """What it asks of the network."""

    objective: str = ""
    """What is minimised or maximised."""

    hyperparameters: tuple[Hyperparameter, ...] = ()
    """What a person sets."""

    initialisation: str = ""
    """Where it begins."""

    determinism: Determinism | None = None
    """What is random in it."""

    complexity: str = ""
    """How its cost grows."""

    engineering_notes: str = ""
    """What one learns only by doing it."""

    implementations: tuple[Implementation, ...] = ()
    """Code that does it."""

    reproduction: Reproduction | None = None
    """How to obtain a known result."""

"""What will run, what will not and why, and what it will cost: decided before anything is measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from method_cards.check import Check, Passes
from method_cards.errors import InputError, MethodCardsError, did_you_mean, foreign
from method_cards.registry import Entry, Registry
from method_cards.subject import preserved
from method_cards.verdict import Outcome, Verdict

if TYPE_CHECKING:
    from method_cards.card import Prescription
    from method_cards.catalog import LoadedCard
    from method_cards.pace import Pace
    from method_cards.subject import Subject

MODALITIES = {
    "image-classification": "image",
    "tabular-classification": "tabular",
    "text-classification": "text",
    "text-generation": "text",
    "image-feature-extraction": "image",
    "image-to-image": "image",
}
"""What kind of input each task has."""


@dataclass(frozen=True)
class Bound:
    """One prescription of one card, to be decided by a step."""

    card: str
    prescription: Prescription


@dataclass
class Step:
    """One execution of one check, which serves every prescription that asks for it with the same parameters.

    Attributes:
        check: The check, which is its parameters.
        entry: Where it came from.
        parameters: The parameters as the card gives them.
        samples: How many examples the plan fixes; None for all.
        examples: How many examples will be read, over all splits.
        passes: How many examples go through the model.
        prescriptions: What it decides.
    """

    check: Check
    entry: Entry
    parameters: dict[str, Any]
    samples: int | None
    examples: int = 0
    passes: Passes = field(default_factory=Passes)
    prescriptions: list[Bound] = field(default_factory=list)

    @property
    def cost(self) -> float:
        """Forward passes that would take about as long; a forward and backward pass counts 2.3."""
        return self.passes.forward + 2.3 * self.passes.backward


@dataclass
class Plan:
    """Everything that a run will do.

    Attributes:
        subject: What is under check.
        steps: What will run, in order.
        verdicts: What needs no run: questions, and prescriptions that do not apply or whose check cannot be used.
        order: All prescriptions in the order of the cards.
        seed: The seed of the run.
        pace: How fast the model is here; None when it was not measured.
    """

    subject: Subject
    steps: list[Step]
    verdicts: list[Verdict]
    order: list[str]
    seed: int
    pace: Pace | None = None

    @property
    def passes(self) -> Passes:
        """The cost of all steps."""
        return sum((step.passes for step in self.steps), Passes())

    @property
    def seconds(self) -> float | None:
        """How long the passes of all steps take, before anything is shared or stopped early; None when it is not known."""
        return None if self.pace is None else self.pace.seconds(self.passes.forward, self.passes.backward)


def plan(
    subject: Subject,
    cards: Iterable[LoadedCard],
    registry: Registry,
    *,
    seed: int = 0,
    samples: int | None = 512,
    only: Sequence[str] = (),
) -> Plan:
    """Decide what will run.

    Args:
        subject: What is under check.
        cards: The cards that apply.
        registry: Where checks are found.
        seed: The seed of the run.
        samples: How many examples a check measures, unless a card asks for more; None for all.
        only: Full ids of the prescriptions to decide; all where empty.

    Returns:
        The steps, and the verdicts that need none.

    Raises:
        InputError: Something that a person gave is wrong, such as the subject's explainer.
    """
    steps: dict[str, Step] = {}
    verdicts: list[Verdict] = []
    order: list[str] = []
    for loaded in cards:
        for prescription in loaded.card.prescriptions:
            bound = Bound(loaded.card.id, prescription)
            full = f"{bound.card}/{prescription.id}"
            if only and full not in only:
                continue
            order.append(full)
            if prescription.question is not None:
                verdicts.append(verdict_of(bound, Outcome.UNANSWERED, "A person has to answer this."))
            elif reason := _not_applicable(prescription, subject):
                verdicts.append(verdict_of(bound, Outcome.NOT_APPLICABLE, reason))
            else:
                found = _step(bound, subject, registry, samples, steps)
                if isinstance(found, Verdict):
                    verdicts.append(found)
    priced = []
    for step in steps.values():
        problem = _price(step, subject)
        if problem:
            verdicts += [verdict_of(bound, Outcome.ERRORED, problem) for bound in step.prescriptions]
        else:
            priced.append(step)
    return Plan(subject, priced, verdicts, order, seed)


def verdict_of(bound: Bound, outcome: Outcome, reason: str, **details: Any) -> Verdict:
    """A verdict about a prescription."""
    prescription = bound.prescription
    return Verdict(
        card=bound.card,
        prescription=prescription.id,
        level=str(prescription.level),
        statement=prescription.statement,
        outcome=outcome,
        reason=reason,
        question=prescription.question.question if prescription.question else "",
        **details,
    )


def _step(
    bound: Bound, subject: Subject, registry: Registry, samples: int | None, steps: dict[str, Step]
) -> Verdict | None:
    binding = bound.prescription.check
    assert binding is not None
    entry = registry.get(binding.id)
    try:
        check = entry.made(binding.parameters)
    except (InputError, ValueError) as error:  # whoever wrote the check has to mend it, so other checks go on
        return verdict_of(bound, Outcome.ERRORED, f"The check cannot be used: {error}")
    try:
        missing = [split for split in check.splits() if split not in subject.data]
        reason = check.not_applicable(subject)
    except InputError:
        raise
    except (MethodCardsError, ValueError) as error:
        return verdict_of(bound, Outcome.ERRORED, f"The check cannot be used: {error}")
    except Exception as error:  # noqa: BLE001  (whatever a check does costs its own verdict and no other)
        return verdict_of(bound, Outcome.ERRORED, f"The check cannot be used: {type(error).__name__}: {error}")
    if missing:
        return verdict_of(
            bound,
            Outcome.NOT_APPLICABLE,
            f'{binding.id} needs the data split "{missing[0]}", which the subject does not have.'
            + did_you_mean(missing[0], subject.data),
        )
    if reason:
        return verdict_of(bound, Outcome.NOT_APPLICABLE, reason)
    key = f"{check.id} {check.model_dump_json()}"
    step = steps.setdefault(key, Step(check, entry, dict(binding.parameters), samples))
    if step.samples is not None and binding.samples is not None:
        step.samples = max(step.samples, binding.samples)
    step.prescriptions.append(bound)
    return None


def _price(step: Step, subject: Subject) -> str:
    """Fill in what a step costs; gives why it cannot be told, which costs the step its verdicts and no other, or nothing."""
    sizes = [len(subject.split(split)) for split in step.check.splits()]
    counts = [size if step.samples is None else min(size, step.samples) for size in sizes]
    step.examples = sum(counts)
    try:
        with preserved(subject):  # a check may have to call the model to know
            step.passes = step.check.passes(subject, max(counts, default=0))
    except InputError:
        raise
    except MethodCardsError as error:
        return f"The check could not measure: {error}"
    except Exception as error:  # noqa: BLE001  (whatever a check does costs its own verdict and no other)
        return f"The check could not measure: {foreign(error)}"
    return ""


def _not_applicable(prescription: Prescription, subject: Subject) -> str:
    needs = prescription.applies_when
    if needs is None:
        return ""
    explainer = (
        subject.explainer.get("method", "")
        if isinstance(subject.explainer, dict)
        else "callable"
        if subject.explainer
        else "none"
    )
    kinds = {type(module).__name__ for module in subject.model.modules()}
    if needs.tasks and subject.task not in needs.tasks:
        return f"It applies to {' or '.join(needs.tasks)}; this subject's task is {subject.task}."
    if needs.modalities and MODALITIES[subject.task] not in needs.modalities:
        return f"It applies to {' or '.join(needs.modalities)} inputs; this subject's are {MODALITIES[subject.task]}."
    if needs.explainers and explainer not in needs.explainers:
        return (
            f"It applies to explanations by {' or '.join(needs.explainers)}; this subject's explainer is {explainer}."
        )
    for split in needs.splits:
        if split not in subject.data:
            return f'It needs the data split "{split}", which the subject does not have.'
    for layer in needs.layers:
        if layer not in kinds:
            return f"It applies to models with {layer} layers; this one has none."
    return ""

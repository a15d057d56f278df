"""A person's own folder: ``method-cards.yaml``, the cards that apply, and how to build the subjects that it names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from method_cards import answers, document, load
from method_cards.adapters import Task
from method_cards.card import CheckBinding
from method_cards.catalog import Catalog, LoadedCard
from method_cards.document import Document
from method_cards.errors import DocumentError, InputError, Problem, did_you_mean
from method_cards.lazy import torch
from method_cards.randomness import seeded
from method_cards.record import SUBJECT
from method_cards.registry import Registry
from method_cards.verdict import Answer, Waiver

if TYPE_CHECKING:
    from method_cards.check import Check
    from method_cards.record import Record
    from method_cards.subject import Subject

FILE = "method-cards.yaml"

SUBJECT_NAME = rf"^{SUBJECT}$"

SubjectName = Annotated[str, StringConstraints(pattern=SUBJECT_NAME)]
"""Letters, digits, dots, hyphens and underscores: records are kept in a folder of this name."""

Device = Literal["auto", "cpu", "cuda", "mps"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class CheckpointConfig(_Part):
    """The model at one moment of its training."""

    weights: Path
    """A safetensors file or a state dict."""
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    """The optimiser's step size at that moment."""


class Claims(_Part):
    """What is claimed of a model and can be refuted."""

    epsilon: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """The epsilon of a differentially private training."""
    delta: float | None = Field(default=None, ge=0, lt=1)
    """The delta that belongs to it."""


class SubjectConfig(_Part):
    """A model to check, with its data and its task."""

    title: str = ""
    """A name for people; the id where left out."""
    task: Task
    """What the model does."""
    model: str
    """The callable that builds the model in evaluation mode: `path.py:name` or `package.module:name`."""
    weights: Path | None = None
    """A safetensors file or a state dict that is loaded into the model; left out when the callable loads them itself."""
    trust: bool = False
    """Whether the weights file may run code when it is loaded. Only for files that are trusted like one's own code."""
    data: dict[str, str] = Field(min_length=1)
    """Splits by name, each a callable that gives a Dataset, a pair of tensors, or batches: `train`, `test`, and others that cards name."""
    classes: tuple[str, ...] = ()
    """Names of the classes, in order."""
    layers: tuple[str, ...] = ()
    """Names of the modules of interest, from the input to the output; found automatically where left out."""
    explainer: dict[str, Any] | None = None
    """The explanation method that ships with the model: `method:` and its parameters, or `callable: path.py:name`."""
    replicas: tuple[Path, ...] = ()
    """Weights of the same model, trained again from other seeds: the natural ceiling of any comparison."""
    train: str | None = None
    """The callable that trains the same kind of model from scratch, `train(inputs, targets, seed)`, or a `method_cards.training.Recipe`."""
    checkpoints: tuple[CheckpointConfig, ...] = ()
    """Weights from several moments of the training, from the first to the last, each with the learning rate it had then."""
    reference: str | None = None
    """The callable that builds a model that was trained on other data from the same source, on none of the splits."""
    tokenizer: str | None = None
    """The callable that makes the tokenizer of a text model."""
    attribute_to: str = ""
    """The input or the embedding layer that is explained, where several could be."""
    claims: Claims = Claims()
    """What is claimed of the model and can be refuted."""
    cards: tuple[str, ...] = Field(min_length=1)
    """The cards that apply."""
    answers: dict[str, Answer] = {}
    """Answers to the questions that only a person can answer, by `card/prescription`."""
    waivers: tuple[Waiver, ...] = ()
    """Documented exceptions, each with its reason and the day it expires."""


class ProjectConfig(_Part):
    """The file ``method-cards.yaml``."""

    schema_version: Literal[1]
    """The version of this format."""
    title: str = "Method cards"
    """The title of the site."""
    cards: Path = Path("cards")
    """The folder of the project's own cards."""
    checks: tuple[str, ...] = ()
    """Checks that are not packaged, each `path.py:Class` or `package.module:Class`."""
    records: Path = Path("records")
    """The folder that runs are kept in."""
    seed: int = Field(default=0, ge=0)
    """Every random number of a run follows from it."""
    samples: int = Field(default=512, ge=1)
    """How many examples a check measures at most, unless a card asks for more."""
    subjects: dict[SubjectName, SubjectConfig] = Field(min_length=1)
    """The models to check, by a short name."""


@dataclass(frozen=True)
class Project:
    """Everything that a run needs to know, read and checked, with nothing of the person's code run yet.

    Attributes:
        folder: The folder of ``method-cards.yaml``.
        config: What the file says.
        document: The file, for messages with their place.
        catalog: All cards: bundled, of installed packages, and the project's own.
        registry: All checks.
        collected: Answers that were collected from notebooks, by subject and prescription; see `answers`.
    """

    folder: Path
    config: ProjectConfig
    document: Document
    catalog: Catalog
    registry: Registry
    collected: Mapping[str, Mapping[str, Answer]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | str = FILE, *, checks: Sequence[str] = ()) -> Project:
        """Read a project.

        Args:
            path: ``method-cards.yaml`` or its folder.
            checks: More checks that are not packaged, as ``path.py:Class`` or ``package.module:Class``.

        Raises:
            DocumentError: The file or a card is wrong; every problem is listed with file, line and column.
            InputError: There is no such file.
        """
        file = Path(path) / FILE if Path(path).is_dir() else Path(path)
        if not file.is_file():
            raise InputError(f"{file}: there is no such file; `method-cards init` writes one")
        source = document.load(file)
        config = source.validate(ProjectConfig)
        folder = file.resolve().parent
        unloadable = [
            source.problem(("checks", number), problem)
            for number, reference in enumerate(config.checks)
            if (problem := load.missing(reference, folder))
        ]
        if unloadable:
            raise DocumentError(unloadable)
        registry = Registry.installed([*config.checks, *checks], folder)
        own = folder / config.cards
        catalog = Catalog.installed([own] if own.is_dir() else [])
        project = cls(folder, config, source, catalog, registry)
        collected, beside = answers.read(folder)
        wrong = project.answer_problems(collected, beside) if beside is not None else []
        if problems := [*project.problems(), *wrong, *lint(catalog, registry)]:
            raise DocumentError(problems)
        return replace(project, collected=collected)

    @property
    def records(self) -> Path:
        """The folder that runs are kept in."""
        return self.folder / self.config.records

    def problems(self) -> list[Problem]:
        """What the file names that is not there."""
        found: list[Problem] = []
        for name, subject in self.config.subjects.items():
            at = ("subjects", name)
            prescriptions = set()
            for index, card in enumerate(subject.cards):
                if card not in self.catalog:
                    message = f'no card is called "{card}".{did_you_mean(card, self.catalog.ids)}'
                    found.append(self.document.problem((*at, "cards", index), message))
                else:
                    prescriptions |= {f"{card}/{item.id}" for item in self.catalog.get(card).card.prescriptions}
            found += self._explainer_problems(name, subject)
            for key in subject.answers:
                if key not in prescriptions:
                    message = (
                        f'none of the subject\'s cards has a prescription "{key}".{did_you_mean(key, prescriptions)}'
                    )
                    found.append(self.document.problem((*at, "answers", key), message))
            waived: set[str] = set()
            for index, waiver in enumerate(subject.waivers):
                if waiver.prescription in waived:
                    message = "another waiver above is for this prescription: keep one of them"
                    found.append(self.document.problem((*at, "waivers", index, "prescription"), message))
                waived.add(waiver.prescription)
                if waiver.prescription not in prescriptions:
                    message = f'none of the subject\'s cards has a prescription "{waiver.prescription}".'
                    message += did_you_mean(waiver.prescription, prescriptions)
                    found.append(self.document.problem((*at, "waivers", index, "prescription"), message))
        return found

    def missing(self, subject: str) -> list[Problem]:
        """What a subject names that is not there, with its place, as far as that can be told without running any code."""
        config, at = self.subject_config(subject), ("subjects", subject)
        references: dict[tuple[str | int, ...], str] = {
            ("model",): config.model,
            **{("data", split): reference for split, reference in config.data.items()},
        }
        named = {"reference": config.reference, "tokenizer": config.tokenizer, "train": config.train}
        references |= {(key,): reference for key, reference in named.items() if reference is not None}
        if config.explainer is not None and "callable" in config.explainer:
            references["explainer", "callable"] = str(config.explainer["callable"])
        weights: dict[tuple[str | int, ...], Path] = {
            **({("weights",): config.weights} if config.weights is not None else {}),
            **{("replicas", number): path for number, path in enumerate(config.replicas)},
            **{("checkpoints", number, "weights"): item.weights for number, item in enumerate(config.checkpoints)},
        }
        found = {place: load.missing(reference, self.folder) for place, reference in references.items()}
        found |= {place: load.missing_weights(self.folder / path) for place, path in weights.items()}
        problems = [self.document.problem((*at, *place), message) for place, message in found.items() if message]
        return sorted(problems, key=lambda problem: (problem.line, problem.column))

    def answer_problems(self, collected: Mapping[str, Mapping[str, Answer]], source: Document) -> list[Problem]:
        """What the file of collected answers names that is not there, or that ``method-cards.yaml`` answers too."""
        found: list[Problem] = []
        for name, given in collected.items():
            subject = self.config.subjects.get(name)
            if subject is None:
                message = f'no subject is called "{name}".{did_you_mean(name, self.config.subjects)}'
                found.append(source.problem(("subjects", name), message, key=True))
                continue
            known = {
                f"{card}/{item.id}"
                for card in subject.cards
                if card in self.catalog
                for item in self.catalog.get(card).card.prescriptions
            }
            for full in given:
                if full in subject.answers:
                    message = f"{self.document.path.name} answers this too: leave one of the two answers out"
                    found.append(source.problem(("subjects", name, full), message, key=True))
                elif full not in known:
                    message = f'none of the subject\'s cards has a prescription "{full}".{did_you_mean(full, known)}'
                    found.append(source.problem(("subjects", name, full), message, key=True))
        return found

    def _explainer_problems(self, name: str, subject: SubjectConfig) -> list[Problem]:
        """What is wrong with a subject's explainer."""
        if subject.explainer is None:
            return []
        cards = [self.catalog.get(card) for card in subject.cards if card in self.catalog]
        wrong = wrong_explainer(subject.explainer, cards, self.registry)
        return self.document.problems(*wrong, ("subjects", name)) if wrong is not None else []

    def subject_config(self, subject: str) -> SubjectConfig:
        """What the file says of a subject.

        Raises:
            InputError: There is none of this name.
        """
        if subject not in self.config.subjects:
            raise InputError(
                f'{self.document.path}: no subject is called "{subject}".{did_you_mean(subject, self.config.subjects)}'
            )
        return self.config.subjects[subject]

    def cards_of(self, subject: str, only: Sequence[str] = ()) -> list[LoadedCard]:
        """The cards that apply to a subject, or those named of them."""
        listed = self.subject_config(subject).cards
        for card in only:
            self.catalog.get(card)
        return [self.catalog.get(card) for card in (only or listed)]

    def build(self, subject: str, device: str = "cpu", seed: int = 0) -> Subject:
        """Run the person's code: build the model, load its weights, make its data, and put the model on the device.

        Args:
            subject: Its name.
            device: Where the model is put.
            seed: What the code's own random numbers follow from, if it draws any.

        Raises:
            DocumentError: Something that the file names is not there; no code was run.
            InputError: Something cannot be loaded or does not fit; the message names the file and what to do.
        """
        if missing := self.missing(subject):
            raise DocumentError(missing)
        from method_cards.fitness import unfit
        from method_cards.tasks import contradiction

        config = self.subject_config(subject)
        where = f'{self.document.path}: subject "{subject}"'
        try:
            with seeded(seed):
                built = self._built(subject, config, device)
                problem, key = contradiction(built), "task"
                if not problem:
                    problem, key = unfit(built), "model"
        except InputError as error:
            message = str(error).removeprefix(f'subject "{subject}": ')
            raise InputError(f"{where}: {message}") from error
        except Exception as error:
            raise InputError(f"{where}: cannot be built: {type(error).__name__}: {error}") from error
        if problem:
            raise DocumentError([self.document.problem(("subjects", subject, key), problem)])
        return built

    def _built(self, subject: str, config: SubjectConfig, device: str) -> Subject:
        from method_cards.subject import Subject
        from method_cards.training import Checkpoint

        model: Any = load.called(config.model, self.folder)
        if config.weights is not None:
            path = self.folder / config.weights
            load.fill(model, load.state(path, trust=config.trust), str(path))
        explainer: Any = config.explainer
        if explainer is not None and "callable" in explainer:
            explainer = load.attribute(str(explainer["callable"]), self.folder)
        for path in (*config.replicas, *(checkpoint.weights for checkpoint in config.checkpoints)):
            load.state(self.folder / path, trust=config.trust)
        reference: Any = load.called(config.reference, self.folder) if config.reference else None
        return Subject(
            id=subject,
            task=config.task,
            model=model.to(device) if isinstance(model, torch.nn.Module) else model,
            data={name: load.called(reference, self.folder) for name, reference in config.data.items()},
            title=config.title,
            classes=config.classes,
            layers=config.layers,
            explainer=explainer,
            replicas=tuple(partial(load.state, self.folder / path, trust=config.trust) for path in config.replicas),
            tokenizer=load.called(config.tokenizer, self.folder) if config.tokenizer else None,
            attribute_to=config.attribute_to,
            train=load.attribute(config.train, self.folder) if config.train else None,
            checkpoints=tuple(
                Checkpoint(partial(load.state, self.folder / item.weights, trust=config.trust), item.learning_rate)
                for item in config.checkpoints
            ),
            reference=reference.to(device) if isinstance(reference, torch.nn.Module) else reference,
            claims=config.claims.model_dump(exclude_none=True),
        )

    def answers(self, subject: str) -> dict[str, Answer]:
        """What people answered about a subject, by ``card/prescription``: in ``method-cards.yaml``, or collected from notebooks."""
        return {**self.collected.get(subject, {}), **self.subject_config(subject).answers}

    def waivers(self, subject: str) -> dict[str, Waiver]:
        """The documented exceptions of a subject, by ``card/prescription``."""
        return {waiver.prescription: waiver for waiver in self.subject_config(subject).waivers}

    def told(self, record: Record) -> Record:
        """A record with the answers and waivers that people wrote since its run, so that they are seen without another one."""
        subject = record.subject.id
        if subject not in self.config.subjects:
            return record
        answers, waivers = self.answers(subject), self.waivers(subject)
        told = tuple(item.waived(waivers.get(item.id)).answered(answers.get(item.id)) for item in record.verdicts)
        return record.model_copy(update={"verdicts": told})


def wrong_explainer(
    explainer: Mapping[str, Any], cards: Iterable[LoadedCard], registry: Registry
) -> tuple[ValidationError, type[Check]] | None:
    """What the first check that takes an explainer says against this one, and that check; None where there is nothing to say.

    A check of these cards is asked first, else any other: a name that nobody would read is wrong all the same.
    """
    bound = [item.check.id for loaded in cards for item in loaded.card.prescriptions if item.check is not None]
    check = next(
        (check for check in _loadable(registry, [*bound, *registry.ids]) if "explainer" in check.model_fields), None
    )
    if check is None or "callable" in explainer:
        return None
    try:
        check.model_validate({"explainer": explainer})
    except ValidationError as error:
        return error, check
    except Exception:  # noqa: BLE001  (what is wrong with the check is said where it is used)
        return None
    return None


def _loadable(registry: Registry, ids: Iterable[str]) -> Iterator[type[Check]]:
    """The checks of these ids; one that is missing or cannot be loaded is reported where it is used."""
    for name in ids:
        try:
            yield registry.get(name).load()
        except InputError:
            continue


def lint(catalog: Catalog, registry: Registry) -> list[Problem]:
    """What cards say of checks that does not fit the checks: ids, parameters, measurements, missing conditions."""
    return [problem for binding, source, at in _bound(catalog) for problem in _unfitting(binding, source, at, registry)]


def unusable(catalog: Catalog, registry: Registry) -> list[Problem]:
    """The checks of cards that cannot be loaded or made: a run goes on without them, and their verdicts are errored."""
    return [
        source.problem((*at, "id"), problem)
        for binding, source, at in _bound(catalog)
        if (problem := _unmade(binding, registry))
    ]


def _bound(catalog: Catalog) -> Iterator[tuple[CheckBinding, Document, tuple[str | int, ...]]]:
    """What prescriptions say of their checks, each with the file and the place where it stands."""
    for loaded in catalog:
        for index, prescription in enumerate(loaded.card.prescriptions):
            if prescription.check is not None and prescription.checked_as is None:
                yield prescription.check, loaded.document, ("prescriptions", index, "check")


def _unmade(binding: CheckBinding, registry: Registry) -> str:
    """Why a check cannot be loaded or made, if that is not the card's fault."""
    if binding.id in registry.ids:
        try:
            registry.get(binding.id).made(binding.parameters)
        except ValidationError:
            return ""
        except InputError as error:
            return str(error)
    return ""


def _unfitting(
    binding: CheckBinding, source: Document, at: tuple[str | int, ...], registry: Registry
) -> Iterator[Problem]:
    try:
        entry = registry.get(binding.id)
    except InputError as error:
        yield source.problem((*at, "id"), str(error))
        return
    try:
        check = entry.load()
        entry.made(binding.parameters)
    except ValidationError as error:
        yield from source.problems(error, check, (*at, "with"))
    except InputError:  # of the check, not of the card
        return
    names = {quantity.name for quantity in check.quantities}
    for part, criteria in (("criteria", binding.criteria), ("valid_if", binding.valid_if)):
        for number, criterion in enumerate(criteria):
            if criterion.measurement not in names:
                hint = did_you_mean(criterion.measurement, names)
                message = f'{binding.id} does not measure "{criterion.measurement}".{hint}'
                yield source.problem((*at, part, number, "measurement"), message)
    for gate in check.gates:
        if gate not in {criterion.measurement for criterion in binding.valid_if}:
            message = f"{binding.id} means nothing unless `valid_if` bounds {gate}: add a criterion on it"
            yield source.problem((*at, "id"), message)

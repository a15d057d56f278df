"""Run cards on a model that is at hand, in a script or a notebook: no project, no YAML."""

from __future__ import annotations

import copy
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from method_cards import engine
from method_cards.catalog import Catalog, LoadedCard
from method_cards.catalog.catalog import FILE
from method_cards.check import Check
from method_cards.data import Split
from method_cards.document.explain import explain
from method_cards.errors import InputError, did_you_mean
from method_cards.execution import Options, Silent
from method_cards.fitness import unfit
from method_cards.lazy import torch
from method_cards.project import SUBJECT_NAME, wrong_explainer
from method_cards.randomness import seeded
from method_cards.registry import Registry
from method_cards.render.watch import watching
from method_cards.subject import Subject, refuse_training_mode
from method_cards.tasks import contradiction, inferred, told
from method_cards.verdict import Answer

if TYPE_CHECKING:
    from torch import nn

    from method_cards.record import Record
    from method_cards.training import Train

Cards = str | Path | Sequence[str | Path]


def run(
    model: nn.Module | Subject,
    data: Mapping[str, object] | None = None,
    cards: Cards = (),
    *,
    task: str | None = None,
    explainer: str | Mapping[str, Any] | Callable[..., Any] | None = None,
    classes: Sequence[str] | None = None,
    tokenizer: Callable[..., Any] | None = None,
    train: Train | None = None,
    answers: Mapping[str, Answer | Mapping[str, Any]] | None = None,
    checks: Sequence[type[Check] | str] = (),
    samples: int = 512,
    seed: int = 0,
    device: str | None = None,
    records: Path | str | None = None,
    progress: bool = True,
) -> Record:
    """Run cards on a model that is at hand, and look at the record that comes back: in a notebook it shows itself.

    Args:
        model: A ``torch.nn.Module`` in evaluation mode, which stays as it is; or a whole `Subject`, for what has no argument here:
            checkpoints, a reference model, replicas, claims, layers.
        data: Splits by name, such as ``{"train": train_set, "test": (inputs, targets)}``: each a Dataset, a pair of tensors, or
            batches of such pairs.
        cards: What to apply: ids of cards, such as ``"integrated-gradients"``; prescriptions of them, such as
            ``"integrated-gradients/completeness"``; and cards of your own as a `Path`: of one card, or of a folder of cards.
        task: One of `method_cards.adapters.TASKS`; found out where model and data leave no doubt.
        explainer: The explanation method under check: its name, such as ``"integrated-gradients"``; its name and parameters, such as
            ``{"method": "smoothgrad", "samples": 32}``; or a function ``explain(model, inputs, targets)``.
        classes: Names of the classes, in order.
        tokenizer: Turns texts into named tensors, for text tasks.
        train: Trains the same kind of model from scratch, for checks that need more like it: a `Recipe`, or a function.
        answers: Answers to questions that only a person can answer, by ``card/prescription``: each with ``answer``, ``by``, ``on``
            and ``evidence``.
        checks: Checks of your own that your cards name: classes, or references such as ``"checks/mine.py:Mine"``.
        samples: How many examples a check measures at most, unless a card asks for more.
        seed: Every random number follows from it.
        device: Where to run, such as ``"cuda"``; then on a copy of the model. Where the model is, when left out.
        records: The folder to keep the record in; when left out, it is kept until this process ends.
        progress: Whether to show how the run gets on, where somebody can see it.

    Returns:
        The record; `Record.path` tells where it lies. Interrupted by Ctrl-C, it holds what was measured so far.

    Raises:
        InputError: Something that was given is wrong; the message says what to do. Nothing was measured.
    """
    chosen, only = _cards([cards] if isinstance(cards, str | Path) else cards)
    given = _answers(answers or {}, chosen)
    registry = Registry.installed(map(_reference, checks))
    options = Options(seed=_at_least(0, "seed", seed), samples=_at_least(1, "samples", samples), only=only)
    with seeded(seed):  # a shuffling DataLoader, say, draws from it, and the caller's random numbers stay
        subject = _subject(model, data, task, explainer, classes, tokenizer, train)
        if problem := contradiction(subject):
            raise InputError(problem)
        _refuse_unknown_explainer(subject, chosen, registry)
        if device is not None:
            subject = _moved(subject, engine.device(device))
        if problem := unfit(subject):
            raise InputError(problem)
        planned = engine.prepare_subject(subject, chosen, registry, options)
        keeping = engine.Keeping(
            records=_unkept() if records is None else Path(records),
            model=f"{type(subject.model).__qualname__}, given in Python",
            source=Path.cwd(),
            told=lambda record: record.model_copy(
                update={"verdicts": tuple(item.answered(given.get(item.id)) for item in record.verdicts)}
            ),
            partial=bool(only),
            in_python=True,
        )
        with watching() if progress else nullcontext(Silent()) as watcher:
            return engine.keep_run(planned, chosen, options, watcher, keeping)


def _subject(
    model: nn.Module | Subject,
    data: Mapping[str, object] | None,
    task: str | None,
    explainer: str | Mapping[str, Any] | Callable[..., Any] | None,
    classes: Sequence[str] | None,
    tokenizer: Callable[..., Any] | None,
    train: Train | None,
) -> Subject:
    """What is under check: the given subject, or one made of the parts."""
    if isinstance(model, Subject):
        parts = {
            "data": data,
            "task": task,
            "explainer": explainer,
            "classes": classes,
            "tokenizer": tokenizer,
            "train": train,
        }
        if given := [name for name, part in parts.items() if part is not None]:
            raise InputError(f"a Subject brings its own {' and '.join(given)}: set it there, with dataclasses.replace")
        if not re.fullmatch(SUBJECT_NAME, model.id):
            raise InputError(
                f'the subject is called "{model.id}"; its record is kept in a folder of this name: use letters, digits, . _ -'
            )
        return model
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"the model is a {type(model).__name__}; give a torch.nn.Module, or a method_cards.Subject")
    if not isinstance(data, Mapping) or not data:
        raise InputError(f'the data is {_described(data)}; name its splits, such as data={{"test": (inputs, targets)}}')
    name = type(model).__name__.strip("_") or "model"
    refuse_training_mode(name, "model", model)
    splits = {split: source if isinstance(source, Split) else Split(split, source) for split, source in data.items()}
    return Subject(
        id=name if re.fullmatch(SUBJECT_NAME, name) else "model",
        task=told(task) if task is not None else inferred(model, next(iter(splits.values())), classes or (), tokenizer),
        model=model,
        data=splits,
        classes=tuple(classes or ()),
        explainer={"method": explainer} if isinstance(explainer, str) else explainer,
        tokenizer=tokenizer,
        train=train,
    )


def _refuse_unknown_explainer(subject: Subject, cards: Sequence[LoadedCard], registry: Registry) -> None:
    given = subject.explainer
    if isinstance(given, Mapping) and (wrong := wrong_explainer(given, cards, registry)) is not None:
        found = explain(wrong[0], {"explainer": given}, wrong[1])
        raise InputError("; ".join(f"{'.'.join(map(str, item.path))}: {item.message}" for item in found))


def _moved(subject: Subject, device: str) -> Subject:
    """The subject on another device, as a copy: a person's own model stays where it is."""
    if subject.device == torch.device(device):
        return subject
    try:
        model = copy.deepcopy(subject.model).to(device)
        reference = None if subject.reference is None else copy.deepcopy(subject.reference).to(device)
    except Exception as error:
        raise InputError(
            f"the model cannot be copied to {device} ({error}); move it there yourself, and leave device out"
        ) from error
    return replace(subject, model=model, reference=reference)


def _cards(named: Sequence[str | Path]) -> tuple[list[LoadedCard], list[str]]:
    """The cards that were named, and the prescriptions where only some were."""
    if not named:
        raise InputError('no card is named: give cards=["integrated-gradients"], say; `method-cards list` lists all')
    roots = [_root(Path(item)) for item in named if isinstance(item, Path)]
    catalog = Catalog.installed(roots) if roots else _bundled()
    chosen: dict[str, LoadedCard] = {}
    only: list[str] = []
    for item in named:
        if isinstance(item, Path):
            found = [loaded for loaded in catalog if loaded.folder.resolve().is_relative_to(_folder(item))]
            chosen |= {loaded.card.id: loaded for loaded in found}
            only += [f"{loaded.card.id}/{part.id}" for loaded in found for part in loaded.card.prescriptions]
        else:
            card, _, prescription = item.partition("/")
            loaded = catalog.get(card)
            chosen[card] = loaded
            only += [item] if prescription else [f"{card}/{part.id}" for part in loaded.card.prescriptions]
    cards = list(chosen.values())
    engine.refuse_unknown(only, cards)
    whole = {f"{loaded.card.id}/{part.id}" for loaded in cards for part in loaded.card.prescriptions}
    return cards, [] if whole <= set(only) else only


def _folder(path: Path) -> Path:
    """The folder of a card, or of several."""
    return (path.parent if path.name == FILE else path).resolve()


def _root(path: Path) -> Path:
    """The folder that holds ``<family>/<card>/card.yaml``."""
    folder = _folder(path)
    return folder.parents[1] if (folder / FILE).is_file() else folder


@cache
def _bundled() -> Catalog:
    """The installed cards; they do not change while a process runs."""
    return Catalog.installed()


def _answers(answers: Mapping[str, Answer | Mapping[str, Any]], cards: Sequence[LoadedCard]) -> dict[str, Answer]:
    questions = {
        f"{loaded.card.id}/{item.id}" for loaded in cards for item in loaded.card.prescriptions if item.question
    }
    for name in answers:
        if name not in questions:
            raise InputError(f'answers: no question is called "{name}".{did_you_mean(name, questions)}')
    found = {}
    for name, given in answers.items():
        try:
            found[name] = given if isinstance(given, Answer) else Answer.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            said = f"{field}: {first['msg']}" if field else str(first["msg"])
            raise InputError(f'answers: "{name}": {said}; give answer, by, on and evidence') from None
    return found


def _reference(check: type[Check] | str) -> str:
    return check if isinstance(check, str) else f"{check.__module__}:{check.__qualname__}"


def _at_least(least: int, name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}; it must be a whole number of at least {least}")
    return value


def _described(value: object) -> str:
    return "not given" if value is None else "empty" if isinstance(value, Mapping) else f"a {type(value).__name__}"


@cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="method-cards-")


def _unkept() -> Path:
    """A folder that is gone when this process ends, for records that nobody asked to keep."""
    return Path(_temporary().name)

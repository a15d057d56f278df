"""Run the cards of a subject: build it, plan, execute one check after the other, judge each, and keep the record after each."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from method_cards import judge, record
from method_cards.check import Context
from method_cards.environment import git_revision, versions
from method_cards.errors import InputError, did_you_mean
from method_cards.execution import Options, Progress, Silent, measure
from method_cards.lazy import torch
from method_cards.measurement import Measurements, Pictures
from method_cards.memo import Memo
from method_cards.pace import block_of, measured
from method_cards.plan import Plan, Step, plan, verdict_of
from method_cards.randomness import seeded
from method_cards.record import Asked, Execution, PicturesData, Record, SplitData, SubjectData
from method_cards.subject import Subject
from method_cards.verdict import Outcome, Verdict

if TYPE_CHECKING:
    from method_cards.catalog import LoadedCard
    from method_cards.project import Project
    from method_cards.registry import Registry

Arrays = list[tuple[str, Any]]

WORTH_MEASURING = 20_000
"""How many examples a plan must pass through the model before it pays to measure how many at once suit it."""

BATCH = (16, 64)
"""The fewest and the most examples that a check is handed at once: with more, most runs that could stop early would not."""


def run_project(
    project: Project, subject: str, options: Options | None = None, progress: Progress | None = None
) -> Record:
    """Run the cards of a subject of a project, and keep the record in the project's folder of records.

    Args:
        project: The project.
        subject: The subject's name in ``method-cards.yaml``.
        options: How to run.
        progress: Who wants to see how it gets on.

    Returns:
        The record, which knows its `path`. Interrupted by Ctrl-C, it is a valid record of what was measured so far.

    Raises:
        InputError: The subject cannot be built, or something named does not exist. Nothing was measured.
    """
    options = _settled(options or Options(), project)
    planned = prepare(project, subject, options)
    config = project.subject_config(subject)
    partial = bool(options.cards or options.only)
    keeping = Keeping(project.records, config.model, project.folder, project.told, partial)
    return keep_run(planned, project.cards_of(subject, options.cards), options, progress or Silent(), keeping)


def prepare(project: Project, subject: str, options: Options) -> Plan:
    """Build a subject of a project and decide what will run.

    Raises:
        InputError: The subject cannot be built, or something named does not exist.
    """
    settled = _settled(options, project)
    cards = project.cards_of(subject, options.cards)
    refuse_unknown(options.only, cards)  # before the person's code runs, which may take long
    built = project.build(subject, device(options.device), settled.seed or 0)
    return prepare_subject(built, cards, project.registry, settled)


def _settled(options: Options, project: Project) -> Options:
    """The options with what the project says where they say nothing."""
    return replace(
        options,
        seed=project.config.seed if options.seed is None else options.seed,
        samples=project.config.samples if options.samples is None else options.samples,
    )


def prepare_subject(subject: Subject, cards: Sequence[LoadedCard], registry: Registry, options: Options) -> Plan:
    """Decide what will run on a subject, and measure how fast its model is where that pays.

    Raises:
        InputError: Something named does not exist, or the subject's explainer is wrong.
    """
    refuse_unknown(options.only, cards)
    seed = options.seed or 0
    planned = plan(subject, cards, registry, seed=seed, samples=options.samples, only=options.only)
    if sum(step.cost for step in planned.steps) > WORTH_MEASURING:
        with seeded(seed):
            planned.pace = measured(planned.subject, planned.steps[0].check.splits()[0])
    planned.subject.block = options.block or block_of(planned.pace)
    return planned


def refuse_unknown(only: Iterable[str], cards: Iterable[LoadedCard]) -> None:
    """Refuse the name of a prescription that none of the cards has.

    Raises:
        InputError: There is such a name.
    """
    known = [f"{loaded.card.id}/{item.id}" for loaded in cards for item in loaded.card.prescriptions]
    for name in only:
        if name not in known:
            raise InputError(f'no prescription is called "{name}".{did_you_mean(name, known)}')


@dataclass(frozen=True)
class Keeping:
    """How the record of a run is kept.

    Attributes:
        records: The folder of records; the subject's own is made in it.
        model: Where the model came from, in words.
        source: The folder whose git revision is told.
        told: Adds to a record what people said: answers, waivers.
        partial: Whether only some of the subject's cards or prescriptions were asked for.
        in_python: Whether the model was at hand in Python.
    """

    records: Path
    model: str
    source: Path
    told: Callable[[Record], Record]
    partial: bool = False
    in_python: bool = False


def keep_run(
    planned: Plan, cards: Sequence[LoadedCard], options: Options, progress: Progress, keeping: Keeping
) -> Record:
    """Execute a plan, and keep its record after each step.

    Raises:
        InputError: The folder of the record cannot be made.
    """
    started = dt.datetime.now(dt.UTC)
    folder = _run_folder(keeping.records / planned.subject.id, started, partial=keeping.partial)
    head = Record(
        id=folder.name,
        started=started,
        finished=started,
        status="interrupted",
        seed=planned.seed,
        device=str(planned.subject.device),
        environment=versions(),
        git_revision=git_revision(keeping.source),
        block=planned.subject.block,
        asked=Asked(
            samples=options.samples,
            cards=tuple(options.cards),
            only=tuple(options.only),
            checks=tuple(options.checks),
            exhaustive=options.exhaustive,
            time_limit=options.time_limit,
            in_python=keeping.in_python,
        ),
        subject=_subject_data(planned.subject, keeping.model),
        cards={loaded.card.id: loaded.document.sha256 for loaded in cards},
    )

    def keep(partial: Record, arrays: Arrays) -> None:
        record.write(keeping.told(partial), folder, arrays)

    return keeping.told(execute(planned, head, options, progress, keep)).at(folder / record.FILE)


def execute(
    planned: Plan, head: Record, options: Options, progress: Progress, keep: Callable[[Record, Arrays], None]
) -> Record:
    """Execute the steps of a plan.

    Args:
        planned: What to do.
        head: The record without executions and verdicts.
        options: How to run.
        progress: Who wants to see how it gets on.
        keep: Called after each step, and at the end, with the record so far and the new picture arrays.

    Returns:
        The whole record, with status ``interrupted`` after Ctrl-C.
    """
    done: list[tuple[Execution, list[Verdict]]] = []
    progress.planned(planned)
    status: record.RunStatus = "complete"
    arrays: Arrays = []
    memo = Memo()

    def current(state: record.RunStatus) -> Record:
        decided = [*planned.verdicts, *(verdict for _, verdicts in done for verdict in verdicts)]
        waiting = [
            verdict_of(bound, Outcome.ERRORED, "The run was interrupted before this check ran; run it again.")
            for step in planned.steps[len(done) :]
            for bound in step.prescriptions
        ]
        order = {name: position for position, name in enumerate(planned.order)}
        verdicts, count = judge.adjusted(sorted([*decided, *waiting], key=lambda verdict: order[verdict.id]))
        now = dt.datetime.now(dt.UTC)
        changes = {
            "finished": now,
            "status": state,
            "executions": tuple(execution for execution, _ in done),
            "verdicts": verdicts,
            "criteria": count,
        }
        return head.model_copy(update=changes)

    try:
        for number, step in enumerate(planned.steps):
            progress.started(step)
            execution, measurements, arrays = _execution(planned, step, number, memo, options, progress)
            verdicts = [_verdict(bound, execution, measurements, number) for bound in step.prescriptions]
            done.append((execution, verdicts))
            is_interrupted = execution.status == "interrupted"
            if number < len(planned.steps) - 1 and not is_interrupted:
                keep(current("interrupted"), arrays)
            progress.finished(step, execution, verdicts)
            if is_interrupted:
                status = "interrupted"
                break
    except KeyboardInterrupt:  # between two checks
        status = "interrupted"
    final = current(status)
    keep(final, arrays)
    return final


def device(name: str) -> str:
    """The device of this name; for ``auto`` the best there is.

    Raises:
        InputError: The device is not there.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    kind = name.partition(":")[0]
    if not available.get(kind, False):
        present = ", ".join(kind for kind, there in available.items() if there)
        raise InputError(f'device "{name}" is not available to torch {torch.__version__} here; available: {present}')
    try:
        torch.empty(0, device=name)
    except RuntimeError as error:
        raise InputError(f'device "{name}" cannot be used: {str(error).splitlines()[0]}') from error
    return name


def _execution(
    planned: Plan, step: Step, number: int, memo: Memo, options: Options, progress: Progress
) -> tuple[Execution, Measurements, Arrays]:
    context = Context(planned.subject, step.samples, planned.seed, _batch(planned), scope=step.check.id, memo=memo)
    began = time.perf_counter()
    status, cause, measurements = measure(step, context, options, progress)
    seconds = time.perf_counter() - began
    try:
        series = record.data_of(measurements)
        arrays = [(f"{number}-{name}.npy", pictures.values) for name, pictures in measurements.pictures.items()]
        shown = tuple(
            _pictures_data(pictures, file)
            for pictures, (file, _) in zip(measurements.pictures.values(), arrays, strict=True)
        )
    except Exception as error:  # noqa: BLE001  (what a check yields costs its own verdict and no other)
        status, cause, series, arrays, shown = "errored", f"what it yielded cannot be kept: {error}", (), [], ()
    try:
        splits = _splits(context, step)
    except KeyboardInterrupt:  # what was measured is kept
        status, cause, splits = "interrupted", "Ctrl-C", ()
    execution = Execution(
        check=step.check.id,
        version=step.check.version,
        distribution=step.entry.distribution,
        parameters=step.check.model_dump(mode="json"),
        status=status,
        cause=cause,
        samples=step.samples,
        seconds=round(seconds, 3),
        forward=step.passes.forward,
        backward=step.passes.backward,
        splits=splits,
        measurements=series,
        pictures=shown,
    )
    return execution, measurements, arrays


def _batch(planned: Plan) -> int:
    """How many examples a check is handed at once: no more than suit the model, as long as that was measured."""
    return BATCH[1] if planned.pace is None else min(max(planned.subject.block, BATCH[0]), BATCH[1])


def _verdict(bound: Any, execution: Execution, measurements: Measurements, number: int) -> Verdict:
    binding = bound.prescription.check
    if execution.status in ("errored", "timed_out"):
        return verdict_of(bound, Outcome.ERRORED, f"The check could not measure: {execution.cause}", execution=number)
    if execution.status == "interrupted" and not len(measurements):
        return verdict_of(
            bound,
            Outcome.ERRORED,
            "The run was interrupted before anything was measured; run it again.",
            execution=number,
        )
    complete = execution.status == "complete"
    try:
        judged = judge.judge(binding, measurements, complete=complete, early=execution.status == "stopped_early")
    except Exception as error:  # noqa: BLE001  (what a check yields costs its own verdict and no other)
        return verdict_of(bound, Outcome.ERRORED, f"What was measured cannot be judged: {error}", execution=number)
    return verdict_of(
        bound, judged.outcome, judged.reason, criteria=judged.criteria, gates=judged.gates, execution=number
    )


def _run_folder(parent: Path, started: dt.datetime, *, partial: bool) -> Path:
    name = started.strftime("%Y%m%dT%H%M%SZ") + (record.PARTIAL if partial else "")
    number = 1
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{parent}: cannot be made: {error.strerror}; records are kept there") from error
    while True:
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        except OSError as error:
            raise InputError(f"{folder}: cannot be made: {error.strerror}; records are kept there") from error
        else:
            return folder


def _splits(context: Context, step: Step) -> tuple[SplitData, ...]:
    subject = context.subject
    found = []
    for split in step.check.splits():
        indices = context.indices(split)
        try:
            sha256 = subject.data_sha256(split, indices)
        except Exception:  # noqa: BLE001  (data that cannot be read has already cost the check its verdict)
            sha256 = ""
        found.append(SplitData(name=split, n=len(indices), size=len(subject.split(split)), sha256=sha256))
    return tuple(found)


def _pictures_data(pictures: Pictures, file: str) -> PicturesData:
    return PicturesData(
        name=pictures.name,
        caption=pictures.caption,
        columns=pictures.columns,
        rows=pictures.rows,
        signed=pictures.signed,
        file=file,
    )


def _subject_data(subject: Subject, reference: str) -> SubjectData:
    if subject.explainer is None:
        explainer = ""
    elif not isinstance(subject.explainer, Mapping):
        explainer = getattr(subject.explainer, "__name__", type(subject.explainer).__name__)
    else:
        explainer = ", ".join(
            f"{key} {value}" if key != "method" else str(value) for key, value in subject.explainer.items()
        )
    return SubjectData(
        id=subject.id,
        title=subject.title,
        task=subject.task,
        model=reference,
        parameters=sum(parameter.numel() for parameter in subject.model.parameters()),
        parameters_sha256=subject.parameters_sha256(),
        explainer=explainer,
        classes=tuple(subject.classes),
        claims=dict(subject.claims),
    )

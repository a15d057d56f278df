"""Records that were kept, read again: what a run printed can be printed later, and written in other forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from method_cards import record as records
from method_cards.errors import InputError, did_you_mean
from method_cards.render.build import CACHE
from method_cards.render.source import RUNS, Judged, Source, View

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from method_cards.project import Project


def views(project: Project, subjects: Sequence[str] = (), run: str = "") -> tuple[Source, list[tuple[View, Path]]]:
    """One run of each subject as it was decided, with the runs before it.

    Args:
        project: The project.
        subjects: Names of subjects; those that have a record where empty.
        run: The id of a run; the newest of each subject where empty.

    Returns:
        What pages are made from; and for each subject its view with the path of its record.

    Raises:
        InputError: There is no such record, or one cannot be read.
    """
    source = Source(project.catalog, project.registry, cache=project.folder / CACHE)
    for subject in subjects:
        project.subject_config(subject)
    names = subjects or [name for name in project.config.subjects if records.find(project.records, name)]
    if not names:
        raise InputError(f"{project.records}: there is no record yet; `method-cards run` leaves one")
    return source, [_view(project, source, name, run) for name in names]


def _view(project: Project, source: Source, subject: str, run: str) -> tuple[View, Path]:
    paths = records.find(project.records, subject)
    known = [path.parent.name for path in paths]
    if not paths:
        raise InputError(
            f'{project.records}: subject "{subject}" has no record yet; `method-cards run {subject}` leaves one'
        )
    if run and run not in known:
        raise InputError(
            f'{project.records / subject}: there is no run "{run}".{did_you_mean(run, known)} The newest is {known[-1]}'
        )
    last = known.index(run) if run else len(paths) - 1
    kept = [records.read(path) for path in paths[max(0, last + 1 - RUNS) : last + 1]]
    if not run:  # the newest is shown with what people wrote since; a run that was asked for, as it was
        kept.sort(key=lambda record: record.started)
        kept[-1] = project.told(kept[-1])
    newest = kept[-1]
    assert newest.path is not None
    path = newest.path
    judged = tuple(
        Judged(verdict, newest, path.parent, is_current=source.is_current(verdict.card, newest))
        for verdict in newest.verdicts
    )
    return View(newest, judged, tuple(sorted(kept, key=lambda record: record.started))), path

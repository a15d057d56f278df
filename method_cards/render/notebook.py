"""Notebooks of cards and subjects: the checklist, and for each prescription its text, its result, and a cell that runs its check again.

The same card, subject and record give the same bytes: cell ids follow from what a cell is about, and nothing tells the time.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from method_cards import record as records
from method_cards.errors import InputError, did_you_mean
from method_cards.render import cells, words
from method_cards.render.shown import Shown, show

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nbformat import NotebookNode

    from method_cards.card import Prescription
    from method_cards.catalog import LoadedCard
    from method_cards.project import Project
    from method_cards.record import Record

__all__ = ["Shown", "apart", "card_notebook", "run", "show", "subject_notebook", "to_json", "write"]

KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


KEPT = Path(".cache/method-cards/notebooks")
"""Where runs of single checks are kept, within the project."""


def card_notebook(
    loaded: LoadedCard, *, subjects: Sequence[str] = (), record: Record | None = None, project: str = ".."
) -> NotebookNode:
    """The notebook of a card.

    Args:
        loaded: The card.
        subjects: The subjects that it can be run on; the first one is chosen, and a variable at the top chooses another.
        record: The results to show, of the first subject.
        project: The folder of ``method-cards.yaml``, relative to the notebook.

    Returns:
        A notebook of format 4.5.
    """
    subject = record.subject.id if record is not None else next(iter(subjects), "")
    intro = cells.card_intro(loaded)
    return _notebook(f"card/{loaded.card.id}", loaded.card.title, intro, [loaded], subject, subjects, record, project)


def subject_notebook(
    subject: str, cards: Sequence[LoadedCard], *, record: Record | None = None, project: str = ".."
) -> NotebookNode:
    """The notebook of a subject: all cards that apply to it.

    Args:
        subject: Its name in ``method-cards.yaml``.
        cards: The cards that apply.
        record: The results to show.
        project: The folder of ``method-cards.yaml``, relative to the notebook.

    Returns:
        A notebook of format 4.5.
    """
    title = record.subject.title if record is not None else subject
    return _notebook(
        f"subject/{subject}", title, cells.subject_intro(subject, cards, record), cards, subject, (), record, project
    )


def write(project: Project, name: str, output: Path | None = None, *, execute: bool = False) -> Path:
    """Write the notebook of a card or a subject of a project.

    Args:
        project: The project.
        name: A subject, or a card.
        output: The file; ``notebooks/NAME.ipynb`` in the project where None.
        execute: Whether to run it, so that it holds its results.

    Returns:
        The file.

    Raises:
        InputError: There is no such card or subject, or the file cannot be written.
    """
    path = (output or project.folder / "notebooks" / f"{name}.ipynb").resolve()
    try:
        folder = os.path.relpath(project.folder, path.parent).replace(os.sep, "/")
    except ValueError:  # another drive
        folder = project.folder.as_posix()
    newest = records.latest(project.records) if project.records.is_dir() else {}
    if name in project.config.subjects:
        found = records.read(newest[name]) if name in newest else None
        notebook = subject_notebook(name, project.cards_of(name), record=found, project=folder)
    elif name in project.catalog:
        subjects = [subject for subject, config in project.config.subjects.items() if name in config.cards]
        recorded = [records.read(newest[subject]) for subject in subjects if subject in newest]
        found = next((item for item in recorded if item.of_card(name)), None)
        notebook = card_notebook(project.catalog.get(name), subjects=subjects, record=found, project=folder)
    else:
        known = [*project.config.subjects, *project.catalog.ids]
        raise InputError(f'no subject and no card is called "{name}".{did_you_mean(name, known)}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_json(notebook), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    if execute:
        path.write_text(to_json(run(notebook, path.parent)), encoding="utf-8")
    return path


def apart(project: Project) -> Project:
    """The same project, but runs are kept in its cache: what a cell runs is a part, and the newest whole run stays what pages show."""
    return replace(project, config=project.config.model_copy(update={"records": KEPT}))


def run(
    notebook: NotebookNode, folder: Path, *, timeout: float | None = None, environment: Mapping[str, str] | None = None
) -> NotebookNode:
    """Run a notebook without a server, in a kernel of its own that talks through files instead of network ports.

    Args:
        notebook: The notebook; it gets its outputs.
        folder: The folder that it is run in.
        timeout: Seconds that a cell may take; None for no limit.
        environment: Variables for the kernel, over those of this process.

    Raises:
        InputError: The packages for it are not installed, or a cell raised an error.
    """
    try:
        from jupyter_client.manager import AsyncKernelManager
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
    except ImportError as error:
        raise InputError(
            f'running a notebook needs more packages: pip install "method-cards[notebooks]" ({error})'
        ) from error
    with tempfile.TemporaryDirectory(prefix="mc-") as sockets:
        manager = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=str(Path(sockets) / "k"))
        client = NotebookClient(
            notebook, km=manager, timeout=timeout, resources={"metadata": {"path": str(folder)}}, record_timing=False
        )
        try:
            client.execute(cleanup_kc=True, env={**os.environ, **(environment or {})})
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            raise InputError(f"the notebook ended with an error: {words.clean(str(error).strip())}") from error
    return notebook


def to_json(notebook: NotebookNode) -> str:
    """The notebook as it stands in a file.

    Raises:
        nbformat.ValidationError: It is not a valid notebook.
    """
    import nbformat

    nbformat.validate(notebook)
    return str(nbformat.writes(notebook, version=nbformat.NO_CONVERT)) + "\n"


def _notebook(
    key: str,
    title: str,
    intro: str,
    cards: Sequence[LoadedCard],
    subject: str,
    subjects: Sequence[str],
    record: Record | None,
    project: str,
) -> NotebookNode:
    from nbformat.v4 import new_notebook

    made = [_markdown(f"{key}/title", f"# {cells.plain(title)}\n\n{intro}")]
    made.append(_markdown(f"{key}/checklist", cells.checklist(cards, record)))
    made.append(_code(f"{key}/setup", cells.setup(subject, subjects, project), role="setup"))
    for loaded in cards:
        if len(cards) > 1:
            made.append(
                _markdown(
                    f"{key}/{loaded.card.id}", f"## {cells.plain(loaded.card.title)}\n\n{cells.card_intro(loaded)}"
                )
            )
        for prescription in loaded.card.prescriptions:
            made += _prescription(key, loaded, prescription, subject, record)
    return new_notebook(cells=made, metadata={**KERNEL, "method_cards": {"about": key, "format": 1}})


def _prescription(
    key: str, loaded: LoadedCard, prescription: Prescription, subject: str, record: Record | None
) -> list[NotebookNode]:
    full = f"{loaded.card.id}/{prescription.id}"
    place = f"{key}/{full}"
    made = [
        _markdown(
            place,
            cells.text(loaded, prescription, cells.verdict_of(record, full), record),
            prescription=full,
            role="text",
        )
    ]
    if prescription.check is not None:
        made.append(_code(f"{place}/run", cells.run(loaded.card.id, full), prescription=full, role="run"))
    else:
        answered = cells.question(prescription, full, subject, cells.verdict_of(record, full))
        made.append(_markdown(f"{place}/question", answered, prescription=full, role="question"))
    return made


def _markdown(place: str, source: str, **about: Any) -> NotebookNode:
    from nbformat.v4 import new_markdown_cell

    return new_markdown_cell(source, id=_id(place), metadata={"method_cards": about} if about else {})


def _code(place: str, source: str, **about: Any) -> NotebookNode:
    from nbformat.v4 import new_code_cell

    return new_code_cell(source, id=_id(place), metadata={"method_cards": about})


def _id(place: str) -> str:
    """The id of a cell follows from what it is about, so that two versions of a notebook can be compared."""
    return hashlib.sha256(place.encode()).hexdigest()[:16]

"""Notebooks of cards and subjects: the checklist, and for each prescription its text, its result, and a cell that runs its check again.

The same card, subject and record give the same bytes: cell ids follow from what a cell is about, and nothing tells the time, but that
a waiver has expired.
"""

from __future__ import annotations

import ast
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from method_cards import record as records
from method_cards.document import parse_json, read_bytes, whole
from method_cards.errors import InputError, did_you_mean
from method_cards.render import cells, words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nbformat import NotebookNode

    from method_cards.card import Prescription
    from method_cards.catalog import LoadedCard
    from method_cards.project import Project
    from method_cards.record import Record
    from method_cards.verdict import Answer

KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


LIMIT = 64 << 20
"""How many bytes a notebook may have: 64 MiB, pictures included."""

FORMAT = 2
"""Goes up when a notebook's cells mean something else than before, so that answers are not collected from an old one."""


def card_notebook(
    loaded: LoadedCard,
    *,
    subjects: Sequence[str] = (),
    record: Record | None = None,
    answers: Mapping[str, Answer] | None = None,
    project: str = "..",
) -> NotebookNode:
    """The notebook of a card.

    Args:
        loaded: The card.
        subjects: The subjects that it can be run on; the first one is chosen, and a variable at the top chooses another.
        record: The results to show, of the first subject.
        answers: What the first subject's project has answers to, by ``card/prescription``.
        project: The folder of ``method-cards.yaml``, relative to the notebook.

    Returns:
        A notebook of format 4.5.
    """
    subject = next(iter(subjects), "")
    intro = cells.card_intro(loaded)
    made = _Made(f"card/{loaded.card.id}", loaded.card.title, intro, [loaded], subject, subjects, record, answers or {})
    return made.notebook(project)


def subject_notebook(
    subject: str,
    cards: Sequence[LoadedCard],
    *,
    record: Record | None = None,
    answers: Mapping[str, Answer] | None = None,
    project: str = "..",
) -> NotebookNode:
    """The notebook of a subject: all cards that apply to it.

    Args:
        subject: Its name in ``method-cards.yaml``.
        cards: The cards that apply.
        record: The results to show.
        answers: What the project has answers to, by ``card/prescription``.
        project: The folder of ``method-cards.yaml``, relative to the notebook.

    Returns:
        A notebook of format 4.5.
    """
    title = record.subject.title if record is not None else subject
    intro = cells.subject_intro(subject, cards, record)
    return _Made(f"subject/{subject}", title, intro, cards, subject, (), record, answers or {}).notebook(project)


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
        InputError: There is no such card or subject, the file holds answers that nobody has collected, or it cannot be written.
    """
    path = Path(os.path.realpath(output or project.folder / "notebooks" / f"{name}.ipynb"))
    try:
        folder = os.path.relpath(project.folder, path.parent).replace(os.sep, "/")
    except ValueError:  # another drive
        folder = project.folder.as_posix()
    newest = records.latest(project.records) if project.records.is_dir() else {}
    if name in project.config.subjects:
        found = project.told(records.read(newest[name])) if name in newest else None
        notebook = subject_notebook(
            name, project.cards_of(name), record=found, answers=project.answers(name), project=folder
        )
    elif name in project.catalog:
        subjects = [subject for subject, config in project.config.subjects.items() if name in config.cards]
        recorded = ((item, project.told(records.read(newest[item]))) for item in subjects if item in newest)
        nothing = (next(iter(subjects), ""), None)
        chosen, found = next(((item, made) for item, made in recorded if made.of_card(name)), nothing)
        notebook = card_notebook(
            project.catalog.get(name),
            subjects=[chosen, *(item for item in subjects if item != chosen)] if chosen else (),
            record=found,
            answers=project.answers(chosen) if chosen else None,
            project=folder,
        )
    else:
        known = [*project.config.subjects, *project.catalog.ids]
        raise InputError(f'no subject and no card is called "{name}".{did_you_mean(name, known)}')
    _refuse_loss(path, notebook)
    _write(path, notebook)
    if execute:
        _write(path, run(notebook, path.parent))
    return path


def _write(path: Path, notebook: NotebookNode) -> None:
    """Write a notebook, whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as handle:
            handle.write(to_json(notebook).encode())
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error


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


@dataclass(frozen=True)
class _Made:
    """What a notebook is made from.

    Attributes:
        key: What it is about.
        title: Its heading.
        intro: What it is about, in sentences.
        cards: The cards.
        subject: The subject that is chosen; empty where there is none.
        subjects: The subjects that could be.
        record: The results to show.
        answers: What is answered.
    """

    key: str
    title: str
    intro: str
    cards: Sequence[LoadedCard]
    subject: str
    subjects: Sequence[str]
    record: Record | None
    answers: Mapping[str, Answer]

    def notebook(self, project: str) -> NotebookNode:
        """The notebook, for a project in this folder."""
        from nbformat.v4 import new_notebook

        made = [
            _markdown(f"{self.key}/title", f"# {cells.plain(self.title)}\n\n{self.intro}", role="title"),
            _markdown(f"{self.key}/checklist", cells.checklist(self.cards, self.record), role="checklist"),
            _code(f"{self.key}/setup", cells.setup(self.subject, self.subjects, project), role="setup"),
        ]
        for loaded in self.cards:
            if len(self.cards) > 1:
                head = f"## {cells.plain(loaded.card.title)}\n\n{cells.card_intro(loaded)}"
                made.append(_markdown(f"{self.key}/{loaded.card.id}", head, role="card"))
            for prescription in loaded.card.prescriptions:
                made += self._prescription(loaded, prescription)
        return new_notebook(cells=made, metadata={**KERNEL, "method_cards": {"about": self.key, "format": FORMAT}})

    def _prescription(self, loaded: LoadedCard, prescription: Prescription) -> list[NotebookNode]:
        full = f"{loaded.card.id}/{prescription.id}"
        place = f"{self.key}/{full}"
        verdict = cells.verdict_of(self.record, full)
        if prescription.question is not None:
            given = self.answers.get(full) or (verdict.answer if verdict is not None else None)
            if given is not None and given.question not in ("", prescription.question.question):
                given = None  # it answers what the card used to ask
            asked = {
                "prescription": full,
                "asked": digest(f"{prescription.statement}\n{prescription.question.question}"),
            }
            return [
                _markdown(place, cells.question(loaded, prescription), role="text", **asked),
                _code(f"{place}/question", cells.answer(full, given), role="question", **asked),
            ]
        said = cells.text(loaded, prescription, verdict, self.record)
        return [
            _markdown(place, said, role="text", prescription=full),
            _code(f"{place}/run", cells.run(full), role="run", prescription=full),
        ]


def _refuse_loss(path: Path, fresh: NotebookNode) -> None:
    """Refuse to write over answers that a person gave in a notebook, and that the new one would not hold."""
    try:
        old = parse_json(read_bytes(path, LIMIT))["cells"]
        changed = {
            cell["id"]: (about["prescription"], _given("".join(cell["source"])))
            for cell in old
            if (about := cell["metadata"].get("method_cards", {})).get("role") == "question"
            and digest("".join(cell["source"])) != about["sha256"]
        }
    except (InputError, ValueError, LookupError, TypeError, AttributeError):
        return  # no notebook, or none of this package's
    held = {cell.id: _given(cell.source) for cell in fresh.cells}
    lost = [words.clean(name)[:100] for place, (name, given) in changed.items() if given and given != held.get(place)]
    if lost:
        raise InputError(
            f"{path}: holds answers that would be lost, to {words.listed(lost)}: run `method-cards notebook collect {path}`, or move the "
            "file away"
        )


def _given(source: str) -> dict[str, str] | str:
    """What a question cell answers, by field; its source where that is not its one call any more."""
    try:
        call = ast.parse(source.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return source
    if not isinstance(call, ast.Call):
        return source
    said = {str(keyword.arg): ast.unparse(keyword.value) for keyword in call.keywords}
    return {name: value for name, value in said.items() if value != "''"}


def digest(source: str) -> str:
    """The first half of the SHA-256 of a text, whatever its line ends are."""
    lines = "\n".join(line.rstrip() for line in source.strip().splitlines())
    return hashlib.sha256(lines.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _markdown(place: str, source: str, **about: Any) -> NotebookNode:
    from nbformat.v4 import new_markdown_cell

    return new_markdown_cell(source, id=_id(place), metadata={"method_cards": {**about, "sha256": digest(source)}})


def _code(place: str, source: str, **about: Any) -> NotebookNode:
    from nbformat.v4 import new_code_cell

    return new_code_cell(source, id=_id(place), metadata={"method_cards": {**about, "sha256": digest(source)}})


def _id(place: str) -> str:
    """The id of a cell follows from what it is about, so that two versions of a notebook can be compared."""
    return hashlib.sha256(place.encode()).hexdigest()[:16]

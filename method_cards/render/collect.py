"""Take over the answers that people wrote into a notebook. No code of the notebook is run, and nothing in it is trusted.

A notebook may have come by mail, through other programs, or from somebody who wants a question to look answered. So its cells are
compared with those that this project would write: an answer counts only where its question still says what the card asks.
"""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from method_cards import answers, document
from method_cards.errors import DocumentError, InputError, did_you_mean
from method_cards.render import cells, words
from method_cards.render.notebook import FORMAT, LIMIT, card_notebook, digest, subject_notebook
from method_cards.verdict import Answer, answer_from

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nbformat import NotebookNode

    from method_cards.project import Project

FIELDS = ("answer", "by", "on", "evidence")


@dataclass(frozen=True)
class Collected:
    """What became of the answers in a notebook, each as ``card/prescription``.

    Attributes:
        subject: Whom they are about.
        path: The file that they are kept in.
        new: Answers that were not there before.
        changed: Answers that take the place of earlier ones.
        known: Answers that were there already.
        open: Questions that nobody has answered in this notebook.
    """

    subject: str
    path: Path
    new: tuple[str, ...]
    changed: tuple[str, ...]
    known: tuple[str, ...]
    open: tuple[str, ...]


@dataclass(frozen=True)
class _Cell:
    """A cell of the file.

    Attributes:
        number: Its place, from 1.
        id: Its id; empty where it has none.
        kind: ``code``, ``markdown`` or ``raw``.
        source: What it says.
        about: What this package wrote into its metadata; None where it wrote nothing.
    """

    number: int
    id: str
    kind: str
    source: str
    about: Mapping[str, Any] | None

    def __str__(self) -> str:
        name = (self.about or {}).get("prescription") or (self.about or {}).get("role")
        return f"cell {self.number} ({words.clean(name)[:100]})" if name else f"cell {self.number}"

    @property
    def is_as_written(self) -> bool:
        """Whether nobody has changed it since it was written."""
        return (self.about or {}).get("sha256") == digest(self.source)


def collect(project: Project, file: Path) -> Collected:
    """Take over the answers that stand in a notebook, all or none of them.

    Args:
        project: The project that the notebook was written for.
        file: The notebook.

    Raises:
        InputError: The file is no notebook of this project, was changed where it must not be, or an answer in it is wrong; each problem
            is told with its cell. Nothing was kept.
    """
    about, found = _read(file)
    try:
        fresh, subject = _expected(project, about, found)
        given, open_ones = _Reading(fresh, project, subject).answers(found)
        with answers.alone(project.folder):
            return _keep(project, subject, given, open_ones)
    except InputError as error:
        lines = str(error).splitlines()
        raise InputError("\n".join(f"{file}: {line}" for line in lines) + "\nNothing was collected.") from None


def _read(file: Path) -> tuple[str, list[_Cell]]:
    """What a notebook is about, and its cells."""
    ours = "`method-cards notebook` writes one that answers can be collected from"
    try:
        data = document.parse_json(document.read_bytes(file, LIMIT))
    except DocumentError as error:
        raise InputError("; ".join(f"{file}: {problem.message}" for problem in error.problems)) from None
    except ValueError as error:
        raise InputError(f"{file}: is not a notebook, since it is not JSON: {error}; {ours}") from None
    if (
        not isinstance(data, dict)
        or not isinstance(data.get("cells"), list)
        or not isinstance(data.get("metadata"), dict)
    ):
        raise InputError(f"{file}: is not a notebook: it has no list of cells; {ours}")
    if data.get("nbformat") != 4:  # noqa: PLR2004  (the notebook format)
        raise InputError(f"{file}: is of notebook format {data.get('nbformat')!r:.40}, not 4; {ours}")
    mark = data["metadata"].get("method_cards")
    if not isinstance(mark, dict) or not isinstance(mark.get("about"), str):
        raise InputError(
            f"{file}: was not written by `method-cards notebook`, or another program took its metadata away; {ours}"
        )
    if mark.get("format") != FORMAT:
        raise InputError(
            f"{file}: was written by another release (format {mark.get('format')!r:.40}, this one reads {FORMAT}): write it again"
        )
    return mark["about"], [_cell(file, number, item) for number, item in enumerate(data["cells"], 1)]


def _cell(file: Path, number: int, item: Any) -> _Cell:
    source = item.get("source") if isinstance(item, dict) else None
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if not isinstance(source, str):
        raise InputError(f"{file}: cell {number}: is not a cell of a notebook: it has no text as its source")
    metadata = item.get("metadata")
    about = metadata.get("method_cards") if isinstance(metadata, dict) else None
    return _Cell(
        number,
        str(item.get("id", "")),
        str(item.get("cell_type", "")),
        source,
        about if isinstance(about, dict) else None,
    )


def _expected(project: Project, about: str, found: Sequence[_Cell]) -> tuple[dict[str, NotebookNode], str]:
    """The cells that this project would write today, by id, and the subject that is chosen in the notebook."""
    kind, _, name = about.partition("/")
    if kind == "card" and name in project.catalog:
        fresh = card_notebook(project.catalog.get(name), project="")
        known = [subject for subject, config in project.config.subjects.items() if name in config.cards]
    elif kind == "subject" and name in project.config.subjects:
        fresh = subject_notebook(name, project.cards_of(name), project="")
        known = [name]
    else:
        there = [*project.config.subjects, *project.catalog.ids]
        raise InputError(
            f'is about "{words.clean(name)[:100]}", which this project does not have.{did_you_mean(name, there)}'
        )
    by_id = {cell.id: cell for cell in fresh.cells}
    setup = next(cell.id for cell in fresh.cells if cell.metadata.method_cards.role == "setup")
    subject = _chosen(next((cell for cell in found if cell.id == setup), None))
    if subject not in known:
        wrong = f'the subject is "{words.clean(subject)[:100]}"' if subject else "no subject is chosen"
        raise InputError(f"{wrong} in the cell that loads the project.{did_you_mean(subject, known)}")
    return by_id, subject


def _chosen(setup: _Cell | None) -> str:
    """The subject that the setup cell names, without running it."""
    if setup is None:
        raise InputError("the cell that loads the project and chooses the subject is gone, or its id was changed")
    module = _parsed(setup)
    chosen = [
        node.value.value
        for node in module.body
        if isinstance(node, ast.Assign)
        and [target.id for target in node.targets if isinstance(target, ast.Name)] == ["subject"]
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    if not chosen:
        raise InputError(f'{setup}: no longer says `subject = "..."`, so nobody can tell whom the answers are about')
    stores = [node for node in ast.walk(module) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    if sum(node.id == "subject" for node in stores) > 1:
        raise InputError(f"{setup}: chooses the subject more than once: leave one line that does")
    return chosen[0]


def _parsed(cell: _Cell) -> ast.Module:
    try:
        return ast.parse(cell.source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        said = error.msg if isinstance(error, SyntaxError) else type(error).__name__
        raise InputError(f"{cell}: cannot be read as Python{line}: {said}; is a quotation mark missing?") from None


@dataclass
class _Reading:
    """Compares the cells of a notebook with what they must be.

    Attributes:
        fresh: The cells that the project would write today, by id.
        project: The project.
        subject: The subject that is chosen.
        problems: What was found wrong.
    """

    fresh: Mapping[str, NotebookNode]
    project: Project
    subject: str
    problems: list[str] = field(default_factory=list)

    def answers(self, found: Sequence[_Cell]) -> tuple[dict[str, Answer], list[str]]:
        """The answers by prescription, and the prescriptions whose question nobody has answered.

        Raises:
            InputError: Something is not as it must be.
        """
        counts = Counter(cell.id for cell in found)
        for cell in found:
            self.problems += [f"{cell}: {problem}" for problem in self._wrong(cell, counts)]
        if self.problems:
            raise InputError("\n".join(self.problems))
        texts = {self._prescription(cell) for cell in found if self._role(cell) == "text"}
        given: dict[str, Answer] = {}
        open_ones: list[str] = []
        for cell in found:
            if self._role(cell) == "question":
                try:
                    answer = self._answer(cell, texts)
                except InputError as error:
                    self.problems.append(str(error))
                    continue
                if answer is None:
                    open_ones.append(self._prescription(cell))
                else:
                    given[self._prescription(cell)] = answer
        if self.problems:
            raise InputError("\n".join(self.problems))
        return given, open_ones

    def _role(self, cell: _Cell) -> str:
        fresh = self.fresh.get(cell.id)
        return str(fresh.metadata.method_cards.role) if fresh is not None else ""

    def _prescription(self, cell: _Cell) -> str:
        return str(self.fresh[cell.id].metadata.method_cards.prescription)

    def _wrong(self, cell: _Cell, counts: Counter[str]) -> Iterator[str]:
        """What is wrong with a cell, whatever is answered in it."""
        fresh = self.fresh.get(cell.id)
        if fresh is None:
            if cell.about is not None:
                yield "its id was changed, or its prescription is no longer in the cards: write the notebook again"
            elif cell.kind == "code" and _looks_like_answer(cell):
                yield "answers a question, but is not the cell that was made for it: write the answer there"
            return
        told = dict(fresh.metadata.method_cards)
        if counts[cell.id] > 1:
            yield "is there twice: leave one of the two out"
        elif cell.kind != fresh.cell_type:
            yield f"is a {cell.kind} cell now, and was a {fresh.cell_type} cell"
        elif cell.about is None:
            yield "has lost its metadata: another program took it away; write the notebook again"
        elif any(cell.about.get(name) != told[name] for name in ("role", "prescription") if name in told):
            yield "its metadata was changed"
        elif "asked" in told and cell.about.get("asked") != told["asked"]:
            yield "the card asks something else now than when this notebook was written: write it again"
        elif cell.kind == "markdown" and not self._says_what_it_must(cell):
            yield "its text was changed: put what you want to say into the answer, or into a cell of your own"

    def _says_what_it_must(self, cell: _Cell) -> bool:
        """Whether a text is as it was written; and if it asks something, whether it asks what the card asks."""
        if self._role(cell) == "text" and "asked" in self.fresh[cell.id].metadata.method_cards:
            statement, question = self._asked(self._prescription(cell))
            return cell.is_as_written and all(cells.plain(text) in cell.source for text in (statement, question))
        return cell.is_as_written

    def _asked(self, full: str) -> tuple[str, str]:
        """What the card says and asks."""
        card, _, slug = full.partition("/")
        found = next(item for item in self.project.catalog.get(card).card.prescriptions if item.id == slug)
        assert found.question is not None
        return found.statement, found.question.question

    def _answer(self, cell: _Cell, texts: set[str]) -> Answer | None:
        """The answer in a cell; None where there is none."""
        full = self._prescription(cell)
        fields = _fields(cell, full)
        if not any(text.strip() for text in fields.values()):
            return None
        if full not in texts:
            raise InputError(f"{cell}: the cell above it, which asks the question, is gone: write the notebook again")
        stored = self.project.answers(self.subject).get(full)
        if cell.is_as_written and stored is None:
            raise InputError(
                f"{cell}: this answer was written for another subject, or was withdrawn since: give it anew, or empty it"
            )
        if cell.is_as_written and stored is not None:
            return stored
        try:
            answer = answer_from(fields)
        except InputError as error:
            raise InputError(f"{cell}: {error}") from None
        return answer.model_copy(update={"question": self._asked(full)[1]})


def _looks_like_answer(cell: _Cell) -> bool:
    try:
        nodes = list(ast.walk(_parsed(cell)))
    except InputError:  # a person's own cell may hold anything
        return False
    return any(isinstance(node, ast.Call) and _is_answer(node.func) for node in nodes)


def _is_answer(function: ast.expr) -> bool:
    return (
        isinstance(function, ast.Attribute)
        and function.attr == "answer"
        and isinstance(function.value, ast.Name)
        and function.value.id == "checklist"
    )


def _fields(cell: _Cell, full: str) -> dict[str, str]:
    """The fields of the one call that a question cell holds, read without running it."""
    body = _parsed(cell).body
    call = body[0].value if len(body) == 1 and isinstance(body[0], ast.Expr) else None
    if not isinstance(call, ast.Call) or not _is_answer(call.func):
        raise InputError(
            f"{cell}: must hold its one call of `checklist.answer` and nothing else; put other code into a cell of your own"
        )
    named = [_text(argument) for argument in call.args]
    if named != [full]:
        raise InputError(
            f'{cell}: answers {named[0]!r:.100} where "{full}" is asked'
            if named
            else f'{cell}: no longer names "{full}"'
        )
    fields = dict.fromkeys(FIELDS, "")
    for keyword in call.keywords:
        if keyword.arg not in fields:
            raise InputError(f"{cell}: has no field `{keyword.arg or '**'}`.{did_you_mean(keyword.arg or '', FIELDS)}")
        text = _text(keyword.value)
        if text is None:
            raise InputError(
                f'{cell}: `{keyword.arg}` must be text in quotation marks, such as `{keyword.arg}="..."`; no code is run to find it'
            )
        fields[keyword.arg] = text
    return fields


def _text(value: ast.expr) -> str | None:
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None


def _keep(project: Project, subject: str, given: Mapping[str, Answer], open_ones: Sequence[str]) -> Collected:
    own = project.config.subjects[subject].answers
    collected, _ = answers.read(project.folder)
    before = collected.get(subject, {})
    new, changed, known, problems = [], [], [], []
    for full, answer in given.items():
        there = own.get(full) or before.get(full)
        if there is None:
            new.append(full)
        elif _said(there) == _said(answer) and (full in own or there.question == answer.question):
            known.append(full)
        elif full in own:
            problems.append(
                f"{full}: {project.document.path.name} answers this otherwise: change it there, or take it out there"
            )
        elif answer.on < there.on:
            problems.append(f"{full}: {answers.FILE} holds a later answer, of {there.on} by {words.clean(there.by)}")
        else:
            changed.append(full)
    if problems:
        raise InputError("\n".join(problems))
    path = project.folder / answers.FILE
    if new or changed:
        merged = {**before, **{full: given[full] for full in (*new, *changed)}}
        answers.write(project.folder, {**collected, subject: merged})
    return Collected(subject, path, tuple(new), tuple(changed), tuple(known), tuple(open_ones))


def _said(answer: Answer) -> tuple[object, ...]:
    return answer.answer, answer.by, answer.on, answer.evidence

"""Answers come back from a notebook; one that is foreign or was changed is refused, and nothing is ever half taken."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from method_cards import answers, document
from method_cards.engine import run_project
from method_cards.errors import DocumentError, InputError, Problem
from method_cards.project import FILE, Project
from method_cards.render import cells, kept, notebook
from method_cards.render.build import write_markdown
from method_cards.render.collect import collect
from method_cards.verdict import Answer, Outcome
from tests.helpers import card_data, prescription, project, question, write_card

FIRST = "toy-card/told"
FILLED = {"answer": "It is.", "by": "A. Person", "on": "2026-03-01", "evidence": "minutes of March"}
WANTED = [prescription("itself"), question("told"), question("asked")]

Notebook = dict[str, Any]


@pytest.fixture
def toy(tmp_path: Path) -> Project:
    return project(tmp_path, WANTED)


def again(loaded: Project) -> Project:
    """The project as the next command reads it, with its own card alone."""
    collected, _ = answers.read(loaded.folder)
    return replace(loaded, collected=collected)


def written(loaded: Project, name: str = "toy") -> Path:
    (loaded.folder / "notebooks" / f"{name}.ipynb").unlink(missing_ok=True)  # one that is filled in is not written over
    return notebook.write(loaded, name)


def read(path: Path) -> Notebook:
    found: Notebook = json.loads(path.read_text(encoding="utf-8"))
    return found


def save(path: Path, made: Notebook) -> Path:
    path.write_text(json.dumps(made), encoding="utf-8")
    return path


def cell(made: Notebook, full: str, role: str = "question") -> dict[str, Any]:
    found: dict[str, Any] = next(
        item
        for item in made["cells"]
        if (item["metadata"]["method_cards"].get("prescription"), item["metadata"]["method_cards"]["role"])
        == (full, role)
    )
    return found


def call(full: str = FIRST, **fields: str) -> str:
    return "\n".join(
        ["checklist.answer(", f"    {full!r},", *(f"    {name}={text!r}," for name, text in fields.items()), ")"]
    )


def filled(loaded: Project, full: str = FIRST, **changes: str) -> Path:
    """A notebook in which somebody has answered."""
    path = written(loaded)
    made = read(path)
    cell(made, full)["source"] = call(full, **{**FILLED, **changes})
    return save(path, made)


# The way there and back


def test_an_answer_comes_back(toy: Project) -> None:
    """Write the notebook, answer, collect, run: the verdict is answered, by whom, when and with what evidence, and the other one still waits."""
    found = collect(toy, filled(toy))
    assert (found.new, found.changed, found.known, found.open) == ((FIRST,), (), (), ("toy-card/asked",))
    verdicts = {verdict.id: verdict for verdict in run_project(again(toy), "toy").verdicts}
    answer = verdicts[FIRST].answer
    assert verdicts[FIRST].outcome is Outcome.ANSWERED
    assert answer is not None
    assert answer.model_dump() == {**FILLED, "on": dt.date(2026, 3, 1), "question": "Is it so?"}
    assert verdicts["toy-card/asked"].outcome is Outcome.UNANSWERED


def test_pages_show_an_answer_without_a_new_run(toy: Project, tmp_path: Path) -> None:
    """A record that was made before keeps its file, and pages and the report show the answer; a run that is asked for is shown as it was."""
    run_project(toy, "toy")
    before = [path.read_bytes() for path in toy.records.rglob("record.json")]
    write_markdown(toy, tmp_path / "before")
    collect(toy, filled(toy))
    write_markdown(again(toy), tmp_path / "after")
    assert [path.read_bytes() for path in toy.records.rglob("record.json")] == before
    page = "cards/toy-card.md"
    assert "minutes of March" not in (tmp_path / "before" / page).read_text(encoding="utf-8")
    assert "minutes of March" in (tmp_path / "after" / page).read_text(encoding="utf-8")
    ((newest, _),) = kept.views(again(toy), ["toy"])[1]
    ((as_it_was, _),) = kept.views(again(toy), ["toy"], newest.record.id)[1]
    outcomes = [view.record.verdicts[1].outcome for view in (newest, as_it_was)]
    assert outcomes == [Outcome.ANSWERED, Outcome.UNANSWERED]


def test_of_two_who_collect_at_once_none_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one has written between the other's reading and writing stays."""
    loaded = project(tmp_path, WANTED)
    questions = (FIRST, "toy-card/asked")
    paths = [filled(loaded, full).rename(tmp_path / f"{full.partition('/')[2]}.ipynb") for full in questions]
    read_at_once = answers.read

    def slowly(folder: Path) -> Any:
        found = read_at_once(folder)
        time.sleep(0.3)
        return found

    monkeypatch.setattr(answers, "read", slowly)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda path: collect(loaded, path), paths))
    assert set(read_at_once(tmp_path)[0]["toy"]) == {*questions}


def test_one_who_waits_too_long_is_told(toy: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that is not given back, and one that cannot be made, are told with their path."""
    path = filled(toy)
    monkeypatch.setattr(answers, "PATIENCE", 0.1)
    with answers.alone(toy.folder), pytest.raises(InputError, match="another process has been collecting"):
        collect(toy, path)
    (toy.folder / answers.LOCK).unlink(missing_ok=True)
    (toy.folder / answers.LOCK).mkdir()
    with pytest.raises(InputError, match="cannot be locked"):
        collect(toy, path)
    assert not (toy.folder / answers.FILE).exists()


def test_collecting_twice_changes_nothing(toy: Project) -> None:
    """The second time the answer is known, and not a byte of the file changes."""
    path = filled(toy)
    first = collect(toy, path).path.read_bytes()
    found = collect(again(toy), path)
    assert (found.new, found.known) == ((), (FIRST,))
    assert found.path.read_bytes() == first


def test_a_notebook_that_nobody_filled_in_writes_nothing(toy: Project) -> None:
    """Open questions are counted, and no file is made."""
    found = collect(toy, written(toy))
    assert found.open == (FIRST, "toy-card/asked")
    assert not found.path.exists()


def test_a_new_notebook_holds_the_answer(toy: Project) -> None:
    """The answer stands in the cell of the next notebook; collected as it is, it is known; changed, it takes the earlier one's place."""
    collect(toy, filled(toy))
    path = written(again(toy))
    assert "".join(cell(read(path), FIRST)["source"]) == cells.answer(FIRST, Answer.model_validate(FILLED))
    assert collect(again(toy), path).known == (FIRST,)
    later = collect(again(toy), filled(again(toy), answer="No longer.", on="2026-04-01"))
    assert later.changed == (FIRST,)
    assert again(toy).answers("toy")[FIRST].answer == "No longer."


def test_an_older_answer_does_not_undo_a_later_one(toy: Project) -> None:
    """An answer of an earlier day is refused when a later one is there."""
    collect(toy, filled(toy))
    with pytest.raises(InputError, match=r"answers\.yaml holds a later answer, of 2026-03-01 by A. Person"):
        collect(again(toy), filled(again(toy), on="2026-02-01"))


def test_a_card_that_asks_something_else_has_no_answer(toy: Project) -> None:
    """An answer that was collected counts as long as the card asks the same; after that the question is open again, with the reason."""
    path = filled(toy)
    collect(toy, path)
    changed = {**question("told"), "question": {"question": "Is it really so?", "evidence_required": "a report"}}
    write_card(toy.folder / "cards", card_data([WANTED[0], changed, WANTED[2]]))
    now = again(project(toy.folder, [WANTED[0], changed, WANTED[2]]))
    verdict = next(item for item in run_project(now, "toy").verdicts if item.id == FIRST)
    assert verdict.outcome is Outcome.UNANSWERED
    assert "changed since A. Person answered it" in verdict.reason
    with pytest.raises(InputError, match="the card asks something else now"):
        collect(now, path)
    assert (
        cell(read(written(now)), FIRST)["source"] == cell(read(written(project(toy.folder, WANTED))), FIRST)["source"]
    )
    assert collect(now, filled(now, answer="Really.")).changed == (FIRST,)
    assert again(now).answers("toy")[FIRST].question == "Is it really so?"


def test_answers_in_two_places(toy: Project) -> None:
    """What method-cards.yaml answers is known when it is the same, refused when not; answered in both files, the project is refused."""
    own = project(toy.folder, WANTED, answers={FIRST: FILLED})
    assert collect(own, filled(own, answer="It is. ")).known == (FIRST,)
    with pytest.raises(InputError, match=r"method-cards\.yaml answers this otherwise"):
        collect(own, filled(own, answer="It is not."))
    answers.write(toy.folder, {"toy": {FIRST: Answer.model_validate(FILLED)}})
    with pytest.raises(DocumentError, match=r"answers\.yaml:\d+:\d+: .*method-cards\.yaml answers this too"):
        raise DocumentError(_problems(own))


def _problems(loaded: Project) -> list[Problem]:
    """What reading the project would refuse."""
    found, source = answers.read(loaded.folder)
    assert source is not None
    return loaded.answer_problems(found, source)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("schema_version: 1\nsubjects: {tory: {}}\n", 'no subject is called "tory". Did you mean "toy"'),
        (
            f"schema_version: 1\nsubjects: {{toy: {{toy-card/tolt: {json.dumps(FILLED)}}}}}\n",
            'Did you mean "toy-card/told"',
        ),
        ("schema_version: 1\nsubjects: {toy: {toy-card/told: {answer: x}}}\n", "by"),
        ("schema_version: 2\n", "schema_version"),
        ("[]\n", "answers.yaml:1:1"),
    ],
)
def test_a_wrong_file_of_answers_is_told_with_its_place(content: str, message: str, toy: Project) -> None:
    """What is wrong in answers.yaml is an error with file, line and column when the project is read."""
    (toy.folder / answers.FILE).write_text(content, encoding="utf-8")
    with pytest.raises(DocumentError, match=r"answers\.yaml:\d+:\d+") as caught:
        raise DocumentError(_problems(toy))
    assert message in str(caught.value)


def test_no_notebook_is_written_over_answers_that_nobody_collected(toy: Project) -> None:
    """A notebook with an answer in it stays as it is; once that is collected, the next one holds it and takes its place."""
    path = filled(toy)
    before = path.read_bytes()
    with pytest.raises(InputError, match=f"holds answers that would be lost, to {FIRST}: run"):
        notebook.write(toy, "toy")
    assert path.read_bytes() == before
    made = read(path)
    cell(made, FIRST)["source"] = call(**FILLED)[:-1]  # half written
    with pytest.raises(InputError, match="would be lost"):
        notebook.write(toy, "toy", save(path, made))
    collect(toy, filled(toy))
    assert collect(again(toy), notebook.write(again(toy), "toy")).known == (FIRST,)
    made = read(path)
    cell(made, "toy-card/asked")["source"] = call("toy-card/asked")  # changed, and still no answer
    assert notebook.write(again(toy), "toy", save(path, made)) == path


def test_a_card_notebook_is_about_the_subject_that_is_chosen_in_it(toy: Project) -> None:
    """In the notebook of a card, the variable at the top says whom the answers are about."""
    path = written(toy, "toy-card")
    made = read(path)
    cell(made, FIRST)["source"] = call(**FILLED)
    setup = next(item for item in made["cells"] if item["metadata"]["method_cards"]["role"] == "setup")
    original = "".join(setup["source"])
    assert collect(toy, save(path, made)).subject == "toy"
    for source, message in (
        (original.replace('"toy"', '"tory"'), 'the subject is "tory".*Did you mean "toy"'),
        (original.replace('subject = "toy"', "subject = input()"), 'no longer says `subject = "..."`'),
        (original.replace('"toy"', '"toy'), "cannot be read as Python, line 3"),
        (f'{original}\nsubject = "tory"', "chooses the subject more than once"),
    ):
        setup["source"] = source
        with pytest.raises(InputError, match=message):
            collect(toy, save(path, made))


# What is refused


def source(text: str | Callable[[str], str]) -> Callable[[Notebook], None]:
    def change(made: Notebook) -> None:
        found = cell(made, FIRST)
        found["source"] = text if isinstance(text, str) else text("".join(found["source"]))

    return change


def text_cell(
    change: Callable[[dict[str, Any]], object], role: str = "text", full: str = FIRST
) -> Callable[[Notebook], None]:
    def apply(made: Notebook) -> None:
        change(cell(made, full, role))

    return apply


def anywhere(change: Callable[[Notebook], object]) -> Callable[[Notebook], None]:
    def apply(made: Notebook) -> None:
        change(made)

    return apply


def reworded(asked: dict[str, Any]) -> None:
    """Change what is asked, and everything that would show it."""
    asked["source"] = "".join(asked["source"]).replace("Is it so?", "Is it nice?")
    asked["metadata"]["method_cards"]["sha256"] = notebook.digest(asked["source"])


TAMPERED: dict[str, tuple[Callable[[Notebook], None], str]] = {
    "no metadata": (anywhere(lambda made: made["metadata"].pop("method_cards")), "was not written by"),
    "another format": (
        anywhere(lambda made: made["metadata"]["method_cards"].update(format=1)),
        "written by another release",
    ),
    "another notebook format": (anywhere(lambda made: made.update(nbformat=3)), "is of notebook format 3, not 4"),
    "no cells": (anywhere(lambda made: made.pop("cells")), "no list of cells"),
    "a cell that is none": (anywhere(lambda made: made["cells"].append(7)), "cell 10: is not a cell"),
    "a source that is none": (anywhere(lambda made: made["cells"][0].update(source={})), "cell 1: is not a cell"),
    "another project": (
        anywhere(lambda made: made["metadata"]["method_cards"].update(about="subject/other")),
        'is about "other"',
    ),
    "another kind": (anywhere(lambda made: made["metadata"]["method_cards"].update(about="check/toy")), "is about"),
    "a changed question": (
        text_cell(lambda asked: asked.update(source="Is it nice?")),
        r"cell \d \(toy-card/told\): its text was changed",
    ),
    "a changed question, covered up": (text_cell(reworded), "its text was changed"),
    "a changed result": (
        text_cell(lambda said: said.update(source="**passed**"), full="toy-card/itself"),
        r"\(toy-card/itself\): its text was changed",
    ),
    "a changed checklist": (
        anywhere(lambda made: made["cells"][1].update(source="All is well.")),
        r"cell 2 \(checklist\)",
    ),
    "a lost question": (
        anywhere(lambda made: made["cells"].remove(cell(made, FIRST, "text"))),
        "which asks the question, is gone",
    ),
    "a lost setup": (anywhere(lambda made: made["cells"].pop(2)), "loads the project and chooses the subject is gone"),
    "a changed id": (text_cell(lambda asked: asked.update(id="else"), "question"), "its id was changed"),
    "no id": (text_cell(lambda asked: asked.pop("id"), "question"), "its id was changed"),
    "swapped ids": (
        anywhere(lambda made: _swap(cell(made, FIRST), cell(made, "toy-card/asked"), "id")),
        "its metadata was changed",
    ),
    "a copy": (anywhere(lambda made: made["cells"].append(cell(made, FIRST))), "is there twice"),
    "cell without metadata": (text_cell(lambda asked: asked.update(metadata={}), "question"), "has lost its metadata"),
    "another role": (
        text_cell(lambda asked: asked["metadata"]["method_cards"].update(role="run"), "question"),
        "its metadata was changed",
    ),
    "another prescription": (
        text_cell(lambda asked: asked["metadata"]["method_cards"].update(prescription="toy-card/asked"), "question"),
        "its metadata was changed",
    ),
    "another question": (
        text_cell(lambda asked: asked["metadata"]["method_cards"].update(asked="0"), "question"),
        "asks something else now",
    ),
    "another kind of cell": (text_cell(lambda asked: asked.update(cell_type="raw"), "question"), "is a raw cell now"),
    "an answer elsewhere": (
        anywhere(lambda made: made["cells"].append({"cell_type": "code", "source": call(**FILLED), "metadata": {}})),
        "is not the cell that was made for it",
    ),
    "an answer to another question": (
        source(call("toy-card/asked", **FILLED)),
        "answers 'toy-card/asked' where \"toy-card/told\" is asked",
    ),
    "an answer to nothing": (source("checklist.answer()"), 'no longer names "toy-card/told"'),
    "more than the call": (source(lambda text: f"{text}\nimport os"), "must hold its one call"),
    "another call": (source("print('yes')"), "must hold its one call"),
    "code as an answer": (
        source(call(**FILLED).replace("'It is.'", "open('/etc/passwd').read()")),
        "must be text in quotation marks",
    ),
    "an f-string": (source(call(**FILLED).replace("'It is.'", "f'{subject}'")), "must be text in quotation marks"),
    "more fields": (source(call(**FILLED, force="yes")), "has no field `force`"),
    "fields from elsewhere": (source("checklist.answer('toy-card/told', **fields)"), "has no field"),
    "no Python": (source(call(**FILLED).replace("'It is.'", "'It is.")), "cannot be read as Python, line 3"),
    "too deep": (source("checklist.answer(" + "(" * 5000), "cannot be read as Python"),
    "a null byte": (source("checklist.answer(\0)"), "cannot be read as Python"),
    "nobody": (source(call(**{**FILLED, "by": " "})), "`by` is empty"),
    "no evidence": (source(call(**{**FILLED, "evidence": ""})), "`evidence` is empty"),
    "no day": (source(call(**{**FILLED, "on": ""})), "`on` is empty"),
    "not a day": (source(call(**{**FILLED, "on": "2026-02-30"})), '`on` is "2026-02-30": write the day as'),
    "another form of day": (source(call(**{**FILLED, "on": "20260301"})), "write the day as"),
    "a day to come": (source(call(**{**FILLED, "on": "2999-01-01"})), "which has yet to come"),
    "too much": (source(call(**{**FILLED, "answer": "x" * 5000})), "5,000 characters"),
    "what nobody can see": (source(call(**{**FILLED, "answer": "yes\u202eon"})), "U\\+202E, which nobody can see"),
    "half a character": (
        source("checklist.answer('toy-card/told', answer='\\ud800', by='x', on='2026-03-01', evidence='x')"),
        "U\\+D800",
    ),
}


def _swap(one: dict[str, Any], other: dict[str, Any], key: str) -> None:
    one[key], other[key] = other[key], one[key]


@pytest.mark.parametrize("name", TAMPERED)
def test_what_is_not_as_it_must_be_is_refused(name: str, toy: Project) -> None:
    """A foreign, changed or wrongly filled notebook is an InputError that names the cell; nothing is written, not even good answers in it."""
    change, message = TAMPERED[name]
    path = filled(toy)
    made = read(path)
    cell(made, "toy-card/asked")["source"] = call("toy-card/asked", **FILLED)
    change(made)
    with pytest.raises(InputError, match=message):
        collect(toy, save(path, made))
    assert not (toy.folder / answers.FILE).exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a notebook, since it is not JSON: it is empty; `method-cards notebook` writes one"),
        (b"\x00\xff\x89PNG", "is not JSON: it is not text in UTF-8"),
        (b'{"cells": [}', "is not JSON: nothing can be read from line 1, column 12 on"),
        (b"[" * 100_000, "is not JSON: it is nested too deep"),
        (b'{"nbformat": ' + b"1" * 5000 + b"}", "is not JSON: a number in it has thousands of digits"),
        (b"[]", "no list of cells"),
        (b'{"cells": [], "metadata": []}', "no list of cells"),
        (b'{"cells": [], "metadata": {}, "nbformat": 4}', "was not written by"),
        (
            b'{"cells": [], "metadata": {"method_cards": {"about": "card/toy-card", "format": 2}}, "nbformat": 4}',
            "chooses the subject is gone",
        ),
    ],
)
def test_what_is_no_notebook_is_refused(content: bytes, message: str, toy: Project) -> None:
    """Whatever the file holds, the refusal is one sentence with the name of the file."""
    path = toy.folder / "x.ipynb"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        collect(toy, path)
    assert str(path) in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused(toy: Project) -> None:
    """No file, a folder, and a file of more than 64 MiB, which is not opened, are each told."""
    huge = toy.folder / "huge.ipynb"
    with huge.open("wb") as handle:
        handle.truncate((64 << 20) + 1)
    for path, message in (
        (toy.folder / "none.ipynb", "no such file"),
        (toy.folder, "is a folder"),
        (huge, "more than the 67,108,864"),
    ):
        with pytest.raises(InputError, match=message):
            collect(toy, path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_change_of_a_notebook_gets_through_unseen(data: st.DataObject, toy: Project) -> None:
    """Whatever one text or value in the file is replaced by, either the right answer to the right question is taken, or nothing."""
    path = filled(toy)
    made = read(path)
    made["cells"] = [{**item, "source": "".join(item["source"])} for item in made["cells"]]
    where = data.draw(st.sampled_from(list(_leaves(made))))
    holder: Any = made
    for step in where[:-1]:
        holder = holder[step]
    holder[where[-1]] = data.draw(st.one_of(st.text(max_size=20), st.none(), st.integers(), st.just([]), st.just({})))
    (toy.folder / answers.FILE).unlink(missing_ok=True)
    try:
        collect(toy, save(path, made))
    except InputError:
        assert not (toy.folder / answers.FILE).exists()
        return
    for full, answer in again(toy).answers("toy").items():
        assert full in (FIRST, "toy-card/asked")
        assert answer.question == "Is it so?"
        assert answer.answer == "It is."


def _leaves(value: Any, path: tuple[str | int, ...] = ()) -> Any:
    """Where every text, number and None of a JSON value stands."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if isinstance(inner, dict | list) and inner:
            yield from _leaves(inner, (*path, key))
        else:
            yield (*path, key)


# What survives


def test_editors_may_change_what_means_nothing(toy: Project) -> None:
    """Outputs, counts, more metadata, line ends, lists of lines, cells of one's own: none of this stands in the way."""
    path = filled(toy)
    made = read(path)
    for number, item in enumerate(made["cells"]):
        item["metadata"] |= {"collapsed": False, "vscode": {"languageId": "python"}, "id": f"colab{number}"}
        item["source"] = "".join(item["source"]).replace("\n", "\r\n").splitlines(keepends=True)
        if item["cell_type"] == "code":
            item |= {"execution_count": 3, "outputs": [{"output_type": "stream", "name": "stdout", "text": "!"}]}
    made["metadata"] |= {"colab": {"provenance": []}, "kernelspec": {"name": "other"}}
    made["cells"].insert(0, {"cell_type": "markdown", "metadata": {}, "source": "My notes: checklist.answer(1)"})
    made["cells"].append({"cell_type": "code", "metadata": {}, "source": "%time x = 1", "outputs": []})
    cell_of_check = cell({"cells": made["cells"][1:-1]}, "toy-card/itself", "run")
    cell_of_check["source"] = 'checklist.run("toy-card/itself", samples=9)'
    assert collect(toy, save(path, made)).new == (FIRST,)


TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cf", "Zl", "Zp", "Cn", "Cs")), min_size=1, max_size=40
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fields=st.fixed_dictionaries({"answer": TEXT, "by": TEXT, "evidence": TEXT}).filter(
        lambda fields: all(text.strip() for text in fields.values())
    )
)
def test_every_text_comes_back_as_it_was_written(fields: dict[str, str], toy: Project) -> None:
    """Quotation marks, YAML, markup, any script: what a person writes is what is kept, and what the next notebook holds."""
    (toy.folder / answers.FILE).unlink(missing_ok=True)
    collect(toy, filled(toy, **fields))
    stored = again(toy).answers("toy")[FIRST]
    wanted = {name: text.strip() for name, text in fields.items()}
    assert stored.model_dump(include={"answer", "by", "evidence"}) == wanted
    assert collect(again(toy), written(again(toy))).known == (FIRST,)


def test_the_file_of_answers_is_whole_or_as_before(toy: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """When writing fails in the middle, the earlier file is still there and nothing else is left behind."""
    collect(toy, filled(toy))
    path = toy.folder / answers.FILE
    before = path.read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(InputError, match="cannot be written: No space left on device"):
        collect(again(toy), filled(again(toy), answer="No.", on="2026-04-01"))
    assert path.read_bytes() == before
    assert not list(toy.folder.glob(".*writing"))


def test_answers_are_written_the_same_way_each_time(toy: Project) -> None:
    """The same answers give the same bytes in whatever order they come, and the file is read back as it was."""
    one, other = (Answer.model_validate({**FILLED, "answer": text}) for text in ("yes", "no\nand: more"))
    path = answers.write(toy.folder, {"b": {FIRST: one, "a/b": other}, "a": {"x/y": one}, "c": {}})
    first = path.read_bytes()
    assert answers.write(toy.folder, {"a": {"x/y": one}, "b": {"a/b": other, FIRST: one}}).read_bytes() == first
    assert answers.read(toy.folder)[0] == {"a": {"x/y": one}, "b": {"a/b": other, FIRST: one}}
    many = {f"x/{number}": one.model_copy(update={"evidence": "e" * 4000}) for number in range(300)}
    with pytest.raises(InputError, match=f"more than the {document.SIZE_LIMIT:,}"):
        answers.write(toy.folder, {"a": many})


def test_a_collected_notebook_is_still_valid(toy: Project) -> None:
    """A filled notebook is a valid notebook of format 4.5 for every other program."""
    nbformat.validate(nbformat.read(filled(toy), as_version=4))
    assert (toy.folder / FILE).is_file()

"""Notebooks of cards and subjects, and how a record looks in one."""

from __future__ import annotations

import json
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell

from method_cards.catalog import Catalog, LoadedCard
from method_cards.document import load
from method_cards.errors import InputError
from method_cards.project import FILE, Project, ProjectConfig
from method_cards.record import Record
from method_cards.registry import Registry
from method_cards.render import cells, notebook
from method_cards.render.collect import collect
from tests.render.conftest import new_card_data, put_card

CHECK = '''
from method_cards.check import Check, Passes
from method_cards.measurement import Pictures, Quantity
import numpy as np

RIGHT = Quantity("right", "proportion", "share of examples that are classified correctly")

class Accuracy(Check):
    """The model is right."""

    id = "toy/accuracy"
    quantities = (RIGHT,)

    def splits(self):
        return ("test",)

    def passes(self, subject, samples):
        return Passes(forward=samples)

    def measure(self, subject, context):
        for batch in context.batches("test"):
            yield RIGHT.per_sample((subject.outputs(batch).argmax(1) == batch.targets).numpy())
        yield Pictures("example", "A <b>caption</b>.", ("one",), ("row",), np.ones((1, 1, 4, 4), dtype=np.float32), (False,))

    @classmethod
    def controls(cls):
        return ()
'''

MODEL = """
import torch

def build():
    return torch.nn.Identity().eval()

def test():
    inputs = 3 * torch.eye(2).repeat(100, 1)
    return inputs, inputs.argmax(1)
"""


def markdown_of(made: nbformat.NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in made.cells if cell.cell_type == "markdown")


def project(folder: Path, card: dict[str, Any], write_card: Any) -> Project:
    """A tiny project: a model that is always right, a check of its own, a card of its own."""
    prescriptions = [card["prescriptions"][0], card["prescriptions"][7]]
    criterion = {"claim": "the model is right", "measurement": "right", "at_least": 0.9, "source": {"note": "made up"}}
    prescriptions[0]["check"] = {"id": "toy/accuracy", "criteria": [criterion]}
    write_card(folder / "cards", {**card, "prescriptions": prescriptions})
    (folder / "check.py").write_text(CHECK)
    (folder / "model.py").write_text(MODEL)
    subject = {
        "task": "tabular-classification",
        "model": "model.py:build",
        "data": {"test": "model.py:test"},
        "cards": ["toy-maps"],
    }
    config = {
        "schema_version": 1,
        "checks": ["check.py:Accuracy"],
        "subjects": {"always-right": subject, "second": subject},
    }
    (folder / FILE).write_text(json.dumps(config))
    source = load(folder / FILE)
    registry = Registry.installed(["check.py:Accuracy"], folder)
    return Project(folder, source.validate(ProjectConfig), source, Catalog.load([folder / "cards"]), registry)


def test_notebook_is_valid(toy_card: LoadedCard, every_outcome: Record) -> None:
    """A notebook is of format 4.5, valid, for a Python 3 kernel, with unique cell ids."""
    made = notebook.card_notebook(toy_card, subjects=["digits-cnn"], record=every_outcome)
    nbformat.validate(made)
    assert (made.nbformat, made.nbformat_minor) == (4, 5)
    assert made.metadata.kernelspec.name == "python3"
    assert len({cell.id for cell in made.cells}) == len(made.cells)


def test_same_input_same_bytes(toy_card: LoadedCard, every_outcome: Record) -> None:
    """The same card and record give the same bytes, and a new result changes no cell id."""
    first, again = (
        notebook.to_json(notebook.card_notebook(toy_card, subjects=["a"], record=every_outcome)) for _ in range(2)
    )
    assert first == again
    without = notebook.card_notebook(toy_card, subjects=["a"])
    assert [cell.id for cell in without.cells] == [cell["id"] for cell in json.loads(first)["cells"]]


def test_each_prescription_has_its_cells(toy_card: LoadedCard, every_outcome: Record) -> None:
    """For each prescription there is its text, and either a cell that runs exactly its check or a question to a person."""
    made = notebook.card_notebook(toy_card, subjects=["digits-cnn"], record=every_outcome)
    for prescription in toy_card.card.prescriptions:
        full = f"toy-maps/{prescription.id}"
        roles = {
            cell.metadata.method_cards.role: cell
            for cell in made.cells
            if cell.metadata.get("method_cards", {}).get("prescription") == full
        }
        assert set(roles) == {"text", "run" if prescription.check else "question"}
        assert prescription.statement in roles["text"].source
        if prescription.check:
            assert roles["run"].source == f'checklist.run("{full}")'
        else:
            assert prescription.question is not None
            assert prescription.question.question in roles["text"].source
            assert roles["question"].source.startswith(f'checklist.answer(\n    "{full}",\n')


def test_checklist_shows_verdicts(toy_card: LoadedCard, every_outcome: Record) -> None:
    """The checklist has a row for each prescription with its verdict; without a record it says that nothing was run."""
    made = notebook.card_notebook(toy_card, record=every_outcome)
    assert "| ✗ **failed** | Maps MUST change when the parameters are randomised. |" in made.cells[1].source
    assert "**failed**, waived until 2027-01-01" in made.cells[1].source
    empty = notebook.card_notebook(toy_card).cells[1].source
    assert empty.count("*not run*") == 7
    assert "Nothing is recorded yet" in empty


def test_result_names_its_record(toy_card: LoadedCard, every_outcome: Record) -> None:
    """A result stands with its reason and the id and day of its record."""
    text = markdown_of(notebook.card_notebook(toy_card, record=every_outcome))
    assert "0.81, 95% interval 0.77 to 0.84 (n = 128): outside the bound ≤ 0.3" in text
    assert "*record 20260301T120000Z, 2026-03-01*" in text


def test_subject_variable_at_the_top(toy_card: LoadedCard) -> None:
    """One variable at the top chooses the model; the notebook of a card names the others that it applies to, or asks for one."""
    setup = notebook.card_notebook(toy_card, subjects=["a", "b"]).cells[2].source
    assert 'subject = "a"  # or "b"' in setup
    assert 'checklist = Checklist("..", subject)' in setup
    assert 'subject = ""  # the name of a model' in notebook.card_notebook(toy_card).cells[2].source


def test_question_cell(toy_card: LoadedCard, every_outcome: Record) -> None:
    """An open question has a call to fill in, with who, when and evidence; one that was answered shows the answer in it."""
    made = notebook.card_notebook(toy_card, record=every_outcome)
    open_one, answered = (cell.source for cell in made.cells if cell.metadata.method_cards.role == "question")
    assert open_one == (
        'checklist.answer(\n    "toy-maps/baseline",\n    answer="",\n    by="",\n'
        '    on="",  # the day, as 2026-03-01\n    evidence="",  # a path, a link, a ticket\n)'
    )
    assert answered == (
        'checklist.answer(\n    "toy-maps/reviewed",\n    answer="yes",\n    by="A. Person",\n    on="2026-03-01",\n'
        '    evidence="minutes of March",\n)'
    )
    assert "Is the baseline without meaning?" in markdown_of(made)
    assert "a link to the decision" in markdown_of(made)


def test_subject_notebook_has_all_cards(toy_card: LoadedCard, every_outcome: Record) -> None:
    """The notebook of a subject has a heading for each of its cards, and all their prescriptions in one checklist."""
    made = notebook.subject_notebook("digits-cnn", [toy_card, toy_card_again(toy_card)], record=every_outcome)
    assert made.cells[0].source.startswith("# Digits CNN")
    assert "## Toy saliency maps" in markdown_of(made)
    assert made.cells[1].source.count("\n| ") == 2 + 2 * 9
    nbformat.validate(made)


def toy_card_again(loaded: LoadedCard) -> LoadedCard:
    card = loaded.card.model_copy(update={"id": "other-maps"})
    return LoadedCard(card, loaded.document, loaded.folder, loaded.family, loaded.origin, loaded.references)


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "[x]\n\n[x]: javascript:alert(1)",
    r"\[x](javascript:alert(1)) and <b>",
    "![x](https://tracker.example/x.png)",
    "```\n</code></pre><script>alert(1)</script>",
    "`a`` <svg onload=alert(1)> `",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    r"$\href{javascript:alert(1)}{x}$",
    "text\n\n    <script>alert(1)</script>",
    "| a |\n| --- |\n| <iframe src=//x> |",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_a_card_stays_text(toy_card: LoadedCard, every_outcome: Record, text: str) -> None:
    """No text of a card or record becomes an element, a link that runs code, or a request, however a notebook is turned into HTML."""
    changed = {"statement": text, "rationale": text, "failure_symptom": f"ok\n\n{text}"}
    remedy = toy_card.card.prescriptions[0].remediation[0].model_copy(update={"action": text, "code": text})
    hostile = toy_card.card.prescriptions[0].model_copy(update={**changed, "remediation": (remedy,)})
    card = toy_card.card.model_copy(update={"title": text, "prescriptions": (hostile,)})
    verdict = every_outcome.verdicts[0].model_copy(update={"reason": text, "statement": text})
    record = every_outcome.model_copy(update={"verdicts": (verdict,)})
    loaded = LoadedCard(card, toy_card.document, toy_card.folder, toy_card.family, toy_card.origin, toy_card.references)
    made = notebook.card_notebook(loaded, subjects=["a"], record=record)
    for html in (as_html(made), record._repr_mimebundle_()["text/html"]):
        found = Elements()
        found.feed(html)
        assert found.dangerous == []
        assert r"\href" not in html


class Elements(HTMLParser):
    """What a browser would run or fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.dangerous: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "iframe", "object", "embed", "link", "meta", "form", "base"}:
            self.dangerous.append(tag)
        for name, value in attrs:
            allowed = {
                "href": ("data:image/png;base64,",) if tag == "image" else ("#", "https://"),
                "src": ("data:image/png;base64,", "data:image/svg+xml;base64,"),
                "xlink:href": ("#",),
                "action": (),
            }.get(name)
            if name.startswith("on") or (allowed is not None and not (value or "").startswith(allowed)):
                self.dangerous.append(f"{tag} {name}={value}")


def as_html(made: nbformat.NotebookNode) -> str:
    from nbconvert import HTMLExporter

    body: str = HTMLExporter(template_name="basic").from_notebook_node(made)[0]
    return body


def test_harmless_markdown_is_kept() -> None:
    """Text in which nothing could do harm stands in the notebook as its author wrote it."""
    text = "See *this* [paper](https://arxiv.org/abs/1810.03292): $f_\\theta(x) > 0$ in `a_b`, and\n\n* one\n* two"
    assert cells.prose(text) == text


def test_safe_html_keeps_its_look() -> None:
    """Text that has to become HTML keeps its emphasis, code and links."""
    html = cells.prose("*a* <b> `x < y` [paper](https://arxiv.org/abs/1810.03292)")
    assert "<em>a</em>" in html
    assert "&lt;b&gt;" in html
    assert 'href="https&#58;//arxiv.org' in html or 'href="https://arxiv.org' in html


def test_write_finds_project_and_record(
    tmp_path: Path, every_outcome: Record, card_data: dict[str, Any], write_card: Any
) -> None:
    """The notebook is written into the project's folder, loads the project by a relative path, and shows the newest record."""
    tiny = project(tmp_path, card_data, write_card)
    folder = tmp_path / "records" / "always-right" / "20260301T120000Z"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(every_outcome.model_dump_json())
    for name in ("toy-maps", "always-right"):
        path = notebook.write(tiny, name)
        assert path == tmp_path / "notebooks" / f"{name}.ipynb"
        made = nbformat.read(path, as_version=4)
        assert 'Checklist("..", subject)' in made.cells[2].source
        assert "**passed**" in markdown_of(made)
    assert 'Checklist("../..", subject)' in notebook.write(
        tiny, "toy-maps", tmp_path / "a" / "b" / "c.ipynb"
    ).read_text().replace('\\"', '"')


def test_unknown_name_is_an_input_error(tmp_path: Path, card_data: dict[str, Any], write_card: Any) -> None:
    """A name that is neither a card nor a subject is refused with what was probably meant."""
    with pytest.raises(InputError, match='Did you mean "always-right"'):
        notebook.write(project(tmp_path, card_data, write_card), "always-rigth")


LIVE = """
import torch
import method_cards
inputs = 3 * torch.eye(2).repeat(100, 1)
cards = ["integrated-gradients/completeness", "integrated-gradients/report-settings"]
record = method_cards.run(
    torch.nn.Linear(2, 2).eval(), {"test": (inputs, inputs.argmax(1))}, cards, explainer="integrated-gradients", samples=32
)
record
"""

WRONG = 'method_cards.run(torch.nn.Linear(2, 2), {"test": (inputs, inputs.argmax(1))}, "integrated-gradients")'


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, nbformat.NotebookNode]:
    """A project, and its notebook after it was run, with cells of a person's own at the end."""
    tiny = project(tmp_path_factory.mktemp("executed"), new_card_data(), put_card)
    path = notebook.write(tiny, "toy-maps")
    made = nbformat.read(path, as_version=4)
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # of the libraries that run a kernel
        made.cells += [new_code_cell(LIVE), new_code_cell(WRONG, metadata={"tags": ["raises-exception"]})]
        path.write_text(notebook.to_json(notebook.run(made, path.parent)), encoding="utf-8")
    return tiny, nbformat.read(path, as_version=4)


def outputs_of(made: nbformat.NotebookNode, role: str = "") -> list[nbformat.NotebookNode]:
    """The outputs of all code cells of one role; of a person's own cells where it is empty."""
    cells_of_role = [
        cell
        for cell in made.cells
        if cell.cell_type == "code" and cell.metadata.get("method_cards", {}).get("role", "") == role
    ]
    return [output for cell in cells_of_role for output in cell.outputs]


@pytest.mark.slow
def test_notebook_runs_headless(executed: tuple[Project, nbformat.NotebookNode]) -> None:
    """A notebook runs in a kernel of its own, shows verdict, drawing and pictures, and leaves the records of whole runs alone."""
    tiny, made = executed
    folder = tiny.folder
    nbformat.validate(made)
    progress, result = outputs_of(made, "run")
    assert progress.data["text/plain"] == "1 check ran"
    assert "<progress" not in progress.data["text/html"]
    html = result.data["text/html"]
    assert "✓ passed" in html
    assert "<svg" in html
    assert "data:image/png;base64," in html
    assert "A &lt;b&gt;caption&lt;/b&gt;." in html
    assert {item.name for item in (folder / "notebooks").iterdir()} == {"toy-maps.ipynb"}
    assert len(list((folder / ".cache" / "method-cards" / "notebooks" / "always-right").iterdir())) == 1
    assert not (folder / "records").exists()


@pytest.mark.slow
def test_a_question_that_is_run_shows_its_state(executed: tuple[Project, nbformat.NotebookNode]) -> None:
    """The cell of a question that nobody has answered says so, and the notebook runs on; collecting from a run notebook works."""
    tiny, made = executed
    (shown,) = outputs_of(made, "question")
    assert "? unanswered" in shown.data["text/html"]
    assert "Is the baseline without meaning?" in shown.data["text/html"]
    assert collect(tiny, tiny.folder / "notebooks" / "toy-maps.ipynb").open == ("toy-maps/baseline",)


@pytest.mark.slow
def test_a_model_at_hand_is_checked_in_a_notebook(executed: tuple[Project, nbformat.NotebookNode]) -> None:
    """The record of `method_cards.run` shows itself after its progress; an error of the input is its message, with no lines of this package."""
    progress, shown, error = outputs_of(executed[1])
    assert progress.data["text/plain"] == "1 check ran"
    assert "Linear: 1 passed · 1 unanswered" in shown.data["text/html"]
    assert shown.data["text/plain"].startswith("Linear: 1 passed · 1 unanswered")
    assert error.ename == "InputError"
    assert "call `model.eval()` first" in error.evalue
    assert len(error.traceback) == 1


@pytest.mark.slow
def test_a_run_notebook_becomes_a_safe_page(executed: tuple[Project, nbformat.NotebookNode]) -> None:
    """nbconvert turns what was run into HTML in which nothing runs, and nothing is fetched."""
    found = Elements()
    found.feed(as_html(executed[1]))
    assert found.dangerous == []
    assert "<svg" in as_html(executed[1])


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_failing_cell_is_an_input_error(tmp_path: Path) -> None:
    """A cell that raises ends the run with an error that names it."""
    from nbformat.v4 import new_code_cell, new_notebook

    with pytest.raises(InputError, match="there is no such thing"):
        notebook.run(
            new_notebook(cells=[new_code_cell("raise ValueError('there is no such thing')", id="a")]), tmp_path
        )

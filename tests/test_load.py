"""What method-cards.yaml names is loaded, and nothing else of anybody's code is ever run."""

from __future__ import annotations

import json
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

from method_cards import load
from method_cards.cli import app
from method_cards.errors import DocumentError, InputError
from method_cards.project import Project
from tests.helpers import command, prescription, project, question, write_project

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.zeros(2)}


class Payload:
    """Something that makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> Any:
        return Path.mkdir, (self._marker,)


# Callables


def module(folder: Path, text: str) -> Path:
    (folder / "model.py").write_text(text, encoding="utf-8")
    return folder


def test_a_name_in_a_file_is_found(tmp_path: Path) -> None:
    """`path.py:name` is read relative to the folder, may import its neighbours, and is run once."""
    (tmp_path / "neighbour_of_model.py").write_text("VALUE = 7\n", encoding="utf-8")
    module(tmp_path, "import neighbour_of_model\n\ndef build():\n    return neighbour_of_model.VALUE\n")
    assert load.called("model.py:build", tmp_path) == 7
    assert load.attribute("model.py:build", tmp_path) is load.attribute("./model.py:build", tmp_path)


def test_a_name_in_a_package_is_found(tmp_path: Path) -> None:
    """`package.module:name` is imported as Python would."""
    assert load.attribute("collections.abc:Mapping", tmp_path).__name__ == "Mapping"


def test_two_files_of_one_name_are_two_modules(tmp_path: Path) -> None:
    """The model.py of one project is never taken for that of another."""
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        module(tmp_path / str(number), f"def build():\n    return {number}\n")
    assert [load.called("model.py:build", tmp_path / str(number)) for number in (1, 2)] == [1, 2]
    assert "model" not in sys.modules


@pytest.mark.parametrize(
    ("text", "reference", "message"),
    [
        ("", "model.py", "must be of the form path.py:name or package.module:name"),
        ("", "model.py:a.b", "must be of the form"),
        ("", "modle.py:build", "modle.py: there is no such file"),
        ("", "no_such_package_xyz:build", "cannot be imported: ModuleNotFoundError"),
        ("def build(): pass", "model.py:biuld", 'model.py has no "biuld". Did you mean "build"?'),
        ("def build(:", "model.py:build", "cannot be imported: SyntaxError"),
        ("\nimport no_such_package_xyz", "model.py:build", "model.py:2)"),
        ("build = 3", "model.py:build", "is a int; it must be callable"),
        ("def build():\n    return 1 / 0", "model.py:build", "raised ZeroDivisionError: division by zero ("),
        ("def build():\n    raise SystemExit(3)", "model.py:build", "raised SystemExit: 3"),
        ("raise SystemExit(3)", "model.py:build", "cannot be imported: SystemExit: 3"),
    ],
)
def test_a_wrong_reference_says_what_is_wrong(text: str, reference: str, message: str, tmp_path: Path) -> None:
    """Missing files, typos, syntax errors and exceptions are bad input with their place, not tracebacks."""
    with pytest.raises(InputError) as error:
        load.called(reference, module(tmp_path, text))
    assert message in str(error.value)


def test_a_file_that_failed_is_read_again(tmp_path: Path) -> None:
    """A file whose import failed is not remembered: mended, it is loaded."""
    with pytest.raises(InputError):
        load.called("model.py:build", module(tmp_path, "1 / 0"))
    assert load.called("model.py:build", module(tmp_path, "def build():\n    return 1\n")) == 1


BOUND = """
import os.path
import json as parser
from pathlib import Path as Place
if (walrus := 3):
    number: int = 3
else:
    first, *rest = range(3)
try:
    with open(__file__) as handle:
        pass
except OSError:
    pass
for each in ():
    pass
class Model: inner = 1
async def later(): pass
def build():
    hidden = 1
print("this code is never run", file=open("ran", "w"))
"""


@pytest.mark.parametrize(
    ("text", "reference", "message"),
    [
        *(
            (BOUND, f"model.py:{name}", "")
            for name in ["os", "parser", "Place", "walrus", "number", "first", "rest", "handle", "each"]
        ),
        *((BOUND, f"model.py:{name}", "") for name in ("Model", "later", "build")),
        *((BOUND, f"model.py:{name}", f'model.py has no "{name}".') for name in ("inner", "hidden", "json")),
        (BOUND, "model.py:biuld", 'Did you mean "build"?'),
        (BOUND, "modle.py:build", "modle.py: there is no such file"),
        (BOUND, "model.py", "must be of the form"),
        (BOUND, ":build", "must be of the form"),
        ("\ndef build(:", "model.py:build", "model.py:2: is not Python"),
        ("\0", "model.py:build", "model.py:1: is not Python"),
        ("from elsewhere import *", "model.py:build", ""),
        ("def __getattr__(name): return 3", "model.py:build", ""),
        ("globals()['build'] = 3", "model.py:build", ""),
        ("def f():\n    global build\n    build = 3\nf()", "model.py:build", ""),
        ("match 3:\n    case build: pass", "model.py:build", ""),
        ("x = " + "(" * 5000 + ")" * 5000, "model.py:build", "too many nested parentheses"),
        ("", "no_such_package_xyz:build", ""),
    ],
)
def test_a_reference_is_looked_at_without_running_it(text: str, reference: str, message: str, tmp_path: Path) -> None:
    """A missing file and a name that its code does not bind are told from its text; where only running it would tell, nothing is."""
    found = load.missing(reference, module(tmp_path, text))
    assert message in found
    assert bool(found) is bool(message)
    assert not Path("ran").exists()


# Weights


def test_weights_come_from_safetensors_or_a_state_dict(tmp_path: Path) -> None:
    """Both give the same tensors by name, on the CPU."""
    save_file(STATE, tmp_path / "w.safetensors")
    torch.save(STATE, tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        found = load.state(tmp_path / name)
        assert found.keys() == STATE.keys()
        assert all(torch.equal(found[key], STATE[key]) for key in STATE)


def test_weights_fill_a_model(tmp_path: Path) -> None:
    """Weights that fit are put in; others are refused with the names and shapes of both sides."""
    model = nn.Linear(3, 2)
    load.fill(model, STATE, "w.pt")
    assert torch.equal(model.weight, STATE["weight"])
    with pytest.raises(InputError, match=r"w.pt: the weights do not fit the model:.*weight.*\[2, 3\].*\[5, 3\]"):
        load.fill(nn.Linear(3, 5), STATE, "w.pt")
    with pytest.raises(
        InputError, match=r'the weights do not fit the model: Missing key\(s\) in state_dict: "0.weight"'
    ):
        load.fill(nn.Sequential(nn.Linear(3, 2)), STATE, "w.pt")


def hostile(folder: Path, name: str) -> tuple[Path, Path]:
    """A file that makes a folder when it is unpickled, and that folder."""
    path, marker = folder / name, folder / "ran"
    if name == "raw.pt":
        path.write_bytes(pickle.dumps({"weight": Payload(marker)}))
    elif name == "renamed.safetensors":
        path.write_bytes(pickle.dumps(Payload(marker)))
    else:
        torch.save({"weight": Payload(marker)}, path)
    return path, marker


@pytest.mark.parametrize("name", ["zip.pt", "raw.pt", "model.bin", "checkpoint"])
def test_a_pickle_is_refused_and_does_not_run(name: str, tmp_path: Path) -> None:
    """A file that could run code is refused whatever its name is, nothing of it runs, and the message says the way out."""
    path, marker = hostile(tmp_path, name)
    with pytest.raises(InputError, match="refused, since loading it could run code") as error:
        load.state(path)
    assert "`model.state_dict()` with safetensors" in str(error.value)
    assert "`trust: true`" in str(error.value)
    assert not marker.exists()


def test_a_pickle_that_calls_itself_safetensors_is_refused(tmp_path: Path) -> None:
    """The name of a file proves nothing."""
    path, marker = hostile(tmp_path, "renamed.safetensors")
    with pytest.raises(InputError, match="cannot be read as weights"):
        load.state(path)
    assert not marker.exists()


def test_trust_is_explicit(tmp_path: Path) -> None:
    """With `trust: true` the same file is unpickled: a person who writes that has been told."""
    path, marker = hostile(tmp_path, "zip.pt")
    with pytest.raises(InputError, match="not a state dict"):
        load.state(path, trust=True)
    assert marker.exists()


def test_a_whole_model_needs_trust(tmp_path: Path) -> None:
    """A pickled module is refused, and gives its state dict when it is trusted."""
    torch.save(nn.Linear(3, 2), tmp_path / "model.pt")
    with pytest.raises(InputError, match="could run code"):
        load.state(tmp_path / "model.pt")
    assert load.state(tmp_path / "model.pt", trust=True).keys() == STATE.keys()


def broken(folder: Path, kind: str) -> Path:
    path = folder / ("w.safetensors" if kind.startswith("safetensors") else "w.pt")
    if kind.startswith("safetensors"):
        save_file(STATE, path)
    else:
        torch.save(STATE, path)
    content = path.read_bytes()
    if kind.endswith("empty"):
        content = b""
    elif kind.endswith("cut"):
        content = content[: len(content) // 2]
    elif kind.endswith("absurd"):
        content = b"\xff" * 8 + content[8:]
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "kind", ["safetensors empty", "safetensors cut", "safetensors absurd", "state empty", "state cut", "state absurd"]
)
def test_damaged_weights_are_refused(kind: str, tmp_path: Path) -> None:
    """An empty, cut-off or scrambled file is bad input that names the file."""
    path = broken(tmp_path, kind)
    with pytest.raises(InputError, match=r"cannot be read as weights|could run code") as error:
        load.state(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("content", "kind"),
    [(3, "int"), ([torch.zeros(1)], "list"), ({"epoch": 3, "model": STATE}, "dict"), ({"step": 3}, "dict")],
)
def test_weights_that_are_no_state_dict_are_refused(content: Any, kind: str, tmp_path: Path) -> None:
    """A checkpoint that holds more than tensors by name is refused with what it holds."""
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(InputError, match=rf"holds a {kind}, not a state dict"):
        load.state(tmp_path / "w.pt")


def test_torchscript_and_exported_programs_are_refused(tmp_path: Path) -> None:
    """Formats that run code on loading are never opened as such."""
    example = (torch.zeros(1, 3),)
    torch.export.save(torch.export.export(nn.Linear(3, 2).eval(), example), tmp_path / "model.pt2")
    (tmp_path / "script.pt").write_bytes((tmp_path / "model.pt2").read_bytes())
    for name in ("model.pt2", "script.pt"):
        with pytest.raises(InputError, match=r"cannot be read as weights|could run code"):
            load.state(tmp_path / name)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    """The message says which file is missing and what one usually forgot."""
    with pytest.raises(
        InputError, match=r"w.pt: there is no such weights file; train the model first, or correct the path"
    ):
        load.state(tmp_path / "w.pt")


# Projects


def test_a_project_is_read_without_running_it(tmp_path: Path) -> None:
    """Reading method-cards.yaml runs nothing that it names."""
    folder = write_project(tmp_path, code="raise RuntimeError('do not run me')")
    assert list(Project.load(folder).config.subjects) == ["toy"]


@pytest.mark.parametrize(
    ("old", "new", "where", "message"),
    [
        ('"task"', '"taks"', 9, 'Did you mean "task"?'),
        ("tabular-classification", "tabular-clasification", 9, 'Did you mean "tabular-classification"?'),
        ('"toy-card"', '"toy-crad"', 15, 'no card is called "toy-crad". Did you mean "toy-card"?'),
        ('"samples": 128', '"samples": 0', 6, "samples"),
        ('"schema_version": 1', '"schema_version": 2', 2, "schema_version"),
        ('"samples"', '"smaples"', 6, 'Did you mean "samples"?'),
    ],
)
def test_a_typo_in_method_cards_yaml_is_shown(old: str, new: str, where: int, message: str, tmp_path: Path) -> None:
    """The problem comes with file, line, column, the line itself, and a guess at what was meant."""
    file = write_project(tmp_path) / "method-cards.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(DocumentError) as error:
        Project.load(file)
    assert f"{file}:{where}:" in str(error.value)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"waivers": [{"prescription": "toy-card/frist", "reason": "r", "expires": "2030-01-01"}]},
            'Did you mean "toy-card/first"?',
        ),
        (
            {"answers": {"toy-card/askd": {"answer": "a", "by": "b", "on": "2026-01-01", "evidence": "e"}}},
            'Did you mean "toy-card/asked"?',
        ),
        ({"waivers": [{"prescription": "toy-card/first", "reason": "", "expires": "2030-01-01"}]}, "reason"),
        ({"waivers": [{"prescription": "toy-card/first", "reason": "r", "expires": "soon"}]}, "expires"),
    ],
)
def test_waivers_and_answers_name_what_is_there(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    """A waiver or an answer for a prescription that the subject does not have, or without a reason or date, is refused."""
    with pytest.raises(DocumentError) as error:
        Project.load(write_project(tmp_path, [prescription("first"), question("asked")], **changes))
    assert message in str(error.value)
    assert "method-cards.yaml:" in str(error.value)


def test_a_typo_in_an_explainer_is_shown_even_where_no_card_explains(tmp_path: Path) -> None:
    """A method that does not exist is refused, whatever the cards of the subject ask for."""
    with pytest.raises(InputError, match='Did you mean "integrated-gradients"'):
        Project.load(write_project(tmp_path, explainer={"method": "integrated-gradints"}))


def test_a_typo_on_the_command_line_ends_with_status_2(tmp_path: Path) -> None:
    """What is wrong with the input is said in a line or two, on stderr, without a traceback."""
    file = write_project(tmp_path) / "method-cards.yaml"
    file.write_text(
        file.read_text(encoding="utf-8").replace('"weights"', '"wieghts"').replace('"model":', '"modle":'),
        encoding="utf-8",
    )
    for arguments in (("validate",), ("run",), ("list",)):
        done = command(*arguments, cwd=tmp_path)
        assert done.returncode == 2, arguments
        assert "method-cards.yaml:10:" in done.stderr
        assert 'Did you mean "model"?' in done.stderr
        assert "Traceback" not in done.stderr


def test_there_is_no_project_here(tmp_path: Path) -> None:
    """Without method-cards.yaml the message says how to get one."""
    with pytest.raises(InputError, match="there is no such file; `method-cards init` writes one"):
        Project.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"test": "model.py:build"}}, 'data split "test" is a Linear'),
        ({"layers": ["conv"]}, 'the model has no layer "conv"'),
    ],
)
def test_a_subject_that_cannot_be_built_names_file_and_subject(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """Everything that goes wrong while a subject is built says in which file and for which subject."""
    with pytest.raises(InputError) as error:
        project(tmp_path, **changes).build("toy")
    assert message in str(error.value)
    assert str(error.value).startswith(f'{tmp_path / "method-cards.yaml"}: subject "toy": ')


MISSING: dict[str, Any] = {
    "model": "model.py:built",
    "data": {"test": "data.py:test"},
    "weights": "w.safetensors",
    "replicas": ["r.safetensors"],
    "checkpoints": [{"weights": "c.safetensors", "learning_rate": 0.1}],
    "explainer": {"callable": "model.py:explain"},
    "reference": "other.py:build",
    "tokenizer": "other.py:tokenizer",
    "train": "other.py:train",
}
"""All that a subject may name, and none of it there."""


def test_what_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    """Everything that a subject names and that is not there is listed with its place, in the order of the file; no code is run."""
    write_project(tmp_path, code="raise SystemExit('this code is run')", **MISSING)
    with pytest.raises(DocumentError) as error:
        Project.load(tmp_path).build("toy")
    assert [problem.field.removeprefix("subjects.toy.") for problem in error.value.problems] == [
        "model", "data.test", "weights", "replicas.0", "checkpoints.0.weights", "explainer.callable", "reference", "tokenizer", "train",
    ]  # fmt: skip
    assert 'model.py has no "built"' in error.value.problems[0].message
    assert "there is no such weights file" in error.value.problems[2].message


def test_validate_and_dry_run_tell_what_is_not_there(tmp_path: Path) -> None:
    """Before there is a model, `validate` passes and names it; `run`, and `run --dry-run`, end with 2 and its place in the file."""
    write_project(tmp_path, model="modle.py:build")
    place = re.compile(r"method-cards.yaml:\d+:\d+: subjects.toy.model: .*modle.py: there is no such file")
    done = CliRunner().invoke(app, ["validate", "--project", str(tmp_path)])
    assert done.exit_code == 0
    assert place.search(done.stderr)
    for arguments in (["run"], ["run", "--dry-run"]):
        done = CliRunner().invoke(app, [*arguments, "--project", str(tmp_path)])
        assert done.exit_code == 2
        assert place.search(done.stderr)


def test_a_check_that_is_not_there_has_a_place(tmp_path: Path) -> None:
    """A check that the file names under `checks:` and that is not there is told with its place."""
    write_project(tmp_path, more={"checks": ["mine.py:Mine"]})
    with pytest.raises(DocumentError, match=r"method-cards.yaml:\d+:\d+: checks.0: .*mine.py: there is no such file"):
        Project.load(tmp_path)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            "import torch\nbuild = lambda: torch.nn.Linear(4, 3).train()\ntest = lambda: (torch.zeros(9, 4), torch.zeros(9))",
            "training mode",
        ),
        (
            "import torch\nbuild = lambda: torch.nn.Linear(4, 3).eval()\ntest = lambda: (torch.zeros(0, 4), torch.zeros(0))",
            '"test" is empty',
        ),
        ("build = lambda: None\ntest = lambda: []", "the model is a NoneType"),
    ],
)
def test_a_subject_that_cannot_be_measured_is_never_measured(model: str, message: str, tmp_path: Path) -> None:
    """A model in training mode and an empty split are refused before anything is measured."""
    with pytest.raises(InputError, match=message):
        project(tmp_path, code=model).build("toy")


def test_a_subject_is_built_as_the_file_says(tmp_path: Path) -> None:
    """Weights are loaded into the model; classes, layers, explainer, replicas, recipe, checkpoints and reference are handed on."""
    weights = {"weight": torch.full((3, 4), 2.0), "bias": torch.zeros(3)}
    write_project(tmp_path)
    save_file(weights, tmp_path / "w.safetensors")
    (tmp_path / "recipe.py").write_text(
        "import torch\nfrom method_cards import Recipe\n"
        "recipe = Recipe(lambda: torch.nn.Linear(4, 3), epochs=1, batch_size=8, learning_rate=0.1)\n"
        "other = lambda: torch.nn.Linear(4, 3).eval()\n"
    )
    found = project(
        tmp_path, weights="w.safetensors", replicas=["w.safetensors"], classes=["a", "b", "c"], explainer={"method": "gradient"}, title="Toy",
        claims={"epsilon": 3.0}, train="recipe.py:recipe", reference="recipe.py:other", checkpoints=[{"weights": "w.safetensors", "learning_rate": 0.1}],
    ).build("toy")  # fmt: skip
    assert torch.equal(found.model.state_dict()["weight"], weights["weight"])
    assert torch.equal(found.replicas[0]()["bias"], weights["bias"])
    assert torch.equal(found.checkpoints[0].load()["weight"], weights["weight"])
    assert (found.checkpoints[0].learning_rate, found.recipe is found.train) == (0.1, True)
    assert isinstance(found.reference, torch.nn.Linear)
    assert found.claims == {"epsilon": 3.0}
    assert found.with_model(found.reference).model is found.reference
    assert (found.title, list(found.classes), found.explainer) == ("Toy", ["a", "b", "c"], {"method": "gradient"})
    assert json.loads((tmp_path / "method-cards.yaml").read_text())["subjects"]["toy"]["weights"] == "w.safetensors"

"""What the documentation says is so: its commands run, its files work, its links lead somewhere, its help is the real help.

Run as a program, this file writes the help of each command into ``site/guide/cli.md``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from method_cards import Outcome, Project, scaffold
from method_cards.cli import app
from method_cards.document import load
from method_cards.errors import InputError
from method_cards.project import FILE
from method_cards.render import notebook
from method_cards.render.collect import collect

REPOSITORY = Path(__file__).parents[1]
SITE = REPOSITORY / "site"
GUIDE = sorted((SITE / "guide").glob("*.md"))
DECISIONS = sorted((SITE / "decisions").glob("0*.md"))
TOP = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = [*GUIDE, *DECISIONS, SITE / "decisions" / "index.md", *TOP]
CLI = SITE / "guide" / "cli.md"
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
GENERATED = {"cards/index.md", "checks/index.md", "subjects/index.md"}
"""Pages of the site that are not written by a person."""

FENCE = re.compile(
    r"^```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)
HELP = re.compile(r"<!-- help(?:: (?P<command>[\w-]+))? -->\n(?:\n```text\n.*?^```\n)?", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Fence:
    """A block of code on a page; its title is the path of the file that it is."""

    language: str
    title: str
    body: str

    @property
    def is_file(self) -> bool:
        return bool(self.title) and " in " not in self.title

    @property
    def commands(self) -> list[str]:
        return [line.removeprefix("$ ") for line in self.body.splitlines() if line.startswith("$ ")]


def fences(page: Path) -> list[Fence]:
    found = FENCE.finditer(page.read_text(encoding="utf-8"))
    return [Fence(match["language"], match["title"] or "", match["body"]) for match in found]


def named(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


# The help


def help_of(command: str) -> str:
    """What ``--help`` prints, without the frames that Rich draws."""
    environment = {"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}
    arguments = [command, "--help"] if command else ["--help"]
    printed = CliRunner().invoke(app, arguments, env=environment, prog_name="method-cards").output
    lines = []
    for line in re.sub(r"\x1b\[[\d;]*m", "", printed).splitlines():
        heading = re.match(r"╭─+ (.*?) ─+╮", line)
        if heading:
            lines += ["", f" {heading[1]}:"]
        elif not line.startswith("╰"):
            lines.append(line.strip("│").rstrip())
    # The default is the number of this machine's cores.
    text = re.sub(r"(share the work\. )\[default: [^\]]+\]", r"\1[default: all cores]", "\n".join(lines))
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")


def words(text: str) -> list[str]:
    """What is said, however wide the columns are and however a version of Typer writes types."""
    return re.sub(r"<[^>]*>", "", text).split()


def with_help(page: str) -> str:
    def block(match: re.Match[str]) -> str:
        command = match["command"] or ""
        marker = f"<!-- help: {command} -->" if command else "<!-- help -->"
        return f"{marker}\n\n```text\n{help_of(command)}\n```\n"

    return HELP.sub(block, page)


def commands() -> dict[str, set[str]]:
    """The options of each command."""
    root = get_command(app)
    found = {name: {*_options(command), "--help", "-h"} for name, command in root.commands.items()}  # type: ignore[attr-defined]  # it is a group
    return {"": {*_options(root), "--help", "-h"}, **found}


def _options(command: object) -> set[str]:
    return {
        option
        for parameter in command.params  # type: ignore[attr-defined]  # it is a command
        if parameter.param_type_name == "option"
        for option in (*parameter.opts, *parameter.secondary_opts)
    }


def test_the_help_on_the_page_is_the_real_help() -> None:
    """The page of the command line shows what ``--help`` prints; `python tests/test_docs.py` writes it."""
    page = CLI.read_text(encoding="utf-8")
    shown = {match["command"] or "": match[0] for match in HELP.finditer(page)}
    assert set(shown) == set(commands())
    for command, block in shown.items():
        body = block.partition("```text\n")[2].rpartition("```")[0]
        assert words(body) == words(help_of(command)), f"{command or 'method-cards'}: run `python tests/test_docs.py`"


# Everything is there


def test_every_command_and_option_is_in_the_guide() -> None:
    """Each command has a section, and each of its options stands in it."""
    sections = re.split(r"^## ", CLI.read_text(encoding="utf-8"), flags=re.MULTILINE)
    by_name = {section.split("\n", 1)[0]: section for section in sections[1:]}
    for command, options in commands().items():
        section = by_name[command] if command else sections[0]
        assert not [option for option in options if not re.search(rf"(?<![\w-]){option}(?![\w-])", section)], command


def test_every_outcome_is_explained() -> None:
    """Each outcome has its heading on the page of outcomes."""
    titles = re.findall(r"^### (.+)$", (SITE / "guide" / "read-a-verdict.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert [outcome for outcome in Outcome if outcome.value.replace("_", " ").capitalize() not in titles] == []


def test_every_entry_point_group_is_explained() -> None:
    """Each group that the package itself uses for extensions stands in the guide."""
    groups = [group for group in PYPROJECT["project"]["entry-points"] if group.startswith("method_cards.")]
    guide = "\n".join(page.read_text(encoding="utf-8") for page in GUIDE)
    assert groups
    assert [group for group in groups if f"`{group}`" not in guide] == []


def test_the_readme_counts_right() -> None:
    """The numbers of checks and explainers in the README are those that there are."""
    from method_checks.attribution.explainers import METHODS

    checks = Counter(name.partition("/")[0] for name in PYPROJECT["project"]["entry-points"]["method_cards.checks"])
    text = " ".join(TOP[0].read_text(encoding="utf-8").split())
    for family, says in {
        "attribution": "ask whether attribution maps can be trusted",
        "memorization": "what a model remembers",
        "influence": "what its data did to it",
        "privacy": "whether a blur hides anybody",
    }.items():
        assert f"{checks.pop(family)} {says}" in text
    assert not checks
    assert f"{len(METHODS)} methods under one door" in text


@pytest.mark.parametrize("page", DECISIONS, ids=named)
def test_a_decision_has_its_three_parts(page: Path) -> None:
    """Context, decision, consequences, in this order; its number is that of its file, and the index has it."""
    text = re.sub(r"\A---\n.*?\n---\n\n", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert re.fullmatch(
        r"# (\d+) · .+\n\n\*\*Context\.\*\*.+\*\*Decision\.\*\*.+\*\*Consequences\.\*\*.+", text, re.DOTALL
    )
    title = text.splitlines()[0].removeprefix("# ")
    assert int(title.split()[0]) == int(page.stem.split("-")[0])
    assert f"- [{title}]({page.name})" in (page.parent / "index.md").read_text(encoding="utf-8")


# Snippets


@pytest.mark.parametrize("page", GUIDE, ids=named)
def test_every_snippet_is_a_file_or_a_part_of_one(page: Path) -> None:
    """YAML, Python, TOML and BibTeX on a page have a title, so that a test can use them."""
    code = [fence for fence in fences(page) if fence.language not in ("text", "console")]
    assert [fence.body.splitlines()[0] for fence in code if not fence.title] == []


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in; what modules of a page do to the search path is undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


def follow(page: Path, folder: Path) -> str:
    """Do what a page says: write its files and run its commands, in order; gives what they print."""
    printed = []
    for fence in fences(page):
        if fence.is_file and fence.language != "toml":
            path = folder / fence.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(fence.body, encoding="utf-8")
        printed += [_run(command) for command in (fence.commands if fence.language == "console" else ())]
    return "\n".join(printed)


def _run(line: str) -> str:
    command, _, comment = line.partition("  # exit status ")
    expected = {int(status) for status in comment.split(" or ")} if comment else {0}
    program, *arguments = shlex.split(command)
    settings = {}
    while "=" in program:
        name, _, value = program.partition("=")
        settings[name] = value
        program, *arguments = arguments
    if program in ("cd", "make", "source") or arguments[:2] in (["-m", "venv"], ["-m", "pip"]):
        return ""  # set up by the test; what `make` does, continuous integration does
    if program in ("python", "bash"):
        here = str(Path(sys.executable).parent)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", *arguments] if program == "python" else [program, "-e", *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, **settings, "PATH": os.pathsep.join([here, os.environ["PATH"]])},
        )
        assert done.returncode in expected, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout
    assert program == "method-cards", line
    result = CliRunner().invoke(app, arguments)
    status = 2 if isinstance(result.exception, InputError) else result.exit_code
    assert status in expected, f"{line}\n{result.output}\n{result.exception!r}"
    assert "! errored" not in result.output, f"{line}\n{result.output}"
    return result.output


def said(text: str) -> list[str]:
    """The lines of a report without their numbers, which differ a little from machine to machine, and without drawings."""
    lines = (re.sub(r"-?\d+(\.\d+)?", "#", " ".join(line.split())) for line in text.splitlines())
    return [line for line in lines if re.search(r"[a-z]{3}", line) and not re.match("(allowed|measured) ", line)]


def _digits(folder: Path) -> None:
    source = REPOSITORY / "examples" / "digits"
    for path in (*source.glob("*.py"), *source.glob("*.yaml")):
        shutil.copy(path, folder)


def _starter(folder: Path) -> None:
    scaffold.write(folder)
    for fence in fences(SITE / "guide" / "write-a-card.md"):
        if fence.title in ("model.py", "data.py"):
            (folder / fence.title).write_text(fence.body, encoding="utf-8")


def _the_check(folder: Path) -> None:
    follow(SITE / "guide" / "write-a-check.md", folder)


def _language_models(folder: Path) -> None:
    """Untrained models with a few words, of the kinds that Hugging Face's classes load."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        GPT2Config,
        GPT2LMHeadModel,
        PreTrainedTokenizerFast,
    )

    vocabulary = ["[PAD]", "[UNK]", "a", "bad", "good", "film", "not", "at", "all", "very", "is", "it", "this"]
    numbered = Tokenizer(models.WordLevel({word: number for number, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    numbered.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment, unused-ignore]  # as the library documents
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=numbered, pad_token="[PAD]", unk_token="[UNK]", model_max_length=16
    )
    small = {"vocab_size": len(vocabulary), "num_labels": 2}
    bert = BertConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        **small,
    )
    gpt = GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=0, **small)
    for path, model in (
        (folder / "text" / "sentiment", BertForSequenceClassification(bert)),
        (folder / "language" / "language", GPT2LMHeadModel(gpt)),
    ):
        model.save_pretrained(path)
        tokenizer.save_pretrained(path)
    texts = [
        f"{one} {two} {three} {four}"
        for one in vocabulary[2:]
        for two in vocabulary[2:]
        for three in vocabulary[2:]
        for four in ("film", "good")
    ]
    half = len(texts) // 2
    shuffled = sorted(texts, key=hash_of)
    (folder / "language" / "train.txt").write_text("\n".join(shuffled[:half]), encoding="utf-8")
    (folder / "language" / "test.txt").write_text("\n".join(shuffled[half:]), encoding="utf-8")


def hash_of(text: str) -> str:
    """An order that has nothing to do with the text."""
    return hashlib.sha256(text.encode()).hexdigest()


START = SITE / "guide" / "get-started.md"
QUOTING = {START.stem}
"""Pages whose blocks of text are printed by their commands."""

SLOW = {"get-started", "gpu-and-clusters", "language-models", "your-own-model"}
FOLLOWED = [pytest.param(page, marks=[pytest.mark.slow] if page.stem in SLOW else []) for page in GUIDE if page != CLI]

SET_UP: dict[str, Callable[[Path], None]] = {
    "get-started": _digits,
    "gpu-and-clusters": _starter,
    "notebooks": _starter,
    "run-in-ci": _starter,
    "write-a-card": _the_check,
    "language-models": _language_models,
}


@pytest.mark.filterwarnings("ignore:::transformers", "ignore:::torch", "ignore:.*SwigPy:DeprecationWarning")
@pytest.mark.parametrize("page", FOLLOWED, ids=named)
def test_a_page_does_what_it_says(page: Path, folder: Path) -> None:
    """All files of a page are written and all its commands are run, in order, as a reader would."""
    if page.stem in SET_UP:
        SET_UP[page.stem](folder)
    printed = said(follow(page, folder))
    quoted = [
        line for fence in fences(page) if page.stem in QUOTING and fence.language == "text" for line in said(fence.body)
    ]
    assert [line for line in quoted if not any(line in each for each in printed)] == []


def test_the_first_report_is_the_same_everywhere() -> None:
    """The report that the README shows is the one that the first page of the guide explains."""
    shown = [next(fence.body for fence in fences(page) if fence.language == "text") for page in (TOP[0], START)]
    assert shown[0] == shown[1]


def test_the_gate_for_open_verdicts_works(folder: Path) -> None:
    """The script of the page on CI finds a MUST that nobody answered, and is content when somebody did."""
    _starter(folder)
    (script,) = [fence.body for fence in fences(SITE / "guide" / "run-in-ci.md") if fence.title == "demand.py"]
    open_, answered = CliRunner().invoke(app, ["run", "--format", "json"]).stdout, ""
    assert _demand(script, open_).returncode == 1
    assert "fit-for-use/test-data-kept-aside is unanswered" in _demand(script, open_).stdout
    data = json.loads(open_)
    for verdict in data[0]["verdicts"]:
        verdict["outcome"] = "answered" if verdict["outcome"] == "unanswered" else verdict["outcome"]
    answered = json.dumps(data)
    assert _demand(script, answered).returncode == 0


def _demand(script: str, records: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], input=records, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("part", ["waivers", "answers"])
def test_parts_of_the_project_file_are_valid(part: str, folder: Path) -> None:
    """A fragment of ``method-cards.yaml`` on a page is valid where it belongs."""
    _starter(folder)
    (fragment,) = [fence for page in GUIDE for fence in fences(page) if fence.title == f"{part} in {FILE}"]
    text = (folder / FILE).read_text(encoding="utf-8")
    indented = "".join(f"    {line}\n" for line in fragment.body.splitlines())
    (folder / FILE).write_text(text.rstrip("\n") + "\n" + indented, encoding="utf-8")
    assert getattr(Project.load(folder).subject_config("my-model"), part)


def test_the_answer_on_the_page_is_collected(folder: Path) -> None:
    """The cell of the page on notebooks, put into the notebook, is taken over."""
    _starter(folder)
    (filled,) = [
        fence.body for fence in fences(SITE / "guide" / "notebooks.md") if fence.title.startswith("the answer in")
    ]
    path = notebook.write(Project.load(folder), "my-model")
    made = json.loads(path.read_text(encoding="utf-8"))
    asked = [cell for cell in made["cells"] if '"fit-for-use/test-data-kept-aside"' in "".join(cell["source"])]
    asked[-1]["source"] = filled
    path.write_text(json.dumps(made), encoding="utf-8")
    assert collect(Project.load(folder), path).new == ("fit-for-use/test-data-kept-aside",)
    (answer,) = Project.load(folder).answers("my-model").values()
    assert answer.evidence == "https://example.org/decisions/17"


def test_the_subject_on_the_page_is_that_of_the_example() -> None:
    """What the walk-through shows of the example's file stands in it."""
    (fragment,) = [
        fence for fence in fences(SITE / "guide" / "get-started.md") if fence.title == f"memorizer in {FILE}"
    ]
    example = load(REPOSITORY / "examples" / "digits" / FILE).value
    assert yaml.safe_load(fragment.body) == {"memorizer": example["subjects"]["memorizer"]}


# Commands on pages that are not run


def _commands(page: Path) -> Iterator[list[str]]:
    for fence in fences(page):
        for command in fence.commands if fence.language == "console" else ():
            yield shlex.split(command.partition("  #")[0])


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_name_what_there_is(page: Path) -> None:
    """Each ``make`` target, command, option and extra on a page exists."""
    targets = re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    extras = PYPROJECT["project"]["optional-dependencies"]
    text = page.read_text(encoding="utf-8")
    inline = [shlex.split(code) for code in re.findall(r"`((?:make|method-cards) [^`\n]+)`", text)]
    for program, *arguments in [*_commands(page), *inline]:
        if program == "make":
            assert [word for word in arguments if "=" not in word and word not in targets] == []
        elif program == "method-cards":
            known = commands()
            name = arguments[0] if arguments[0] in known else ""
            assert name or arguments[0].startswith("-"), f"method-cards {arguments[0]}"
            assert [word for word in arguments if word.startswith("-") and word not in known[name]] == []
        elif "pip" in arguments and "-c" in arguments:
            assert (REPOSITORY / arguments[arguments.index("-c") + 1]).is_file()
    for found in re.findall(r"(?:\.|method-cards)\[([\w,]+)\]", text):
        assert set(found.split(",")) <= set(extras)


# Links and names


def _anchors(path: Path) -> set[str]:
    headings = re.findall(
        r"^#+ (.+?)(?: \{#([\w-]+)\})?$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE
    )
    titles = [re.sub(r"[^\w\s-]", "", title).strip().lower() for title, _ in headings]
    return {given or re.sub(r"[-\s]+", "-", title) for title, (_, given) in zip(titles, headings, strict=True)}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    """Each link to a file of the repository has a file, and each anchor a heading."""
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text(encoding="utf-8"))):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        if path.is_relative_to(SITE) and path.relative_to(SITE).as_posix() in GENERATED:
            continue
        assert path.exists(), link
        assert not anchor or anchor in _anchors(path), link


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_pages_are_of_no_one_machine(page: Path) -> None:
    """No page names a path of the machine that it was written on."""
    assert not re.search(r"(?<![\w.])/(?:work|tmp|root|home|usr|opt)/", page.read_text(encoding="utf-8"))


if __name__ == "__main__":
    CLI.write_text(with_help(CLI.read_text(encoding="utf-8")), encoding="utf-8")

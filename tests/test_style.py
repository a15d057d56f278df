"""House style that no linter knows: names, sizes, what is public, and what start-up loads."""

from __future__ import annotations

import ast
import importlib
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
import yaml

import method_cards
from method_cards.catalog import Catalog
from method_cards.registry import Entry, Registry
from tests.helpers import REPOSITORY, command, python

SOURCES = [*(REPOSITORY / "method_cards").rglob("*.py"), *(REPOSITORY / "checks").rglob("*.py")]
LONGEST = 500
BUNDLED = [entry for entry in Registry.installed() if entry.distribution.startswith("method-cards ")]


def relative(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


@pytest.mark.parametrize("entry", BUNDLED, ids=lambda entry: entry.id)
def test_one_stem_has_four_forms(entry: object) -> None:
    """The id, the module, the class and the test file of a check are one name."""
    assert entry in BUNDLED
    found = next(item for item in BUNDLED if item == entry)
    family, _, name = found.id.partition("/")
    stem = name.replace("-", "_")
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*/[a-z]+(-[a-z]+)*", found.id), "kebab-case, and no numeric codes"
    assert found.value == f"method_checks.{family}.{stem}:{''.join(part.capitalize() for part in stem.split('_'))}"
    assert (REPOSITORY / "checks" / "method_checks" / family / f"{stem}.py").is_file()
    assert (REPOSITORY / "tests" / "checks" / family / f"test_{stem}.py").is_file()


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_a_module_is_short(path: Path) -> None:
    """No module has more than 500 lines."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("folder", ["checks", "cards", "site"])
def test_plain_folders_are_no_packages(folder: str) -> None:
    """checks/, cards/ and site/ have no __init__.py: with one, an import would make second copies of classes, or hide the standard library's `site`."""
    assert not (REPOSITORY / folder / "__init__.py").exists()
    assert not list((REPOSITORY / "cards").rglob("*.py"))


def test_both_packages_are_typed() -> None:
    """Type checkers of other people see the annotations of both packages."""
    assert (REPOSITORY / "method_cards" / "py.typed").is_file()
    assert (REPOSITORY / "checks" / "method_checks" / "py.typed").is_file()


def test_the_public_surface_is_small_and_real() -> None:
    """At most 20 names, in order, each of which can be imported, and the package's docstring is a tour of them."""
    names = method_cards.__all__
    assert len(names) <= 20
    assert names == sorted(names)
    for name in names:
        assert getattr(method_cards, name) is not None
    tour = method_cards.__doc__ or ""
    assert {
        "Card",
        "Subject",
        "Project",
        "Check",
        "Quantity",
        "Context",
        "Control",
        "Verdict",
        "Outcome",
        "Record",
        "run",
    } <= set(re.findall(r"`(\w+)`", tour))
    with pytest.raises(AttributeError, match='has no attribute "no_such_name"'):
        _ = method_cards.no_such_name


def test_public_names_are_public_modules_too() -> None:
    """No public name is hidden by a module of the same name, so that importing one never changes the other."""
    for name in method_cards.__all__:
        assert not (REPOSITORY / "method_cards" / f"{name}.py").exists(), name
        assert not (REPOSITORY / "method_cards" / name).exists(), name


def test_the_site_is_not_built_over_its_sources() -> None:
    """MkDocs' default for site_dir is `site`, which would wipe what people wrote."""
    text = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    lines = dict(re.findall(r"^(docs_dir|site_dir): *(\S+)", text, flags=re.MULTILINE))
    assert lines == {"docs_dir": "site", "site_dir": "build/site"}


# What start-up loads


HEAVY = ("torch", "sklearn", "scipy", "matplotlib", "transformers", "captum", "mkdocs", "nbformat")


def test_importing_the_package_loads_nothing_heavy() -> None:
    """`import method_cards` takes milliseconds: no torch, no SciPy, no plots."""
    done = python(f"import sys, method_cards; print([name for name in {HEAVY!r} if name in sys.modules])")
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


COMMANDS = [
    ("--help",),
    ("--version",),
    ("list",),
    ("list", "--format", "json"),
    ("show", "integrated-gradients"),
    ("show", "attribution/parameter-randomization"),
    ("show", "memorization/membership-inference", "--format", "json"),
    ("validate",),
    ("schema",),
    ("run", "--help"),
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_reading_commands_load_no_torch(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Commands that only read cards and checks work, and do not wait seconds for torch."""
    code = f"""
import sys
from method_cards import cli
sys.argv = ["method-cards", *{list(arguments)!r}]
try:
    cli.main()
finally:
    assert "torch" not in sys.modules, "torch was loaded"
"""
    done = python(code, env=None)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


def test_a_card_that_is_not_there_is_guessed(tmp_path: Path) -> None:
    """`show` with a misspelt name ends with status 2 and says what was meant."""
    done = command("show", "integrated-gradient", cwd=tmp_path)
    assert done.returncode == 2
    assert 'Did you mean "integrated-gradients"?' in done.stderr


def test_the_list_is_one_line_for_each(tmp_path: Path) -> None:
    """`list --format json` gives ids, titles and families of every card and check, as data."""
    listing = json.loads(command("list", "--format", "json", cwd=tmp_path).stdout)
    assert {entry.id for entry in BUNDLED} <= {item["id"] for item in listing["checks"]}
    assert {"integrated-gradients", "membership-privacy"} <= {item["id"] for item in listing["cards"]}


# What is declared


def imports(path: Path) -> Iterator[str]:
    """The top-level packages that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


def required(distribution: str) -> set[str]:
    """The distributions that one asks for by name, in its extras too."""
    try:
        lines = requires(distribution) or ()
    except PackageNotFoundError:
        return set()
    return {re.split(r"[\s<>=!~;\[(]", line)[0].lower().replace("_", "-") for line in lines}


def test_everything_imported_is_declared() -> None:
    """Each third-party package that the code imports is a dependency or an extra, or one that such a package is built on."""
    declared = required("method-cards")
    known = declared.union(*(required(name) for name in declared))
    names = (
        {name for path in SOURCES for name in imports(path)}
        - set(sys.stdlib_module_names)
        - {"method_cards", "method_checks"}
    )
    homes = packages_distributions()
    missing = {
        name for name in names if not {home.lower().replace("_", "-") for home in homes.get(name, [name])} & known
    }
    assert not missing


def test_no_script_or_style_comes_from_elsewhere() -> None:
    """Pages work offline: nothing that is shipped loads a font, script or picture from another host."""
    pattern = re.compile(
        r"""(?:src|href)=["']https?://[^"']+\.(?:js|css|woff2?|png|svg)|@import\s+url\(["']?https?:|url\(["']?https?:"""
    )
    for path in [*(REPOSITORY / "method_cards" / "render").rglob("*"), REPOSITORY / "mkdocs.yml"]:
        if path.suffix in (".jinja", ".css", ".js", ".html", ".yml", ".md") and "katex" not in path.parts:
            assert not pattern.search(path.read_text(encoding="utf-8")), relative(path)


def test_configuration_is_in_one_file() -> None:
    """Tools are configured in pyproject.toml alone."""
    for name in ("setup.cfg", "tox.ini", "pytest.ini", "mypy.ini", ".flake8", "ruff.toml", ".importlinter"):
        assert not (REPOSITORY / name).exists()
    tools = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert {"ruff", "mypy", "pytest", "importlinter", "hatch"} <= tools.keys()


def test_pre_commit_runs_what_the_tests_run() -> None:
    """Each hook is a tool of the development environment, so that versions are written once."""
    config = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    assert {hook["id"] for hook in hooks} >= {"ruff", "ruff-format", "mypy", "lint-imports", "validate-cards"}
    assert all(hook["language"] == "system" for hook in hooks)


def test_every_test_states_its_rule() -> None:
    """Each test function has a docstring of one sentence or two."""
    silent = [
        f"{relative(path)}:{node.lineno} {node.name}"
        for path in (REPOSITORY / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not ast.get_docstring(node)
    ]
    assert not silent


def test_bundled_modules_can_be_imported() -> None:
    """Every module of both packages imports on its own, also those that only extras or plugins need."""
    for path in SOURCES:
        parts = (
            path.relative_to(
                REPOSITORY / "checks" if "checks" in path.relative_to(REPOSITORY).parts[:1] else REPOSITORY
            )
            .with_suffix("")
            .parts
        )
        importlib.import_module(".".join(parts).removesuffix(".__init__"))


@pytest.mark.parametrize("entry", tuple(Registry.installed()), ids=lambda entry: entry.id)
def test_the_sources_of_a_check_stand_in_the_bibliography(entry: Entry) -> None:
    """What a bundled check's page names as its sources are keys of references.bib, so that readers get links."""
    if not entry.distribution.startswith("method-cards "):
        pytest.skip("another package's bibliography is its own")
    keys = [key.strip() for key in entry.load().page().sections["Sources"].replace("\n", " ").split(";")]
    assert keys
    assert set(keys) <= set(Catalog.installed().references)

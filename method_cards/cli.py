"""The command line. Each command reads its input, calls one function, and prints; errors of the input end with exit status 2."""

from __future__ import annotations

import io
import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from method_cards.catalog import Catalog
    from method_cards.project import Project
    from method_cards.registry import Registry

app = typer.Typer(
    name="method-cards",
    help="Prescriptive method cards, checked against your own PyTorch model.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Format = Literal["text", "json"]

ProjectOption = Annotated[
    Path, typer.Option("--project", "-p", help="method-cards.yaml or its folder.", show_default="this folder")
]
FormatOption = Annotated[Format, typer.Option("--format", help="text for people, json for programs.")]
CardsFolderOption = Annotated[
    list[Path] | None, typer.Option("--cards", help="A folder of more cards; may be given several times.")
]


def main() -> None:
    """The entry point of the ``method-cards`` command."""
    # Threads that spin while they wait make a busy machine many times slower; this must be set before torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from method_cards.errors import InputError

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may hold what no encoding can say
    try:
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  (a message for the terminal)
        raise SystemExit(2) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:  # a name that is too long, a disk that is full
        if error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)  # noqa: T201  (a message for the terminal)
        raise SystemExit(2) from None


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import version

        typer.echo(f"method-cards {version('method-cards')}")
        raise typer.Exit


@app.callback()
def _common(
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="The folder to set up.")] = Path()) -> None:
    """Write a commented method-cards.yaml, cards/, checks/ and mkdocs.yml for your own model."""
    from method_cards.scaffold import write

    for path, is_new in write(folder):
        typer.echo(f"{'wrote' if is_new else 'kept '} {path}")
    go = "" if folder == Path() else f"`cd {shlex.quote(str(folder))}`, then "
    typer.echo(
        f"Next: {go}name your model and data in method-cards.yaml. `method-cards validate` reads it, `method-cards run` measures, "
        "and `method-cards build` makes the site."
    )


@app.command(name="list")
def list_(format: FormatOption = "text", cards: CardsFolderOption = None, project: ProjectOption = Path()) -> None:  # noqa: A002
    """List all cards and checks, one line each."""
    from method_cards.render import report

    catalog, registry = _library(project, cards or [])
    if format == "json":
        _print_json(report.listing(catalog, registry))
    else:
        report.print_list(catalog, registry, _console())


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(help="A card, such as integrated-gradients, or a check, such as attribution/completeness.")
    ],
    format: FormatOption = "text",  # noqa: A002
    cards: CardsFolderOption = None,
    project: ProjectOption = Path(),
) -> None:
    """Show a card, or a check with its parameters, cost, sources and error rates."""
    from method_cards.errors import InputError, did_you_mean
    from method_cards.render import report

    catalog, registry = _library(project, cards or [])
    if name in catalog:
        loaded = catalog.get(name)
        _print_json(report.card_summary(loaded)) if format == "json" else report.print_card(loaded, _console())
    elif name in registry.ids:
        entry = registry.get(name)
        _print_json(report.check_summary(entry, catalog)) if format == "json" else report.print_check(
            entry, catalog, _console()
        )
    else:
        raise InputError(f'no card and no check is called "{name}".{did_you_mean(name, [*catalog.ids, *registry.ids])}')


@app.command()
def validate(
    cards: CardsFolderOption = None,
    project: ProjectOption = Path(),
) -> None:
    """Check every card, and method-cards.yaml where there is one; errors come with file, line and column.

    Files of models, data and weights that are not there yet are told, and are no error before the first run. No model is loaded.
    """
    from method_cards.errors import DocumentError
    from method_cards.project import FILE, Project, lint, unusable

    file = project / FILE if project.is_dir() else project
    loaded = Project.load(file) if file.is_file() or project != Path() else None
    catalog, registry = _library(project, cards or [])
    if problems := [*lint(catalog, registry), *unusable(catalog, registry)]:
        raise DocumentError(problems)
    counts = [
        (len(catalog), "card"),
        (len(registry), "check"),
        (len(loaded.config.subjects) if loaded else 0, "subject"),
    ]
    typer.echo(", ".join(f"{count} {thing}{'s' * (count != 1)}" for count, thing in counts if count) + ": no problems")
    if loaded is not None:
        for missing in (problem for name in loaded.config.subjects for problem in loaded.missing(name)):
            typer.echo(f"before the first run: {missing}", err=True)


@app.command()
def run(
    subject: Annotated[
        str | None, typer.Argument(help="A subject of method-cards.yaml.", show_default="all subjects")
    ] = None,
    card: Annotated[
        list[str] | None, typer.Option("--card", help="Apply this card only; may be given several times.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Decide this prescription only, as card/prescription.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    seed: Annotated[
        int | None, typer.Option(min=0, help="Every random number follows from it.", show_default="the project's")
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            min=1, help="How many examples a check measures, unless a card asks for more.", show_default="the project's"
        ),
    ] = None,
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="Measure all samples even when everything is decided.")
    ] = False,
    time_limit: Annotated[
        float, typer.Option(min=0, help="Seconds that one check may take; 0 for as long as it needs.")
    ] = 3600,
    block: Annotated[
        int | None,
        typer.Option(min=1, help="How many examples go through the model at once.", show_default="measured"),
    ] = None,
    check: Annotated[
        list[str] | None, typer.Option("--check", help="One more check, as path.py:Class or package.module:Class.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would run and what it costs, and stop.")
    ] = False,
    format: FormatOption = "text",  # noqa: A002
    project: ProjectOption = Path(),
) -> None:
    """Measure subjects against their cards; exit status 0: every MUST passed, 1: one did not or a check errored, 2: bad input."""
    from method_cards.errors import InputError
    from method_cards.execution import Options
    from method_cards.project import Project

    loaded = Project.load(project, checks=check or [])
    options = Options(device, seed, samples, exhaustive, time_limit or None, card or [], only or [], block, check or [])
    names = [subject] if subject else list(loaded.config.subjects)
    status, records, problems = 0, [], []
    for name in names:
        try:
            record = _run_one(loaded, name, options, dry_run, format)
        except InputError as error:
            problems.append(str(error))
            continue
        if record is not None:
            records.append(record)
            status = max(status, record.exit_status)
            if record.status == "interrupted":
                break
    if format == "json" and not dry_run:
        _print_json([record.model_dump(mode="json") for record in records])
    for problem in problems:
        typer.echo(f"error: {problem}", err=True)
    raise typer.Exit(2 if problems else status)


@app.command()
def report(
    subject: Annotated[
        str | None,
        typer.Argument(help="A subject of method-cards.yaml.", show_default="all subjects that have a record"),
    ] = None,
    run: Annotated[str, typer.Option("--run", help="The id of a run.", show_default="the newest")] = "",
    html: Annotated[
        Path | None, typer.Option(help="Write one HTML file that needs nothing else; - for standard output.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML; - for standard output.")] = None,
    sarif: Annotated[Path | None, typer.Option(help="Write SARIF 2.1.0; - for standard output.")] = None,
    format: FormatOption = "text",  # noqa: A002
    project: ProjectOption = Path(),
) -> None:
    """Show a kept record again, as `run` printed it, or write it as HTML, JUnit XML or SARIF. Nothing is measured.

    Folders of files that are written are made where they are not there.
    """
    from method_cards.errors import InputError
    from method_cards.render import kept, reports

    if run and subject is None:
        raise InputError("--run needs the subject whose run it is: method-cards report SUBJECT --run ID")
    written = {kind: path for kind, path in (("html", html), ("junit", junit), ("sarif", sarif)) if path is not None}
    for path in written.values():
        if len(same := [f"--{kind}" for kind, other in written.items() if other == path]) > 1:
            place = "standard output" if path == Path("-") else path
            raise InputError(f"{' and '.join(same)} would all go to {place}: give each a file of its own")
    loaded = _project(project)
    source, found = kept.views(loaded, [subject] if subject else [], run)
    for kind, path in written.items():
        text = reports.WRITERS[kind](source, [view for view, _ in found], loaded)
        _write(path, text, quiet=Path("-") in written.values())
    if written:
        return
    if format == "json":
        _print_json([view.record.model_dump(mode="json") for view, _ in found])
    for view, place in found if format == "text" else ():
        cards = {card: source.catalog.get(card) for card in view.record.cards if card in source.catalog}
        reports.print_record(view.record, _console(), cards=cards, path=place)


@app.command()
def build(
    markdown: Annotated[
        Path | None, typer.Option(help="Write plain Markdown here, for any site generator, and stop.")
    ] = None,
    strict: Annotated[bool, typer.Option(help="Warnings are errors.")] = True,
    config: Annotated[Path, typer.Option("--config", help="The MkDocs configuration.")] = Path("mkdocs.yml"),
    project: ProjectOption = Path(),
) -> None:
    """Build the documentation site with all recorded results in it."""
    from method_cards.render import build as builder

    if markdown is not None:
        count = builder.write_markdown(_project(project), markdown)
        typer.echo(f"wrote {count} files to {markdown}")
    else:
        typer.echo(f"built {builder.build_site(config, strict=strict)}/index.html")


@app.command()
def serve(
    config: Annotated[Path, typer.Option("--config", help="The MkDocs configuration.")] = Path("mkdocs.yml"),
    address: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1:8000",
) -> None:
    """Serve the site, and rebuild it when something changes."""
    from method_cards.render import build as builder

    builder.serve_site(config, address)


@app.command()
def notebook(
    name: Annotated[str, typer.Argument(help="A card or a subject to write the notebook of; or the word collect.")],
    file: Annotated[
        Path | None, typer.Argument(help="After collect: the notebook to take the answers from.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write.", show_default="notebooks/NAME.ipynb")
    ] = None,
    execute: Annotated[bool, typer.Option("--execute", help="Run it, so that it holds its results.")] = False,
    project: ProjectOption = Path(),
) -> None:
    """Write the checklist of a card or a subject as a notebook; or collect the answers that people wrote into one."""
    from method_cards.errors import InputError

    if file is None:
        from method_cards.render import notebook as notebooks

        typer.echo(f"wrote {notebooks.write(_project(project), name, output, execute=execute)}")
    elif name != "collect":
        raise InputError(
            f'to take answers from {file}, write `method-cards notebook collect {file}`; "{name}" is no command'
        )
    elif output is not None or execute:
        raise InputError("--output and --execute are for writing a notebook; collect has no use for them")
    else:
        from method_cards.render import report
        from method_cards.render.collect import collect

        report.print_collected(collect(_project(project), file), _console())


@app.command()
def calibrate(
    check: Annotated[
        str | None, typer.Argument(help="Only prescriptions that use this check.", show_default="all")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many times each control is built and checked.")] = 60,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, help="How many processes share the work.", show_default="all cores"),
    ] = None,
    more: Annotated[
        bool,
        typer.Option(
            "--more", help="Count the runs that are kept beside the cards, and run only seeds that are missing."
        ),
    ] = False,
    once: Annotated[
        bool,
        typer.Option("--once", help="Run each control once, for the pages to show; error rates stay as they are."),
    ] = False,
    cards: CardsFolderOption = None,
    project: ProjectOption = Path(),
) -> None:
    """Measure the error rates of checks on controls with known answers, and keep them beside the cards."""
    from method_cards.errors import InputError
    from method_cards.render import report

    if more and once:
        raise InputError("--more adds to error rates, and --once leaves them as they are: give one of them")
    catalog, registry = _library(project, cards or [])
    chosen = [
        (loaded, prescription)
        for loaded in catalog
        for prescription in loaded.card.prescriptions
        if prescription.check is not None and prescription.checked_as is None and check in (None, prescription.check.id)
    ]
    if not chosen:
        registry.get(check or "")
        raise InputError(f'no card uses the check "{check}", so there are no criteria to calibrate')
    report.calibrate(
        chosen, registry, seeds=seeds, jobs=jobs or os.cpu_count() or 1, console=_console(), more=more, once=once
    )


@app.command()
def schema(
    what: Annotated[
        Literal["card", "project"], typer.Argument(help="card: card.yaml, project: method-cards.yaml.")
    ] = "card",
) -> None:
    """Print the JSON Schema (draft-07) of a card or of method-cards.yaml, for editors."""
    from method_cards import schema as schemas
    from method_cards.project import ProjectConfig

    _print_json(schemas.card_schema() if what == "card" else schemas.draft_07(ProjectConfig))


def _run_one(project: Project, name: str, options: Any, dry_run: bool, format: Format) -> Any:  # noqa: A002
    from method_cards.engine import prepare, run_project
    from method_cards.render import progress, report

    if dry_run:
        report.print_plan(prepare(project, name, options), _console())
        return None
    with progress.TerminalProgress(_console(stderr=True)) as watching:
        record = run_project(project, name, options, watching)
    if format == "text":
        cards = {loaded.card.id: loaded for loaded in project.cards_of(name, options.cards)}
        report.print_record(record, _console(), cards=cards, path=record.path)
    return record


def _project(project: Path) -> Project:
    from method_cards.project import Project

    return Project.load(project)


def _library(project: Path, folders: Sequence[Path]) -> tuple[Catalog, Registry]:
    from method_cards.catalog import Catalog
    from method_cards.errors import InputError
    from method_cards.project import FILE, Project
    from method_cards.registry import Registry

    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: there is no such folder of cards")
    file = project / FILE if project.is_dir() else project
    if file.is_file():
        loaded = Project.load(file)
        return (
            Catalog.installed([loaded.folder / loaded.config.cards, *folders]) if folders else loaded.catalog
        ), loaded.registry
    return Catalog.installed(folders), Registry.installed()


def _write(path: Path, text: str, *, quiet: bool) -> None:
    """Write a report to a file, or to standard output; where that holds a report, messages go to standard error."""
    from method_cards.errors import InputError

    if path == Path("-"):
        typer.echo(text.encode(), nl=False)  # in UTF-8, as it says itself, whatever the terminal's encoding is
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    typer.echo(f"wrote {path}", err=quiet)


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=False)


def _print_json(data: Any) -> None:
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False, default=str).encode())


if __name__ == "__main__":
    main()

"""Cards and checks in the terminal: ``method-cards list`` and ``method-cards show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table

from method_cards.errors import InputError
from method_cards.render import words
from method_cards.render.parameters import parameters
from method_cards.render.sources import besides, works
from method_cards.render.summary import calibrated_count, card_cost, check_title, one_line, users
from method_cards.render.terminal import THEME, Writer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from method_cards.card import Criterion, Prescription, Remediation
    from method_cards.catalog import Catalog, LoadedCard
    from method_cards.check import Check
    from method_cards.measurement import Quantity
    from method_cards.registry import Entry, Registry

SOURCES = "Sources"
"""The section of a check's docstring that names works by their keys; it comes last, each work in full."""

WIDE = 110
"""From this width on, the list says what a card or check costs."""


def print_list(catalog: Catalog, registry: Registry, console: Console) -> None:
    """Print all cards and checks, a line for each."""
    writer = Writer(console)
    cards = []
    for loaded in catalog:
        done, checked = calibrated_count(loaded)
        about = " · ".join(part for part in (loaded.family, card_cost(loaded)) if part)
        cards.append((loaded.card.id, loaded.card.title, about, f"{done} of {checked}"))
    _listed(writer, words.plural(len(cards), "card"), "family · cost", cards)
    writer.blank()
    checks = []
    for entry in registry:
        try:
            check = entry.load()
        except InputError as error:
            checks.append((entry.id, str(error), "", "unusable"))
            continue
        cost = one_line(check.page().sections.get("Cost", ""))
        using = list(users(catalog, entry.id))
        done = sum(
            words.calibrated(loaded, prescription, check.version)[0] is not None for loaded, prescription in using
        )
        checks.append((entry.id, check_title(check), cost, f"{done} of {len(using)}" if using else "not used"))
    _listed(writer, words.plural(len(checks), "check"), "cost", checks)


def _listed(writer: Writer, kind: str, about: str, rows: list[tuple[str, str, str, str]]) -> None:
    """A line for each row; an id is never cut, and what it costs stands there where there is room."""
    wide = writer.width >= WIDE
    whole = {"no_wrap": True, "min_width": max((len(row[0]) for row in rows), default=0)}
    cut = {"no_wrap": True, "overflow": "ellipsis"}
    columns: list[tuple[str, dict[str, Any]]] = [(kind, whole), ("title", {**cut, "ratio": 2})]
    columns += [(about, {**cut, "ratio": 3})] if wide else []
    table = writer.table(*columns, ("calibrated", {"no_wrap": True, "min_width": 10}))
    table.expand = True
    for name, title, aside, calibrated in rows:
        cells = [writer.text(name, "bold"), writer.text(title), writer.text(aside, "dim"), writer.text(calibrated)]
        table.add_row(*(cell for number, cell in enumerate(cells) if wide or number != 2))  # noqa: PLR2004  (the third)
    writer.console.print(table)


def print_card(loaded: LoadedCard, console: Console) -> None:
    """Print a card: what it is for, each prescription in full, how it goes wrong."""
    with console.use_theme(THEME):
        writer = Writer(console)
        card = loaded.card
        writer.line(writer.text(card.title, "bold"), writer.text(f"  {card.id}", "dim"))
        writer.line(
            f"{card.card_type} · {loaded.family} · version {card.version.name} of {card.version.date} · {card.status}",
            style="dim",
        )
        writer.blank()
        console.print(writer.prose(card.overview.summary))
        writer.blank()
        rows = [("Use it for", _bullets(writer, card.applicability.prescribed_uses))]
        rows.append(("Not for", _bullets(writer, card.applicability.proscribed_uses)))
        if cost := card_cost(loaded):
            rows.append(("Cost", writer.text(cost)))
        writer.fields(rows, indent=0, label=12)
        must = sum(prescription.level.startswith("MUST") for prescription in card.prescriptions)
        writer.heading(words.plural(len(card.prescriptions), "prescription"), f"{must} of them MUST or MUST NOT")
        for prescription in card.prescriptions:
            _prescription(writer, loaded, prescription)
        writer.heading("How it goes wrong")
        writer.fields([(mode.title, writer.prose(mode.symptom)) for mode in card.failure_modes], indent=0, label=24)
        writer.heading("Literature")
        for reference in (loaded.references[entry.ref] for entry in card.evidence if entry.ref in loaded.references):
            writer.line(reference.format() + (f" {reference.link}" if reference.link else ""))
        writer.blank()
        writer.line(f"The whole card: {loaded.document.path}", style="dim")


def print_check(entry: Entry, catalog: Catalog, console: Console) -> None:
    """Print a check in the order of its page: claim, documentation, parameters, quantities, controls, error rates, sources."""
    with console.use_theme(THEME):
        writer = Writer(console)
        check = entry.load()
        page = check.page()
        writer.line(writer.text(check_title(check), "bold"), writer.text(f"  {entry.id}", "dim"))
        writer.line(f"version {check.version} · from {entry.distribution}", style="dim")
        writer.blank()
        console.print(writer.prose(page.claim))
        for heading, text in page.sections.items():
            if heading != SOURCES:
                writer.heading(heading)
                console.print(writer.prose(text))
        writer.heading("Parameters", "under `with:` in a card")
        _parameters(writer, check)
        writer.heading("Quantities", "that criteria of cards bound")
        for quantity in check.quantities:
            _quantity(writer, quantity, is_gate=quantity.name in check.gates)
        writer.heading("Controls", "subjects with a known answer")
        writer.fields(
            [(control.kind, f"{control.name}: {control.description}") for control in check.controls()],
            indent=0,
            label=10,
        )
        writer.heading("How often it is right", "on these controls")
        using = list(users(catalog, entry.id))
        if not using:
            writer.line("No card uses this check, so there are no criteria whose error rates could be measured.")
        for loaded, prescription in using:
            taken = f", as in {prescription.checked_as}" if prescription.checked_as else ""
            writer.line(writer.text(f"{loaded.card.id}/{prescription.id}", "bold"), writer.text(taken, "dim"))
            if not taken:
                writer.line(words.calibrated(loaded, prescription, check.version)[1], indent=2)
        writer.heading(SOURCES)
        text = page.sections.get(SOURCES, "")
        if more := besides(text, catalog.references):
            console.print(writer.prose(more))
        for work in works(text, catalog.references):
            writer.line(work.format() + (f" {work.link}" if work.link else ""))


def _prescription(writer: Writer, loaded: LoadedCard, prescription: Prescription) -> None:
    writer.line(
        writer.text(f"{prescription.level}  ", "bold"),
        writer.text(prescription.id, "bold cyan"),
        f"  {prescription.stage}",
    )
    writer.console.print(Padding(writer.text(prescription.statement, "bold"), (0, 0, 0, 2)))
    rows: list[tuple[str, RenderableType | str]] = [("Why", writer.prose(prescription.rationale))]
    rows.append(("Symptom", writer.prose(prescription.failure_symptom)))
    rows += [(f"Remedy {number}", _remedy(writer, remedy)) for number, remedy in enumerate(prescription.remediation, 1)]
    if prescription.exceptions:
        rows.append(("Except", _bullets(writer, prescription.exceptions)))
    if prescription.question is not None:
        question = prescription.question
        rows += [("Question", question.question), ("Evidence", question.evidence_required), ("Who", question.assessor)]
    if prescription.check is not None:
        binding = prescription.check
        given = f" with {words.value(binding.parameters)}" if binding.parameters else ""
        taken = f", as in {prescription.checked_as}" if prescription.checked_as else ""
        rows.append(("Check", f"{binding.id}{given}{taken}"))
        rows += [("Passes if", _criterion(writer, loaded, criterion)) for criterion in binding.criteria]
        rows += [("Valid if", _criterion(writer, loaded, criterion)) for criterion in binding.valid_if]
        rows.append(("Error rates", words.calibrated(loaded, prescription)[1]))
    writer.fields(rows, label=12)
    writer.blank()


def _criterion(writer: Writer, loaded: LoadedCard, criterion: Criterion) -> RenderableType:
    return Group(
        writer.text(criterion.claim),
        writer.text(f"{words.bound(criterion)} ({words.source(criterion, loaded.references)})", "dim"),
    )


def _remedy(writer: Writer, remedy: Remediation) -> RenderableType:
    parts: list[RenderableType] = [writer.prose(remedy.action)]
    details = [f"effort {remedy.effort}"] if remedy.effort else []
    details += [f"side effect: {remedy.side_effects}"] if remedy.side_effects else []
    details += [f"recheck: {remedy.recheck}"] if remedy.recheck else []
    if details:
        parts.append(writer.text("; ".join(details), "dim"))
    if remedy.code:
        parts.append(
            Syntax(
                words.clean(remedy.code).strip("\n"),
                "python",
                theme="bw",
                background_color="default",
                word_wrap=True,
                padding=(0, 2),
            )
        )
    return Group(*parts)


def _bullets(writer: Writer, items: tuple[str, ...]) -> RenderableType:
    table = Table.grid(padding=(0, 1, 0, 0))
    for item in items:
        table.add_row(writer.text("•", "dim"), writer.prose(item))
    return table


def _parameters(writer: Writer, check: type[Check]) -> None:
    found = parameters(check.model_json_schema())
    if not found:
        writer.line("none")
    for item in found:
        default = "" if item.is_required else f" = {words.value(item.default)}"
        writer.line(
            writer.text(item.name, "bold"),
            f": {item.type}{default}",
            writer.text(" (required)" if item.is_required else "", "dim"),
        )
        if item.meaning:
            writer.line(item.meaning, indent=4)
        for one in item.alternatives:
            writer.line(f"{one.name}: {', '.join(one.fields)}" if one.fields else one.name, style="dim", indent=4)


def _quantity(writer: Writer, quantity: Quantity, *, is_gate: bool) -> None:
    low, high = quantity.range
    spread: list[Any] = [quantity.kind, f"{low:g} to {high:g}"] if quantity.kind != "auc" else [quantity.kind, "0 to 1"]
    spread += [quantity.unit] if quantity.unit else []
    spread += [f"for each {words.listed(quantity.by)}"] if quantity.by else []
    spread += ["must be bounded under valid_if"] if is_gate else []
    writer.line(writer.text(quantity.name, "bold"), writer.text(f"  {' · '.join(spread)}", "dim"))
    writer.line(quantity.meaning, indent=4)

"""The guide's page of explainers says what the code says.

Run as a program, this file writes the page's tables: ``python -m tests.checks.attribution.test_explainers_page``.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from method_cards.catalog.bibliography import read_bibliography
from method_checks.attribution.explainers import METHODS, Bundled
from tests.helpers import REPOSITORY

REFERENCES = read_bibliography(REPOSITORY / "cards" / "references.bib")
PAGE = REPOSITORY / "site" / "guide" / "explainers.md"
BETWEEN = re.compile(r"(<!-- (?P<part>overview|methods) -->\n).*?(<!-- end -->)", re.DOTALL)
NEEDED: dict[str, dict[str, Any]] = {"captum": {"name": "IntegratedGradients"}}
"""Parameters without which a method cannot be made."""
SIDE = 224
"""The side of the image, in pixels, for which the overview counts passes."""
KINDS = {True: "contributions", False: "sensitivities", None: "neither"}


def made(method: str) -> Bundled:
    explainer = METHODS[method](**NEEDED.get(method, {}))
    if "_positions" in type(explainer).__private_attributes__:
        explainer._positions = (SIDE, SIDE)  # type: ignore[union-attr]  # those that remove positions
    return explainer


def overview() -> str:
    """One line for each method."""
    lines = [
        "| method | its maps are | passes forward | and backward | source |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    for method, kind in METHODS.items():
        explainer = made(method)
        passes = explainer.passes(1)
        kinds = [KINDS[explainer.multiplied]]
        kinds += ["complete"] if explainer.claims_completeness else []
        kinds += ["random"] if explainer.is_random else []
        cells = [", ".join(kinds), f"{passes.forward:,}", f"{passes.backward:,}"]
        cells = ["as the class has it", "", ""] if method == "captum" else cells
        lines.append(f"| {' | '.join([f'[{kind.title}](#{method}) `{method}`', *cells, cited(explainer)])} |")
    return "\n".join(lines) + "\n"


def cited(explainer: Bundled) -> str:
    """Its works, each a link."""
    works = [REFERENCES[key] for key in explainer.sources]
    return ", ".join(f"[{work.short}]({work.link})" for work in works) or "–"


def methods() -> str:
    """What each method is, and its parameters."""
    found = []
    for method, kind in METHODS.items():
        text = (inspect.getdoc(kind) or "").replace("``", "`")
        found.append(f"### {kind.title} {{#{method}}}\n\n`method: {method}`\n\n{text}\n")
        fields = {name: field for name, field in kind.model_fields.items() if name != "method"}
        if fields:
            found.append("| parameter | default | meaning |\n| --- | --- | --- |")
            for name, field in fields.items():
                default = "–" if field.is_required() else f"`{shown(field.get_default(call_default_factory=True))}`"
                found.append(f"| `{name}` | {default} | {field.description} |")
            found[-1] += "\n"
    return "\n".join(found)


def shown(value: object) -> str:
    """A value as YAML writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return "''" if value == "" else str(value)


def written(page: str) -> str:
    """The page, with its tables made anew."""
    parts = {"overview": overview, "methods": methods}
    return BETWEEN.sub(lambda found: f"{found[1]}\n{parts[found['part']]()}\n{found[3]}", page)


def test_the_page_says_what_the_code_says() -> None:
    """Tables of methods and parameters are those that the code gives; this file, run as a program, writes them."""
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page), "run python -m tests.checks.attribution.test_explainers_page"
    assert len(BETWEEN.findall(page)) == 2


@pytest.mark.parametrize("method", METHODS)
def test_sources_are_in_the_bibliography(method: str) -> None:
    """Each work that a method names is a key of references.bib."""
    assert set(METHODS[method].sources) <= set(REFERENCES)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

"""What a large site costs: 1,000 cards, three subjects with results on each. Run: ``python -m benchmarks.site_scale``.

A project is generated: every card a variant of the one that the tests of pages use, every subject with a record in which all cards
were applied. Then four processes run, each with one thread, and their CPU seconds and peak memory are printed:

* first: ``method-cards build`` with no figure drawn yet;
* build: the same again, with every figure taken from the cache. This is what is compared;
* changed: the same after one result in one record changed; how many figures were drawn for that is counted;
* by hand: MkDocs with the same theme, plugins and settings, on the very pages that ``method-cards build --markdown`` wrote, as if
  a person had written them.

The ratio of build to by hand should be at most 1.3, and a page should have less than 100 kB. Figures of several results are alike
(``--figures`` says how many differ for each subject), since drawing 10,000 of them would take ten minutes and say nothing new:
``first`` less ``build`` over their number is what one drawing costs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from method_cards import record
from method_cards.record import Execution, Record
from method_cards.render import site
from tests.render import sample

AIM = 1.3
PAGE = 100_000
REPOSITORY = Path(__file__).parents[1]
CARD = "saliency-sanity"
SUBJECTS = ("digits-cnn", "digits-guided", "digits-again")


@dataclass(frozen=True)
class Cost:
    """What one process took."""

    seconds: float
    megabytes: float


def main() -> None:
    """Print the costs, and what came out, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cards", type=int, default=1000)
    parser.add_argument("--figures", type=int, default=25, help="how many cards of a subject have figures of their own")
    parser.add_argument("--keep", type=Path, help="leave the project here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder: Path = options.keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        print(json.dumps(measure(folder, options.cards, options.figures), indent=2))


def measure(folder: Path, cards: int, figures: int) -> dict[str, Any]:
    """Generate the project, build it every way, and look at what came out."""
    write(folder, cards, figures)
    build = ("-m", "method_cards.cli", "build")
    first = run(folder, *build)
    drawn = drawings(folder)
    again = run(folder, *build)
    change(folder)
    changed = run(folder, *build)
    pages = sizes(folder / "build" / "site")
    run(folder, *build, "--markdown", "pages")
    settings = configuration()
    settings |= {"docs_dir": "pages", "site_dir": "build/by-hand"}
    settings["plugins"] = [plugin for plugin in settings["plugins"] if "method-cards" not in plugin]
    settings["extra_css"], settings["extra_javascript"] = list(site.STYLES), list(site.SCRIPTS)
    (folder / "by-hand.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    shutil.copy(folder / "docs" / "index.md", folder / "pages" / "index.md")
    by_hand = run(folder, "-m", "mkdocs", "build", "--quiet", "--strict", "--config-file", "by-hand.yml")
    assert sizes(folder / "build" / "by-hand").keys() == pages.keys()
    ratio = again.seconds / by_hand.seconds
    heavy = sorted(pages, key=pages.__getitem__)[-5:][::-1]
    return {
        "cards": cards,
        "pages": len(pages),
        "CPU seconds": {
            "first": round(first.seconds, 1),
            "build": round(again.seconds, 1),
            "changed": round(changed.seconds, 1),
            "by hand": round(by_hand.seconds, 1),
        },
        "ratio": f"{ratio:.2f}{' *' if ratio > AIM else ''}",
        "peak MB": {"build": round(again.megabytes), "by hand": round(by_hand.megabytes)},
        "figures": {"drawn": len(drawn), "drawn after the change": len(drawings(folder) - drawn)},
        "page bytes": {
            "median": round(statistics.median(pages.values())),
            "median of generated cards": round(
                statistics.median(size for name, size in pages.items() if name.startswith("cards/card-"))
            ),
            "heaviest": {name: f"{pages[name]:,}{' *' if pages[name] > PAGE else ''}" for name in heavy},
        },
        "search index MB": round((folder / "build/site/search/search_index.json").stat().st_size / 1e6, 2),
    }


def run(folder: Path, *arguments: str) -> Cost:
    """CPU seconds, of user and system together, and peak memory of one Python process in the folder."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "NO_MKDOCS_2_WARNING": "1"}
    process = subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}")
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return Cost(used.ru_utime + used.ru_stime, used.ru_maxrss / unit)


def drawings(folder: Path) -> set[str]:
    """The figures that were drawn so far."""
    return {path.name for path in (folder / ".cache").rglob("*.svg")}


def sizes(built: Path) -> dict[str, int]:
    """Bytes of each page."""
    return {path.relative_to(built).as_posix(): path.stat().st_size for path in built.rglob("*.html")}


def configuration() -> dict[str, Any]:
    """This repository's own mkdocs.yml, for the generated project."""
    settings: dict[str, Any] = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"))
    settings |= {
        "docs_dir": "docs",
        "nav": [{"Home": "index.md"}, *({name.title(): f"{name}/index.md"} for name in HUBS)],
    }
    settings.pop("extra_css", None)  # of this project's own pages
    settings["not_in_nav"] = "".join(f"/{name}/*\n" for name in HUBS)
    settings["plugins"] = ["search", "offline", "method-cards"]
    return settings


HUBS = ("cards", "checks", "subjects")


def write(folder: Path, cards: int, figures: int) -> None:
    """A project with so many cards, and a record of each subject."""
    names = [f"card-{number:04d}" for number in range(cards)]
    for number, name in enumerate(names):
        path = folder / "cards" / f"family-{number % 10}" / name / "card.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(yaml.safe_dump(card(name, number), width=100), encoding="utf-8")
    (folder / "cards" / "references.bib").write_text(sample.BIBLIOGRAPHY, encoding="utf-8")
    with tempfile.TemporaryDirectory() as temporary:
        kept = [made for made, _ in sample.source(Path(temporary)).records]
    for subject, one in zip(SUBJECTS, (*kept, kept[0]), strict=True):
        place = folder / "records" / subject / one.id
        record.write(spread(one, subject, names, figures), place)
    subject_settings = {"task": "image-classification", "model": "m.py:m", "data": {"test": "m.py:d"}, "cards": names}
    project = {
        "schema_version": 1,
        "checks": [f"{sample.__name__}:SampleRandomization"],
        "subjects": dict.fromkeys(SUBJECTS, subject_settings),
    }
    (folder / "method-cards.yaml").write_text(json.dumps(project), encoding="utf-8")
    (folder / "docs").mkdir()
    (folder / "docs" / "index.md").write_text("# Home\n\n[Cards](cards/index.md)\n", encoding="utf-8")
    (folder / "mkdocs.yml").write_text(yaml.safe_dump(configuration()), encoding="utf-8")


def card(name: str, number: int) -> dict[str, Any]:
    """The card of the tests under another name; no two cards have a sentence in common, so that nothing is made once for all."""

    def own(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: own(item) for key, item in value.items()}
        if isinstance(value, list):
            return [own(item) for item in value]
        is_sentence = isinstance(value, str) and value.strip().endswith(".")
        return f"{value.strip()} Number {number}." if is_sentence else value

    found: dict[str, Any] = own(yaml.safe_load(sample.CARD))
    return found | {"id": name, "title": f"Saliency maps {number}"}


def spread(one: Record, subject: str, cards: list[str], figures: int) -> Record:
    """The record of one card as that of many, with figures that differ for the first of them."""
    execution = one.executions[0].model_copy(update={"pictures": ()})
    variants = [shifted(execution, 1e-3 * number) for number in range(figures)]
    verdicts = [
        verdict.model_copy(update={"card": name, "execution": number if verdict.execution == 0 else None})
        for number, name in enumerate(cards)
        for verdict in one.verdicts
    ]
    return one.model_copy(
        update={
            "subject": one.subject.model_copy(update={"id": subject, "title": subject.replace("-", " ")}),
            "cards": dict.fromkeys(cards, "0" * 64),
            "executions": tuple(variants[number % figures] for number in range(len(cards))),
            "verdicts": tuple(verdicts),
        }
    )


def shifted(execution: Execution, by: float) -> Execution:
    """The same measurements with other values."""
    series = [
        item.model_copy(update={"values": tuple(round(value - by * value, 6) for value in item.values)})
        for item in execution.measurements
    ]
    return execution.model_copy(update={"measurements": tuple(series)})


def change(folder: Path) -> None:
    """Measure one card of one subject again, with another outcome."""
    path = next((folder / "records" / SUBJECTS[0]).glob("*/record.json"))
    kept = record.read(path)
    executions = (shifted(kept.executions[0], 0.3), *kept.executions[1:])
    record.write(kept.model_copy(update={"executions": executions}), path.parent)


if __name__ == "__main__":
    main()

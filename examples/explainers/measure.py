"""Run every explainer against every check of the attribution family, on four models; ``python measure.py`` writes results.json.

Each pair of a model and an explainer is one subject of a generated ``method-cards.yaml``, run as `method-cards run` does.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
import yaml
from chosen import parameters

from method_cards.catalog import Catalog
from method_cards.engine import run_project
from method_cards.errors import InputError
from method_cards.execution import Options
from method_cards.project import FILE, Project
from method_cards.record import Record
from method_checks.attribution.explainers import METHODS

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"

MODELS: dict[str, dict[str, Any]] = {
    "cnn": {"task": "image-classification", "data": "digits"},
    "residual": {"task": "image-classification", "data": "residual"},
    "words": {"task": "text-classification", "data": "words"},
    "table": {"task": "tabular-classification", "data": "table"},
}

LIMIT = 3600
"""Seconds after which a check is given up."""


def project(cards: list[str]) -> dict[str, Any]:
    """What stands in ``method-cards.yaml``: a subject for each model and explainer."""
    subjects = {}
    for model, given in MODELS.items():
        for method in METHODS:
            subjects[f"{model}.{method}"] = {
                "task": given["task"],
                "model": f"subjects.py:{model}",
                "train": f"subjects.py:train_{model}",
                "data": {split: f"subjects.py:{given['data']}_{split}" for split in ("train", "test")},
                "explainer": {"method": method, **parameters(model, method)},
                "cards": cards,
            }
    return {"schema_version": 1, "samples": 128, "subjects": subjects}


def cards() -> list[str]:
    """The cards of the attribution family."""
    return [loaded.card.id for loaded in Catalog.installed() if loaded.family == "attribution"]


def measure(name: str, folder: str, only: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Run one subject; gives one entry for each prescription that has a check of its own, or for these alone."""
    torch.set_num_threads(1)
    given = Project.load(folder)
    try:
        record = run_project(given, name, Options(device="cpu", seed=0, time_limit=LIMIT, only=only))
    except InputError as error:
        return [{"model": name.partition(".")[0], "explainer": name.partition(".")[2], "refused": str(error)}]
    return entries(name, record, given.catalog)


def entries(name: str, record: Record, catalog: Catalog) -> list[dict[str, Any]]:
    """What is kept of a record."""
    model, _, explainer = name.partition(".")
    own = {
        f"{loaded.card.id}/{item.id}": item.check.id
        for loaded in catalog
        for item in loaded.card.prescriptions
        if item.check is not None and item.checked_as is None
    }
    return [
        {
            "model": model,
            "explainer": explainer,
            "prescription": verdict.id,
            "check": own[verdict.id],
            "level": verdict.level,
            "outcome": str(verdict.outcome),
            "reason": verdict.reason[:300],
            "seconds": record.executions[verdict.execution].seconds if verdict.execution is not None else None,
            "criteria": [
                {
                    "measurement": result.measurement,
                    "where": dict(result.where),
                    "bound": result.bound,
                    "outcome": str(result.outcome),
                    "interval": None
                    if result.interval is None
                    else [
                        round(part, 4) for part in (result.interval.estimate, result.interval.low, result.interval.high)
                    ],
                }
                for result in (*verdict.criteria, *verdict.gates)
            ],
        }
        for verdict in record.verdicts
        if verdict.id in own
    ]


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--explainers", nargs="*", default=list(METHODS))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="where the results are kept; those of other pairs stay"
    )
    parser.add_argument("--only", nargs="*", default=[], help="measure these prescriptions alone, by their full ids")
    parser.add_argument("--errored", action="store_true", help="measure again what could not be measured")
    options = parser.parse_args()
    folder = HERE / "records" / "project"
    folder.mkdir(parents=True, exist_ok=True)
    given = project(cards())
    (folder / FILE).write_text(yaml.safe_dump(given, sort_keys=False), encoding="utf-8")
    (folder / "subjects.py").write_text((HERE / "subjects.py").read_text(encoding="utf-8"), encoding="utf-8")
    names = [
        name
        for name in given["subjects"]
        if name.partition(".")[0] in options.models and name.partition(".")[2] in options.explainers
    ]
    found: list[dict[str, Any]] = (
        json.loads(options.results.read_text(encoding="utf-8")) if options.results.exists() else []
    )
    wanted = {name: tuple(options.only) for name in names}
    if options.errored:
        errored = [item for item in found if item.get("outcome") == "errored"]
        wanted = {
            name: tuple(item["prescription"] for item in errored if f"{item['model']}.{item['explainer']}" == name)
            for name in names
        }
        wanted = {name: only for name, only in wanted.items() if only}
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(measure, name, str(folder), only): name for name, only in wanted.items()}
        for number, future in enumerate(as_completed(futures), 1):
            name = futures[future]
            new = future.result()
            again = {(name, item.get("prescription", "")) for item in new} if wanted[name] else set()
            found = [item for item in found if not _replaced(item, name, again)] + new
            order = {name: position for position, name in enumerate(given["subjects"])}
            found.sort(key=lambda item: order[f"{item['model']}.{item['explainer']}"])
            options.results.write_text(json.dumps(found, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
            print(f"[{number}/{len(wanted)}] {name}", flush=True)


def _replaced(item: dict[str, Any], name: str, again: set[tuple[str, str]]) -> bool:
    """Whether an entry is of this subject, and was measured again; all of a subject's were, where none are named."""
    subject = f"{item['model']}.{item['explainer']}"
    return subject == name and (not again or (subject, item.get("prescription", "")) in again)


if __name__ == "__main__":
    main()

"""The sample with a ``method-cards.yaml`` of its own, as the commands and the browser see it."""

from __future__ import annotations

from pathlib import Path

import yaml

from method_cards.project import FILE, Project
from tests.render import sample


def write(folder: Path) -> Project:
    """A project with one card, two subjects, and a record of each that holds every outcome."""
    sample.write_project(folder)
    subject = {
        "task": "image-classification",
        "model": "m.py:m",
        "data": {"test": "m.py:d"},
        "cards": ["saliency-sanity"],
    }
    settings = {
        "schema_version": 1,
        "checks": [f"{sample.__name__}:SampleRandomization"],
        "subjects": {name: dict(subject) for name in ("digits-cnn", "digits-guided", "never-run")},
    }
    (folder / FILE).write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return Project.load(folder)

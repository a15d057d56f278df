"""Method cards: prescriptions for machine-learning methods that can be run against your own PyTorch model.

A tour, in the order in which things happen:

* A `Card` is a YAML file about one method. It holds prescriptions: what to do, why, what goes wrong otherwise, how to mend it.
* A `Subject` is what is under check: a model, its data, its task. `Project` reads ``method-cards.yaml`` and builds subjects.
  A `Recipe` says how its model is trained, so that a check can train more like it.
* A `Check` measures a subject and yields `Exact`, `PerSample` and `TwoGroups` measurements of its declared `Quantity` s,
  batch by batch, from what its `Context` lends it. A `Control` is a subject with a known answer.
* A criterion of the card bounds a measurement; judging it gives a `Verdict` with an `Outcome`, from a confidence interval.
* `run` executes cards on a model that is at hand, in a script or a notebook, and returns a `Record`, which shows itself.
  `method_cards.engine.run_project` does the same for a subject of a project, with `Options`.

Importing this package does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from method_cards.card import Card
    from method_cards.check import Check, Context, Control, Passes
    from method_cards.errors import CheckError, InputError
    from method_cards.execution import Options
    from method_cards.live import run
    from method_cards.measurement import Exact, PerSample, Pictures, Quantity, TwoGroups
    from method_cards.project import Project
    from method_cards.record import Record
    from method_cards.subject import Subject
    from method_cards.training import Recipe
    from method_cards.verdict import Outcome, Verdict

__all__ = [
    "Card",
    "Check",
    "CheckError",
    "Context",
    "Control",
    "Exact",
    "InputError",
    "Options",
    "Outcome",
    "Passes",
    "PerSample",
    "Pictures",
    "Project",
    "Quantity",
    "Recipe",
    "Record",
    "Subject",
    "TwoGroups",
    "Verdict",
    "run",
]

_HOMES = {
    "Card": "card",
    "Check": "check",
    "CheckError": "errors",
    "Context": "check",
    "Control": "check",
    "Exact": "measurement",
    "InputError": "errors",
    "Options": "execution",
    "Outcome": "verdict",
    "Passes": "check",
    "PerSample": "measurement",
    "Pictures": "measurement",
    "Project": "project",
    "Quantity": "measurement",
    "Recipe": "training",
    "Record": "record",
    "Subject": "subject",
    "TwoGroups": "measurement",
    "Verdict": "verdict",
    "run": "live",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f'module "method_cards" has no attribute "{name}"')
    return getattr(import_module(f"method_cards.{_HOMES[name]}"), name)

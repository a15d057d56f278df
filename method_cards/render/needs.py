"""What a check needs besides a model and its test data, in a few words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from method_cards.check import Check

USUAL = ("test",)
"""Splits that go without saying."""


def needs(check: type[Check]) -> tuple[str, ...]:
    """An explainer, further data, and what the check declares: gradients, trainings, checkpoints."""
    found = ["an explainer"] if "explainer" in check.model_fields else []
    try:
        splits = check().splits()
    except Exception:  # noqa: BLE001  (a parameter must be given, or another package's code fails: nothing is known before)
        splits = ()
    more = [split for split in splits if split not in USUAL]
    found += [f"data: {', '.join(more).replace('_', ' ')}"] if more else []
    return (*found, *check.needs)

"""Classifiers and language models of which it is known whether one step on an example gives its membership away."""

from __future__ import annotations

from method_cards.check import Control
from method_checks.memorization.controls import tables, text_membership

CONTROLS = (
    Control(
        "trained-on-other-rows",
        "sound",
        "An overfitted classifier whose training rows are in neither split.",
        tables.other_rows,
    ),
    Control(
        "memorised-other-texts",
        "sound",
        "A language model that memorised 1,200 texts, tried on texts of which it saw none.",
        text_membership.other_texts,
    ),
    Control(
        "overfitted-to-label-noise",
        "defect",
        "A classifier that was trained until it fitted 1,500 rows, of whose labels 20 % had been replaced at random before the split.",
        tables.label_noise,
        because="drift_auc",
    ),
    Control(
        "memorised-its-texts",
        "defect",
        "A language model that saw each of 1,200 texts about 25 times.",
        text_membership.memorised,
        because="drift_auc",
    ),
    Control(
        "never-saw-either-but-shifted",
        "confounded",
        "A classifier that saw neither split, and non-members that are drawn from somewhere else.",
        tables.shifted_rows,
        because="blind_auc",
    ),
)

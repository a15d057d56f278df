"""What papers found about memorisation, and what the examples beside this one and the controls of cards say of it.

Every number is read from a file of the repository: attacks.json and results.json of two examples, the runs of controls that are kept
beside a card, and the page of models that memorise.
"""

# ruff: noqa: PLR2004  (the numbers are how one reads each finding)
from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

REPOSITORY = Path(__file__).parents[2]
ATTACKS = REPOSITORY / "examples" / "memorization" / "attacks.json"
CAPACITY = REPOSITORY / "examples" / "capacity" / "results.json"
PAIRS = REPOSITORY / "site" / "evidence" / "memorization.md"
CARDS = REPOSITORY / "cards" / "memorization"

Interval: TypeAlias = tuple[float, float, float]
Values: TypeAlias = Mapping[str, float]


@dataclass(frozen=True)
class Remembered:
    """What a paper reports, and how it is looked for here.

    Attributes:
        claim: What was found.
        source: The key of the paper.
        reported: What the paper says, with its numbers where it has some.
        quantity: What is measured here, as Markdown.
        measured: Reads the numbers: estimate, low and high end, by name.
        rule: What counts as agreement.
        agrees: The same for values; it must only compare them.
        command: What measures it again, and where.
        why: What a reader should know where it came out so: by "yes", "no" or "open".
    """

    claim: str
    source: str
    reported: str
    quantity: str
    measured: Callable[[], dict[str, Interval]]
    rule: str
    agrees: Callable[[Values], bool]
    command: str
    why: Mapping[str, str] = field(default_factory=dict)


def attacks(part: str) -> dict[str, Interval]:
    """What attacks.json holds."""
    found: dict[str, list[float]] = json.loads(ATTACKS.read_text(encoding="utf-8"))[part]
    return {name: (values[0], values[1], values[2]) for name, values in found.items()}


def pairs(**measurements: str) -> dict[str, Interval]:
    """Measurements of the first model of a pair on the page of models that memorise."""
    text = PAIRS.read_text(encoding="utf-8")
    number = r"(-?[\d.]+)"
    found = {}
    for name, measurement in measurements.items():
        match = re.search(rf">{re.escape(measurement)} {number} \({number} to {number}\)", text)
        assert match is not None, measurement
        found[name] = (float(match[1]), float(match[2]), float(match[3]))
    return found


def controls(card: str, slug: str, **names: str) -> dict[str, Interval]:
    """What one run of each control found."""
    text = (CARDS / card / "controls.json").read_text(encoding="utf-8")
    kept: list[dict[str, Any]] = json.loads(text)["prescriptions"][slug]["controls"]
    by_name = {each["control"]: each["criteria"][0]["interval"] for each in kept}
    return {
        name: (by_name[control]["estimate"], by_name[control]["low"], by_name[control]["high"])
        for name, control in names.items()
    }


def stored() -> dict[str, Interval]:
    """Bits that were stored for each parameter, at the largest set of each number of steps."""
    points: list[dict[str, Any]] = json.loads(CAPACITY.read_text(encoding="utf-8"))
    found = {}
    for point in sorted(points, key=lambda point: (point["steps"], point["strings"])):
        bits = point["memorized_bits"] / point["parameters"]
        found[f"{point['strings']} strings, {point['steps']:,} steps"] = (bits, bits, bits)
    return found


REMEMBERED = (
    Remembered(
        "Offline LiRA needs its one-sided test",
        "carlini2022membership",
        "without models that were trained on the record, the attack is a one-sided test of the confidence against models without it",
        "AUC of [offline LiRA](../checks/memorization/likelihood-ratio-attack.md), mean over 64 targets, each against the 63 others; in "
        "parentheses where 95 % of targets lie",
        lambda: attacks("likelihood ratio"),
        "one-sided above two-sided",
        lambda value: value["one-sided"] > value["two-sided"],
        "python attacks.py in examples/memorization",
        {
            "yes": "A record that the model knows is far more probable than others; a two-sided density punishes that as unlikely."
        },
    ),
    Remembered(
        "An audit of one training must fix its number of guesses",
        "steinke2023privacy",
        "the bound holds for a number of guesses that is fixed before the result is seen",
        "share of 4,000 simulated audits [without any leak](../checks/memorization/differential-privacy-audit.md) that contradict an "
        "epsilon of 0 at 95 %: with 100 guesses a side, or the best of six numbers of guesses",
        lambda: attacks("one-run audit"),
        "fixed at most 0.05, chosen above",
        lambda value: value["fixed"] <= 0.05 < value["chosen"],
        "python attacks.py in examples/memorization",
    ),
    Remembered(
        "A classifier of crops can stand in for the second encoder",
        "kokhlikyan2024measuring",
        "correlations of the data can be estimated without a second model, with very similar aggregate results",
        "[`deja_vu_excess`](../cards/deja-vu-memorization.md#no-deja-vu) of one encoder that memorised its images",
        lambda: controls(
            "deja-vu-memorization",
            "no-deja-vu",
            classifier="memorised-its-images",
            encoder="memorised-beside-a-reference",
        ),
        "they differ by less than 0.2",
        lambda value: abs(value["classifier"] - value["encoder"]) < 0.2,
        "method-cards calibrate memorization/deja-vu --once",
        {
            "yes": "What agrees is the difference of two differences, training crops less held-out crops. The plain differences on "
            "training crops alone do not ([the card](../cards/deja-vu-memorization.md))."
        },
    ),
    Remembered(
        "Gradient drift tells more than the loss",
        "gdrift2026membership",
        "substantially better than attacks by confidence, perplexity and reference models",
        "AUC on a [GPT-2 of 28,000 parameters](memorization.md) that saw each sentence 100 times",
        lambda: pairs(drift="drift AUC", loss="membership AUC (loss)"),
        "drift above loss",
        lambda value: value["drift"] > value["loss"],
        "method-cards run && python comparison.py in examples/memorization",
        {"no": "The check is a reconstruction from the abstract, which was all that could be read."},
    ),
    Remembered(
        "Min-K %++ is better than the loss",
        "zhang2025mink",
        "6.2 % to 10.5 % better than the runner-up in AUC on WikiMIA, which compares texts from before and after a date",
        "AUC on the same model, whose two groups of texts are one random split",
        lambda: pairs(**{"min-k-plus-plus": "membership AUC (min-k-plus-plus)", "loss": "membership AUC (loss)"}),
        "Min-K %++ above loss",
        lambda value: value["min-k-plus-plus"] > value["loss"],
        "method-cards run && python comparison.py in examples/memorization",
    ),
    Remembered(
        "A transformer holds about 3.6 bits for each parameter",
        "morris2025how",
        "about 3.6 bits, from models of half a million parameters and more",
        "bits stored for each parameter by [one of 17,920 parameters](capacity.md)",
        stored,
        "some set stores 3.4 bits or more",
        lambda value: max(value.values()) >= 3.4,
        "python points.py in examples/capacity",
        {
            "no": "The model is 28 times smaller than the smallest of the paper, and what it stores still rises with the number of steps. "
            "This is no contradiction: a capacity is that of a model and a recipe."
        },
    ),
)

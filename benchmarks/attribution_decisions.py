"""How often the suite and Quantus decide rightly on the controls. Run: ``python -m benchmarks.attribution_suite --decide``.

Ours: the verdicts of a card's prescription, at its own settings, as its calibration counted them; only controls for 8 x 8 digits count.
Quantus gives numbers and no verdict. So each of its measures, at its defaults, gets the best threshold that one could give it: the
one with the largest difference of detection and false-alarm rate on the even seeds, in the direction that Quantus states. It is scored
on the odd ones. What is compared is the mean over examples (and layers). For the three measures that take 50 or 200 draws fewer examples
are measured, as printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import torch

from benchmarks.attribution import QUIET, quantus, silent_call
from method_cards import calibration
from method_cards.catalog import Catalog
from method_cards.check import Check, Control
from method_cards.intervals.clopper_pearson import clopper_pearson
from method_cards.registry import Registry
from method_cards.subject import Subject
from method_checks.attribution.explainers import resolve

FEWER = 8
"""How many examples the expensive measures get."""

MANY = 64

IMAGES = (1, 8, 8)


@dataclass(frozen=True)
class Decision:
    """A question, who answers it here, and what Quantus measures for it.

    Attributes:
        name: Of Quantus' measure.
        prescription: Ours, ``card/slug``.
        score: Quantus' numbers for a subject's examples and explainer; their mean is what is compared.
        high: Whether larger is better, as Quantus states.
        examples: How many are measured.
    """

    name: str
    prescription: str
    score: Callable[[tuple[Any, ...], dict[str, Any]], Any]
    high: bool = False
    examples: int = MANY


def by_measure(name: str, **parameters: Any) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
    """One of Quantus' measures at its defaults but for these parameters."""
    return lambda given, explained: getattr(quantus(), name)(**parameters, **QUIET)(*given, **explained)


RANDOMISATION = "integrated-gradients/depends-on-parameters"
SMOOTH = "saliency-maps/smoothed-map-depends-on-parameters"
STABLE, PREDICTS = "smoothgrad/stable-maps", "smoothgrad/predicts-perturbations"
RANKS = "perturbation-explanations/ranks-better-than-chance"

DECISIONS = (
    Decision("MPRT", RANDOMISATION, by_measure("MPRT")),
    Decision("Smooth MPRT", SMOOTH, by_measure("SmoothMPRT"), examples=FEWER),
    Decision("Max-Sensitivity", STABLE, by_measure("MaxSensitivity"), examples=FEWER),
    Decision("Local Lipschitz Estimate", STABLE, by_measure("LocalLipschitzEstimate"), examples=FEWER),
    Decision("Infidelity", PREDICTS, by_measure("Infidelity")),
    Decision("Pixel-Flipping", RANKS, by_measure("PixelFlipping")),
    Decision(
        "Faithfulness Correlation",
        PREDICTS,
        by_measure("FaithfulnessCorrelation", subset_size=16, return_aggregate=False),
        high=True,
    ),
)
"""The default subset of Faithfulness Correlation has 224 features; a digit has 64, of which a quarter is taken."""


def decide(seeds: int, only: str = "") -> Iterator[str]:
    """A Markdown table, line by line: detection and false-alarm rates of both, with 95 % intervals."""
    yield "| Quantus, at its defaults | examples | controls, defects last | detection | false alarms | ours | detection | false alarms |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for decision in (each for each in DECISIONS if only in each.name):
        check, rates = ours(decision.prescription)
        chosen = [item for item in check.controls() if item.name in rates and on_digits(item)]
        scores = {item.name: np.array([scored(decision, item.build(seed)) for seed in range(seeds)]) for item in chosen}
        sound = [item.name for item in chosen if item.kind == "sound"]
        others = [item.name for item in chosen if item.kind != "sound"]
        print(
            f"  {decision.name}: "
            + "; ".join(f"{name} {np.round(values, 3).tolist()}" for name, values in scores.items())
        )
        theirs = judged(scores, sound, others, high=decision.high)
        mine = [
            told(sum(rates[name].expected for name in names), sum(rates[name].runs for name in names))
            for names in (others, sound)
        ]
        names = ", ".join((*sound, *(f"*{name}*" for name in others)))
        yield (
            f"| {decision.name} | {decision.examples} | {names} | {theirs[0]} | {theirs[1]} "
            f"| `{decision.prescription}` | {mine[0]} | {mine[1]} |"
        )


def ours(prescription: str) -> tuple[type[Check], dict[str, Any]]:
    """The check of a prescription, and its calibration by control."""
    card, _, slug = prescription.partition("/")
    loaded = next(item for item in Catalog.installed() if item.card.id == card)
    found = next(item for item in loaded.card.prescriptions if item.id == slug)
    assert found.check is not None
    rates = calibration.read(loaded.folder).prescriptions[slug].controls
    return Registry.installed().get(found.check.id).load(), {rate.control: rate for rate in rates}


def on_digits(item: Control) -> bool:
    """Whether it is an image of 8 x 8 pixels, which is what Quantus is given."""
    subject = item.build(0)
    inputs = subject.batch("test", (0,)).inputs
    return subject.task == "image-classification" and tuple(getattr(inputs, "shape", ())[1:]) == IMAGES


def scored(decision: Decision, subject: Subject) -> float:
    """Quantus' mean score of the first examples of a subject, explained by the subject's own explainer."""
    batch = subject.batch("test", tuple(range(decision.examples)))
    inputs = batch.inputs
    assert isinstance(inputs, torch.Tensor)
    targets = subject.outputs(batch).argmax(1)
    draws = count()

    def explain(model: Any, inputs: Any, targets: Any, **_: object) -> Any:
        x, y = torch.as_tensor(np.asarray(inputs), dtype=torch.float32), torch.as_tensor(np.asarray(targets))
        theirs = Subject("peer", subject.task, model, {"test": (x, y)}, explainer=subject.explainer)
        view = theirs.view(theirs.batch("test", tuple(range(len(x)))), y)
        return resolve(theirs).explain(view, next(draws)).numpy()

    with torch.random.fork_rng(devices=[]):
        np.random.seed(0)  # noqa: NPY002  (Quantus draws from it)
        given = (subject.model, inputs.numpy().copy(), targets.numpy().copy())
        found = silent_call(lambda: decision.score(given, {"explain_func": explain}))
    values = list(found.values()) if isinstance(found, dict) else found
    return float(np.mean([np.mean(value) for value in values]))


def judged(scores: dict[str, Any], sound: list[str], others: list[str], *, high: bool) -> tuple[str, str]:
    """Detection and false alarms on odd seeds, with the threshold that is best on even ones; a score beyond it is called bad."""
    turned = {name: -values if high else values for name, values in scores.items()}
    half = [
        [np.concatenate([turned[name][start::2] for name in names]) for names in (others, sound)] for start in (0, 1)
    ]
    (bad, good), (later_bad, later_good) = half
    ends = np.unique(np.concatenate([bad, good]))
    thresholds = [ends[0] - 1, *((ends[1:] + ends[:-1]) / 2), ends[-1] + 1]
    best = max(thresholds, key=lambda level: float((bad > level).mean() - (good > level).mean()))
    return (
        told(int((later_bad > best).sum()), len(later_bad)),
        told(int((later_good > best).sum()), len(later_good)),
    )


def told(number: int, runs: int) -> str:
    """A share of runs with its interval."""
    found = clopper_pearson(number, runs)
    return f"{number}/{runs} ({found.low:.2f} to {found.high:.2f})"

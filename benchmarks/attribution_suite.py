"""Seven questions of one explainer: together, with shared passes, beside Quantus at its defaults.

Run: ``python -m benchmarks.attribution_suite``. The questions: parameter randomisation, its smooth form, max-sensitivity, the other
stability numbers (local Lipschitz), infidelity, pixel flipping, faithfulness correlation. Ours answers them with five checks:
max-sensitivity gives all stability numbers from the same draws, and infidelity gives the faithfulness correlation. Both are timed in one
process, in CPU seconds of one thread, on 64 examples. On the ResNet-18, Quantus at its defaults takes over an hour: there it is measured
with fewer draws and examples and scaled, since its cost is proportional to both; the scale is printed. How well ours decides with
fewer draws is counted by ``--decide`` (`benchmarks.attribution_decisions`).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PYTEST", "1")  # no progress bars of Quantus

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import torch

from benchmarks.attribution import (
    NETWORKS,
    QUIET,
    SAMPLES,
    Setting,
    best_pass,
    explained,
    quantus,
    setting_of,
    silent,
    spent,
)
from benchmarks.attribution_decisions import decide
from method_cards.check import Context
from method_cards.memo import Memo
from method_cards.randomness import seeded
from method_cards.registry import Registry
from method_cards.subject import Subject, preserved

CHECKS = (
    "attribution/parameter-randomization",
    "attribution/smooth-parameter-randomization",
    "attribution/max-sensitivity",
    "attribution/infidelity",
    "attribution/pixel-flipping",
)


@dataclass(frozen=True)
class Question:
    """What Quantus calls it, and how much of its default is measured on the large network.

    Attributes:
        name: Of the measure.
        ask: Called with the network, its examples and a number of draws.
        draws: The default.
        fewer: So many draws, and so many examples, are measured on the large network.
    """

    name: str
    ask: Callable[[Setting, int], object]
    draws: int
    fewer: tuple[int, int]


def maps_of(setting: Setting) -> Any:
    """Quantus changes the maps that it is given."""
    return setting.maps(multiplied=True).copy()


QUESTIONS = (
    Question("MPRT", lambda s, _: quantus().MPRT(**QUIET)(s.model, *s.arrays(), **explained()), 1, (1, 16)),
    Question(
        "Smooth MPRT",
        lambda s, n: quantus().SmoothMPRT(nr_samples=n, **QUIET)(s.model, *s.arrays(), **explained()),
        50,
        (2, 8),
    ),
    Question(
        "max-sensitivity",
        lambda s, n: quantus().MaxSensitivity(nr_samples=n, **QUIET)(s.model, *s.arrays(), **explained()),
        200,
        (4, 16),
    ),
    Question(
        "local Lipschitz",
        lambda s, n: quantus().LocalLipschitzEstimate(nr_samples=n, **QUIET)(s.model, *s.arrays(), **explained()),
        200,
        (4, 16),
    ),
    Question(
        "infidelity",
        lambda s, n: quantus().Infidelity(n_perturb_samples=n, **QUIET)(s.model, *s.arrays(), a_batch=maps_of(s)),
        10,
        (1, 8),
    ),
    Question(
        "pixel flipping",
        lambda s, n: quantus().PixelFlipping(features_in_step=s.inputs[0].numel() // n, **QUIET)(
            s.model, *s.arrays(), a_batch=maps_of(s)
        ),
        0,
        (24, 16),
    ),
    Question(
        "faithfulness correlation",
        lambda s, n: quantus().FaithfulnessCorrelation(nr_runs=n, subset_size=s.inputs[0].numel() // 4, **QUIET)(
            s.model, *s.arrays(), a_batch=maps_of(s)
        ),
        100,
        (8, 16),
    ),
)


def main() -> None:
    """Time both on each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--decide", action="store_true", help="count right and wrong decisions on the controls instead")
    parser.add_argument("--seeds", type=int, default=10, help="from how many seeds each control is built for Quantus")
    parser.add_argument("--only", default="", help="with --decide: a part of the name of Quantus' measure")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    if options.decide:
        for line in decide(options.seeds, options.only):
            print(line, flush=True)
        return
    for network in options.networks:
        setting = setting_of(network, options.device)
        print(f"\n{NETWORKS[network]}, {SAMPLES} examples")
        ours = suite(setting.subject())
        if find_spec("quantus") is None:
            print("Quantus is not installed: see benchmarks/attribution.py")
            continue
        theirs = sum(asked(question, setting, network) for question in QUESTIONS)
        print(f"  {'together':<44}{ours:>10.2f} s ours {theirs:>10.2f} s Quantus: 1 / {theirs / ours:.0f}")


def suite(subject: Subject) -> float:
    """CPU seconds of all checks of one run, which share their maps."""
    subject.block = best_pass(subject, backward=True)[1]
    memo, total = Memo(), 0.0
    for name in CHECKS:
        check = Registry.installed().get(name).load()()
        context = Context(subject, SAMPLES, batch_size=SAMPLES, scope=check.id, memo=memo)

        def run(check: Any = check, context: Context = context) -> None:
            with preserved(subject), seeded(0):
                for _ in check.measure(subject, context):
                    pass

        seconds = spent(subject, run)
        total += seconds
        print(f"  {name:<44}{seconds:>10.2f} s", flush=True)
    return total


def asked(question: Question, setting: Setting, network: str) -> float:
    """CPU seconds of one question at Quantus' defaults, scaled where less was measured."""
    features = setting.inputs[0].numel()
    default = question.draws or features
    draws, examples = question.fewer if network == "R" else (default, SAMPLES)
    fewer = replace(setting, inputs=setting.inputs[:examples], targets=setting.targets[:examples])
    seconds = spent(setting.subject(), lambda: silent(lambda given: question.ask(given, draws), fewer))
    scale = default / draws * SAMPLES / examples
    told = f" (measured {seconds:.2f} s, times {scale:.0f})" if scale > 1 else ""
    print(f"  Quantus {question.name:<36}{seconds * scale:>10.2f} s{told}", flush=True)
    return seconds * scale


if __name__ == "__main__":
    main()

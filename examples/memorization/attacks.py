"""Measure what the literature says of two attacks and no check asks: ``python attacks.py`` writes attacks.json.

One compares the one-sided and the two-sided form of the offline likelihood-ratio attack, the other audits trainings without any leak
with a number of guesses that is fixed, or chosen by the result.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binom, norm

from method_cards.intervals import clopper_pearson
from method_cards.training import train_many
from method_checks.memorization.controls import recipes
from method_checks.memorization.scores.reference_models import fitted, lira_offline

RESULTS = Path(__file__).parent / "attacks.json"

MODELS = 64
CANARIES, AUDITS = 1000, 4000
SIDES = (25, 50, 100, 200, 300, 400)
"""Numbers of guesses on each side that somebody may try; the third is the fixed one."""

Floats = NDArray[np.float64]


def confidences() -> tuple[Floats, NDArray[np.bool_]]:
    """Logit-scaled confidences of models on all examples, each trained on a random half: ``(model, example)``, and the halves."""
    subject = recipes.overfitted(0)
    batches = [subject.batch(split, range(recipes.SAMPLES)) for split in ("train", "test")]
    inputs = torch.cat([batch.inputs for batch in batches if isinstance(batch.inputs, torch.Tensor)])
    labels = torch.cat([batch.targets for batch in batches])
    rng = torch.Generator().manual_seed(0)
    halves = torch.rand(MODELS, len(labels), generator=rng).argsort(1) < len(labels) // 2
    models = train_many(recipes.OVERFIT, inputs, labels, halves, range(MODELS))
    with torch.no_grad():
        logits = torch.stack([model(inputs) for model in models]).double()
    right = torch.nn.functional.one_hot(labels, recipes.CLASSES).bool().expand_as(logits)
    others = logits.masked_fill(right, -torch.inf).logsumexp(2)
    return (logits[right].view(MODELS, -1) - others).numpy(), halves.numpy()


def area(scores: Floats, members: NDArray[np.bool_]) -> float:
    """The area under the ROC curve: how often a member's score is above a non-member's."""
    above = scores[members][:, None] - scores[~members][None]
    return float((above > 0).mean() + (above == 0).mean() / 2)


def attacks() -> dict[str, list[float]]:
    """Both forms against every model as the target, by the others: the mean, and where 95 % of targets lie."""
    values, halves = confidences()
    found: dict[str, list[float]] = {"one-sided": [], "two-sided": []}
    for target in range(MODELS):
        rest = np.arange(MODELS) != target
        outside = fitted(values[rest], ~halves[rest], per_example=False)
        scores = {
            "one-sided": lira_offline(values[target], values[rest], halves[rest], per_example=False),
            "two-sided": -norm.logpdf(values[target], outside.mean, outside.deviation),
        }
        for form, each in scores.items():
            found[form].append(area(each, halves[target]))
    return {
        form: [float(np.mean(areas)), *map(float, np.quantile(areas, [0.025, 0.975]))] for form, areas in found.items()
    }


def audits() -> dict[str, list[float]]:
    """How often an audit of trainings without any leak contradicts an epsilon of 0 at 95 %, with a 95 % interval."""
    rng = np.random.default_rng(0)
    coins = rng.random((AUDITS, CANARIES)) < 1 / 2  # sorted by scores that know nothing of them
    contradicted = []
    for side in SIDES:
        right = coins[:, :side].sum(1) + (~coins[:, -side:]).sum(1)
        contradicted.append(binom.sf(right - 1, 2 * side, 1 / 2) < 0.05)  # noqa: PLR2004  (the level of the audit)
    shares = {"fixed": contradicted[2], "chosen": np.any(contradicted, axis=0)}
    intervals = {name: clopper_pearson(int(share.sum()), AUDITS, 0.95) for name, share in shares.items()}
    return {name: [each.estimate, each.low, each.high] for name, each in intervals.items()}


def main() -> None:
    """Measure both, and write what was found."""
    torch.set_num_threads(1)
    found = {"likelihood ratio": attacks(), "one-run audit": audits()}
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Write the page that puts what the literature found beside what is measured here: ``python literature.py``.

Every number on it is read from results.json, and whether it agrees is computed from the numbers.
"""

# ruff: noqa: PLR2004  (the numbers are how one reads each finding)
from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from method_cards.catalog import Catalog

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
PAGE = HERE.parents[1] / "site" / "evidence" / "literature.md"

Values = Mapping[str, float]
Interval = tuple[float, float, float]

HEAD = """---
hide: [navigation, toc]
---

# What the literature found, re-measured

Each row is a finding of a paper, in the authors' own terms as far as they could be read, and the same question put to small models
here: the networks of [every explainer against every check](explainers.md), 64 to 256 held-out examples, seed 0. Small networks on
digits, made-up texts and one table are not ImageNet: agreement says that the check sees what the paper saw, and disagreement says that
it depends on the setting. Numbers are means with 95 % intervals.

The papers give no bounds for these measures. What counts as agreement is the rule in the last column but one, written for this page.
**yes**: it holds wherever the means lie in their intervals; **no**: it holds nowhere in them; *open*: the intervals allow both.

Made by `python measure.py && python literature.py` in `examples/explainers`.
"""


@dataclass(frozen=True)
class Finding:
    """What a paper reports, and how it is looked for here.

    Attributes:
        claim: What was found.
        source: The key of the paper.
        reported: What the paper says, with its numbers where it has some.
        prescription: Where it is measured, as ``card/slug``.
        measurement: The quantity.
        model: On which model.
        explainers: Whose values are shown.
        rule: What counts as agreement.
        agrees: The same for values; it must only compare them.
    """

    claim: str
    source: str
    reported: str
    prescription: str
    measurement: str
    model: str
    explainers: tuple[str, ...]
    rule: str
    agrees: Callable[[Values], bool]


FINDINGS = (
    Finding(
        "Guided Backprop hardly notices that the output layer is random",
        "adebayo2018sanity",
        "Guided Backprop and Guided Grad-CAM are invariant to the parameters of higher layers; gradients and Grad-CAM are not",
        "integrated-gradients/depends-on-parameters",
        "signed_similarity",
        "cnn",
        ("guided-backprop", "deconvolution", "gradient", "integrated-gradients", "grad-cam", "edges"),
        "Guided Backprop above 0.5; the gradient, Integrated Gradients and Grad-CAM below",
        lambda value: (
            value["guided-backprop"] > 0.5 > max(value["gradient"], value["integrated-gradients"], value["grad-cam"])
        ),
    ),
    Finding(
        "Guided Grad-CAM hardly notices it either",
        "adebayo2018sanity",
        "as above",
        "integrated-gradients/depends-on-parameters",
        "signed_similarity",
        "cnn",
        ("guided-grad-cam", "guided-backprop", "grad-cam"),
        "Guided Grad-CAM above 0.5",
        lambda value: value["guided-grad-cam"] > 0.5,
    ),
    Finding(
        "The same on a residual network with batch norm",
        "adebayo2018sanity",
        "as above, for Inception v3",
        "integrated-gradients/depends-on-parameters",
        "signed_similarity",
        "residual",
        ("guided-backprop", "deconvolution", "gradient", "integrated-gradients", "grad-cam", "edges"),
        "Guided Backprop above 0.5; the gradient, Integrated Gradients and Grad-CAM below",
        lambda value: (
            value["guided-backprop"] > 0.5 > max(value["gradient"], value["integrated-gradients"], value["grad-cam"])
        ),
    ),
    Finding(
        "Multiplied by the input, magnitudes of two untrained networks agree",
        "kokhlikyan2021investigating",
        "the input multiplier carries the input's structure into the maps and leads to similar results regardless of the parameters",
        "integrated-gradients/absolute-depends-on-parameters",
        "absolute_null_similarity",
        "cnn",
        ("input-x-gradient", "integrated-gradients", "gradient", "smoothgrad"),
        "input times gradient and Integrated Gradients above 0.7, the gradient below",
        lambda value: min(value["input-x-gradient"], value["integrated-gradients"]) > 0.7 > value["gradient"],
    ),
    Finding(
        "Conclusions from images do not carry over to text",
        "kokhlikyan2021investigating",
        "the artefact of the multiplier was seen for images; conclusions do not directly transfer to text",
        "integrated-gradients/absolute-depends-on-parameters",
        "absolute_null_similarity",
        "words",
        ("input-x-gradient", "integrated-gradients", "gradient"),
        "input times gradient and Integrated Gradients below 0.5",
        lambda value: max(value["input-x-gradient"], value["integrated-gradients"]) < 0.5,
    ),
    Finding(
        "Maps of modified backward rules hardly depend on the class",
        "sixt2020explanations",
        "Guided Backprop, Deconvolution and others are independent of the parameters of later layers",
        "guided-backprop/class-sensitive",
        "signed_similarity",
        "cnn",
        ("guided-backprop", "deconvolution", "gradient", "integrated-gradients", "deep-lift"),
        "Guided Backprop and Deconvolution above 0.3; the gradient, Integrated Gradients and DeepLIFT below",
        lambda value: (
            min(value["guided-backprop"], value["deconvolution"])
            > 0.3
            > max(value["gradient"], value["integrated-gradients"], value["deep-lift"])
        ),
    ),
    Finding(
        "A gradient's map shows what the labels were",
        "adebayo2018sanity",
        "maps of a model of permuted labels differ from those of the true ones where a method depends on them",
        "saliency-maps/depends-on-labels",
        "signed_similarity_loss",
        "cnn",
        ("gradient", "integrated-gradients", "guided-backprop", "edges"),
        "the gradient above 0.2, edges below",
        lambda value: value["gradient"] > 0.2 > value["edges"],
    ),
    Finding(
        "The same on a residual network with batch norm",
        "adebayo2018sanity",
        "as above, for Inception v3",
        "saliency-maps/depends-on-labels",
        "signed_similarity_loss",
        "residual",
        ("gradient", "integrated-gradients", "guided-backprop", "edges"),
        "the gradient above 0.2, edges below",
        lambda value: value["gradient"] > 0.2 > value["edges"],
    ),
    Finding(
        "The gradient of a usual model lies on parts that say nothing about the class",
        "shah2021input",
        "input gradients of standard models may grossly violate the assumption that they highlight discriminative features",
        "grad-cam/off-the-null-block",
        "null_share",
        "cnn",
        ("gradient", "integrated-gradients", "occlusion", "noise"),
        "the gradient above 0.35; 0 is right and chance is one half",
        lambda value: value["gradient"] > 0.35,
    ),
    Finding(
        "Much of Integrated Gradients comes from where the output no longer changes",
        "miglani2020investigating",
        "gradients at points where the output is saturated make up much of the attribution",
        "integrated-gradients/no-saturated-mass",
        "excess_mass",
        "residual",
        ("integrated-gradients",),
        "above 0.25",
        lambda value: value["integrated-gradients"] > 0.25,
    ),
    Finding(
        "Explainers of one model name other features",
        "krishna2022disagreement",
        "explanation methods disagree",
        "shap-and-lime/disagreement-looked-at",
        "feature_agreement_excess",
        "words",
        ("gradient", "smoothgrad", "integrated-gradients", "occlusion"),
        "the gradient below 0.1 in excess of chance",
        lambda value: value["gradient"] < 0.1,
    ),
    Finding(
        "A constant shift of the input changes attributions",
        "kindermans2017unreliability",
        "numerous methods attribute incorrectly when a shift is added that has no effect on the model; gradients do not",
        "integrated-gradients/survives-a-shift",
        "difference_after_shift",
        "cnn",
        ("gradient", "smoothgrad", "input-x-gradient", "integrated-gradients"),
        "input times gradient and Integrated Gradients above 0.3, the gradient below 0.1",
        lambda value: value["gradient"] < 0.1 and min(value["input-x-gradient"], value["integrated-gradients"]) > 0.3,
    ),
    Finding(
        "Averaging over noisy inputs makes maps more stable",
        "yeh2019infidelity",
        "smoothing explanations lowers their sensitivity",
        "smoothgrad/stable-maps",
        "max_sensitivity",
        "cnn",
        ("gradient", "smoothgrad", "guided-backprop"),
        "SmoothGrad below the gradient",
        lambda value: value["smoothgrad"] < value["gradient"],
    ),
    Finding(
        "Guided Backprop predicts perturbations less well than the gradient",
        "yeh2019infidelity",
        "infidelity is compared for gradient, SmoothGrad, Integrated Gradients and Guided Backprop; lower is better",
        "smoothgrad/predicts-perturbations",
        "explained_excess",
        "cnn",
        ("gradient", "smoothgrad", "guided-backprop", "edges"),
        "the gradient above Guided Backprop, and that above edges",
        lambda value: value["gradient"] > value["guided-backprop"] > value["edges"],
    ),
    Finding(
        "Some methods give weight to cells that cannot influence the output",
        "rao2022towards",
        "a grid of disconnected cells tells possible from impossible attributions",
        "grad-cam/off-disconnected-cells",
        "connected_share",
        "cnn",
        ("gradient", "integrated-gradients", "occlusion", "grad-cam", "edges"),
        "the gradient above 0.9, Grad-CAM below",
        lambda value: value["gradient"] > 0.9 > value["grad-cam"],
    ),
    Finding(
        "Guided Backprop depends on how the function is written",
        "sundararajan2017axiomatic",
        "implementation invariance is broken by methods that change the rule of backpropagation",
        "guided-backprop/same-function-same-map",
        "changed_explanations",
        "cnn",
        ("gradient", "integrated-gradients", "guided-backprop"),
        "Guided Backprop above 0.5, the gradient and Integrated Gradients below",
        lambda value: value["guided-backprop"] > 0.5 > max(value["gradient"], value["integrated-gradients"]),
    ),
    Finding(
        "So do DeepLIFT and LRP",
        "sundararajan2017axiomatic",
        "DeepLIFT and LRP break implementation invariance",
        "guided-backprop/same-function-same-map",
        "changed_explanations",
        "cnn",
        ("deep-lift", "lrp", "gradient"),
        "DeepLIFT and LRP above 0.5",
        lambda value: min(value["deep-lift"], value["lrp"]) > 0.5,
    ),
    Finding(
        "Complete attributions need not tell what raising a feature does",
        "bilodeau2024impossibility",
        "complete and linear methods such as Integrated Gradients and SHAP can fail to improve on random guessing",
        "shap-and-lime/sign-is-an-effect",
        "attribution_youden",
        "table",
        ("gradient", "integrated-gradients", "kernel-shap", "shapley-sampling", "noise"),
        "the gradient above 0.5, Integrated Gradients and Kernel SHAP below 0.3",
        lambda value: value["gradient"] > 0.5 and max(value["integrated-gradients"], value["kernel-shap"]) < 0.3,
    ),
    Finding(
        "Explanations of a class can make that class look likely",
        "jethani2023dont",
        "class-dependent methods leak information about the class they explain",
        "shap-and-lime/no-label-leakage",
        "leakage_excess",
        "cnn",
        ("input-x-gradient", "integrated-gradients", "kernel-shap", "edges"),
        "input times gradient and Integrated Gradients above 0.1, edges below",
        lambda value: min(value["input-x-gradient"], value["integrated-gradients"]) > 0.1 > value["edges"],
    ),
)


def page(entries: Sequence[Mapping[str, Any]]) -> str:
    """The page as Markdown."""
    references = Catalog.installed().references
    rows = ["| finding | reported | measured here | rule | agrees |", "| --- | --- | --- | --- | --- |"]
    for finding in FINDINGS:
        found = {explainer: value_of(entries, finding, explainer) for explainer in finding.explainers}
        there = {explainer: interval for explainer, interval in found.items() if interval is not None}
        work = references[finding.source]
        told = "; ".join(
            f"{explainer} {estimate:.2f} ({low:.2f} to {high:.2f})"
            for explainer, (estimate, low, high) in there.items()
        )
        card, _, slug = finding.prescription.partition("/")
        quantity = f"[`{finding.measurement}`](../cards/{card}.md#{slug}), {finding.model}"
        rows.append(
            f"| {finding.claim} ([{work.short}]({work.link})) | {finding.reported} | {quantity}: {told} | {finding.rule} | "
            f"{verdict(finding, there)} |"
        )
    return "\n".join([HEAD, *rows]) + "\n"


def verdict(finding: Finding, there: Mapping[str, Interval]) -> str:
    """Whether the measured intervals agree with a finding: at all of their ends, at none, or at some."""
    names = tuple(there)
    try:
        found = {
            finding.agrees(dict(zip(names, ends, strict=True)))
            for ends in product(*((low, high) for _, low, high in there.values()))
        }
    except KeyError as missing:
        return f"not measured: {missing.args[0]}"
    if len(found) > 1:
        return "*open*"
    return "yes" if found.pop() else "**no**"


def value_of(entries: Sequence[Mapping[str, Any]], finding: Finding, explainer: str) -> Interval | None:
    """The interval of one explainer; None where it was not measured."""
    for entry in entries:
        wanted = (finding.model, explainer, finding.prescription)
        if (entry["model"], entry["explainer"], entry.get("prescription")) == wanted:
            for criterion in entry["criteria"]:
                if criterion["measurement"] == finding.measurement and criterion["interval"] is not None:
                    estimate, low, high = criterion["interval"]
                    return estimate, low, high
    return None


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()

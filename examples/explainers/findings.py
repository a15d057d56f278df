"""What papers found about explanations, and the rule by which each is looked for in results.json."""

# ruff: noqa: PLR2004  (the numbers are how one reads each finding)
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

Values: TypeAlias = Mapping[str, float]


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
        why: What a reader should know where it came out so: by "yes", "no" or "open". Numbers of trainings.json are named in braces.
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
    why: Mapping[str, str] = field(default_factory=dict)


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
        {
            "no": "Its map is the product of the two others. Grad-CAM's part changes with the output layer, and takes some of Guided "
            "Backprop's picture along.",
        },
    ),
    Finding(
        "Nor does it on a residual network with batch norm",
        "adebayo2018sanity",
        "as above, for Inception v3",
        "integrated-gradients/depends-on-parameters",
        "signed_similarity",
        "residual",
        ("guided-backprop", "deconvolution", "gradient", "input-x-gradient", "grad-cam", "edges"),
        "Guided Backprop above 0.5; the gradient, input times gradient and Grad-CAM below",
        lambda value: (
            value["guided-backprop"] > 0.5 > max(value["gradient"], value["input-x-gradient"], value["grad-cam"])
        ),
        {"open": "All but Grad-CAM are clear; its interval holds 0.5."},
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
        "A network of permuted labels has other maps",
        "adebayo2018sanity",
        "maps of a model that was trained on permuted labels differ from those of the true ones where a method depends on the labels",
        "saliency-maps/depends-on-labels",
        "signed_permuted_similarity",
        "cnn",
        ("gradient", "integrated-gradients", "guided-backprop", "edges"),
        "the gradient and Integrated Gradients below 0.25, Guided Backprop and edges above",
        lambda value: (
            max(value["gradient"], value["integrated-gradients"]) < 0.25 < min(value["guided-backprop"], value["edges"])
        ),
    ),
    Finding(
        "So has a residual network with batch norm",
        "adebayo2018sanity",
        "as above, for Inception v3",
        "saliency-maps/depends-on-labels",
        "signed_permuted_similarity",
        "residual",
        ("gradient", "input-x-gradient", "edges"),
        "the gradient and input times gradient below 0.25, edges above",
        lambda value: max(value["gradient"], value["input-x-gradient"]) < 0.25 < value["edges"],
    ),
    Finding(
        "Labels change the gradient's map by more than another training does",
        "adebayo2018sanity",
        "the paper has no second training on true labels to compare with; without one, a small similarity may be chance in training",
        "saliency-maps/depends-on-labels",
        "signed_similarity_loss",
        "cnn",
        ("gradient", "integrated-gradients", "guided-backprop", "edges"),
        "the gradient above 0.2, edges below",
        lambda value: value["gradient"] > 0.2 > value["edges"],
    ),
    Finding(
        "They do so on a residual network with batch norm too",
        "adebayo2018sanity",
        "as above",
        "saliency-maps/depends-on-labels",
        "signed_similarity_loss",
        "residual",
        ("gradient", "input-x-gradient", "edges"),
        "the gradient above 0.2, edges below",
        lambda value: value["gradient"] > 0.2 > value["edges"],
        {
            "no": "There is no room for a loss of 0.2. Gradients of two trainings on the true labels agree by {gradient[page]:.2f} only, "
            "where both are trained as the model of this page, by {gradient[check]:.2f} as the check trains, and by "
            "{gradient[page and check]:.2f} one of each; on permuted labels it is {gradient[page and permuted]:.2f}. So the labels do "
            "count, and the training function is not at fault. Averaging over noise raises the agreement of two trainings to "
            "{smoothgrad[check]:.2f}. Where two trainings of a network hardly share their maps, this test says little "
            "about the method (`python trainings.py`).",
        },
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
        {
            "no": "It is there, and smaller than the rule asks for: this network is far smaller than the Inception v3 of the paper.",
        },
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
        {"open": "The estimates say so, and the intervals overlap."},
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
        {
            "no": "DeepLIFT does. LRP does not on this network; on the residual one it does ([its page](explainers/lrp.md)).",
        },
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

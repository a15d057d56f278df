"""What a reader should know of the rows of the page of all explainers: shown only while the numbers bear it out."""

# ruff: noqa: PLR2004  (the numbers are those that a note speaks of)
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

NULLS = ("edges", "inputs", "noise")
"""Explainers that know nothing of the model."""

Row: TypeAlias = Mapping[str, Mapping[str, float]]
"""The estimates of one row of a table: by explainer, then by measurement."""

EXPECTED = {
    "explainer-preflight": "asks how a method is called and what it leaves behind, not what its maps say",
    "implementation-invariance": "a map that sees no model does not change with how the model is written",
    "label-leakage": "a map that does not depend on the class cannot give the class away",
    "max-sensitivity": "a map that follows the input smoothly is stable, right or wrong",
    "smooth-activation": "a map that sees no model is as good, or bad, for the smooth network, and the check asks for the difference",
    "input-multiplier": "asks whether magnitudes show the input, and these show something else",
}
"""Why a check says nothing against a map that knows no model."""

_EMBEDDINGS = "the features of a text are its embeddings, and these are parameters: the input itself changes with them"

EXPECTED_ALONE = {
    ("survives-a-shift", "edges"): "differences of neighbours do not change when all pixels are shifted",
    ("survives-a-shift", "noise"): "noise does not depend on the input",
    ("covered-counts-for-less", "noise"): (
        "by chance one of two weights is the smaller in half of the images, and the bound lies below a half; the contrast between "
        "networks, of the same check, is what refutes noise"
    ),
    ("disagreement-looked-at", "inputs"): (
        "contributions hold the input as a factor, so that the input names some of the same features; agreement is no evidence for a map"
    ),
    ("ranks-better-than-chance", "inputs"): (
        "ink is what the network reads, so that an order by brightness is better than chance; that it sees no model is found by the "
        "randomisation of parameters"
    ),
    **{
        (slug, "inputs"): _EMBEDDINGS
        for slug in ("absolute-depends-on-parameters", "magnitudes-not-the-input", "depends-on-labels")
    },
}
"""The same for one prescription and one explainer."""


@dataclass(frozen=True)
class Note:
    """A remark on one row.

    Attributes:
        model: The model.
        slug: The prescription.
        holds: Whether the numbers bear it out.
        text: What is said; ``{explainer[measurement]}`` is a number of the row.
    """

    model: str
    slug: str
    holds: Callable[[Row], bool]
    text: str


NOTES = (
    Note(
        "cnn",
        "deletion-and-insertion",
        lambda row: row["gradient"]["deletion_gain"] < 0.1 < row["input-x-gradient"]["deletion_gain"],
        "Removal asks what a pixel has contributed. A gradient says what a small change would do, and fails here "
        "({gradient[deletion_gain]:.2f}) and in the other rows of removal; the same gradient times the input is a contribution and passes "
        "({input-x-gradient[deletion_gain]:.2f}).",
    ),
    Note(
        "cnn",
        "off-the-null-block",
        lambda row: min(row[name]["null_share"] for name in ("gradient", "integrated-gradients", "occlusion")) > 0.35,
        "Nothing passes, and that is a finding about the network. The subject ships its training function, so the check trains this CNN "
        "on images of which one half says nothing about the class. Occlusion only reports how the output reacts, and puts "
        "{occlusion[null_share]:.2f} of its map on that half: the trained network does use it. With the check's own network, for which the "
        "half cannot matter, the same methods have 0.00 to 0.11 (see the card). Chance is one half.",
    ),
    Note(
        "residual",
        "faithful-near-the-data",
        lambda row: max(row[name]["accuracy_gain"] for name in ("gradient", "integrated-gradients")) < 0.1,
        "These images are 8 × 8 pixels, enlarged bilinearly, so that a removed pixel can be filled in from its neighbours without much "
        "loss: the order of the map then hardly counts. Gains are {gradient[accuracy_gain]:.2f} for the gradient and "
        "{integrated-gradients[accuracy_gain]:.2f} for Integrated Gradients. It is a limit of imputing single pixels of smooth images.",
    ),
    Note(
        "residual",
        "needed-and-enough",
        lambda row: (
            row["integrated-gradients"]["comprehensiveness_gain"]
            > 0.1
            > row["integrated-gradients"]["sufficiency_gain"]
        ),
        "The half that fails is sufficiency: kept alone on the mean colour, the pixels that Integrated Gradients names save "
        "{integrated-gradients[sufficiency_gain]:.2f} more than random ones. Removing them costs "
        "{integrated-gradients[comprehensiveness_gain]:.2f} more. Scattered pixels without their surroundings are unlike any image that "
        "this network has seen, so the map may be better than this says.",
    ),
    Note(
        "residual",
        "depends-on-labels",
        lambda row: (
            row["gradient"]["signed_permuted_similarity"] < 0.25 and row["gradient"]["signed_similarity_loss"] < 0.2
        ),
        "The gradient of a network of permuted labels has nothing in common with the trained one's "
        "({gradient[signed_permuted_similarity]:.2f}), but neither has that of a second training on the right labels: the loss is only "
        "{gradient[signed_similarity_loss]:.2f}. Two trainings of this network do not share their maps, which leaves the test no room.",
    ),
    Note(
        "residual",
        "finds-the-class-in-a-grid",
        lambda row: (
            max(row[name]["positive_share"] for name in ("gradient", "input-x-gradient", "guided-backprop")) < 0.4
        ),
        "A map without information puts a quarter of its weight on the right one of four images. The gradient puts "
        "{gradient[positive_share]:.2f} there, input times gradient {input-x-gradient[positive_share]:.2f}. Grids of digits are unlike the "
        "single digits that this network has seen, so the row does not tell whether the maps or its answers are at fault.",
    ),
    Note(
        "cnn",
        "no-label-leakage",
        lambda row: (
            min(row[name]["leakage_excess"] for name in ("gradient", "integrated-gradients", "kernel-shap")) > 0.1
        ),
        "What such methods keep for a class that is asked for makes that class look likely, whether the model predicts it or not: in "
        "excess of random positions by {gradient[leakage_excess]:.2f} for the gradient and by "
        "{integrated-gradients[leakage_excess]:.2f} for Integrated Gradients. The paper says so of all class-dependent methods. A failure "
        "asks for care with explanations of classes that are not predicted, not for another method of this kind.",
    ),
)


def expected(check: str, slug: str, explainer: str) -> str:
    """Why an explainer that knows no model passes; empty where no reason is known."""
    return EXPECTED_ALONE.get((slug, explainer), "") or EXPECTED.get(check.partition("/")[2], "")

"""Explainers whose dependence on a model's parameters is known: controls of the randomisation test."""

from __future__ import annotations

from method_cards.check import Control
from method_checks.attribution import controls
from method_checks.attribution.controls import enlarged


def explained() -> tuple[Control, ...]:
    """Networks for digits, of 8 x 8 and of 32 x 32 pixels, with explainers that depend on all, on some, and on no parameters."""
    return (
        Control(
            "gradient",
            "sound",
            "A small convolutional network trained on digits, explained by its input gradient, which is a function of all parameters.",
            controls.digits_by("gradient"),
        ),
        Control(
            "guided-backprop",
            "defect",
            "The same network, explained by Guided Backprop, which mostly reconstructs the input whatever the upper layers are.",
            controls.digits_by("guided-backprop"),
            because="signed_similarity",
        ),
        Control(
            "edges",
            "defect",
            "The same network, explained by an edge filter that sees no model.",
            controls.digits_by("edges"),
            because="signed_similarity",
        ),
        Control(
            "input-x-gradient",
            "defect",
            "The same network, explained by input times gradient, whose magnitudes mostly show the input.",
            controls.digits_by("input-x-gradient"),
            because="absolute_null_similarity",
        ),
        Control(
            "enlarged-gradient",
            "sound",
            "A network trained on digits of 32 x 32 pixels, explained by its input gradient.",
            enlarged.enlarged_by("gradient"),
        ),
        Control(
            "enlarged-guided-backprop",
            "defect",
            "The same network, explained by Guided Backprop.",
            enlarged.enlarged_by("guided-backprop"),
            because="ssim_similarity",
        ),
        Control(
            "enlarged-edges",
            "defect",
            "The same network, explained by an edge filter that sees no model.",
            enlarged.enlarged_by("edges"),
            because="ssim_similarity",
        ),
        Control(
            "noise",
            "confounded",
            "The same network, explained by noise, which changes with the parameters as with everything else.",
            controls.digits_by("noise"),
            because="self_similarity",
        ),
    )

"""The parameters of explainers, where they are not the defaults."""

from __future__ import annotations

from typing import Any

NEEDED: dict[str, dict[str, Any]] = {
    "captum": {"name": "Saliency", "arguments": {"abs": False}},
}
"""What an explainer cannot do without."""

COARSE: dict[str, dict[str, Any]] = {
    "occlusion": {"window": 4, "stride": 2},
    "feature-ablation": {"grid": 4},
    "rise": {"grid": 4, "samples": 256},
    "kernel-shap": {"grid": 4, "samples": 256},
    "lime": {"grid": 4, "samples": 256},
    "shapley-sampling": {"grid": 4, "orders": 16},
}
"""What explains by removals takes patches of 4 x 4 pixels on the residual network, which is five times as slow as the plain one."""


def parameters(model: str, method: str) -> dict[str, Any]:
    """The parameters of an explainer on a model, where they are not the defaults."""
    return NEEDED.get(method, {}) | (COARSE.get(method, {}) if model == "residual" else {})

"""What several attribution checks of one run need, made once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from method_cards.lazy import torch

if TYPE_CHECKING:
    from collections.abc import Hashable

    from torch import Tensor

    from method_cards.check import Context
    from method_cards.subject import View
    from method_checks.attribution.explainers import CustomExplainer, Explainer


def explained(context: Context, explainer: Explainer | CustomExplainer, view: View, draw: int = 0) -> Tensor:
    """The trained model's attributions, in the shape of ``view.features``; they must not be changed in place.

    Args:
        context: What the engine lent to the check.
        explainer: The method.
        view: Examples of a split as `method_cards.subject.Subject.view` gives them: as they are, the predicted class explained.
        draw: Another number gives another draw of a random method's noise.
    """
    settings, *examples = settings_of(explainer, view)
    seed = context.once(("noise of explanations", settings, draw), drawn)
    return context.once(("explanation", settings, *examples, draw), lambda _: explainer.explain(view, seed))


def drawn(generator: torch.Generator) -> int:
    """A seed."""
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))


def settings_of(explainer: Explainer | CustomExplainer, view: View) -> tuple[Hashable, ...]:
    """What tells an explanation from any other in a run, as a part of keys of `method_cards.check.Context.once`."""
    settings = getattr(explainer, "model_dump_json", lambda: explainer.method)()
    return settings, view.batch.indices, _digest(view)


def _digest(view: View) -> tuple[int, ...]:
    """What tells these examples from those of the same numbers in another split, and their targets from others."""
    return (*view.targets.tolist(), hash(view.features.double().sum().item()))

"""Maps of a few examples side by side, as a report shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from method_cards.lazy import torch
from method_cards.measurement import Pictures

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from torch import Tensor

    from method_cards.subject import View

SHOWN = 4
"""How many examples are shown."""

INPUT = "input"
"""The title of the column of inputs."""


def side_by_side(
    name: str, caption: str, columns: Mapping[str, Tensor], rows: Iterable[str], images: Collection[str] = (INPUT,)
) -> Pictures:
    """A row for each of the first examples.

    Args:
        name: What they show, snake_case.
        caption: One sentence that says what to look for.
        columns: What is shown under each title, ``(batch, ...)``, all of one shape.
        rows: What each example is called.
        images: Titles of columns that show images; in all others zero is the middle of the colours.
    """
    shown = torch.stack([column[:SHOWN] for column in columns.values()], 1)
    return Pictures(
        name,
        caption,
        tuple(columns),
        tuple(rows)[:SHOWN],
        shown.detach().float().cpu().numpy(),
        tuple(title not in images for title in columns),
    )


def inputs_of(view: View) -> dict[str, Tensor]:
    """The column of inputs, their channels averaged; none for tables and texts, which are no pictures."""
    is_image = view.features.dim() == 4  # noqa: PLR2004  (batch, channel, height, width)
    return {INPUT: view.features[:SHOWN].mean(1)} if is_image else {}


def class_names(classes: Sequence[str], targets: Tensor) -> list[str]:
    """What the first targets are called; "class 3" where the subject does not name them."""
    return [str(classes[target]) if target < len(classes) else f"class {target}" for target in targets[:SHOWN].tolist()]

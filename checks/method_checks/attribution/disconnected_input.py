"""Disconnected input: does a map stay within the part of the input that the score can depend on?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from method_cards.check import Check, Context, Control, Passes
from method_cards.lazy import torch
from method_cards.measurement import Quantity, Yielded
from method_checks.attribution import controls
from method_checks.attribution.controls.functions import blurred_gradient, explained_by
from method_checks.attribution.explainers import Explainer, GradCam, GuidedGradCam, resolve
from method_checks.attribution.explainers.cam import map_layer
from method_checks.attribution.tasks import truth
from method_checks.attribution.tasks.grids import JOINED, chosen_cells, disconnected, joined_view
from method_checks.attribution.tasks.truth import explain_other, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from method_cards.subject import Subject, View

CONNECTED = Quantity(
    "connected_share",
    "mean",
    "share of each map's magnitude on the cell that alone the explained logit depends on",
)
EMPTY = Quantity("empty_map", "proportion", "share of examples whose map is zero everywhere, so that it has no shares")


class DisconnectedInput(Check):
    """Attribution stays on the part of the input that alone the explained score can depend on.

    What it measures:
        The explainer and the model are the subject's own. Examples are put side by side: images in a grid of `side` x `side` cells,
        rows of a table and texts one after the other, in as many cells. A network is built around the subject's model that sends each
        cell through it alone and gives the logits of all cells. The explained logit is that of one cell, drawn at random, for the class
        that the model predicts there. It does not depend on any other cell, whatever the model is. `connected_share` is the part of the
        map's magnitude on that cell: 1 is right, and a map that knows nothing of the model has 1 / `side`² on average. `empty_map` is
        the share of maps that are zero everywhere; they are left out.

        Class activation maps are taken at the layer that they use in the subject's model: its activations for all cells are put side
        by side, and one weight is computed for each channel, as for one large image. As the weight is averaged over all cells, these
        maps light up wherever the channel is active, connected or not; this is a property of the method.

    Assumptions:
        The explainer works for any network: a bundled method, or a function that uses the model it is given. It may blur: a window of
        occlusion, a smoothed or an enlarged map, crosses the border of a cell by its width, which costs a little of the share.

    Cost:
        One forward pass of each example and its neighbours, and one explanation of all cells: `side`² times an explanation's passes.

    Departures from the paper:
        Rao et al. count positive attributions, on images that the model classifies with confidence, of distinct classes in each grid;
        here magnitudes count, so that negative evidence in a wrong place is not overlooked, and neighbours are any other examples of
        the run, since the right answer does not depend on them. Tables and texts are not in the paper.

    Sources:
        rao2022towards; rao2024better
    """

    id: ClassVar[str] = "attribution/disconnected-input"
    quantities: ClassVar[tuple[Quantity, ...]] = (CONNECTED, EMPTY)
    gates: ClassVar[tuple[str, ...]] = ("empty_map",)

    explainer: Explainer | None = Field(
        default=None, description="The explanation method; the subject's own where left out."
    )
    split: str = Field(default="test", description="The data split whose examples are explained.")
    side: int = Field(default=2, ge=2, le=4, description="Cells along each side of a grid; its square is their number.")

    def splits(self) -> tuple[str, ...]:
        """The split whose examples are explained."""
        return (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """Without an explainer there is nothing to check, and language models have no single class to explain."""
        return truth.not_applicable(subject, self.explainer)

    def passes(self, subject: Subject, samples: int) -> Passes:
        """Each example with its neighbours forward for the classes, and the explanation of all its cells."""
        cells = self.side**2
        return Passes(forward=cells * samples) + resolve(subject, self.explainer).passes(cells * samples)

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Explain each batch among its neighbours and sum the map's magnitude on the connected cell."""
        explainer = resolve(subject, self.explainer)
        seed = context.number("explainer")
        drawn = context.indices(self.split)
        apart = disconnected(subject, self.side**2)
        for batch in context.batches(self.split):
            if isinstance(explainer, GradCam | GuidedGradCam) and explainer.layer != JOINED:
                layer = _name_of(
                    subject, map_layer(subject.view(batch, batch.targets), explainer.layer, explainer.method)
                )
                apart = disconnected(subject, self.side**2, layer)
                explainer = explainer.model_copy(update={"layer": JOINED})
            for some in _pieces(batch.indices, max(1, subject.block // self.side**2)):
                positions = tuple(context.number("cell", index) % self.side**2 for index in some)
                view, region = self._view(
                    subject, apart, some, neighbours(drawn, some, positions, self.side**2), positions
                )
                attributions = explain_other(subject, explainer, view, seed)
                shares, empty = share(view.as_map(attributions).abs() * view.content, region)
                yield EMPTY.per_sample(empty.cpu().numpy())
                if not bool(empty.all()):
                    yield CONNECTED.per_sample(shares[~empty].cpu().numpy())

    def _view(
        self,
        subject: Subject,
        apart: Subject,
        indices: tuple[int, ...],
        cells: tuple[int, ...],
        positions: tuple[int, ...],
    ) -> tuple[View, Tensor]:
        count = self.side**2
        each = subject.batch(self.split, cells)
        logits = subject.outputs(each)
        position = torch.tensor(positions, device=logits.device)
        rows = torch.arange(len(indices), device=logits.device) * count + position
        targets = position * logits.shape[1] + logits[rows].argmax(1)
        view = joined_view(apart, each, indices, targets, count)
        region = view.as_map(chosen_cells(subject.adapter.features(each.inputs), position, count)) > 0
        return view, region

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Derivatives of a logit are zero where it does not depend on the input; filters and noise know nothing of that."""
        digits = "A small convolutional network trained on digits, four of them in a grid, explained by "
        return (
            Control("gradient", "sound", f"{digits}the input gradient.", controls.digits_by("gradient")),
            Control(
                "integrated-gradients",
                "sound",
                f"{digits}Integrated Gradients.",
                controls.digits_by("integrated-gradients", steps=8),
            ),
            Control(
                "guided-backprop",
                "sound",
                f"{digits}Guided Backprop, which passes here: it fails for other reasons.",
                controls.digits_by("guided-backprop"),
            ),
            Control(
                "words-gradient",
                "sound",
                "A small text classifier, four texts one after the other, explained by input times gradient.",
                controls.words_by("input-x-gradient"),
            ),
            Control(
                "table-gradient",
                "sound",
                "A small classifier of a table, four rows one after the other, explained by input times gradient.",
                controls.table_by("input-x-gradient"),
            ),
            Control(
                "occlusion",
                "sound",
                f"{digits}occlusion, with windows of four pixels.",
                controls.digits_by("occlusion", window=4, stride=4),
            ),
            Control(
                "grad-cam",
                "defect",
                f"{digits}Grad-CAM, whose weights are averaged over all cells.",
                controls.digits_by("grad-cam"),
                because="connected_share",
            ),
            Control(
                "edges", "defect", f"{digits}an edge filter.", controls.digits_by("edges"), because="connected_share"
            ),
            Control("noise", "defect", f"{digits}noise.", controls.digits_by("noise"), because="connected_share"),
            Control(
                "inputs",
                "defect",
                f"{digits}the input itself.",
                controls.digits_by("inputs"),
                because="connected_share",
            ),
            Control(
                "blurred-gradient",
                "defect",
                f"{digits}a gradient's magnitude that is averaged over windows as wide as a digit.",
                explained_by(blurred_gradient),
                because="connected_share",
            ),
            Control(
                "words-inputs",
                "defect",
                "The text classifier, explained by the embeddings themselves.",
                controls.words_by("inputs"),
                because="connected_share",
            ),
            Control(
                "table-noise",
                "defect",
                "The classifier of a table, explained by noise.",
                controls.table_by("noise"),
                because="connected_share",
            ),
        )


def neighbours(
    drawn: tuple[int, ...], chosen: tuple[int, ...], positions: tuple[int, ...], count: int
) -> tuple[int, ...]:
    """Which examples stand in the cells: the chosen one at its position, those drawn after it in the others.

    Args:
        drawn: All examples of the run, in order; the first follow the last.
        chosen: The examples whose logit is explained.
        positions: The cell in which each stands.
        count: Cells of an example.

    Returns:
        ``(example * count,)`` numbers of examples.
    """
    place = {index: number for number, index in enumerate(drawn)}
    found: list[int] = []
    for index, position in zip(chosen, positions, strict=True):
        others = [drawn[(place[index] + step) % len(drawn)] for step in range(1, count)]
        found += [*others[:position], index, *others[position:]]
    return tuple(found)


def _name_of(subject: Subject, module: nn.Module) -> str:
    names: dict[nn.Module, str] = {item: name for name, item in subject.model.named_modules()}
    return names[module]


def _pieces(indices: tuple[int, ...], length: int) -> Iterator[tuple[int, ...]]:
    for first in range(0, len(indices), length):
        yield indices[first : first + length]

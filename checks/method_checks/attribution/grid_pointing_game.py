"""Grid pointing game: does a map find the image of the explained class among images of other classes?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from method_cards.check import Check, Context, Control, Passes
from method_cards.data import Batch
from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_cards.measurement import Quantity, Yielded
from method_checks.attribution.controls.pooled import pooled_digits_by
from method_checks.attribution.explainers import Explainer, resolve
from method_checks.attribution.tasks import truth
from method_checks.attribution.tasks.grids import chosen_cells, join
from method_checks.attribution.tasks.truth import share

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from method_cards.subject import Subject

POSITIVE = Quantity(
    "positive_share", "mean", "share of each map's positive attribution that lies on the image of the explained class"
)
EMPTY = Quantity("empty_map", "proportion", "share of grids whose map has no positive attribution at all")
DOUBTFUL = Quantity(
    "doubtful_example",
    "proportion",
    "share of examples that are left out, as the model is not confident of their class",
)
UNSEEN = Quantity(
    "unseen_class",
    "proportion",
    "share of grids in which the model does not see the explained class: it is not among as many highest logits as there are images",
)


class GridPointingGame(Check):
    """In a grid of images of different classes, attribution of one class lies on its image.

    What it measures:
        The explainer and the model are the subject's own. Each example that the model classifies with a probability of at least
        `confidence` is put into a grid of `side` x `side` images, at a random place among images of other classes, and the grid goes
        through the model as one large image. The logit of the example's class is explained. `positive_share` is the part of the
        map's positive attribution that lies on the example: 1 / `side`² for a map that knows nothing. The other quantities say for
        how many grids the question made sense.

    Assumptions:
        The model takes images of other sizes, as networks with global pooling do, and still recognises what they show in a grid.
        Evidence for a class comes from its image alone. Neither is certain: neighbouring images may share patterns, and pooling
        may mix them, so a share below 1 need not be the explainer's fault. The right answer is exact in `attribution/disconnected-input`.

    Cost:
        One forward pass of each example; for each confident one, a forward pass and an explanation of a grid, which is as much work as
        `side`² examples.

    Departures from the paper:
        Böhle et al. take only images that the model classifies rightly, with a probability above 0.99 in the released code; here the
        predicted class is explained, right or wrong, and the probability is a parameter. Grids without positive attribution count
        as 0 there and are counted apart here.

    Sources:
        bohle2021convolutional; rao2022towards
    """

    id: ClassVar[str] = "attribution/grid-pointing-game"
    quantities: ClassVar[tuple[Quantity, ...]] = (POSITIVE, EMPTY, DOUBTFUL, UNSEEN)
    gates: ClassVar[tuple[str, ...]] = ("empty_map", "doubtful_example", "unseen_class")

    explainer: Explainer | None = Field(
        default=None, description="The explanation method; the subject's own where left out."
    )
    split: str = Field(default="test", description="The data split whose examples are explained.")
    side: int = Field(default=2, ge=2, le=3, description="Images along each side of a grid.")
    confidence: float = Field(
        default=0.9, gt=0, lt=1, description="The least probability of the predicted class for an image to be used."
    )

    def splits(self) -> tuple[str, ...]:
        """The split whose examples are explained."""
        return (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """There is no explainer, there are no images, or the model takes no larger ones."""
        if reason := truth.not_applicable(subject, self.explainer, own_network=False):
            return reason
        if subject.task != "image-classification":
            return "The grid pointing game puts images side by side; the subject's inputs are no images."
        if self.split not in subject.data:
            return ""
        batch = subject.batch(self.split, (subject.split(self.split).draw(1, 0)[0],) * self.side**2)
        if isinstance(batch.inputs, Mapping):
            return "The model takes several inputs by name; which of them form a grid is not known."
        try:
            with torch.no_grad():
                alone, grid = (subject.adapter.outputs(at) for at in (batch.inputs, join(batch.inputs, self.side**2)))
        except Exception as error:  # noqa: BLE001  # whatever a model raises for another size is the reason
            return (
                f"The model does not take an image of {self.side} x {self.side} times the size ({type(error).__name__}); "
                "global pooling is needed."
            )
        if grid.shape != (1, alone.shape[1]):
            return (
                f"The model gives outputs of shape {tuple(grid.shape)} for one larger image; global pooling is needed."
            )
        return ""

    def passes(self, subject: Subject, samples: int) -> Passes:
        """All examples forward; a grid forward and explained for each, which counts as all of its images."""
        grids = self.side**2 * samples
        return Passes(forward=samples + grids) + resolve(subject, self.explainer).passes(grids)

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Find the class of each example, then explain it within a grid, batch by batch."""
        explainer = resolve(subject, self.explainer)
        seed = context.number("explainer")
        count = self.side**2
        classes = self._confident(subject, context)
        for batch in context.batches(self.split):
            chosen = [index for index in batch.indices if index in classes]
            yield DOUBTFUL.per_sample([index not in classes for index in batch.indices])
            for first in range(0, len(chosen), max(1, subject.block // count)):
                some = chosen[first : first + max(1, subject.block // count)]
                positions = [context.number("cell", index) % count for index in some]
                cells = companions(classes, some, positions, count)
                images = subject.batch(self.split, cells).inputs
                assert isinstance(images, torch.Tensor)
                targets = torch.tensor([classes[index] for index in some], device=images.device)
                view = subject.view(Batch(join(images, count), targets, tuple(some)), targets)
                with torch.no_grad():
                    highest = view.outputs(view.features, view.rows).topk(count, dim=1).indices
                region = view.as_map(chosen_cells(images, torch.tensor(positions, device=images.device), count)) > 0
                maps = view.as_map(explainer.explain(view, seed))
                shares, empty = share(maps.clamp(min=0), region)
                yield UNSEEN.per_sample((highest != targets[:, None]).all(1).cpu().numpy())
                yield EMPTY.per_sample(empty.cpu().numpy())
                if not bool(empty.all()):
                    yield POSITIVE.per_sample(shares[~empty].cpu().numpy())

    def _confident(self, subject: Subject, context: Context) -> dict[int, int]:
        """The class of each drawn example of which the model is confident, by the example's number, in the order of the draw."""
        drawn = context.indices(self.split)
        found: dict[int, int] = {}
        for first in range(0, len(drawn), context.batch_size):
            some = drawn[first : first + context.batch_size]
            batch = subject.batch(self.split, some)
            if isinstance(batch.inputs, Mapping):
                raise CheckError("the model takes several inputs by name; which of them form a grid is not known")
            probability, predicted = subject.outputs(batch).softmax(1).max(1)
            sure = (probability >= self.confidence).tolist()
            found |= {index: label for index, label, used in zip(some, predicted.tolist(), sure, strict=True) if used}
        if len(set(found.values())) < self.side**2:
            raise CheckError(
                f"the model is confident (probability {self.confidence:g}) of examples of {len(set(found.values()))} classes; a grid needs "
                f"{self.side**2} different ones. Take more examples, or lower `confidence`"
            )
        return found

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """A network whose logits each depend on one small place; filters and noise do not know which."""
        digits = "A convolutional digits network, each logit the maximum over a map of its class, explained by "
        return (
            Control("gradient", "sound", f"{digits}the input gradient.", pooled_digits_by("gradient")),
            Control(
                "input-x-gradient", "sound", f"{digits}input times gradient.", pooled_digits_by("input-x-gradient")
            ),
            Control(
                "integrated-gradients",
                "sound",
                f"{digits}Integrated Gradients.",
                pooled_digits_by("integrated-gradients", steps=8),
            ),
            Control("grad-cam", "sound", f"{digits}Grad-CAM.", pooled_digits_by("grad-cam")),
            Control("occlusion", "sound", f"{digits}occlusion.", pooled_digits_by("occlusion", window=4, stride=4)),
            Control("edges", "defect", f"{digits}an edge filter.", pooled_digits_by("edges"), because="positive_share"),
            Control("noise", "defect", f"{digits}noise.", pooled_digits_by("noise"), because="positive_share"),
            Control(
                "inputs", "defect", f"{digits}the image itself.", pooled_digits_by("inputs"), because="positive_share"
            ),
        )


def companions(
    classes: Mapping[int, int], chosen: Sequence[int], positions: Sequence[int], count: int
) -> tuple[int, ...]:
    """Which images stand in the cells: the chosen one at its position, in the others the next ones of classes not yet there.

    Args:
        classes: The class of each usable example, by its number, in order; the first follow the last. At least ``count`` classes.
        chosen: The examples whose class is explained.
        positions: The cell in which each stands.
        count: Cells of a grid.

    Returns:
        ``(example * count,)`` numbers of examples.
    """
    order = tuple(classes)
    place = {index: number for number, index in enumerate(order)}
    found: list[int] = []
    for index, position in zip(chosen, positions, strict=True):
        present = {classes[index]}
        others: list[int] = []
        step = 1
        while len(others) < count - 1:
            candidate = order[(place[index] + step) % len(order)]
            step += 1
            if classes[candidate] not in present:
                present.add(classes[candidate])
                others.append(candidate)
        found += [*others[:position], index, *others[position:]]
    return tuple(found)

"""Relative feature importance: do maps follow what a network was trained to need?"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from method_cards.check import Check, Context, Control, Passes
from method_cards.data import Batch
from method_cards.measurement import Quantity, Yielded
from method_checks.attribution import controls
from method_checks.attribution.explainers import Explainer, resolve
from method_checks.attribution.tasks import truth
from method_checks.attribution.tasks.scenes import READERS, inert_patch, relative_change, scenes, trained
from method_checks.attribution.tasks.truth import elsewhere, examples_of_own, explain_other, for_other_network, share

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from method_cards.subject import Subject
    from method_checks.attribution.explainers import CustomExplainer
    from method_checks.attribution.tasks.scenes import Reader, Scenes

CONTRAST = Quantity(
    "model_contrast",
    "mean",
    "share of the map on the object, for the network that needs it less for the network that does not",
    range=(-1.0, 1.0),
)
DEPENDENCE = Quantity(
    "input_dependence",
    "proportion",
    "share of images in which a region counts for less once an object that the network does not need covers it",
)
INDEPENDENCE = Quantity(
    "input_independence",
    "proportion",
    "share of images in which a patch that leaves the network's outputs as they were changes the region's share by less than a tenth",
)
LEFT_OUT = Quantity(
    "left_out", "proportion", "share of images that a network classifies wrongly, or whose map is zero everywhere"
)


INERT = 0.05
"""A patch leaves the outputs as they were when they move by at most this share of their length."""


class RelativeFeatureImportance(Check):
    """A feature counts for more in a network that needs it than in one that does not.

    What it measures:
        The explainer is the subject's; the models are not. Images show a digit, the object, on stripes, the scene. One network tells the
        digits, one the direction of the stripes on the same images, one the direction without digits. The region is the square in which
        the digit stands, and g is the part of the map's magnitude in it. `model_contrast` is g of the digits' network less g of the
        stripes' network on the same image: 0 for a map that does not see the model. `input_dependence` is the share of images in which
        the stripes' network's g is smaller with the digit than without: the digit hides stripes. `input_independence` is the share in
        which a patch changes g by less than a tenth of it, although it moves the third network's logits by at most 5 % of their length.

    Assumptions:
        Digits say nothing about stripes: they are drawn independently. That a network does not need a feature need not mean that it
        does not react to it; the paper makes the same step.

    Cost:
        The subject's examples go through its model once, which shows that it works. Three networks of 5,000 parameters are trained for
        about two seconds in all, once for each seed in a process. Each of up to 600 images is explained five times, and each patch takes
        `patch_steps` forward and backward passes of the small network.

    Departures from the paper:
        Digits and stripes stand for the objects and scenes of Yang and Kim. Maps are compared by the region's share of their magnitude,
        not by the mean of a rescaled map: a share is bounded, and does not depend on the map's scale. As in the paper, only images count
        that the networks concerned classify rightly, and a change of less than a tenth counts as none.

    Sources:
        yang2019benchmarking
    """

    id: ClassVar[str] = "attribution/relative-feature-importance"
    quantities: ClassVar[tuple[Quantity, ...]] = (CONTRAST, DEPENDENCE, INDEPENDENCE, LEFT_OUT)
    gates: ClassVar[tuple[str, ...]] = ("left_out",)

    explainer: Explainer | None = Field(
        default=None, description="The explanation method; the subject's own where left out."
    )
    split: str = Field(default="test", description="The data split that says how many images are explained.")
    patch_steps: int = Field(
        default=20, ge=1, le=1000, description="Steps in which a patch is made that leaves the outputs as they were."
    )

    def splits(self) -> tuple[str, ...]:
        """The split that says how many images are explained."""
        return (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """Without an explainer there is nothing to check, and scenes are images."""
        if reason := truth.not_applicable(subject, self.explainer):
            return reason
        return "" if subject.task == "image-classification" else "Scenes are images; the subject's inputs are not."

    def passes(self, subject: Subject, samples: int) -> Passes:  # noqa: ARG002
        """The subject's examples forward; what the check's own networks cost is not the subject's."""
        return Passes(forward=samples)

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Take the three networks from the process's memory, or train them, and explain images, batch by batch."""
        explainer = for_other_network(resolve(subject, self.explainer))
        seeds = [
            context.number("explainer", draw) for draw in range(5)
        ]  # no two maps that are compared share their noise
        for numbers in examples_of_own(subject, context, self.split, controls.TEST):
            _, held_out = scenes(context.seed)
            shown = held_out.chosen(list(numbers), subject.device)
            readers = {name: elsewhere(subject, name, trained(context.seed, name)) for name in READERS}
            share_of = partial(_share_of, subject, explainer, readers, shown, tuple(numbers))
            needed, needs = share_of("object", shown.inputs, seeds[0])
            covering, covers = share_of("scene", shown.inputs, seeds[1])
            bare, is_bare = share_of("scene", shown.empty, seeds[2])
            before, counts_before = share_of("scene-only", shown.empty, seeds[3])
            start = shown.inputs - shown.empty
            reader = readers["scene-only"].model
            patched = inert_patch(reader, shown.empty, start, shown.region, self.patch_steps)
            after, counts_after = share_of("scene-only", patched, seeds[4])
            is_inert = relative_change(reader, shown.empty, patched) <= INERT
            yield LEFT_OUT.per_sample((~(needs & covers)).cpu().numpy())
            for quantity, found, counts in (
                (CONTRAST, needed - covering, needs & covers),
                (DEPENDENCE, covering < bare, covers & is_bare),
                (INDEPENDENCE, (after - before).abs() < before / 10, counts_before & counts_after & is_inert),
            ):
                if bool(counts.any()):
                    yield quantity.per_sample(found[counts].cpu().numpy())

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Maps that see the networks, one of which asks them directly; and maps that see the image alone."""
        networks = "The check's own networks, explained by "
        return (
            Control("grad-cam", "sound", f"{networks}Grad-CAM.", controls.digits_by("grad-cam")),
            Control(
                "occlusion",
                "sound",
                f"{networks}occlusion, which asks them directly.",
                controls.digits_by("occlusion", window=4, stride=4, baseline=0.25),
            ),
            Control(
                "edges", "defect", f"{networks}an edge filter.", controls.digits_by("edges"), because="model_contrast"
            ),
            Control("noise", "defect", f"{networks}noise.", controls.digits_by("noise"), because="model_contrast"),
            Control(
                "inputs",
                "defect",
                f"{networks}the image itself.",
                controls.digits_by("inputs"),
                because="model_contrast",
            ),
            Control(
                "edges-cover",
                "defect",
                f"{networks}an edge filter, which finds edges more important than what they cover.",
                controls.digits_by("edges"),
                because="input_dependence",
            ),
            Control(
                "input-x-gradient",
                "defect",
                f"{networks}input times gradient, whose factor makes a bright digit important to the stripes' network.",
                controls.digits_by("input-x-gradient"),
                because="input_dependence",
            ),
        )


def _share_of(
    subject: Subject,
    explainer: Explainer | CustomExplainer,
    readers: Mapping[Reader, Subject],
    shown: Scenes,
    numbers: tuple[int, ...],
    name: Reader,
    inputs: Tensor,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """G of each image for one of the networks, and whether it counts: rightly classified, with a map that is not empty."""
    targets = shown.digits if name == "object" else shown.directions
    batch = Batch(inputs, targets, numbers)
    predicted = readers[name].outputs(batch).argmax(1)
    view = readers[name].view(batch, predicted)
    found, empty = share(view.as_map(explain_other(subject, explainer, view, seed)).abs(), shown.region)
    return found, (predicted == targets) & ~empty

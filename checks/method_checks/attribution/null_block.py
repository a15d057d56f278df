"""Null block: how much of a map lies where there is no information about the class?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from method_cards.check import Check, Context, Control, Passes
from method_cards.data import Batch
from method_cards.errors import CheckError
from method_cards.measurement import Quantity, Yielded
from method_checks.attribution import controls
from method_checks.attribution.controls.functions import trained_by_perceptron
from method_checks.attribution.explainers import Explainer, resolve
from method_checks.attribution.tasks import truth
from method_checks.attribution.tasks.blocks import blocks, trained
from method_checks.attribution.tasks.truth import elsewhere, examples_of_own, explain_other, for_other_network, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from method_cards.subject import Subject
    from method_checks.attribution.tasks.blocks import Blocks

NULL = Quantity("null_share", "mean", "share of each map's magnitude on the block that says nothing about the class")
EMPTY = Quantity("empty_map", "proportion", "share of examples whose map is zero everywhere, so that it has no shares")
WRONG = Quantity("wrong_prediction", "proportion", "share of block images whose digit the network does not recognise")
OWN = Quantity(
    "own_architecture", "exact", "1 when the subject's training function made the network, 0 when the check made it"
)


class NullBlock(Check):
    """Attribution stays off a block of the input that says nothing about the class.

    What it measures:
        The explainer is the subject's; the model is not. Images hold a digit and, above or below it at random, a frame that is the same
        in every image: the null block. A network is trained to tell the digits and explained on held-out images. `null_share` is the
        part of the map's magnitude on the null block: half for a map that knows nothing of the network. When the subject brings a
        training function, it makes the network, from the same images in the shape of the subject's inputs, and `own_architecture`
        is 1. Else a bundled network is used, whose logits each depend on one place, 8 pixels wide, where the digit is.

    Assumptions:
        The network hardly uses the null block. In the bundled network a logit is that of one place, nearly always the digit's, and a
        few pixels beside the digit may belong to it. A network of the subject's own may depend on the block although it says nothing
        about the class; a large share is then a property of network and explainer together, and shows that its maps must not be
        read as the place of the information.

    Cost:
        The subject's examples go through its model once, which shows that it works. The bundled network has 10,000 parameters and is
        trained for about one second, once for each seed in a process; it explains up to 600 images. A training function of the
        subject's own costs what it costs, once for each run.

    Departures from the paper:
        BlockMNIST of Shah et al. has MNIST digits and asks of which blocks large gradients lie, on networks of several architectures,
        trained as usual and adversarially. Here digits have 8 x 8 pixels, any explainer is asked, and the bundled network is
        local by construction, so that the right answer does not depend on what training happened to find.

    Sources:
        shah2021input
    """

    id: ClassVar[str] = "attribution/null-block"
    quantities: ClassVar[tuple[Quantity, ...]] = (NULL, EMPTY, WRONG, OWN)
    gates: ClassVar[tuple[str, ...]] = ("empty_map", "wrong_prediction")

    explainer: Explainer | None = Field(
        default=None, description="The explanation method; the subject's own where left out."
    )
    split: str = Field(default="test", description="The data split that says how many block images are explained.")
    use_training: bool = Field(
        default=True, description="Whether the subject's training function makes the network, where it has one."
    )

    def splits(self) -> tuple[str, ...]:
        """The split that says how many images are explained."""
        return (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """Without an explainer there is nothing to check, and blocks are images."""
        if reason := truth.not_applicable(subject, self.explainer, own_network=not self._trains(subject)):
            return reason
        return (
            ""
            if subject.task == "image-classification"
            else "The null block is part of an image; the subject's inputs are no images."
        )

    def passes(self, subject: Subject, samples: int) -> Passes:
        """The subject's examples forward; what the check's own network costs is not the subject's."""
        explained = resolve(subject, self.explainer).passes(samples) if self._trains(subject) else Passes()
        return Passes(forward=samples) + explained

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Train the network, or take it from the process's memory, and explain block images, batch by batch."""
        explainer = for_other_network(resolve(subject, self.explainer))
        yield OWN.exact(float(self._trains(subject)))
        for numbers in examples_of_own(subject, context, self.split, controls.TEST):
            if not numbers.start:
                other, images = self._task(subject, context)
                seed = context.number("explainer")
            some = list(numbers)
            batch = Batch(images.inputs[some].to(other.device), images.targets[some].to(other.device), tuple(some))
            predicted = other.outputs(batch).argmax(1)
            view = other.view(batch, predicted)
            masses = view.as_map(explain_other(subject, explainer, view, seed)).abs()
            shares, empty = share(masses, images.null[some].to(masses.device))
            yield WRONG.per_sample((predicted != batch.targets).cpu().numpy())
            yield EMPTY.per_sample(empty.cpu().numpy())
            if not bool(empty.all()):
                yield NULL.per_sample(shares[~empty].cpu().numpy())

    def _trains(self, subject: Subject) -> bool:
        return self.use_training and subject.train is not None

    def _task(self, subject: Subject, context: Context) -> tuple[Subject, Blocks]:
        train, test = blocks(context.seed)
        if not self._trains(subject):
            return elsewhere(subject, "null-block", trained(context.seed)), test
        assert subject.train is not None
        given = subject.batch(self.split, context.indices(self.split)[:1]).inputs
        if isinstance(given, Mapping) or given.dim() != 4:  # noqa: PLR2004  # images
            raise CheckError(
                "the training function gets images (example, channel, height, width); the subject's inputs are not"
            )
        train, test = (item.resized(*given.shape[1:]) for item in (train, test))
        try:
            model = subject.train(train.inputs, train.targets, context.number("training") % 2**31)
        except Exception as error:
            raise CheckError(
                f"the subject's training function raised {type(error).__name__} on {len(train.targets)} images of shape "
                f"{tuple(train.inputs.shape[1:])} with 10 classes: {error}. Set `use_training: false` to use the check's own network"
            ) from error
        return elsewhere(subject, "null-block", model), test

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """A local network that cannot use the null block, explained well and badly; and a perceptron whose gradient is known to leak."""
        own = "The bundled network, explained by "
        return (
            Control("gradient", "sound", f"{own}the input gradient.", controls.digits_by("gradient")),
            Control("input-x-gradient", "sound", f"{own}input times gradient.", controls.digits_by("input-x-gradient")),
            Control(
                "integrated-gradients",
                "sound",
                f"{own}Integrated Gradients.",
                controls.digits_by("integrated-gradients", steps=16),
            ),
            Control("grad-cam", "sound", f"{own}Grad-CAM.", controls.digits_by("grad-cam")),
            Control("occlusion", "sound", f"{own}occlusion.", controls.digits_by("occlusion", window=4, stride=4)),
            Control("edges", "defect", f"{own}an edge filter.", controls.digits_by("edges"), because="null_share"),
            Control("noise", "defect", f"{own}noise.", controls.digits_by("noise"), because="null_share"),
            Control("inputs", "defect", f"{own}the image itself.", controls.digits_by("inputs"), because="null_share"),
            Control(
                "trained-perceptron",
                "defect",
                "A perceptron with one hidden layer, made by the subject's training function, explained by the gradient, which leaks.",
                trained_by_perceptron,
                because="null_share",
            ),
        )

"""The data randomisation test: does an explanation change when the model was trained on permuted labels?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from method_cards.check import Check, Context, Control, Need, Passes
from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_cards.measurement import Quantity, Yielded
from method_checks.attribution import controls
from method_checks.attribution.controls import retrained
from method_checks.attribution.explainers import CustomExplainer, Explainer, resolve
from method_checks.attribution.explainers.shared import explained
from method_checks.attribution.maps.comparisons import Comparison, Kind, Prepared, by_kind, on_host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from method_cards.data import Batch
    from method_cards.subject import Subject, View

KINDS: tuple[Kind, ...] = ("signed", "absolute")

PERMUTED = by_kind("permuted_similarity", "between the model and one trained on permuted labels")
CEILING = by_kind(
    "seed_similarity", "between the model and one trained on true labels from another seed: the natural ceiling"
)
LOSS = by_kind(
    "similarity_loss",
    "of the model trained from another seed, less that of the model trained on permuted labels",
    difference=True,
)
ACCURACY = Quantity(
    "permuted_training_accuracy",
    "exact",
    "share of training examples whose permuted label the model trained on permuted labels gives",
)
SELF = Quantity(
    "self_similarity",
    "mean",
    "rank correlation of two signed maps of the same model and input: 1 unless the explainer is random",
    range=(-1.0, 1.0),
)


class DataRandomization(Check):
    """An explanation depends on the relation between inputs and labels that the model was trained on.

    What it measures:
        Two models are trained anew by the subject's own training function on the same examples: one on their labels in random
        order, one on their true labels from another seed. Each example's map by the subject's model is compared with the maps by
        both, by Spearman's rank correlation of signed maps and of magnitudes. `similarity_loss` is the similarity to the
        model of the other seed less that to the model of permuted labels, on the same example: what maps owe to the labels.

    Assumptions:
        The training function makes the same kind of model as the subject's. The model of permuted labels must have learned
        them by heart, or it is half trained and its maps are those of a random network: `permuted_training_accuracy` says how well
        it did. The explained class is the one that the subject's model predicts, in every model. One training of each kind is
        compared: the interval is over examples, given these three models.

    Cost:
        Two trainings, of which nobody knows how long a training function takes; four explanations of each example.

    Departures from the paper:
        The paper looks at one model of permuted labels and at no ceiling; two trainings from different seeds differ as well, so
        that a bare similarity cannot be read. Structural similarity is not computed here. At most `most` training examples
        are used, so that labels can be learned by heart in reasonable time.

    Sources:
        adebayo2018sanity; zhang2017understanding
    """

    id: ClassVar[str] = "attribution/data-randomization"
    needs: ClassVar[tuple[Need, ...]] = ("trainings",)
    quantities: ClassVar[tuple[Quantity, ...]] = (
        *(each[kind] for each in (LOSS, PERMUTED, CEILING) for kind in KINDS),
        SELF,
        ACCURACY,
    )
    gates: ClassVar[tuple[str, ...]] = ("permuted_training_accuracy", "self_similarity")

    explainer: Explainer | None = Field(
        default=None, description="The explanation method; the subject's own where left out."
    )
    split: str = Field(default="test", description="The data split whose examples are explained.")
    train_split: str = Field(default="train", description="The data split that models are trained on.")
    most: int = Field(default=400, ge=10, description="The most training examples that are used.")

    def splits(self) -> tuple[str, ...]:
        """The split whose examples are explained, and the one that models are trained on."""
        return (self.split, self.train_split)

    def not_applicable(self, subject: Subject) -> str:
        """Without an explainer, a training function or training data there is nothing to check."""
        reason = controls.not_applicable(subject, self.explainer)
        if reason:
            return reason
        if subject.train is None:
            return "The subject comes without a function that trains such a model; name one under `train:` if there is one."
        if self.train_split not in subject.data:
            return f'The subject has no data split "{self.train_split}" to train on.'
        return ""

    def passes(self, subject: Subject, samples: int) -> Passes:
        """The explanations, the explained classes the training accuracy, and two trainings."""
        train = min(self.most, len(subject.split(self.train_split)))
        total = Passes(forward=samples + train) + Passes.of_trainings(subject, 2, train)
        for _ in range(4):
            total += resolve(subject, self.explainer).passes(samples)
        return total

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Train two models, and compare each batch's maps."""
        explainer = resolve(subject, self.explainer)
        chosen = subject.split(self.train_split).draw(self.most, context.number("examples"))
        examples = subject.batch(self.train_split, chosen)
        order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(context.number("labels")))
        labels = examples.targets[order.to(examples.targets.device)]
        permuted = _trained(subject, examples, labels, context.number("permuted"))
        other = _trained(subject, examples, examples.targets, context.number("other"))
        parts = range(0, len(chosen), context.batch_size)
        blocks = (subject.batch(self.train_split, chosen[first : first + context.batch_size]) for first in parts)
        predicted = torch.cat([permuted.outputs(block).argmax(1) for block in blocks])
        yield ACCURACY.exact(float((predicted == labels).double().mean()))
        for number, batch in enumerate(context.batches(self.split)):
            view = subject.view(batch)
            comparison = Comparison.of(view, KINDS, 0.1, "maximum")
            maps = [explained(context, explainer, view, draw) for draw in (0, 1)]
            signed = [view.as_map(each)[None] for each in maps]
            yield SELF.per_sample(on_host(comparison.signed(*signed)))
            trained = _prepared(comparison, view, maps[0])
            found = {}
            for name, model in (("permuted", permuted), ("other", other)):
                there = _elsewhere(model, context, explainer, batch, view.targets, (name, number))
                found[name] = _prepared(comparison, view, there)
            for kind in KINDS:
                lower, upper = (comparison.similarity(trained, found[name], kind)[0] for name in ("permuted", "other"))
                yield PERMUTED[kind].per_sample(on_host(lower))
                yield CEILING[kind].per_sample(on_host(upper))
                yield LOSS[kind].per_sample(on_host(upper - lower))

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Explainers whose dependence on the labels is known, and a training that does not learn them."""
        return (
            Control(
                "gradient",
                "sound",
                "A small convolutional network trained on 200 digits, explained by its input gradient, with its training function.",
                retrained.retrained_by("gradient"),
            ),
            Control(
                "input-x-gradient",
                "sound",
                "The same network, explained by input times gradient, whose signs follow the labels.",
                retrained.retrained_by("input-x-gradient"),
            ),
            Control(
                "edges",
                "defect",
                "The same network, explained by an edge filter that sees no model.",
                retrained.retrained_by("edges"),
                because="signed_permuted_similarity",
            ),
            Control(
                "inputs",
                "defect",
                "The same network, explained by the input itself.",
                retrained.retrained_by("inputs"),
                because="signed_permuted_similarity",
            ),
            Control(
                "guided-backprop",
                "defect",
                "The same network, explained by Guided Backprop, which mostly restores the input whatever the labels were.",
                retrained.retrained_by("guided-backprop"),
                because="signed_permuted_similarity",
            ),
            Control(
                "half-trained",
                "confounded",
                "The same network, whose training function stops too early to learn permuted labels.",
                retrained.retrained_by("gradient", epochs=4),
                because="permuted_training_accuracy",
            ),
            Control(
                "noise",
                "confounded",
                "The same network, explained by noise.",
                retrained.retrained_by("noise"),
                because="self_similarity",
            ),
        )


def _trained(subject: Subject, examples: Batch, labels: Tensor, seed: int) -> Subject:
    """The subject with another model, trained on these labels."""
    assert subject.train is not None
    inputs = (
        {name: part.cpu() for name, part in examples.inputs.items()}
        if isinstance(examples.inputs, dict)
        else examples.inputs.cpu()
    )
    model = subject.train(inputs, labels.cpu(), seed)
    if not isinstance(model, torch.nn.Module):
        raise CheckError(
            f"the training function returned {type(model).__name__}; a torch.nn.Module in evaluation mode is needed"
        )
    if any(module.training for module in model.modules()):
        raise CheckError("the training function returned a model in training mode; end it with `return model.eval()`")
    return replace(subject, model=model.to(subject.device), layers=(), replicas=())


def _elsewhere(
    subject: Subject,
    context: Context,
    explainer: Explainer | CustomExplainer,
    batch: Batch,
    targets: Tensor,
    purpose: tuple[str, int],
) -> Tensor:
    return explainer.explain(subject.view(batch, targets), context.number("explainer", *purpose))


def _prepared(comparison: Comparison, view: View, attributions: Tensor) -> Prepared:
    return comparison.prepared(view.as_map(attributions)[None], view.as_map(attributions.abs())[None])

"""The disagreement problem: do explainers of one model name the same features?"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from method_cards.check import Check, Context, Control, Passes
from method_cards.errors import CheckError
from method_cards.lazy import torch
from method_cards.measurement import Quantity, Yielded
from method_checks.attribution import controls
from method_checks.attribution.explainers import (
    CustomExplainer,
    Explainer,
    Gradient,
    InputXGradient,
    IntegratedGradients,
    resolve,
)
from method_checks.attribution.explainers.shared import explained
from method_checks.attribution.maps.agreement import excess, feature_agreement, named, sign_agreement
from method_checks.attribution.maps.comparisons import on_host
from method_checks.attribution.maps.pictured import side_by_side
from method_checks.attribution.maps.similarity import correlation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from method_cards.subject import Subject

FEATURES = Quantity(
    "feature_agreement",
    "mean",
    "share of the top features that the explainer and a reference have in common",
    by=("reference",),
)
SIGNS = Quantity(
    "sign_agreement",
    "mean",
    "share of the top features that the explainer and a reference have in common with the same sign",
    by=("reference",),
)
RANKS = Quantity(
    "rank_correlation",
    "mean",
    "Spearman's rank correlation of the magnitudes of the explainer and a reference; chance is 0",
    range=(-1.0, 1.0),
    by=("reference",),
)
EXCESS = Quantity(
    "feature_agreement_excess",
    "mean",
    "feature agreement less what chance gives, mean over references",
    range=(-1.0, 1.0),
)
SIGN_EXCESS = Quantity(
    "sign_agreement_excess",
    "mean",
    "sign agreement less what chance gives, mean over references",
    range=(-1.0, 1.0),
)
RANK_MEAN = Quantity(
    "mean_rank_correlation",
    "mean",
    "rank correlation of magnitudes, mean over references",
    range=(-1.0, 1.0),
)
AMONG = Quantity(
    "reference_agreement_excess",
    "mean",
    "feature agreement of the references with each other less what chance gives, mean over pairs: what could be expected",
    range=(-1.0, 1.0),
)
CONSTANT = Quantity(
    "constant_map",
    "proportion",
    "share of examples for which the explainer or a reference has one value everywhere, so that it names no feature",
)


class ExplainerDisagreement(Check):
    """An explainer names the features that other explainers of the same model name, more often than chance does.

    What it measures:
        For each reference: the share of the top features, `top` of all by magnitude, that both name (feature agreement), that both name
        with the same sign (sign agreement), and Spearman's rank correlation of magnitudes. Chance is exact: the mean over all
        permutations of one map's positions. The excesses are means over references of agreement less chance.
        `reference_agreement_excess` is how much the references agree with each other: more can hardly be asked of the explainer.

    Assumptions:
        Agreement is not validity. Explainers can agree because they share an error, such as the outline of the input in all maps that
        are multiplied by it, and disagree because they answer different questions: a gradient says what a small change does, a
        Shapley value what the feature's presence did. Use this to find what has to be looked at, never as evidence for a map.

    Cost:
        One explanation by the explainer and one by each reference.

    Departures from the paper:
        Rank agreement, signed rank agreement and pairwise rank agreement are not computed. Ties count in part instead of being broken
        arbitrarily. Chance levels are added. References of the explainer's own method are left out.

    Sources:
        krishna2022disagreement
    """

    id: ClassVar[str] = "attribution/explainer-disagreement"
    quantities: ClassVar[tuple[Quantity, ...]] = (
        FEATURES,
        SIGNS,
        RANKS,
        EXCESS,
        SIGN_EXCESS,
        RANK_MEAN,
        AMONG,
        CONSTANT,
    )
    gates: ClassVar[tuple[str, ...]] = ("constant_map",)

    explainer: Explainer | None = Field(
        default=None, description="The explanation method; the subject's own where left out."
    )
    references: tuple[Explainer, ...] = Field(
        default=(IntegratedGradients(steps=16), InputXGradient(), Gradient()),
        min_length=1,
        description="The methods that it is compared with.",
    )
    split: str = Field(default="test", description="The data split whose examples are explained.")
    top: float = Field(
        default=0.1, gt=0, le=0.5, description="Which share of the features are the top ones; at least one."
    )

    def splits(self) -> tuple[str, ...]:
        """The split whose examples are explained."""
        return (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """Without an explainer there is nothing to compare, and language models have no single class to explain."""
        return controls.not_applicable(subject, self.explainer)

    def passes(self, subject: Subject, samples: int) -> Passes:
        """The explained classes, and an explanation by each method."""
        explainer = resolve(subject, self.explainer)
        total = Passes(forward=samples)
        for method in (explainer, *self._others(explainer)):
            total += method.passes(samples)
        return total

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Explain each batch by all methods and compare."""
        explainer = resolve(subject, self.explainer)
        others = self._others(explainer)
        names = _labels(others)
        for number, batch in enumerate(context.batches(self.split)):
            view = subject.view(batch)
            maps = [view.as_map(explained(context, method, view)) for method in (explainer, *others)]
            content = view.content
            positions = content.flatten(1).sum(1)
            own, *rest = (named(part, self.top, content) for part in maps)
            constant = torch.stack([part.ranks.constant for part in (own, *rest)]).any(0)
            yield CONSTANT.per_sample(constant.cpu().numpy())
            features = [feature_agreement(own, other, positions) for other in rest]
            signs = [sign_agreement(own, other, positions) for other in rest]
            ranks = [correlation(own.ranks, other.ranks) for other in rest]
            for name, feature, sign, rank in zip(names, features, signs, ranks, strict=True):
                yield FEATURES.per_sample(on_host(feature[0]), reference=name)
                yield SIGNS.per_sample(on_host(sign[0]), reference=name)
                yield RANKS.per_sample(on_host(rank), reference=name)
            yield EXCESS.per_sample(on_host(excess(features)))
            yield SIGN_EXCESS.per_sample(on_host(excess(signs)))
            yield RANK_MEAN.per_sample(on_host(torch.stack(ranks).mean(0)))
            pairs = [feature_agreement(one, other, positions) for one, other in combinations(rest, 2)]
            if pairs:
                yield AMONG.per_sample(on_host(excess(pairs)))
            if number == 0:
                yield side_by_side(
                    "maps",
                    "The same predictions by several explainers. Where they differ they answer different questions, or some are wrong; "
                    "where they agree they may share an error.",
                    dict(zip((explainer.method, *names), maps, strict=True)),
                    (f"example {index}" for index in batch.indices),
                )

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """Explainers that follow the model, and some that see none."""
        return (
            Control(
                "integrated-gradients",
                "sound",
                "A small convolutional network trained on digits, explained by Integrated Gradients with 16 steps.",
                controls.digits_by("integrated-gradients", steps=16),
            ),
            Control(
                "gradient-of-table",
                "sound",
                "A small network trained on the breast cancer table, explained by its gradient.",
                controls.table_by("gradient"),
            ),
            Control(
                "words",
                "sound",
                "A small text classifier, explained by input times gradient.",
                controls.words_by("input-x-gradient"),
            ),
            Control(
                "noise",
                "defect",
                "The network for digits, explained by random numbers.",
                controls.digits_by("noise"),
                because="feature_agreement_excess",
            ),
            Control(
                "noise-on-table",
                "defect",
                "The network for the table, explained by random numbers.",
                controls.table_by("noise"),
                because="feature_agreement_excess",
            ),
            Control(
                "noise-on-words",
                "defect",
                "The text classifier, explained by random numbers.",
                controls.words_by("noise"),
                because="feature_agreement_excess",
            ),
        )

    def _others(self, explainer: Explainer | CustomExplainer) -> tuple[Explainer, ...]:
        found = tuple(method for method in self.references if method.method != explainer.method)
        if not found:
            raise CheckError(
                f"all references are of the explainer's own method, {explainer.method}; name others under `references`"
            )
        return found


def _labels(methods: Sequence[Explainer]) -> list[str]:
    """The method of each, numbered where there are several of one method."""
    names = [method.method for method in methods]
    return [
        name if names.count(name) == 1 else f"{name} {names[: place + 1].count(name)}"
        for place, name in enumerate(names)
    ]

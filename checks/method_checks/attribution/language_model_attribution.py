"""Attribution of a language model's continuation to its prompt: does it find what the continuation depends on, and is it stable?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from method_cards.check import Check, Context, Control, Passes
from method_cards.lazy import torch
from method_cards.measurement import Quantity, Yielded
from method_checks.attribution.controls import recall
from method_checks.attribution.maps.pictured import side_by_side
from method_checks.attribution.texts.agreement import additivity_error, halved, kendall, over_pairs, same_top
from method_checks.attribution.texts.explainers import CustomPromptExplainer, PromptExplainer, resolve
from method_checks.attribution.texts.faithfulness import faithfulness
from method_checks.attribution.texts.prompts import Dice, Prompts, Replacement, alternatives, prompts_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from method_cards.data import Batch
    from method_cards.subject import Subject

LEAST_SEGMENTS = 4
"""Fewer segments have too few orders to be told from chance, and too few pairs for a rank correlation."""

INFINITY = float("inf")

COMPREHENSIVENESS = Quantity(
    "comprehensiveness_excess",
    "mean",
    "what replacing the top segments costs, less what replacing as many random ones does, as a share of the largest change seen",
    range=(-1.0, 1.0),
)
SUFFICIENCY = Quantity(
    "sufficiency_excess",
    "mean",
    "what keeping the top segments alone saves, less what keeping as many random ones does, as a share of the largest change seen",
    range=(-1.0, 1.0),
)
LOSS = Quantity(
    "comprehensiveness",
    "mean",
    "what log p of the continuation loses when the top segments are replaced",
    unit="nat",
    range=(-INFINITY, INFINITY),
)
REMAINING = Quantity(
    "sufficiency",
    "mean",
    "what log p of the continuation loses when only the top segments are kept",
    unit="nat",
    range=(-INFINITY, INFINITY),
)
SEEDS = Quantity(
    "seed_agreement",
    "mean",
    "Kendall's tau of two attributions from two seeds, of the method and of the tokens that stand in",
    range=(-1.0, 1.0),
)
REPLACEMENTS = Quantity(
    "replacement_agreement",
    "mean",
    "Kendall's tau of attributions with other kinds of tokens standing in, mean over pairs of kinds",
    range=(-1.0, 1.0),
)
TOPS = Quantity(
    "replacement_top_agreement",
    "mean",
    "share of pairs of kinds of stand-ins with which the same segment gets the largest attribution",
)
SEGMENTATIONS = Quantity(
    "segmentation_agreement",
    "mean",
    "Kendall's tau of attributions to long segments and of those to short ones, summed over the long ones",
    range=(-1.0, 1.0),
)
ADDITIVITY = Quantity(
    "additivity_error",
    "mean",
    "how far attributions are from adding up to the change of log p: 0 when they do, 1 when the sum is 0 or of the wrong sign",
)
UNMEASURABLE = Quantity(
    "unmeasurable",
    "proportion",
    "share of examples with too few segments, or whose continuation hardly depends on the prompt",
)


class LanguageModelAttribution(Check):
    """An attribution to a prompt names the segments on which the continuation's probability depends.

    What it measures:
        The explained number is log p(continuation | prompt), summed over the continuation's tokens. Segments are replaced, never cut
        out. Comprehensiveness is what log p loses when the segments with the largest attributions are replaced; sufficiency what it
        loses when only these are kept; both are means over `shares` of the segments. Each is compared with the mean over random orders
        of the same prompt and divided by the largest difference of log p among all texts tried: an excess in [-1, 1], 0 on average for
        any order that knows nothing of the model. Stability is Kendall's tau-b over two seeds, over the kinds of `replacements`, and
        over segments of twice the length; `replacement_top_agreement` asks only whether the top segment stays the same.
        `additivity_error` compares the sum of attributions with the change of log p when all of the prompt is replaced.

    Assumptions:
        A replaced token is a fair way to say "not there"; random tokens make texts that the model has not seen, so set `replacements` to
        what is neutral for your model. Constant attributions, and ties, are ordered at random. Examples whose log p changes by less than
        `least_difference` when the whole prompt is replaced, and prompts of fewer than four segments, are `unmeasurable` and left out.

    Cost:
        Four explanations and one for each further kind of replacement. The orders make two passes for each share and order. A
        continuation by the model itself takes one more pass for each of its tokens.

    Departures from the paper:
        Miglani et al. describe the attributions and measure no faithfulness. Comprehensiveness and sufficiency are those of DeYoung et
        al. on log p instead of the probability of a class, with tokens replaced instead of deleted, and with a null for each example.
        Kendall's tau is used for stability. Relative additivity is divided by the sum of both sizes, so that it is bounded.

    Sources:
        miglani2023using; deyoung2020eraser; castro2009polynomial
    """

    id: ClassVar[str] = "attribution/language-model-attribution"
    quantities: ClassVar[tuple[Quantity, ...]] = (
        COMPREHENSIVENESS,
        SUFFICIENCY,
        LOSS,
        REMAINING,
        SEEDS,
        REPLACEMENTS,
        TOPS,
        SEGMENTATIONS,
        ADDITIVITY,
        UNMEASURABLE,
    )
    gates: ClassVar[tuple[str, ...]] = ("unmeasurable",)

    explainer: PromptExplainer | None = Field(
        default=None, description="The attribution method; the subject's own where left out."
    )
    split: str = Field(default="test", description="The data split whose texts are explained.")
    continuation: Literal["greedy", "text"] = Field(
        default="greedy",
        description="Whether the model's own most likely continuation is explained, or what follows in the text.",
    )
    prompt_tokens: int | None = Field(
        default=None, ge=1, description="How many tokens of each text are the prompt; as many as can be where left out."
    )
    continuation_tokens: int = Field(default=4, ge=1, le=256, description="How many tokens the continuation has.")
    segment_tokens: int = Field(default=1, ge=1, description="How many tokens a segment has.")
    segment_ends: tuple[int, ...] = Field(
        default=(), description="Tokens that end a segment, such as a full stop; instead of a fixed number of tokens."
    )
    replacements: tuple[Replacement, ...] = Field(
        default=("vocabulary", "shuffled", 0),
        min_length=3,
        description="What stands in for replaced tokens: any token, one of the same prompt, or the token of a number; the first decides.",
    )
    trials: int = Field(
        default=1, ge=1, le=64, description="Over how many draws of stand-ins an attribution is averaged."
    )
    shares: tuple[float, ...] = Field(
        default=(0.1, 0.3, 0.5),
        min_length=1,
        description="Which shares of the segments are the top ones, above 0 and below 1.",
    )
    orders: int = Field(
        default=8, ge=2, le=256, description="How many random orders each attribution is compared with."
    )
    least_difference: float = Field(
        default=0.1, gt=0, description="The least change of log p, in nats, when the whole prompt is replaced."
    )

    def splits(self) -> tuple[str, ...]:
        """The split whose texts are explained."""
        return (self.split,)

    def not_applicable(self, subject: Subject) -> str:
        """It needs a language model and a method."""
        if subject.task != "text-generation":
            return f"It explains continuations by a language model; this subject's task is {subject.task}."
        if subject.explainer is None and self.explainer is None:
            return "The subject ships no explanation method; name one under `explainer:` if it does."
        return ""

    def passes(self, subject: Subject, samples: int) -> Passes:
        """The explanations, the orders, the texts themselves, and what the continuation takes."""
        batch = subject.batch(self.split, (0,))
        prompts = self._prompts(subject, batch)
        segments = int(prompts.counts[0])
        explainer = resolve(subject, self.explainer)
        total = Passes(forward=1 + (self.continuation == "greedy") * self.continuation_tokens)
        total += Passes(forward=2 * len(self.shares) * (1 + self.orders) + 1 + self.trials)
        for count in [segments] * (1 + len(self.replacements)) + [int(prompts.coarser(2).counts[0])]:
            total += explainer.passes(count, self.trials)
        return Passes(samples * total.forward, samples * total.backward)

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        """Explain each batch in several ways, and replace what the first of them puts first."""
        explainer = resolve(subject, self.explainer)
        for number, batch in enumerate(context.batches(self.split)):
            prompts = self._prompts(subject, batch)
            stand_ins = [self._alternatives(context, prompts, kind, 0) for kind in self.replacements]
            main = self._explained(context, explainer, prompts, stand_ins[0], 0)
            usable, change = self._usable(prompts, stand_ins[0])
            yield UNMEASURABLE.per_sample((~usable).cpu().numpy())
            if bool(usable.any()):
                again = self._alternatives(context, prompts, self.replacements[0], 1)
                repeated = self._explained(context, explainer, prompts, again, 1)
                others = [
                    self._explained(context, explainer, prompts, part, draw)
                    for draw, part in enumerate(stand_ins[1:], 2)
                ]
                long = self._explained(context, explainer, prompts.coarser(2), stand_ins[0], len(stand_ins) + 1)
                found = {
                    SEEDS: kendall(main, repeated, prompts.segments),
                    REPLACEMENTS: over_pairs(kendall, [main, *others], prompts.segments),
                    TOPS: over_pairs(same_top, [main, *others], prompts.segments),
                    SEGMENTATIONS: kendall(halved(main, long.shape[1]), long, prompts.coarser(2).segments),
                    ADDITIVITY: additivity_error(main.sum(1), change),
                    **self._against_random(context, prompts, main),
                }
                for quantity, values in found.items():
                    yield quantity.per_sample(values[usable].double().cpu().numpy())
            if number == 0:
                yield side_by_side(
                    "attributions",
                    "What each segment of the prompt is given of the log-probability of the continuation, in nats.",
                    {"attribution": main},
                    (
                        f"text {index}, {count} segments"
                        for index, count in zip(batch.indices, prompts.counts.tolist(), strict=True)
                    ),
                )

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        """A small language model that repeats a key of its prompt: what matters is known."""
        return recall.controls()

    def _prompts(self, subject: Subject, batch: Batch) -> Prompts:
        return prompts_of(
            subject,
            batch,
            self.prompt_tokens,
            self.continuation_tokens,
            self.segment_tokens,
            greedy=self.continuation == "greedy",
            ends=self.segment_ends,
        )

    def _alternatives(self, context: Context, prompts: Prompts, kind: Replacement, draw: int) -> Tensor:
        return alternatives(prompts, kind, Dice(context, prompts, "stand-ins", str(kind), draw), self.trials)

    def _explained(
        self,
        context: Context,
        explainer: PromptExplainer | CustomPromptExplainer,
        prompts: Prompts,
        stand_ins: Tensor,
        draw: int,
    ) -> Tensor:
        return explainer.explain(prompts, stand_ins, Dice(context, prompts, "explainer", draw))

    def _against_random(self, context: Context, prompts: Prompts, main: Tensor) -> dict[Quantity, Tensor]:
        """Comprehensiveness and sufficiency; the stand-ins are others than the method has seen."""
        stand_ins = alternatives(prompts, self.replacements[0], Dice(context, prompts, "faithfulness"), 1)
        dice = Dice(context, prompts, "orders")
        found = faithfulness(prompts, main, stand_ins, dice, shares=self.shares, orders=self.orders)
        return dict(zip((COMPREHENSIVENESS, SUFFICIENCY, LOSS, REMAINING), found, strict=True))

    def _usable(self, prompts: Prompts, stand_ins: Tensor) -> tuple[Tensor, Tensor]:
        """Which examples can be measured, and what replacing the whole prompt costs in nats, ``(batch,)`` each."""
        none = prompts.replaced(prompts.segments.expand(len(stand_ins), *prompts.segments.shape), stand_ins)
        scores = prompts.scores(torch.cat([prompts.ids[None], none]))
        change = scores[0] - scores[1:].mean(0)
        return (change.abs() >= self.least_difference) & (prompts.counts >= LEAST_SEGMENTS), change

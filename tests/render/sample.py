"""A small project with every kind of verdict, as a run would have left it: what the tests of pages look at."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from method_cards import judge, record
from method_cards.calibration import Calibration, Calibrations, ControlRates, digest
from method_cards.card import CheckBinding
from method_cards.catalog import Catalog
from method_cards.check import Check, Context, Control, Passes
from method_cards.intervals import clopper_pearson
from method_cards.measurement import Measurements, Pictures, Quantity, Yielded
from method_cards.record import Execution, PicturesData, Record, SplitData, SubjectData
from method_cards.registry import Entry, Registry
from method_cards.render.site import Source
from method_cards.subject import Subject
from method_cards.verdict import Answer, IntervalData, Outcome, Verdict, Waiver

SIMILARITY = Quantity(
    "similarity", "mean", "Rank correlation with the original map.", range=(-1.0, 1.0), by=("stage", "map")
)
CEILING = Quantity("seed_similarity", "mean", "Similarity between two seeds of the explainer.", range=(-1.0, 1.0))
CHANGED = Quantity("prediction_changed", "proportion", "Whether the last stage changes the prediction.")
LOSS = Quantity("loss", "auc", "Loss of members against non-members.")
SHIFT = Quantity("blind_auc", "auc", "AUC of a classifier that never sees the model.")
GAP = Quantity("completeness_gap", "mean", "Relative gap between the sum of attributions and the change of the output.")


class SampleRandomization(Check):
    """Explanations change when the parameters that they explain are randomised.

    What it measures:
        The rank correlation $\\rho$ between the original map and the map after each stage:
        $$ \\rho_k = \\operatorname{corr}(\\phi, \\phi_k) $$

    Assumptions:
        The explainer is differentiable.

    Cost:
        One backward pass for each example and stage.

    Departures from the paper:
        None.

    Sources:
        adebayo2018
    """

    id: ClassVar[str] = "attribution/sample-randomization"
    quantities: ClassVar[tuple[Quantity, ...]] = (SIMILARITY, CEILING, CHANGED, LOSS, SHIFT, GAP)

    order: str = Field(
        default="cascading", description="In which order layers are randomised: `cascading` or `independent`."
    )
    noise: float | None = Field(default=None, description="The scale of the noise.")

    def measure(self, subject: Subject, context: Context) -> Iterator[Yielded]:
        raise NotImplementedError

    def splits(self) -> tuple[str, ...]:
        return ("test",)

    def passes(self, subject: Subject, samples: int) -> Passes:
        return Passes(0, samples)

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        return ()


CARD = """
schema_version: 1
id: saliency-sanity
title: Saliency maps that depend on the model
version: {name: "1.2.0", date: 2026-10-02}
status: reviewed
license: CC-BY-4.0
owners: [{name: The method-cards authors}]
authors: [{name: The method-cards authors}]
card_type: method
overview:
  summary: A saliency map says which parts of an input moved the output. It says so only if it depends on the parameters that it claims to explain.
  description: |
    Several methods give maps that look right and hardly change when the network is *replaced by noise*.
    They show edges of the input, not reasons of the model.
  goals: Know whether a map explains the model or the picture.
  tasks: [image-classification]
  modalities: [image]
  method_family: gradient-based attribution
  lifecycle_stages: [explanation, evaluation]
audience: {intended_readers: [ML engineers, reviewers], decision_supported: Whether a map may be shown to a person who decides by it.}
applicability:
  prescribed_uses:
    - Debugging a differentiable model, example by example.
    - Showing that an explanation depends on what was learnt.
  proscribed_uses:
    - Proving that a model is fair or safe.
    - Telling people what to change about themselves.
  alternatives: [{method: Occlusion, when_better: the model has no gradients}]
requirements: {model_access: [gradients, weights], compute: {device: 2 CPU cores, seconds: 4.0}}
recipe:
  inputs_outputs: An input $x \\in \\mathbb{R}^d$ and a class; a map $\\phi \\in \\mathbb{R}^d$.
  formulation: |
    Integrated Gradients along the straight line from the baseline $x'$ to $x$:
    $$
    \\phi_i(x) = (x_i - x'_i) \\int_0^1 \\frac{\\partial f\\bigl(x' + \\alpha (x - x')\\bigr)}{\\partial x_i}\\, d\\alpha
    $$
    so that $\\sum_i \\phi_i(x) = f(x) - f(x')$.
  steps: ["Choose the baseline $x'$ and write down why.", "Average gradients over $m$ points of the line.", "Check completeness before showing anything."]
  hyperparameters:
    - {name: "$m$", default: 64, range: 16 to 512, how_to_set: double it until the completeness gap is below 1 %, sensitivity: low above 50}
    - {name: baseline, default: black, range: any input without the feature, how_to_set: report a second one, sensitivity: high}
  pseudo_code: |
    total = 0
    for k in range(m):
        total += grad(f, baseline + (k + 0.5) / m * (x - baseline))
    return (x - baseline) * total / m
  implementations: [{repo: "https://github.com/pytorch/captum", license: BSD-3-Clause}]
design_decisions:
  - {choice: "What is compared?", options: [signed maps, absolute maps], recommended: Signed maps on the foreground, rationale: Absolute maps of ×input methods stay similar because the input does., evidence: [{ref: sixt2020, strength: theory}]}
prescriptions:
  - id: depends-on-parameters
    level: MUST
    stage: explanation
    statement: An explanation MUST change when the parameters it explains are randomised.
    rationale: A map that survives a full randomisation with rank correlation $\\rho$ near one cannot show what the network has learnt; it shows the input.
    evidence:
      - {ref: adebayo2018, locator: Sec. 3, reported_effect: Guided Backprop keeps its look after all upper layers were randomised., strength: replicated}
      - {ref: sixt2020, locator: Theorem 1, strength: theory}
    failure_symptom: Maps of different classes look alike, and like an edge detector.
    failure_mode: input-recovery
    severity: high
    remediation:
      - action: Use a method without modified backward rules, such as Integrated Gradients.
        effort: low
        code: |
          from captum.attr import IntegratedGradients

          explainer = IntegratedGradients(model)
          map = explainer.attribute(x, target=label, n_steps=64)
        side_effects: Maps look noisier.
      - {action: "If Guided Backprop has to stay, show it as an *edge map of the input*.", effort: low, recheck: Nobody in a user test calls it a reason.}
    check:
      id: attribution/sample-randomization
      with: {order: cascading}
      criteria:
        - {claim: "After all layers are randomised the signed map is unlike the original one.", measurement: similarity, where: {stage: 4, map: signed}, at_most: 0.2, source: {ref: adebayo2018, locator: Fig. 4, note: A tenth above what random maps reach here.}}
      valid_if:
        - {claim: Randomising changes the predictions, measurement: prediction_changed, at_least: 0.5, confidence: 0.9, source: {note: A model that predicts the same with random weights explains nothing.}}
  - id: repeatable
    level: SHOULD
    stage: explanation
    statement: Two runs with different seeds SHOULD give nearly the same map.
    rationale: What changes with the seed is not about the model.
    evidence: [{note: Follows from the purpose of an explanation., strength: expert opinion}]
    failure_symptom: The map of the same input differs from run to run.
    severity: medium
    remediation: [{action: Average over more noise draws., effort: low}]
    check:
      id: attribution/sample-randomization
      criteria: [{claim: Two seeds agree., measurement: seed_similarity, at_least: 0.9, source: {note: Below this the eye sees two different maps.}}]
  - id: complete
    level: MUST
    stage: explanation
    statement: Attributions MUST add up to the change of the output.
    rationale: Completeness is the axiom that the method is derived from; a gap means too few steps.
    evidence: [{ref: sundararajan2017, locator: Sec. 3, strength: theory}]
    failure_symptom: Sums that do not match the logit.
    severity: medium
    remediation: [{action: Double the number of steps., effort: low}]
    check:
      id: attribution/sample-randomization
      criteria: [{claim: "The relative gap is at most 5 %.", measurement: completeness_gap, at_most: 0.05, source: {ref: sundararajan2017, locator: Sec. 5}}]
  - id: no-membership-leak
    level: SHOULD NOT
    stage: release
    statement: Losses SHOULD NOT tell members from non-members.
    rationale: Whoever can tell them apart learns who was in the training data.
    evidence: [{ref: adebayo2018, strength: single study}]
    failure_symptom: A large gap between training and test loss.
    severity: high
    remediation: [{action: Stop training earlier., effort: medium}]
    check:
      id: attribution/sample-randomization
      criteria: [{claim: The attack is no better than 0.55., measurement: loss, at_most: 0.55, source: {note: A reviewer's limit.}}]
      valid_if: [{claim: Members and non-members come from one distribution, measurement: blind_auc, at_most: 0.6, source: {note: Else a classifier tells them apart without the model.}}]
  - id: reviewed-by-domain-expert
    level: SHOULD
    stage: evaluation
    statement: A person who knows the domain SHOULD look at fifty maps before anybody decides by them.
    rationale: No number sees that a ruler lies beside every tumour.
    evidence: [{note: Practice., strength: expert opinion}]
    failure_symptom: Artefacts in the data go unnoticed.
    severity: medium
    remediation: [{action: Ask one.}]
    question: {question: "Did a domain expert look at fifty maps?", evidence_required: The notes of the session.}
failure_modes:
  - {id: input-recovery, title: The map recovers the input, symptom: Crisp edges everywhere, cause: "Modified backward rules (such as $\\\\max(0, g)$) drop what the upper layers say.", detected_by: [depends-on-parameters], likelihood: high}
diagnostics:
  - {symptom: All classes give the same map, question: "Does it depend on the parameters?", prescription: depends-on-parameters, likely_cause: Modified backward rules, action: Use Integrated Gradients}
  - {symptom: Maps are speckled, question: "Do two seeds agree?", prescription: repeatable, likely_cause: Shattered gradients, action: Average over noise}
evaluation: {metrics: [{name: rank correlation, definition: Spearman's $\\rho$ over pixels, direction: lower is better}], protocol: "Cascading randomisation, top to bottom."}
responsible_ai: {fairness: "None known: the check looks at maps, not at people."}
limitations:
  caveats: [Passing shows dependence on the parameters; it does not show that the map is right.]
  known_disagreements: ["Whether a drop under randomisation is evidence at all is disputed, since the task and the metric limit what can drop."]
examples: [{title: Digits, scenario: A small CNN, walkthrough: "Guided Backprop fails, Integrated Gradients passes.", outcome: Replaced the explainer.}]
evidence:
  - {ref: adebayo2018, kind: peer-reviewed, claims: [{text: Guided Backprop is insensitive to upper layers, locator: Sec. 3}], checked_on: 2026-10-01}
  - {ref: sixt2020, kind: peer-reviewed}
  - {ref: sundararajan2017, kind: peer-reviewed}
changelog: [{version: "1.2.0", date: 2026-10-02, changes: [Bounds on the foreground only.]}]
"""

BIBLIOGRAPHY = """
@inproceedings{adebayo2018, author={Adebayo, Julius and Gilmer, Justin and Muelly, Michael and Goodfellow, Ian and Hardt, Moritz and Kim, Been},
 title={Sanity Checks for Saliency Maps}, booktitle={NeurIPS}, year={2018}, eprint={1810.03292}, archiveprefix={arXiv}}
@inproceedings{sixt2020, author={Sixt, Leon and Granz, Maximilian and Landgraf, Tim},
 title={When Explanations Lie: Why Many Modified BP Attributions Fail}, booktitle={ICML}, year={2020}, eprint={1912.09818}, archiveprefix={arXiv}}
@inproceedings{sundararajan2017, author={Sundararajan, Mukund and Taly, Ankur and Yan, Qiqi},
 title={Axiomatic Attribution for Deep Networks}, booktitle={ICML}, year={2017}, eprint={1703.01365}, archiveprefix={arXiv}}
"""

STAGES = ("original", "linear", "conv3", "conv2", "conv1")


def registry() -> Registry:
    """The one check of the sample."""
    return Registry([Entry(SampleRandomization.id, f"{__name__}:SampleRandomization", "sample 1.0")])


def catalog(folder: Path, card: str = CARD) -> Catalog:
    """The card, written to a folder and read again."""
    place = folder / "attribution" / "saliency-sanity"
    place.mkdir(parents=True, exist_ok=True)
    (place / "card.yaml").write_text(card, encoding="utf-8")
    (folder / "references.bib").write_text(BIBLIOGRAPHY, encoding="utf-8")
    return Catalog.load([folder])


def source(folder: Path, **options: Any) -> Source:
    """A card with two subjects whose records hold every outcome."""
    cards = catalog(folder / "cards")
    _calibrate(cards)
    kept = []
    for subject, title, drop in (
        ("digits-cnn", "Digits CNN", 0.28),
        ("digits-guided", "Digits CNN, Guided Backprop", 0.02),
    ):
        place = folder / "records" / subject / "20261122T101500Z"
        pictures = _pictures(drop)
        made = _record(cards, subject, title, drop)
        record.write(made, place, [("maps.npy", pictures.values)])
        kept.append((made, place))
    return Source(catalog=cards, registry=registry(), records=tuple(kept), **options)


def _calibrate(cards: Catalog) -> None:
    loaded = cards.get("saliency-sanity")
    bindings = {item.id: item.check for item in loaded.card.prescriptions if item.check}
    found = {slug: _calibration(slug, bindings[slug]) for slug in ("depends-on-parameters", "repeatable")}
    found["repeatable"] = found["repeatable"].model_copy(update={"digest": "of other criteria"})
    (loaded.folder / "calibration.json").write_text(
        Calibrations(prescriptions=found).model_dump_json(), encoding="utf-8"
    )


def _calibration(slug: str, binding: CheckBinding) -> Calibration:
    found, alarms = _interval(clopper_pearson(118, 120, 0.95)), _interval(clopper_pearson(0, 60, 0.95))
    rows = (
        ControlRates(control="edge-filter", kind="defect", description="An edge filter that never sees the model.", because="similarity",
                     runs=120, outcomes={Outcome.FAILED: 118, Outcome.INCONCLUSIVE: 2}, expected=118, rate=found),
        ControlRates(control="trained-gradient", kind="sound", description="Gradients of a trained network.", runs=60, outcomes={Outcome.PASSED: 60}, expected=0, rate=alarms),
    )  # fmt: skip
    return Calibration(
        prescription=f"saliency-sanity/{slug}", check=binding.id, check_version="1", digest=digest(binding), samples=512, seeds=60,
        measured_on=dt.date(2026, 10, 3), environment={"torch": "2.13.0"}, seconds=181.0, controls=rows, detection=found, false_alarm=alarms,
    )  # fmt: skip


def _interval(found: Any) -> IntervalData:
    return IntervalData(**{name: getattr(found, name) for name in IntervalData.model_fields})


def _measurements(drop: float) -> Measurements:
    rng = np.random.default_rng(7)
    found = Measurements()
    for stage, layer in enumerate(STAGES):
        for kind, level in (("signed", max(0.05, 1 - drop * stage)), ("absolute", max(0.5, 1 - drop * stage / 2))):
            values = np.clip(rng.normal(level, 0.02 + 0.05 * stage, 256), -1, 1) if stage else np.ones(256)
            found.add(SIMILARITY.per_sample(values, stage=stage, layer=layer, map=kind))
    found.add(CEILING.per_sample(np.clip(rng.normal(0.905, 0.04, 256), -1, 1)))
    found.add(CHANGED.per_sample((rng.random(256) < 0.88).astype(float)))
    found.add(LOSS.two_groups(rng.normal(0.5, 1, 400), rng.normal(0, 1, 400)))
    found.add(SHIFT.two_groups(rng.normal(0.9, 1, 400), rng.normal(0, 1, 400)))
    found.add(GAP.per_sample(np.clip(rng.gamma(2, 0.004, 256), 0, 1)))
    return found


def _pictures(drop: float) -> Pictures:
    rng = np.random.default_rng(3)
    grid = np.mgrid[-1:1:16j, -1:1:16j]
    rows = []
    for number in range(3):
        image = np.exp(-8 * (np.hypot(grid[0], grid[1] * (1 + number)) - 0.5) ** 2)
        own = image * np.sin(3 * grid[0] + number)
        maps = [
            own * (1 - min(1, drop * stage)) + min(1, drop * stage) * rng.normal(0, 0.4, own.shape)
            for stage in range(5)
        ]
        rows.append([image, *maps])
    columns = ("input", *STAGES)
    return Pictures("maps", "The original map, and the map after each stage of randomisation. A map that stays the same does not explain the model.",
                    columns, ("a 0", "a 3", "an 8"), np.array(rows, dtype=np.float32), (False, True, True, True, True, True))  # fmt: skip


def _record(cards: Catalog, subject: str, title: str, drop: float) -> Record:
    measured = _measurements(drop)
    pictures = _pictures(drop)
    execution = Execution(
        check=SampleRandomization.id, version="1", distribution="sample 1.0", parameters={"order": "cascading", "noise": None},
        status="stopped_early", samples=512, seconds=2.75, forward=256, backward=1280,
        splits=(SplitData(name="test", n=256, size=360, sha256="5f" * 32), SplitData(name="train", n=400, size=1437, sha256="a1" * 32)),
        measurements=record.data_of(measured),
        pictures=(PicturesData(name="maps", caption=pictures.caption, columns=pictures.columns, rows=pictures.rows, signed=pictures.signed, file="maps.npy"),),
    )  # fmt: skip
    verdicts = []
    for item in cards.get("saliency-sanity").card.prescriptions:
        facts: dict[str, Any] = {
            "card": "saliency-sanity",
            "prescription": item.id,
            "level": item.level.value,
            "statement": item.statement,
        }
        if item.question is not None:
            verdicts.append(_answered(facts, item.question.question, subject))
        elif item.id == "complete" and subject == "digits-guided":
            reason = "The check could not measure: attributions hold 12 NaN values of 65,536. Look at the explainer's division by zero."
            verdicts.append(Verdict(**facts, outcome=Outcome.ERRORED, reason=reason))
        else:
            assert item.check is not None
            found = judge.judge(item.check, measured, complete=True)
            waiver = Waiver(
                prescription=f"saliency-sanity/{item.id}",
                reason="The demo shows this map on purpose.",
                expires=dt.date(2027, 3, 1),
                approved_by="R. Ito",
            )
            extra = {"waiver": waiver} if subject == "digits-guided" and item.id == "depends-on-parameters" else {}
            verdicts.append(
                Verdict(
                    **facts,
                    outcome=found.outcome,
                    reason=found.reason,
                    criteria=found.criteria,
                    gates=found.gates,
                    execution=0,
                    **extra,
                )
            )
    adjusted, count = judge.adjusted(verdicts)
    started = dt.datetime(2026, 11, 22, 10, 15, tzinfo=dt.UTC)
    return Record(
        id="20261122T101500Z", started=started, finished=started + dt.timedelta(seconds=4.2), status="complete", seed=0, device="cpu",
        environment={"python": "3.11.9", "torch": "2.13.0+cpu", "method-cards": "0.1.0", "platform": "Linux"}, git_revision="b6df676+",
        subject=SubjectData(id=subject, title=title, task="image-classification", model="model.py:build", parameters=26_410,
                            parameters_sha256="9c" * 32, explainer="Integrated Gradients, 64 steps", classes=tuple("0123456789")),
        cards={"saliency-sanity": cards.get("saliency-sanity").document.sha256}, executions=(execution,), verdicts=adjusted, criteria=count,
    )  # fmt: skip


def _answered(facts: dict[str, Any], question: str, subject: str) -> Verdict:
    if subject == "digits-guided":
        return Verdict(
            **facts, outcome=Outcome.UNANSWERED, reason="Nobody has answered this question yet.", question=question
        )
    answer = Answer(
        answer="Yes; three maps followed the pen's serifs.",
        by="M. Okafor",
        on=dt.date(2026, 11, 3),
        evidence="notes/2026-11-03.md",
    )
    return Verdict(
        **facts, outcome=Outcome.ANSWERED, reason="Answered with evidence.", question=question, answer=answer
    )


def write_project(folder: Path) -> None:
    """The sample's files alone: cards, calibrations and records."""
    source(folder)


__all__ = ["CARD", "SampleRandomization", "catalog", "registry", "source", "write_project"]

"""One card and one record that hold every outcome, for the terminal and the notebook."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from method_cards.calibration import Calibration, Calibrations, ControlRates, digest
from method_cards.catalog import Catalog, LoadedCard
from method_cards.record import Execution, Record, SubjectData
from method_cards.verdict import Answer, CriterionResult, IntervalData, Outcome, Verdict, Waiver

DAY = dt.date(2026, 3, 1)

SOURCE = {"ref": "adebayo2018", "locator": "section 3", "note": "seed against seed"}


def prescription(slug: str, level: str, statement: str, **verification: Any) -> dict[str, Any]:
    return {
        "id": slug,
        "level": level,
        "stage": "explanation",
        "statement": statement,
        "rationale": f"Why {slug}: a map that does not depend on `theta` cannot explain $f_\\theta$.",
        "evidence": [{"ref": "adebayo2018", "reported_effect": "two of eight methods failed"}],
        "failure_symptom": f"Maps of *different* models look alike ({slug}).",
        "severity": "high",
        "remediation": [
            {
                "action": f"First remedy of {slug}: use plain gradients.",
                "effort": "low",
                "code": "explainer = Gradient()\nif a <b:\n    pass",
            },
            {"action": f"Second remedy of {slug}.", "side_effects": "slower"},
            {"action": f"Third remedy of {slug}."},
        ],
        **verification,
    }


def checked(measurement: str, **bound: Any) -> dict[str, Any]:
    criterion = {"claim": f"the {measurement} is as it must be", "measurement": measurement, "source": SOURCE, **bound}
    gate = {"claim": "examples are alike in both groups", "measurement": "blind_auc", "at_most": 0.6, "source": SOURCE}
    return {
        "check": {
            "id": "attribution/completeness",
            "with": {"tolerance": 0.05},
            "criteria": [criterion],
            "valid_if": [gate],
        }
    }


def asked(question: str) -> dict[str, Any]:
    return {"question": {"question": question, "evidence_required": "a link to the decision"}}


def new_card_data() -> dict[str, Any]:
    person = [{"name": "A. Person"}]
    return {
        "schema_version": 1,
        "id": "toy-maps",
        "title": "Toy saliency maps",
        "version": {"name": "1.0.0", "date": "2026-01-01"},
        "status": "reviewed",
        "license": "Apache-2.0",
        "owners": person,
        "authors": person,
        "card_type": "method",
        "overview": {
            "summary": "Shows which inputs matter.",
            "goals": "Explain one decision.",
            "lifecycle_stages": ["explanation"],
        },
        "audience": {"intended_readers": ["ML engineers"]},
        "applicability": {"prescribed_uses": ["Differentiable models."], "proscribed_uses": ["Proof of fairness."]},
        "requirements": {"model_access": ["gradients"], "compute": {"device": "2 CPU cores", "seconds": 4}},
        "recipe": {"inputs_outputs": "An input and a map.", "steps": ["Take the gradient."]},
        "design_decisions": [{"choice": "Baseline", "recommended": "zeros", "rationale": "Black means nothing."}],
        "prescriptions": [
            prescription(
                "complete",
                "MUST",
                "Maps MUST add up to the change of the output.",
                **checked("gap_above_tolerance", at_most=0.05),
            ),
            prescription(
                "sensitive",
                "MUST",
                "Maps MUST change when the parameters are randomised.",
                **checked("similarity", at_most=0.3),
            ),
            prescription(
                "stable", "SHOULD", "Maps SHOULD stay the same under noise.", **checked("distance", between=[0.1, 0.4])
            ),
            prescription(
                "no-leak", "MUST NOT", "The model MUST NOT tell members apart.", **checked("attack_auc", at_most=0.55)
            ),
            prescription("measurable", "SHOULD", "Maps SHOULD be finite.", **checked("finite_share", at_least=0.99)),
            prescription("worded", "MAY", "Token maps MAY be summed over words.", **checked("similarity", at_most=0.3)),
            prescription(
                "waived", "SHOULD NOT", "Maps SHOULD NOT be normalised.", **checked("finite_share", at_least=0.99)
            ),
            prescription(
                "baseline",
                "MUST",
                "The baseline MUST mean nothing to a person.",
                **asked("Is the baseline without meaning?"),
            ),
            prescription(
                "reviewed", "SHOULD", "Maps SHOULD be seen by an expert.", **asked("Did an expert look at the maps?")
            ),
        ],
        "failure_modes": [
            {"id": "edge-detector", "title": "Edge detector", "symptom": "Maps show edges.", "cause": "Clamping."}
        ],
        "diagnostics": [{"symptom": "Edges.", "likely_cause": "Clamping.", "action": "Use gradients."}],
        "evaluation": {
            "metrics": [{"name": "similarity", "definition": "Spearman.", "direction": "lower is better"}],
            "protocol": "512 test images.",
        },
        "responsible_ai": {"fairness": "Unknown."},
        "limitations": {"caveats": ["One decision at a time."]},
        "examples": [{"title": "Digits", "scenario": "A CNN.", "walkthrough": "Randomise it."}],
        "evidence": [{"ref": "adebayo2018", "kind": "peer-reviewed"}],
        "changelog": [{"version": "1.0.0", "date": "2026-01-01", "changes": ["First."]}],
    }


BIBLIOGRAPHY = """@inproceedings{adebayo2018,
  author = {Adebayo, Julius and Gilmer, Justin and Muelly, Michael},
  title = {Sanity Checks for Saliency Maps},
  booktitle = {NeurIPS},
  year = {2018},
  eprint = {1810.03292},
  archiveprefix = {arXiv},
}
"""


def put_card(root: Path, data: dict[str, Any]) -> Path:
    folder = root / "attribution" / str(data["id"])
    folder.mkdir(parents=True)
    (folder / "card.yaml").write_text(json.dumps(data), encoding="utf-8")
    (root / "references.bib").write_text(BIBLIOGRAPHY, encoding="utf-8")
    return folder


def load_card(root: Path, data: dict[str, Any]) -> LoadedCard:
    put_card(root, data)
    return Catalog.load([root]).get(str(data["id"]))


def interval(low: float, estimate: float, high: float, *, n: int = 128, method: str = "betting") -> IntervalData:
    return IntervalData(estimate=estimate, low=low, high=high, confidence=0.95, method=method, n=n, anytime=True)


def result(outcome: Outcome, measurement: str, found: IntervalData, **details: Any) -> CriterionResult:
    settings: dict[str, Any] = {
        "claim": f"the {measurement} is as it must be",
        "where": {},
        "bound": "≤ 0.3",
        "high_bound": 0.3,
        "source": "adebayo2018, section 3",
        "reason": f"{measurement} was measured.",
        "range": (0.0, 1.0),
        "p_value": 0.001,
        "p_holm": 0.01,
    }
    return CriterionResult(measurement=measurement, outcome=outcome, interval=found, **{**settings, **details})


def verdict(slug: str, level: str, outcome: Outcome, reason: str, **details: Any) -> Verdict:
    statements = {item["id"]: item["statement"] for item in new_card_data()["prescriptions"]}
    return Verdict(
        card="toy-maps",
        prescription=slug,
        level=level,
        statement=statements[slug],
        outcome=outcome,
        reason=reason,
        **details,
    )


def verdicts() -> tuple[Verdict, ...]:
    passed = result(Outcome.PASSED, "gap_above_tolerance", interval(0.0, 0.01, 0.04), bound="≤ 0.05", high_bound=0.05)
    failed = result(Outcome.FAILED, "similarity", interval(0.77, 0.81, 0.84), where={"stage": 1}, p_holm=0.2)
    straddles = result(
        Outcome.INCONCLUSIVE,
        "distance",
        interval(0.05, 0.2, 0.35),
        bound="between 0.1 and 0.4",
        low_bound=0.1,
        high_bound=0.4,
        samples_needed=2300,
    )
    gate = result(
        Outcome.FAILED,
        "blind_auc",
        interval(0.7, 0.8, 0.9, method="delong"),
        claim="members and non-members are alike",
        bound="≤ 0.6",
        high_bound=0.6,
    )
    waiver = Waiver(
        prescription="toy-maps/waived",
        reason="Shown to experts only.",
        expires=dt.date(2027, 1, 1),
        approved_by="R. Viewer",
    )
    answer = Answer(answer="yes", by="A. Person", on=DAY, evidence="minutes of March")
    exact = result(
        Outcome.FAILED,
        "finite_share",
        interval(0.5, 0.5, 0.5, n=1, method="exact"),
        bound="≥ 0.99",
        low_bound=0.99,
        high_bound=None,
        p_value=None,
        p_holm=None,
    )
    return (
        verdict(
            "complete",
            "MUST",
            Outcome.PASSED,
            "gap_above_tolerance is 0.01, 95% interval 0 to 0.04 (n = 128): within the bound ≤ 0.05.",
            criteria=(passed,),
            execution=0,
        ),
        verdict(
            "sensitive",
            "MUST",
            Outcome.FAILED,
            "similarity (stage 1) is 0.81, 95% interval 0.77 to 0.84 (n = 128): outside the bound ≤ 0.3.",
            criteria=(failed,),
            execution=0,
        ),
        verdict(
            "stable",
            "SHOULD",
            Outcome.INCONCLUSIVE,
            "distance is 0.2: the interval straddles the bound.",
            criteria=(straddles,),
            execution=0,
        ),
        verdict(
            "no-leak",
            "MUST NOT",
            Outcome.INVALID,
            "No verdict can be given: members and non-members are alike does not hold.",
            gates=(gate,),
            execution=0,
        ),
        verdict("measurable", "SHOULD", Outcome.ERRORED, "The check could not measure: the model's output is NaN."),
        verdict("worded", "MAY", Outcome.NOT_APPLICABLE, "It applies to text inputs; this subject's are image."),
        verdict(
            "waived",
            "SHOULD NOT",
            Outcome.FAILED,
            "finite_share is 0.5: outside the bound ≥ 0.99.",
            criteria=(exact,),
            execution=0,
            waiver=waiver,
        ),
        verdict(
            "baseline",
            "MUST",
            Outcome.UNANSWERED,
            "A person has to answer this.",
            question="Is the baseline without meaning?",
        ),
        verdict(
            "reviewed",
            "SHOULD",
            Outcome.ANSWERED,
            "A. Person answered on 2026-03-01: yes",
            question="Did an expert look at the maps?",
            answer=answer,
        ),
    )


@pytest.fixture
def every_outcome() -> Record:
    """A record whose verdicts have every outcome once, and a waiver."""
    started = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
    subject = SubjectData(
        id="digits-cnn",
        title="Digits CNN",
        task="image-classification",
        model="model.py:build",
        parameters=4810,
        parameters_sha256="0" * 64,
    )
    execution = Execution(
        check="attribution/completeness", version="1", distribution="method-cards 0.1.0", parameters={}, status="complete",
        samples=128, seconds=2.5, forward=384, backward=128,
    )  # fmt: skip
    return Record(
        id="20260301T120000Z",
        started=started,
        finished=started + dt.timedelta(seconds=12.3),
        status="complete",
        seed=7,
        device="cpu",
        environment={"python": "3.12"},
        subject=subject,
        cards={"toy-maps": "0" * 64},
        executions=(execution,),
        verdicts=verdicts(),
        criteria=4,
    )


@pytest.fixture
def toy_card(tmp_path: Path) -> LoadedCard:
    """A card with nine prescriptions; one of them is calibrated."""
    loaded = load_card(tmp_path / "toy-cards", new_card_data())
    calibrate(loaded, "sensitive")
    return loaded


def calibrate(loaded: LoadedCard, slug: str, **changes: Any) -> None:
    """Put error rates beside a card, as ``method-cards calibrate`` would."""
    bound = next(item for item in loaded.card.prescriptions if item.id == slug)
    assert bound.check is not None
    detection, false_alarm = (
        interval(0.94, 1.0, 1.0, n=60, method="clopper-pearson"),
        interval(0.0, 0.0, 0.06, n=60, method="clopper-pearson"),
    )
    control = ControlRates(
        control="edges",
        kind="defect",
        description="An edge filter.",
        runs=60,
        outcomes={Outcome.FAILED: 60},
        expected=60,
        rate=detection,
    )
    settings: dict[str, Any] = {
        "prescription": f"{loaded.card.id}/{slug}",
        "check": bound.check.id,
        "check_version": "1",
        "digest": digest(bound.check),
        "samples": 128,
        "seeds": 60,
        "measured_on": DAY,
        "environment": {},
        "seconds": 3.0,
        "controls": (control,),
        "detection": detection,
        "false_alarm": false_alarm,
    }
    found = Calibrations(prescriptions={slug: Calibration(**{**settings, **changes})})
    (loaded.folder / "calibration.json").write_text(found.model_dump_json(), encoding="utf-8")


@pytest.fixture
def card_data() -> dict[str, Any]:
    """The data of a card, to be changed and written."""
    return new_card_data()


@pytest.fixture
def write_card() -> Callable[[Path, dict[str, Any]], Path]:
    """Writes the data of a card into a folder of cards."""
    return put_card

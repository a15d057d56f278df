"""A check's page says how far the check can be trusted, and shows what that rests on."""

from __future__ import annotations

import datetime as dt
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import yaml
from pydantic import BaseModel, Field
from rich.console import Console
from sklearn.metrics import roc_auc_score, roc_curve

from method_cards import calibration, control_runs
from method_cards.calibration import Calibration, Calibrations, Estimates
from method_cards.card import CheckBinding
from method_cards.catalog import LoadedCard
from method_cards.control_runs import ControlRun, ControlRuns, Decision, KeptPictures
from method_cards.errors import InputError
from method_cards.measurement import Pictures
from method_cards.render import separation, site, words
from method_cards.render.check_page import check_page
from method_cards.render.hubs import hubs
from method_cards.render.needs import needs
from method_cards.render.parameters import parameters
from method_cards.render.show import print_check
from method_cards.render.source import Source, source_from
from method_cards.render.trust import trusts
from method_cards.verdict import IntervalData, Outcome
from tests.render import sample

SLUG = "depends-on-parameters"


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """The sample, without what each run found and without control runs."""
    return sample.source(tmp_path)


@pytest.fixture(scope="module")
def bundled() -> Source:
    """The bundled cards and checks, without records."""
    return source_from()


def page_of(
    source: Source, check: str = "attribution/sample-randomization", files: dict[str, bytes] | None = None
) -> str:
    return check_page(source.registry.get(check), source, {} if files is None else files)


def index_of(source: Source) -> str:
    return dict(hubs(source))["checks/index.md"]


def card(source: Source) -> LoadedCard:
    return source.catalog.get("saliency-sanity")


def binding(source: Source) -> CheckBinding:
    found = next(item.check for item in card(source).card.prescriptions if item.id == SLUG)
    assert found is not None
    return found


def rates(source: Source) -> Calibration:
    return calibration.read(card(source).folder).prescriptions[SLUG]


def keep(source: Source, found: Calibration) -> None:
    """Put a calibration in the place of the sample's."""
    folder = card(source).folder
    kept = {**calibration.read(folder).prescriptions, SLUG: found}
    (folder / calibration.FILE).write_text(Calibrations(prescriptions=kept).model_dump_json(), encoding="utf-8")
    source._calibrations.clear()


def with_estimates(source: Source, defect: list[float | None], sound: list[float | None]) -> Calibration:
    """The sample's calibration, with what each run found."""
    found = rates(source)

    def of(values: list[float | None]) -> tuple[Estimates, ...]:
        beyond = tuple(None if value is None else value - 0.2 for value in values)
        gate = Estimates(
            measurement="prediction_changed", where={}, values=(0.9,) * len(values), beyond=(-0.4,) * len(values)
        )
        return (
            Estimates(
                measurement="similarity", where={"stage": 4, "map": "signed"}, values=tuple(values), beyond=beyond
            ),
            gate,
        )

    controls = tuple(
        row.model_copy(update={"estimates": of(defect if row.kind == "defect" else sound)}) for row in found.controls
    )
    return found.model_copy(update={"controls": controls})


def keep_runs(source: Source, *, digest: str = "") -> None:
    """One run of a sound control and of one with the defect, with maps."""
    rng = np.random.default_rng(0)
    maps = Pictures(
        "maps",
        "A map that stays the same does not explain the model.",
        ("input", "original", "random"),
        ("a 3",),
        rng.normal(size=(1, 3, 8, 8)).astype(np.float32),
        (False, True, True),
    )
    kept = KeptPictures.of(maps)

    def run(name: str, kind: Literal["sound", "defect"], estimate: float, outcome: Outcome) -> ControlRun:
        interval = IntervalData(
            estimate=estimate,
            low=estimate - 0.05,
            high=estimate + 0.05,
            confidence=0.95,
            method="betting",
            n=64,
            anytime=True,
        )
        return ControlRun(
            control=name,
            kind=kind,
            description=f"What {name} is.",
            outcome=outcome,
            is_expected=True,
            criteria=(Decision(outcome=outcome, interval=interval, range=(-1.0, 1.0)),),
            gates=(Decision(outcome=Outcome.PASSED, interval=interval, range=(0.0, 1.0)),),
            pictures=(kept.key,),
        )

    runs = ControlRuns(
        prescription=f"saliency-sanity/{SLUG}",
        check="attribution/sample-randomization",
        check_version="1",
        digest=digest or calibration.digest(binding(source)),
        samples=512,
        seed=0,
        measured_on=dt.date(2026, 10, 3),
        controls=(
            run("trained-gradient", "sound", 0.03, Outcome.PASSED),
            run("edge-filter", "defect", 0.91, Outcome.FAILED),
        ),
    )
    control_runs.write(card(source).folder, {SLUG: runs}, [kept], frozenset({SLUG}))
    source._control_runs.clear()


def text(html: str) -> str:
    return " ".join(re.sub(r"<svg.*?</svg>|<[^>]+>", " ", html, flags=re.DOTALL).split())


def test_the_summary_says_how_many_of_how_many(source: Source) -> None:
    """At the top stands what a reviewer asks: how many defects were found, how many sound subjects were failed, with intervals."""
    page = page_of(source)
    shown = text(page)
    assert "Of 120 subjects built with the defect it found 118; of 60 sound ones it failed none." in shown
    assert "98% (94 to 100%)" in shown
    assert shown.index("it found 118") < shown.index("What it measures") < shown.index("How often it is right")
    assert "the error rates of 2026-10-03 are of other criteria" in shown, "of the second prescription"
    assert "Not calibrated: how often this check errs has not been measured." in shown, "of the third"


def test_sections_stand_in_the_order_of_the_question(source: Source) -> None:
    """What it is, what it costs, how to call it, how often it is right, where it comes from."""
    headings = re.findall(r"^## (.+)$", page_of(source), flags=re.MULTILINE)
    assert headings == [
        "What it measures",
        "Assumptions",
        "Cost",
        "Departures from the paper",
        "Parameters",
        "Measurements",
        "How often it is right",
        "Sources",
    ]


@pytest.mark.parametrize(
    ("detected", "alarms", "said"),
    [
        (118, 0, ""),
        (100, 0, "Worse than promised: it finds less than 90% of defects."),
        (118, 4, "Worse than promised: it fails more than 5% of sound subjects."),
        (100, 4, "Worse than promised: it finds less than 90% of defects and fails more than 5% of sound subjects."),
    ],
)
def test_a_check_that_is_worse_than_promised_says_so(source: Source, detected: int, alarms: int, said: str) -> None:
    """On its page, on the page of all checks, and in the terminal's words."""
    found = rates(source)
    defect, sound = found.controls

    def share(count: int, rate: IntervalData) -> IntervalData:
        return rate.model_copy(update={"estimate": count / rate.n})

    keep(
        source,
        found.model_copy(
            update={
                "controls": (
                    defect.model_copy(update={"expected": detected}),
                    sound.model_copy(update={"expected": alarms}),
                ),
                "detection": share(detected, found.detection),
                "false_alarm": share(alarms, found.false_alarm),
            }
        ),
    )
    assert words.shortcoming(rates(source)) == said
    card_page = site.pages(replace(source, records=()))["cards/saliency-sanity.md"]
    for page in (page_of(source), index_of(source), card_page):
        assert ("Worse than promised" in page) == bool(said)
        assert said in text(page)


def test_a_low_detection_rate_does_not_hide_behind_refusals(source: Source) -> None:
    """Controls that have to be refused are pooled with defects; the defects alone have to be found as well."""
    found = rates(source)
    defect, sound = found.controls
    refused = defect.model_copy(update={"control": "shifted", "kind": "confounded", "runs": 600, "expected": 600})
    few = defect.model_copy(update={"expected": 60})
    pooled = found.detection.model_copy(update={"estimate": 660 / 720, "n": 720})
    mixed = found.model_copy(update={"controls": (few, sound, refused), "detection": pooled})
    assert mixed.misses_too_many
    assert words.rates(mixed).startswith(
        "Of 120 subjects built with the defect it found 60; of 600 that allow no verdict it refused all; "
    )


def test_what_each_run_found_is_drawn_against_the_bound(source: Source) -> None:
    """One row for each control with a stroke for each run, and a ROC curve with its area and the place of the card's bound."""
    keep(source, with_estimates(source, [0.9, 0.8, 0.15, None], [0.0, 0.05, 0.1, 0.25]))
    page = page_of(source)
    assert page.count('<svg class="mc-strip" role="img"') == 2
    assert "3 runs: 0.15 to 0.9, bound ≤ 0.2" in page
    shown = text(page)
    assert "area under the curve 0.688, from 4 runs with the defect and 4 without it" in shown
    assert "At the bound of the card (the mark) it finds 50% and fails 25% of sound ones." in shown


def test_a_number_is_no_drawing(source: Source) -> None:
    """Where all runs on a control found the same, it is told in words."""
    keep(source, with_estimates(source, [1.0, 1.0], [0.0, 0.0]))
    shown = text(page_of(source))
    assert "1 in 2 runs" in shown
    assert "0 in 2 runs" in shown


def test_without_what_each_run_found_there_is_no_curve(source: Source) -> None:
    """Calibrations of before hold verdicts alone; the page says why it draws no curve, and shows the rates as ever."""
    page = page_of(source)
    assert "mc-roc" not in page
    assert "only the verdicts were kept" in page
    assert "118 failed" in text(page)


def test_a_sound_control_stands_beside_one_with_the_defect(source: Source) -> None:
    """Each with its verdict, what it is, its interval against the bound on one scale, and its maps."""
    keep_runs(source)
    files: dict[str, bytes] = {}
    page = page_of(source, files=files)
    sides = re.findall(r'<section class="mc-side.*?</section>', page, flags=re.DOTALL)
    assert [re.findall(r'<section[^>]*aria-label="([^"]*)"', side) for side in sides] == [
        ["A control that is sound"],
        ["A control that has the defect"],
    ]
    sound, defect = sides
    assert "passed" in text(sound)
    assert "What trained-gradient is." in text(sound)
    assert "failed" in text(defect)
    assert "similarity (stage 4, map signed) is 0.91" in defect
    bounds = [re.findall(r'class="mc-bound" d="([^"]*)"', side) for side in sides]
    assert bounds[0] == bounds[1], "one scale"
    pictures = re.findall(r'<img src="\.\./\.\./(assets/figures/[0-9a-f]+\.png)"', page)
    assert len(pictures) == 2
    assert all(files[path].startswith(b"\x89PNG") for path in pictures)
    assert "does not explain the model" in text(page)


def test_kept_runs_do_no_harm(source: Source) -> None:
    """What stands in the files beside a card is text: no script, no template, no markup comes out of it."""
    keep_runs(source)
    path = card(source).folder / control_runs.FILE
    evil = "<script>alert(1)</script>{{ config }}<img src=x onerror=alert(1)>"
    written = path.read_text(encoding="utf-8")
    for word in ("What edge-filter is.", "A map that stays the same does not explain the model.", "a 3", "original"):
        assert word in written
        written = written.replace(f'"{word}"', f'"{evil}"')
    path.write_text(written.replace('"edge-filter"', f'"{evil}"'), encoding="utf-8")
    page = page_of(source)
    assert "alert(1)" in page
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "{{" not in page


def test_damaged_pictures_name_their_file(source: Source) -> None:
    """The message says which file to make again, and how."""
    keep_runs(source)
    path = card(source).folder / control_runs.FILE
    path.write_text(re.sub(r'"steps": "[^"]*"', '"steps": "?"', path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(InputError, match=r"controls\.json: the kept pictures .* cannot be read.*calibrate --once"):
        page_of(source)


def test_controls_are_shown_before_rates_are_known(source: Source) -> None:
    """One run of each control says what the check is about, also where nobody has calibrated it."""
    keep_runs(source)
    (card(source).folder / calibration.FILE).unlink()
    source._calibrations.clear()
    page = page_of(source)
    assert "mc-side-sound" in page
    assert "Not calibrated: how often this check errs has not been measured." in text(page)


def test_runs_of_other_criteria_are_not_shown(source: Source) -> None:
    """The page says so, and how to run the controls again."""
    keep_runs(source, digest="of other criteria")
    page = page_of(source)
    assert "mc-side-sound" not in page
    assert "were run for other criteria or another version of the check" in page
    assert "--once" in page


def test_the_same_input_gives_the_same_page(source: Source) -> None:
    """Byte by byte, pictures included."""
    keep_runs(source)
    keep(source, with_estimates(source, [0.9, 0.8, 0.15], [0.0, 0.05, 0.1]))
    first: dict[str, bytes] = {}
    second: dict[str, bytes] = {}
    assert page_of(source, files=first) == page_of(replace(source), files=second)
    assert first == second


def test_the_binding_can_be_put_into_a_card(source: Source) -> None:
    """The YAML on the page is a check's binding as a card has it: with all defaults, and criteria that lack only their source."""
    page = page_of(source)
    shown = re.search(r"<summary>How to bind it.*?<code>(.*?)</code>", page, flags=re.DOTALL)
    assert shown is not None
    data = yaml.safe_load(shown[1].replace("&#10;", "\n").replace("&#34;", '"').replace("&#39;", "'"))["check"]
    for criterion in (*data["criteria"], *data["valid_if"]):
        criterion["source"] = {"note": "A reason."}
    bound = CheckBinding.model_validate(data)
    assert bound.parameters == {"order": "cascading"}
    assert [item.measurement for item in bound.criteria] == ["similarity"]
    assert bound.criteria[0].at_most == 0.2
    assert bound.valid_if[0].confidence == 0.9


def test_the_terminal_says_the_same(bundled: Source) -> None:
    """`method-cards show` prints the sentences of the page: rates, their lack, and works in full."""
    for check in ("attribution/completeness", "memorization/language-model-membership"):
        output = io.StringIO()
        print_check(bundled.registry.get(check), bundled.catalog, Console(file=output, width=400))
        said, page = " ".join(output.getvalue().split()), text(page_of(bundled, check))
        for trust in trusts(check, bundled):
            assert trust.sentence in page
            assert trust.sentence in said
            assert trust.shortcoming in said
        first = page[page.index("## Sources") + len("## Sources") :].split(" arxiv.org")[0].split(" doi.org")[0].strip()
        assert first in said


def test_what_a_check_needs_is_derived_and_declared(bundled: Source) -> None:
    """An explainer from its parameters, further data from its splits, the rest from its declaration; both pages say it."""
    for check, needed in (
        ("attribution/completeness", ("an explainer",)),
        ("influence/datamodel-score", ("data: train", "gradients", "trainings")),
    ):
        found = bundled.check(check)
        assert not isinstance(found, str)
        assert needs(found) == needed
        assert f"needs {', '.join(needed)}" in text(page_of(bundled, check))
        assert f"needs {' · '.join(needed)}" in text(index_of(bundled))


def test_works_stand_in_full_with_their_link(source: Source) -> None:
    """Sources are listed as on a card's page: authors, title, venue, year, arXiv or DOI."""
    page = page_of(source)
    listed = page[page.index("## Sources") :]
    assert "Sanity Checks for Saliency Maps. NeurIPS, 2018. arXiv:1810.03292." in text(listed)
    assert 'href="https://arxiv.org/abs/1810.03292"' in listed


class Mild(BaseModel):
    """The first. It says more."""

    method: Literal["mild"] = "mild"


class Strong(BaseModel):
    """The second."""

    method: Literal["strong"] = "strong"
    force: float = 2.0


class Other(BaseModel):
    method: Literal["other"] = "other"


class Last(BaseModel):
    method: Literal["last"] = "last"


class Chooses(BaseModel):
    """A check's parameters in which there is much to choose from."""

    which: Mild | Strong | Other | Last | None = Field(default=None, discriminator="method")
    few: Mild | Strong = Field(default=Mild(), discriminator="method")
    several: list[Literal["a", "b"]] = ["a"]


def test_a_long_choice_does_not_stand_in_the_type() -> None:
    """It is counted there and listed apart, one alternative in a line with its own parameters; a short one stays."""
    schema = Chooses.model_json_schema()
    which, few, several = parameters(schema)
    assert which.type == "one of 4, told apart by method | none"
    assert [one.name for one in which.alternatives] == [
        "{method: mild}",
        "{method: strong}",
        "{method: other}",
        "{method: last}",
    ]
    assert (which.alternatives[0].meaning, which.alternatives[1].fields) == ("The first", ("force: number = 2.0",))
    assert few.type == "{method: mild} | {method: strong}"
    assert several.type == 'list of ("a" | "b")'
    assert which.guide == ""


def test_alternatives_that_a_guide_describes_are_not_repeated(bundled: Source) -> None:
    """Where the site has the page that the schema names, the check's page links to it; without it the alternatives stand there."""
    alone, guided = (
        page_of(replace(bundled, written=written), "attribution/completeness")
        for written in (frozenset[str](), frozenset({"guide/explainers.md"}))
    )
    assert "quadrature" in alone
    assert "quadrature" not in guided
    assert 'href="../../guide/explainers.html"' in guided
    assert "{method: lime}" in re.sub("&#123;", "{", guided)


@pytest.mark.parametrize("seed", range(5))
def test_area_and_curve_are_those_of_scikit_learn(seed: int) -> None:
    """With ties, and with runs that gave no verdict, which are below every threshold."""
    rng = np.random.default_rng(seed)
    defects = np.round(rng.normal(0.5, 1, 40), 1)
    sound = np.round(rng.normal(0, 1, 30), 1)
    labels = np.r_[np.ones(40), np.zeros(30)]
    scores = np.r_[defects, sound]
    assert separation.area_under(defects.tolist(), sound.tolist()) == pytest.approx(roc_auc_score(labels, scores))
    alarms, detected, _ = roc_curve(labels, scores, drop_intermediate=False)
    ours = separation.curve(defects.tolist(), sound.tolist())
    assert (ours[0], ours[-1]) == ((0, 0), (1, 1))
    assert np.trapezoid([y for _, y in ours], [x for x, _ in ours]) == pytest.approx(np.trapezoid(detected, alarms))
    assert len(ours) <= len(alarms)
    without = separation.area_under([*defects.tolist(), -np.inf], sound.tolist())
    assert without == pytest.approx(roc_auc_score(np.r_[labels, 1], np.r_[scores, -1e9]))


def test_the_mark_of_the_curve_is_on_the_curve(source: Source) -> None:
    """What is found at the card's bound is a corner or a point of the curve."""
    found = with_estimates(source, [0.9, 0.8, 0.15, None], [0.0, 0.05, 0.1, 0.25])
    (roc,) = separation.rocs(found, binding(source))
    assert roc.at_bound == (0.25, 0.5)
    assert any(
        (b[0] - a[0]) * (0.5 - a[1]) == pytest.approx((b[1] - a[1]) * (0.25 - a[0]))
        and a[0] <= 0.25 <= b[0]
        and a[1] <= 0.5 <= b[1]
        for a, b in zip(roc.points, roc.points[1:], strict=False)
    )


def test_runs_of_which_no_estimate_was_kept_draw_no_curve(source: Source) -> None:
    """Runs counted before estimates were kept are neither found nor missed by a curve; one without a verdict stays missed."""
    found = with_estimates(source, [0.9, 0.8, 0.15, None], [0.0, 0.05, 0.1, 0.25])
    lost = (None,) * 5
    joined = tuple(
        row.model_copy(
            update={
                "estimates": tuple(
                    item.model_copy(update={"values": lost + item.values, "beyond": lost + item.beyond})
                    for item in row.estimates
                )
            }
        )
        for row in found.controls
    )
    more = found.model_copy(update={"controls": joined})
    assert separation.rocs(more, binding(source)) == separation.rocs(found, binding(source))
    said = "only the verdicts were kept"
    for kept, is_said in ((found, False), (more, True)):
        keep(source, kept)
        assert (said in page_of(source)) is is_said


def test_checks_are_sorted_by_what_is_known(bundled: Source) -> None:
    """In a family the lower end of the detection rate decides; a check without rates comes last; the worst prescription counts."""
    page = index_of(bundled)
    family = page[page.index("{ #family-memorization }") : page.index("{ #family-privacy }")]
    lows = []
    for item in re.findall(r"<li>.*?</li>", family, flags=re.DOTALL):
        (check,) = re.findall(r">(memorization/[a-z-]+)</span>", item)
        found = [one.rates.found for one in trusts(check, bundled) if one.is_known and one.rates.found is not None]
        worst = min(((one.detection.estimate, one.detection.low) for one in found), default=(0, 0))
        shown = re.findall(r"detection</span>.*?\((\d+) to \d+%\)", item)
        assert shown == ([f"{100 * worst[1]:.0f}"] if found else []), check
        assert found or "calibrated" in item, check
        lows.append(int(shown[0]) if shown else -1)
    assert len(lows) > 5
    assert lows == sorted(lows, reverse=True)


def test_every_bundled_page_is_light(bundled: Source) -> None:
    """No check's page, and not the page of all checks, has more than 75 kB of its own: with the theme it stays below 100 kB."""
    guided = replace(bundled, written=frozenset({"guide/explainers.md"}))
    sizes = {entry.id: len(page_of(guided, entry.id).encode()) for entry in guided.registry}
    sizes["index"] = len(index_of(guided).encode())
    assert {name: size for name, size in sizes.items() if size > 75_000} == {}


def test_controls_of_bundled_cards_are_kept_small(bundled: Source) -> None:
    """What is kept to be shown weighs at most 64 kB a card."""
    sizes = {
        loaded.card.id: (loaded.folder / control_runs.FILE).stat().st_size
        for loaded in bundled.cards
        if (loaded.folder / control_runs.FILE).is_file()
    }
    assert sizes
    assert {card: size for card, size in sizes.items() if size > 64_000} == {}

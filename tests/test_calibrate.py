"""Error rates are measured on controls, as a run would, and kept beside the card they belong to."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from rich.console import Console

from method_cards import calibration, control_runs
from method_cards.calibrate import Trial as OneTrial
from method_cards.calibrate import alike, attempt, calibrate, keep, keep_runs
from method_cards.calibration import Calibration
from method_cards.catalog import Catalog, LoadedCard
from method_cards.check import Control
from method_cards.errors import InputError
from method_cards.measurement import Pictures
from method_cards.plan import Bound
from method_cards.registry import Entry, Registry
from method_cards.render import progress
from method_cards.subject import Subject
from method_cards.tally import Calibrated
from method_cards.verdict import Outcome
from tests.helpers import Scripted, classifier, criterion, prescription, scripted, toy_catalog

WANTED = scripted(criterion("level", at_most=0.7))


class Controlled(Scripted):
    """A check whose controls are known to give each outcome."""

    found: ClassVar[Sequence[Control]] = ()

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        def build(seed: int) -> Any:
            return classifier(128)

        return (
            Control("calm", "sound", "Nothing is wrong.", build, parameters={"share": 0.5}),
            Control("jumpy", "sound", "It looks wrong half of the time.", _jumpy, parameters={"share": 0.9}),
            Control("alarmed", "defect", "All is wrong.", build, "level", {"share": 0.9}),
            Control("wrong-reason", "defect", "Something else is wrong.", build, "ones", {"share": 0.9}),
            Control("elsewhere", "defect", "Wrong where no criterion looks.", build, "count"),
            Control("confused", "confounded", "Nothing can be said.", build, "ones", {"share": 0.9}),
            Control("broken", "defect", "It raises.", build, "level", {"behaviour": "raise"}),
        )


def _jumpy(seed: int) -> Any:
    return classifier(128 if seed % 2 else 8)


class SmallOnly(Controlled):
    """A check that says nothing about subjects with a large share, and so nothing about some of its controls."""

    def not_applicable(self, subject: Subject) -> str:
        """The share is too large."""
        return "The share is too large." if self.share > 0.8 and self.behaviour == "well" else ""


class OnlySound(Scripted):
    """A check that nothing ever fails."""

    @classmethod
    def controls(cls) -> tuple[Control, ...]:
        return (
            Control("calm", "sound", "Nothing is wrong.", _jumpy),
            Control("confused", "confounded", "Nothing.", _jumpy, "level"),
        )


def card(folder: Path, check: dict[str, Any] = WANTED) -> LoadedCard:
    return toy_catalog(
        folder, [prescription("itself", check=check), prescription("other", check=scripted(share=0.3))]
    ).get("toy-card")


def registry(name: str = "Controlled") -> Registry:
    return Registry([Entry(Scripted.id, f"tests.test_calibrate:{name}", "the tests")])


def found(folder: Path, check: dict[str, Any] = WANTED, **options: Any) -> Calibrated:
    loaded = card(folder, check)
    (one,) = calibrate([(loaded, loaded.card.prescriptions[0])], registry(), **{"seeds": 4, "samples": 128, **options})
    return one


def measured(folder: Path, check: dict[str, Any] = WANTED, **options: Any) -> Calibration:
    return found(folder, check, **options).rates


def test_each_kind_of_control_counts_its_own_outcome(tmp_path: Path) -> None:
    """Defects are counted when they fail for the stated reason, sound controls when they fail at all; an error detects nothing."""
    found = {rate.control: rate for rate in measured(tmp_path).controls}
    assert {name: rate.expected for name, rate in found.items()} == {"calm": 0, "jumpy": 2, "alarmed": 4, "broken": 0}
    assert found["broken"].outcomes == {Outcome.ERRORED: 4}
    assert found["alarmed"].outcomes == {Outcome.FAILED: 4}


def test_rates_are_pooled_and_have_intervals(tmp_path: Path) -> None:
    """Detection is over defects, false alarms over sound controls, each with a Clopper-Pearson interval."""
    found = measured(tmp_path)
    assert (found.detection.estimate, found.detection.n) == (0.5, 8)
    assert (found.false_alarm.estimate, found.false_alarm.n) == (0.25, 8)
    assert found.detection.low < 0.5 < found.detection.high
    assert (found.samples, found.seeds, found.check) == (128, 4, Scripted.id)


def test_a_confounded_control_must_be_refused(tmp_path: Path) -> None:
    """Where a condition of the run is violated by design, the counted outcome is invalid."""
    gated = {**WANTED, "valid_if": [criterion("ones", at_most=0.7)]}
    found = {rate.control: rate for rate in measured(tmp_path, gated).controls}
    assert found["confused"].outcomes == {Outcome.INVALID: 4}
    assert found["confused"].expected == 4


def test_the_right_reason_counts(tmp_path: Path) -> None:
    """A control that fails by another criterion than the one it names is not detected."""
    both = scripted(criterion("level", at_most=0.7), criterion("ones", at_most=0.99))
    loaded = card(tmp_path, both)
    entry = registry().get(Scripted.id)
    (ending,) = attempt(OneTrial(entry, (Bound("toy-card", loaded.card.prescriptions[0]),), "wrong-reason", 0, 128))
    assert ending.outcome is Outcome.FAILED
    assert not ending.as_expected


def test_one_of_several_criteria_on_the_stated_measurement_is_reason_enough(tmp_path: Path) -> None:
    """A card may bound a measurement in two places; the defect is found when either of them is violated."""
    for bounds in ((0.7, 0.99), (0.99, 0.7)):
        twice = scripted(*(criterion("level", at_most=bound) for bound in bounds))
        loaded = card(tmp_path / str(bounds[0]), twice)
        entry = registry().get(Scripted.id)
        trial = OneTrial(entry, (Bound("toy-card", loaded.card.prescriptions[0]),), "alarmed", 0, 128)
        assert attempt(trial)[0].as_expected


def test_controls_that_concern_other_criteria_are_left_out(tmp_path: Path) -> None:
    """A defect that none of the prescription's criteria looks for is not held against it."""
    assert "elsewhere" not in {rate.control for rate in measured(tmp_path).controls}


def test_controls_to_which_the_check_does_not_apply_are_left_out(tmp_path: Path) -> None:
    """A control that the check would refuse with these parameters tells nothing about its error rates."""
    loaded = card(tmp_path)
    (one,) = calibrate([(loaded, loaded.card.prescriptions[0])], registry("SmallOnly"), seeds=2, samples=128)
    assert {rate.control for rate in one.rates.controls} == {"calm", "broken"}


def test_a_prescription_that_no_control_can_fail_is_refused(tmp_path: Path) -> None:
    """Without a control that has the defect there is no detection rate, and the message says so."""
    loaded = card(tmp_path)
    with pytest.raises(
        InputError, match="toy-card/itself: no control of toy/scripted shows the defect that its criteria look for"
    ):
        calibrate([(loaded, loaded.card.prescriptions[0])], registry("OnlySound"), seeds=2)


def test_prescriptions_of_one_measurement_are_decided_by_one_run_of_each_control(tmp_path: Path) -> None:
    """Alike ones are put together, defaults counted, each control runs once for all, and each is judged by its own criteria."""
    bindings = [
        WANTED,
        scripted(criterion("ones", at_most=0.7), share=0.5),
        scripted(criterion("level", at_most=0.7), share=0.3),
    ]
    loaded = toy_catalog(tmp_path, [prescription(f"p{place}", check=item) for place, item in enumerate(bindings)]).get(
        "toy-card"
    )
    chosen = [(loaded, item) for item in loaded.card.prescriptions]
    together, alone = alike(chosen, registry())
    assert [[item.id for _, item in group] for group in (together, alone)] == [["p0", "p1"], ["p2"]]
    runs: list[int] = []
    both = calibrate(together, registry(), seeds=4, samples=128, advanced=lambda: runs.append(1))
    level, ones = (one.rates for one in both)
    assert len(runs) == 4 * 6, "each control but the one that concerns neither, once for each seed"
    assert (level.prescription, ones.prescription) == ("toy-card/p0", "toy-card/p1")
    apart = measured(tmp_path / "apart")
    assert [row.outcomes for row in level.controls] == [row.outcomes for row in apart.controls]
    assert {rate.control for rate in ones.controls} == {"calm", "jumpy", "wrong-reason", "confused"}


def test_a_control_that_does_not_apply_is_built_once(tmp_path: Path) -> None:
    """Seed 0 tells that the check says nothing about it; no other seed is built."""
    runs: list[int] = []
    loaded = card(tmp_path)
    calibrate(
        [(loaded, loaded.card.prescriptions[0])],
        registry("SmallOnly"),
        seeds=3,
        samples=128,
        advanced=lambda: runs.append(1),
    )
    assert len(runs) == 4 + 2 * 2, "four controls concern it, and the check applies to two of them"


@pytest.mark.slow
def test_processes_share_the_work_and_change_nothing(tmp_path: Path) -> None:
    """Two processes find what one finds."""
    one, two = (measured(tmp_path, jobs=jobs, seeds=2) for jobs in (1, 2))
    assert one.controls == two.controls


def test_calibrations_are_kept_beside_the_card(tmp_path: Path) -> None:
    """New rates take the place of older ones of the same prescription; those of others stay, those of gone ones go."""
    loaded = card(tmp_path)
    first = measured(tmp_path)
    keep(
        loaded,
        [
            first,
            first.model_copy(update={"prescription": "toy-card/other"}),
            first.model_copy(update={"prescription": "toy-card/gone"}),
        ],
    )
    keep(loaded, [measured(tmp_path, seeds=2)])
    found = calibration.read(loaded.folder).prescriptions
    assert {slug: item.seeds for slug, item in found.items()} == {"itself": 2, "other": 4}


def test_more_seeds_continue_where_the_kept_ones_ended(tmp_path: Path) -> None:
    """Two seeds and two more are what four at once are, and only the missing ones are run."""
    at_once, runs = measured(tmp_path), list[int]()
    loaded = card(tmp_path)
    keep(loaded, [measured(tmp_path, seeds=2)])
    found = measured(tmp_path, more=True, advanced=lambda: runs.append(1))
    assert len(runs) == 2 * len(found.controls)
    assert found.model_copy(update={"seconds": 0, "measured_on": at_once.measured_on}) == at_once.model_copy(
        update={"seconds": 0}
    )
    keep(loaded, [found])
    assert measured(tmp_path, more=True, seeds=3, advanced=lambda: runs.append(1)) == found
    assert len(runs) == 2 * len(found.controls), "what is there already is left as it is"


def test_more_seeds_leave_the_first_runs_where_they_are(tmp_path: Path) -> None:
    """What pages show of each control is its first run, though only later ones were made now; those of changed controls go."""
    loaded = card(tmp_path)
    first = found(tmp_path, seeds=1)
    keep(loaded, [first.rates])
    keep_runs(loaded, [first])
    keep_runs(loaded, [found(tmp_path, more=True, seeds=2)])
    kept = control_runs.read(loaded.folder).prescriptions["itself"]
    assert kept.controls == first.runs.controls
    calm = kept.controls[0].model_copy(update={"description": "Much was wrong."})
    changed = first.runs.model_copy(update={"controls": (calm, *kept.controls[1:])})
    control_runs.write(loaded.folder, {"itself": changed}, [], frozenset({"itself"}))
    keep_runs(loaded, [found(tmp_path, more=True, seeds=2)])
    assert control_runs.read(loaded.folder).prescriptions["itself"].controls == first.runs.controls[1:]


def test_more_seeds_count_where_estimates_were_not_kept(tmp_path: Path) -> None:
    """Runs of before estimates were kept count in the rates, and leave a gap among the estimates."""
    kept = measured(tmp_path, seeds=2)
    bare = tuple(rates.model_copy(update={"estimates": ()}) for rates in kept.controls)
    keep(card(tmp_path), [kept.model_copy(update={"controls": bare})])
    whole = {rates.control: rates for rates in measured(tmp_path).controls}
    for rates in measured(tmp_path, more=True).controls:
        assert (rates.expected, rates.runs) == (whole[rates.control].expected, 4)
        for estimates, all_of_them in zip(rates.estimates, whole[rates.control].estimates, strict=True):
            assert estimates.values == (None, None, *all_of_them.values[2:])


def test_more_seeds_start_over_where_something_changed(tmp_path: Path) -> None:
    """Runs by other criteria, on other examples, or on what a control of this name was before, are not counted."""
    kept = measured(tmp_path)
    calm, *others = kept.controls
    other_control = kept.model_copy(
        update={"controls": (calm.model_copy(update={"description": "Much was wrong.", "expected": 3}), *others)}
    )
    for changed, fresh in (
        (other_control, 1),
        (kept.model_copy(update={"digest": "other"}), len(kept.controls)),
        (kept.model_copy(update={"check_version": "0"}), len(kept.controls)),
        (kept.model_copy(update={"samples": 64}), len(kept.controls)),
    ):
        runs: list[int] = []
        keep(card(tmp_path), [changed])
        found = measured(tmp_path, more=True, advanced=lambda runs=runs: runs.append(1))
        assert found.controls == kept.controls
        assert len(runs) == 4 * fresh


def test_more_seeds_on_another_machine_name_both(tmp_path: Path) -> None:
    """Rates that rest on two versions of a package say so."""
    kept = measured(tmp_path, seeds=2)
    keep(card(tmp_path), [kept.model_copy(update={"environment": {**kept.environment, "torch": "2.6.0"}})])
    found = measured(tmp_path, more=True)
    assert found.environment == {**kept.environment, "torch": f"2.6.0 and {kept.environment['torch']}"}


def test_prescriptions_of_one_measurement_may_lack_different_seeds(tmp_path: Path) -> None:
    """Each is given the seeds that it lacks, from runs that they share where both lack them."""
    bindings = [WANTED, scripted(criterion("ones", at_most=0.7))]
    loaded = toy_catalog(tmp_path, [prescription(f"p{place}", check=item) for place, item in enumerate(bindings)]).get(
        "toy-card"
    )
    chosen = [(loaded, item) for item in loaded.card.prescriptions]
    whole = calibrate(chosen, registry(), seeds=3, samples=128)
    for part, seeds in ((chosen[:1], 2), (chosen[1:], 1)):
        keep(loaded, [item.rates for item in calibrate(part, registry(), seeds=seeds, samples=128)])
    runs: list[int] = []
    found = calibrate(chosen, registry(), seeds=3, samples=128, more=True, advanced=lambda: runs.append(1))
    for some, at_once in zip(
        found, whole, strict=True
    ):  # a run for both goes on until both are decided, so that estimates differ
        for rates, others in zip(some.rates.controls, at_once.rates.controls, strict=True):
            assert rates.model_copy(update={"estimates": others.estimates}) == others
    assert len(runs) == 4 + 6, "the second seed on the four controls of the second, the third on the six of both"


def test_bundled_rates_are_of_the_controls_that_are_there() -> None:
    """A control that was changed after it was measured would lend its old rates to the new one."""
    checks = Registry.installed()
    for loaded in Catalog.installed([]):
        for slug, found in calibration.read(loaded.folder).prescriptions.items():
            controls = {control.name: control for control in checks.get(found.check).load().controls()}
            changed = [rates.control for rates in found.controls if not rates.is_of(controls[rates.control])]
            assert not changed, f"{loaded.card.id}/{slug}: calibrate again with --more"


def test_rates_are_of_the_criteria_that_they_were_measured_with(tmp_path: Path) -> None:
    """Another bound, another parameter or another version of the check makes error rates out of date."""
    binding = card(tmp_path).card.prescriptions[0].check
    other = card(tmp_path, scripted(criterion("level", at_most=0.8))).card.prescriptions[0].check
    again = card(tmp_path, scripted(criterion("level", at_most=0.7), share=0.6)).card.prescriptions[0].check
    assert binding is not None
    assert other is not None
    assert again is not None
    assert len({calibration.digest(binding), calibration.digest(other), calibration.digest(again)}) == 3
    found = measured(tmp_path)
    assert found.is_current("1", calibration.digest(binding))
    assert not found.is_current("2", calibration.digest(binding))
    assert not found.is_current("1", calibration.digest(other))


def test_a_damaged_calibration_says_what_to_do(tmp_path: Path) -> None:
    """A file that is no calibration is refused; none at all is no error."""
    assert calibration.read(tmp_path).prescriptions == {}
    (tmp_path / calibration.FILE).write_text('{"prescriptions": 3}', encoding="utf-8")
    with pytest.raises(InputError, match=r"is damaged: prescriptions: .*; run `method-cards calibrate` again"):
        calibration.read(tmp_path)
    (tmp_path / calibration.FILE).unlink()
    (tmp_path / calibration.FILE).mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        calibration.read(tmp_path)


def test_what_each_run_found_is_kept_by_seed(tmp_path: Path) -> None:
    """For each criterion and condition: the estimate of each seed, and how far its interval lies beyond the bound, None without a verdict."""
    gated = {**WANTED, "valid_if": [criterion("ones", at_most=0.7)]}
    rates = {rate.control: rate for rate in measured(tmp_path, gated).controls}
    level, ones = rates["jumpy"].estimates
    assert (level.measurement, ones.measurement) == ("level", "ones")
    assert level.values[1] == pytest.approx(0.9, abs=0.01)
    assert all(value is not None and value > 0 for value in ones.beyond[1::2]), "the condition is violated"
    assert level.beyond[1::2] == (None, None), "where a condition does not hold there is no verdict"
    assert rates["broken"].estimates[0].values == (None,) * 4
    (calm,) = {rate.control: rate for rate in measured(tmp_path / "apart").controls}["calm"].estimates
    assert all(value is not None and value < 0 for value in calm.beyond)


def test_a_run_is_beyond_the_bound_exactly_when_its_criterion_failed(tmp_path: Path) -> None:
    """The counted verdicts follow from the kept numbers."""
    for rate in measured(tmp_path).controls:
        (kept,) = rate.estimates
        assert sum(value is not None and value > 0 for value in kept.beyond) == rate.outcomes.get(Outcome.FAILED, 0)


def test_calibrations_survive_the_file_and_files_of_before_are_read(tmp_path: Path) -> None:
    """What is written is read again, numbers of all seeds on one line; a file without them is as good as ever."""
    loaded = card(tmp_path)
    first = measured(tmp_path)
    path = Path(keep(loaded, [first]))
    assert calibration.read(loaded.folder).prescriptions["itself"] == first
    assert re.search(r'"values": \[0\.\d+, 0\.\d+, 0\.\d+, 0\.\d+\]', path.read_text(encoding="utf-8"))
    data = json.loads(path.read_bytes())
    for row in data["prescriptions"]["itself"]["controls"]:
        del row["estimates"]
    path.write_text(json.dumps(data), encoding="utf-8")
    old = calibration.read(loaded.folder).prescriptions["itself"]
    assert old.detection == first.detection
    assert all(row.estimates == () for row in old.controls)


def test_the_first_run_of_each_control_is_kept_to_be_shown(tmp_path: Path) -> None:
    """Its verdict and intervals come back as they were, with the words of the card; the same seed gives the same file."""
    loaded = card(tmp_path)
    binding = loaded.card.prescriptions[0].check
    assert binding is not None
    one = found(tmp_path, seeds=1)
    path = Path(keep_runs(loaded, [one]))
    kept = control_runs.read(loaded.folder).prescriptions["itself"]
    assert kept == one.runs
    runs = {run.control: run for run in kept.controls}
    assert {name: (run.outcome.value, run.is_expected) for name, run in runs.items()} == {
        "calm": ("passed", True),
        "jumpy": ("inconclusive", True),
        "alarmed": ("failed", True),
        "broken": ("errored", False),
    }
    assert "broken" not in runs["alarmed"].reason
    assert runs["broken"].reason
    ((result,), gates) = kept.results(runs["alarmed"], binding)
    assert gates == ()
    assert (result.claim, result.bound, result.high_bound, result.outcome) == (
        binding.criteria[0].claim,
        "≤ 0.7",
        0.7,
        Outcome.FAILED,
    )
    assert result.interval is not None
    assert result.interval.low > 0.7
    before = path.read_bytes()
    keep_runs(loaded, [found(tmp_path, seeds=1)])
    assert path.read_bytes() == before
    assert kept.is_current("1", calibration.digest(binding))
    assert not kept.is_current("2", calibration.digest(binding))


def test_runs_of_other_prescriptions_stay(tmp_path: Path) -> None:
    """New runs take the place of older ones of the same prescription; those of prescriptions that are gone are dropped."""
    loaded = card(tmp_path)
    one = found(tmp_path, seeds=1)
    others = [
        dataclasses.replace(one, runs=one.runs.model_copy(update={"prescription": f"toy-card/{slug}"}))
        for slug in ("other", "gone")
    ]
    keep_runs(loaded, others)
    keep_runs(loaded, [one])
    assert set(control_runs.read(loaded.folder).prescriptions) == {"itself", "other"}


def test_a_damaged_file_of_control_runs_says_what_to_do(tmp_path: Path) -> None:
    """A file that holds no control runs is refused; none at all is no error."""
    assert control_runs.read(tmp_path).prescriptions == {}
    (tmp_path / control_runs.FILE).write_text('{"prescriptions": 3}', encoding="utf-8")
    with pytest.raises(InputError, match="calibrate --once"):
        control_runs.read(tmp_path)


def pictures(size: int = 8, columns: int = 3) -> Pictures:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4, columns, size, size)).astype(np.float32)
    titles = tuple(f"stage {place}" for place in range(columns))
    return Pictures("maps", "Look at this.", titles, tuple("abcd"), values, (False, *[True] * (columns - 1)))


def test_kept_pictures_are_the_pictures_in_steps() -> None:
    """Each array comes back within half a step of its own scale: zero stays zero where it has a meaning."""
    made = pictures()
    back = control_runs.KeptPictures.of(made).pictures()
    assert (back.columns, back.rows, back.signed) == (made.columns, ("a", "b"), made.signed)
    for row in range(2):
        for column, signed in enumerate(made.signed):
            original = made.values[row, column] - (0 if signed else made.values[row, column].min())
            scale = np.abs(original).max() / control_runs.LEVELS
            assert np.abs(back.values[row, column] * scale - original).max() <= 0.5001 * scale


def test_kept_pictures_are_small() -> None:
    """Large arrays become means of blocks, and of many columns a few are kept, the first and the last among them."""
    kept = control_runs.KeptPictures.of(pictures(size=100, columns=9))
    assert kept.shape == (2, 5, 14, 14)
    assert (kept.columns[0], kept.columns[-1]) == ("stage 0", "stage 8")
    strips = Pictures("maps", "x", ("a",), ("b",), np.ones((1, 1, 70), dtype=np.float32), (True,))
    assert control_runs.KeptPictures.of(strips).pictures().values.shape == (1, 1, 14)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": "!"},
        {"steps": "eJwDAAAAAAE="},
        {"shape": (2, 3, 9000, 9000)},
        {"shape": (2, 3, -1, 8)},
        {"columns": ("a",)},
    ],
)
def test_kept_pictures_that_are_damaged_are_refused(change: dict[str, Any]) -> None:
    """What is not as large as it says, or larger than anything that is kept, is never unpacked into a picture."""
    with pytest.raises(InputError, match="cannot be read"):
        control_runs.KeptPictures.of(pictures()).model_copy(update=change).pictures()


def test_controls_are_run_once_without_touching_error_rates(tmp_path: Path) -> None:
    """`--once` writes the runs that pages show, says what became of them, and leaves calibrations as they are."""
    loaded = card(tmp_path)
    keep(loaded, [measured(tmp_path, seeds=2)])
    before = (loaded.folder / calibration.FILE).read_bytes()
    output = io.StringIO()
    chosen = [(loaded, loaded.card.prescriptions[0])]
    progress.calibrate(chosen, registry(), seeds=50, jobs=1, console=Console(file=output, width=200), once=True)
    assert (loaded.folder / calibration.FILE).read_bytes() == before
    runs = control_runs.read(loaded.folder).prescriptions["itself"].controls
    assert {run.control for run in runs} == {"calm", "jumpy", "alarmed", "broken"}
    assert "defect: alarmed: failed" in output.getvalue()
    assert "Of " not in output.getvalue(), "one run of each says nothing about rates"

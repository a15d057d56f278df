"""What the cells of a written notebook call: one line runs a check on the chosen model, one takes down an answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from method_cards.engine import run_project
from method_cards.errors import InputError
from method_cards.execution import Options
from method_cards.plan import Bound, verdict_of
from method_cards.project import Project
from method_cards.record import Record
from method_cards.render.watch import watching
from method_cards.verdict import Outcome, Verdict, answer_from

KEPT = Path(".cache/method-cards/notebooks")
"""Where runs of single checks are kept, within the project: the newest whole run stays what pages show."""


class Checklist:
    """The prescriptions of one subject of a project.

    Args:
        project: ``method-cards.yaml`` or its folder.
        subject: The subject's name in it.

    Raises:
        InputError: There is no such project or subject, or something in it is wrong.
    """

    def __init__(self, project: Path | str, subject: str) -> None:
        loaded = Project.load(project)
        loaded.subject_config(subject)
        self._project = replace(loaded, config=loaded.config.model_copy(update={"records": KEPT}))
        self._subject = subject

    def run(
        self, prescription: str, *, samples: int | None = None, seed: int | None = None, device: str = "auto"
    ) -> Record:
        """Decide a prescription again; its record, which shows itself, is kept apart from whole runs.

        Args:
            prescription: ``card/prescription``; or a card, to decide all of its prescriptions.
            samples: How many examples are measured at most; the project's own where None.
            seed: Every random number follows from it; the project's own where None.
            device: ``auto``, ``cpu``, ``cuda`` or ``mps``.

        Raises:
            InputError: The subject cannot be built, or something named does not exist.
        """
        card, slash, _ = prescription.partition("/")
        only = [prescription] if slash else []
        options = Options(device=device, seed=seed, samples=samples, cards=[card], only=only)
        with watching() as watcher:
            return run_project(self._project, self._subject, options, watcher)

    def answer(self, prescription: str, *, answer: str = "", by: str = "", on: str = "", evidence: str = "") -> Verdict:
        """Look at an answer to a question that only a person can answer; ``method-cards notebook collect`` takes it over.

        Args:
            prescription: ``card/prescription``.
            answer: What the answer is.
            by: Who gives it.
            on: The day, as ``2026-03-01``.
            evidence: Where the evidence is: a path, a link, a ticket.

        Returns:
            The verdict as it would be, which shows itself.

        Raises:
            InputError: There is no such question, or the answer is not complete.
        """
        bound = self._question(prescription)
        waiting = verdict_of(bound, Outcome.UNANSWERED, "Nobody has answered this yet.")
        fields = {"answer": answer, "by": by, "on": on, "evidence": evidence}
        return waiting.answered(answer_from(fields)) if any(fields.values()) else waiting

    def _question(self, prescription: str) -> Bound:
        card, _, slug = prescription.partition("/")
        for item in self._project.catalog.get(card).card.prescriptions:
            if item.id == slug and item.question is not None:
                return Bound(card, item)
        raise InputError(f'the card "{card}" asks no question "{prescription}"')

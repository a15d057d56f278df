"""The card: what to do about one method, technique or failure mode, and why.

A card is data: a YAML file with these fields and no others. Two invariants make it more than a description: it has at
least one prescription and one failure mode, and every prescription is verified by a check with criteria or by a
question to a person.

Checks are bound where they verify something: in the prescriptions. There is no separate section of checks. Results are
what a run finds; they stand in records and never in a card.
"""

from method_cards.card.card import Card
from method_cards.card.governance import BibliographyEntry, Example, RelatedCard
from method_cards.card.judgement import Diagnostic, FailureMode
from method_cards.card.part import Part, Rating, Stage
from method_cards.card.prescription import AppliesWhen, Level, Mapping, Prescription, Remediation
from method_cards.card.references import cited, prescription_id
from method_cards.card.verification import CheckBinding, Criterion, Evidence, Question, Source

__all__ = [
    "AppliesWhen",
    "BibliographyEntry",
    "Card",
    "CheckBinding",
    "Criterion",
    "Diagnostic",
    "Evidence",
    "Example",
    "FailureMode",
    "Level",
    "Mapping",
    "Part",
    "Prescription",
    "Question",
    "Rating",
    "RelatedCard",
    "Remediation",
    "Source",
    "Stage",
    "cited",
    "prescription_id",
]

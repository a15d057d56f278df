"""How a check is run, and judged by the criteria of its card, in tests."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from method_cards import judge
from method_cards.catalog import Catalog
from method_cards.check import Check, Context
from method_cards.execution import Options, Silent, measure
from tests.helpers import step

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from method_cards.card import CheckBinding
    from method_cards.judge import Judged
    from method_cards.measurement import Measurements
    from method_cards.subject import Subject


@cache
def bound(check: str) -> CheckBinding:
    """How the bundled cards use this check; the first use, where there are several."""
    return next(
        item.check
        for loaded in Catalog.installed()
        for item in loaded.card.prescriptions
        if item.check is not None and item.checked_as is None and item.check.id == check
    )


def run(
    check: Check, subject: Subject, *, samples: int = 256, seed: int = 0, batch: int = 64
) -> tuple[str, str, Measurements]:
    """Measure without stopping early."""
    wanted = bound(check.id).model_dump(by_alias=True, exclude_unset=True)
    context = Context(subject, samples, seed, batch, scope=check.id)
    return measure(step(check, wanted), context, Options(exhaustive=True), Silent())


def values(check: Check, subject: Subject, **options: Any) -> dict[str, NDArray[np.float64]]:
    """All measurements by name; those that are broken down are left out."""
    status, cause, found = run(check, subject, **options)
    assert (status, cause) == ("complete", "")
    return {series.name: series.values for series in found if not series.by}


def series(found: Measurements, name: str) -> NDArray[np.float64]:
    """The values of one quantity that is not broken down."""
    return found.select(name, {})[0].values


def judged(check: Check, subject: Subject, **options: Any) -> Judged:
    """The verdict by the card's criteria."""
    status, cause, found = run(check, subject, **options)
    assert (status, cause) == ("complete", "")
    return judge.judge(bound(check.id), found, complete=True)


@cache
def control(kind: type[Check], name: str, seed: int = 0) -> Subject:
    """A control of the check; it is shared, and no test changes it."""
    return next(item for item in kind.controls() if item.name == name).build(seed)


def names(kind: type[Check], of: str) -> list[str]:
    """The controls of this kind."""
    return [item.name for item in kind.controls() if item.kind == of]


def reason(kind: type[Check], name: str) -> str:
    """What the control must violate."""
    return next(item for item in kind.controls() if item.name == name).because

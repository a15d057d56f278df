"""Which day it is: the one place that everything asks that depends on it, such as whether a waiver still holds."""

from __future__ import annotations

import datetime as dt


def today() -> dt.date:
    """The day in UTC, so that it is the same for everybody who reads one page."""
    return dt.datetime.now(dt.UTC).date()

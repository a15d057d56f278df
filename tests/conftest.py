"""One thread for each process that computes: tests run side by side, and threads that spin make a shared machine crawl."""

from __future__ import annotations

import datetime as dt
import os
import signal
import threading
from collections.abc import Iterator

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded, and for every process that a test starts
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["NO_MKDOCS_2_WARNING"] = "1"

if threading.current_thread() is threading.main_thread():
    # A shell that starts the tests in the background has them ignore Ctrl-C, and all that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)

TODAY = dt.date(2026, 4, 1)
"""The day on which the tests take place, so that a waiver in them holds or has expired for ever."""


@pytest.fixture(scope="session", autouse=True)
def today() -> Iterator[dt.date]:
    """Time stands still for what depends on the day."""
    from method_cards import clock

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "today", lambda: TODAY)
        yield TODAY

"""One thread for each process that computes: tests run side by side, and threads that spin make a shared machine crawl."""

from __future__ import annotations

import os
import signal
import threading

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded, and for every process that a test starts
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["NO_MKDOCS_2_WARNING"] = "1"

if threading.current_thread() is threading.main_thread():
    # A shell that starts the tests in the background has them ignore Ctrl-C, and all that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)

"""How long a person waits before anything happens: ``method-cards --help`` should take under 0.4 s.

Run: ``python -m benchmarks.start_up``.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

AIM = 0.4

CASES = {
    "python -c pass": ("-c", "pass"),
    "import method_cards": ("-c", "import method_cards"),
    "import method_cards and all its names": (
        "-c",
        "import method_cards; [getattr(method_cards, name) for name in method_cards.__all__]",
    ),
    "method-cards --help": ("-m", "method_cards.cli", "--help"),
    "method-cards run --help": ("-m", "method_cards.cli", "run", "--help"),
    "method-cards --version": ("-m", "method_cards.cli", "--version"),
    "method-cards list": ("-m", "method_cards.cli", "list"),
    "method-cards show integrated-gradients": ("-m", "method_cards.cli", "show", "integrated-gradients"),
    "method-cards validate": ("-m", "method_cards.cli", "validate"),
    "import torch": ("-c", "import torch"),
}
"""What is timed, in a fresh interpreter each time."""


def main() -> None:
    """Print the least and the median of several starts, and whether torch was loaded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds: int = parser.parse_args().rounds
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for number in range(rounds + 1):
        for name, arguments in CASES.items():
            seconds = started(arguments)
            if number:
                times[name].append(seconds)
    print(f"{'seconds from start to end':<42}{'least':>8}{'median':>8}  torch")
    for name, arguments in CASES.items():
        star = "*" if name.endswith("--help") and min(times[name]) > AIM else " "
        loaded = "loaded" if loads_torch(arguments) else "not loaded"
        print(f"{name:<42}{min(times[name]):>7.3f}{star}{statistics.median(times[name]):>8.3f}  {loaded}")


def started(arguments: Sequence[str]) -> float:
    """Wall seconds of one process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, cwd="/")
    return time.perf_counter() - began


def loads_torch(arguments: Sequence[str]) -> bool:
    """Whether torch is imported on the way."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], check=True, capture_output=True, text=True, cwd="/"
    )
    return any(line.rpartition("|")[2].strip() == "torch" for line in done.stderr.splitlines())


if __name__ == "__main__":
    main()

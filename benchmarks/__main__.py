"""Run all benchmarks, one after the other, each in a process of its own: ``python -m benchmarks``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    """Run them; the status is that of the worst."""
    status = 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    for path in sorted(HERE.glob("[!_]*.py")):
        print(f"\n== {path.stem}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{path.stem}"], cwd=HERE.parent, env=environment, check=False
        )
        status = max(status, done.returncode)
    raise SystemExit(status)


if __name__ == "__main__":
    main()

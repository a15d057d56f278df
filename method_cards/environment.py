"""What a run ran on: versions, platform, revision of the person's code."""

from __future__ import annotations

import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, and the platform."""
    found = {"python": sys.version.split()[0], "platform": platform.platform(terse=True), "machine": platform.machine()}
    found |= _packages()
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        if torch.cuda.is_available():
            found["cuda"] = str(torch.version.cuda)
            found["gpu"] = torch.cuda.get_device_name()
        found["threads"] = str(torch.get_num_threads())
    return found


@cache
def _packages() -> dict[str, str]:
    """Versions of the installed packages; read once, since it takes as long as a small check."""
    found = {}
    for package in ("method-cards", "torch", "numpy", "scipy", "scikit-learn", "transformers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_revision(folder: Path) -> str:
    """The revision of the folder, with ``+`` when it has uncommitted changes; empty outside git."""

    def git(*arguments: str) -> str:
        done = subprocess.run(  # noqa: S603  (fixed program, no shell)
            ["git", "-C", str(folder), *arguments],  # noqa: S607  (the person's own git)
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""

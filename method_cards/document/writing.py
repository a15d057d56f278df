"""Files that this package writes: whole or not at all."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """Write a file that others see when it is complete, and that stays as it was when something goes wrong.

    Args:
        path: The file.

    Yields:
        Where its bytes go.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        with temporary.open("wb") as handle:  # unlike tempfile's, readable for whoever may read the folder
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

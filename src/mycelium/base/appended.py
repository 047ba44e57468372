"""The logs that the processes of a site leave in its home: appended to, and begun anew when they have grown long."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import BinaryIO

from mycelium.base.limits import PROCESS_LOG_BYTES_MAX


def appended(path: Path) -> BinaryIO:
    """Opened for appending. What is too long is put aside as `.old`, in the place of what was put aside before."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > PROCESS_LOG_BYTES_MAX:
            path.rename(path.with_name(f"{path.name}.old"))
    return path.open("ab")

"""What naked steps leave behind when their shim was killed. (A sandbox takes its own along.)"""


# Paths are strings here, because this runs at the start of every step.
# ruff: noqa: PTH115

from __future__ import annotations

import os
import signal
from pathlib import Path

from mycelium.sandbox import usage

ENVIRONMENT_BYTES_MAX = 1 << 18


def end_strays(directory: Path) -> int:
    """Kill the processes whose environment or working directory is in this step's directory; how many there were."""
    mark = os.fsencode(directory) + b"/"
    found = 0
    for pid in usage.pids():
        if pid != os.getpid() and _is_stray(pid, mark):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
            found += 1
    return found


def _is_stray(pid: int, mark: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            if mark in file.read(ENVIRONMENT_BYTES_MAX):
                return True
        return (os.fsencode(os.readlink(f"/proc/{pid}/cwd")) + b"/").startswith(mark)
    except OSError:
        return False

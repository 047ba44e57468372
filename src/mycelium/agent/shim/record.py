"""A step's directory: what is in it, and how each file is written so that a crash at any moment leaves the truth.

```
steps/<step>/spec        what to run; written last of all preparations: with it, the step is accepted
             pid         who runs it; made once and never again, so that a step is never started twice
             stop        the grace period of the latest order to stop
             status      how it ended, by the shim; written once
             ended       the same after outputs and logs were collected, by the agent
             stdout.N    the log from byte N on, likewise stderr.N
             work/       the step's own
```
Standard library only: the shim uses it too.
"""


# Paths are strings here, because this runs at the start of every step.
# ruff: noqa: PTH104, PTH118

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

from mycelium.base import files
from mycelium.engine.step_files import PID, STATUS, STOP
from mycelium.sandbox import process

RESERVED = "status.reserved"  # real blocks on the disk, so that the status can be written when the disk is full
RESERVED_BYTES = 4096


def claim(directory: str, started_ns: int) -> bool:
    """Enter this process as the one that runs the step. False: another one was first, and this one must not run it."""
    return _enter(directory, process.this(started_ns))


def fence(directory: str) -> process.Process | None:
    """Make sure that no shim begins this step from now on, and return the one that already has, if any."""
    _enter(directory, process.NOBODY)
    found = process.read(os.path.join(directory, PID))
    return None if found == process.NOBODY else found


def _enter(directory: str, who: process.Process) -> bool:
    try:
        with files.whole(os.path.join(directory, PID), once=True) as file:
            file.write(who.encode())
    except FileExistsError:
        return False
    return True


def reserve_status(directory: str) -> None:
    fd = os.open(os.path.join(directory, RESERVED), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _write_all(fd, b" " * RESERVED_BYTES)
    finally:
        os.close(fd)


def write_status(directory: str, status: dict[str, Any]) -> None:
    """Make the status durable. It takes the place that was reserved, so a full disk does not matter."""
    reserved = os.path.join(directory, RESERVED)
    fd = os.open(reserved, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Padded with blanks, which JSON ignores: truncating first would give the blocks away.
        _write_all(fd, json.dumps(status).encode().ljust(RESERVED_BYTES))
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(reserved, os.path.join(directory, STATUS))


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def grace_ms(directory: str, default_ms: int) -> int:
    """What the latest order to stop allows."""
    with contextlib.suppress(OSError, ValueError), open(os.path.join(directory, STOP)) as file:
        return max(0, int(file.read(32)))
    return default_ms

"""A file that one process has at a time, and that says which. The kernel frees it when that one ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from mycelium.sandbox import process


def take(path: Path) -> int | None:
    """The descriptor that holds it for as long as it is open; None while another process has it.

    Errors: `OSError`, of a full disk.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.write(fd, process.this(time.time_ns()).encode())
    except BlockingIOError:
        os.close(fd)
        return None
    except OSError:
        os.close(fd)
        raise
    return fd

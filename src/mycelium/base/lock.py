"""A file that one process has at a time, and that says which. However that process ends, the kernel frees the file.

Ours and not a library's: it is these few lines, and naming the holder is what libraries leave out.
Never: waits, but for `waiting`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Generator

WORDS_BYTES_MAX = 4096


class Busy(Exception):
    """Another process has it. `who` is what that one says of itself in the file; empty when it says nothing."""

    def __init__(self, who: str) -> None:
        super().__init__(f"held by {who or 'another process'}")
        self.who = who


def take(path: str | os.PathLike[str], says: bytes | None = None) -> int:
    """Hold it for as long as the descriptor is open, here or in a child that was given it.

    `says` becomes the content of the file; without it the file stays as it is. Errors: `Busy`; `OSError`.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if says is not None:
            os.ftruncate(fd, 0)
            os.pwrite(fd, says, 0)
    except BlockingIOError:
        who = _words(fd)
        os.close(fd)
        raise Busy(who) from None
    except BaseException:
        os.close(fd)
        raise
    return fd


def this_process() -> bytes:
    """The least that a holder says of itself: its number."""
    return f"{os.getpid()}\n".encode()


def holder(path: str | os.PathLike[str]) -> str | None:
    """What the process says of itself that has it; None when none has. Errors: `OSError`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared, so that two who ask do not hinder each other
    except BlockingIOError:
        return _words(fd)
    else:
        return None
    finally:
        os.close(fd)


@contextlib.contextmanager
def waiting(path: str | os.PathLike[str], *, shared: bool = False) -> Generator[None]:
    """Have it in the block, after a wait for whoever has it: alone, or `shared` with others who share it."""
    # Opened anew each time: two threads that shared one open file would share its lock.
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _words(fd: int) -> str:
    return os.pread(fd, WORDS_BYTES_MAX, 0).decode(errors="replace").strip()

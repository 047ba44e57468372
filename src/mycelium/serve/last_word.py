"""What a head says when it must end without being asked to: a few words in the home, where `myc` finds them.

The room for them is taken while there is some, because a full disk is a likely reason.
Never: written by a head that was told to stop.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from mycelium.base.errors import Problem
from mycelium.base.home import Home

ROOM_BYTES = 1024  # a message with its path


class LastWord:
    """The file, open and as long as it will ever be."""

    def __init__(self, home: Path) -> None:
        self._fd = os.open(Home(home).last_word, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(OSError):  # no room: then there is none for a last word either
            self._write("")

    def say(self, error: BaseException) -> None:
        said = error.message if isinstance(error, Problem) else f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError):
            self._write(said)

    def close(self) -> None:
        os.close(self._fd)

    def _write(self, text: str) -> None:
        data = text.encode(errors="replace")[:ROOM_BYTES]
        os.pwrite(self._fd, data.ljust(ROOM_BYTES), 0)
        os.fsync(self._fd)

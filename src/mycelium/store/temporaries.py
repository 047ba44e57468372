"""Names for files that are still being written, and the end of those whose writer died.

Every process that writes holds a lock on a file of its own for as long as it lives. A temporary file whose owner's lock
can be had was left behind, however young it is; one whose owner lives is never touched, however long it takes.
"""

from __future__ import annotations

import itertools
import os
import secrets
import threading
import weakref
from contextlib import suppress
from pathlib import Path

from mycelium.base import lock


class Temporaries:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count(1)
        self._owning = threading.Lock()
        self._owner = ""

    def new(self) -> Path:
        """A path that no other writer uses."""
        with self._owning:
            if not self._owner:
                self._owner = self._own()
        # A forked child shares its parent's lock; the process id tells their files apart.
        return self._directory / f"{self._owner}.{os.getpid()}-{next(self._numbers)}"

    def sweep(self) -> int:
        """Remove the files that dead writers left behind; return how many those were."""
        owners = {path.name.split(".", 1)[0] for path in self._directory.iterdir()}
        return sum(self._sweep_of(owner) for owner in owners if owner != self._owner)

    def _sweep_of(self, owner: str) -> int:
        locked = self._directory / f"{owner}.lock"
        try:
            held = lock.take(locked)
        except lock.Busy:
            return 0  # its owner lives
        try:
            left = list(self._directory.glob(f"{owner}.*-*"))
            for path in left:
                path.unlink(missing_ok=True)
            locked.unlink(missing_ok=True)
            return len(left)
        finally:
            os.close(held)

    def _own(self) -> str:
        while True:
            owner = secrets.token_hex(8)
            with suppress(lock.Busy):  # a sweep came between and took the new file for a dead writer's
                held = lock.take(self._directory / f"{owner}.lock")
                if os.fstat(held).st_nlink:
                    weakref.finalize(self, os.close, held)
                    return owner
                os.close(held)

"""Opening what lies below a directory without ever leaving it.

Every component is opened by itself, relative to the one before, and never through a link. Whoever owns the directory
may rename, replace and link what he likes meanwhile: that gives an error, and never a file elsewhere.

Never: resolves a path of more than one component.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# NONBLOCK: a fifo that took the file's place, or a file under a lease, must not make the reader wait.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Below:
    """The directories below `root`, of which the chain to the last one asked for is kept open."""

    def __init__(self, root: Path) -> None:
        self._fds = [os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
        self._names: list[str] = []
        self.device = os.fstat(self._fds[0]).st_dev

    def directory(self, path: str) -> int:
        """A descriptor of the directory `path` ("" is the root), good until the next call."""
        names = path.split("/") if path else []
        same = 0
        while same < min(len(names), len(self._names)) and names[same] == self._names[same]:
            same += 1
        self._shorten(same)
        for name in names[same:]:
            self._fds.append(os.open(name, _DIRECTORY, dir_fd=self._fds[-1]))
            self._names.append(name)
        return self._fds[-1]

    def parent(self, path: str) -> tuple[int, str]:
        """A descriptor of the directory that `path` lies in, and its name there."""
        directory, _, name = path.rpartition("/")
        return self.directory(directory), name

    def open_file(self, path: str) -> int:
        """A descriptor of a regular file. Errors: `OSError`, also when it is no regular file (any more)."""
        directory, name = self.parent(path)
        fd = os.open(name, _READ, dir_fd=directory)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise FileNotFoundError(f"{path} is no longer a regular file")
        return fd

    def close(self) -> None:
        self._shorten(0)
        os.close(self._fds.pop())

    def _shorten(self, length: int) -> None:
        while len(self._names) > length:
            os.close(self._fds.pop())
            self._names.pop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

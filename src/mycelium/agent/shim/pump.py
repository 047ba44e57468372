"""A step's log on disk: segments named for the byte that they begin with; the oldest go when there are too many.

Never: makes a payload wait. What cannot be written (the disk is full) is dropped, and shows as a gap in the offsets.
Standard library only: the shim uses it.
"""


# Paths are strings here, because this runs at the start of every step.
# ruff: noqa: PTH108, PTH118, PTH208

from __future__ import annotations

import contextlib
import os

from mycelium.base.limits import LOG_BYTES_MAX, LOG_SEGMENT_BYTES

READ_BYTES = 1 << 16


def segments(directory: str, stream: str) -> list[tuple[int, str]]:
    """Start and path of each segment, in order."""
    prefix = f"{stream}."
    found: list[tuple[int, str]] = []
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            rest = name.removeprefix(prefix)
            if rest != name and rest.isdigit():
                found.append((int(rest), os.path.join(directory, name)))
    return sorted(found)


class StreamLog:
    """The writing end of one stream."""

    def __init__(
        self, directory: str, stream: str, *, bytes_max: int = LOG_BYTES_MAX, segment_bytes: int = LOG_SEGMENT_BYTES
    ) -> None:
        self._directory = directory
        self.stream = stream
        self._bytes_max = bytes_max
        self._segment_bytes = segment_bytes
        self._fd = -1
        self._left_bytes = 0  # room in the open segment
        self._kept: list[tuple[int, str]] = []
        self.offset = 0  # of the next byte
        self.dropped_bytes = 0

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                if self._left_bytes <= 0:
                    self._begin()
                written = os.write(self._fd, view[: self._left_bytes])
            except OSError:
                # The next write begins a segment at its own offset, so that what is kept stays in its place.
                self.close()
                if self._kept and self._kept[-1][0] == self.offset:  # nothing came into it
                    self._drop_newest()
                self.dropped_bytes += len(view)
                self.offset += len(view)
                return
            self.offset += written
            self._left_bytes -= written
            view = view[written:]

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._left_bytes = -1, 0

    def give_up_oldest(self) -> bool:
        """Free the space of one segment; False when none is left."""
        if not self._kept:
            return False
        self.close()
        with contextlib.suppress(OSError):
            os.unlink(self._kept.pop(0)[1])
        return True

    def _drop_newest(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._kept.pop()[1])

    def _begin(self) -> None:
        self.close()
        path = os.path.join(self._directory, f"{self.stream}.{self.offset}")
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._left_bytes = self._segment_bytes
        if not self._kept or self._kept[-1][1] != path:
            self._kept.append((self.offset, path))
        while len(self._kept) > 1 and self.offset + self._segment_bytes - self._kept[0][0] > self._bytes_max:
            with contextlib.suppress(OSError):
                os.unlink(self._kept.pop(0)[1])

"""Objects on their way into a directory: written to a temporary file, hashed meanwhile, then handed over as whole.

Never: gives an object its name; that is for the directory, which first makes it durable.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from blake3 import blake3

from mycelium.base.ids import Digest, parse_digest
from mycelium.base.units import MIB
from mycelium.store.disk import check_room, disk_errors
from mycelium.store.objects import CHUNK_BYTES, check_digest, check_size

_ROOM_CHECK_BYTES = 8 * MIB


class Whole(NamedTuple):
    """An object that is written, but neither durable nor visible."""

    digest: Digest
    size_bytes: int
    path: Path


class Room(Protocol):
    """What an object on its way in needs to know about where it goes."""

    root: Path
    object_bytes_max: int
    reserve_bytes: int
    durable: bool
    now_ns: Callable[[], int]


class Incoming:
    """Writes one object to the file `path`, which must not exist, and calls `keep` when all of it is there."""

    def __init__(self, room: Room, path: Path, keep: Callable[[Whole], None], expected: Digest | None) -> None:
        self._room = room
        self._path = path
        self._keep = keep
        self._expected = None if expected is None else parse_digest(expected)
        self._hash = blake3()
        self._size_bytes = 0
        self._next_check_bytes = _ROOM_CHECK_BYTES
        check_room(room.root, room.reserve_bytes)
        with disk_errors("store an object", room.root):
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
            self._file = open(fd, "wb", buffering=CHUNK_BYTES)  # noqa: SIM115 (closed by commit or abort)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._size_bytes += len(data)
        check_size(self._size_bytes, self._room.object_bytes_max)
        if self._size_bytes >= self._next_check_bytes:
            self._next_check_bytes = self._size_bytes + _ROOM_CHECK_BYTES
            check_room(self._room.root, self._room.reserve_bytes)
        self._hash.update(data)
        with disk_errors("store an object", self._room.root):
            self._file.write(data)

    def commit(self) -> Digest:
        try:
            digest = Digest(self._hash.hexdigest())
            check_digest(digest, self._expected)
            with disk_errors("store an object", self._room.root):
                self._file.flush()
                if self._room.durable:
                    # A hint to begin writing: the disk then works while the next object of a batch is hashed.
                    os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                now_ns = self._room.now_ns()
                os.utime(self._file.fileno(), ns=(now_ns, now_ns))
                self._file.close()
        except BaseException:
            self.abort()
            raise
        self._keep(Whole(digest, self._size_bytes, self._path))
        return digest

    def abort(self) -> None:
        with suppress(OSError):  # what could not be written is dropped anyway
            self._file.close()
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._file.closed:
            self.abort()

"""Objects in memory: for the simulator, for tests, and later the fastest tier.

Never: grows beyond its bound.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import BinaryIO, Self

from msgspec import Struct

from mycelium.base import limits
from mycelium.base.clock import Clock
from mycelium.base.errors import Exhausted
from mycelium.base.ids import Digest, parse_digest
from mycelium.base.units import GIB, format_size
from mycelium.store.objects import (
    Live,
    Swept,
    absent,
    check_digest,
    check_readable,
    check_size,
    digest_of,
    is_live,
    put_stream,
)


class _Held(Struct):
    data: bytes
    asked_ns: int  # when it was last put or asked for


class _Incoming:
    def __init__(self, store: MemoryObjects, expected: Digest | None) -> None:
        self._store = store
        self._expected = None if expected is None else parse_digest(expected)
        self._data = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        check_size(len(self._data) + len(data), self._store.object_bytes_max)
        self._store.check_room(len(self._data) + len(data))
        self._data += data

    def commit(self) -> Digest:
        data = bytes(self._data)
        digest = digest_of(data)
        check_digest(digest, self._expected)
        self._store.keep(digest, data)
        return digest

    def abort(self) -> None:
        self._data.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


class MemoryObjects:
    def __init__(
        self,
        bytes_max: int = GIB,
        *,
        object_bytes_max: int = limits.OBJECT_BYTES_MAX,
        now_ns: Callable[[], int] | None = None,
    ) -> None:
        self.bytes_max = bytes_max
        self.object_bytes_max = object_bytes_max
        self._now_ns = now_ns or Clock().now_ns
        self._held: dict[Digest, _Held] = {}
        self._held_bytes = 0
        self._changing = threading.Lock()

    def begin(self, expected: Digest | None = None) -> _Incoming:
        return _Incoming(self, expected)

    def put(self, data: bytes | BinaryIO, expected: Digest | None = None) -> Digest:
        if not isinstance(data, bytes):
            return put_stream(self, b"", data, expected)
        check_size(len(data), self.object_bytes_max)
        digest = digest_of(data)
        check_digest(digest, expected)
        self.keep(digest, data)
        return digest

    def batch(self) -> Self:
        """This store: nothing here waits for a disk."""
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def check_room(self, more_bytes: int) -> None:
        if self._held_bytes + more_bytes > self.bytes_max:
            raise Exhausted(
                f"the memory store holds {format_size(self._held_bytes)} of at most {format_size(self.bytes_max)}",
                hint="sweep it, or give it more",
            )

    def keep(self, digest: Digest, data: bytes) -> None:
        with self._changing:
            if digest not in self._held:
                self.check_room(len(data))
                self._held_bytes += len(data)
            self._held[digest] = _Held(data, self._now_ns())

    def has(self, digest: Digest) -> bool:
        return not self.missing([digest])

    def missing(self, digests: Iterable[Digest]) -> list[Digest]:
        asked = dict.fromkeys(parse_digest(digest) for digest in digests)
        with self._changing:
            for digest in asked.keys() & self._held.keys():
                self._held[digest].asked_ns = self._now_ns()
            return [digest for digest in asked if digest not in self._held]

    def open(self, digest: Digest) -> BinaryIO:
        return io.BytesIO(self._at(digest))

    def read(self, digest: Digest, bytes_max: int = limits.OBJECT_READ_BYTES_MAX) -> bytes:
        data = self._at(digest)
        check_readable(digest, len(data), bytes_max)
        return data

    def size(self, digest: Digest) -> int:
        return len(self._at(digest))

    def delete(self, digest: Digest) -> None:
        with self._changing:
            held = self._held.pop(parse_digest(digest), None)
            self._held_bytes -= 0 if held is None else len(held.data)

    def sweep(self, live: Live, older_than_ns: int, now_ns: int) -> Swept:
        spares = is_live(live)
        old = [digest for digest, held in list(self._held.items()) if held.asked_ns < now_ns - older_than_ns]
        doomed = [digest for digest in old if not spares(digest)]
        before_bytes = self._held_bytes
        for digest in doomed:
            self.delete(digest)
        return Swept(len(doomed), before_bytes - self._held_bytes)

    def _at(self, digest: Digest) -> bytes:
        held = self._held.get(parse_digest(digest))
        if held is None:
            raise absent(digest)
        return held.data

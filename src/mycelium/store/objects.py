"""What every tier of the object store can do.

An object never changes, and its name is the BLAKE3 hash of its bytes: equal bytes are kept once, a put may be repeated,
and every reader can tell altered bytes from true ones.

Never: knows where the bytes lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from blake3 import blake3
from msgspec import Struct

from mycelium.base import limits
from mycelium.base.errors import Missing, Refused
from mycelium.base.ids import Digest
from mycelium.base.units import KIB, format_size

CHUNK_BYTES = 256 * KIB  # the fastest step for read, hash and write together: it stays in the second-level cache

Live = Callable[[Digest], bool] | Set[Digest]


class Swept(Struct, frozen=True):
    removed: int
    removed_bytes: int

    def __add__(self, other: Swept) -> Swept:
        return Swept(self.removed + other.removed, self.removed_bytes + other.removed_bytes)


class Writing(Protocol):
    """One object on its way in. As a context, it is dropped unless `commit` was reached."""

    def write(self, data: bytes | bytearray | memoryview) -> None: ...
    def commit(self) -> Digest: ...
    def abort(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Puts(Protocol):
    """Where objects can be put: a store, or a batch of one.

    Errors: `Refused` when the bytes are not those of `expected` or too many, `Exhausted` when there is no room,
    `Unavailable` when the disk fails. Whatever is raised, nothing of the object is kept.
    """

    def begin(self, expected: Digest | None = None) -> Writing: ...
    def put(self, data: bytes | BinaryIO, expected: Digest | None = None) -> Digest: ...


class PutBatch(Puts, Protocol):
    """Puts that become durable together when the context ends well: many small objects, few waits for the disk.

    An object of a batch may be visible before the batch ends, but never before it is durable.
    """

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Objects(Puts, Protocol):
    """A store of objects.

    `put` has made the object durable when it returns. `has`, `missing` and `put` make what they find young again: a
    sweep then leaves it alone until whoever asked had time to refer to it. What `has` and `missing` find may have been
    named this very moment by another writer, who has not been answered yet.
    """

    def batch(self) -> PutBatch: ...
    def has(self, digest: Digest) -> bool: ...
    def missing(self, digests: Iterable[Digest]) -> list[Digest]:
        """Those that are not here, each once, in the order given."""
        ...

    def open(self, digest: Digest) -> BinaryIO:
        """The bytes, verified: the last of altered bytes are never handed out, `Unavailable` is raised instead.

        Then the object counts as missing, so that it can be put again.
        """
        ...

    def read(self, digest: Digest, bytes_max: int = limits.OBJECT_READ_BYTES_MAX) -> bytes:
        """All bytes at once, verified. Refused when there are more than `bytes_max`."""
        ...

    def size(self, digest: Digest) -> int: ...
    def delete(self, digest: Digest) -> None:
        """Afterwards the object is not here; it need not have been."""
        ...

    def sweep(self, live: Live, older_than_ns: int, now_ns: int) -> Swept:
        """Remove what is neither live nor younger than `older_than_ns`."""
        ...


def digest_of(data: bytes) -> Digest:
    return Digest(blake3(data).hexdigest())


def put_stream(puts: Puts, first: bytes, stream: BinaryIO, expected: Digest | None) -> Digest:
    """Put `first` and what `stream` still holds."""
    with puts.begin(expected) as writing:
        writing.write(first)
        while chunk := stream.read(CHUNK_BYTES):
            writing.write(chunk)
        return writing.commit()


def is_live(live: Live) -> Callable[[Digest], bool]:
    return live if callable(live) else live.__contains__


def check_digest(found: Digest, expected: Digest | None) -> None:
    if expected is not None and found != expected:
        raise Refused(
            f"the bytes are those of object {found[:12]}, not of {expected[:12]}",
            hint="the file changed while it was sent: send it again",
        )


def check_size(size_bytes: int, bytes_max: int) -> None:
    if size_bytes > bytes_max:
        raise Refused(
            f"object is larger than {format_size(bytes_max)}",
            hint="split it, or keep it on storage that the nodes share",
        )


def check_readable(digest: Digest, size_bytes: int, bytes_max: int) -> None:
    if size_bytes > bytes_max:
        raise Refused(
            f"object {digest[:12]} has {format_size(size_bytes)}; at most {format_size(bytes_max)} are read at once",
            hint="read it in pieces",
        )


def absent(digest: Digest) -> Missing:
    return Missing(f"object {digest[:12]} is not here", hint="upload it again")

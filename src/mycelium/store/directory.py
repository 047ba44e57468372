"""Objects as files of one directory, which several processes may share.

    ab/cdef…   an object: written elsewhere, made durable, then renamed to its name, so that what is seen is whole
    tmp/       objects on their way in
    bad/       objects found altered, kept for whoever wants to know how; a sweep removes them
    lock       held shared while objects are found or named, alone while they are judged and taken away

An object's modification time is when it was last put or asked for.

Never: trusts what it reads back, or, where it is durable, shows an object that would not survive a power failure.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NoReturn, Self

from mycelium.base import limits, lock
from mycelium.base.clock import Clock
from mycelium.base.errors import Unavailable
from mycelium.base.ids import Digest, parse_digest
from mycelium.base.units import S_NS
from mycelium.store.disk import disk_errors
from mycelium.store.incoming import Incoming, Whole
from mycelium.store.objects import (
    CHUNK_BYTES,
    Live,
    Puts,
    Swept,
    absent,
    check_digest,
    check_readable,
    check_size,
    digest_of,
    is_live,
    put_stream,
)
from mycelium.store.temporaries import Temporaries
from mycelium.store.verified import Verified, verified

_SYNC_THREADS = 16
_SETTLED_NS = 60 * S_NS  # no writer takes that long from naming an object to having synced the name
_FRESH_NS = limits.OBJECT_FRESH_S * S_NS


class DirectoryObjects:
    """The objects under `root`, which is made when it is not there.

    `reserve_bytes` of the disk are left free: a put that would need them is refused as `Exhausted`. What is not
    `durable` outlives processes, but not the machine: right for copies that can be had again.
    """

    def __init__(
        self,
        root: Path,
        *,
        object_bytes_max: int = limits.OBJECT_BYTES_MAX,
        reserve_bytes: int = limits.DISK_RESERVE_BYTES,
        now_ns: Callable[[], int] | None = None,
        durable: bool = True,
    ) -> None:
        self.root = root
        self.durable = durable
        self._root = str(root)
        self._lock = f"{root}/lock"
        self.object_bytes_max = object_bytes_max
        self.reserve_bytes = reserve_bytes
        self.now_ns = now_ns or Clock().now_ns
        with disk_errors("open the object store", root):
            for made in (root, root / "tmp", root / "bad"):
                made.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._temporaries = Temporaries(root / "tmp")
            self._temporaries.sweep()

    def begin(self, expected: Digest | None = None) -> Incoming:
        return self.begin_for(lambda whole: self.publish([whole]), expected)

    def put(self, data: bytes | BinaryIO, expected: Digest | None = None) -> Digest:
        return self.put_through(self, data, expected)

    def batch(self) -> DirectoryBatch:
        return DirectoryBatch(self)

    def begin_for(self, keep: Callable[[Whole], None], expected: Digest | None) -> Incoming:
        with disk_errors("store an object", self.root):
            path = self._temporaries.new()
        return Incoming(self, path, keep, expected)

    def put_through(self, puts: Puts, data: bytes | BinaryIO, expected: Digest | None) -> Digest:
        """Put unless it is here: what fits into one chunk is looked for before anything is written."""
        first = data if isinstance(data, bytes) else _first(data)
        if not isinstance(data, bytes) and len(first) >= CHUNK_BYTES:
            return put_stream(puts, first, data, expected)
        check_size(len(first), self.object_bytes_max)
        digest = digest_of(first)
        check_digest(digest, expected)
        with disk_errors("store an object", self.root):
            with lock.waiting(self._lock, shared=True):
                stat = self._found(digest, len(first))
            if stat is not None:
                if self.durable and self.now_ns() - stat.st_ctime_ns < _SETTLED_NS:
                    _sync(self._path(digest).parent)  # another writer may have named it and not yet synced the name
                return digest
        return put_stream(puts, b"", io.BytesIO(first), digest)

    def publish(self, whole: list[Whole]) -> None:
        """Make objects durable, then visible, then make their names durable."""
        try:
            with disk_errors("store an object", self.root):
                if self.durable:
                    _sync_all([each.path for each in whole])
                self._name(whole)
        except BaseException:
            for each in whole:
                each.path.unlink(missing_ok=True)
            raise

    def _name(self, whole: list[Whole]) -> None:
        shards = {self._path(each.digest).parent for each in whole}
        new = [shard for shard in shards if not shard.is_dir()]
        for shard in new:
            shard.mkdir(mode=0o700, exist_ok=True)
        if new and self.durable:
            _sync(self.root)
        with lock.waiting(self._lock, shared=True):
            for each in whole:
                # One that is here stays, unless its size already says that it was altered.
                if self._found(each.digest, each.size_bytes) is None:
                    each.path.rename(self._path(each.digest))
                else:
                    each.path.unlink()
        if self.durable:
            _sync_all(list(shards))

    def has(self, digest: Digest) -> bool:
        return not self.missing([digest])

    def missing(self, digests: Iterable[Digest]) -> list[Digest]:
        asked = dict.fromkeys(parse_digest(digest) for digest in digests)
        with disk_errors("look up objects", self.root), lock.waiting(self._lock, shared=True):
            return [digest for digest in asked if self._found(digest, None) is None]

    def open(self, digest: Digest) -> BinaryIO:
        file, size_bytes, altered = self._open(digest)
        return verified(file, digest, size_bytes, altered)

    def read(self, digest: Digest, bytes_max: int = limits.OBJECT_READ_BYTES_MAX) -> bytes:
        file, size_bytes, altered = self._open(digest)
        with Verified(file, digest, size_bytes, altered) as reader:
            check_readable(digest, size_bytes, bytes_max)
            return reader.readall()

    def size(self, digest: Digest) -> int:
        path = self._path(parse_digest(digest))
        with disk_errors("look up an object", self.root):
            try:
                return path.stat().st_size
            except FileNotFoundError:
                raise absent(digest) from None

    def delete(self, digest: Digest) -> None:
        path = self._path(parse_digest(digest))
        with disk_errors("delete an object", self.root):
            path.unlink(missing_ok=True)

    def sweep(self, live: Live, older_than_ns: int, now_ns: int) -> Swept:
        spares = is_live(live)
        total = Swept(0, 0)
        with disk_errors("sweep the objects", self.root):
            for shard in sorted(self.root.glob("[0-9a-f][0-9a-f]")):
                found = {path: spares(Digest(shard.name + path.name)) for path in shard.iterdir()}
                total += self._sweep_shard(found, now_ns - older_than_ns)
            for bad in (self.root / "bad").iterdir():
                if bad.stat().st_mtime_ns < now_ns - older_than_ns:
                    bad.unlink(missing_ok=True)
            self._temporaries.sweep()
        return total

    def _sweep_shard(self, found: dict[Path, bool], before_ns: int) -> Swept:
        removed = removed_bytes = 0
        with lock.waiting(self._lock):
            for path, is_spared in found.items():
                try:
                    stat = path.stat()
                except FileNotFoundError:
                    continue
                if not is_spared and stat.st_mtime_ns < before_ns:
                    path.unlink()
                    removed, removed_bytes = removed + 1, removed_bytes + stat.st_size
        return Swept(removed, removed_bytes)

    def _quarantine(self, digest: Digest, inode: int) -> None:
        """Take away the file that was read, unless somebody has put a good one in its place."""
        path = self._path(digest)
        with lock.waiting(self._lock), suppress(FileNotFoundError):  # another reader may have found it out first
            if path.stat().st_ino == inode:
                path.rename(self.root / "bad" / digest)

    def _path(self, digest: Digest) -> Path:
        return self.root.joinpath(digest[:2], digest[2:])

    def _place(self, digest: Digest) -> str:
        """The same as text, for what is done for each object of a tree: a `Path` costs more than the look-up."""
        return f"{self._root}/{digest[:2]}/{digest[2:]}"

    def _found(self, digest: Digest, size_bytes: int | None) -> os.stat_result | None:
        """The object's file, if it is here (with that size, if one is given); it is young again. Under the lock."""
        path = self._place(digest)
        try:
            stat = os.stat(path)  # noqa: PTH116 - see `_place`
        except FileNotFoundError:
            return None
        if size_bytes is not None and stat.st_size != size_bytes:
            return None
        now_ns = self.now_ns()
        if now_ns - stat.st_mtime_ns > _FRESH_NS:
            os.utime(path, ns=(now_ns, now_ns))
        return stat

    def _open(self, digest: Digest) -> tuple[io.FileIO, int, Callable[[], NoReturn]]:
        path = self._place(parse_digest(digest))
        with disk_errors("read an object", self.root):
            try:
                file = io.FileIO(path)
            except FileNotFoundError:
                raise absent(digest) from None
        stat = os.fstat(file.fileno())

        def altered() -> NoReturn:
            with disk_errors("put a corrupt object aside", self.root):
                self._quarantine(digest, stat.st_ino)
            raise Unavailable(f"object {digest[:12]} is corrupt", hint="it was put aside: upload it again")

        return file, stat.st_size, altered


class DirectoryBatch:
    """Objects that wait for the disk together."""

    def __init__(self, store: DirectoryObjects) -> None:
        self._store = store
        self._whole: list[Whole] = []

    def begin(self, expected: Digest | None = None) -> Incoming:
        return self._store.begin_for(self._keep, expected)

    def put(self, data: bytes | BinaryIO, expected: Digest | None = None) -> Digest:
        return self._store.put_through(self, data, expected)

    def _keep(self, whole: Whole) -> None:
        self._whole.append(whole)
        if len(self._whole) >= limits.BATCH_OBJECTS_MAX:
            self._publish()

    def _publish(self) -> None:
        whole, self._whole = self._whole, []
        self._store.publish(whole)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._publish()
        for whole in self._whole:
            whole.path.unlink(missing_ok=True)


def _first(stream: BinaryIO) -> bytes:
    """The first chunk: shorter than `CHUNK_BYTES` only if that is all there is."""
    first = stream.read(CHUNK_BYTES)
    while 0 < len(first) < CHUNK_BYTES and (more := stream.read(CHUNK_BYTES)):
        first += more
    return first


def _sync_all(paths: list[Path]) -> None:
    """Wait until all are durable. Many wait at once: the file system then commits its journal once for several."""
    if len(paths) < _SYNC_THREADS:
        for path in paths:
            _sync(path)
        return
    with ThreadPoolExecutor(_SYNC_THREADS) as pool:
        for _ in pool.map(_sync, paths):
            pass  # raises what the first that failed raised


def _sync(path: Path) -> None:
    held = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(held)
    finally:
        os.close(held)

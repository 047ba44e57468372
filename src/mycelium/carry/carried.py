"""The objects of a machine that is not the head's: what it lacks is fetched, what it makes is delivered.

Asking for an object that is not here brings it, from the nearest porter that has it; when that one fails in the middle,
the next one goes on where it stopped. `deliver` returns when the head has everything, so a report may name it.
"""

from __future__ import annotations

import logging
import random
import socket
import time
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mycelium.base import files, framing, limits
from mycelium.base.errors import Problem, Refused, Unavailable
from mycelium.base.ids import Digest
from mycelium.carry import wire
from mycelium.carry.wire import PIECE_BYTES, SIZE, Have, Lack, Take, Want, Way, Where
from mycelium.sandbox import process
from mycelium.store.directory import DirectoryBatch, DirectoryObjects
from mycelium.store.incoming import Incoming
from mycelium.store.objects import CHUNK_BYTES, Live, Swept, Writing, absent
from mycelium.store.tree import reachable

TOGETHER = 512  # objects asked for in one question
AT_ONCE = 2  # connections of one fetch
TRIES = 3
NEAR_MS = 2.0  # what answers within this is as near as can be

log = logging.getLogger(__name__)


class Carried:
    """`local` is this machine's store, `way` the file that says how porters are reached, `own` our porter's address."""

    def __init__(self, local: DirectoryObjects, way: Path, own: str) -> None:
        self.local = local
        self._way = way
        self._own = own

    # Putting is local; see `deliver`.

    def begin(self, expected: Digest | None = None) -> Incoming:
        return self.local.begin(expected)

    def put(self, data: bytes | BinaryIO, expected: Digest | None = None) -> Digest:
        return self.local.put(data, expected)

    def batch(self) -> DirectoryBatch:
        return self.local.batch()

    def delete(self, digest: Digest) -> None:
        self.local.delete(digest)

    def sweep(self, live: Live, older_than_ns: int, now_ns: int) -> Swept:
        return self.local.sweep(live, older_than_ns, now_ns)

    # Asking brings.

    def has(self, digest: Digest) -> bool:
        return not self.missing([digest])

    def missing(self, digests: Iterable[Digest]) -> list[Digest]:
        lacking = self.local.missing(digests)
        if lacking:
            self._fetch(lacking)
            lacking = self.local.missing(lacking)
        return lacking

    def open(self, digest: Digest) -> BinaryIO:
        self._need(digest)
        return self.local.open(digest)

    def read(self, digest: Digest, bytes_max: int = limits.OBJECT_READ_BYTES_MAX) -> bytes:
        self._need(digest)
        return self.local.read(digest, bytes_max)

    def size(self, digest: Digest) -> int:
        self._need(digest)
        return self.local.size(digest)

    def _need(self, digest: Digest) -> None:
        if self.missing([digest]):
            raise absent(digest)

    def _fetch(self, digests: Sequence[Digest]) -> None:
        """Bring what can be had. Errors: `Unavailable` when nobody answers, `Exhausted` when the disk is full."""
        way = wire.read_way(self._way)
        for start in range(0, len(digests), TOGETHER * AT_ONCE):
            some = digests[start : start + TOGETHER * AT_ONCE]
            holders = self._holders(way, some)
            parts = [list(some[number::AT_ONCE]) for number in range(AT_ONCE) if some[number::AT_ONCE]]
            if len(parts) == 1:
                self._bring(way, parts[0], holders)
                continue
            with ThreadPoolExecutor(AT_ONCE) as pool:
                for done in [pool.submit(self._bring, way, part, holders) for part in parts]:
                    done.result()

    def _holders(self, way: Way, digests: Sequence[Digest]) -> dict[Digest, list[str]]:
        """Who has what beside the head. Nobody, when the head does not say."""
        try:
            with _line(way.head, way) as line:
                return dict(zip(digests, wire.ask_many(line, Where(list(digests))), strict=False))
        except Problem:
            return {}

    def _bring(self, way: Way, digests: list[Digest], holders: dict[Digest, list[str]]) -> None:
        """Fetch these over one connection at a time, from one source after another until all are here."""
        peers = {address for digest in digests for address in holders.get(digest, ()) if address != self._own}
        sources = nearest([*peers, way.head], way)
        left = list(digests)
        began: dict[Digest, tuple[Writing, int]] = {}  # an object that a source broke off in the middle
        in_vain, told = 0, 0
        try:
            while left and in_vain < TRIES * len(sources):
                before = (-len(left), sum(offset for _, offset in began.values()))
                source = sources[in_vain % len(sources)]
                try:
                    with _line(source, way) as line:
                        with self.local.batch() as batch:
                            left = self._receive(line, left, batch, began)
                        if source == way.head:
                            told = self._tell(line, digests, left)
                except (Unavailable, Refused) as error:  # it broke off, or its bytes were not the true ones
                    log.info("%s did not give all: %s", source, error)
                    left = self.local.missing(left)
                if (-len(left), sum(offset for _, offset in began.values())) <= before:
                    in_vain += 1  # nothing more than before: the next one is asked
        finally:
            for writing, _ in began.values():
                writing.abort()
        if self._own and told < len(digests) - len(left):
            with suppress(Problem), _line(way.head, way) as line:
                self._tell(line, digests, left)

    def _receive(
        self,
        line: socket.socket,
        digests: list[Digest],
        batch: DirectoryBatch,
        began: dict[Digest, tuple[Writing, int]],
    ) -> list[Digest]:
        """Take what comes; answers with what the source did not have."""
        wire.write(line, Want([(digest, began.get(digest, (None, 0))[1]) for digest in digests]))
        lacking: list[Digest] = []
        buffer = memoryview(bytearray(PIECE_BYTES))
        for digest in digests:
            (size_bytes,) = SIZE.unpack(framing.exactly(line, SIZE.size))
            if size_bytes < 0:
                lacking.append(digest)
                continue
            # A small one becomes durable with the others of its batch, a large one by itself, so that it can go on.
            large = digest in began or size_bytes > PIECE_BYTES
            writing, offset = began.pop(digest, None) or ((self.local if large else batch).begin(digest), 0)
            try:
                left_bytes = size_bytes
                while left_bytes:
                    got = line.recv_into(buffer[: min(left_bytes, PIECE_BYTES)])
                    if not got:
                        raise ConnectionError("closed in the middle")
                    writing.write(buffer[:got])
                    left_bytes -= got
                    offset += got
                writing.commit()
            except OSError:
                if large:
                    began[digest] = (writing, offset)
                else:
                    writing.abort()
                raise
            except Problem:
                writing.abort()
                raise
        return lacking

    def _tell(self, head: socket.socket, digests: list[Digest], left: list[Digest]) -> int:
        """Let the head know of how many of these we have by now, all but those that are left."""
        lacking = set(left)
        got = [digest for digest in digests if digest not in lacking]
        if self._own and got:
            wire.write(head, Have(self._own, got))
        return len(got)

    # Delivering.

    def deliver(self, trees: Iterable[Digest], plain: Iterable[Digest]) -> None:
        """Return when the head has these, and what the trees hold. Errors: `Unavailable`: try again."""
        trees = list(trees)
        wanted = list(dict.fromkeys([*plain, *trees, *reachable(self.local, trees)]))
        if not wanted:
            return
        way = wire.read_way(self._way)
        with _line(way.head, way) as line:
            lacking = [Digest(name) for name in wire.ask_list(line, Lack(wanted))]
            for start in range(0, len(lacking), TOGETHER):
                self._give(line, lacking[start : start + TOGETHER])

    def _give(self, line: socket.socket, digests: list[Digest]) -> None:
        wire.write(line, Take(len(digests)))
        for digest in digests:
            line.sendall(digest.encode() + SIZE.pack(self.local.size(digest)))
            with closing(self.local.open(digest)) as source:
                while piece := source.read(CHUNK_BYTES):
                    line.sendall(piece)
        framing.receive(line)


def forget_other_boots(local: DirectoryObjects) -> None:
    """Drop the copies of before the machine was started: they were not made durable, so any of them may be broken."""
    mark, boot = local.root / "boot", process.boot_id()
    if mark.exists() and mark.read_text() == boot:
        return
    local.sweep(frozenset(), 0, time.time_ns())
    with suppress(OSError):  # on a full disk they are dropped once more
        files.write(mark, boot)


@contextmanager
def _line(address: str, way: Way) -> Generator[socket.socket]:
    """A connection that may be asked. Errors: `Unavailable` for whatever breaks it."""
    with closing(wire.knock(address, way)) as line:
        try:
            yield line
        except OSError as error:
            raise Unavailable(f"the porter at {address} is gone: {error}") from None


def nearest(addresses: Sequence[str], way: Way) -> list[str]:
    """Those that answer, the nearest first; of equally near ones any, so that not all ask the same."""
    found: list[tuple[float, float, str]] = []
    for address in addresses:
        begun = time.perf_counter()
        try:
            with closing(wire.connect(address, way)):
                passed_ms = (time.perf_counter() - begun) * 1000
        except Unavailable:
            continue
        found.append((max(NEAR_MS, passed_ms) // NEAR_MS, random.random(), address))
    if not found:
        raise Unavailable(f"none of {len(addresses)} porters answers", hint="is the head reachable from this machine?")
    return [address for *_, address in sorted(found)]

"""Results of kernels on this machine, kept for one person between runs: in an object store of their own.

    objects/            the results, each a file of values, named by its hash
    named/ab/cdef…      a link for each (kernel, inputs), to the object that is its result

A link's modification time is when it was last wanted; the longest unwanted go when there is too much. Writing happens
in a thread of its own, so that no run waits for the disk until its end. What cannot be kept is computed again: a full
or broken disk costs time, never a result. Never: trusts a link or an object; what does not read well is a miss.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from mycelium.base.errors import Problem
from mycelium.base.ids import Digest
from mycelium.base.limits import BATCH_OBJECTS_MAX, MEMO_BYTES_MAX, RESULTS_BYTES_MAX, RESULTS_MAX
from mycelium.polymer.runtime.memo import MemoryMemo
from mycelium.store.directory import DirectoryObjects

KEPT_SHARE = 0.8  # of the bounds, what is left after trimming: so that not every run trims
TRIM_EVERY_S = 60.0
SETTLE_S = 10.0  # a disk that takes longer is not waited for


def home() -> Path:
    """Where this person's results are."""
    said = os.environ.get("MYC_HOME")
    if said:
        return Path(said).expanduser() / "results"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mycelium" / "results"


class StoredMemo:
    """What `get` found and `put` brought also stays in memory, within a bound of its own."""

    def __init__(self, root: Path, *, bytes_max: int = RESULTS_BYTES_MAX, count_max: int = RESULTS_MAX) -> None:
        self.root, self.bytes_max, self.count_max = root, bytes_max, count_max
        self.front = MemoryMemo()
        self.objects: DirectoryObjects | None = None
        self.broken = False  # the disk refused: nothing more is written by this process
        self.waiting: deque[tuple[str, bytes]] = deque()
        self.waiting_bytes = 0
        self.changed = threading.Condition()
        self.busy = False
        self.writer = 0  # the process whose thread writes
        self.trimmed_s = -TRIM_EVERY_S

    def get(self, key: str) -> bytes | None:
        held = self.front.get(key)
        if held is not None:
            return held
        link = self._link(key)
        try:
            target = os.readlink(link)  # noqa: PTH115 - asked once for each call of a map
        except OSError:
            return None
        try:
            held = self._store().read(_digest(target))
        except (Problem, OSError):
            return None
        with contextlib.suppress(OSError):
            os.utime(link, follow_symlinks=False)
        self.front.put(key, held)
        return held

    def put(self, key: str, value: bytes) -> None:
        self.front.put(key, value)
        if self.broken or len(value) > self.bytes_max // 4:
            return
        with self.changed:
            if self.writer != os.getpid():
                self.writer, self.busy = os.getpid(), False
                self.waiting.clear()
                self.waiting_bytes = 0
                threading.Thread(target=self._write, name="results", daemon=True).start()
            if self.waiting_bytes + len(value) > MEMO_BYTES_MAX:
                return  # the disk is slower than the results come: this one will be computed again
            self.waiting.append((key, value))
            self.waiting_bytes += len(value)
            self.changed.notify_all()

    def settle(self) -> None:
        if self.writer == os.getpid():
            with self.changed:
                self.changed.wait_for(lambda: self.broken or not (self.busy or self.waiting), SETTLE_S)

    def _link(self, key: str) -> str:
        return f"{self.root}/named/{key[:2]}/{key[2:]}"

    def _store(self) -> DirectoryObjects:
        if self.objects is None:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.objects = DirectoryObjects(self.root / "objects")
        return self.objects

    def _write(self) -> None:
        while True:
            with self.changed:
                self.busy = False
                self.changed.notify_all()
                self.changed.wait_for(lambda: bool(self.waiting))
                self.busy = True
                count = min(len(self.waiting), BATCH_OBJECTS_MAX)
                together = [self.waiting.popleft() for _ in range(count)]
                self.waiting_bytes -= sum(len(value) for _, value in together)
            try:
                self._keep(together)
                if time.monotonic() - self.trimmed_s > TRIM_EVERY_S:
                    self.trim()
                    self.trimmed_s = time.monotonic()
            except (Problem, OSError):
                with self.changed:
                    self.broken = True
                    self.waiting.clear()
                    self.changed.notify_all()

    def _keep(self, together: list[tuple[str, bytes]]) -> None:
        with self._store().batch() as batch:
            digests = [batch.put(value) for _, value in together]
        for (key, _), digest in zip(together, digests, strict=True):
            link = Path(self._link(key))
            link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = link.with_name(f"{link.name}.{os.getpid()}")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(f"../../objects/{digest[:2]}/{digest[2:]}")
            fresh.replace(link)

    def trim(self) -> None:
        """Let go of what was not wanted for the longest time, if there is too much, and of what nothing names."""
        store = self._store()
        sizes = {path.parent.name + path.name: path.stat().st_size for path in self._objects()}
        links = sorted(self._links())
        count, size = len(links), sum(sizes.values())
        if count <= self.count_max and size <= self.bytes_max:
            return
        named: dict[str, int] = {}
        for _, _, digest in links:
            named[digest] = named.get(digest, 0) + 1
        for digest in sizes.keys() - named.keys():
            store.delete(Digest(digest))
            size -= sizes[digest]
        for _, path, digest in links:
            if count <= KEPT_SHARE * self.count_max and size <= KEPT_SHARE * self.bytes_max:
                return
            Path(path).unlink(missing_ok=True)
            count -= 1
            named[digest] -= 1
            if named[digest] == 0 and digest in sizes:
                store.delete(Digest(digest))
                size -= sizes[digest]

    def _objects(self) -> Iterator[Path]:
        for shard in (self.root / "objects").glob("[0-9a-f][0-9a-f]"):
            yield from shard.iterdir()

    def _links(self) -> Iterator[tuple[int, str, str]]:
        """When each result was last wanted, its link and its object."""
        for path in (self.root / "named").glob("*/*"):
            with contextlib.suppress(OSError):
                yield path.lstat().st_mtime_ns, str(path), _digest(str(path.readlink()))


def _digest(target: str) -> Digest:
    return Digest("".join(target.split("/")[-2:]))

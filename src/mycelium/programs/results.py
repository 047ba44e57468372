"""Results of kernels on this machine, kept for one person between runs: pages in an object store of their own.

    objects/                 pages of results, each named by its hash
    named/KERNEL/PAGE        a link for each page with results of a kernel, to the object that it is

A link's modification time is when something in its page was last wanted; the longest unwanted go when there is too
much. Writing happens in a thread of its own, many results at once, so that no run waits for the disk until its end.
What cannot be kept is computed again: a full or broken disk costs time, never a result.
Never: trusts a link or an object; what does not read well is a miss, and is taken away.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mycelium.base.errors import Problem, Refused
from mycelium.base.home import Home
from mycelium.base.ids import Digest
from mycelium.base.limits import MEMO_BYTES_MAX, PAGE_RESULTS_MAX, RESULT_PAGES_MAX, RESULTS_BYTES_MAX
from mycelium.base.units import MIB
from mycelium.polymer.runtime.memo import KERNEL_DIGITS, MemoryMemo
from mycelium.programs.pages import mapped, pack, read
from mycelium.store.directory import DirectoryObjects

GATHER_S = 0.5  # results are gathered so long, and a killed process loses no more than those
GATHER_BYTES = 16 * MIB  # or until there are so many
MERGE_PAGES = 64  # small pages of one kernel are put together when there are so many
KEPT_SHARE = 0.8  # of the bounds, what is left after trimming: so that not every run trims
TRIM_EVERY_S = 60.0
SETTLE_S = 10.0  # a disk that takes longer is not waited for

Results = dict[str, "ResultPlace"]


class ResultPlace(NamedTuple):
    """A result in its page."""

    value: memoryview
    link: Path


def home() -> Path:
    """Where this person's results are."""
    said = os.environ.get("MYC_HOME")
    if said:
        return Home(Path(said).expanduser()).results
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mycelium" / "results"


class StoredMemo:
    """Pages are mapped when their kernel is first asked for; what this process brought stays in memory as well."""

    def __init__(self, root: Path, *, bytes_max: int = RESULTS_BYTES_MAX, pages_max: int = RESULT_PAGES_MAX) -> None:
        self.root, self.bytes_max, self.pages_max = root, bytes_max, pages_max
        self.front = MemoryMemo()
        self.known: dict[str, Results] = {}  # by kernel
        self.wanted: set[Path] = set()  # pages of which something was wanted by this process
        self.objects: DirectoryObjects | None = None
        self.broken = False  # the disk refused: nothing more is written by this process
        self.waiting: dict[str, bytes] = {}
        self.waiting_bytes = 0
        self.changed = threading.Condition()
        self.busy = False
        self.hurry = 0  # runs that have ended and wait
        self.writer = 0  # the process whose thread writes
        self.trimmed_s = -TRIM_EVERY_S

    def get(self, key: str) -> bytes | None:
        held = self.front.get(key)
        if held is not None:
            return held
        kernel = key[:KERNEL_DIGITS]
        if kernel not in self.known:
            self.known[kernel] = {}
            for link in self._links(kernel):
                self.known[kernel] |= self._read(link)
        place = self.known[kernel].get(key[KERNEL_DIGITS:])
        if place is None:
            return None
        if place.link not in self.wanted:
            self.wanted.add(place.link)
            with contextlib.suppress(OSError):
                os.utime(place.link, follow_symlinks=False)
        return bytes(place.value)

    def put(self, key: str, value: bytes) -> None:
        self.front.put(key, value)
        if self.broken or len(value) > self.bytes_max // 4:
            return
        with self.changed:
            if self.writer != os.getpid():
                self.writer, self.busy, self.hurry = os.getpid(), False, 0
                self.waiting, self.waiting_bytes = {}, 0
                threading.Thread(target=self._write, name="results", daemon=True).start()
            if self.waiting_bytes + len(value) > MEMO_BYTES_MAX:
                return  # the disk is slower than the results come: this one will be computed again
            self.waiting[key] = value
            self.waiting_bytes += len(value)
            self.changed.notify_all()

    def settle(self) -> None:
        if self.writer == os.getpid():
            with self.changed:
                self.hurry += 1
                self.changed.notify_all()
                self.changed.wait_for(lambda: self.broken or not (self.busy or self.waiting), SETTLE_S)
                self.hurry -= 1

    def _store(self) -> DirectoryObjects:
        if self.objects is None:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.objects = DirectoryObjects(self.root / "objects")
        return self.objects

    def _links(self, kernel: str) -> list[Path]:
        try:
            return sorted((self.root / "named" / kernel).iterdir())
        except OSError:
            return []

    def _read(self, link: Path) -> Results:
        try:
            return {key: ResultPlace(value, link) for key, value in read(mapped(link)).items()}
        except (OSError, ValueError):
            return {}  # gone since it was listed, or empty
        except Refused:
            self._take_away(link)
            return {}

    def _take_away(self, link: Path) -> None:
        """The page, so that a good one may come into its place."""
        with contextlib.suppress(OSError, Problem):
            digest = _digest(link)
            link.unlink(missing_ok=True)
            self._store().delete(digest)

    def _write(self) -> None:
        while True:
            with self.changed:
                self.busy = False
                self.changed.notify_all()
                self.changed.wait_for(lambda: bool(self.waiting))
                self.changed.wait_for(lambda: self.hurry or self.waiting_bytes >= GATHER_BYTES, GATHER_S)
                together, self.waiting, self.waiting_bytes, self.busy = self.waiting, {}, 0, True
            try:
                self._keep(together)
                if time.monotonic() - self.trimmed_s > TRIM_EVERY_S:
                    self.trim()
                    self.trimmed_s = time.monotonic()
            except (Problem, OSError):
                with self.changed:
                    self.broken = True
                    self.waiting, self.waiting_bytes = {}, 0
                    self.changed.notify_all()

    def _keep(self, together: dict[str, bytes]) -> None:
        kernels: dict[str, dict[str, memoryview | bytes]] = {}
        for key, value in together.items():
            kernels.setdefault(key[:KERNEL_DIGITS], {})[key[KERNEL_DIGITS:]] = value
        for kernel, results in kernels.items():
            self._name(kernel, results)
            self._merge(kernel)

    def _name(self, kernel: str, results: dict[str, memoryview | bytes]) -> None:
        """Pages with these results, each no larger than it should be."""
        pages: list[dict[str, memoryview | bytes]] = [{}]
        size = 0
        for key, value in results.items():
            if pages[-1] and (size + len(value) > GATHER_BYTES or len(pages[-1]) >= PAGE_RESULTS_MAX):
                pages.append({})
                size = 0
            pages[-1][key] = value
            size += len(value)
        with self._store().batch() as batch:
            digests = [batch.put(pack(page)) for page in pages]
        place = self.root / "named" / kernel
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        for digest in digests:
            link = place / digest
            with contextlib.suppress(FileExistsError):
                link.symlink_to(f"../../objects/{digest[:2]}/{digest[2:]}")
            if kernel in self.known:
                self.known[kernel] |= self._read(link)

    def _merge(self, kernel: str) -> None:
        """Many small pages, as runs with few calls leave them, become few."""
        links = [link for link in self._links(kernel) if link.exists() and link.stat().st_size < GATHER_BYTES // 4]
        if len(links) < MERGE_PAGES:
            return
        results: dict[str, memoryview | bytes] = {}
        for link in links:
            results |= {key: place.value for key, place in self._read(link).items()}
        self._name(kernel, results)
        for link in links:
            self._take_away(link)

    def trim(self) -> None:
        """Let go of what was not wanted for the longest time, if there is too much, and of what nothing names."""
        store = self._store()
        sizes = {Digest(path.parent.name + path.name): path.stat().st_size for path in self._pages()}
        links = sorted(self._wanted_at())
        count, size = len(links), sum(sizes.values())
        if count <= self.pages_max and size <= self.bytes_max:
            return
        named = {digest for _, _, digest in links}
        for digest in sizes.keys() - named:
            store.delete(digest)
            size -= sizes[digest]
        for _, link, digest in links:
            if count <= KEPT_SHARE * self.pages_max and size <= KEPT_SHARE * self.bytes_max:
                return
            self._take_away(link)
            count -= 1
            size -= sizes.get(digest, 0)

    def _pages(self) -> Iterator[Path]:
        for shard in (self.root / "objects").glob("[0-9a-f][0-9a-f]"):
            yield from shard.iterdir()

    def _wanted_at(self) -> Iterator[tuple[int, Path, Digest]]:
        """When each page was last wanted, its link and its object."""
        for link in (self.root / "named").glob("*/*"):
            with contextlib.suppress(OSError):
                yield link.lstat().st_mtime_ns, link, _digest(link)


def _digest(link: Path) -> Digest:
    """The object that a link names. Errors: `OSError`."""
    return Digest("".join(link.readlink().parts[-2:]))

"""A log in memory, for the simulator and for tests: the same chain, the same promises, and failures on request.

Never: outlives its process.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path

from msgspec.structs import replace

from mycelium.base.errors import Refused, Unavailable
from mycelium.base.limits import SNAPSHOTS_KEPT
from mycelium.log.audit import segments_of, verdict_on
from mycelium.log.entry import START, Entry, Mark, chain, follow, mark_after
from mycelium.log.seam import ArchivedJob, Exported, Snapshot, Verdict, check_archive, check_export, nobody_told
from mycelium.log.segment import check_segment, write_segment


class MemoryLog:
    """Fails the append that would write one of the events `fail_at`, as a full disk does."""

    def __init__(self, fail_at: Collection[int] = ()) -> None:
        self.fail_at = set(fail_at)
        self._entries: list[Entry] = []
        self._about: dict[int, Sequence[str]] = {}
        self._pruned = START
        self._snapshots: list[Snapshot] = []
        self._archive: dict[str, ArchivedJob] = {}
        self._exported: dict[tuple[int, int], str] = {}
        self._dropped: list[Exported] = []
        self._refusal = ""

    def reopen(self) -> MemoryLog:
        """The log as the next life of a process finds it. Closes this one."""
        self.close()
        other = MemoryLog(self.fail_at)
        other._entries, other._pruned, other._snapshots = self._entries, self._pruned, self._snapshots
        other._about = self._about
        other._archive, other._exported, other._dropped = self._archive, self._exported, self._dropped
        return other

    @property
    def first_seq(self) -> int:
        return self._pruned.seq + 1

    @property
    def last_seq(self) -> int:
        return self._tail.seq

    @property
    def last_time_ns(self) -> int:
        return self._tail.time_ns

    @property
    def pruned(self) -> Mark:
        return self._pruned

    @property
    def _tail(self) -> Mark:
        return mark_after(self._entries[-1:], self._pruned)

    def append(
        self,
        time_ns: int,
        events: Sequence[tuple[str, bytes]],
        archive: Sequence[ArchivedJob] = (),
        about: Sequence[Sequence[str]] = (),
    ) -> int:
        entries = chain(self._tail, time_ns, events)
        check_archive(archive)
        self._writable()
        failed = self.fail_at.intersection(entry.seq for entry in entries)
        if failed:
            self.fail_at -= failed  # the next life gets past it
            self._refusal = "the disk of the log is full"
            raise Unavailable(self._refusal)
        self._entries += entries
        self._about.update((entry.seq, subjects) for entry, subjects in zip(entries, about, strict=False) if subjects)
        self._archive.update({row.job: row for row in archive})
        return self.last_seq

    def read(self, after: int = 0, limit: int | None = None) -> Iterator[Entry]:
        start = self._mark_at(after)
        return iter(()) if start is None else follow(islice(self._after(after), limit), start)

    def snapshot(self) -> Snapshot | None:
        return self._snapshots[-1] if self._snapshots else None

    def save_snapshot(self, seq: int, version: int, data: bytes) -> None:
        if not 0 < seq <= self.last_seq:
            raise Refused(f"there is no event {seq} to keep a snapshot of; the last one is {self.last_seq}")
        if self._snapshots and seq < self._snapshots[-1].seq:
            raise Refused(f"a snapshot after event {seq} is older than the one kept")
        self._writable()
        self._snapshots = [*self._snapshots, Snapshot(seq, version, data)][-SNAPSHOTS_KEPT:]

    def archive(self, rows: Sequence[ArchivedJob]) -> None:
        check_archive(rows)
        self._writable()
        self._archive.update({row.job: row for row in rows})

    def archived(self, job: str) -> bytes | None:
        row = self._archive.get(job)
        return row.data if row else None

    def archived_list(self, account: str | None, before: int | None, limit: int) -> list[ArchivedJob]:
        rows = sorted(self._archive.values(), key=lambda row: row.number, reverse=True)
        fit = (r for r in rows if account in (None, r.account) and (before is None or r.number < before))
        return list(islice(fit, limit))

    def about(self, subject: str) -> Iterator[Entry]:
        return (entry for entry in self._entries if subject in self._about.get(entry.seq, ()))

    def mark(self, seq: int) -> Mark:
        found = self._mark_at(seq)
        if found is None:
            raise Refused(f"there is no event {seq} yet; the last one is {self.last_seq}")
        return found

    def seq_before(self, time_ns: int) -> int:
        return self._pruned.seq + bisect_left(self._entries, time_ns, key=lambda entry: entry.time_ns)

    def verify(self, segments: Sequence[Path] = (), told: Callable[[int], None] = nobody_told) -> Verdict:
        files = segments_of([file.path for file in self._dropped], segments)
        return verdict_on(files, self._pruned, self._tail, self._entries, told)

    def export(self, path: Path, upto_seq: int) -> int:
        path = Path(path).absolute()
        check_export(path, self.first_seq, upto_seq, self.last_seq)
        last = self._mark_at(upto_seq)
        assert last is not None
        count = write_segment(path, self._pruned, last, self._entries[: upto_seq - self._pruned.seq])
        self._exported[self.first_seq, upto_seq] = str(path)
        return count

    def exports(self) -> list[Exported]:
        return list(self._dropped)

    def prunable_seq(self) -> int:
        return min((kept.seq for kept in self._snapshots), default=0)

    def prune(self, upto_seq: int) -> None:
        if upto_seq <= self._pruned.seq:
            return
        behind = self.prunable_seq()
        last, path = self._mark_at(upto_seq), self._exported.get((self.first_seq, upto_seq))
        if last is None or upto_seq > behind or path is None:
            raise Refused(f"events up to {upto_seq} cannot be pruned: not exported, or not behind every snapshot")
        check_segment(Path(path), self._pruned, last)
        self._dropped.append(Exported(path, self.first_seq, upto_seq))
        self._entries = list(self._after(upto_seq))
        self._pruned = last

    def close(self) -> None:
        self._refusal = "the log is closed"

    def spoil(self, seq: int, data: bytes) -> None:
        """Change an event behind the chain's back, as a failing disk does."""
        at = seq - self.first_seq
        self._entries[at] = replace(self._entries[at], data=data)

    def _writable(self) -> None:
        if self._refusal:
            raise Unavailable(self._refusal)

    def _after(self, seq: int) -> Iterator[Entry]:
        return islice(self._entries, seq - self._pruned.seq, None)

    def _mark_at(self, seq: int) -> Mark | None:
        if seq < self._pruned.seq:
            raise Refused(f"event {seq} is no longer in the log: events up to {self._pruned.seq} were pruned")
        if seq == self._pruned.seq:
            return self._pruned
        return (
            mark_after(self._entries[seq - self.first_seq : seq - self._pruned.seq], START)
            if seq <= self.last_seq
            else None
        )

"""What a log promises, whichever way it is kept.

A log is written by one process at a time and read by any number. What `append` has returned for is durable: it outlives
kill -9, a full disk and a power cut. After a failed append the log refuses every further one, because what the caller
holds in memory may no longer be what the log says; the way back is to open it again and replay.
Never: knows what an event, a snapshot or an archived job means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from mycelium.base.errors import Refused
from mycelium.log.entry import Entry, Mark


class Snapshot(Struct, frozen=True):
    """The state after event `seq`, in the caller's own encoding, whose number is `version`."""

    seq: int
    version: int
    data: bytes


class ArchivedJob(Struct, frozen=True):
    """A job that has left memory. `number` orders the listing, the newest having the largest."""

    job: str
    number: int
    account: str
    data: bytes


class Exported(Struct, frozen=True):
    """A file that holds the events `first_seq` to `last_seq`, which were pruned."""

    path: str  # where it was written
    first_seq: int
    last_seq: int


class Verdict(Struct, frozen=True):
    """What a walk over the hash chain found.

    `unseen` names exported files that were not found: the chain was taken up after them, unchecked.
    """

    events: int  # checked, one after the other
    first_seq: int  # of those
    last_seq: int
    hash: str  # of the last one checked: note it elsewhere to tell later whether history was rewritten
    bad_seq: int | None = None  # the first event that is not as it was written
    why: str = ""
    unseen: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return self.bad_seq is None


def check_archive(rows: Sequence[ArchivedJob]) -> None:
    """Errors: Refused for a row that no log can keep."""
    for row in rows:
        if not (row.job.isprintable() and row.account.isprintable() and 0 <= row.number < 2**63):
            raise Refused(f"job {row.job[:80]!r} of account {row.account[:80]!r} cannot be archived under such a name")


def check_export(path: Path, first_seq: int, upto_seq: int, last_seq: int) -> None:
    if not first_seq <= upto_seq <= last_seq:
        raise Refused(f"event {upto_seq} cannot end an exported file: the log holds {first_seq} to {last_seq}")
    if not str(path).isprintable():
        raise Refused(f"{str(path)!r} cannot name an exported file")


def nobody_told(_seq: int) -> None:
    """Of a walk whose progress nobody waits for."""


class Log(Protocol):
    @property
    def first_seq(self) -> int:
        """The oldest event still here (1 until something was pruned), or the next one when none is."""
        ...

    @property
    def last_seq(self) -> int: ...

    @property
    def pruned(self) -> Mark:
        """The last event that was exported and dropped: what is still here continues it."""
        ...

    @property
    def last_time_ns(self) -> int: ...

    def append(
        self,
        time_ns: int,
        events: Sequence[tuple[str, bytes]],
        archive: Sequence[ArchivedJob] = (),
        about: Sequence[Sequence[str]] = (),
    ) -> int:
        """Commit events, and jobs into the archive, in one durable transaction; the last event's number.

        `about` names, for each event, whom it concerns, the first of them first: what `about` finds it by.

        Errors: Unavailable when it did not commit, and ever after; Refused for an event that no log can keep.
        """
        ...

    def read(self, after: int = 0, limit: int | None = None) -> Iterator[Entry]:
        """The events after number `after`, in order, each checked against the chain as it is read.

        Errors: Torn (a Refused) where the chain breaks, and where events are asked for that were pruned.
        """
        ...

    def about(self, subject: str) -> Iterator[Entry]:
        """The events about one subject that are still here, in order. They are not checked against the chain."""
        ...

    def mark(self, seq: int) -> Mark:
        """The place after an event. Errors: Refused when it was pruned or has not happened."""
        ...

    def seq_before(self, time_ns: int) -> int:
        """The last event before a moment, of those that are still here; the last pruned one when none is.

        Cost: some reads by number, for time never runs backwards in a site's log.
        """
        ...

    def snapshot(self) -> Snapshot | None:
        """The newest snapshot that is whole; None asks for a replay from the beginning."""
        ...

    def save_snapshot(self, seq: int, version: int, data: bytes) -> None: ...

    def archive(self, rows: Sequence[ArchivedJob]) -> None: ...

    def archived(self, job: str) -> bytes | None: ...

    def archived_list(self, account: str | None, before: int | None, limit: int) -> list[ArchivedJob]:
        """Jobs with a number below `before`, newest first."""
        ...

    def verify(self, segments: Sequence[Path] = (), told: Callable[[int], None] = nobody_told) -> Verdict:
        """Walk the whole chain, pruned events included while their exported files are found.

        `segments` says where files have moved to; without it they are looked for where they were written. `told` hears
        now and then how far the walk has come.
        May run in another thread or process while the head appends.
        """
        ...

    def export(self, path: Path, upto_seq: int) -> int:
        """Write the events still here up to `upto_seq` to a file (see `segment`); how many there are."""
        ...

    def exports(self) -> list[Exported]:
        """The files of what was pruned, oldest first."""
        ...

    def prunable_seq(self) -> int:
        """Events up to this one are not needed by a start: every kept snapshot lies behind them, the newest whole."""
        ...

    def prune(self, upto_seq: int) -> None:
        """Drop the events up to `upto_seq`, where an exported file ends and every kept snapshot begins no earlier.

        The file is read back and checked first. May run in another thread: appends go on between its small parts, and
        what a kill leaves of them the next call finishes.
        """
        ...

    def close(self) -> None: ...

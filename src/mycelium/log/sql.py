"""The log in a database, through SQLAlchemy Core: the same code for SQLite and PostgreSQL.

One connection writes, under one lock of this process; readings have connections of their own and hold up no append.
Never: tries a failed append again, or connects anew in order to write.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, bindparam, delete, select, update
from sqlalchemy.exc import SQLAlchemyError

from mycelium.base.errors import Problem, Refused, Unavailable
from mycelium.base.limits import LOG_DROP_EVENTS, LOG_PAGE_EVENTS
from mycelium.log import snapshots, tables
from mycelium.log.audit import segments_of, verdict_on
from mycelium.log.database import Database
from mycelium.log.entry import Entry, Mark, Torn, chain, follow, mark_after
from mycelium.log.opening import open_tables
from mycelium.log.seam import ArchivedJob, Exported, Snapshot, Verdict, check_archive, check_export, nobody_told
from mycelium.log.segment import check_segment, write_segment

_said = logging.getLogger(__name__)

PAUSE_S = 0.01  # between two small transactions of a pruning: whoever waits to append goes first

_insert_event = tables.event.insert()
_insert_concern = tables.concern.insert()
_insert_job = tables.archive.insert()
_delete_job = delete(tables.archive).where(tables.archive.c.job == bindparam("old"))
_move_tail = (
    update(tables.meta)
    .where(tables.meta.c.key == "tail", tables.meta.c.value == bindparam("before"))
    .values(value=bindparam("after"))
)
_events_after = select(*tables.event_columns).where(tables.event.c.seq > bindparam("seq")).order_by(tables.event.c.seq)
_events_about = select(*tables.event_columns).where(
    tables.event.c.about == bindparam("subject"), tables.event.c.seq > bindparam("seq")
)
_events_concerning = (
    select(*tables.event_columns)
    .join(tables.concern, tables.concern.c.seq == tables.event.c.seq)
    .where(tables.concern.c.about == bindparam("subject"), tables.event.c.seq > bindparam("seq"))
)
_page = _events_after.limit(bindparam("size"))
_event_at = select(*tables.event_columns).where(tables.event.c.seq == bindparam("seq"))


class SqlLog:
    def __init__(self, database: Database, *, read_only: bool = False) -> None:
        self.name = database.name
        self._database = database
        self._mutex = threading.RLock()
        self._closed = False
        self._snapshot_mutex = threading.Lock()
        self._refusal = f"the log {self.name} was opened to read" if read_only else ""
        try:
            if not read_only:
                database.lock()
            with self._explained():
                self.id, self._pruned, self._tail = open_tables(database, read_only=read_only)
                if not read_only:
                    database.writer()  # what cannot be written is found now, not at the first append
        except BaseException:
            database.close()
            raise

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

    def append(
        self,
        time_ns: int,
        events: Sequence[tuple[str, bytes]],
        archive: Sequence[ArchivedJob] = (),
        about: Sequence[Sequence[str]] = (),
    ) -> int:
        with self._mutex:
            entries = chain(self._tail, time_ns, events)
            check_archive(archive)
            tail = mark_after(entries, self._tail)
            with self._append() as connection:
                if entries:
                    connection.execute(_insert_event, _rows_of(entries, about))
                    more = _further(entries, about)
                    if more:
                        connection.execute(_insert_concern, more)
                    moved = connection.execute(_move_tail, {"before": str(self._tail), "after": str(tail)})
                    if moved.rowcount != 1:
                        raise Unavailable(f"the log {self.name} was written by another process")
                if archive:
                    _archive(connection, archive)
            self._tail = tail
            return tail.seq

    def read(self, after: int = 0, limit: int | None = None) -> Iterator[Entry]:
        with self._reading() as connection:
            start = self._mark_at(connection, after)
        return iter(()) if start is None else follow(self._entries(start.seq, limit), start)

    def about(self, subject: str) -> Iterator[Entry]:
        with self._reading() as connection:
            asked = (_events_about, _events_concerning)
            values = {"subject": subject, "seq": self._pruned.seq}
            rows = [row for query in asked for row in connection.execute(query, values)]
        return iter(sorted((Entry(*row) for row in rows), key=lambda entry: entry.seq))

    def mark(self, seq: int) -> Mark:
        with self._reading() as connection:
            return self._known_mark(connection, seq)

    def seq_before(self, time_ns: int) -> int:
        with self._reading() as connection:
            meta = tables.read_meta(connection)  # of this one moment: a pruning may go on meanwhile
            pruned, tail = (tables.read_mark(meta, key, self.name) for key in ("pruned", "tail"))
            before, after = pruned.seq, tail.seq + 1
            while after - before > 1:
                middle = (before + after) // 2
                if self._known_mark(connection, middle).time_ns < time_ns:
                    before = middle
                else:
                    after = middle
        return before

    def verify(self, segments: Sequence[Path] = (), told: Callable[[int], None] = nobody_told) -> Verdict:
        with self._reading() as connection:
            meta = tables.read_meta(connection)
            pruned, tail = (tables.read_mark(meta, key, self.name) for key in ("pruned", "tail"))
            exported = [found.path for found in _exports(connection)]
            rows = self._rows(connection, pruned.seq)
            return verdict_on(segments_of(exported, segments), pruned, tail, rows, told)

    def snapshot(self) -> Snapshot | None:
        with self._reading() as connection:
            return snapshots.newest(connection, self._mark_at)

    def save_snapshot(self, seq: int, version: int, data: bytes) -> None:
        """Keep the state after event `seq`. May run in another thread: appends go on between its parts."""
        with self._snapshot_mutex:
            with self._reading() as connection:
                place = self._mark_at(connection, seq)
            if place is None or place.seq == 0:
                raise Refused(f"there is no event {seq} to keep a snapshot of; the last one is {self.last_seq}")
            self._database.check_room(len(data))
            with self._writing() as connection:
                number = snapshots.next_id(connection, seq)
            for part, piece in enumerate(snapshots.parts_of(data)):
                with self._writing() as connection:
                    snapshots.write_part(connection, number, part, piece)
            with self._writing() as connection:
                snapshots.finish(connection, number, Snapshot(seq, version, data), place.hash)

    def archive(self, rows: Sequence[ArchivedJob]) -> None:
        check_archive(rows)
        if rows:
            with self._writing() as connection:
                _archive(connection, rows)

    def archived(self, job: str) -> bytes | None:
        with self._reading() as connection:
            row = connection.execute(select(*tables.archive_columns).where(tables.archive.c.job == job)).first()
        if row is None:
            return None
        if tables.archive_checksum(row) != row.checksum:
            raise Refused(f"what the archive keeps of {job} is damaged", hint="restore the log from a backup")
        return tables.archived_data(row)

    def archived_list(self, account: str | None, before: int | None, limit: int) -> list[ArchivedJob]:
        rows = tables.archive
        query = select(*tables.archive_columns).order_by(rows.c.number.desc())
        if account is not None:
            query = query.where(rows.c.account == account)
        if before is not None:
            query = query.where(rows.c.number < before)
        with self._reading() as connection:
            found = connection.execute(query.limit(limit)).all()
        whole = [row for row in found if tables.archive_checksum(row) == row.checksum]
        if len(whole) < len(found):
            _said.warning("%d damaged jobs of the archive are not listed", len(found) - len(whole))
        return [ArchivedJob(row.job, row.number, row.account, tables.archived_data(row)) for row in whole]

    def export(self, path: Path, upto_seq: int) -> int:
        path = Path(path).absolute()
        with self._reading() as connection:
            pruned = self._mark_at(connection, self._pruned.seq)
            last = self._mark_at(connection, upto_seq)
        check_export(path, self.first_seq, upto_seq, self.last_seq)
        assert pruned is not None and last is not None
        count = write_segment(path, pruned, last, self._entries(pruned.seq, upto_seq - pruned.seq))
        row = {"path": str(path), "first_seq": pruned.seq + 1, "last_seq": last.seq, "pruned": 0}
        segment = tables.segment
        with self._writing() as connection:
            # Of what is not pruned yet only the newest file counts: an earlier one may have been spoiled meanwhile.
            connection.execute(delete(segment).where((segment.c.path == str(path)) | (segment.c.pruned == 0)))
            connection.execute(segment.insert(), [row])
        return count

    def exports(self) -> list[Exported]:
        with self._reading() as connection:
            return _exports(connection)

    def prunable_seq(self) -> int:
        with self._reading() as connection:
            return snapshots.oldest_seq(connection) if snapshots.newest(connection, self._mark_at) else 0

    def prune(self, upto_seq: int) -> None:
        if upto_seq <= self._pruned.seq:
            self._drop_pruned()
            return
        segment, meta = tables.segment, tables.meta
        behind = self.prunable_seq()
        with self._reading() as connection:
            last = self._mark_at(connection, upto_seq)
            files = select(segment.c.path).where(
                segment.c.first_seq == self.first_seq, segment.c.last_seq == upto_seq, segment.c.pruned == 0
            )
            path = connection.execute(files).scalars().first()
        if last is None or upto_seq > behind:
            raise Refused(
                f"events up to {upto_seq} cannot be pruned: the snapshots cover them up to {behind}",
                hint="save snapshots first; a start needs every event after the older of the two kept",
            )
        if path is None:
            raise Refused(
                f"events {self.first_seq} to {upto_seq} cannot be pruned: no exported file ends there",
                hint=f"export them first, up to {upto_seq}",
            )
        check_segment(Path(path), self._pruned, last)
        with self._writing() as connection:
            connection.execute(update(segment).where(segment.c.path == path).values(pruned=1))
            connection.execute(update(meta).where(meta.c.key == "pruned").values(value=str(last)))
            self._pruned = last
        self._drop_pruned()

    def close(self) -> None:
        with self._mutex:
            if not self._refusal:
                self._database.remember(self.id, self.last_seq)
            self._refusal = f"the log {self.name} is closed"
            self._closed = True
            self._database.close()

    @contextmanager
    def _explained(self) -> Generator[None]:
        try:
            yield
        except (SQLAlchemyError, UnicodeDecodeError) as error:  # the latter where SQLite quotes a damaged name
            raise self._database.explain(error) from None

    @contextmanager
    def _reading(self) -> Generator[Connection]:
        if self._closed:
            raise Unavailable(self._refusal)
        with self._explained(), self._database.reader() as connection:
            yield connection  # its transaction begins with the first query and is rolled back: nothing was written

    @contextmanager
    def _writing(self) -> Generator[Connection]:
        """One transaction of the writer. A connection that was lost on the way stays lost."""
        with self._mutex:
            if self._refusal:
                raise Unavailable(self._refusal, hint="start the site again")
            writer = self._database.writer()
            try:
                with self._explained(), writer.begin():
                    yield writer
            except Problem as problem:
                if writer.invalidated:
                    self._refusal = problem.message
                raise
            except BaseException:
                self._refusal = f"the log {self.name} was interrupted while it wrote"
                raise

    @contextmanager
    def _append(self) -> Generator[Connection]:
        """The same, and whatever goes wrong ends the log."""
        try:
            with self._writing() as connection:
                yield connection
        except Problem as problem:
            self._refusal = problem.message
            raise Unavailable(problem.message, hint=problem.hint) from None

    def _mark_at(self, connection: Connection, seq: int) -> Mark | None:
        """The place after event `seq`; None when the log does not go that far."""
        meta = tables.read_meta(connection)
        pruned, tail = (tables.read_mark(meta, key, self.name) for key in ("pruned", "tail"))
        if seq == pruned.seq:
            return pruned
        if seq < pruned.seq:
            raise Refused(
                f"event {seq} is no longer in the log: events up to {pruned.seq} were exported and pruned",
                hint="a start needs a whole snapshot behind which nothing was pruned; restore the log from a backup",
            )
        if seq > tail.seq:
            return None
        row = connection.execute(_event_at, {"seq": seq}).first()
        if row is None:
            raise Torn(seq, "is missing")
        return Mark(row.seq, row.time_ns, row.hash)

    def _known_mark(self, connection: Connection, seq: int) -> Mark:
        found = self._mark_at(connection, seq)
        if found is None:
            raise Refused(f"there is no event {seq} yet; the last one is {self.last_seq}")
        return found

    def _entries(self, seq: int, limit: int | None) -> Iterator[Entry]:
        """Page by page, each in a transaction of its own."""
        left = limit
        while left is None or left > 0:
            size = LOG_PAGE_EVENTS if left is None else min(left, LOG_PAGE_EVENTS)
            with self._reading() as connection:
                page = [Entry(*row) for row in connection.execute(_page, {"seq": seq, "size": size})]
            yield from page
            if len(page) < size:
                return
            seq = page[-1].seq
            left = None if left is None else left - size

    def _rows(self, connection: Connection, seq: int) -> Iterator[Entry]:
        """Row by row, so that what can be read before a damaged page is read."""
        with self._explained():
            for row in connection.execute(_events_after, {"seq": seq}, execution_options={"stream_results": True}):
                yield Entry(*row)

    def _drop_pruned(self) -> None:
        """In small transactions, so that an append waits for one of them at most."""
        event = tables.event
        some = select(event.c.seq).where(event.c.seq <= self._pruned.seq).order_by(event.c.seq).limit(LOG_DROP_EVENTS)
        while True:
            with self._writing() as connection:
                seqs = connection.execute(some).scalars().all()
                if seqs:
                    connection.execute(delete(tables.concern).where(tables.concern.c.seq <= seqs[-1]))
                    connection.execute(delete(event).where(event.c.seq <= seqs[-1]))
                elif not self._database.give_back(connection):
                    return
            time.sleep(PAUSE_S)


def _rows_of(entries: Sequence[Entry], about: Sequence[Sequence[str]]) -> list[dict[str, object]]:
    """The first whom an event concerns stands in its own row: most concern nobody else."""
    firsts = [subjects[0] if subjects else "" for subjects in about] or [""] * len(entries)
    return [tables.event_row(entry, first) for entry, first in zip(entries, firsts, strict=True)]


def _further(entries: Sequence[Entry], about: Sequence[Sequence[str]]) -> list[dict[str, object]]:
    pairs = zip(entries, about, strict=False)
    return [{"about": one, "seq": entry.seq} for entry, subjects in pairs for one in subjects[1:]]


def _exports(connection: Connection) -> list[Exported]:
    segment = tables.segment
    rows = select(segment.c.path, segment.c.first_seq, segment.c.last_seq).where(segment.c.pruned == 1)
    return [Exported(*row) for row in connection.execute(rows.order_by(segment.c.first_seq))]


def _archive(connection: Connection, rows: Sequence[ArchivedJob]) -> None:
    """Insert, or replace what the same job left before."""
    connection.execute(_delete_job, [{"old": row.job} for row in rows])
    latest = {row.job: row for row in rows}.values()
    connection.execute(_insert_job, [tables.archive_row(row) for row in latest])

"""A log in a SQLite file: write-ahead log, every commit synced to disk, and a lock file that keeps a second head out.

The lock file outlives the process. It names the holder, and it remembers which log was kept here and how far it went
when it was last closed, so that a database which has vanished or was cut short is not taken for a new one.
Never: writes to a file before it is known to be a log or to be empty.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, NullPool, QueuePool, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from mycelium.base import lock
from mycelium.base.errors import Conflict, Missing, Problem, Refused, Unavailable
from mycelium.base.files import sync_directory
from mycelium.base.units import MIB, format_size

WAL_BYTES = 8 * MIB  # what the write-ahead file is cut back to; it grows to half of this between checkpoints
SPARE_SHARE = 4  # one page in so many may be empty: steady pruning and appending takes and leaves about as much
GIVE_BACK_PAGES = 256  # returned in one transaction: one MiB, so that an append does not wait long
BUSY_S = 10.0  # only a checkpoint can be in a commit's way: one process writes


INCREMENTAL = 2  # SQLite's number for it

_DAMAGED = ("malformed", "not a database", "could not decode", "no such table", "no such column")


class Sqlite:
    def __init__(self, path: Path, *, read_only: bool) -> None:
        self.path = Path(os.path.realpath(path))  # one lock for one file, by whatever name it is reached
        self.name = str(path)
        if read_only and not self.path.exists():
            raise Missing(f"no log at {path}", hint="`myc up` starts a site and its log")
        if not self.path.parent.is_dir():
            raise Missing(f"no directory {self.path.parent} for the log")
        self._lock_path = self.path.with_name(self.path.name + ".lock")
        self._lock: int | None = None
        self._readers = _engine(self.path, "ro")
        self._writers = _engine(self.path, "rw")
        self._writer: Connection | None = None

    def lock(self) -> None:
        try:
            self._lock = lock.take(self._lock_path)  # which says more than who has it: see `_witness`
        except lock.Busy as busy:
            who = f"process {busy.who.split()[0]}" if busy.who else "another process"
            raise Conflict(
                f"the log {self.name} is in use by {who}", hint="a log has one head: stop that one first (myc down)"
            ) from None
        except OSError as error:
            raise self.explain(error) from None
        known = self.remembered()
        self.remember(*known) if known else self._witness("")
        if not self.path.exists():
            self._create()

    def remembered(self) -> tuple[str, int] | None:
        if self._lock is None:
            return None
        words = os.pread(self._lock, 200, 0).decode(errors="replace").split()
        return (words[1], int(words[2])) if len(words) == 3 and words[2].isdecimal() else None

    def remember(self, log: str, seq: int) -> None:
        self._witness(f"{log} {seq:020}")

    def writer(self) -> Connection:
        if self._writer is None:
            self._writer = self._writers.connect()
        return self._writer

    def check_room(self, size_bytes: int) -> None:
        status = os.statvfs(self.path.parent)
        free_bytes = status.f_bavail * status.f_frsize
        if 2 * size_bytes + WAL_BYTES > free_bytes:  # it is written twice: ahead, and into its place
            raise Unavailable(
                f"the disk of the log {self.name} is too full for a snapshot of {format_size(size_bytes)}"
                f" ({self._free()} left)",
                hint="make room on it",
            )

    def give_back(self, connection: Connection) -> bool:
        pages, spare = (
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("page_count", "freelist_count")
        )
        mode = connection.exec_driver_sql("PRAGMA auto_vacuum").scalar_one()
        if mode != INCREMENTAL or spare * SPARE_SHARE <= pages:
            return False
        cursor = connection.connection.cursor()  # the driver's own: SQLite works on while rows without columns are read
        cursor.execute(f"PRAGMA incremental_vacuum({GIVE_BACK_PAGES})").fetchall()
        cursor.close()
        return True

    def reader(self) -> Connection:
        return self._readers.connect()

    def explain(self, error: Exception) -> Problem:
        cause = error.orig if isinstance(error, DBAPIError) else error
        said = str(getattr(cause, "strerror", None) or cause or error).lower()
        if "full" in said or "no space" in said:
            return Unavailable(
                f"the disk of the log {self.name} is full ({self._free()} left)",
                hint="make room on it and start the site again; nothing that was committed is lost",
            )
        if "readonly" in said or "read-only" in said:
            return Unavailable(f"the log {self.name} cannot be written: it is read-only")
        if isinstance(cause, UnicodeDecodeError) or any(word in said for word in _DAMAGED):
            return Refused(f"the log {self.name} is damaged: {said}", hint="restore it from a backup")
        return Unavailable(f"the log {self.name} is not answering: {said}")

    def close(self) -> None:
        self._readers.dispose()
        if self._writer is not None:
            with suppress(SQLAlchemyError):
                self._writer.close()  # the last connection to go writes everything into the database file
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _witness(self, text: str) -> None:
        assert self._lock is not None
        with suppress(OSError):  # a full disk must not keep a site from its log
            os.pwrite(self._lock, f"{os.getpid():<10} {text}\n".encode(), 0)

    def _create(self) -> None:
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            sync_directory(self.path.parent)
        except OSError as error:
            raise self.explain(error) from None

    def _free(self) -> str:
        try:
            status = os.statvfs(self.path.parent)
        except OSError:
            return "nothing known"
        return f"{format_size(status.f_bavail * status.f_frsize)} of {format_size(status.f_blocks * status.f_frsize)}"


def _engine(path: Path, mode: str) -> Engine:
    address = f"file:{quote(str(path))}?mode={mode}"

    def connect() -> sqlite3.Connection:
        # SQLAlchemy begins transactions itself (below): the driver's own guess at when to is turned off.
        return sqlite3.connect(address, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool if mode == "rw" else QueuePool)
    event.listen(engine, "begin", _begin_write if mode == "rw" else _begin_read)
    if mode == "rw":
        event.listen(engine, "connect", _make_durable)
    return engine


def _begin_write(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_read(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _make_durable(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # of a new file; one that has tables stays as it is
    (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    if mode != "wal":
        raise Refused(
            f"the file system of the log cannot do write-ahead logging (SQLite chose {mode!r})",
            hint="keep the log on a local disk, or in PostgreSQL",
        )
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA journal_size_limit={WAL_BYTES}")

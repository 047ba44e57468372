"""A log in PostgreSQL: commits wait for the disk, and an advisory lock keeps a second head out.

The lock belongs to the one connection that writes. If the connection is lost, so is the lock, and the log takes no
more: there is never a moment when two heads could write.
Never: connects a second time for writing, or prints a password.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import Any

from sqlalchemy import URL, Connection, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from mycelium.base.errors import Conflict, Problem, Refused, Unavailable

LOCK = 0x4D594345  # "MYCE": the first half of the advisory lock's number; the second is the schema's
LOCK_WAIT_S = 1.0  # a server needs a moment to see that the head before this one was killed
STATEMENT_MS = 30_000  # a statement that waits longer is given up, and with it the log
# A peer that vanished without a word is noticed within half a minute, on both sides.
NETWORK = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
SERVER = {
    "statement_timeout": str(STATEMENT_MS),
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}

_HOLDER = text(
    "SELECT application_name, client_addr FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory'"
    " AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND classid = :lock AND objid::bigint = hashtext(current_schema())::bigint & 4294967295"
)
_TRY_LOCK = text("SELECT pg_try_advisory_lock(:lock, hashtext(current_schema()))")
_FULL, _READ_ONLY = "53100", "25006"  # SQLSTATE


class Postgres:
    def __init__(self, url: str) -> None:
        address = _address(url)
        self.name = address.set(drivername="postgresql").render_as_string(hide_password=True)
        arguments = {**NETWORK, "application_name": f"mycelium {os.getpid()} {socket.gethostname()}"[:63]}
        for key in address.query:
            arguments.pop(key, None)
        try:
            self._engine = create_engine(address, connect_args=arguments, max_overflow=20)
        except ImportError:
            raise Refused("a log in PostgreSQL needs psycopg", hint="pip install 'mycelium[postgres]'") from None
        event.listen(self._engine, "connect", _make_durable)
        self._writer: Connection | None = None

    def lock(self) -> None:
        try:
            writer = self._engine.connect()
            deadline = time.monotonic() + LOCK_WAIT_S
            while True:
                with writer.begin():
                    mine = writer.execute(_TRY_LOCK, {"lock": LOCK}).scalar_one()
                    holder = None if mine else writer.execute(_HOLDER, {"lock": LOCK}).first()
                if mine or time.monotonic() > deadline:
                    break
                time.sleep(LOCK_WAIT_S / 20)
        except SQLAlchemyError as error:
            raise self.explain(error) from None
        if not mine:
            writer.close()
            raise Conflict(
                f"the log {self.name} is in use by {_who(holder)}",
                hint="a log has one head: stop that one first (myc down)",
            )
        self._writer = writer

    def remembered(self) -> tuple[str, int] | None:
        return None

    def remember(self, log: str, seq: int) -> None:
        """Nothing: the server keeps what it committed, and there is no place beside it."""

    def writer(self) -> Connection:
        assert self._writer is not None, "lock() first"
        return self._writer

    def check_room(self, size_bytes: int) -> None:
        """Nothing: a client does not see the server's disk."""

    def give_back(self, connection: Connection) -> bool:
        """Nothing: the server's own autovacuum makes the room free again."""
        return False

    def reader(self) -> Connection:
        return self._engine.connect().execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    def explain(self, error: Exception) -> Problem:
        cause = error.orig if isinstance(error, DBAPIError) else error
        state = getattr(cause, "sqlstate", None)
        said = (str(cause).strip().splitlines() or [type(cause).__name__])[0].lower()
        if state == _FULL:
            return Unavailable(
                f"the disk of the log {self.name} is full: {said}",
                hint="make room on the database server and start the site again; nothing that was committed is lost",
            )
        if state == _READ_ONLY:
            return Unavailable(f"the log {self.name} cannot be written: it is read-only")
        return Unavailable(f"the log {self.name} is not answering: {said}", hint="is the database server running?")

    def close(self) -> None:
        if self._writer is not None:
            with suppress(SQLAlchemyError):
                # Back in the pool it would keep the lock; closed for good, it gives it up at once.
                self._writer.invalidate()
                self._writer.close()
            self._writer = None
        self._engine.dispose()


def _address(url: str) -> URL:
    scheme, _, rest = url.partition("://")
    try:
        address = make_url("postgresql+psycopg://" + rest)
        address.port  # noqa: B018  (a port that is no number is found here)
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise Refused(f"the URL of the log ({scheme}://…) cannot be read", hint="postgresql://user@host/name") from None
    return address


def _make_durable(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        for name, value in SERVER.items():
            cursor.execute("SELECT set_config(%s, %s, false)", (name, value))
        # A server that is set to answer before its disk has would break the log's promise; stricter is left alone.
        cursor.execute(
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        )
    connection.commit()


def _who(holder: Any) -> str:
    words = (holder.application_name if holder else "").split()
    if len(words) != 3 or words[0] != "mycelium":
        return "another process"
    return f"process {words[1]} on {words[2]}"

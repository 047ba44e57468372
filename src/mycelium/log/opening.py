"""What a database holds when it is opened: nothing yet, this log, another version's, or something that is no log.

Never: changes what a database holds that is not empty; a table that an older log has not got is added.
"""

from __future__ import annotations

import secrets

from sqlalchemy import Connection, inspect, select

from mycelium.base.errors import Missing, Refused
from mycelium.log import tables
from mycelium.log.database import Database
from mycelium.log.entry import START, Mark, Torn

RESTORE = "restore it from a backup"


def open_tables(database: Database, *, read_only: bool) -> tuple[str, Mark, Mark]:
    """The log's own name, where it was pruned and where it ends; makes the tables of a new one.

    Errors: Refused when the database cannot be taken for a whole log of this version, or for an empty one.
    """
    found = _look(database)
    if found is None:
        return _new(database, read_only=read_only), START, START
    if not read_only:
        _check_witness(database, found[0], found[2])
        with database.writer().begin() as transaction:
            tables.add_later(transaction.connection, set(inspect(transaction.connection).get_table_names()))
    return found


def _look(database: Database) -> tuple[str, Mark, Mark] | None:
    with database.reader() as connection:
        seen = inspect(connection)
        there = set(seen.get_table_names())
        if not there:
            return None
        columns = {column["name"] for column in seen.get_columns("meta")} if "meta" in there else set[str]()
        meta = tables.read_meta(connection) if columns == {"key", "value"} else {}
        pruned, tail = _existing(database.name, there, meta)
        _check_end(connection, database.name, pruned, tail)
        return meta["log"], pruned, tail


def _existing(name: str, there: set[str], meta: dict[str, str]) -> tuple[Mark, Mark]:
    ours = set(tables.metadata.tables)
    needed = ours - tables.LATER
    if not there & ours:
        raise Refused(
            f"{name} holds other tables ({', '.join(sorted(there)[:3])}) and no log",
            hint="give the log a database of its own",
        )
    version = meta.get("format", "")
    if not version.isdecimal():
        raise Refused(f"the log {name} does not say its format: it is damaged, or not a log", hint=RESTORE)
    if int(version) != tables.FORMAT:
        raise Refused(
            f"the log {name} has format {version}; this version reads format {tables.FORMAT}",
            hint="start the site with the version of mycelium that wrote it, or a newer one; nothing was changed",
        )
    if not needed <= there or "log" not in meta:
        missing = ", ".join(sorted(needed - there)) or "its name"
        raise Refused(f"the log {name} lacks {missing}: it is damaged", hint=RESTORE)
    return tables.read_mark(meta, "pruned", name), tables.read_mark(meta, "tail", name)


def _new(database: Database, *, read_only: bool) -> str:
    if read_only:
        raise Missing(f"no log in {database.name}", hint="`myc up` starts a site and its log")
    known = database.remembered()
    if known:
        raise Refused(
            f"the log {database.name} is empty or gone, but had {known[1]} events or more",
            hint=f"{RESTORE}; to begin a new one and lose the old, delete {database.name}.lock",
        )
    log = secrets.token_hex(16)
    with database.writer().begin() as transaction:
        tables.create(transaction.connection, log)
    database.remember(log, 0)
    return log


def _check_end(connection: Connection, name: str, pruned: Mark, tail: Mark) -> None:
    """The last event must be the one that the tail names: it is written in the same transaction."""
    newest = select(*tables.event_columns).order_by(tables.event.c.seq.desc()).limit(1)
    row = connection.execute(newest).first()
    end = (row.seq, row.hash) if row and row.seq > pruned.seq else (pruned.seq, pruned.hash)
    if end != (tail.seq, tail.hash):
        raise Torn(min(end[0], tail.seq) + 1, f"is missing: {name} should end with event {tail.seq}")


def _check_witness(database: Database, log: str, tail: Mark) -> None:
    known = database.remembered()
    if known and known[0] == log and known[1] > tail.seq:
        raise Refused(
            f"the log {database.name} ends with event {tail.seq}, but had {known[1]} when it was closed",
            hint=f"it was cut short or replaced by an older copy: {RESTORE}, or delete {database.name}.lock to go on"
            " with this one",
        )
    database.remember(log, tail.seq)

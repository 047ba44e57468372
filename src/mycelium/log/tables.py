"""The tables of a log, the same in SQLite and PostgreSQL, and the marks kept beside the events.

`meta` holds `format` (the version of these tables), `log` (the name of this one log), `tail` (the last event) and
`pruned` (the last event that was exported and dropped). The tail is written with every append, so that events missing
from the end are seen.
Never: decides anything.
"""

from __future__ import annotations

import zlib
from typing import Any

from blake3 import blake3
from msgspec import structs
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    select,
    type_coerce,
)
from sqlalchemy.types import NULLTYPE

from mycelium.base.errors import Refused
from mycelium.log.entry import START, Entry, Mark, parse_mark
from mycelium.log.seam import ArchivedJob

FORMAT = 1
PACKED = b"\0z"  # begins the data of an archived job that is packed; what was never packed is JSON
LATER = frozenset({"concern"})  # tables that a log of 0.1 has not got: it is given them when it is opened to write

_NUMBER = BigInteger().with_variant(Integer, "sqlite")  # an INTEGER key is SQLite's own row number: no second index

metadata = MetaData()

event = Table(
    "event",
    metadata,
    Column("seq", _NUMBER, primary_key=True, autoincrement=False),
    Column("time_ns", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("about", Text, nullable=False),  # whom it concerns first, "" for nobody: an index, no part of the chain
    Index("event_about", "about", "seq"),
)
concern = Table(  # whom events concern besides
    "concern",
    metadata,
    Column("about", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
)
snapshot = Table(
    "snapshot",
    metadata,
    Column("id", _NUMBER, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("hash", LargeBinary, nullable=False),  # of event seq: the snapshot belongs to this history
    Column("checksum", LargeBinary, nullable=False),
)
snapshot_part = Table(
    "snapshot_part",
    metadata,
    Column("id", _NUMBER, primary_key=True, autoincrement=False),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
)
archive = Table(
    "archive",
    metadata,
    Column("job", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("account", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("checksum", LargeBinary, nullable=False),
    Index("archive_number", "number"),
    Index("archive_account", "account", "number"),
)
segment = Table(
    "segment",
    metadata,
    Column("path", Text, primary_key=True),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("pruned", Integer, nullable=False),
)
meta = Table("meta", metadata, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))


def _as_stored(table: Table) -> tuple[ColumnElement[Any], ...]:
    """Both drivers give bytes by themselves; as they come, a damaged value of another type is found by its hash."""
    return tuple(type_coerce(column, NULLTYPE).label(column.name) for column in table.columns)


event_columns = [column for column in _as_stored(event) if column.name != "about"]
snapshot_columns = _as_stored(snapshot)
snapshot_part_columns = _as_stored(snapshot_part)
archive_columns = _as_stored(archive)


def create(connection: Connection, log: str) -> None:
    metadata.create_all(connection)
    rows = {"format": str(FORMAT), "log": log, "tail": str(START), "pruned": str(START)}
    connection.execute(meta.insert(), [{"key": key, "value": value} for key, value in rows.items()])


def add_later(connection: Connection, there: set[str]) -> None:
    missing = [metadata.tables[name] for name in LATER - there]
    if missing:
        metadata.create_all(connection, tables=missing)


def event_row(entry: Entry, about: str) -> dict[str, object]:
    return {
        "about": about,
        "seq": entry.seq,
        "time_ns": entry.time_ns,
        "kind": entry.kind,
        "data": entry.data,
        "hash": entry.hash,
    }


def archive_row(job: ArchivedJob) -> dict[str, object]:
    row = structs.replace(job, data=_packed(job.data))
    return {**structs.asdict(row), "checksum": archive_checksum(row)}


def archived_data(row: Any) -> bytes:
    """What the caller gave of a job whose checksum is right. Rows of older versions are not packed."""
    return zlib.decompress(row.data[len(PACKED) :]) if row.data.startswith(PACKED) else row.data


def _packed(data: bytes) -> bytes:
    """A job is written once and seldom read: packed it takes less than half of the room."""
    packed = PACKED + zlib.compress(data)
    return packed if len(packed) < len(data) or data.startswith(PACKED) else data


def archive_checksum(row: Any) -> bytes | None:
    """Of a job's row as it is stored; None when the database gives no bytes."""
    if not isinstance(row.data, bytes):
        return None
    return blake3(f"{row.job}\0{row.number}\0{row.account}\0".encode(errors="replace") + row.data).digest()


def read_meta(connection: Connection) -> dict[str, str]:
    return {row.key: row.value for row in connection.execute(select(meta))}


def read_mark(rows: dict[str, str], key: str, name: str) -> Mark:
    try:
        return parse_mark(rows[key])
    except (KeyError, ValueError):
        raise Refused(
            f"the log {name} does not say its {key}: it is damaged", hint="restore it from a backup"
        ) from None

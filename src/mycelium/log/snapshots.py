"""Snapshots in their tables: written in parts, made valid by a last small row, checked when read.

Parts without that row are what an interrupted writing left; the next one sweeps them up.
Never: trusts a snapshot whose checksum or whose place in the chain does not fit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from blake3 import blake3
from sqlalchemy import Connection, Select, bindparam, delete, func, select
from sqlalchemy.exc import DBAPIError

from mycelium.base.errors import Refused
from mycelium.base.limits import SNAPSHOT_PART_BYTES, SNAPSHOTS_KEPT
from mycelium.log.entry import Mark
from mycelium.log.seam import Snapshot
from mycelium.log.tables import snapshot, snapshot_columns, snapshot_part, snapshot_part_columns

MarkAt = Callable[[Connection, int], Mark | None]

_parts = select(*snapshot_part_columns).where(snapshot_part.c.id == bindparam("number")).order_by(snapshot_part.c.part)
_said = logging.getLogger(__name__)


def checksum(seq: int, version: int, place: bytes, data: bytes) -> bytes:
    return blake3(f"{seq} {version} ".encode() + place).update(data).digest()


def parts_of(data: bytes) -> list[bytes]:
    return [data[at : at + SNAPSHOT_PART_BYTES] for at in range(0, len(data), SNAPSHOT_PART_BYTES)]


def next_id(connection: Connection, seq: int) -> int:
    """A number no snapshot has, after sweeping up parts that never became one."""
    newer = connection.execute(select(func.max(snapshot.c.seq))).scalar() or 0
    if newer > seq:
        raise Refused(f"a snapshot after event {seq} is older than the one kept, after event {newer}")
    connection.execute(delete(snapshot_part).where(snapshot_part.c.id.not_in(select(snapshot.c.id))))
    return (connection.execute(select(func.max(snapshot.c.id))).scalar() or 0) + 1


def write_part(connection: Connection, number: int, part: int, data: bytes) -> None:
    connection.execute(snapshot_part.insert(), [{"id": number, "part": part, "data": data}])


def finish(connection: Connection, number: int, taken: Snapshot, place: bytes) -> None:
    row = {
        "id": number,
        "seq": taken.seq,
        "version": taken.version,
        "hash": place,
        "checksum": checksum(taken.seq, taken.version, place, taken.data),
    }
    connection.execute(snapshot.insert(), [row])
    kept = connection.execute(select(snapshot.c.id).order_by(snapshot.c.id.desc()).limit(SNAPSHOTS_KEPT)).scalars()
    oldest = min(kept)
    for table in (snapshot, snapshot_part):
        connection.execute(delete(table).where(table.c.id < oldest))


def newest(connection: Connection, mark_at: MarkAt) -> Snapshot | None:
    """The newest snapshot that is whole and belongs to this history."""
    heads = select(*snapshot_columns).order_by(snapshot.c.id.desc())
    for row in _readable(connection, heads):
        data = b"".join(
            part.data if isinstance(part.data, bytes) else b""
            for part in _readable(connection, _parts, {"number": row.id})
        )
        if _fits(connection, mark_at, row, data):
            return Snapshot(row.seq, row.version, data)
        _said.warning("the snapshot after event %s is damaged and is passed over", row.seq)
    return None


def _fits(connection: Connection, mark_at: MarkAt, row: Any, data: bytes) -> bool:
    if not (isinstance(row.seq, int) and isinstance(row.version, int) and isinstance(row.hash, bytes)):
        return False
    try:
        place = mark_at(connection, row.seq)
    except Refused:
        return False
    return (
        place is not None and place.hash == row.hash and checksum(row.seq, row.version, row.hash, data) == row.checksum
    )


def _readable(connection: Connection, query: Select[Any], values: dict[str, Any] | None = None) -> list[Any]:
    """The rows of a query; none when they are damaged: there are older snapshots, and the events."""
    try:
        return list(connection.execute(query, values or {}).all())
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        _said.warning("snapshots cannot be read: %s", error.orig)
        return []


def oldest_seq(connection: Connection) -> int:
    """Events up to here are behind every kept snapshot."""
    return connection.execute(select(func.min(snapshot.c.seq))).scalar() or 0

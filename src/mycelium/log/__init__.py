"""The log: everything that happened at a site, in order, durable and verifiable.

`open_log` opens one that lasts, `MemoryLog` is one for the simulator; both keep the promises of `seam.Log`.
Never: knows what an event means.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mycelium.log.entry import Entry, Torn
from mycelium.log.memory import MemoryLog
from mycelium.log.seam import ArchivedJob, Log, Snapshot, Verdict

if TYPE_CHECKING:
    from mycelium.log.sql import SqlLog

__all__ = ["open_log", "Log", "MemoryLog", "Entry", "Snapshot", "ArchivedJob", "Verdict", "Torn"]


def open_log(where: str | Path, *, read_only: bool = False) -> SqlLog:
    """Open or make the log in a SQLite file (a path, `sqlite:///path`) or in PostgreSQL (`postgresql://…`).

    A log opened `read_only` needs no lock: it may be read and verified while a head writes it.
    Errors: Conflict when another process writes it; Refused when it is damaged, of another version or no log; Missing
    when it is only to be read and there is none; Unavailable when it does not answer.
    """
    # SQLAlchemy takes half a second to import: only who opens a log pays for it.
    from mycelium.log.address import database_at
    from mycelium.log.sql import SqlLog

    return SqlLog(database_at(where, read_only=read_only), read_only=read_only)

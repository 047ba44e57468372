"""What a log needs of the database that keeps it. `sqlite` and `postgres` are the two there are.

Never: knows the tables.
"""

from __future__ import annotations

from typing import Protocol

from sqlalchemy import Connection

from mycelium.base.errors import Problem


class Database(Protocol):
    name: str  # for people: a path, or a URL without its password

    def lock(self) -> None:
        """Keep every other writer out until `close`. Errors: Conflict, naming the holder where that can be known."""
        ...

    def remembered(self) -> tuple[str, int] | None:
        """The log that was kept here and the last event it had when it was closed, by a witness beside the database."""
        ...

    def remember(self, log: str, seq: int) -> None: ...

    def writer(self) -> Connection:
        """The only connection that writes; it is never replaced, so that it cannot outlive the lock."""
        ...

    def check_room(self, size_bytes: int) -> None:
        """Errors: Unavailable when so much cannot be written without taking the last room from the events."""
        ...

    def reader(self) -> Connection:
        """A new connection that only reads and sees one moment of the log for the length of a transaction."""
        ...

    def give_back(self, connection: Connection) -> bool:
        """Return a little of the room that dropped events left to the disk, within a transaction of the writer.

        Whether there is more; never when what is left is room that new events will soon take.
        """
        ...

    def explain(self, error: Exception) -> Problem:
        """The same failure in the words of a person: full, read-only, not answering, damaged."""
        ...

    def close(self) -> None: ...

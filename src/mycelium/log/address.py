"""Which database a path or a URL means."""

from __future__ import annotations

from pathlib import Path

from mycelium.base.errors import Refused
from mycelium.log.database import Database


def database_at(where: str | Path, *, read_only: bool) -> Database:
    scheme, separator, rest = str(where).partition("://") if isinstance(where, str) else ("", "", "")
    if scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        from mycelium.log.postgres import Postgres

        return Postgres(str(where))
    if separator and scheme != "sqlite":
        raise Refused(
            f"a log cannot be kept in {scheme}://…",
            hint="give the path of a SQLite file, or postgresql://user@host/name",
        )
    from mycelium.log.sqlite import Sqlite

    path = rest.removeprefix("/") if separator else str(where)
    if not path or "\0" in path:
        raise Refused(
            f"{str(where)!r} does not name a file for the log", hint="write sqlite:////absolute/path or a path"
        )
    return Sqlite(Path(path).expanduser(), read_only=read_only)

"""How many events a second the log makes durable, beside what the disk itself can do with the same bytes.

`python -m bench.log` measures SQLite in a temporary directory (or under BENCH_DIR), and PostgreSQL too when
MYC_BENCH_POSTGRES holds the URL of an empty database. The bound is one `pwrite` and one `fdatasync` of a batch's bytes,
into a file that already has its size. The peer is SQLite by hand, as durable, with neither the chain of hashes nor an
index.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from bench.alone import alone, doing
from bench.row import Row
from mycelium.log import open_log

EVENT = ("job.submitted.1", b'{"job":"job-123456","account":"account-1","command":["true"],"devices":{}}' * 4)
BATCHES = (1, 10, 100, 1000)
COMMIT_GOAL_PER_S = 1000  # one commit in under a millisecond: the head waits for it


def commits_per_s(seconds: float, commit: Callable[[], object]) -> float:
    """Commit again and again for about `seconds`."""
    commit()
    count, started = 0, time.perf_counter()
    while (spent := time.perf_counter() - started) < seconds:
        commit()
        count += 1
    return count / spent


def bounds(folder: Path, seconds: float) -> dict[int, float]:
    """Commits a second of each batch's bytes alone."""
    rates: dict[int, float] = {}
    for batch in BATCHES:
        doing(f"the disk alone, {batch} events a commit")
        data = EVENT[1] * batch
        handle = os.open(folder / f"raw-{batch}", os.O_CREAT | os.O_WRONLY, 0o600)
        rates[batch] = commits_per_s(seconds, lambda h=handle, d=data: (os.pwrite(h, d, 0), os.fdatasync(h)))
        os.close(handle)
    return rates


def by_hand(folder: Path, seconds: float) -> dict[int, float]:
    """Commits a second of SQLite without us."""
    rates: dict[int, float] = {}
    with closing(sqlite3.connect(folder / "by-hand.db")) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE event (seq INTEGER PRIMARY KEY, kind TEXT, data BLOB)")

        def commit(batch: int) -> None:
            with database:
                database.executemany("INSERT INTO event (kind, data) VALUES (?, ?)", [EVENT] * batch)

        for batch in BATCHES:
            doing(f"SQLite by hand, {batch} events a commit")
            rates[batch] = commits_per_s(seconds, partial(commit, batch))
    return rates


def appends(
    name: str, where: str, seconds: float, bound: dict[int, float], peer: dict[int, float] | None = None
) -> list[Row]:
    rows: list[Row] = []
    with closing(open_log(where)) as log:
        for batch in BATCHES:
            doing(f"{name}, {batch} events a commit")
            events = [EVENT] * batch
            rate = commits_per_s(seconds, lambda events=events: log.append(1, events))
            rows.append(
                Row(
                    f"{name}, {batch} event{'s' * (batch > 1)} a commit",
                    rate * batch,
                    "/s",
                    COMMIT_GOAL_PER_S * batch if batch == 1 else None,
                    peers=f"SQLite by hand {peer[batch] * batch:,.0f}/s" if peer else "",
                    bound=f"the disk alone {bound[batch] * batch:,.0f}/s",
                    note=f"{1000 / rate:.2f} ms a commit",
                )
            )
    return rows


def readings(where: str, seconds: float) -> list[Row]:
    with closing(open_log(where)) as log:
        count = log.last_seq
        doing("reading back")
        replay = commits_per_s(seconds, lambda: deque(log.read(), maxlen=0))
        audit = commits_per_s(seconds, log.verify)
    return [
        Row("read back for a replay, each event checked", replay * count, "/s"),
        Row("audit of the whole chain", audit * count, "/s"),
    ]


def run(small: bool = False) -> list[Row]:
    seconds = 0.02 if small else 2.0
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        where = str(Path(folder) / "site.db")
        bound = bounds(Path(folder), seconds)
        rows = appends("SQLite", where, seconds, bound, by_hand(Path(folder), seconds))
        if url := os.environ.get("MYC_BENCH_POSTGRES"):
            rows += appends("PostgreSQL", url, seconds, bound)
        return rows + readings(where, seconds)


if __name__ == "__main__":
    alone("the log", run)

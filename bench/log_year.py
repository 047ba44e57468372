"""A simulated year of a busy site: what its log costs in disk, start-up time and memory when it prunes itself.

The real core with a pretended clock and pretended nodes, over a real SQLite log on disk. A year has 20,000 jobs, so
that it fits among the other benchmarks; `BENCH_YEAR_JOBS=1000000 python -m bench.log_year` is that of a busy site.
"""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from msgspec import Struct

from bench.alone import alone, doing
from bench.row import Row
from mycelium.accounts.model import Role
from mycelium.accounts.rules import AddAccount
from mycelium.base.domain import Asked
from mycelium.base.ids import AccountId, NodeId
from mycelium.base.limits import LOG_EVENTS_MAX, LOG_FILE_EVENTS, LOG_KEEP_S, SNAPSHOT_EVENTS
from mycelium.base.subject import SITE
from mycelium.base.units import DAY_S, GIB, MIB, S_NS
from mycelium.engine.orders import Ended, Exited, Hello, Reason, Start, Started
from mycelium.engine.seam import NodeUp
from mycelium.head.core import Core, HeadSettings
from mycelium.head.retention import LogKeeper
from mycelium.jobs.commands import Submit
from mycelium.jobs.model import Request
from mycelium.log import open_log
from mycelium.log.retention import Keep
from mycelium.log.sql import SqlLog
from mycelium.nodes.model import Devices

JOBS, SMALL_JOBS = 20_000, 3_000
NODES, NODE_CPUS = 8, 64
BATCH = 100  # jobs of one turn: with the steps of the turn after it, as many as a busy head takes at once
YEAR_NS = 365 * DAY_S * S_NS
BEGIN_NS = 1_800_000_000 * S_NS
DATABASE_GOAL_BYTES = 2_000 * MIB  # with a million jobs in the archive
START_GOAL_S = 5.0

# What a start costs, in a process of its own.
STARTS = """
import resource, sys, time
begun = time.perf_counter()
from mycelium.head.core import Core
from mycelium.log import open_log
log = open_log(sys.argv[1])
core = Core(log, log.last_time_ns)
print(time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, len(core.site.jobs.by_id))
"""


class Year(Struct):
    """What is left after it."""

    jobs: int
    events: int  # that happened
    events_kept: int  # that the database still holds
    replayed: int  # by the next start
    snapshot_bytes: int
    database_bytes: int
    exported_bytes: int
    files: int
    archived: int
    turn_ms_max: float
    verified: bool


class Site:
    """A core whose nodes do what they are told in no time."""

    def __init__(self, log: SqlLog, folder: Path, settings: HeadSettings, keep: Keep) -> None:
        self.log = log
        self.now_ns = max(BEGIN_NS, log.last_time_ns)
        self.core = Core(log, self.now_ns, settings)
        self.keeper = LogKeeper(self.core, lambda: self.now_ns, folder, keep)
        self.turn_ms_max = 0.0
        self._turn(AddAccount("root", Role.ADMIN, "r" * 64, "site"))
        has = Devices(NODE_CPUS * 1000, 256 * GIB)
        for number in range(1, NODES + 1):
            name = f"node-{number}"
            self._turn(NodeUp(Hello(1, NodeId(name), name, "b1", has, {"sandbox": "process"}, "::1", "0", "3", ())))

    def work(self, count: int) -> None:
        """So many jobs, from the submit to the exit of their steps."""
        request = Request(("python3", "train.py", "--epochs", "10"), "train", Devices(1000, 512 * MIB), 3_600_000)
        orders = self._turn(Submit(AccountId("account-1"), (request,) * count))
        starts = [(node, order.step.id) for node, order in orders if isinstance(order, Start)]
        self._turn(*(Started(node, step, self.now_ns) for node, step in starts))
        self._turn(*(Exited(node, step, Ended(Reason.EXIT, 0)) for node, step in starts))

    async def keep_up(self) -> None:
        """What a head does beside its turns."""
        if self.core.snapshot_due():
            taken = self.core.take_snapshot()
            self.log.save_snapshot(taken.seq, taken.version, taken.data)
            await self.keeper.look()

    def _turn(self, *commands: object) -> list:
        begun = time.perf_counter()
        turn = self.core.turn([Asked(SITE, command) for command in commands], self.now_ns)
        self.turn_ms_max = max(self.turn_ms_max, (time.perf_counter() - begun) * 1000)
        problems = [answer.problem for answer in turn.answers if answer.problem]
        if problems:
            raise problems[0]
        return turn.orders


def live(folder: Path, jobs: int, settings: HeadSettings | None = None, keep: Keep | None = None) -> Year:
    """A year in which so many jobs run, evenly. What it leaves lies in `folder`."""
    return asyncio.run(_live(folder, jobs, settings or HeadSettings(), keep or Keep()))


async def _live(folder: Path, jobs: int, settings: HeadSettings, keep: Keep) -> Year:
    log = open_log(folder / "site.db")
    try:
        site = Site(log, folder / "log", settings, keep)
        done, said_s = 0, time.monotonic()
        while done < jobs:
            count = min(BATCH, jobs - done)
            site.now_ns += YEAR_NS * count // jobs
            site.work(count)
            done += count
            await site.keep_up()
            if time.monotonic() - said_s > 5:
                said_s = time.monotonic()
                doing(f"{done:,} of {jobs:,} jobs")
        doing("verifying")
        return _seen(site, folder, jobs)
    finally:
        log.close()


def _seen(site: Site, folder: Path, jobs: int) -> Year:
    log = site.log
    snapshot = log.snapshot()
    files = list((folder / "log").glob("*.jsonl.gz"))
    verdict = site.keeper.whole.verify()
    return Year(
        jobs=jobs,
        events=log.last_seq,
        events_kept=log.last_seq - log.pruned.seq,
        replayed=log.last_seq - (snapshot.seq if snapshot else 0),
        snapshot_bytes=len(snapshot.data) if snapshot else 0,
        database_bytes=sum(path.stat().st_size for path in folder.glob("site.db*")),
        exported_bytes=sum(path.stat().st_size for path in files),
        files=len(files),
        archived=jobs - len(site.core.site.jobs.by_id),
        turn_ms_max=site.turn_ms_max,
        verified=verdict.ok and verdict.events == log.last_seq,
    )


def start_again(folder: Path) -> tuple[float, float]:
    """Seconds and bytes of memory of a head that finds this log."""
    words = [sys.executable, "-c", STARTS, str(folder / "site.db")]
    seconds, memory, _ = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    return float(seconds), float(memory)


def rows_of(year: Year, spent_s: float, start: tuple[float, float]) -> list[Row]:
    if not year.verified:
        raise RuntimeError("the log and its files are not one whole chain")
    per_job = f"{year.events / year.jobs:.1f} events a job; simulated at {year.jobs / spent_s:,.0f} jobs/s"
    gone = year.events - year.events_kept
    return [
        Row("what happened, all verified afterwards", year.events, "events", note=per_job),
        Row(
            "what the database still holds", year.events_kept, "events", LOG_EVENTS_MAX + LOG_FILE_EVENTS, "less",
            note=f"{LOG_KEEP_S // DAY_S} days, and never more than {LOG_EVENTS_MAX:,}",
        ),
        Row(
            "the database", year.database_bytes / MIB, "MiB", DATABASE_GOAL_BYTES / MIB, "less",
            note=f"{year.archived:,} jobs are in its archive",
        ),
        Row(
            "files of pruned events", year.exported_bytes / MIB, "MiB",
            note=f"{year.files} files, {year.exported_bytes / max(1, gone):.0f} bytes an event",
        ),
        Row("the newest snapshot", year.snapshot_bytes / MIB, "MiB"),
        Row("what a start replays", year.replayed, "events", SNAPSHOT_EVENTS + 5 * BATCH * 6, "less"),
        Row("a start: the log opened, state restored", start[0], "s", START_GOAL_S, "less"),
        Row("memory after a start", start[1] / MIB, "MiB"),
        Row("memory of the year", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "MiB"),
        Row("the longest turn of the head", year.turn_ms_max, "ms", note=f"{BATCH} jobs submitted, or ended, in one"),
    ]  # fmt: skip


def run(small: bool = False) -> list[Row]:
    jobs = SMALL_JOBS if small else int(os.environ.get("BENCH_YEAR_JOBS", JOBS))
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        begun = time.perf_counter()
        year = live(Path(folder), jobs)
        spent_s = time.perf_counter() - begun
        return rows_of(year, spent_s, start_again(Path(folder)))


if __name__ == "__main__":
    alone("a year of the log", run)

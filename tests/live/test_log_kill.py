"""kill -9 of a process that appends without pause: what `append` returned for is there, and the chain is whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mycelium.base.errors import Conflict
from mycelium.log import open_log
from mycelium.log.sql import SqlLog
from tests.live.postgres import PostgresServer, postgres_server, postgres_url  # noqa: F401

ROUNDS = 5
SEED = 20_26

# Writes the number of every event that `append` has returned for. Each batch archives a job; some take a snapshot.
WRITER = """
import os, sys
from mycelium.log import ArchivedJob, open_log
log = open_log(sys.argv[1])
said = sys.stdout.fileno()
os.write(said, b"%d\\n" % log.last_seq)
while True:
    first = log.last_seq + 1
    events = [("n", b"%d" % seq) for seq in range(first, first + first % 7 + 1)]
    last = log.append(first, events, [ArchivedJob(f"job-{first}", first, "account-1", b"%d" % first)])
    os.write(said, b"%d\\n" % last)
    if first % 5 == 0:
        log.save_snapshot(last, 1, b"%d" % last * 200_000)
"""


@pytest.fixture(params=["sqlite", "postgres"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "site.db")
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def writers() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def start(where: str, writers: list[subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", WRITER, where], stdout=subprocess.PIPE, bufsize=0)
    writers.append(process)
    return process


def open_when_free(where: str) -> SqlLog:
    while True:
        try:
            return open_log(where)
        except Conflict:
            continue  # a busy server needs a while to see that its client is gone


def test_every_append_that_returned_outlives_kill_9(where: str, writers: list[subprocess.Popen[bytes]]) -> None:
    chance = random.Random(SEED)
    acknowledged = 0
    for _ in range(ROUNDS):
        writer = start(where, writers)
        assert writer.stdout is not None
        for _ in range(chance.randrange(5, 60)):
            acknowledged = int(writer.stdout.readline())
        time.sleep(chance.random() / 20)  # anywhere in an append
        writer.kill()
        rest = writer.stdout.read().split(b"\n")  # what it still said before it died was returned for as well
        acknowledged = max([acknowledged, *map(int, rest[:-1])])
        writer.wait()
        log = open_when_free(where)
        try:
            assert log.last_seq >= acknowledged
            entries = list(log.read())
            assert [int(entry.data) for entry in entries] == list(range(1, log.last_seq + 1))
            assert log.verify().ok
            batches = {entry.time_ns for entry in entries}
            assert {row.number for row in log.archived_list(None, None, 10**6)} == batches  # with their events, or not
            snapshot = log.snapshot()
            assert snapshot is None or snapshot.data == b"%d" % snapshot.seq * 200_000
        finally:
            log.close()
    assert acknowledged > 0


def test_a_killed_head_leaves_no_lock_and_a_stopped_one_keeps_it(
    where: str, writers: list[subprocess.Popen[bytes]]
) -> None:
    writer = start(where, writers)
    assert writer.stdout is not None
    writer.stdout.readline()
    os.kill(writer.pid, signal.SIGSTOP)  # not dead: only silent
    with pytest.raises(Conflict, match=f"process {writer.pid}"):
        open_log(where)
    writer.kill()
    writer.wait()
    opened = open_when_free(where)
    assert opened.verify().ok
    opened.close()


# Appends without pause, takes snapshots, exports and prunes; says what was appended, and how far it pruned.
PRUNER = """
import os, sys
from pathlib import Path
from mycelium.log import open_log
folder = Path(sys.argv[2])
log = open_log(sys.argv[1])
said = sys.stdout.fileno()
while True:
    first = log.last_seq + 1
    log.append(first, [("n", b"%d" % seq) for seq in range(first, first + 400)])
    log.save_snapshot(log.last_seq, 1, b"state")
    os.write(said, b"%d\\n" % log.last_seq)
    upto = log.prunable_seq()
    if upto > log.pruned.seq:
        log.export(folder / f"{upto}.jsonl.gz", upto)
        log.prune(upto)
"""


def test_kill_9_in_the_middle_of_pruning_loses_no_event(
    where: str, tmp_path: Path, writers: list[subprocess.Popen[bytes]]
) -> None:
    chance = random.Random(SEED)
    folder = tmp_path / "log"
    folder.mkdir()
    acknowledged = 0
    for _ in range(ROUNDS):
        writer = subprocess.Popen([sys.executable, "-c", PRUNER, where, str(folder)], stdout=subprocess.PIPE, bufsize=0)
        writers.append(writer)
        assert writer.stdout is not None
        for _ in range(chance.randrange(2, 6)):
            acknowledged = int(writer.stdout.readline())
        time.sleep(chance.random() / 5)  # anywhere in an append, an export or a pruning
        writer.kill()
        rest = writer.stdout.read().split(b"\n")
        acknowledged = max([acknowledged, *map(int, rest[:-1])])
        writer.wait()
        log = open_when_free(where)
        try:
            assert log.last_seq >= acknowledged
            verdict = log.verify()
            assert (verdict.ok, verdict.events, verdict.unseen) == (True, log.last_seq, ())
            kept = list(log.read(log.pruned.seq))
            assert [int(entry.data) for entry in kept] == list(range(log.first_seq, log.last_seq + 1))
            snapshot = log.snapshot()
            assert snapshot is None or snapshot.seq >= log.pruned.seq  # a start has all that it needs
        finally:
            log.close()
    assert list(folder.glob("*.jsonl.gz"))

"""What the log in SQLite does when its file is damaged, and when threads share it."""

from __future__ import annotations

import random
import sqlite3
import threading
from pathlib import Path

import pytest

from mycelium.base.errors import Problem, Refused
from mycelium.log import ArchivedJob, Entry, open_log

SEED = 4


def make(path: Path, count: int = 300) -> list[Entry]:
    log = open_log(path)
    for first in range(0, count, 10):
        log.append(first, [("kind.one", b"payload-%06d-" % number * 4) for number in range(first, first + 10)])
    entries = list(log.read())
    log.close()
    return entries


def test_one_changed_byte_of_an_event_is_found(tmp_path: Path) -> None:
    entries = make(tmp_path / "site.db")
    content = (tmp_path / "site.db").read_bytes()
    at = content.index(b"payload-000123-")
    (tmp_path / "site.db").write_bytes(content[: at + 3] + b"X" + content[at + 4 :])
    log = open_log(tmp_path / "site.db")
    verdict = log.verify()
    assert (verdict.ok, verdict.bad_seq, verdict.last_seq) == (False, 124, 123)
    with pytest.raises(Refused, match="event 124 "):
        list(log.read())
    assert list(log.read(0, 123)) == entries[:123]
    log.close()


def test_no_damage_of_the_file_goes_unnoticed_or_crashes(tmp_path: Path) -> None:
    entries = make(tmp_path / "site.db")
    content = (tmp_path / "site.db").read_bytes()
    chance = random.Random(SEED)
    found = 0
    for number in range(60):
        damaged = bytearray(content)
        damaged[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path = tmp_path / f"{number}.db"
        path.write_bytes(damaged)
        try:
            log = open_log(path, read_only=True)
        except Problem:
            found += 1
            continue
        try:
            if log.verify().ok:  # then it hit room that no event is kept in
                assert list(log.read()) == entries
            else:
                found += 1
        finally:
            log.close()
    assert found > 10


def test_a_damaged_snapshot_falls_back_to_the_older_one_and_then_to_a_replay(tmp_path: Path) -> None:
    make(tmp_path / "site.db")
    log = open_log(tmp_path / "site.db")
    for seq in (100, 200, 300):
        log.save_snapshot(seq, 1, b"state-%d" % seq * 1000)
    log.close()

    def snapshot_after(statement: str) -> int | None:
        with sqlite3.connect(tmp_path / "site.db") as connection:
            connection.execute(statement)
        connection.close()
        log = open_log(tmp_path / "site.db")
        found = log.snapshot()
        log.close()
        return found.seq if found else None

    assert snapshot_after("SELECT 1") == 300
    assert snapshot_after("UPDATE snapshot_part SET data = x'00' WHERE id = 3") == 200
    assert snapshot_after("UPDATE snapshot SET version = 2 WHERE id = 2") is None
    with sqlite3.connect(tmp_path / "site.db") as connection:
        assert connection.execute("SELECT count(*) FROM snapshot").fetchone() == (2,)  # the third was dropped
    connection.close()


def test_a_damaged_job_of_the_archive_is_refused_and_not_listed(tmp_path: Path) -> None:
    log = open_log(tmp_path / "site.db")
    log.archive([ArchivedJob(f"job-{number}", number, "account-1", b"result") for number in (1, 2)])
    with sqlite3.connect(tmp_path / "site.db") as connection:
        connection.execute("UPDATE archive SET data = x'00' WHERE number = 2")
    connection.close()
    assert log.archived("job-1") == b"result"
    with pytest.raises(Refused, match="job-2 is damaged"):
        log.archived("job-2")
    assert [row.job for row in log.archived_list(None, None, 10)] == ["job-1"]
    log.close()


def test_a_log_pruned_behind_a_damaged_snapshot_refuses_to_replay_a_part(tmp_path: Path) -> None:
    make(tmp_path / "site.db")
    log = open_log(tmp_path / "site.db")
    log.save_snapshot(100, 1, b"state")
    log.export(tmp_path / "events.jsonl", 100)
    log.prune(100)
    log.close()
    with sqlite3.connect(tmp_path / "site.db") as connection:
        connection.execute("UPDATE snapshot SET checksum = x'00'")
    connection.close()
    log = open_log(tmp_path / "site.db")
    found = log.snapshot()
    assert found is None
    with pytest.raises(Refused, match="no longer in the log"):
        log.read(0)
    log.close()


def test_a_second_writer_that_got_past_the_lock_is_noticed(tmp_path: Path) -> None:
    """As on a file system whose locks do nothing."""
    make(tmp_path / "site.db", 10)
    one = open_log(tmp_path / "site.db")
    (tmp_path / "site.db.lock").unlink()
    two = open_log(tmp_path / "site.db")
    assert one.append(1, [("a", b"")]) == 11
    with pytest.raises(Problem):
        two.append(1, [("b", b"")])
    assert one.append(1, [("a", b"")]) == 12
    assert one.verify().ok
    one.close()
    two.close()


def test_snapshots_archive_and_audit_in_other_threads_while_the_head_appends(tmp_path: Path) -> None:
    log = open_log(tmp_path / "site.db")
    log.append(1, [("a", b"")])
    stop = threading.Event()
    failures: list[BaseException] = []

    def in_thread(work) -> threading.Thread:
        def run() -> None:
            try:
                while not stop.is_set():
                    work()
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def audit() -> None:
        assert log.verify().ok

    def replay() -> None:
        seqs = [entry.seq for entry in log.read()]
        assert seqs == list(range(1, len(seqs) + 1))

    threads = [
        in_thread(audit),
        in_thread(replay),
        in_thread(lambda: log.save_snapshot(log.last_seq, 1, bytes(3_000_000))),
    ]
    for number in range(60):
        log.append(number, [("a", b"%d" % number)] * 5)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert log.last_seq == 301
    log.close()

"""A disk that is full, read-only or failing: a clear error, and nothing committed is lost."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mycelium.base.errors import Refused, Unavailable
from mycelium.base.units import KIB, MIB
from mycelium.log import open_log
from mycelium.log.sql import SqlLog

SMALL_BYTES = 12 * MIB


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of a few megabytes."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_BYTES}", "tmpfs", disk],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        for size in (64 * KIB, 4 * KIB, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return ballast


def append_until_full(log: SqlLog) -> int:
    """The last event that an append returned for."""
    last = log.last_seq
    with pytest.raises(Unavailable, match=r"the disk of the log .*site\.db is full \(.* of 12M left\)"):
        while True:
            last = log.append(1, [("filler", bytes(20_000))])
    return last


def test_a_full_disk_ends_the_log_and_loses_nothing(small_disk: Path) -> None:
    log = open_log(small_disk / "site.db")
    last = append_until_full(log)
    assert last > 10
    with pytest.raises(Unavailable, match="is full"):
        log.append(2, [("small", b"")])  # once failed, memory may not be what the log says
    assert sum(1 for _ in log.read()) == last  # it can still be read
    log.close()

    (small_disk / "ballast").unlink(missing_ok=True)
    subprocess.run(["mount", "-o", f"remount,size={2 * SMALL_BYTES}", small_disk], check=True)
    log = open_log(small_disk / "site.db")
    assert log.last_seq == last
    assert log.verify().ok
    assert log.append(2, [("small", b"")]) == last + 1
    log.close()


def test_a_disk_filled_by_others_never_costs_a_committed_event(small_disk: Path) -> None:
    last = 0
    for size in (0, 100, 5_000, 50_000, 500_000):
        log = open_log(small_disk / "site.db")
        last = log.append(1, [("before", b"")])
        ballast = fill(small_disk)
        try:
            while True:
                last = log.append(1, [("during", bytes(size))])
                if last % 500 == 0:
                    break  # small events fit into what the log has already taken
        except Unavailable as told:
            assert "is full" in told.message
        log.close()
        ballast.unlink()
        log = open_log(small_disk / "site.db")
        assert log.last_seq == last
        assert log.verify().ok
        log.close()


def test_opening_on_a_full_disk_says_so_or_works(small_disk: Path) -> None:
    log = open_log(small_disk / "site.db")
    last = log.append(1, [("before", b"")])
    log.close()
    ballast = fill(small_disk)
    try:
        log = open_log(small_disk / "site.db")
        assert log.last_seq == last
        log.close()
    except Unavailable as told:
        assert "full" in told.message
    ballast.unlink()
    log = open_log(small_disk / "site.db")
    assert log.last_seq == last
    log.close()


def test_a_snapshot_that_does_not_fit_leaves_the_older_one_and_the_log(small_disk: Path) -> None:
    log = open_log(small_disk / "site.db")
    log.append(1, [("one", b"")])
    log.save_snapshot(1, 1, b"small")
    with pytest.raises(Unavailable, match="too full for a snapshot of 3M"):
        log.save_snapshot(1, 1, bytes(3 * MIB))
    found = log.snapshot()
    assert found is not None
    assert found.data == b"small"
    assert log.append(2, [("two", b"")]) == 2  # the events are whole: only the snapshot failed
    log.save_snapshot(2, 1, b"small again")
    log.close()


def test_a_read_only_disk_is_named(small_disk: Path) -> None:
    log = open_log(small_disk / "site.db")
    log.append(1, [("one", b"")])
    log.close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(Unavailable, match="read-only"):
        open_log(small_disk / "site.db")


def test_a_disk_that_fills_during_an_export_prunes_nothing_and_leaves_no_half_file(
    small_disk: Path, tmp_path: Path
) -> None:
    log = open_log(tmp_path / "site.db")
    chance = random.Random(1)
    log.append(1, [("filler", chance.randbytes(50_000)) for _ in range(100)])
    log.save_snapshot(100, 1, b"state")
    with open(small_disk / "ballast", "wb") as ballast:
        ballast.write(bytes(SMALL_BYTES - 2 * MIB))
    with pytest.raises(Unavailable, match="no space left on device"):
        log.export(small_disk / "events.jsonl.gz", 100)
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]
    with pytest.raises(Refused, match="no exported file ends there"):
        log.prune(100)
    (small_disk / "ballast").unlink()
    assert log.export(small_disk / "events.jsonl.gz", 100) == 100
    log.prune(100)
    assert log.verify().events == 100
    log.close()


# A bound on the size of files fails a write as a broken disk does, and needs no root.
BOUNDED = """
import resource, sys
from mycelium.base.errors import Unavailable
from mycelium.log import open_log
log = open_log(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
last = 0
try:
    while True:
        last = log.append(1, [("filler", bytes(1000))])
except Unavailable as told:
    print(last, told.message)
"""


def test_a_write_that_the_kernel_refuses_ends_the_log(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED, tmp_path / "site.db"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    last, message = done.stdout.split(" ", 1)
    assert message.startswith("the ")
    log = open_log(tmp_path / "site.db")
    assert log.last_seq == int(last) > 10
    assert log.verify().ok
    log.close()

"""A year of a site, small: what its log keeps does not grow with what happened. Full size: `bench/log_year.py`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.log_year import YEAR_NS, live
from mycelium.base.limits import SNAPSHOTS_KEPT
from mycelium.base.units import KIB, MIB
from mycelium.head.core import Core, HeadSettings
from mycelium.jobs.domain import Retention
from mycelium.log import open_log, retention
from mycelium.log.retention import Keep
from mycelium.log.sqlite import WAL_BYTES

JOBS = 100_000 if os.environ.get("MYC_TEST_LONG") else 1_500
EVENTS_A_JOB = 7
SNAPSHOT, FILE = 500, 1_200  # events
RETAIN = 100  # ended jobs in memory
KEEP = Keep(YEAR_NS // 12, 3_000)
TURN = 300  # events that one turn of the year can make, at most


def test_a_year_of_jobs_keeps_disk_and_start_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "LOG_FILE_EVENTS", FILE)
    settings = HeadSettings((Retention(count_max=RETAIN),), snapshot_events=SNAPSHOT)
    year = live(tmp_path, JOBS, settings, KEEP)
    assert year.events >= EVENTS_A_JOB * JOBS * 0.9
    assert year.verified  # the files and what is left are one chain, from the first event to the last
    # Never more than asked for, but for one file that is not full yet and what lies before two snapshots.
    assert year.events_kept <= max(KEEP.events_max or 0, year.events // 12) + FILE + 3 * (SNAPSHOT + TURN)
    assert year.replayed <= SNAPSHOT + 3 * TURN
    assert year.snapshot_bytes < 2 * MIB
    assert year.archived >= JOBS - RETAIN - 2 * TURN
    room_bytes = year.events_kept * KIB + year.archived * KIB + 2 * SNAPSHOTS_KEPT * year.snapshot_bytes
    assert year.database_bytes < WAL_BYTES + MIB + room_bytes
    assert year.exported_bytes < 150 * (year.events - year.events_kept)

    log = open_log(tmp_path / "site.db", read_only=True)
    try:
        core = Core(log, log.last_time_ns, settings)
        assert len(core.site.jobs.by_id) == JOBS - year.archived
        assert log.archived("job-1") is not None  # long pruned, and known all the same
        assert not list(log.about("job-1"))
        listed = log.archived_list(None, None, 10 * JOBS)
        assert len(listed) == year.archived
    finally:
        log.close()

"""What the head does with old events: they are in the log, in a file that verifies, or in both, whatever happens."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mycelium.base import limits
from mycelium.base.errors import Unavailable
from mycelium.base.units import DAY_S, S_NS
from mycelium.head import retention as doing
from mycelium.head.core import Core
from mycelium.head.history import pruned_part
from mycelium.head.retention import LogKeeper
from mycelium.log import open_log, retention
from mycelium.log.retention import Keep
from mycelium.log.sql import SqlLog
from tests.unit.head.played import NOW_NS, Played

DAY_NS = DAY_S * S_NS


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Played:
    """A job a day for six days, and files of at most five events."""
    monkeypatch.setattr(retention, "LOG_FILE_EVENTS", 5)
    played = Played()
    for _ in range(6):
        played.submit()
        for step in played.starts():
            played.exited("node-1", step)
        played.later(DAY_S)
    assert played.kinds().count("JobEnded") == 6
    return played


def keeper(site: Played, folder: Path, keep: Keep | None = None) -> LogKeeper:
    return LogKeeper(site.core, lambda: site.now_ns, folder, keep or Keep(3 * DAY_NS))


def prune_all(kept: LogKeeper, before_ns: int) -> int:
    went = 0
    while True:
        piece = asyncio.run(kept.prune(before_ns))
        went += piece.events
        if not piece.events:
            assert piece.left == 0
            return went


def test_by_itself_the_site_lets_go_of_what_is_old_and_behind_its_snapshots(site: Played, tmp_path: Path) -> None:
    kept = keeper(site, tmp_path / "log")
    events = site.log.last_seq
    assert asyncio.run(kept.look()) == 0  # no snapshot: a start needs every event
    site.log.save_snapshot(events, 1, b"state")
    went = asyncio.run(kept.look())
    assert went > 10
    assert went % 5 == 0  # full files only
    assert site.log.pruned.time_ns < site.now_ns - 3 * DAY_NS
    assert site.log.mark(site.log.pruned.seq + 5).time_ns >= site.now_ns - 3 * DAY_NS
    assert asyncio.run(kept.look()) == 0
    verdict = kept.whole.verify()
    assert (verdict.ok, verdict.events, verdict.unseen) == (True, events, ())


def test_who_keeps_for_ever_loses_nothing_and_may_prune_all_the_same(site: Played, tmp_path: Path) -> None:
    kept = keeper(site, tmp_path / "log", Keep(None, None))
    site.log.save_snapshot(site.log.last_seq, 1, b"state")
    assert asyncio.run(kept.look()) == 0
    assert prune_all(kept, NOW_NS + 5 * DAY_NS) > 0


def test_too_many_events_go_however_young_they_are(site: Played, tmp_path: Path) -> None:
    kept = keeper(site, tmp_path / "log", Keep(100 * DAY_NS, 20))
    site.log.save_snapshot(site.log.last_seq, 1, b"state")
    asyncio.run(kept.look())
    assert 20 <= site.log.last_seq - site.log.pruned.seq < 25


def test_a_person_may_prune_all_and_a_start_finds_the_same_site(site: Played, tmp_path: Path) -> None:
    kept = keeper(site, tmp_path / "log")
    plan = asyncio.run(kept.plan(site.now_ns + 1))
    assert plan.events == site.log.last_seq
    assert site.log.pruned.seq == 0  # a plan changes nothing
    assert prune_all(kept, site.now_ns + 1) == plan.events
    living = site.core.site
    site.restart()
    assert site.core.site == living
    site.submit()
    assert kept.whole.verify().events == site.log.last_seq


def test_a_story_names_the_files_that_hold_its_beginning(site: Played, tmp_path: Path) -> None:
    kept = keeper(site, tmp_path / "log")
    first, last = site.job("job-1"), site.job("job-6")
    assert pruned_part(kept.whole, first.submitted_ns, first.ended_ns) is None
    prune_all(kept, NOW_NS + 5 * DAY_NS)
    told = pruned_part(kept.whole, first.submitted_ns, first.ended_ns)
    assert told is not None
    assert told["files"]
    assert any(b'"job-1\\"' in gzip.decompress(Path(name).read_bytes()) for name in told["files"])
    assert pruned_part(kept.whole, last.submitted_ns, last.ended_ns) is None


def test_where_no_file_can_be_written_nothing_goes(site: Played, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file where the directory should be")
    kept = keeper(site, tmp_path / "log")
    with pytest.raises(Unavailable, match="cannot"):
        asyncio.run(kept.prune(site.now_ns))
    assert site.log.pruned.seq == 0
    (tmp_path / "log").unlink()
    assert prune_all(kept, site.now_ns) > 0


def test_a_disk_that_fills_while_a_file_is_written_costs_nothing(
    site: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = keeper(site, tmp_path / "log")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("mycelium.base.files.os.fsync", full)
        with pytest.raises(Unavailable, match="no space left on device"):
            asyncio.run(kept.prune(site.now_ns))
    assert list((tmp_path / "log").iterdir()) == []
    assert site.log.pruned.seq == 0
    assert prune_all(kept, site.now_ns) > 0


def test_a_foreign_or_spoiled_file_of_that_name_is_left_alone(site: Played, tmp_path: Path) -> None:
    kept = keeper(site, tmp_path / "log")
    (tmp_path / "log").mkdir()
    taken = tmp_path / "log" / retention.file_name(1, 5)
    taken.write_text("precious")
    piece = asyncio.run(kept.prune(site.now_ns))
    assert Path(piece.file).name == retention.file_name(1, 5, copy=2)
    assert taken.read_text() == "precious"
    assert kept.whole.verify().unseen == ()


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[SqlLog]:
    with closing(open_log(tmp_path / "site.db")) as log:
        log.append(1, [("n", b"%d" % number * 100) for number in range(10_000)])
        log.save_snapshot(log.last_seq, 1, b"state")
        yield log


def test_what_a_killed_head_left_of_a_pruning_is_finished(
    on_disk: SqlLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = LogKeeper(_Only(on_disk), lambda: 2, tmp_path / "log", Keep(0))  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr(retention, "LOG_FILE_EVENTS", 4_000)

    def killed(_seconds: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("mycelium.log.sql.time.sleep", killed)
        with pytest.raises(KeyboardInterrupt):
            kept._prune_piece(10_000, whole=True)
    assert on_disk.pruned.seq == 4_000
    assert rows(tmp_path) > 6_000  # some are still here, and in the file
    assert kept.whole.verify().events == 10_000
    assert kept._prune_piece(4_000, whole=True).events == 0
    assert rows(tmp_path) == 6_000
    assert kept.whole.verify().events == 10_000


def test_the_room_of_dropped_events_goes_back_to_the_disk(on_disk: SqlLog, tmp_path: Path) -> None:
    kept = LogKeeper(_Only(on_disk), lambda: 2, tmp_path / "log", Keep(0))  # pyright: ignore[reportArgumentType]
    on_disk.close()
    before = (tmp_path / "site.db").stat().st_size
    with closing(open_log(tmp_path / "site.db")) as log:
        kept = LogKeeper(_Only(log), lambda: 2, tmp_path / "log", Keep(0))  # pyright: ignore[reportArgumentType]
        kept._prune_piece(10_000, whole=False)
    assert (tmp_path / "site.db").stat().st_size < before / 3


def test_parts_of_files_that_a_killed_head_left_are_cleared_away(site: Played, tmp_path: Path) -> None:
    kept = keeper(site, tmp_path / "log")
    (tmp_path / "log").mkdir()
    part = tmp_path / "log" / ".0123456789abcdef.part"
    mine = tmp_path / "log" / "mine.part"
    part.write_bytes(b"half")
    mine.write_bytes(b"other")
    kept._clear_up()
    assert (part.exists(), mine.exists()) == (False, True)


class _Only(Core):
    """A core of which nothing but the log is asked."""

    def __init__(self, log: SqlLog) -> None:
        self.log = log


def rows(folder: Path) -> int:
    import sqlite3

    with closing(sqlite3.connect(folder / "site.db")) as database:
        return database.execute("SELECT count(*) FROM event").fetchone()[0]


def test_the_bounds_fit_together() -> None:
    assert limits.LOG_FILE_EVENTS > 2 * limits.SNAPSHOT_EVENTS  # a full file lies behind both snapshots soon after
    assert limits.LOG_EVENTS_MAX > 10 * limits.LOG_FILE_EVENTS
    assert doing.LOOK_S > 0

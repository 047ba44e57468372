"""Exported files and the log, read as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from mycelium.base.errors import Missing, Refused
from mycelium.log import MemoryLog
from mycelium.log.audit import verdict_on_files
from mycelium.log.entry import START
from mycelium.log.segment import check_segment, write_segment
from mycelium.log.whole import WholeLog


@pytest.fixture
def whole(tmp_path: Path) -> WholeLog:
    """Event n happens at n * 10; 1 to 20 lie in two files."""
    log = MemoryLog()
    for seq in range(1, 31):
        log.append(seq * 10, [("n", b"%d" % seq)])
    log.save_snapshot(30, 1, b"state")
    for upto in (10, 20):
        log.export(tmp_path / f"{upto}.jsonl.gz", upto)
        log.prune(upto)
    return WholeLog(log, tmp_path)


def test_every_place_is_found_wherever_it_is_kept(whole: WholeLog) -> None:
    assert [whole.mark(seq).seq for seq in (0, 1, 9, 10, 11, 20, 21, 30)] == [0, 1, 9, 10, 11, 20, 21, 30]
    assert [whole.mark_before(time_ns).seq for time_ns in (0, 10, 11, 100, 101, 200, 201, 210, 999)] == [
        0, 0, 1, 9, 10, 19, 20, 20, 30,
    ]  # fmt: skip
    assert whole.mark(0) == START


@pytest.mark.parametrize(("after", "last"), [(0, 30), (0, 10), (3, 7), (5, 15), (10, 20), (15, 25), (20, 30), (29, 30)])
def test_any_part_of_it_can_be_written_as_a_file_that_verifies(
    whole: WholeLog, tmp_path: Path, after: int, last: int
) -> None:
    begins, ends = whole.mark(after), whole.mark(last)
    assert write_segment(tmp_path / "part.jsonl", begins, ends, whole.entries(begins, ends)) == last - after
    check_segment(tmp_path / "part.jsonl", begins, ends)


def test_the_files_of_a_time_are_named(whole: WholeLog, tmp_path: Path) -> None:
    def names(first_ns: int, last_ns: int) -> list[str]:
        return [path.name for path in whole.files_between(first_ns, last_ns)]

    assert names(0, 999) == ["10.jsonl.gz", "20.jsonl.gz"]
    assert names(150, 160) == ["20.jsonl.gz"]
    assert names(20, 50) == ["10.jsonl.gz"]
    assert names(250, 260) == []
    (tmp_path / "20.jsonl.gz").unlink()
    assert names(0, 999) == ["10.jsonl.gz"]


def test_files_are_found_when_the_home_has_moved(whole: WholeLog, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in tmp_path.glob("*.gz"):
        path.rename(moved / path.name)
    assert whole.verify().unseen
    assert not WholeLog(whole.log, moved).verify().unseen
    assert WholeLog(whole.log, moved).verify().events == 30


def test_a_missing_file_is_named_when_its_events_are_asked_for(whole: WholeLog, tmp_path: Path) -> None:
    (tmp_path / "10.jsonl.gz").unlink()
    with pytest.raises(Missing, match=r"events 1 to 10 were exported to .*10\.jsonl\.gz"):
        whole.mark(5)
    assert whole.mark(25).seq == 25


def test_files_verify_by_themselves_in_whatever_order_they_are_named(whole: WholeLog, tmp_path: Path) -> None:
    begins, ends = whole.mark(4), whole.mark(30)
    write_segment(tmp_path / "rest.jsonl", begins, ends, whole.entries(begins, ends))
    first, second, rest = (tmp_path / name for name in ("10.jsonl.gz", "20.jsonl.gz", "rest.jsonl"))
    for files in ([first, second, rest], [rest, first], [rest, second, first]):
        found = verdict_on_files(files)
        assert (found.ok, found.first_seq, found.last_seq, found.events) == (True, 1, 30, 30)
        assert found.hash == whole.verify().hash
    assert verdict_on_files([rest]).first_seq == 5


def test_a_hole_between_files_and_a_foreign_file_are_found(whole: WholeLog, tmp_path: Path) -> None:
    begins, ends = whole.mark(25), whole.mark(30)
    write_segment(tmp_path / "end.jsonl", begins, ends, whole.entries(begins, ends))
    found = verdict_on_files([tmp_path / "20.jsonl.gz", tmp_path / "end.jsonl"])
    assert (found.ok, found.bad_seq) == (False, 21)
    other = MemoryLog()
    other.append(1, [("other", b"")] * 30)
    other.export(tmp_path / "other.jsonl", 30)
    found = verdict_on_files([tmp_path / "10.jsonl.gz", tmp_path / "other.jsonl"])
    assert (found.ok, found.bad_seq) == (False, 10)
    (tmp_path / "text").write_text("no events")
    with pytest.raises(Refused, match="not a file of exported events"):
        verdict_on_files([tmp_path / "text"])
    with pytest.raises(Missing):
        verdict_on_files([tmp_path / "nowhere"])

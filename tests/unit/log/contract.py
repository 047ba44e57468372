"""What every log must do. Each kind runs all of it: see `test_contract.py` and `tests/live/test_log_postgres.py`.

A subclass gives the fixture `reopen`: each call closes the log and opens the same one again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from mycelium.base.errors import Conflict, Refused, Unavailable
from mycelium.base.limits import EVENT_BYTES_MAX, LOG_PAGE_EVENTS
from mycelium.log import ArchivedJob, Log
from mycelium.log.audit import TOLD_EVENTS

Reopen = Callable[[], Log]

EVENTS = [("job.submitted", b'{"job":"job-1"}'), ("job.placed", b""), ("binary", bytes(range(256)))]


def filled(log: Log, count: int) -> Log:
    log.append(7, [("n", b"%d" % number) for number in range(1, count + 1)])
    return log


class LogContract:
    def test_a_new_log_is_empty_and_whole(self, reopen: Reopen) -> None:
        log = reopen()
        assert (log.first_seq, log.last_seq, log.last_time_ns) == (1, 0, 0)
        assert list(log.read()) == []
        assert log.snapshot() is None
        assert log.verify().ok
        assert log.verify().events == 0

    def test_what_was_appended_is_read_back_in_order(self, reopen: Reopen) -> None:
        log = reopen()
        assert log.append(5, EVENTS) == 3
        assert log.append(6, EVENTS[:1]) == 4
        read = list(log.read())
        assert [(entry.kind, entry.data) for entry in read] == EVENTS + EVENTS[:1]
        assert [entry.seq for entry in read] == [1, 2, 3, 4]
        assert [entry.time_ns for entry in read] == [5, 5, 5, 6]
        assert (log.last_seq, log.last_time_ns) == (4, 6)

    def test_an_empty_batch_writes_nothing(self, reopen: Reopen) -> None:
        log = reopen()
        log.append(5, EVENTS)
        assert log.append(9, []) == 3
        assert log.last_time_ns == 5

    def test_reopening_finds_the_same_log(self, reopen: Reopen) -> None:
        log = reopen()
        log.append(5, EVENTS)
        before = list(log.read())
        log = reopen()
        assert list(log.read()) == before
        assert (log.last_seq, log.last_time_ns) == (3, 5)
        assert log.append(8, EVENTS[:1]) == 4
        assert log.verify().ok

    def test_reading_can_begin_and_end_anywhere(self, reopen: Reopen) -> None:
        log = filled(reopen(), LOG_PAGE_EVENTS * 2 + 10)
        assert [entry.seq for entry in log.read(LOG_PAGE_EVENTS - 1, 3)] == [500, 501, 502]
        assert sum(1 for _ in log.read()) == LOG_PAGE_EVENTS * 2 + 10
        assert sum(1 for _ in log.read(10)) == LOG_PAGE_EVENTS * 2
        assert list(log.read(0, 0)) == []
        assert list(log.read(log.last_seq)) == []
        assert list(log.read(log.last_seq + 5)) == []

    def test_every_hash_is_the_documented_one(self, reopen: Reopen) -> None:
        log = reopen()
        log.append(5, EVENTS)
        before = bytes(32)
        for seq, (kind, data) in enumerate(EVENTS, 1):
            length = len(kind).to_bytes(4)
            before = blake3(before + seq.to_bytes(8) + (5).to_bytes(8) + length + kind.encode() + data).digest()
        assert log.verify().hash == before.hex()

    def test_an_event_no_log_can_keep_is_refused_and_the_log_goes_on(self, reopen: Reopen) -> None:
        log = reopen()
        for kind, data in [("", b""), ("k" * 65, b""), ("a\0b", b""), ("é", b""), ("big", bytes(EVENT_BYTES_MAX + 1))]:
            with pytest.raises(Refused):
                log.append(1, [("fine", b""), (kind, data)])
        for time_ns in (-1, 2**63):
            with pytest.raises(Refused):
                log.append(time_ns, EVENTS)
        with pytest.raises(Refused):
            log.append(1, EVENTS, [ArchivedJob("job-1", 1, "account\0", b"")])
        assert log.last_seq == 0
        assert log.append(1, EVENTS) == 3

    def test_the_newest_snapshot_comes_back(self, reopen: Reopen) -> None:
        log = filled(reopen(), 10)
        log.save_snapshot(4, 1, b"four")
        log.save_snapshot(8, 2, b"")
        found = reopen().snapshot()
        assert found is not None
        assert (found.seq, found.version, found.data) == (8, 2, b"")

    def test_a_snapshot_larger_than_one_part_comes_back_whole(self, reopen: Reopen) -> None:
        log = filled(reopen(), 1)
        data = bytes(range(256)) * 10_000
        log.save_snapshot(1, 1, data)
        found = log.snapshot()
        assert found is not None
        assert found.data == data

    def test_a_snapshot_of_no_event_or_an_older_one_is_refused(self, reopen: Reopen) -> None:
        log = filled(reopen(), 10)
        for seq in (0, 11):
            with pytest.raises(Refused):
                log.save_snapshot(seq, 1, b"")
        log.save_snapshot(8, 1, b"")
        with pytest.raises(Refused):
            log.save_snapshot(7, 1, b"")

    def test_jobs_are_archived_with_the_event_that_ends_them(self, reopen: Reopen) -> None:
        log = reopen()
        log.append(1, EVENTS, [ArchivedJob("job-1", 1, "account-1", b"one")])
        log.append(1, [], [ArchivedJob("job-2", 2, "account-2", b"two")])
        log.archive([ArchivedJob("job-3", 3, "account-1", b"three"), ArchivedJob("job-4", 4, "account-1", b"")])
        log = reopen()
        assert log.archived("job-1") == b"one"
        assert log.archived("job-4") == b""
        assert log.archived("job-9") is None
        assert [row.job for row in log.archived_list(None, None, 10)] == ["job-4", "job-3", "job-2", "job-1"]
        assert [row.job for row in log.archived_list("account-1", 4, 10)] == ["job-3", "job-1"]
        assert [row.job for row in log.archived_list("account-1", None, 1)] == ["job-4"]
        assert log.archived_list("account-9", None, 10) == []

    def test_archiving_a_job_again_replaces_it(self, reopen: Reopen) -> None:
        log = reopen()
        log.archive([ArchivedJob("job-1", 1, "account-1", b"old")])
        log.archive([ArchivedJob("job-1", 1, "account-1", b"new"), ArchivedJob("job-1", 1, "account-1", b"newest")])
        assert log.archived("job-1") == b"newest"
        assert len(log.archived_list(None, None, 10)) == 1

    def test_exported_and_pruned_events_are_still_verified(self, reopen: Reopen, tmp_path: Path) -> None:
        log = filled(reopen(), 30)
        tip = log.verify().hash
        for upto in (10, 20):
            log.save_snapshot(upto, 1, b"state")
            log.save_snapshot(upto, 1, b"state")
            assert log.export(tmp_path / f"{upto}.jsonl", upto) == 10
            log.prune(upto)
        log = reopen()
        assert (log.first_seq, log.last_seq) == (21, 30)
        assert [entry.seq for entry in log.read(20)] == list(range(21, 31))
        verdict = log.verify()
        assert verdict.ok
        assert (verdict.first_seq, verdict.last_seq, verdict.events, verdict.hash) == (1, 30, 30, tip)

    def test_a_log_pruned_to_its_end_knows_its_number_and_time(self, reopen: Reopen, tmp_path: Path) -> None:
        log = filled(reopen(), 5)
        log.save_snapshot(5, 1, b"state")
        log.export(tmp_path / "all.jsonl", 5)
        log.prune(5)
        log = reopen()
        assert (log.first_seq, log.last_seq, log.last_time_ns) == (6, 5, 7)
        assert list(log.read(5)) == []
        assert log.append(8, EVENTS[:1]) == 6
        assert log.verify().events == 6

    def test_pruned_events_cannot_be_read_past_silently(self, reopen: Reopen, tmp_path: Path) -> None:
        log = filled(reopen(), 5)
        log.save_snapshot(3, 1, b"state")
        log.export(tmp_path / "some.jsonl", 3)
        log.prune(3)
        for after in (0, 2):
            with pytest.raises(Refused, match="pruned"):
                log.read(after)

    def test_nothing_is_pruned_that_a_start_may_need(self, reopen: Reopen, tmp_path: Path) -> None:
        log = filled(reopen(), 10)
        log.export(tmp_path / "six.jsonl", 6)
        with pytest.raises(Refused):
            log.prune(6)  # no snapshot at all
        log.save_snapshot(5, 1, b"state")
        log.save_snapshot(8, 1, b"state")
        with pytest.raises(Refused):
            log.prune(6)  # the older snapshot needs event 6
        with pytest.raises(Refused):
            log.prune(5)  # not exported up to there
        assert log.first_seq == 1
        assert log.verify().events == 10

    def test_a_spoiled_export_prunes_nothing(self, reopen: Reopen, tmp_path: Path) -> None:
        log = filled(reopen(), 10)
        log.save_snapshot(10, 1, b"state")
        log.export(tmp_path / "ten.jsonl", 10)
        text = (tmp_path / "ten.jsonl").read_text()
        (tmp_path / "ten.jsonl").write_text(text.replace('"text":"4"', '"text":"5"'))
        with pytest.raises(Refused, match="event 4 "):
            log.prune(10)
        assert log.first_seq == 1

    def test_verify_says_which_exported_file_is_gone_or_moved(self, reopen: Reopen, tmp_path: Path) -> None:
        log = filled(reopen(), 10)
        log.save_snapshot(5, 1, b"state")
        log.export(tmp_path / "five.jsonl", 5)
        log.prune(5)
        moved = (tmp_path / "elsewhere").with_suffix("")
        moved.mkdir()
        (tmp_path / "five.jsonl").rename(moved / "five.jsonl")
        verdict = log.verify()
        assert verdict.ok
        assert verdict.unseen == (str(tmp_path / "five.jsonl"),)
        assert verdict.events == 5
        assert log.verify([moved / "five.jsonl"]).events == 10
        spoiled = (moved / "five.jsonl").read_text().replace('"text":"2"', '"text":"9"')
        (moved / "five.jsonl").write_text(spoiled)
        assert log.verify([moved / "five.jsonl"]).bad_seq == 2

    def test_an_export_never_overwrites_a_file(self, reopen: Reopen, tmp_path: Path) -> None:
        log = filled(reopen(), 3)
        (tmp_path / "mine").write_text("precious")
        with pytest.raises(Conflict):
            log.export(tmp_path / "mine", 3)
        assert (tmp_path / "mine").read_text() == "precious"
        for upto in (0, 4):
            with pytest.raises(Refused):
                log.export(tmp_path / "other", upto)
        with pytest.raises(Unavailable):
            log.export(tmp_path / "missing" / "other", 3)
        assert [path.name for path in tmp_path.iterdir() if "part" in path.name or path.name == "other"] == []

    def test_a_file_that_an_interrupted_export_left_is_taken_as_it_is(self, reopen: Reopen, tmp_path: Path) -> None:
        log = filled(reopen(), 5)
        log.save_snapshot(5, 1, b"state")
        assert log.export(tmp_path / "five.jsonl", 5) == 5
        before = (tmp_path / "five.jsonl").stat()
        assert log.export(tmp_path / "five.jsonl", 5) == 5
        assert (tmp_path / "five.jsonl").stat().st_mtime_ns == before.st_mtime_ns
        with pytest.raises(Conflict):
            log.export(tmp_path / "five.jsonl", 4)
        log.prune(5)
        assert log.verify().events == 5

    def test_a_packed_export_is_pruned_and_verified_like_any_other(self, reopen: Reopen, tmp_path: Path) -> None:
        log = filled(reopen(), 500)
        log.save_snapshot(500, 1, b"state")
        log.export(tmp_path / "plain.jsonl", 500)
        log.export(tmp_path / "packed.jsonl.gz", 500)
        assert (tmp_path / "packed.jsonl.gz").stat().st_size < (tmp_path / "plain.jsonl").stat().st_size / 2
        log.prune(500)
        assert [Path(file.path).name for file in log.exports()] == ["packed.jsonl.gz"]
        assert log.verify().events == 500
        content = (tmp_path / "packed.jsonl.gz").read_bytes()
        (tmp_path / "packed.jsonl.gz").write_bytes(content[:-1000])
        assert not log.verify().ok

    def test_a_log_says_what_it_pruned_and_where_that_went(self, reopen: Reopen, tmp_path: Path) -> None:
        log = filled(reopen(), 30)
        assert (log.pruned.seq, log.exports(), log.prunable_seq()) == (0, [], 0)
        log.save_snapshot(20, 1, b"state")
        log.save_snapshot(25, 1, b"state")
        assert log.prunable_seq() == 20
        tenth = log.mark(10)
        for upto in (10, 20):
            log.export(tmp_path / f"{upto}.jsonl", upto)
            log.prune(upto)
            assert log.pruned.seq == upto
        log = reopen()
        assert [(file.first_seq, file.last_seq) for file in log.exports()] == [(1, 10), (11, 20)]
        assert log.pruned == log.mark(20)
        assert tenth.seq == 10
        with pytest.raises(Refused, match="pruned"):
            log.mark(10)
        with pytest.raises(Refused, match="no event 31"):
            log.mark(31)

    def test_the_last_event_before_a_moment_is_found(self, reopen: Reopen, tmp_path: Path) -> None:
        log = reopen()
        for time_ns in (10, 10, 20, 30, 30):
            log.append(time_ns, [("one", b""), ("two", b"")])
        assert [log.seq_before(time_ns) for time_ns in (0, 10, 11, 20, 21, 30, 31)] == [0, 0, 4, 4, 6, 6, 10]
        log.save_snapshot(10, 1, b"state")
        log.export(tmp_path / "five.jsonl", 5)
        log.prune(5)
        assert [log.seq_before(time_ns) for time_ns in (0, 20, 21, 31)] == [5, 5, 6, 10]

    def test_a_walk_says_how_far_it_has_come(self, reopen: Reopen) -> None:
        log = filled(reopen(), 2 * TOLD_EVENTS + 5)
        told: list[int] = []
        assert log.verify(told=told.append).ok
        assert told == [TOLD_EVENTS, 2 * TOLD_EVENTS]

    def test_pruned_events_are_about_nobody_any_more(self, reopen: Reopen, tmp_path: Path) -> None:
        log = reopen()
        log.append(1, EVENTS, about=[["job-1"], ["job-1"], ["job-2", "job-1"]])
        log.save_snapshot(3, 1, b"state")
        log.export(tmp_path / "two.jsonl", 2)
        log.prune(2)
        assert [entry.seq for entry in log.about("job-1")] == [3]

    def test_archived_data_of_any_kind_and_size_comes_back(self, reopen: Reopen) -> None:
        log = reopen()
        for number, data in enumerate((b"", b"x", b"{}" * 5000, b"\0z", b"\0z not packed", bytes(range(256)))):
            log.archive([ArchivedJob("job-1", number, "account-1", data)])
            assert log.archived("job-1") == data
            assert log.archived_list(None, None, 1)[0].data == data

    def test_a_closed_log_takes_nothing(self, reopen: Reopen) -> None:
        log = filled(reopen(), 3)
        log.close()
        with pytest.raises(Unavailable):
            log.append(1, EVENTS)
        assert reopen().last_seq == 3

    def test_events_are_found_by_whom_they_concern(self, reopen: Reopen) -> None:
        log = reopen()
        log.append(1, EVENTS, about=[("job-1",), (), ("job-2", "job-1")])
        log.append(2, EVENTS[:1], about=[["job-1"]])
        log = reopen()
        assert [entry.seq for entry in log.about("job-1")] == [1, 3, 4]
        assert [(entry.kind, entry.data) for entry in log.about("job-2")] == [EVENTS[2]]
        assert list(log.about("job-3")) == []
        assert log.verify().ok

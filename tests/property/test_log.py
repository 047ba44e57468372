"""Laws of the log, for any batches of any events."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from mycelium.log import ArchivedJob, MemoryLog, open_log
from mycelium.log.entry import START, chain, mark_after
from mycelium.log.segment import read_segment, write_segment

kinds = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=64)
events = st.tuples(kinds, st.binary(max_size=300))
times = st.integers(0, 2**63 - 1)
batches = st.lists(st.tuples(times, st.lists(events, max_size=5)), max_size=8)
names = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=20).filter(str.isprintable)
jobs = st.lists(st.builds(ArchivedJob, names, st.integers(0, 2**63 - 1), names, st.binary(max_size=50)), max_size=5)


def filled(many: list) -> MemoryLog:
    log = MemoryLog()
    for time_ns, batch in many:
        log.append(time_ns, batch)
    return log


@given(batches)
def test_the_chain_of_any_batches_is_whole(many: list) -> None:
    verdict = filled(many).verify()
    assert verdict.ok
    assert verdict.events == sum(len(batch) for _, batch in many)


@given(batches)
def test_how_events_are_batched_changes_neither_them_nor_their_hashes(many: list) -> None:
    one_by_one = [(time_ns, [event]) for time_ns, batch in many for event in batch]
    assert list(filled(many).read()) == list(filled(one_by_one).read())


@given(batches, st.lists(st.integers(1, 7), max_size=20))
def test_reading_piece_by_piece_equals_reading_all(many: list, pieces: list[int]) -> None:
    log = filled(many)
    read = []
    for limit in pieces:
        read += log.read(read[-1].seq if read else 0, limit)
    read += log.read(read[-1].seq if read else 0)
    assert read == list(log.read())


@given(batches.filter(lambda many: any(batch for _, batch in many)), st.data())
def test_any_change_of_any_event_is_found_there(many: list, data: st.DataObject) -> None:
    log = filled(many)
    seq = data.draw(st.integers(1, log.last_seq))
    (before,) = log.read(seq - 1, 1)
    other = data.draw(st.binary(max_size=300).filter(lambda value: value != before.data))
    log.spoil(seq, other)
    assert log.verify().bad_seq == seq


@settings(max_examples=25, deadline=None)
@given(batches, jobs)
def test_a_log_on_disk_equals_the_one_in_memory_also_after_reopening(many: list, rows: list[ArchivedJob]) -> None:
    memory = filled(many)
    memory.archive(rows)
    with tempfile.TemporaryDirectory() as folder:
        log = open_log(Path(folder) / "site.db")
        for time_ns, batch in many:
            log.append(time_ns, batch)
        log.archive(rows)
        for _ in range(2):
            assert list(log.read()) == list(memory.read())
            assert log.verify() == memory.verify()
            assert (log.last_seq, log.last_time_ns) == (memory.last_seq, memory.last_time_ns)
            for row in rows:
                assert log.archived(row.job) == memory.archived(row.job)
            log.close()
            log = open_log(Path(folder) / "site.db")
        log.close()


@settings(max_examples=50, deadline=None)
@given(times, st.lists(events, min_size=1, max_size=10), st.data())
def test_an_exported_segment_is_read_back_as_written(time_ns: int, batch: list, data: st.DataObject) -> None:
    entries = chain(START, time_ns, batch)
    cut = data.draw(st.integers(0, len(entries) - 1))
    after, last = mark_after(entries[:cut], START), mark_after(entries, START)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        write_segment(path, after, last, entries[cut:])
        found_after, found_last, found = read_segment(path)
        assert list(found) == entries[cut:]
        assert (found_after, found_last) == (after, last)

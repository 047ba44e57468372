from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycelium.agent.shim import pump
from mycelium.agent.shim.pump import StreamLog
from mycelium.agent.steps import tail


def whole(directory: Path) -> bytes:
    return b"".join(Path(path).read_bytes() for _, path in pump.segments(str(directory), "stdout"))


def read_all(directory: Path, offset: int = 0) -> tuple[int, bytes]:
    """What a follower gets from `offset` on, and where that began."""
    begun, found = -1, b""
    while True:
        start, data = tail.read_at(str(directory), "stdout", offset)
        if not data:
            return begun, found
        begun = start if begun < 0 else begun
        offset, found = start + len(data), found + data


@given(writes=st.lists(st.binary(max_size=40), max_size=30), offset=st.integers(0, 400))
def test_what_is_kept_is_the_end_of_what_was_written_and_reads_from_any_offset(
    tmp_path_factory: pytest.TempPathFactory, writes: list[bytes], offset: int
) -> None:
    directory = tmp_path_factory.mktemp("log")
    log = StreamLog(str(directory), "stdout", bytes_max=100, segment_bytes=25)
    for data in writes:
        log.write(data)
    written = b"".join(writes)
    kept = whole(directory)
    assert written.endswith(kept)
    assert len(kept) <= 100
    assert len(kept) >= min(len(written), 75)
    assert log.offset == len(written)
    first = len(written) - len(kept)
    begun, found = read_all(directory, offset)
    assert found == written[max(offset, first) :]
    assert begun in (-1, max(offset, first))
    log.close()


def test_the_other_stream_is_another_log(tmp_path: Path) -> None:
    for stream in ("stdout", "stderr"):
        log = StreamLog(str(tmp_path), stream)
        log.write(stream.encode())
        log.close()
    assert whole(tmp_path) == b"stdout"


def test_files_that_are_no_segments_are_passed_over(tmp_path: Path) -> None:
    for name in ("stdout", "stdout.", "stdout.x", "stdout.1.2", "stdoutx.0", "stdout.-1"):
        (tmp_path / name).write_text("no")
    assert pump.segments(str(tmp_path), "stdout") == []


def test_what_cannot_be_written_is_dropped_and_leaves_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = StreamLog(str(tmp_path), "stdout")
    log.write(b"before")
    write = os.write

    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for _ in range(100):
        log.write(b"lost")
    monkeypatch.setattr(os, "write", write)
    log.write(b"after")
    log.close()
    assert log.dropped_bytes == 400
    assert [start for start, _ in pump.segments(str(tmp_path), "stdout")] == [0, 406]
    assert tail.read_at(str(tmp_path), "stdout", 6) == (406, b"after")
    assert whole(tmp_path) == b"beforeafter"


def test_a_write_that_is_cut_short_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:3]))
    log = StreamLog(str(tmp_path), "stdout", segment_bytes=7)
    log.write(b"0123456789abcdef")
    log.close()
    assert whole(tmp_path) == b"0123456789abcdef"


def test_the_oldest_segment_is_given_up_first(tmp_path: Path) -> None:
    log = StreamLog(str(tmp_path), "stdout", segment_bytes=4)
    log.write(b"0123456789")
    assert log.give_up_oldest()
    assert whole(tmp_path) == b"456789"
    assert log.give_up_oldest()
    assert log.give_up_oldest()
    assert not log.give_up_oldest()

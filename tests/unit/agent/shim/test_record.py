from __future__ import annotations

import os
from pathlib import Path

import pytest

from mycelium.agent.shim import record
from mycelium.engine import step_files
from mycelium.sandbox import process


def test_a_step_is_claimed_once(tmp_path: Path) -> None:
    assert record.claim(str(tmp_path), 5)
    assert not record.claim(str(tmp_path), 6)
    assert [path.name for path in tmp_path.iterdir()] == [step_files.PID]


def test_a_fence_names_whoever_has_the_step_and_keeps_out_whoever_comes_later(tmp_path: Path) -> None:
    taken, free = tmp_path / "taken", tmp_path / "free"
    for directory in (taken, free):
        directory.mkdir()
    assert record.claim(str(taken), 5)
    assert record.fence(str(taken)) == process.this(5)
    assert record.fence(str(free)) is None
    assert record.fence(str(free)) is None
    assert not record.claim(str(free), 5)


def test_a_status_fits_into_the_place_that_was_reserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record.reserve_status(str(tmp_path))
    before = (tmp_path / record.RESERVED).stat()
    record.write_status(str(tmp_path), {"reason": "exit", "message": "x" * 3000})
    after = (tmp_path / step_files.STATUS).stat()
    assert (after.st_ino, after.st_blocks, after.st_size) == (before.st_ino, before.st_blocks, before.st_size)
    assert step_files.read_json(str(tmp_path / step_files.STATUS)) == {"reason": "exit", "message": "x" * 3000}


def test_a_status_is_written_without_a_reserved_place_too(tmp_path: Path) -> None:
    record.write_status(str(tmp_path), {"exit_code": 3})
    assert step_files.read_json(str(tmp_path / step_files.STATUS)) == {"exit_code": 3}


def test_a_status_that_cannot_be_forced_to_disk_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output error"):
        record.write_status(str(tmp_path), {"exit_code": 3})
    assert not (tmp_path / step_files.STATUS).exists()


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'"text"'])
def test_what_is_no_document_reads_as_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    assert step_files.read_json(str(tmp_path / "file")) is None


@pytest.mark.parametrize(("said", "expected"), [("500", 500), ("0", 0), ("-5", 0), ("", 10_000), ("soon", 10_000)])
def test_the_grace_is_what_the_latest_order_said_or_the_specs(tmp_path: Path, said: str, expected: int) -> None:
    (tmp_path / step_files.STOP).write_text(said)
    assert record.grace_ms(str(tmp_path), 10_000) == expected


def test_without_an_order_the_grace_is_the_specs(tmp_path: Path) -> None:
    assert record.grace_ms(str(tmp_path), 10_000) == 10_000

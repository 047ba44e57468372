from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from mycelium.sandbox import process


def test_this_process_lives_and_is_read_back(tmp_path: Path) -> None:
    me = process.this(started_ns=5)
    (tmp_path / "pid").write_bytes(me.encode())
    found = process.read(str(tmp_path / "pid"))
    assert found == me
    assert found is not None
    assert found.lives()


def test_another_process_of_the_same_pid_is_not_the_one_that_was_named() -> None:
    me = process.this(started_ns=5)
    later = me._replace(ticks=me.ticks + 1)
    assert not later.lives()
    assert not later.signal(signal.SIGKILL)  # or this test would end here
    assert later.wait_gone(0)


def test_a_process_of_an_earlier_boot_is_gone() -> None:
    assert not process.this(0)._replace(boot="another").lives()


def test_a_child_that_has_ended_is_gone_before_it_is_reaped() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    child = process.this(0)._replace(pid=pid)
    assert not child.lives()
    os.waitpid(pid, 0)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"17", b'{"pid": "x"}', b'{"pid": 1}', b"\xff\xfe"])
def test_a_file_that_names_no_process_names_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "pid").write_bytes(data)
    assert process.read(str(tmp_path / "pid")) is None


def test_a_missing_file_names_none(tmp_path: Path) -> None:
    assert process.read(str(tmp_path / "pid")) is None

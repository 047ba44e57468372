from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mycelium.base import lock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@contextlib.contextmanager
def elsewhere(path: Path, says: bytes | None) -> Iterator[multiprocessing.Process]:
    """Another process has it, until it is killed."""
    context = multiprocessing.get_context("fork")
    has, never = context.Event(), context.Event()

    def hold() -> None:
        lock.take(path, says)
        has.set()
        never.wait()

    process = context.Process(target=hold)
    process.start()
    has.wait()
    try:
        yield process  # type: ignore[misc]
    finally:
        process.kill()
        process.join()


def test_the_second_is_refused_and_told_who_was_first(path: Path):
    with elsewhere(path, b"the first, who has it\n"):
        with pytest.raises(lock.Busy) as busy:
            lock.take(path, b"the second")
        assert busy.value.who == "the first, who has it"
        assert lock.holder(path) == "the first, who has it"


def test_it_is_free_when_its_holder_was_killed(path: Path):
    with elsewhere(path, b"one who dies and leaves many words") as process:
        process.kill()
        process.join()
        assert lock.holder(path) is None
        fd = lock.take(path, b"next")
        assert path.read_bytes() == b"next"
        os.close(fd)


def test_it_is_held_until_the_descriptor_is_closed_within_one_process_too(path: Path):
    fd = lock.take(path, lock.this_process())
    with pytest.raises(lock.Busy) as busy:
        lock.take(path)
    assert busy.value.who == str(os.getpid())
    os.close(fd)
    assert lock.holder(path) is None
    os.close(lock.take(path))


def test_who_says_nothing_leaves_the_file_as_it_is(path: Path):
    path.write_bytes(b"kept for later")
    fd = lock.take(path)
    assert path.read_bytes() == b"kept for later"
    os.close(fd)


def test_a_holder_that_says_nothing_has_no_name(path: Path):
    fd = lock.take(path)
    with pytest.raises(lock.Busy, match="another process"):
        lock.take(path)
    assert lock.holder(path) == ""
    os.close(fd)


def test_nobody_has_a_lock_that_is_not_there(path: Path):
    assert lock.holder(path) is None
    assert not path.exists()


def test_who_asks_for_the_holder_does_not_hinder_another_who_asks(path: Path):
    os.close(lock.take(path))
    with lock.waiting(path, shared=True):  # as `holder` has it for a moment
        assert lock.holder(path) is None


def test_the_file_is_private_and_no_child_inherits_it(path: Path):
    fd = lock.take(path)
    assert os.fstat(fd).st_mode & 0o777 == 0o600
    assert not os.get_inheritable(fd)
    os.close(fd)


def test_who_fails_to_say_who_it_is_does_not_hold_it(path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space"):
            lock.take(path, b"me")
    os.close(lock.take(path))


def test_some_share_it_and_one_who_wants_it_alone_waits_for_them(path: Path):
    order: list[str] = []

    def alone() -> None:
        with lock.waiting(path):
            order.append("alone")

    waiter = threading.Thread(target=alone)
    with lock.waiting(path, shared=True), lock.waiting(path, shared=True):
        waiter.start()
        waiter.join(0.05)
        order.append("shared")
    waiter.join()
    assert order == ["shared", "alone"]

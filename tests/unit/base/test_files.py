from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mycelium.base import files


def ended(child: Callable[[], None]) -> int:
    """The exit code of a process that does this: minus its signal, if it was killed."""
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("data", [b"", b"\0\xff", b"x" * 1_000_000, "grün\n"])
def test_what_is_written_is_read_and_takes_the_place_of_what_was_there(tmp_path: Path, data: bytes | str):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    files.write(path, data)
    assert path.read_bytes() == (data.encode() if isinstance(data, str) else data)
    assert names(tmp_path) == ["file"]


def test_a_path_may_be_text_and_without_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    files.write("file", b"x", durable=True)
    assert names(tmp_path) == ["file"]


def test_a_name_may_be_as_long_as_names_may_be(tmp_path: Path):
    files.write(tmp_path / ("x" * 255), b"x")
    assert names(tmp_path) == ["x" * 255]


def test_a_file_is_private_from_its_first_byte_on_unless_said_otherwise(tmp_path: Path):
    before = os.umask(0)
    try:
        with files.whole(tmp_path / "key") as file:
            assert os.fstat(file.fileno()).st_mode & 0o777 == 0o600
        files.write(tmp_path / "certificate", b"x", mode=files.PUBLIC)
    finally:
        os.umask(before)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "certificate").stat().st_mode & 0o777 == 0o644


def test_a_private_file_takes_the_place_of_one_that_all_could_read(tmp_path: Path):
    path = tmp_path / "key"
    path.write_bytes(b"before")
    path.chmod(0o644)
    files.write(path, b"x")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_writer_killed_before_the_end_leaves_what_was_there(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def die() -> None:
        with files.whole(path) as file:
            file.write(b"after")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    assert ended(die) == -signal.SIGKILL
    assert path.read_bytes() == b"before"


def test_a_writer_killed_between_write_and_rename_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    monkeypatch.setattr(os, "replace", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    assert ended(lambda: files.write(path, b"after", durable=True)) == -signal.SIGKILL
    assert path.read_bytes() == b"before"


def test_a_failure_leaves_what_was_there_and_no_litter(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    with pytest.raises(KeyError), files.whole(path) as file:
        file.write(b"after")
        raise KeyError
    assert path.read_bytes() == b"before"
    assert names(tmp_path) == ["file"]


def test_a_rename_that_fails_leaves_no_litter(tmp_path: Path):
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError):
        files.write(tmp_path / "file", b"x")
    assert names(tmp_path) == ["file"]


def test_a_full_disk_leaves_what_was_there_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write(path, b"after", durable=True)
    assert path.read_bytes() == b"before"
    assert names(tmp_path) == ["file"]


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        files.write(tmp_path / "no" / "file", b"x")


def test_once_is_never_over_another(tmp_path: Path):
    path = tmp_path / "file"
    with files.whole(path, once=True) as file:
        file.write(b"first")
    with pytest.raises(FileExistsError), files.whole(path, once=True) as file:
        file.write(b"second")
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["file"]


def test_of_two_who_write_at_once_one_is_whole(tmp_path: Path):
    path = tmp_path / "file"
    texts = [bytes([letter]) * 300_000 for letter in b"ab"]
    together = threading.Barrier(2)

    def write(text: bytes) -> None:
        for _ in range(20):
            together.wait()
            files.write(path, text)

    writers = [threading.Thread(target=write, args=(text,)) for text in texts]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        if path.exists():
            assert path.read_bytes() in texts
    assert names(tmp_path) == ["file"]


def test_two_drafts_of_one_file_are_two_files(tmp_path: Path):
    path = tmp_path / "file"
    with files.whole(path) as first, files.whole(path) as second:
        first.write(b"first")
        second.write(b"second")
        assert len(names(tmp_path)) == 2
    assert path.read_bytes() == b"first"  # which was renamed last


def test_durable_is_on_the_disk_before_it_is_named_and_so_is_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    done: list[str] = []
    sync, replace = os.fsync, os.replace

    def fsync(fd: int) -> None:
        done.append(f"sync {Path(f'/proc/self/fd/{fd}').resolve().suffix or 'directory'}")
        sync(fd)

    def renamed(old: str, new: str) -> None:
        done.append("rename")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", renamed)
    files.write(tmp_path / "key", b"x")
    assert done == ["rename"]
    files.write(tmp_path / "key", b"x", durable=True)
    assert done[1:] == ["sync .part", "rename", "sync directory"]

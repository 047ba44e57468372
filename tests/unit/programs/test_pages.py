"""Pages: kept results on their way from one job of an account to the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from mycelium.base.errors import Refused
from mycelium.programs import pages
from mycelium.programs.pages import PagedMemo, pack, read

ONE, TWO = "a" * 32, "b" * 32  # kernels


def key(kernel: str, number: int) -> str:
    return kernel + f"{number:064x}"


def test_the_next_job_finds_what_this_one_used_and_computed(tmp_path: Path) -> None:
    first = PagedMemo(tmp_path / "kept")
    for kernel in (ONE, TWO):
        first.put(key(kernel, 1), kernel.encode())
    first.save()
    second = PagedMemo(tmp_path / "kept")
    assert second.get(key(ONE, 1)) == ONE.encode()
    assert second.get(key(ONE, 2)) is None
    second.put(key(ONE, 2), b"new")
    second.save()
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [f"{ONE}.pmk"]
    third = PagedMemo(tmp_path / "kept")
    assert (third.get(key(ONE, 1)), third.get(key(ONE, 2))) == (ONE.encode(), b"new")


def test_several_pages_of_one_kernel_become_one(tmp_path: Path) -> None:
    for number in (1, 2):
        page = pack({key("", number): b"%d" % number})
        (tmp_path / f"{ONE}-{number}.pmk").write_bytes(page)
    memo = PagedMemo(tmp_path)
    assert memo.get(key(ONE, 2)) == b"2"
    memo.save()
    assert read((tmp_path / f"{ONE}.pmk").read_bytes()) == {key("", 1): b"1", key("", 2): b"2"}


def test_a_page_holds_what_was_used_last_when_not_all_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "PAGE_BYTES_MAX", 1_000)
    memo = PagedMemo(tmp_path)
    for number in range(10):
        memo.put(key(ONE, number), b"x" * 200)
    memo.put(key(ONE, 99), b"x" * 251)  # one result must not push out all the others
    memo.save()
    again = PagedMemo(tmp_path)
    assert [number for number in range(10) if again.get(key(ONE, number))] == [0, 1, 2]
    assert again.get(key(ONE, 99)) is None


def test_every_altered_byte_of_a_page_is_noticed(tmp_path: Path) -> None:
    page = pack({key("", 1): b"one", key("", 2): b"two"})
    for at in range(len(page)):
        bad = page[:at] + bytes([page[at] ^ 1]) + page[at + 1 :]
        with pytest.raises(Refused):
            read(bad)
    for size in range(len(page)):
        with pytest.raises(Refused):
            read(page[:size])
    (tmp_path / f"{ONE}.pmk").write_bytes(page[:-1])
    (tmp_path / f"{TWO}.pmk").write_bytes(b"")
    assert PagedMemo(tmp_path).get(key(ONE, 1)) is None

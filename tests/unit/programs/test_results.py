"""Results that outlive a process: found again, let go of when there is too much, and never believed when altered."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import pytest

from mycelium.polymer.function import kernel
from mycelium.polymer.runtime.memo import Keys
from mycelium.programs import results
from mycelium.programs.results import StoredMemo

KEYS = [f"{number:02x}" * 16 + f"{number:064x}" for number in range(40)]  # each of a kernel of its own
SAME = ["ab" * 16 + f"{number:064x}" for number in range(300)]  # all of one kernel


def kept(root: Path, key: str, value: bytes, **bounds: int) -> StoredMemo:
    memo = StoredMemo(root, **bounds)
    memo.put(key, value)
    memo.settle()
    return memo


def test_what_was_put_is_there_for_the_next_process(tmp_path: Path) -> None:
    kept(tmp_path, KEYS[0], b"one")
    kept(tmp_path, KEYS[0], b"two")
    assert StoredMemo(tmp_path).get(KEYS[0]) == b"two"
    assert StoredMemo(tmp_path).get(KEYS[1]) is None


def _shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _alter(path: Path) -> None:
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])


@pytest.mark.parametrize("harm", [Path.unlink, _shorten, _alter])
def test_a_harmed_result_is_a_miss_and_can_be_kept_again(tmp_path: Path, harm: Callable[[Path], object]) -> None:
    kept(tmp_path, KEYS[0], b"result")
    harm(next((tmp_path / "objects").glob("[0-9a-f][0-9a-f]/*")))
    assert StoredMemo(tmp_path).get(KEYS[0]) is None
    kept(tmp_path, KEYS[0], b"result")
    assert StoredMemo(tmp_path).get(KEYS[0]) == b"result"


@pytest.mark.parametrize("target", ["nowhere", "/etc/passwd", "../../../../etc/passwd", "../../objects/aa/bb"])
def test_a_link_to_elsewhere_is_a_miss(tmp_path: Path, target: str) -> None:
    kept(tmp_path, KEYS[0], b"result")
    link = next((tmp_path / "named").glob("*/*"))
    link.unlink()
    link.symlink_to(target)
    assert StoredMemo(tmp_path).get(KEYS[0]) is None


def test_the_longest_unwanted_go_when_there_are_too_many(tmp_path: Path) -> None:
    memo = StoredMemo(tmp_path, pages_max=10)
    memo.trimmed_s = math.inf  # when it trims is this test's affair
    for key in KEYS[:20]:
        memo.put(key, key.encode())
    memo.settle()
    for at, key in enumerate(KEYS[:20]):
        (link,) = (tmp_path / "named" / key[:32]).iterdir()
        os.utime(link, ns=(at, at), follow_symlinks=False)
    assert StoredMemo(tmp_path).get(KEYS[0]) == KEYS[0].encode()  # it is wanted now
    memo.trim()
    fresh = StoredMemo(tmp_path)
    assert {key for key in KEYS[:20] if fresh.get(key)} == {KEYS[0], *KEYS[13:20]}
    assert len(pages(tmp_path)) == 8


def pages(root: Path) -> list[Path]:
    return list((root / "objects").glob("[0-9a-f][0-9a-f]/*"))


def test_the_bytes_on_disk_are_bounded(tmp_path: Path) -> None:
    memo = StoredMemo(tmp_path, bytes_max=20_000)
    memo.trimmed_s = math.inf
    for key in KEYS:
        memo.put(key, key.encode() * 10)
    memo.settle()
    memo.trim()
    assert 10_000 < sum(path.stat().st_size for path in pages(tmp_path)) <= 16_000


def test_many_small_pages_of_a_kernel_become_few(tmp_path: Path) -> None:
    for at in range(2 * results.MERGE_PAGES):
        kept(tmp_path, SAME[at], b"%d" % at)
    assert len(pages(tmp_path)) <= results.MERGE_PAGES
    fresh = StoredMemo(tmp_path)
    assert all(fresh.get(SAME[at]) == b"%d" % at for at in range(2 * results.MERGE_PAGES))


def test_results_of_one_run_share_a_page_until_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "GATHER_S", 30.0)
    memo = StoredMemo(tmp_path)
    for at, key in enumerate(SAME):
        memo.put(key, b"%d" % at)
    memo.settle()
    assert len(pages(tmp_path)) == 1
    monkeypatch.setattr(results, "GATHER_BYTES", 1_000)
    for key in SAME[:10]:
        memo.put(key, b"x" * 400)
    memo.settle()
    assert len(pages(tmp_path)) > 3
    assert StoredMemo(tmp_path).get(SAME[200]) == b"200"


def test_a_place_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    memo = kept(tmp_path / "file", KEYS[0], b"result")
    assert memo.broken
    assert memo.get(KEYS[0]) == b"result"
    assert memo.get(KEYS[1]) is None


def test_a_persons_results_are_where_myc_home_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MYC_HOME", str(tmp_path))
    assert results.home() == tmp_path / "results"
    monkeypatch.delenv("MYC_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert results.home() == tmp_path / "mycelium" / "results"


@dataclass(frozen=True)
class Point:
    x: int


class Named(NamedTuple):
    points: list[Point]


@kernel(cache=True)
def named(x: int) -> Named:
    return Named([Point(x)])


@kernel(cache=True)
def anything(x: int):  # type: ignore[no-untyped-def]
    return x


def test_a_result_is_read_back_as_it_was_or_not_kept_at_all() -> None:
    keys = Keys(named.kernel)
    written = keys.written(Named([Point(3)]))
    (back,) = keys.read(written)
    assert back == Named([Point(3)])
    assert type(back) is Named
    free = Keys(anything.kernel)
    for value in (1, -0.0, "ü", b"\x00", [(1, None)], {"a": {1: True}}, numpy.float32(0.1), numpy.eye(3)):
        (back,) = free.read(free.written(value))
        assert type(back) is type(value)
        assert repr(back) == repr(value)
    odd: list[Any] = [{1, 2}, Point(1), 1j, range(3), [Point(1)], object(), 1 << 20_000]
    assert [free.written(value) for value in odd] == [None] * len(odd)


def test_bytes_that_are_no_result_are_a_miss() -> None:
    keys = Keys(named.kernel)
    written = keys.written(Named([Point(3)]))
    assert written is not None
    assert [keys.read(bad) for bad in (b"", written[:-1], b"\x80\x04N.", None)] == [[]] * 4

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mycelium.base.errors import Exhausted, Unavailable
from mycelium.sandbox import uids

WHOLE = "         0          0 4294967295\n"


def test_a_lease_is_unlike_every_other_until_it_ends(tmp_path: Path) -> None:
    first, first_fd = uids.lease(tmp_path, first=70_000)
    second, second_fd = uids.lease(tmp_path, first=70_000)
    assert first != second
    os.close(first_fd)
    third, third_fd = uids.lease(tmp_path, first=70_000)
    assert third == first
    os.close(second_fd)
    os.close(third_fd)


def test_when_all_are_lent_the_next_is_exhausted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uids, "COUNT", 3)
    fds = [uids.lease(tmp_path, first=70_000)[1] for _ in range(3)]
    with pytest.raises(Exhausted):
        uids.lease(tmp_path, first=70_000)
    for fd in fds:
        os.close(fd)


def test_the_range_lies_inside_the_user_namespace() -> None:
    assert uids.base(WHOLE) == uids.BASES[0]
    assert uids.base("0 100000 65536\n") == uids.BASES[2]
    with pytest.raises(Unavailable):
        uids.base("0 1000 1\n")

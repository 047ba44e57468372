from __future__ import annotations

import pytest

from mycelium.base.errors import Unavailable
from mycelium.log import MemoryLog

TWO = [("a", b""), ("b", b"")]


def test_an_injected_failure_writes_nothing_and_ends_the_log() -> None:
    log = MemoryLog(fail_at={4})
    log.append(1, TWO)
    with pytest.raises(Unavailable):
        log.append(2, TWO)
    assert log.last_seq == 2
    with pytest.raises(Unavailable):
        log.append(3, TWO)


def test_the_next_life_gets_past_an_injected_failure() -> None:
    log = MemoryLog(fail_at={1})
    with pytest.raises(Unavailable):
        log.append(1, TWO)
    log = log.reopen()
    assert log.append(1, TWO) == 2
    assert log.verify().ok


def test_a_log_that_was_reopened_leaves_its_former_life_powerless() -> None:
    former = MemoryLog()
    former.append(1, TWO)
    log = former.reopen()
    with pytest.raises(Unavailable):
        former.append(2, TWO)
    assert log.append(2, TWO) == 4


def test_a_spoiled_event_is_found() -> None:
    log = MemoryLog()
    log.append(1, TWO)
    log.spoil(2, b"x")
    assert log.verify().bad_seq == 2

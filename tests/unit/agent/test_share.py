from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycelium.agent.share import Share, virtual
from mycelium.base.errors import Exhausted
from mycelium.nodes.model import Devices


@given(cpus=st.integers(1, 64), parts=st.integers(1, 64), gpus=st.integers(0, 8))
def test_shares_have_a_cpu_each_and_add_up_to_the_machine_unless_it_has_too_few(
    cpus: int, parts: int, gpus: int
) -> None:
    shares = [virtual(part, parts, range(cpus), 1000 * parts, range(gpus)) for part in range(parts)]
    assert all(cores for cores, _, _ in shares)
    if cpus >= parts:
        assert sorted(core for cores, _, _ in shares for core in cores) == list(range(cpus))
        counts = [len(cores) for cores, _, _ in shares]
        assert counts == sorted(counts, reverse=True)
        assert counts[0] - counts[-1] <= 1
    assert sum(memory for _, memory, _ in shares) <= 1000 * parts
    assert sorted(gpu for _, _, own in shares for gpu in own) == list(range(gpus))


def test_steps_get_the_cpus_that_are_used_least() -> None:
    share = Share([0, 1, 2], [])
    assert share.take(Devices(1000)) == ([0], [])
    assert share.take(Devices(2000)) == ([1, 2], [])
    assert share.take(Devices(500)) == ([0], [])
    share.give_back(Devices(2000), [1, 2], [])
    assert share.take(Devices(1500)) == ([1, 2], [])


def test_a_step_that_asks_for_more_cpus_than_there_are_gets_all() -> None:
    assert Share([3, 4], []).take(Devices(9000)) == ([3, 4], [])


def test_a_gpu_belongs_to_one_step_at_a_time() -> None:
    share = Share([0], [0, 1])
    assert share.take(Devices(0, 0, 1)) == ([0], [0])
    assert share.take(Devices(0, 0, 1)) == ([0], [1])
    with pytest.raises(Exhausted):
        share.take(Devices(0, 0, 1))
    share.give_back(Devices(0, 0, 1), [0], [0])
    assert share.take(Devices(0, 0, 1))[1] == [0]


def test_an_adopted_step_keeps_what_it_has_even_where_the_machine_has_changed() -> None:
    share = Share([0, 1], [0])
    share.hold(Devices(1000, 0, 2), [1, 7], [0, 5])
    with pytest.raises(Exhausted):
        share.take(Devices(0, 0, 1))
    share.give_back(Devices(1000, 0, 2), [1, 7], [0, 5])
    assert share.take(Devices(0, 0, 1))[1] == [0]

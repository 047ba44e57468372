"""Batches of which a worker may do a part: nothing is lost or done twice, and the lowest failure is the one told."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from mycelium.polymer.function import kernel
from mycelium.polymer.runtime.bundle import Many
from mycelium.polymer.runtime.costs import Cost
from mycelium.polymer.runtime.pool import BatchDone, Raised, Work
from mycelium.polymer.runtime.work import CallFailed, some

TRIP_NS = 500_000
LONG_NS = 10**12


@kernel
def double(x: int) -> int:
    return 2 * x


def many(xs: list[Any]) -> Many:
    return Many(0, double.kernel, Cost(), [xs], [], trip_ns=TRIP_NS)


def drain(bundle: Many, did: int, call_ns: int) -> list[Work]:
    """Every batch until none is left; of a first one, `did` calls are done."""
    works: list[Work] = []
    while (work := bundle.next(2)) is not None:
        works.append(work)
        bundle.sent[id(work)] = work
        columns, _ = work.values
        done = columns[0][:did] if work.how == "some" else columns[0]
        del bundle.sent[id(work)]
        bundle.keep(work, BatchDone([2 * x for x in done], call_ns * len(done)))
    return works


@pytest.mark.parametrize(("did", "call_ns"), [(1, 10_000_000), (7, 1_000), (100_000, 50)])
def test_what_a_worker_left_undone_is_done_and_the_order_is_kept(did: int, call_ns: int) -> None:
    xs = list(range(50_000 if call_ns < 1_000_000 else 300))
    bundle = many(xs)
    works = drain(bundle, did, call_ns)
    assert works[0].how == "some"
    assert bundle.finished()
    assert bundle.result() == [2 * x for x in xs]


def test_dear_calls_are_cut_small_even_when_the_first_batch_was_large() -> None:
    first, *others = drain(many(list(range(600))), 1, 10_000_000)
    assert first.calls == 100
    assert {work.calls for work in others} == {1}


def test_no_batch_of_known_cost_takes_less_than_a_trip_but_the_last() -> None:
    first, *works, _ = drain(many(list(range(100_000))), 100_000, 50)
    assert first.how == "some"
    assert min(work.calls for work in works) * 50 >= TRIP_NS


def test_large_elements_are_not_sent_before_their_cost_is_known() -> None:
    work = many([bytes(1000)] * 100).next(2)
    assert work is not None
    assert (work.how, work.calls) == ("each", 1)


def test_a_failure_waits_for_the_calls_before_it_that_are_left_undone() -> None:
    bundle = many(list(range(600)))
    first, second = bundle.next(2), bundle.next(2)
    assert first is not None
    assert second is not None
    bundle.sent = {id(first): first, id(second): second}
    del bundle.sent[id(second)]
    bundle.fail(second, Raised(ValueError(), "", 3, "", "", ""))
    del bundle.sent[id(first)]
    bundle.keep(first, BatchDone([0], 10_000_000))
    assert not bundle.settled()
    left = 0
    while (work := bundle.next(2)) is not None:
        bundle.keep(work, BatchDone([2 * x for x in work.values[0][0]], 10_000_000 * work.calls))
        left += work.calls
    assert bundle.settled()
    assert left == first.calls - 1


def test_some_stops_in_time_and_begins_with_one_call() -> None:
    assert some(lambda x: x + 1, [[1, 2, 3]], [], LONG_NS, count().__next__) == [2, 3, 4]
    assert some(lambda x: x + 1, [[1, 2, 3]], [], 0, count().__next__) == [2]
    numbers = list(range(5000))
    assert some(lambda y, x: x + y, [numbers], [(0, 10)], LONG_NS, count().__next__) == list(range(10, 5010))
    assert (
        some(lambda x: x, [numbers], [], 2, count().__next__) == numbers[: 1 + 1]
    )  # a tick each: one call, then one more


def test_some_says_which_call_failed() -> None:
    with pytest.raises(CallFailed) as failed:
        some(lambda x: 1 / (40 - x), [list(range(100))], [], LONG_NS, count().__next__)
    assert (failed.value.index, failed.value.inputs) == (40, (40,))

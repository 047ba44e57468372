"""Who gets what next, with pretended seats under a pretended clock."""

from __future__ import annotations

import gc
from itertools import pairwise
from typing import Any

import pytest

from mycelium.base.errors import Unavailable
from mycelium.base.limits import POOL_DEATHS_MAX, POOL_KERNELS_MAX
from mycelium.polymer import verbs as my
from mycelium.polymer.define import program
from mycelium.polymer.function import as_kernel, kernel
from mycelium.polymer.runtime.costs import BATCH_NS, GROWTH
from mycelium.polymer.runtime.dataflow import STRAGGLER_NS
from mycelium.polymer.runtime.pool import BatchDone, Raised, Shared, Work, WorkerLost
from mycelium.pools.known import Known
from mycelium.pools.seat import AHEAD_COUNT_MAX
from tests.unit.pools.pretend import Bag, PretendedSeat, World


@kernel
def triple(x: int) -> int:
    return 3 * x


@kernel
def scaled(scale: list[int], x: int) -> int:
    return scale[x % len(scale)] * x


@kernel
def broken(x: int) -> int:
    return 1 // (x - 7)


@program
def triples(xs: list[int]) -> list[int]:
    return my.map(triple, xs)


@program
def one(x: int) -> int:
    return triple(x)


@program
def scales(scale: list[int], xs: list[int]) -> list[int]:
    return my.map(scaled, my.ref(scale), xs)


@program
def breaks(xs: list[int]) -> list[int]:
    return my.map(broken, xs)


def tripled(count: int) -> list[int]:
    return [3 * x for x in range(count)]


def numbers(count: int) -> dict[str, Any]:
    return {"xs": list(range(count))}


TRIPLE = as_kernel(triple).kernel


# How much.


def test_batches_of_cheap_calls_grow_and_those_of_dear_ones_stay_single() -> None:
    cheap = World(1, call_ns=100)
    assert cheap.result(triples.module, numbers(100_000)) == tripled(100_000)
    sizes = [work.calls for work in cheap.seats[0].sent]
    assert sizes[0] == 1
    assert max(sizes) > 1_000
    assert all(size <= before * GROWTH for before, size in pairwise(sizes) if size > before)
    dear = World(1, call_ns=2 * BATCH_NS)
    assert dear.result(triples.module, numbers(20)) == tripled(20)
    assert {work.calls for work in dear.seats[0].sent} == {1}


def test_a_slow_seat_gets_less() -> None:
    world = World(1, call_ns=100_000)
    slow = world.join(slowness=10.0)
    assert world.result(triples.module, numbers(2_000)) == tripled(2_000)
    fast = world.seats[0]
    assert 0 < slow.calls < fast.calls / 4


def test_a_seat_holds_one_batch_of_unknown_cost_and_little_more_than_it_needs_of_a_known_one() -> None:
    unknown, known, tiny = (Bag(TRIPLE, list(range(500)), cost_ns) for cost_ns in (0, 1_500_000, 1))
    for bag, held in ((unknown, 1), (known, 3), (tiny, AHEAD_COUNT_MAX)):
        world = World(1)
        world.attach(bag)
        assert len(world.seats[0].held) == held
        assert len(bag.handed) == held


def test_a_seat_of_several_slots_is_idle_until_each_has_something() -> None:
    world = World(0)
    world.join(slots=3, sure=6)
    bag = Bag(TRIPLE, list(range(20)))
    world.attach(bag)
    assert len(bag.handed) == 6
    assert bag.asked_idle[:6] == [True] * 3 + [False] * 3


def test_a_seat_that_is_not_ready_gets_nothing_but_the_first_batch_of_an_early_one() -> None:
    world = World(2)
    late, early = world.seats
    late.ready = early.ready = False
    early.early = True  # type: ignore[misc]
    bag = Bag(TRIPLE, list(range(20)), cost_ns=1)
    world.attach(bag)
    assert (len(late.held), len(early.held)) == (0, 1)
    late.ready = True
    world.wake()
    assert (len(late.held), len(early.held)) == (19, 1)


# Who.


def test_idle_seats_come_first_and_then_those_with_the_least_to_do() -> None:
    world = World(3)
    world.seats[0].slowness = 100.0
    world.attach(Bag(TRIPLE, list(range(3)), cost_ns=2_000_000))
    assert [len(seat.held) for seat in world.seats] == [1, 1, 1]
    world.step()
    assert [seat.idle() for seat in world.seats] == [False, True, False]
    world.attach(Bag(TRIPLE, list(range(2)), cost_ns=500_000))
    assert [len(seat.held) for seat in world.seats] == [1, 2, 1]


def test_a_seat_with_a_free_slot_comes_before_one_that_has_less_to_do_in_its_only_one() -> None:
    world = World(1)
    world.attach(Bag(TRIPLE, [1], cost_ns=1_000_000))
    wide = world.join(slots=2, sure=4)
    world.attach(Bag(TRIPLE, [1, 2], cost_ns=10_000_000))
    assert len(wide.held) == 2


def test_of_several_idle_seats_one_that_knows_the_kernel_is_chosen() -> None:
    world = World(2)
    first, second = world.seats
    first.slowness = 10.0
    world.attach(Bag(as_kernel(broken).kernel, [1]))
    assert world.result(one.module, {"x": 1}) == 3
    assert [len(seat.sent) for seat in (first, second)] == [1, 1]
    while first.held:
        world.step()
    world.attach(Bag(TRIPLE, [1]))
    assert [len(seat.held) for seat in (first, second)] == [0, 1]


def test_sources_are_asked_in_turn() -> None:
    world = World(0)
    bags = [Bag(TRIPLE, list(range(50)), cost_ns=1) for _ in range(3)]
    for bag in bags:
        world.attach(bag)
    world.join()
    counts = [len(bag.handed) for bag in bags]
    assert sum(counts) == AHEAD_COUNT_MAX
    assert max(counts) - min(counts) <= 1


def test_a_source_that_gets_work_while_another_one_is_asked_is_asked_again() -> None:
    world = World(1)
    late = Bag(TRIPLE, [])

    class Waker(Bag):
        def next(self, now_ns: int, idle: bool) -> Work | None:
            if not self.asked_idle:
                late.waiting.append(Work("call", TRIPLE, (5,)))
                world.wake()
            return super().next(now_ns, idle)

    world.attach(late)
    world.attach(Waker(TRIPLE, []))
    assert len(late.handed) == 1


# Losses.


def test_the_calls_of_a_lost_seat_go_to_others() -> None:
    world = World(2)
    world.respawn = False
    run = world.start(triples.module, numbers(5_000))
    for _ in range(6):
        world.step()
    victim = world.seats[0]
    assert victim.held
    world.lose(victim)
    assert world.finish(run) == tripled(5_000)
    assert len(world.seats) == 1


def test_a_call_that_kills_its_workers_is_given_up_after_its_bound() -> None:
    world = World(2)
    world.deadly = lambda work: True
    with pytest.raises(Unavailable, match=f"{POOL_DEATHS_MAX} workers died while they ran this call"):
        world.result(one.module, {"x": 1})
    assert len(world.lost) == POOL_DEATHS_MAX


def test_of_a_batch_that_kills_its_workers_only_the_poisoned_call_is_given_up() -> None:
    world = World(2, call_ns=100)
    world.deadly = lambda work: work.how == "each" and 777 in work.values[0][0]
    with pytest.raises(Unavailable, match="workers died") as raised:
        world.result(triples.module, numbers(3_000))
    assert "call 777" in raised.value.__notes__[0]
    world.deadly = lambda work: False
    assert world.result(triples.module, numbers(3_000)) == tripled(3_000)


def test_what_waits_on_a_lost_seat_is_not_suspected_of_its_death() -> None:
    world = World(1)
    bag = Bag(TRIPLE, [1, 2, 3], cost_ns=1_000_000)
    world.attach(bag)
    world.lose(world.seats[0])
    lost = [getattr(outcome, "begun", None) for outcome in bag.told()]  # the others have no such word
    assert lost == [True, False, False]


def test_seats_join_and_leave_in_the_middle() -> None:
    world = World(1, call_ns=50_000)
    world.respawn = False
    run = world.start(triples.module, numbers(3_000))
    world.step()
    joined = world.join(slots=2, sure=4)
    for _ in range(20):
        world.step()
    assert joined.calls > 0
    world.lose(world.seats[0])
    for _ in range(20):
        world.step()
    world.lose(joined)
    assert world.seats == []
    for _ in range(5):
        world.step()
    assert not run.over
    world.join()
    assert world.finish(run) == tripled(3_000)


# Stragglers, and what nobody waits for.


def test_a_straggler_is_copied_to_an_idle_seat_and_the_first_result_counts() -> None:
    world = World(2, call_ns=1_000_000)
    run = world.start(triples.module, numbers(12))
    while not (stuck := next((seat for seat in world.seats if 11 in _elements(seat)), None)):
        world.step()
    stuck.stuck = True
    held, begun_ns = [work for _, work, _ in stuck.queue], world.now_ns
    assert world.finish(run) == tripled(12)
    assert world.now_ns - begun_ns > STRAGGLER_NS
    copies = [work for seat in world.seats for work in seat.sent if work.copy_of is not None]
    assert [copy.copy_of for copy in copies] == held
    assert stuck not in world.lost
    stuck.stuck = False  # the late answer comes, and changes nothing
    while stuck.held:
        world.step()
    assert run.result() == tripled(12)


def _elements(seat: PretendedSeat) -> list[int]:
    return [x for _, work, _ in seat.queue for x in work.values[0][0]]


def test_a_seat_that_is_busy_for_nobody_is_ended_and_one_that_is_busy_for_somebody_never() -> None:
    world = World(2)
    bags = Bag(TRIPLE, [1]), Bag(TRIPLE, [2])
    for bag, seat in zip(bags, world.seats, strict=True):
        seat.stuck = True
        world.attach(bag)
    world.detach(bags[0])
    first, second = world.seats
    for _ in range(30):
        world.step()
    assert world.lost == [first]
    assert second in world.seats
    assert bags[0].told() == []
    assert bags[1].told() == []


def test_a_dropped_batch_is_let_go_and_its_late_answers_count_for_nobody() -> None:
    world = World(1)
    gone: list[int] = []
    seat = world.seats[0]
    seat.let_go = gone.append  # type: ignore[method-assign]
    bag = Bag(TRIPLE, [1])
    world.attach(bag)
    (work,) = bag.handed
    world.drop(work)
    assert gone == [work.ticket]
    world.feeder.answer(seat, work.ticket, WorkerLost("was dropped", False))
    world.feeder.answer(seat, work.ticket, BatchDone(3, 1))
    assert bag.told() == []
    assert not seat.held


def test_an_answer_to_what_was_never_asked_is_ignored() -> None:
    world = World(1)
    bag = Bag(TRIPLE, [1, 2])
    world.attach(bag)
    world.feeder.answer(world.seats[0], 999, BatchDone("forged", 1))
    while bag.waiting or world.seats[0].held:
        world.step()
    assert [outcome.value for outcome in bag.told() if isinstance(outcome, BatchDone)] == [3, 6]


# What seats know.


def test_kernels_and_shared_values_are_carried_to_each_seat_once_and_forgotten_after() -> None:
    world = World(3)
    scale = [5, 6, 7]
    for _ in range(2):
        assert world.result(scales.module, {"scale": scale, **numbers(3_000)}) == [
            scale[x % 3] * x for x in range(3_000)
        ]
    for seat in world.seats:
        seat.sent.clear()
    gc.collect()
    world.step()
    for seat in world.seats:
        assert len(seat.taught) == len(set(seat.taught)) == 3, "the kernel, and the value of each run"
        assert seat.values == {}
        assert len(seat.kernels) == 1


def test_a_kernel_has_a_number_while_there_are_not_too_many_and_a_value_while_it_lives() -> None:
    known = Known()
    kernels = [as_kernel(lambda x, at=at: x + at).kernel for at in range(POOL_KERNELS_MAX + 1)]
    given = [known.number(held) for held in kernels]
    assert len(set(given)) == len(kernels)
    assert list(known.forgotten()) == [given[0]]
    assert known.number(kernels[2]) == given[2]
    assert known.number(kernels[0]) not in given
    assert list(known.forgotten()) == [given[1]]
    value = Shared([1])
    number = known.number(value)
    assert known.number(value) == number
    assert not known
    del value
    assert list(known.forgotten()) == [number]


def test_a_call_that_cannot_be_packed_fails_alone_and_says_where() -> None:
    world = World(1)
    world.unsendable = 2
    bag = Bag(TRIPLE, [1, 2, 3])
    world.attach(bag)
    while bag.waiting or world.seats[0].held:
        world.step()
    first, second, third = bag.told()
    assert isinstance(first, BatchDone)
    assert isinstance(third, BatchDone)
    assert isinstance(second, Raised)
    assert second.where == "packing the call"
    assert "kernel triple" in second.error.__notes__[0]


def test_the_failed_call_with_the_lowest_index_is_raised_with_its_kernel() -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        World(3).result(breaks.module, numbers(100))
    assert "kernel broken, call 7" in raised.value.__notes__[0]


# The end.


def test_a_closed_feeder_tells_its_sources_and_feeds_nobody() -> None:
    world = World(1)
    bag = Bag(TRIPLE, [1, 2])
    world.attach(bag)
    error = Unavailable("closed")
    world.feeder.close(error)
    assert bag.closed is error
    world.wake()
    assert len(bag.handed) == 1


def test_only_what_may_bring_something_makes_a_feeder_restless() -> None:
    world = World(1)
    assert not world.feeder.restless()
    bag = Bag(TRIPLE, [1])
    world.attach(bag)
    world.detach(bag)
    assert world.feeder.restless(), "the seat is busy for nobody"
    world.step()
    assert not world.feeder.restless()

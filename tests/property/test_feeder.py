"""Laws of the feeder: whatever seats come, go, hang or crawl, nothing is lost and nothing counts twice."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mycelium.polymer.function import as_kernel
from mycelium.polymer.runtime.interpreter import interpret
from mycelium.polymer.runtime.pool import BatchDone, WorkerLost
from tests.property.polymer_programs import random_inputs, random_program, triple
from tests.unit.pools.pretend import Bag, World

MANY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
EVENTS = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from(["join", "lose", "hang", "crawl", "wide"]), st.integers(0, 7)),
    max_size=12,
)


def befall(world: World, what: str, which: int) -> None:
    """Something happens to one of the seats, or one comes."""
    match what:
        case "join":
            world.join()
        case "wide":
            world.join(slots=2, sure=4)
        case "lose" if len(world.seats) > 1:
            world.lose(world.seats[which % len(world.seats)])
        case "hang":
            world.seats[which % len(world.seats)].stuck = True
        case "crawl":
            world.seats[which % len(world.seats)].slowness = 50.0
        case _:
            pass


def live(world: World, events: list[Any]) -> None:
    for steps, what, which in events:
        for _ in range(steps):
            world.step()
        befall(world, what, which)


@MANY
@given(seed=st.integers(0, 1 << 30), events=EVENTS)
def test_a_program_gives_what_the_interpreter_gives_whoever_joins_and_is_lost(seed: int, events: list[Any]) -> None:
    module, inputs = random_program(seed), random_inputs(seed)
    world = World(2, call_ns=200_000)
    world.respawn = False
    run = world.start(module, inputs)
    live(world, events)
    for seat in [seat for seat in world.seats if seat.stuck]:
        world.join()
        world.lose(seat)  # a machine that hangs is found to be lost at last
    assert world.finish(run) == interpret(module, inputs)


@MANY
@given(events=EVENTS, count=st.integers(0, 200), cost_ns=st.sampled_from([0, 1, 1_000_000]))
def test_every_batch_that_was_handed_out_has_one_outcome(events: list[Any], count: int, cost_ns: int) -> None:
    world = World(1)
    world.respawn = False
    bag = Bag(as_kernel(triple).kernel, list(range(count)), cost_ns)
    world.attach(bag)
    live(world, events)
    for seat in world.seats:
        seat.stuck = False
    for _ in range(20 * count + 20):
        if not bag.waiting and not any(seat.held for seat in world.seats):
            break
        world.step()
    assert len(bag.handed) == count
    assert [len(bag.outcomes[id(work)]) for work in bag.handed] == [1] * count
    for work, outcome in zip(bag.handed, bag.told(), strict=True):
        assert isinstance(outcome, WorkerLost) or (
            isinstance(outcome, BatchDone) and outcome.value == 3 * work.values[0]
        )
    lost = sum(isinstance(outcome, WorkerLost) for outcome in bag.told())
    assert lost == 0 or world.lost
    assert all(seat.cost_ns == seat.unknown == 0 for seat in world.seats)

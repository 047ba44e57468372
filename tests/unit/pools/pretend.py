"""A pool of pretended seats under a pretended clock: time goes on only when somebody steps.

A pretended seat really runs its batches, one after the other, and says that they took as long as its calls should.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from mycelium.polymer.forms.resolve import resolve
from mycelium.polymer.kernel import Kernel
from mycelium.polymer.program.graph import Module
from mycelium.polymer.runtime import work as works
from mycelium.polymer.runtime.dataflow import Run
from mycelium.polymer.runtime.pool import BatchDone, Outcome, Raised, Shared, Work
from mycelium.pools.feeder import Feeder
from mycelium.pools.seat import Parcel, Seat

TICK_NS = 100_000_000  # what passes when nothing else happens
STEPS_MAX = 100_000  # a world that is not over by then hangs


class PretendedSeat(Seat):
    """`slowness` times as long as others takes what it does; a `stuck` one never ends what it runs."""

    ended_ns = 1_000_000_000

    def __init__(self, world: World, slots: int = 1, sure: int = 1, slowness: float = 1.0) -> None:
        super().__init__(slots, sure, ahead_ns=4_000_000)
        self.world, self.slowness = world, slowness
        self.ready = True
        self.stuck = False
        self.queue: deque[tuple[int, Work, Parcel]] = deque()
        self.ends_ns: int | None = None  # of the first of the queue
        self.kernels: dict[int, Callable[..., Any]] = {}
        self.values: dict[int, Any] = {}
        self.taught: list[int] = []
        self.sent: list[Work] = []
        self.calls = 0

    def send(self, ticket: int, work: Work, parcel: Parcel) -> None:
        if self.world.unsendable in work.values:
            raise TypeError("it cannot be carried")
        self.sent.append(work)
        self.queue.append((ticket, work, parcel))
        self.begin()

    def teach(self, number: int, thing: Kernel | Shared) -> None:
        self.taught.append(number)
        if isinstance(thing, Shared):
            self.values[number] = thing.value
        else:
            self.kernels[number] = resolve(thing)

    def forget(self, number: int) -> None:
        self.values.pop(number, None)
        self.kernels.pop(number, None)

    def end(self) -> None:
        self.world.lose(self, "was ended")

    def begun(self) -> set[int]:
        return {self.queue[0][0]} if self.queue else set()

    def begin(self) -> None:
        if self.ends_ns is None and self.queue:
            took_ns = self.world.call_ns * self.queue[0][1].calls * self.slowness
            self.ends_ns = self.world.now_ns + max(1, int(took_ns))

    def finish(self) -> tuple[int, Outcome]:
        """The first batch is done."""
        ticket, work, parcel = self.queue.popleft()
        self.ends_ns = None
        self.calls += work.calls
        try:
            outcome: Outcome = BatchDone(self.run(*parcel), int(self.world.call_ns * work.calls * self.slowness))
        except works.CallFailed as error:
            outcome = Raised(error.__cause__ or error, "", error.index, "", "a pretended worker", "")
        except Exception as error:
            outcome = Raised(error, "", 0, "", "a pretended worker", "")
        self.begin()
        return ticket, outcome

    def run(self, how: str, number: int, values: Any, each: int, test: int) -> Any:
        kernel = self.kernels[number]
        if how == "call":
            return works.call(kernel, values)
        if how == "each":
            columns, shared = values
            return works.each(kernel, columns, [(at, self.values[one]) for at, one in shared])
        if how == "loop":
            return works.loop(self.kernels[test], kernel, values[0])
        xs, extra = values
        if each:
            xs = works.each(self.kernels[each], [works.elements(xs)], ())
        return works.FOLDS[how](kernel, xs, extra)


class World:
    """What a runtime needs of a pool. `deadly` says of which batches a seat dies instead of ending them."""

    trip_ns = 0

    def __init__(self, seats: int = 2, call_ns: float = 10_000) -> None:
        self.now_ns = 0
        self.call_ns = call_ns
        self.feeder = Feeder(lambda: self.now_ns)
        self.lock = self.feeder.lock
        self.attach, self.detach = self.feeder.attach, self.feeder.detach
        self.wake, self.drop = self.feeder.wake, self.feeder.drop
        self.unsendable: Any = object()
        self.deadly: Callable[[Work], bool] = lambda _: False
        self.lost: list[PretendedSeat] = []
        self.respawn = True
        for _ in range(seats):
            self.join()

    @property
    def seats(self) -> list[PretendedSeat]:
        return [seat for seat in self.feeder.seats if isinstance(seat, PretendedSeat)]

    @property
    def slots(self) -> int:
        return sum(seat.slots for seat in self.seats) or 1

    def join(self, **how: Any) -> PretendedSeat:
        seat = PretendedSeat(self, **how)
        self.feeder.join(seat)
        self.feeder.feed()
        return seat

    def lose(self, seat: PretendedSeat, why: str = "died") -> None:
        self.feeder.lose(seat, why)
        self.lost.append(seat)
        if self.respawn:
            self.join(slots=seat.slots)
        self.feeder.feed()

    def step(self) -> None:
        """The next batch that ends, or a tick."""
        due = [(seat.ends_ns, at) for at, seat in enumerate(self.seats) if seat.ends_ns is not None and not seat.stuck]
        if not due or min(due)[0] > self.now_ns + TICK_NS:
            self.now_ns += TICK_NS
        else:
            ends_ns, at = min(due)
            self.now_ns, seat = max(self.now_ns, ends_ns), self.seats[at]
            if self.deadly(seat.queue[0][1]):
                self.lose(seat)
                return
            self.feeder.answer(seat, *seat.finish())
        self.feeder.sweep()
        self.feeder.feed()

    def start(self, module: Module, inputs: Mapping[str, Any]) -> Run:
        run = Run(module, module.main, inputs, self, then=lambda _: None, costs={})
        run.start()
        return run

    def finish(self, run: Run) -> Any:
        """Steps until it is over. Errors: its own."""
        for _ in range(STEPS_MAX):
            if run.over:
                break
            self.step()
        assert run.over, "the run hangs"
        if run.error is not None:
            raise run.error
        return run.result()

    def result(self, module: Module, inputs: Mapping[str, Any]) -> Any:
        return self.finish(self.start(module, inputs))


class Bag:
    """A source of single calls, which notes what has become of each."""

    def __init__(self, kernel: Kernel, values: list[Any], cost_ns: int = 0) -> None:
        self.waiting = deque(Work("call", kernel, (value,), cost_ns=cost_ns) for value in values)
        self.handed: list[Work] = []
        self.outcomes: dict[int, list[Outcome]] = {}  # by id of the batch
        self.asked_idle: list[bool] = []
        self.closed: BaseException | None = None

    def next(self, now_ns: int, idle: bool) -> Work | None:
        self.asked_idle.append(idle)
        if not self.waiting:
            return None
        self.handed.append(self.waiting.popleft())
        return self.handed[-1]

    def done(self, work: Work, outcome: Outcome, now_ns: int) -> None:
        self.outcomes.setdefault(id(work), []).append(outcome)

    def pool_closed(self, error: BaseException) -> None:
        self.closed = error

    def told(self) -> list[Outcome]:
        """The outcomes in the order in which the calls were handed out."""
        return [outcome for work in self.handed for outcome in self.outcomes.get(id(work), [])]

"""The actors of a Ray as a crew: one for each slot that the driver finds, each a socket on this side.

Where Ray or its driver is lost, another driver is tried now and then; without any worker for too long the pool ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from mycelium.base.errors import Unavailable
from mycelium.polymer.kernel import Kernel
from mycelium.polymer.runtime.pool import Shared, Work
from mycelium.pools.local.seat import PacketSeat
from mycelium.pools.pool import CrewedPool
from mycelium.pools.ray.child import END_S, Child
from mycelium.pools.ray.lending import Lending, Loan
from mycelium.pools.ray.messages import Found, Open, WorkerGone
from mycelium.pools.ray.offer import RayOffer
from mycelium.pools.seat import Parcel

JOIN_S = 40.0  # for a driver to find Ray
RETRY_S_MIN, RETRY_S_MAX = 0.2, 5.0
AHEAD_NS = 6_000_000  # several round trips: a worker never waits for us


class Pauses:
    """What fails is tried again after a while, a longer one each time."""

    def __init__(self) -> None:
        self._pauses: dict[str, float] = {}
        self._not_before: dict[str, float] = {}

    def failed(self, what: str) -> None:
        self._pauses[what] = min(RETRY_S_MAX, max(RETRY_S_MIN, 2 * self._pauses.get(what, 0)))
        self._not_before[what] = time.monotonic() + self._pauses[what]

    def over(self, what: str) -> bool:
        return time.monotonic() >= self._not_before.get(what, 0)

    def worked(self, what: str) -> None:
        self._pauses.pop(what, None)


class Actors:
    """`wanted`: slots by node, or none for all of Ray's; `most`: seats at most."""

    def __init__(
        self, pool: CrewedPool, offer: Callable[[], RayOffer], wanted: dict[str, int], most: int, patience_s: float
    ) -> None:
        self.pool, self.lending = pool, Lending()
        self.driver = Child(pool.selector, lambda _: self._listen())
        self.start_s = patience_s + JOIN_S
        self._offer, self._wanted, self._most, self._patience_s = offer, wanted, most, patience_s
        self._found: dict[str, int] = {}  # slots by Ray's name of the node, as the driver said last
        self._joined = False
        self._began_s = self._ready_s = 0.0
        self._pauses = Pauses()  # of nodes, and of the driver as ""
        self._numbered = 0
        self._why: dict[int, str] = {}  # by number, why a seat has ended
        self._last_why = "Ray does not answer"

    @property
    def slots(self) -> int:
        return min(sum(self._found.values()), self._most)

    def seats(self) -> list[ActorSeat]:
        return [seat for seat in self.pool.feeder.seats if isinstance(seat, ActorSeat)]

    def begin(self) -> None:
        self._ready_s = time.monotonic()
        self.tend()

    def missing(self) -> str:
        """Workers of this machine do not wait for a Ray that is not there."""
        seats = self.seats()
        there = len(seats) == self.slots and all(seat.ready for seat in seats) and self.pool.feeder.seats
        return "" if there else f"no worker of Ray is ready: {self._last_why}"

    def tend(self) -> None:
        self._mind_driver()
        if self.driver.pid:
            self._mind_slots()
        self._mind_patience()
        for seat in self.seats():
            seat.settle()

    def close(self) -> None:
        self.driver.part()
        for seat in self.seats():
            self._vacate(seat, "was ended with its pool")
        patience_s = END_S if self._joined else 0.0  # Ray ends its workers when the driver says goodbye
        self.pool.later(lambda: self.driver.bury(patience_s))

    # The driver.

    def _mind_driver(self) -> None:
        if not self.driver.pid:
            if self._pauses.over(""):
                self._start_driver()
        elif self.driver.ended() or (not self._joined and time.monotonic() - self._began_s > JOIN_S):
            self._listen()
            self._lose_driver()

    def _start_driver(self) -> None:
        try:
            offer = self._offer()
        except (OSError, Unavailable) as error:
            self._last_why = str(error)
            self._pauses.failed("")
            return
        self._began_s, self._joined = time.monotonic(), False
        self.driver.start(offer, self._wanted)

    def _listen(self) -> None:
        for message in self.driver.said():
            match message:
                case Found(slots=slots):
                    self._found, self._joined = slots, True
                    self._pauses.worked("")
                case WorkerGone(seat=seat, why=why):
                    self._last_why = why
                    if seat:
                        self._why[seat] = why
                case None:
                    self._lose_driver()

    def _lose_driver(self) -> None:
        """Ray, or the driver alone, is gone: all that was under way is lost."""
        if not self.driver.pid:
            return
        self.driver.bury()
        self._found = {}
        self._pauses.failed("")
        for seat in self.seats():
            self.lost(seat)

    # Seats.

    def _mind_slots(self) -> None:
        """A worker for each slot that has none."""
        for node, slots in self._found.items():
            missing = slots - sum(seat.node == node for seat in self.seats())
            if missing and not self._pauses.over(node):
                continue
            for _ in range(min(missing, self._most - len(self.seats()))):
                self._numbered += 1
                self.pool.feeder.join(ActorSeat(self, self._numbered, node))

    def came(self, node: str) -> None:
        self._pauses.worked(node)

    def lost(self, seat: ActorSeat) -> None:
        """Another one is seated when there can be one."""
        self._listen()  # why it has ended is said before its socket is closed
        if seat not in self.pool.feeder.seats:
            return  # the driver is gone, and all seats with it
        if not seat.ready:
            self._pauses.failed(seat.node)
        self._vacate(seat, f"worker {seat.number} of Ray: {self._why.pop(seat.number, 'was lost')}")

    def _vacate(self, seat: ActorSeat, why: str) -> None:
        self.pool.feeder.lose(seat, why)
        seat.packets.close()

    def _mind_patience(self) -> None:
        """Workers of other crews are waited for as long as those like."""
        now_s, feeder = time.monotonic(), self.pool.feeder
        if not feeder.sources or any(seat.ready or not isinstance(seat, ActorSeat) for seat in feeder.seats):
            self._ready_s = now_s
        elif now_s - self._ready_s > self._patience_s:
            self.pool.fail(f"no worker of Ray for {self._patience_s:g} s: {self._last_why}")


class ActorSeat(PacketSeat):
    """A worker somewhere: reached through the driver, which notes what it is at."""

    ended_ns = 10_000_000_000  # a new worker takes seconds, and on a busy node so do the imports of its first call

    def __init__(self, crew: Actors, number: int, node: str) -> None:
        super().__init__(crew.pool, AHEAD_NS)
        self.crew, self.number, self.node = crew, number, node
        self._loans: dict[int, list[Loan]] = {}  # by ticket
        crew.driver.say(Open(number, node), self.packets.theirs.fileno(), self.packets.their_mark)
        self.packets.handed_over()

    def send(self, ticket: int, work: Work, parcel: Parcel) -> None:
        how, kernel, values, each, test = parcel
        if how == "call":
            loans = [self.crew.lending.lend(value) for value in values]
            values = tuple(loan.copy if loan else value for loan, value in zip(loans, values, strict=True))
            if any(loans):
                self._loans[ticket] = [loan for loan in loans if loan]
        super().send(ticket, work, (how, kernel, values, each, test))

    def teach(self, number: int, thing: Kernel | Shared) -> None:
        if isinstance(thing, Shared):
            self.packets.post(self.crew.lending.packed(number, thing))
        else:
            super().teach(number, thing)

    def settle(self) -> None:
        """Give back what batches had that are no longer under way."""
        for ticket in self._loans.keys() - self.held.keys():
            del self._loans[ticket]

    def came(self) -> None:
        self.crew.came(self.node)
        super().came()

    def end(self) -> None:
        self.crew.lost(self)

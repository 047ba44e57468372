"""Who gets what next: sources have work, seats take it, and here they meet.

A seat is asked for as soon as it has room, an idle one first; sources are asked in turn, and cut their batches only
then. What a seat is lost with goes back to its source, which sends it again; a result counts only for who still waits.
Never: knows how a seat is reached, starts a thread, or reads any clock but the one it is given.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable

from mycelium.polymer.kernel import Kernel
from mycelium.polymer.runtime.pool import Outcome, Raised, Shared, Work, WorkerLost, WorkSource
from mycelium.pools.known import Known
from mycelium.pools.seat import Parcel, Seat

TICKET_MAX = 0x7FFF_FFFF  # beyond it tickets begin at 1 again; 0 is none


class Feeder:
    """Everything is called with `lock` held, except what a source calls: `attach detach drop wake` take it."""

    def __init__(self, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.lock = threading.RLock()
        self.seats: list[Seat] = []
        self.sources: deque[WorkSource] = deque()
        self.closed = False
        self._clock_ns = clock_ns
        self._known = Known()
        self._last_ticket = 0
        self._feeding = False
        self._stirred = False  # something may be ready that was not when sources were asked

    # What sources say.

    def attach(self, source: WorkSource) -> None:
        with self.lock:
            self.sources.append(source)
            self.feed()

    def detach(self, source: WorkSource) -> None:
        with self.lock:
            with contextlib.suppress(ValueError):
                self.sources.remove(source)
            for seat in self.seats:
                seat.drop_all(source)

    def drop(self, work: Work) -> None:
        with self.lock:
            for seat in self.seats:
                seat.drop(work)

    def wake(self) -> None:
        with self.lock:
            self.feed()

    # What transports say.

    def join(self, seat: Seat) -> None:
        """One more seat, which may be fed from now on."""
        self.seats.append(seat)

    def answer(self, seat: Seat, ticket: int, outcome: Outcome) -> None:
        """What has become of a batch; the next `feed` fills its place."""
        source, work = seat.take(ticket)
        if source is None or work is None:
            return
        if isinstance(outcome, Raised) and not outcome.kernel:
            outcome.kernel = work.kernel.name
        source.done(work, outcome, self._clock_ns())

    def lose(self, seat: Seat, why: str) -> None:
        """The seat is gone: whoever waits for its calls is told."""
        if seat not in self.seats:
            return
        self.seats.remove(seat)
        begun = seat.begun()
        for ticket in list(seat.held):
            self.answer(seat, ticket, WorkerLost(why, ticket in begun))

    def feed(self) -> None:
        """Give work to every seat that can take more."""
        self._stirred = True
        if self._feeding or self.closed:
            return  # a source that wakes us while it is asked is asked again
        self._feeding = True
        try:
            while self._stirred:
                self._stirred = False
                while self.sources and (seat := self._next_seat()) is not None and self._ask(seat):
                    pass
        finally:
            self._feeding = False

    def sweep(self) -> None:
        """Now and then: seats forget what nobody needs any more, and those that are busy for nobody are ended."""
        for number in self._known.forgotten():
            for seat in self.seats:
                if number in seat.knows:
                    seat.knows.discard(number)
                    seat.forget(number)
        now_ns = self._clock_ns()
        for seat in list(self.seats):
            if seat.wasted(now_ns):
                seat.end()

    def restless(self) -> bool:
        """Whether sweeping and asking again may bring anything; else only news can."""
        return bool(self.sources or self._known) or any(seat.held for seat in self.seats)

    def close(self, error: Exception) -> None:
        """Feed nobody any more, and tell all sources why."""
        self.closed = True
        for source in list(self.sources):
            source.pool_closed(error)
        self.sources.clear()

    # Who gets what.

    def _next_seat(self) -> Seat | None:
        free = [seat for seat in self.seats if seat.room()]
        return min(free, key=Seat.load) if len(free) > 1 else free[0] if free else None

    def _ask(self, seat: Seat) -> bool:
        """Whether a source had something for this seat."""
        now_ns, idle = self._clock_ns(), seat.idle()
        for _ in range(len(self.sources)):
            source = self.sources[0]
            self.sources.rotate(-1)
            work = source.next(now_ns, idle)
            if work is not None:
                number = self._known.number(work.kernel)
                if idle and number not in seat.knows:
                    seat = self._familiar(seat, number)
                self._give(seat, source, work, number, now_ns)
                return True
            if not self.sources:
                break
        return False

    def _familiar(self, seat: Seat, number: int) -> Seat:
        """Of several idle seats one that knows the kernel: it has it compiled, and what it imports loaded."""
        return next((other for other in self.seats if number in other.knows and other.idle() and other.room()), seat)

    def _give(self, seat: Seat, source: WorkSource, work: Work, kernel: int, now_ns: int) -> None:
        self._last_ticket = ticket = self._last_ticket % TICKET_MAX + 1
        try:
            seat.send(ticket, work, self._parcel(seat, work, kernel))
        except Exception as error:  # whatever pickling somebody's value raises
            error.add_note(f"while the call was packed for {seat.name}: kernel {work.kernel.name}")
            source.done(work, Raised(error, "", 0, "", "packing the call", work.kernel.name), now_ns)
            return
        seat.put(ticket, source, work)

    def _parcel(self, seat: Seat, work: Work, kernel: int) -> Parcel:
        """What travels of a batch; kernels and shared values that the seat does not know yet go ahead of it."""
        values = work.values
        if work.how in ("each", "some"):
            columns, shared = values
            values = (columns, [(at, self._told(seat, one)) for at, one in shared])
        if kernel not in seat.knows:
            self._told(seat, work.kernel)
        each = 0 if work.each is None else self._told(seat, work.each)
        test = 0 if work.test is None else self._told(seat, work.test)
        return work.how, kernel, values, each, test

    def _told(self, seat: Seat, thing: Kernel | Shared) -> int:
        number = self._known.number(thing)
        if number not in seat.knows:
            seat.teach(number, thing)
            seat.knows.add(number)
        return number

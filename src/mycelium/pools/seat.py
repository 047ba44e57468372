"""One seat as its feeder sees it: what it holds, what it knows, whether it can take more.

Each transport has its own kind of seat, which says how a batch gets there. Never: waits, or chooses what runs.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from mycelium.polymer.kernel import Kernel
from mycelium.polymer.runtime.pool import Shared, Work, WorkSource

AHEAD_COUNT_MAX = 64  # batches that one seat holds at most beyond those that it always may

Parcel = tuple[str, int, Any, int, int]  # how, kernel, values, each, test: kernels and shared values as their numbers


class Seat:
    """`held` maps tickets to batches on the way or running, in the order in which they were sent.

    `slots`: batches that it runs at the same time. `sure`: batches that it may hold whatever they cost; beyond them it
    may hold `ahead_ns` of work whose cost is known, so that it never waits for us. Everything is called with the
    feeder's lock held.
    """

    name = "a worker"  # as an error says for whom a call was packed
    early = False  # whether it takes a first batch before it has said that it is ready
    ended_ns = 0  # busy for nobody for so long, it is ended; 0: it needs only be told, and is never ended

    def __init__(self, slots: int = 1, sure: int = 1, ahead_ns: int = 0) -> None:
        self.slots, self.sure, self.ahead_ns = slots, sure, ahead_ns
        self.ready = False
        self.held: dict[int, tuple[WorkSource | None, Work]] = {}  # a dropped batch has no source any more
        self.cost_ns = 0
        self.unknown = 0  # batches whose cost nobody knows
        self.knows: set[int] = set()  # kernels and shared values that were carried there
        self.nobody_ns = 0  # since when it works for nobody; 0: it does not

    # What a transport says.

    def send(self, ticket: int, work: Work, parcel: Parcel) -> None:
        """Errors: whatever pickling the values raises; then nothing was sent."""
        raise NotImplementedError

    def teach(self, number: int, thing: Kernel | Shared) -> None:
        """Carry what parcels name by this number. Errors: as `send`."""
        raise NotImplementedError

    def forget(self, number: int) -> None:
        """No parcel names this number any more."""
        raise NotImplementedError

    def end(self) -> None:
        """It is busy for nobody: end it, and tell the feeder that it is lost."""
        raise NotImplementedError

    def let_go(self, ticket: int) -> None:
        """Nobody waits for this batch any more. A seat that cannot stop in the middle of one is ended later."""

    def begun(self) -> Set[int]:
        """The tickets of what it may have been at when it was lost."""
        return frozenset()

    # What the feeder asks.

    def idle(self) -> bool:
        return len(self.held) < self.slots

    def room(self) -> bool:
        count = len(self.held)
        if count < self.sure:
            return self.ready or (self.early and not count)
        return self.ready and not self.unknown and self.cost_ns < self.ahead_ns and count < AHEAD_COUNT_MAX

    def load(self) -> tuple[bool, float, float, bool]:
        """Idle ones first, then those with the least to do."""
        count = len(self.held)
        return count >= self.slots, self.cost_ns / self.slots, count / self.slots, not self.ready

    def put(self, ticket: int, source: WorkSource, work: Work) -> None:
        work.ticket = ticket
        self.held[ticket] = (source, work)
        self.cost_ns += work.cost_ns
        self.unknown += work.cost_ns == 0

    def take(self, ticket: int) -> tuple[WorkSource | None, Work | None]:
        """The batch is back. One that was let go may be answered twice: the second time it is none of this seat's."""
        source, work = self.held.pop(ticket, (None, None))
        if work is not None:
            self.cost_ns -= work.cost_ns
            self.unknown -= work.cost_ns == 0
        return source, work

    def drop(self, work: Work) -> None:
        if work.ticket in self.held and self.held[work.ticket][1] is work:
            self._disown(work.ticket, work)

    def drop_all(self, source: WorkSource) -> None:
        for ticket, (owner, work) in self.held.items():
            if owner is source:
                self._disown(ticket, work)

    def _disown(self, ticket: int, work: Work) -> None:
        self.held[ticket] = (None, work)
        self.let_go(ticket)

    def wasted(self, now_ns: int) -> bool:
        """Whether it has been busy for nobody for too long."""
        if not self.held or any(source is not None for source, _ in self.held.values()):
            self.nobody_ns = 0
            return False
        if self.nobody_ns == 0:
            self.nobody_ns = now_ns
        return 0 < self.ended_ns < now_ns - self.nobody_ns

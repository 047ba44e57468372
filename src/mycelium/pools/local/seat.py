"""A seat behind a socket: a process of this machine, or an actor whose driver passes everything on.

Never: says how the worker is made or ended; each crew has its own kind of this seat.
"""

from __future__ import annotations

import pickle
from collections.abc import Set
from typing import Any

from mycelium.polymer.kernel import Kernel, LivePython
from mycelium.polymer.runtime.pool import BatchDone, Raised, Shared, Work
from mycelium.pools.local import wire
from mycelium.pools.local.packets import Packets
from mycelium.pools.local.worker import Told
from mycelium.pools.pool import CrewedPool
from mycelium.pools.seat import Parcel, Seat


class PacketSeat(Seat):
    def __init__(self, pool: CrewedPool, ahead_ns: int) -> None:
        super().__init__(ahead_ns=ahead_ns)
        self.pool = pool
        self.packets = Packets(pool.selector, self._hear)

    def send(self, ticket: int, work: Work, parcel: Parcel) -> None:
        self.packets.post(wire.encode(wire.WORK, [parcel], ticket, 1))

    def teach(self, number: int, thing: Kernel | Shared) -> None:
        if isinstance(thing, Shared):
            self.packets.post(wire.encode(wire.SHARED, thing.value, number))
        else:
            self.packets.post(wire.encode(wire.KERNEL, _carried(thing), number))

    def forget(self, number: int) -> None:
        self.packets.post(wire.encode(wire.FORGET, [number]))

    def begun(self) -> Set[int]:
        return self.packets.noted()

    def came(self) -> None:
        """The worker has said that it is ready."""
        self.ready = True
        self.pool.news()

    def _hear(self, message: wire.Message | None) -> None:
        if message is None:
            self.end()
            return
        if message.kind == wire.READY:
            self.came()
            return
        try:
            replies: list[tuple[int, tuple[Any, ...] | Told | Raised]] = message.load()
        except Exception as error:  # a result that only the worker understands
            tickets = range(message.first, message.first + message.count)
            replies = [(ticket, Raised(error, "", 0, "", "reading the result", "")) for ticket in tickets]
        answer = self.pool.feeder.answer
        for ticket, told in replies:
            answer(self, ticket, BatchDone(*told) if isinstance(told, tuple) else _failed(told))


def _failed(told: Told | Raised) -> Raised:
    if isinstance(told, Raised):
        return told
    try:
        error = pickle.loads(told.error) if told.error else None
    except Exception:  # an error whose class cannot be read here is told as text
        error = None
    if not isinstance(error, BaseException):
        error = RuntimeError(told.shown)
    return Raised(error, told.trace, told.index, told.input_hash, told.where, told.kernel)


def _carried(kernel: Kernel) -> tuple[str, Any]:
    """Name and body: a plain function goes as it is, so that the worker need not know what a kernel is."""
    first = kernel.forms[0]
    return kernel.name, first.function if isinstance(first, LivePython) and len(kernel.forms) == 1 else kernel

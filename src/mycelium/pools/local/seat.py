"""One worker as its pool sees it: what it holds, what it knows, whether it can take more."""

from __future__ import annotations

import mmap
import socket
import subprocess
from collections import deque

from mycelium.polymer.runtime.pool import Source, Work
from mycelium.pools.local import wire

AHEAD_NS = 4_000_000  # a worker holds so much expected work beyond what it runs, so that it never waits for us
AHEAD_COUNT_MAX = 64  # batches that one worker holds at most


class Seat:
    """`held` maps tickets to batches on the way or running, in the order in which they were sent."""

    def __init__(self, process: subprocess.Popen[bytes], sock: socket.socket, mark: mmap.mmap) -> None:
        self.process, self.sock, self.mark = process, sock, mark
        self.inbox = wire.Inbox(sock)
        self.ready = False
        self.held: dict[int, tuple[Source | None, Work]] = {}  # a dropped batch has no source any more
        self.cost_ns = 0
        self.unknown = 0  # batches whose cost nobody knows
        self.knows: set[int] = set()  # kernels and shared values that were carried there
        self.outbox: deque[wire.Packet] = deque()
        self.idle_ns = 0  # since when it works for nobody; 0: it does not

    def room(self) -> bool:
        if not self.held:
            return True
        return self.ready and not self.unknown and self.cost_ns < AHEAD_NS and len(self.held) < AHEAD_COUNT_MAX

    def load(self) -> tuple[int, bool]:
        return (self.cost_ns if self.held else -1, not self.ready)

    def put(self, ticket: int, source: Source, work: Work) -> None:
        work.ticket = ticket
        self.held[ticket] = (source, work)
        self.cost_ns += work.cost_ns
        self.unknown += work.cost_ns == 0

    def take(self, ticket: int) -> tuple[Source | None, Work]:
        source, work = self.held.pop(ticket)
        self.cost_ns -= work.cost_ns
        self.unknown -= work.cost_ns == 0
        return source, work

    def begun(self) -> set[int]:
        """What the worker was at when it died: it writes the ticket into memory that outlives it."""
        (ticket,) = wire.MARK.unpack_from(self.mark)
        return {ticket} & self.held.keys()

    def drop(self, work: Work) -> None:
        if work.ticket in self.held and self.held[work.ticket][1] is work:
            self.held[work.ticket] = (None, work)

    def forget(self, source: Source) -> None:
        for ticket, (owner, work) in self.held.items():
            if owner is source:
                self.held[ticket] = (None, work)

"""The pool of rank 0: its own workers, and those of the other ranks that dial in.

A rank that is lost loses only its batches; they are run elsewhere. Never: waits for a rank, or starts one.
"""

from __future__ import annotations

import errno
import pickle
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from mycelium.polymer.kernel import Kernel
from mycelium.polymer.runtime.pool import Given, Lost, Outcome, Raised, Shared, Source, Work
from mycelium.polymer.shipping import dumps
from mycelium.pools.gang.door import Door
from mycelium.pools.gang.line import POOL, Line
from mycelium.pools.local.pool import LocalPool

AHEAD = 2  # batches that a rank holds for each of its workers: one runs, one is there when it ends
LISTEN_S = 10.0


class Rank:
    """Another rank, as rank 0 sees it: what it holds, what it knows, whether it can take more."""

    def __init__(self, line: Line, name: str, slots: int) -> None:
        self.line, self.name, self.slots = line, name, slots
        self.held: dict[int, tuple[Source | None, Work]] = {}
        self.knows: set[int] = set()
        self.outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=self._write, name=f"to {name}", daemon=True).start()

    def room(self) -> bool:
        return len(self.held) < AHEAD * self.slots

    def load(self) -> float:
        return len(self.held) / self.slots

    def _write(self) -> None:
        while (body := self.outbox.get()) is not None:
            try:
                self.line.send_bytes(body)
            except OSError:  # the thread that reads hears of it by itself
                return

    def post(self, kind: str, number: int, value: Any = None) -> None:
        """Errors: whatever pickling the value raises."""
        self.outbox.put(dumps((kind, number, dumps(value))))

    def close(self) -> None:
        self.outbox.put(None)
        self.line.close()


class GangPool(LocalPool):
    """A local pool with more seats, which come and go: the other ranks of the gang."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.ranks: list[Rank] = []
        self.door: Door | None = None
        self.asking = False

    @property
    def slots(self) -> int:
        return self.count + sum(rank.slots for rank in self.ranks)

    def listen(self, address: str, port: int, secret: str) -> None:
        """Let the other ranks in from now on. Without the port, rank 0 works alone and says so."""
        threading.Thread(target=self._let_in, args=(address, port, secret), name="gang", daemon=True).start()

    def _let_in(self, address: str, port: int, secret: str) -> None:
        until = time.monotonic() + LISTEN_S
        while (listener := _listener(address, port)) is None and time.monotonic() < until and not self.closing:
            time.sleep(0.1)
        if listener is None:
            sys.stderr.write(f"port {port} cannot be had: rank 0 works alone\n")
            return
        self.door = Door(listener, secret, POOL, self._meet)
        if self.closing:  # meanwhile, by who did not see the door yet
            self.door.close()

    def _meet(self, line: Line) -> None:
        try:
            name, slots = line.receive()
        except (OSError, EOFError):
            line.close()
            return
        self._serve_rank(Rank(line, name, slots))

    def _serve_rank(self, rank: Rank) -> None:
        with self.lock:
            self.ranks.append(rank)
            self._feed()
        why = "was lost"
        try:
            while True:
                ticket, kind, blob = rank.line.receive()
                with self.lock:
                    self._hear(rank, ticket, kind, blob)
                    self._feed()
        except (OSError, EOFError) as error:
            why = f"was lost ({error})"
        with self.lock:
            self.ranks.remove(rank)
            rank.close()
            now_ns = time.monotonic_ns()
            for source, work in list(rank.held.values()):
                if source is not None:
                    source.done(work, Lost(f"{rank.name} {why}", False), now_ns)
            rank.held.clear()
            self._feed()

    def _hear(self, rank: Rank, ticket: int, kind: str, blob: bytes) -> None:
        source, work = rank.held.pop(ticket, (None, None))
        if source is None or work is None:
            return
        try:
            outcome = _OUTCOMES[kind](*pickle.loads(blob))
        except Exception as error:  # a result that only the rank understands
            outcome = Raised(error, "", 0, "", "reading the result", work.kernel.name)
        if isinstance(outcome, Raised):
            outcome.kernel = outcome.kernel or work.kernel.name
            outcome.where += f" of {rank.name}"
        source.done(work, outcome, time.monotonic_ns())

    def _feed(self) -> None:
        if self.feeding or self.asking or self.closing:
            return  # a source that wakes the pool while it is asked
        super()._feed()
        self.asking = True
        try:
            while self.sources:
                rank = min((one for one in self.ranks if one.room()), key=Rank.load, default=None)
                if rank is None or not self._offer(rank):
                    return
        finally:
            self.asking = False

    def _offer(self, rank: Rank) -> bool:
        now_ns = time.monotonic_ns()
        for _ in range(len(self.sources)):
            source = self.sources[0]
            self.sources.rotate(-1)
            work = source.next(now_ns, len(rank.held) < rank.slots)
            if work is not None:
                self._hand(rank, source, work, now_ns)
                return True
            if not self.sources:
                break
        return False

    def _hand(self, rank: Rank, source: Source, work: Work, now_ns: int) -> None:
        ticket = self.next_ticket
        self.next_ticket = (ticket + 1) & 0x7FFFFFFF
        try:
            values = work.values
            if work.how == "each":
                columns, shared = values
                values = (columns, [(at, self._told(rank, one)) for at, one in shared])
            each = 0 if work.each is None else self._told(rank, work.each)
            test = 0 if work.test is None else self._told(rank, work.test)
            kernel = self._told(rank, work.kernel)
            rank.post("work", ticket, (work.how, kernel, values, each, test, work.calls, work.cost_ns))
        except Exception as error:  # what cannot be carried fails its call, as with a worker of our own
            error.add_note(f"while the call was packed for {rank.name}: kernel {work.kernel.name}")
            source.done(work, Raised(error, "", 0, "", "packing the call", work.kernel.name), now_ns)
            return
        work.ticket = ticket
        rank.held[ticket] = (source, work)

    def _told(self, rank: Rank, thing: Kernel | Shared) -> int:
        """The number of a kernel or shared value, which the rank has been told when this returns."""
        entry = self.numbers.get(id(thing)) or self._enter(thing)
        number = entry[1]
        if number not in rank.knows:
            if isinstance(thing, Shared):
                rank.post("shared", number, thing.value)
            else:
                rank.post("kernel", number, thing)
            rank.knows.add(number)
        return number

    def _sweep(self) -> None:
        for number in self.forgotten:
            for rank in self.ranks:
                if number in rank.knows:
                    rank.knows.discard(number)
                    rank.post("forget", number)
        super()._sweep()

    def detach(self, source: Source) -> None:
        super().detach(source)
        with self.lock:
            for rank in self.ranks:
                for ticket, (owner, work) in rank.held.items():
                    if owner is source:
                        self._let_go(rank, ticket, work)

    def drop(self, work: Work) -> None:
        super().drop(work)
        with self.lock:
            for rank in self.ranks:
                if work.ticket in rank.held and rank.held[work.ticket][1] is work:
                    self._let_go(rank, work.ticket, work)

    def _let_go(self, rank: Rank, ticket: int, work: Work) -> None:
        rank.held[ticket] = (None, work)
        rank.post("drop", ticket)

    def close(self) -> None:
        super().close()
        if self.door is not None:
            self.door.close()
        for rank in list(self.ranks):
            rank.close()


_OUTCOMES: dict[str, Callable[..., Outcome]] = {"given": Given, "raised": Raised, "lost": Lost}


def _listener(address: str, port: int) -> socket.socket | None:
    """A socket that listens there; on every address, where this machine is reached by one that it has not itself."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for where in (address, ""):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((where, port))
            sock.listen()
            return sock
        except OSError as error:
            sock.close()
            if error.errno != errno.EADDRNOTAVAIL:
                break
    return None

"""The pool of rank 0: its own workers, and those of the other ranks that dial in.

A rank that is lost loses only its batches; they are run elsewhere. Never: waits for a rank, or starts one.
"""

from __future__ import annotations

import errno
import socket
import sys
import threading
import time

from mycelium.pools.gang.door import Door
from mycelium.pools.gang.line import POOL, Line
from mycelium.pools.gang.rank import Rank
from mycelium.pools.local.processes import Processes
from mycelium.pools.pool import CrewedPool

LISTEN_S = 10.0


class GangPool(CrewedPool):
    """`workers` of this machine, and those of the other ranks, which come and go."""

    def __init__(self, workers: int) -> None:
        super().__init__()
        self.others = Ranks(self)
        self.crews = (Processes(self, workers), self.others)


class Ranks:
    """The other ranks as a crew: whoever dials in and knows the secret. Each has a thread that hears it."""

    start_s = 0.0  # nobody waits for them

    def __init__(self, pool: CrewedPool) -> None:
        self.pool = pool
        self.door: Door | None = None

    @property
    def slots(self) -> int:
        return sum([rank.slots for rank in self.seats()])

    def seats(self) -> list[Rank]:
        return [seat for seat in self.pool.feeder.seats if isinstance(seat, Rank)]

    def begin(self) -> None:
        """They come by themselves."""

    def missing(self) -> str:
        return ""

    def tend(self) -> None:
        """One that is lost is heard of by its line."""

    def close(self) -> None:
        if self.door is not None:
            self.door.close()
        for rank in self.seats():
            rank.close()
            self.pool.feeder.lose(rank, "was ended with its pool")

    def listen(self, address: str, port: int, secret: str) -> None:
        """Let the other ranks in from now on. Without the port, rank 0 works alone and says so."""
        threading.Thread(target=self._let_in, args=(address, port, secret), name="gang", daemon=True).start()

    def _let_in(self, address: str, port: int, secret: str) -> None:
        until = time.monotonic() + LISTEN_S
        while (listener := _listener(address, port)) is None and time.monotonic() < until and not self.pool.closing:
            time.sleep(0.1)
        if listener is None:
            sys.stderr.write(f"cannot listen on port {port}: rank 0 works alone\n")
            return
        with self.pool.lock:
            if self.pool.closing:
                listener.close()
                return
            self.door = Door(listener, secret, POOL, self._meet)

    def _meet(self, line: Line) -> None:
        try:
            name, slots = line.receive()
        except (OSError, EOFError):
            line.close()
            return
        self._serve(Rank(line, name, slots))

    def _serve(self, rank: Rank) -> None:
        feeder = self.pool.feeder
        with feeder.lock:
            if feeder.closed:
                rank.close()
                return
            feeder.join(rank)
            feeder.feed()
        why = "was lost"
        try:
            while True:
                ticket, kind, blob = rank.line.receive()
                with feeder.lock:
                    feeder.answer(rank, ticket, rank.heard(kind, blob))
                    feeder.feed()
        except (OSError, EOFError) as error:
            why = f"was lost ({error})"
        with feeder.lock:
            rank.close()
            feeder.lose(rank, f"{rank.name} {why}")
            feeder.feed()


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

"""Another rank of the gang as a seat of rank 0: over its line go batches for the workers that it keeps.

Never: waits for the line. One thread writes what is to be sent; whoever reads the line calls `hear`.
"""

from __future__ import annotations

import pickle
import queue
import threading
from collections.abc import Callable
from typing import Any

from mycelium.polymer.kernel import Kernel
from mycelium.polymer.runtime.pool import BatchDone, Outcome, Raised, Shared, Work, WorkerLost
from mycelium.polymer.shipping import dumps
from mycelium.pools.gang.line import Line
from mycelium.pools.seat import Parcel, Seat

AHEAD = 2  # batches that a rank holds for each of its workers: one runs, one is there when it ends
_OUTCOMES: dict[str, Callable[..., Outcome]] = {"given": BatchDone, "raised": Raised, "lost": WorkerLost}


class Rank(Seat):
    def __init__(self, line: Line, name: str, slots: int) -> None:
        super().__init__(slots, AHEAD * slots)
        self.line, self.name = line, name
        self.ready = True
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=self._write, name=f"to {name}", daemon=True).start()

    def send(self, ticket: int, work: Work, parcel: Parcel) -> None:
        self._post("work", ticket, (*parcel, work.calls, work.cost_ns))

    def teach(self, number: int, thing: Kernel | Shared) -> None:
        if isinstance(thing, Shared):
            self._post("shared", number, thing.value)
        else:
            self._post("kernel", number, thing)

    def forget(self, number: int) -> None:
        self._post("forget", number)

    def let_go(self, ticket: int) -> None:
        """The rank answers when its place is free."""
        self._post("drop", ticket)

    def heard(self, kind: str, blob: bytes) -> Outcome:
        """What has become of a batch, as the rank says it."""
        try:
            outcome = _OUTCOMES[kind](*pickle.loads(blob))
        except Exception as error:  # a result that only the rank understands
            outcome = Raised(error, "", 0, "", "reading the result", "")
        if isinstance(outcome, Raised):
            outcome.where += f" of {self.name}"
        return outcome

    def close(self) -> None:
        self._outbox.put(None)
        self.line.close()

    def _post(self, kind: str, number: int, value: Any = None) -> None:
        self._outbox.put(dumps((kind, number, dumps(value))))

    def _write(self) -> None:
        while (body := self._outbox.get()) is not None:
            try:
                self.line.send_bytes(body)
            except OSError:  # the thread that reads hears of it by itself
                return

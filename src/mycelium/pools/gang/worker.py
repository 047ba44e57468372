"""The other ranks of a gang: they dial rank 0, and run what it sends on their own local pool.

They have no end of their own: the site stops them when rank 0 has ended.
"""

from __future__ import annotations

import pickle
import queue
import threading
import time
from collections import deque
from typing import Any, NoReturn

from mycelium.base.errors import Problem
from mycelium.polymer.runtime.pool import BatchDone, Outcome, Raised, Shared, Work, WorkerLost
from mycelium.polymer.shipping import dumps
from mycelium.pools.gang.line import POOL, Line, dial
from mycelium.pools.local.pool import LocalPool

DIAL_S = 0.1
DIAL_S_MAX = 2.0


def work_for(address: str, port: int, secret: str, name: str, pool: LocalPool) -> NoReturn:
    """Work until the process is ended. Rank 0 may be slow to begin, and may be gone for good: both look alike.

    Errors: `Unavailable` when the local pool broke.
    """
    pause_s = DIAL_S
    while True:
        try:
            line = dial(address, port, secret, POOL)
        except (Problem, OSError):
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, DIAL_S_MAX)
            continue
        pause_s = DIAL_S
        _serve(line, name, pool)


def _serve(line: Line, name: str, pool: LocalPool) -> None:
    """Everything that comes on this line, until it breaks."""
    relay = RankZeroSource(line, pool)
    pool.attach(relay)
    try:
        line.send((name, pool.slots))
        relay.read()
    except (OSError, EOFError):
        pass  # rank 0 is gone, or cannot be reached any more: the caller dials again
    finally:
        pool.detach(relay)
        relay.close()


class RankZeroSource:
    """A source of work for the local pool: what rank 0 sends. Its answers go back as they come."""

    def __init__(self, line: Line, pool: LocalPool) -> None:
        self.line, self.pool = line, pool
        self.known: dict[int, Any] = {}  # kernels and shared values, by the number that rank 0 gave them
        self.waiting: deque[Work] = deque()
        self.tickets: dict[int, tuple[int, Work]] = {}  # id of a batch: rank 0's ticket for it
        self.outbox: queue.SimpleQueue[tuple[int, Outcome] | None] = queue.SimpleQueue()
        threading.Thread(target=self._write, daemon=True, name="to rank 0").start()

    def close(self) -> None:
        self.outbox.put(None)
        self.line.close()

    def read(self) -> None:
        """Errors: `OSError` and `EOFError` when rank 0 is gone."""
        while True:
            kind, number, blob = self.line.receive()
            match kind:
                case "kernel" | "shared":
                    value = pickle.loads(blob)
                    self.known[number] = Shared(value) if kind == "shared" else value
                case "forget":
                    self.known.pop(number, None)
                case "drop":
                    self._drop(number)
                case _:
                    self._take(number, blob)

    def _take(self, ticket: int, blob: bytes) -> None:
        try:
            how, kernel, values, each, test, calls, cost_ns = pickle.loads(blob)
            if how == "each":
                columns, shared = values
                values = (columns, [(at, self.known[one]) for at, one in shared])
            work = Work(
                how,
                self.known[kernel],
                values,
                calls=calls,
                cost_ns=cost_ns,
                each=self.known[each] if each else None,
                test=self.known[test] if test else None,
            )
        except Exception as error:  # values that only the other side understands fail their call, and nothing else
            self.outbox.put((ticket, Raised(error, "", 0, "", "reading the call", "")))
            return
        with self.pool.lock:
            self.tickets[id(work)] = (ticket, work)
            self.waiting.append(work)
            self.pool.wake()

    def _drop(self, ticket: int) -> None:
        """Nobody waits for this batch any more; rank 0 is told when its place is free."""
        with self.pool.lock:
            for key, (known, work) in self.tickets.items():
                if known == ticket:
                    del self.tickets[key]
                    if work in self.waiting:
                        self.waiting.remove(work)
                    self.pool.drop(work)
                    break
        self.outbox.put((ticket, WorkerLost("was dropped", False)))

    def next(self, now_ns: int, idle: bool) -> Work | None:
        return self.waiting.popleft() if self.waiting else None

    def done(self, work: Work, outcome: Outcome, now_ns: int) -> None:
        ticket, _ = self.tickets.pop(id(work), (0, None))
        if ticket:
            self.outbox.put((ticket, outcome))

    def pool_closed(self, error: BaseException) -> None:
        self.line.close()

    def _write(self) -> None:
        while (reply := self.outbox.get()) is not None:
            ticket, outcome = reply
            try:
                body = dumps((ticket, *_packed(outcome)))
            except Exception as error:  # a result that cannot be carried
                body = dumps((ticket, *_packed(Raised(error, "", 0, "", "packing the result", ""))))
            try:
                self.line.send_bytes(body)
            except OSError:  # the thread that reads hears of it by itself
                return


def _packed(outcome: Outcome) -> tuple[str, bytes]:
    match outcome:
        case BatchDone():
            return "given", dumps((outcome.value, outcome.spent_ns, outcome.chosen))
        case WorkerLost():
            return "lost", dumps((outcome.why, outcome.begun))
        case Raised():
            about = (outcome.trace, outcome.index, outcome.input_hash, outcome.where, outcome.kernel)
            return "raised", dumps((_carried(outcome.error), *about))


def _carried(error: BaseException) -> BaseException:
    """The error as it can travel: one that cannot is told as text."""
    try:
        pickle.loads(dumps(error.with_traceback(None)))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error

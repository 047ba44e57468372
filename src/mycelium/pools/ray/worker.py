"""One slot of a pool on Ray: an actor that runs batches of calls, one after the other, as a local worker does.

Never: talks to anybody but the driver that made it, or keeps anything that the next worker would miss.
"""

from __future__ import annotations

import mmap
import os
import pickle
import platform
import sys
import time
from typing import Any

import numpy

from mycelium.base.errors import Exhausted
from mycelium.polymer.here import IN_WORKER
from mycelium.polymer.shipping import dumps
from mycelium.pools.local import worker as local

LARGE_BYTES_MIN = 64 * 1024  # smaller arrays travel inside the body: one more buffer costs more than copying them

Sent = tuple[int, int, int, bytes, list[Any]]  # kind, first ticket, tickets, body, buffers
Given = tuple[int, int, bytes, list[Any]]  # first ticket, tickets, body, buffers


class PoolWorker:
    """`take` may be asked for more while it runs: Ray calls it in order, one at a time."""

    def __init__(self) -> None:
        self._inner = _Inner()

    def begin(self, path: list[str]) -> int:
        """Look for modules where the caller looks for them, too. Answers with the pid."""
        sys.path += [entry for entry in path if entry not in sys.path]
        os.environ[IN_WORKER] = "1"
        return os.getpid()

    def take(self, batch: list[Sent], *lent: Any) -> list[Given]:
        """A buffer is bytes, or (which of `lent`, where in it)."""
        return self._inner.answers([_Message(*sent, lent) for sent in batch])


class _Message:
    """What the driver has passed on, as a local worker reads it."""

    def __init__(
        self, kind: int, first: int, count: int, body: bytes, buffers: list[Any], lent: tuple[Any, ...]
    ) -> None:
        self.kind, self.first, self.count, self.body, self.buffers, self.lent = kind, first, count, body, buffers, lent

    def load(self) -> Any:
        return pickle.loads(self.body, buffers=[_found(buffer, self.lent) for buffer in self.buffers])


def _found(buffer: Any, lent: tuple[Any, ...]) -> Any:
    """The bytes themselves: an object that was put, or a buffer of what another worker gave."""
    if isinstance(buffer, bytes):
        return buffer
    which, where = buffer
    value = lent[which]
    return memoryview(value if where is None else value[where[0]][3][where[1]])


class _Inner(local.Worker):
    """A local worker without a socket: it reads what it is given, and keeps its answers."""

    def __init__(self) -> None:
        super().__init__(None, bytearray(mmap.PAGESIZE))  # type: ignore[arg-type]
        self.where = f"worker {os.getpid()} on {platform.node()}"
        self.given: list[Given] = []

    def answers(self, messages: list[_Message]) -> list[Given]:
        self.inbox = _Inbox(messages)  # type: ignore[assignment]
        self.serve()
        given, self.given = self.given, []
        return given

    def _send(self, kind: int, value: Any) -> None:
        """That it is ready has been said."""

    def _reply(self) -> None:
        replies, self.replies = self.replies, []
        self.sent_ns = time.monotonic_ns()
        for _, told in replies:
            if isinstance(told, local.Told):
                told.where = self.where
        try:
            packed = pickled(replies)
        except Exception:  # one result cannot be carried: find it, and answer for it with the error
            packed = pickled([(ticket, local.carried(told)) for ticket, told in replies])
        self.given.append((replies[0][0], len(replies), *packed))


class _Inbox:
    def __init__(self, messages: list[_Message]) -> None:
        self.messages = iter(messages)

    def read(self) -> Any:
        return next(self.messages, None)


def failing(why: str) -> bytes:
    """A body that cannot be read, and says why: what is sent instead of a value that cannot be carried."""
    return pickle.dumps(_Failing(why))


class _Failing:
    def __init__(self, why: str) -> None:
        self.why = why

    def __reduce__(self) -> Any:
        return _fail, (self.why,)


def _fail(why: str) -> None:
    raise Exhausted(f"Ray could not take a value: {why}")


def pickled(value: Any) -> tuple[bytes, list[Any]]:
    """The body, and large buffers as arrays, which Ray neither copies nor pickles."""
    large: list[Any] = []

    def out_of_band(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if len(view) < LARGE_BYTES_MIN:
            return True
        large.append(numpy.frombuffer(view, numpy.uint8))
        return False

    return dumps(value, out_of_band), large

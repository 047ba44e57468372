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

from mycelium.engine.local.pool import wire
from mycelium.engine.local.pool import worker as local
from mycelium.polymer.here import IN_WORKER
from mycelium.polymer.shipping import dumps

LARGE_BYTES_MIN = 64 * 1024  # smaller arrays travel inside the body: one more buffer costs more than copying them

Sent = tuple[int, int, int, bytes, list[Any]]  # kind, first ticket, tickets, body, buffers
Given = tuple[int, int, bytes, list[Any]]  # first ticket, tickets, body, buffers


class PoolWorker:
    """`take` may be asked for more while it runs: Ray calls it in order, one at a time."""

    def __init__(self) -> None:
        self._inner = _Silent()

    def begin(self, path: list[str]) -> int:
        """Look for modules where the caller looks for them, too. Answers with the pid."""
        sys.path += [entry for entry in path if entry not in sys.path]
        os.environ[IN_WORKER] = "1"
        return os.getpid()

    def take(self, batch: list[Sent], *lent: Any) -> list[Given]:
        """A buffer is bytes, or (which of `lent`, where in it)."""
        for kind, first, count, body, buffers in batch:
            self._inner.hear(_Packet(kind, first, count, body, [_found(buffer, lent) for buffer in buffers]))
        return self._inner.said()


def _found(buffer: Any, lent: tuple[Any, ...]) -> Any:
    """The bytes themselves: an object that was put, or a buffer of what another worker gave."""
    if isinstance(buffer, bytes):
        return buffer
    which, where = buffer
    value = lent[which]
    return memoryview(value if where is None else value[where[0]][3][where[1]])


class _Packet:
    """What the driver has passed on, as a local worker reads it."""

    def __init__(self, kind: int, first: int, count: int, body: bytes, buffers: list[Any]) -> None:
        self.kind, self.first, self.count, self.body, self.buffers = kind, first, count, body, buffers

    def load(self) -> Any:
        return pickle.loads(self.body, buffers=self.buffers)


class _Silent(local._Worker):
    """A local worker without a socket: it is told what to do and keeps its answers."""

    def __init__(self) -> None:
        super().__init__(None, bytearray(mmap.PAGESIZE))  # type: ignore[arg-type]
        self.given: list[Given] = []
        self.where = f"worker {os.getpid()} on {platform.node()}"

    def hear(self, message: Any) -> None:
        match message.kind:
            case wire.WORK:
                self.given.append(self._answers(message))
            case wire.KERNEL:
                self.kernels[message.first] = self._load(message)
            case wire.SHARED:
                self.shared[message.first] = self._load(message)
            case _:
                for number in message.load():
                    self.kernels.pop(number, None)
                    self.callables.pop(number, None)
                    self.shared.pop(number, None)

    def said(self) -> list[Given]:
        given, self.given = self.given, []
        return given

    def _answers(self, message: Any) -> Given:
        try:
            batch = message.load()
        except Exception as error:
            told = self._told(local._Unreadable(error, local._trace(error)), 0)
            return self._packed(message.first, [told] * message.count)
        return self._packed(message.first, [self._one(*call) for call in batch])

    def _one(self, how: str, kernel: int, values: Any, each: int, test: int) -> Any:
        begun_ns = time.perf_counter_ns()
        try:
            value = self._run(how, kernel, values, each, test)
            return value, time.perf_counter_ns() - begun_ns
        except BaseException as error:
            return self._told(error, kernel)

    def _told(self, error: BaseException, kernel: int) -> local.Told:
        held = self.kernels.get(kernel)
        told = local._told(error, held[0] if isinstance(held, tuple) else "")
        told.where = self.where
        return told

    def _packed(self, first: int, answers: list[Any]) -> Given:
        replies = list(enumerate(answers, first))
        try:
            return first, len(replies), *pickled(replies)
        except Exception:  # one result cannot be carried: find it, and answer for it with the error
            return first, len(replies), *pickled([(ticket, local._carried(one)) for ticket, one in replies])


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

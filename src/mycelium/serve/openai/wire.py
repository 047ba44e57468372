"""One end of a connection as bytes that have come: waited for by a mark or a number, bounded, without a copy more.

A stream reader of asyncio would wake its task, and copy, for the head and for the body apart; most answers come whole.
Never: knows what the bytes mean.
"""

from __future__ import annotations

import asyncio
from typing import cast

from mycelium.serve.openai.unix import Pair

HELD_BYTES_MAX = 256 * 1024  # that wait here to be taken; then the other side is made to wait
PIECE_BYTES = 64 * 1024


class Ended(Exception):
    """The other side has said its last, or more than was allowed."""


class Wire(asyncio.Protocol):
    """Takes over a connection from the streams that opened it."""

    def __init__(self, pair: Pair) -> None:
        self.held = bytearray()
        self.ended = pair[0].at_eof()
        self._pair = pair  # a writer that is forgotten closes its connection
        self._transport = cast("asyncio.Transport", pair[1].transport)
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._error: OSError | None = None
        self._transport.set_protocol(self)
        self._transport.resume_reading()

    @property
    def open(self) -> bool:
        """Whether another request may go out here. Bytes that nobody asked for make it unfit."""
        return not (self.ended or self.held or self._transport.is_closing())

    def write(self, data: bytes) -> None:
        """It is in memory already, so nothing is won by waiting until it is out."""
        self._transport.write(data)

    def cut(self) -> None:
        """At once, whatever was still to be sent."""
        self._transport.abort()

    async def until(self, mark: bytes, bytes_max: int) -> bytes:
        """Up to and with `mark`. Errors: `Ended`, `OSError`."""
        seen = 0
        while (at := self.held.find(mark, max(0, seen - len(mark)))) < 0:
            seen = len(self.held)
            if seen > bytes_max:
                raise Ended
            await self.more()
        return self.take(at + len(mark))

    async def exactly(self, count: int) -> bytes:
        """Errors: `Ended`, `OSError`."""
        if count <= HELD_BYTES_MAX:
            while len(self.held) < count:
                await self.more()
            return self.take(count)
        whole = bytearray()
        while len(whole) < count:
            whole += await self.some(count - len(whole))
        return bytes(whole)

    async def some(self, most: int = PIECE_BYTES) -> bytes:
        """What has come, at least a byte. Errors: `Ended`, `OSError`."""
        while not self.held:
            await self.more()
        return self.take(min(most, len(self.held)))

    def take(self, count: int) -> bytes:
        taken = bytes(self.held[:count])
        del self.held[:count]
        if self._paused and len(self.held) < HELD_BYTES_MAX:
            self._paused = False
            self._transport.resume_reading()
        return taken

    async def more(self) -> None:
        """Until something has come. Errors: `Ended`, `OSError`."""
        if self.ended:
            raise self._error or Ended()
        if self._paused:  # somebody waits for more than may be held
            self._paused = False
            self._transport.resume_reading()
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    # What asyncio tells.

    def data_received(self, data: bytes) -> None:
        self.held += data
        if self._waiter is not None:
            if not self._waiter.done():
                self._waiter.set_result(None)
        elif len(self.held) >= HELD_BYTES_MAX and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)

    def _end(self, error: Exception | None) -> None:
        if not self.ended and isinstance(error, OSError):
            self._error = error
        self.ended = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(self._error or Ended())

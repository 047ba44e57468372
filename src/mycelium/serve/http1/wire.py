"""One connection as the bytes that have come: waited for by a mark or a number, bounded, and not copied more than once.

The client and the server of the gateway both stand on it. The streams of asyncio would wake a task for the head and for
the body apart; most requests and answers come whole.
Never: knows what the bytes mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import cast

from mycelium.engine.unix import Pair

HELD_BYTES_MAX = 256 * 1024  # that wait here to be taken; then the other side is made to wait
PIECE_BYTES = 64 * 1024
LINE_BYTES_MAX = 1024  # that says how long a chunk is
TRAILER_BYTES_MAX = 16 * 1024
HEX = frozenset(b"0123456789abcdefABCDEF")


class ConnectionEnded(Exception):
    """The other side has said its last, or more than was allowed."""


class Wire(asyncio.Protocol):
    """`met` and `lost` are told when the connection stands, and when nothing can come or go any more."""

    def __init__(self, met: Callable[[Wire], None] | None = None) -> None:
        self.held = bytearray()
        self.ended = False
        self.lost: Callable[[], None] | None = None
        self._met = met
        self._opener: Pair | None = None  # a writer of asyncio's that is forgotten closes its connection
        self._waiter: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._paused = False
        self._error: OSError | None = None

    @classmethod
    def of(cls, pair: Pair) -> Wire:
        """Take a connection over from the streams that opened it."""
        wire = cls()
        wire._opener = pair
        transport = cast("asyncio.Transport", pair[1].transport)
        transport.set_protocol(wire)
        wire.connection_made(transport)
        wire.ended = pair[0].at_eof()
        transport.resume_reading()
        return wire

    @property
    def open(self) -> bool:
        """Whether another request may go out here. Bytes that nobody asked for make it unfit."""
        return not (self.gone or self.held)

    @property
    def gone(self) -> bool:
        """Nothing more reaches the other side. A write that fails makes it so, and `ended` only in a later turn."""
        return self.ended or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    @property
    def full(self) -> bool:
        """Whether the other side takes less than is written."""
        return self._room is not None

    async def drain(self) -> None:
        """Until the other side has taken most of what was written, or is gone."""
        if self._room is not None:
            await asyncio.shield(self._room)

    def end(self) -> None:
        """Say that nothing more comes from here, and go on listening."""
        if not self._transport.is_closing() and self._transport.can_write_eof():
            self._transport.write_eof()

    def close(self) -> None:
        """When everything is out."""
        self._transport.close()

    def cut(self) -> None:
        """At once, whatever was still to be sent."""
        self._transport.abort()

    async def until(self, mark: bytes, bytes_max: int) -> bytes:
        """Up to and with `mark`. Errors: `ConnectionEnded`, `OSError`."""
        seen = 0
        while (at := self.held.find(mark, max(0, seen - len(mark)))) < 0:
            seen = len(self.held)
            if seen > bytes_max:
                raise ConnectionEnded
            await self._more()
        return self.take(at + len(mark))

    async def exactly(self, count: int) -> bytes:
        """Errors: `ConnectionEnded`, `OSError`."""
        if count <= HELD_BYTES_MAX:
            while len(self.held) < count:
                await self._more()
            return self.take(count)
        whole = bytearray()
        while len(whole) < count:
            whole += await self.some(count - len(whole))
        return bytes(whole)

    async def some(self, most: int = PIECE_BYTES) -> bytes:
        """What has come, at least a byte. Errors: `ConnectionEnded`, `OSError`."""
        while not self.held:
            await self._more()
        return self.take(min(most, len(self.held)))

    def take(self, count: int) -> bytes:
        taken = bytes(self.held[:count])
        del self.held[:count]
        if self._paused and len(self.held) < HELD_BYTES_MAX:
            self._resume()
        return taken

    async def _more(self) -> None:
        if self.ended:
            raise self._error or ConnectionEnded()
        if self._paused:  # somebody waits for more than is held otherwise
            self._resume()
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _resume(self) -> None:
        self._paused = False
        if not self._transport.is_closing():
            self._transport.resume_reading()

    # What asyncio tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._met is not None:
            self._met(self)

    def data_received(self, data: bytes) -> None:
        self.held += data
        if self._waiter is not None:
            if not self._waiter.done():
                self._waiter.set_result(None)
        elif len(self.held) >= HELD_BYTES_MAX and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        self._room = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._room is not None:
            self._room.set_result(None)
            self._room = None

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)
        self.resume_writing()

    def _end(self, error: Exception | None) -> None:
        if self.ended:
            return
        self.ended = True
        self._error = error if isinstance(error, OSError) else None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(self._error or ConnectionEnded())
        if self.lost is not None:
            self.lost()


async def chunks(wire: Wire) -> AsyncIterator[bytes]:
    """A body in chunks, as HTTP/1.1 has them. Errors: `ConnectionEnded`, `OSError`, `ValueError`.

    Source: RFC 9112, section 7.1.
    """
    while True:
        left = chunk_size(await wire.until(b"\r\n", LINE_BYTES_MAX))
        if left == 0:
            while await wire.until(b"\r\n", TRAILER_BYTES_MAX) != b"\r\n":
                pass
            return
        while left > 0:
            piece = await wire.some(min(left, PIECE_BYTES))
            left -= len(piece)
            yield piece
        if await wire.exactly(2) != b"\r\n":
            raise ValueError("a chunk is longer than it said")


def chunk_size(line: bytes) -> int:
    """Two readers that differ about a size differ about where the next request begins: so it is read strictly."""
    digits = line[:-2].split(b";", 1)[0].rstrip(b" \t")
    if not 1 <= len(digits) <= 15 or not HEX.issuperset(digits):
        raise ValueError("not the size of a chunk")
    return int(digits, 16)

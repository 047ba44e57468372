"""Frames on a stream of bytes: four bytes that say how many follow, the most significant first, and then those.

A stream of asyncio that ends has ended, within a frame or not. At a socket that blocks somebody waits for an answer:
there an end is an error. A hostile length costs the connection and nothing else.
Never: takes memory for a frame before its length is known to be within the bound, or looks at what is in one.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from mycelium.base.errors import Exhausted, Refused
from mycelium.base.limits import FRAME_BYTES_MAX
from mycelium.base.units import format_size

if TYPE_CHECKING:  # whoever blocks need not import asyncio, nor the other way round
    import asyncio
    import socket

_LENGTH = struct.Struct("!I")


def pack(body: bytes, bytes_max: int = FRAME_BYTES_MAX) -> bytes:
    """Errors: `Exhausted` for more than the other end would read."""
    if len(body) > bytes_max:
        raise Exhausted(f"message has {format_size(len(body))}; a frame holds {format_size(bytes_max)}")
    return _LENGTH.pack(len(body)) + body


async def read(reader: asyncio.StreamReader, bytes_max: int = FRAME_BYTES_MAX) -> bytes | None:
    """The next one; None when the other end has closed, at whatever point. Errors: `Refused` beyond the bound."""
    try:
        return await reader.readexactly(_size(await reader.readexactly(_LENGTH.size), bytes_max))
    except (EOFError, ConnectionError):  # asyncio's `IncompleteReadError` is an `EOFError`
        return None


def receive(of: socket.socket, bytes_max: int = FRAME_BYTES_MAX) -> bytearray:
    """The next one. Errors: `ConnectionError` when the other end closes before; `Refused` beyond the bound."""
    return exactly(of, _size(exactly(of, _LENGTH.size), bytes_max))


def exactly(of: socket.socket, size_bytes: int) -> bytearray:
    """So many bytes. Errors: `ConnectionError` when the other end closes before."""
    data = bytearray(size_bytes)
    view, got = memoryview(data), 0
    while got < size_bytes:
        more = of.recv_into(view[got:])
        if not more:
            raise ConnectionResetError(f"closed after {got} of {size_bytes} bytes")
        got += more
    return data


def _size(head: bytes | bytearray, bytes_max: int) -> int:
    (size_bytes,) = _LENGTH.unpack(head)
    if size_bytes > bytes_max:
        raise Refused(f"frame of {format_size(size_bytes)}; at most {format_size(bytes_max)} are read")
    return size_bytes

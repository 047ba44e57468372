"""Messages between head and agent on a byte stream: a four-byte length, then MessagePack.

A hostile length or body costs the connection and nothing else.
"""

from __future__ import annotations

import asyncio
import struct
from typing import TypeVar

import msgspec

from mycelium.base.errors import Exhausted, Refused
from mycelium.base.limits import FRAME_BYTES_MAX
from mycelium.base.units import format_size
from mycelium.engine.orders import Order, Report

T = TypeVar("T")
LENGTH = struct.Struct("!I")

_encoder = msgspec.msgpack.Encoder()
_orders = msgspec.msgpack.Decoder(Order)
_reports = msgspec.msgpack.Decoder(Report)


def pack(message: Order | Report) -> bytes:
    body = _encoder.encode(message)
    if len(body) > FRAME_BYTES_MAX:
        raise Exhausted(f"message has {format_size(len(body))}; a frame holds {format_size(FRAME_BYTES_MAX)}")
    return LENGTH.pack(len(body)) + body


def unpack_order(body: bytes) -> Order:
    return _unpack(_orders, body)


def unpack_report(body: bytes) -> Report:
    return _unpack(_reports, body)


def _unpack(decoder: msgspec.msgpack.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(f"message cannot be read: {error}") from error


async def read_frame(reader: asyncio.StreamReader) -> bytes | None:
    """The next message's body; None when the other end has closed, at whatever point."""
    try:
        (size_bytes,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
        if size_bytes > FRAME_BYTES_MAX:
            raise Refused(f"frame of {format_size(size_bytes)}; at most {format_size(FRAME_BYTES_MAX)} are read")
        return await reader.readexactly(size_bytes)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None

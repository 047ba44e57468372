"""Messages between head and agent: MessagePack, each in a frame (`base/framing`).

A hostile body costs the connection and nothing else.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from mycelium.base import framing
from mycelium.base.errors import Refused
from mycelium.engine.orders import Order, Report

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()
_orders = msgspec.msgpack.Decoder(Order)
_reports = msgspec.msgpack.Decoder(Report)


def pack(message: Order | Report) -> bytes:
    """The message in its frame. Errors: `Exhausted` when it is too large for one."""
    return framing.pack(_encoder.encode(message))


def unpack_order(body: bytes) -> Order:
    return _unpack(_orders, body)


def unpack_report(body: bytes) -> Report:
    return _unpack(_reports, body)


def _unpack(decoder: msgspec.msgpack.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(f"message cannot be read: {error}") from error

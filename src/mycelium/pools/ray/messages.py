"""What a pool and its driver of Ray tell each other, beside the calls, which travel as in `pools/local`.

MessagePack, one message a packet. `Open` comes with two descriptors: the seat's socket, and the memory where the driver
notes what the worker is at.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

# Pool to driver.


class JoinPool(Struct, frozen=True, tag="join"):
    """The first message. `nodes`: slots on each node, by Ray's name, our machine's name or address; none: all of Ray.

    `path` is where Python looks for modules here: workers look there too.
    """

    address: str
    nodes: dict[str, int]
    path: tuple[str, ...]


class Open(Struct, frozen=True, tag="open"):
    """A worker on this node of Ray, please. It ends when its socket is closed."""

    seat: int
    node: str


ToDriver = JoinPool | Open

# Driver to pool.


class Found(Struct, frozen=True, tag="found"):
    """Where workers may be now: Ray's name of a node and how many slots it has."""

    slots: dict[str, int]


class WorkerGone(Struct, frozen=True, tag="gone"):
    """Why a worker has ended: its socket is closed after this. Seat 0: why Ray cannot be used."""

    seat: int
    why: str


ToPool = Found | WorkerGone

_encoder = msgspec.msgpack.Encoder()
to_driver = msgspec.msgpack.Decoder(ToDriver)
to_pool = msgspec.msgpack.Decoder(ToPool)
pack = _encoder.encode

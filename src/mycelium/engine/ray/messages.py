"""What the engine and its bridge tell each other: MessagePack in frames, over a socket pair.

Orders and reports stay packed on their way: only the engine and the agents read them.
"""

from __future__ import annotations

import asyncio

import msgspec
from msgspec import Struct

from mycelium.base import framing
from mycelium.base.ids import NodeId
from mycelium.base.limits import BRIDGE_BYTES_MAX

# Engine to bridge.


class SiteMachines(Struct, frozen=True, tag="machines"):
    """The machines that belong to the site, by name, and the socket where each one's relay listens for its agents."""

    sockets: dict[str, str]


class Give(Struct, frozen=True, tag="give"):
    """An order for a node, in its frame."""

    machine: str
    node: NodeId
    body: bytes


class PartAgent(Struct, frozen=True, tag="part"):
    """Close an agent's connection."""

    machine: str
    node: NodeId


ToBridge = SiteMachines | Give | PartAgent

# Bridge to engine.


class Ready(Struct, frozen=True, tag="ready"):
    """Ray answers."""


class Up(Struct, frozen=True, tag="up"):
    """An agent is connected to the relay of this machine; `body` is its hello."""

    machine: str
    body: bytes


class Got(Struct, frozen=True, tag="got"):
    """A report."""

    machine: str
    node: NodeId
    body: bytes


class Down(Struct, frozen=True, tag="down"):
    """An agent's connection to its relay is gone."""

    machine: str
    node: NodeId
    why: str


class Silent(Struct, frozen=True, tag="silent"):
    """A machine does not answer pings: its agents may well live."""

    machine: str
    why: str


class MachineHeard(Struct, frozen=True, tag="heard"):
    """A silent machine answers again, and its relay and connections are the same as before."""

    machine: str


class MachineLost(Struct, frozen=True, tag="lost"):
    """The relay of a machine is gone, and all connections with it."""

    machine: str
    why: str


ToEngine = Ready | Up | Got | Down | Silent | MachineHeard | MachineLost

_encoder = msgspec.msgpack.Encoder()
to_bridge = msgspec.msgpack.Decoder(ToBridge)
to_engine = msgspec.msgpack.Decoder(ToEngine)


def pack(message: ToBridge | ToEngine) -> bytes:
    return framing.pack(_encoder.encode(message), BRIDGE_BYTES_MAX)


async def read(reader: asyncio.StreamReader) -> bytes | None:
    """The next message; None when the other end is gone."""
    return await framing.read(reader, BRIDGE_BYTES_MAX)

"""What every engine must offer. One conformance suite (tests/live/conformance) holds for all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

from msgspec import Struct

from mycelium.base.ids import NodeId
from mycelium.engine.orders import Hello, Order, Report


class NodeUp(Struct, frozen=True):
    """An agent is connected and has said hello."""

    hello: Hello


class NodeDown(Struct, frozen=True):
    """The connection to an agent is gone. Its steps may well go on: a reason for suspicion, not for eviction.

    `dead`: the engine knows that nothing of the node runs any more, its steps included.
    """

    node: NodeId
    why: str
    dead: bool = False


class Entrance(Protocol):
    """What an engine offers beside, when machines of their own can join it with `myc join`."""

    versions: dict[str, str]  # what must be equal on all its machines
    own_nodes: int  # how many nodes the head's own machine has: they have the first numbers

    def admit(self, node: NodeId, machine: str, address: str, socket: str) -> dict[str, Any]:
        """Count this machine in, again and again, and say what it must know to take part."""
        ...

    def dismiss(self, machine: str) -> None:
        """Count it out."""
        ...


class Engine(Protocol):
    """The machines below the head.

    Errors: `send` raises `Unavailable` when the node is not connected; nothing is queued for it, because the head
    repeats every order that a beat does not answer.
    """

    async def start(self) -> None: ...

    async def stop(self, *, stop_steps: bool, grace_ms: int) -> None: ...

    def watch(self) -> AsyncIterator[NodeUp | NodeDown | Report]: ...

    async def send(self, node: NodeId, order: Order) -> None: ...

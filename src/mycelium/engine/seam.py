"""What every engine must offer. One conformance suite (tests/live/conformance) holds for all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from msgspec import Struct

from mycelium.base.ids import NodeId
from mycelium.engine.orders import Hello, Order, Report


class NodeUp(Struct, frozen=True):
    """An agent is connected and has said hello."""

    hello: Hello


class NodeDown(Struct, frozen=True):
    """The connection to an agent is gone. Its steps may well go on: this is a reason for suspicion, not for eviction."""

    node: NodeId
    why: str


class Engine(Protocol):
    """The machines below the head.

    Errors: `send` raises `Unavailable` when the node is not connected; nothing is queued for it, because the head
    repeats every order that a beat does not answer.
    """

    async def start(self) -> None: ...

    async def stop(self, *, stop_steps: bool, grace_ms: int) -> None: ...

    def watch(self) -> AsyncIterator[NodeUp | NodeDown | Report]: ...

    async def send(self, node: NodeId, order: Order) -> None: ...

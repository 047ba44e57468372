"""Whether a node that is not heard is dead for certain: asked of the kernel of its machine.

An agent listens on a port that its steps keep open too. A connection that is taken says that something of the node
lives; one that is refused, again and again, that nothing does. No answer says nothing: a cable may be out.

Never: takes silence for death, nor the word of a port that has never answered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from mycelium.base.ids import NodeId
from mycelium.engine.orders import Hello

LOOK_S = 0.3
ANSWER_S = 1.0
REFUSED_S = 2.0  # for so long: an agent that is started again is back before
DOUBTED_S = 60.0  # by then the node has long been given up


class Doubts:
    """`dead` is told of a node of which nothing lives."""

    def __init__(self, dead: Callable[[NodeId], Awaitable[None]]) -> None:
        self._dead = dead
        self._places: dict[NodeId, tuple[str, int]] = {}  # of ports that have answered
        self._tasks: dict[NodeId, asyncio.Task[None]] = {}

    def trust(self, hello: Hello) -> None:
        """The node speaks."""
        self._drop(hello.node)
        if hello.life_port and self._places.get(hello.node) != (hello.address, hello.life_port):
            self._places.pop(hello.node, None)
            self._tasks[hello.node] = asyncio.create_task(self._learn(hello))

    def doubt(self, node: NodeId) -> None:
        """The node is not heard."""
        place = self._places.get(node)
        if place is not None and node not in self._tasks:
            self._tasks[node] = asyncio.create_task(self._look(node, *place))

    def forget(self, node: NodeId) -> None:
        self._drop(node)
        self._places.pop(node, None)

    async def stop(self) -> None:
        tasks = list(self._tasks.values())
        for node in list(self._tasks):
            self._drop(node)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _drop(self, node: NodeId) -> None:
        task = self._tasks.pop(node, None)
        if task is not None:
            task.cancel()

    async def _learn(self, hello: Hello) -> None:
        if await _answers(hello.address, hello.life_port):
            self._places[hello.node] = (hello.address, hello.life_port)
        self._tasks.pop(hello.node, None)

    async def _look(self, node: NodeId, address: str, port: int) -> None:
        begun = refused_since = time.monotonic()
        while (now := time.monotonic()) < begun + DOUBTED_S:
            if await _answers(address, port) is not False:
                refused_since = time.monotonic()
            elif now - refused_since >= REFUSED_S:
                await self._dead(node)
                break
            await asyncio.sleep(LOOK_S)
        self._tasks.pop(node, None)


async def _answers(address: str, port: int) -> bool | None:
    """False when the machine says that nobody is there; None when nobody says anything."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), ANSWER_S)
    except ConnectionRefusedError:
        return False
    except (OSError, TimeoutError):
        return None
    writer.close()
    return True

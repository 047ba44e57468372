"""Live logs: pieces of what steps write, from their agents to whoever follows them. Nothing is kept here."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator

from mycelium.base.errors import Unavailable
from mycelium.base.ids import NodeId, StepId
from mycelium.engine.orders import Chunk, Tail, Untail
from mycelium.engine.seam import Engine

CHUNKS_WAITING_MAX = 256  # 16 MiB a follower; one that reads slower than that is cut off and asks again
SILENCE_S = 5.0  # a tail that is quiet this long is looked at again: its agent may have been restarted


class Tails:
    """The open tails of this head."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._numbers = itertools.count(1)
        self._open: dict[int, asyncio.Queue[Chunk | None]] = {}

    def heard(self, chunk: Chunk) -> None:
        """A piece has come in. A follower that does not keep up is cut off; it can go on from its offset."""
        queue = self._open.get(chunk.tail)
        if queue is None:
            return
        try:
            queue.put_nowait(chunk)
        except asyncio.QueueFull:
            while not queue.empty():
                queue.get_nowait()
            queue.put_nowait(None)

    async def follow(self, node: NodeId, step: StepId, stream: str, offset: int, follow: bool) -> AsyncIterator[Chunk]:
        """Pieces from `offset` on; the last one has `end`. Ends without one when the agent falls silent."""
        number = next(self._numbers)
        queue: asyncio.Queue[Chunk | None] = asyncio.Queue(CHUNKS_WAITING_MAX)
        self._open[number] = queue
        try:
            await self._engine.send(node, Tail(number, step, stream, offset, follow))
            while True:
                async with asyncio.timeout(SILENCE_S):
                    chunk = await queue.get()
                if chunk is None:
                    return
                yield chunk
                if chunk.end:
                    return
        except (TimeoutError, Unavailable):
            return
        finally:
            del self._open[number]
            with contextlib.suppress(Unavailable):
                await self._engine.send(node, Untail(number))

"""The actor of one machine: it holds the agents' connections there and passes frames on, both ways.

It runs in a worker of Ray that is pinned to the machine. It keeps nothing that matters: when it dies, the agents wait
for the next one and say hello again.

Never: reads an order or a report beyond the hello that begins a connection.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from pathlib import Path

from mycelium.base import framing
from mycelium.base.errors import Problem
from mycelium.base.limits import FRAME_BYTES_MAX
from mycelium.engine import frames
from mycelium.engine.local import door
from mycelium.engine.orders import Hello

HELLO_WAIT_S = 5.0
HOLD_S = 0.5  # a question for news is answered after this long, news or not: the answer is the ping
TAKEN_BYTES_MAX = 1 << 20  # of one answer
WAITING_BYTES_MAX = 4 * FRAME_BYTES_MAX  # beyond it agents wait with theirs
UNSENT_BYTES_MAX = FRAME_BYTES_MAX  # towards an agent that does not read; the head repeats its orders

UP, GOT, DOWN = "up", "got", "down"
News = tuple[str, str, bytes]  # what happened, to which node, and the frame (or the reason, as text)


class RayRelay:
    """`socket`: where the agents of this machine knock."""

    def __init__(self, socket: str) -> None:
        self._socket = Path(socket)
        self._server: asyncio.Server | None = None
        self._agents: dict[str, asyncio.StreamWriter] = {}
        self._news: deque[News] = deque()
        self._waiting_bytes = 0
        self._there_is = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def open(self) -> int:
        """Listen. Answers with this worker's pid."""
        self._socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._server = await asyncio.start_unix_server(self._meet, sock=door.listen(self._socket))
        return os.getpid()

    async def take(self) -> list[News]:
        """What has happened since the last time, in order; waits a moment when nothing has."""
        if not self._news:
            self._there_is.clear()
            try:
                await asyncio.wait_for(self._there_is.wait(), HOLD_S)
            except TimeoutError:
                return []
        taken: list[News] = []
        size_bytes = 0
        while self._news and (not taken or size_bytes + len(self._news[0][2]) <= TAKEN_BYTES_MAX):
            taken.append(self._news.popleft())
            size_bytes += len(taken[-1][2])
        self._waiting_bytes -= size_bytes
        if self._waiting_bytes < WAITING_BYTES_MAX:
            self._room.set()
        return taken

    async def give(self, orders: list[tuple[str, bytes]]) -> None:
        """Pass orders on. One for a node that is away, or does not read, is dropped: the head will repeat it."""
        for node, body in orders:
            writer = self._agents.get(node)
            if writer is None or writer.transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
                continue
            if not body:
                writer.close()
                continue
            writer.write(body)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One agent's connection, from its hello to its end."""
        node, why = "", "its agent closed the connection"
        try:
            node = await self._greet(reader, writer)
            while node and (body := await framing.read(reader)) is not None:
                await self._tell((GOT, node, body))
        except Problem as error:
            why = str(error)
        finally:
            writer.close()
            if node and self._agents.get(node) is writer:
                del self._agents[node]
                await self._tell((DOWN, node, why.encode()))

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        if door.peer_uid(writer.get_extra_info("socket")) not in (0, os.geteuid()):
            return ""
        try:
            body = await asyncio.wait_for(framing.read(reader), HELLO_WAIT_S)
        except TimeoutError:
            return ""
        hello = frames.unpack_report(body) if body is not None else None
        if body is None or not isinstance(hello, Hello):
            return ""
        before = self._agents.pop(hello.node, None)
        if before is not None:
            before.close()
            await self._tell((DOWN, hello.node, b"its agent connected again"))
        self._agents[hello.node] = writer
        await self._tell((UP, hello.node, body))
        return hello.node

    async def _tell(self, news: News) -> None:
        self._news.append(news)
        self._waiting_bytes += len(news[2])
        self._there_is.set()
        if self._waiting_bytes >= WAITING_BYTES_MAX:
            self._room.clear()
            await self._room.wait()

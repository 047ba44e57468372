"""The local engine: one machine, one agent for each (virtual) node, one Unix socket.

Agents are sessions of their own: a head that is killed leaves them working, and the next one finds them again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import cast

from mycelium.base import framing
from mycelium.base.errors import Problem, Unavailable
from mycelium.base.home import Home, NodeFiles
from mycelium.base.ids import NodeId, node_id
from mycelium.base.limits import FRAME_BYTES_MAX, GRACE_MS
from mycelium.engine import frames
from mycelium.engine.local import door
from mycelium.engine.local.keeper import Keeper, kill_steps
from mycelium.engine.orders import WIRE_VERSION, Hello, Order, Report, Shutdown
from mycelium.engine.seam import NodeDown, NodeUp
from mycelium.nodes.model import Devices

EVENTS_MAX = 10_000  # waiting for the head; beyond it agents wait with theirs
HELLO_WAIT_S = 5.0
STOP_MARGIN_S = 5.0  # for agents to collect what their steps leave, beyond the grace
UNSENT_BYTES_MAX = FRAME_BYTES_MAX  # towards an agent that does not read

log = logging.getLogger(__name__)


class LocalEngine:
    """`nodes`: how many equal shares of this machine, or what each node shall say that it has."""

    def __init__(self, home: Path, nodes: int | Sequence[Devices] = 1, *, labels: Sequence[str] = ()) -> None:
        self._home = home.absolute()
        self._labels = labels
        given = [None] * nodes if isinstance(nodes, int) else list(nodes)
        self._keepers = {
            node_id(number + 1): self._keeper(number, len(given), devices) for number, devices in enumerate(given)
        }
        self._events: asyncio.Queue[NodeUp | NodeDown | Report | None] = asyncio.Queue(EVENTS_MAX)
        self._writers: dict[NodeId, asyncio.StreamWriter] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._meetings: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._lock_fd = -1

    def _keeper(self, number: int, count: int, devices: Devices | None) -> Keeper:
        node = node_id(number + 1)
        host = os.uname().nodename
        words = ["--home", str(self._home), "--node", node, "--socket", str(door.place(self._home))]
        words += ["--name", host if count == 1 else f"{host}-{number + 1}", "--share", f"{number}/{count}"]
        if devices is not None:
            words += ["--devices", f"{devices.cpu_m},{devices.memory_bytes},{devices.gpus}"]
        for label in self._labels:
            words += ["--label", label]
        if count > 1:
            words += ["--label", "virtual"]
        return Keeper(self._home, node, words)

    async def start(self) -> None:
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock_fd = door.hold(self._home)
        listener = door.listen(door.place(self._home))
        self._server = await asyncio.start_unix_server(self._meet, sock=listener)
        self._end_former()
        self._tasks = [asyncio.create_task(keeper.keep()) for keeper in self._keepers.values()]

    def _end_former(self) -> None:
        """Nodes that this site had and has no more: their agents are told when they knock, their steps end now."""
        for directory in Home(self._home).nodes.glob("*"):
            if directory.name not in self._keepers:
                kill_steps(NodeFiles(directory))

    async def watch(self) -> AsyncIterator[NodeUp | NodeDown | Report]:
        while (event := await self._events.get()) is not None:
            yield event

    async def send(self, node: NodeId, order: Order) -> None:
        writer = self._writers.get(node)
        if writer is None:
            raise Unavailable(f"{node} is not connected")
        if writer.transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            raise Unavailable(f"{node} does not read its orders")
        writer.write(frames.pack(order))

    async def stop(self, *, stop_steps: bool, grace_ms: int) -> None:
        """End every agent, and with `stop_steps` every step: afterwards no process of ours is left.

        Without it, steps go on under their shims, and the next start finds them. A second call does nothing.
        """
        if self._lock_fd < 0:
            return
        lock_fd, self._lock_fd = self._lock_fd, -1
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for node in list(self._writers):
            with contextlib.suppress(Problem):
                await self.send(node, Shutdown(stop_steps, grace_ms))
        keepers = self._keepers.values()
        for keeper in keepers:
            keeper.wake(hears=keeper.node in self._writers)
        patience_s = (grace_ms / 1000 if stop_steps else 0) + STOP_MARGIN_S
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(keeper.wait_ended() for keeper in keepers)), patience_s)
        for keeper in keepers:
            await asyncio.to_thread(keeper.kill)
            if stop_steps:
                await asyncio.to_thread(keeper.kill_steps)
        if self._server is not None:
            self._server.close()
        for meeting in self._meetings:
            meeting.cancel()
        door.place(self._home).unlink(missing_ok=True)
        await asyncio.gather(*self._meetings, return_exceptions=True)
        os.close(lock_fd)
        self._say_now(None)

    def _say_now(self, event: NodeDown | None) -> None:
        """At the end nobody may listen any more: room is made, never waited for."""
        if self._events.full():
            self._events.get_nowait()
        self._events.put_nowait(event)

    # -- connections --------------------------------------------------------------------------------------------------

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One agent's connection, from its hello to its end."""
        meeting = cast("asyncio.Task[None]", asyncio.current_task())
        self._meetings.add(meeting)
        try:
            node = await self._greet(reader, writer)
            if node is not None:
                await self._listen(node, reader, writer)
        except Problem as error:
            log.warning("connection dropped: %s", error)
        except asyncio.CancelledError:
            pass  # the engine stops: nobody waits for this task's result
        finally:
            self._meetings.discard(meeting)
            writer.close()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> NodeId | None:
        if door.peer_uid(writer.get_extra_info("socket")) not in (0, os.geteuid()):
            return None
        try:
            body = await asyncio.wait_for(framing.read(reader), HELLO_WAIT_S)
        except TimeoutError:
            return None
        hello = frames.unpack_report(body) if body is not None else None
        if not isinstance(hello, Hello):
            return None
        if hello.wire != WIRE_VERSION or hello.node not in self._keepers:
            # Of another version, or of a node that this site no longer has; the first is started again as ours.
            writer.write(frames.pack(Shutdown(stop_steps=hello.node not in self._keepers, grace_ms=GRACE_MS)))
            await framing.read(reader)
            return None
        before = self._writers.pop(hello.node, None)
        if before is not None:
            before.close()
            await self._events.put(NodeDown(hello.node, "its agent connected again"))
        self._writers[hello.node] = writer
        await self._events.put(NodeUp(hello))
        return hello.node

    async def _listen(self, node: NodeId, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        why = "its agent closed the connection"
        try:
            while (body := await framing.read(reader)) is not None:
                await self._events.put(frames.unpack_report(body))
        except Problem as error:
            why = str(error)
        finally:
            if self._writers.get(node) is writer:
                del self._writers[node]
                self._say_now(NodeDown(node, why))

"""The engine for many machines: membership and transport from Ray, agents and suspicion of our own.

The head's own machine is one of them. A machine is known by a name of ours that outlives its raylets; a node is an
agent there. Ray may die and be built again at any time: nodes are down meanwhile, and their steps go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from mycelium.base.appended import appended
from mycelium.base.errors import Problem, Unavailable
from mycelium.base.home import Home, NodeFiles
from mycelium.base.ids import NodeId, node_id
from mycelium.base.limits import FRAME_BYTES_MAX, GRACE_MS
from mycelium.carry.keeper import PorterKeeper, key_of
from mycelium.engine import frames
from mycelium.engine.local import door
from mycelium.engine.local.keeper import Keeper, kill_steps, wait_end
from mycelium.engine.orders import WIRE_VERSION, Hello, Order, Report, Shutdown
from mycelium.engine.ray import messages
from mycelium.engine.ray.doubt import Doubts
from mycelium.engine.ray.host import versions
from mycelium.engine.ray.messages import (
    Down,
    Give,
    Got,
    MachineHeard,
    MachineLost,
    PartAgent,
    Ready,
    Silent,
    SiteMachines,
    Up,
)
from mycelium.engine.ray.raylet import Raylet, RayletPlace, Tls, free_port, keep_token
from mycelium.engine.seam import NodeDown, NodeUp

EVENTS_MAX = 10_000  # waiting for the head; beyond it the bridge waits with its own
READY_S = 90.0  # a busy machine starts Ray slowly; only a broken one takes this long
STOP_MARGIN_S = 5.0
UNSENT_BYTES_MAX = 4 * FRAME_BYTES_MAX  # towards a bridge that does not read
RETRY_S_MIN, RETRY_S_MAX = 0.2, 5.0
LABEL_LENGTH = 32  # of a machine's name in Ray, whose labels have 63 characters at most
HEAD = "head"  # the name of the head's own machine

log = logging.getLogger(__name__)


class RayEngine:
    """`nodes`: how many equal shares of the head's machine. `ray`: one that runs already and is not ours to end."""

    def __init__(
        self,
        home: Path,
        nodes: int = 1,
        *,
        address: str = "127.0.0.1",
        labels: Sequence[str] = (),
        ray: Raylet | None = None,
        tls: Tls | None = None,
    ) -> None:
        self._home = home.absolute()
        self._address = address
        self._borrowed = ray is not None
        self._ray = ray or Raylet(
            RayletPlace(Home(self._home).ray.path, HEAD, address, port=0, cpus=len(os.sched_getaffinity(0)), tls=tls)
        )
        own = self._ray.place.machine
        self._keepers = {node_id(number + 1): self._keeper(number, nodes, labels) for number in range(nodes)}
        self.versions = versions()
        self.own_nodes = nodes
        self._machines: dict[str, str] = {own: str(door.place(self._home))}
        self._machine_of: dict[NodeId, str] = dict.fromkeys(self._keepers, own)
        self._hellos: dict[NodeId, Hello] = {}  # of connected agents
        self._silent: set[str] = set()
        self._doubts = Doubts(self._dead)
        self._events: asyncio.Queue[NodeUp | NodeDown | Report | None] = asyncio.Queue(EVENTS_MAX)
        self._writer: asyncio.StreamWriter | None = None
        self._bridge: subprocess.Popen[bytes] | None = None
        self._ready = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._porter: PorterKeeper | None = None
        self._lock_fd = -1

    def _keeper(self, number: int, count: int, labels: Sequence[str]) -> Keeper:
        node = node_id(number + 1)
        host = os.uname().nodename
        words = ["--home", str(self._home), "--node", node, "--socket", str(door.place(self._home))]
        words += ["--name", host if count == 1 else f"{host}-{number + 1}", "--share", f"{number}/{count}"]
        words += ["--address", self._address]
        for label in (*labels, *(["virtual"] if count > 1 else [])):
            words += ["--label", label]
        return Keeper(self._home, node, words)

    async def start(self) -> None:
        """Errors: `Unavailable` when Ray does not come up."""
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock_fd = door.hold(self._home)
        for directory in Home(self._home).nodes.glob("*"):
            if directory.name not in self._keepers:
                kill_steps(NodeFiles(directory))
        self._tasks = [asyncio.create_task(keeper.keep()) for keeper in self._keepers.values()]
        if not self._borrowed:
            self._porter = PorterKeeper(
                self._home, self._address, copies=False, site=self._ray.place.tls and self._ray.place.tls.site
            )
            self._tasks.append(asyncio.create_task(self._porter.keep(self._porter_key())))
        self._tasks.append(asyncio.create_task(self._keep_ray()))
        try:
            await asyncio.wait_for(self._ready.wait(), READY_S)
        except TimeoutError:
            said = self._ray.said()
            await self.stop(stop_steps=False, grace_ms=0)
            raise Unavailable(f"Ray was not ready after {READY_S:.0f}s", hint=said or "look at its log") from None

    # Machines that join.

    def admit(self, node: NodeId, machine: str, address: str, socket: str) -> dict[str, Any]:
        """Count a machine in. `ray` is empty while our Ray is being built: then it must ask again."""
        machine = machine[:LABEL_LENGTH]
        if self._machine_of.get(node) != machine or self._machines.get(machine) != socket:
            self._machine_of[node] = machine
            self._machines[machine] = socket
            self._tell_machines()
        supervisor = self._ray.living()
        life = f"{supervisor.pid}-{supervisor.started_ns}" if supervisor else ""
        place = self._ray.place
        return {
            "machine": machine,
            "ray": f"{place.address}:{place.port}" if life and self._writer is not None else "",
            "life": life,
            "connected": node in self._hellos and machine not in self._silent,
            "token": keep_token(self._ray.directory),
            "porter": self._porter.address if self._porter else "",
            "porter_key": self._porter_key(),
        }

    def _porter_key(self) -> str:
        return key_of(keep_token(self._ray.directory))

    def dismiss(self, machine: str) -> None:
        machine = machine[:LABEL_LENGTH]
        self._machines.pop(machine, None)
        for node in [node for node, its in self._machine_of.items() if its == machine]:
            del self._machine_of[node]
            self._hellos.pop(node, None)
            self._doubts.forget(node)
        self._tell_machines()

    async def watch(self) -> AsyncIterator[NodeUp | NodeDown | Report]:
        while (event := await self._events.get()) is not None:
            yield event

    async def send(self, node: NodeId, order: Order) -> None:
        machine = self._machine_of.get(node, "")
        if node not in self._hellos or machine in self._silent or self._writer is None:
            raise Unavailable(f"{node} is not connected")
        if self._writer.transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            raise Unavailable(f"{node} does not read its orders")
        self._writer.write(messages.pack(Give(machine, node, frames.pack(order))))

    async def stop(self, *, stop_steps: bool, grace_ms: int) -> None:
        """End our own agents, and with `stop_steps` every step everywhere; then Ray. A second call does nothing.

        The agents of other machines belong to their `myc join`: they wait there for the next head.
        """
        if self._lock_fd < 0:
            return
        lock_fd, self._lock_fd = self._lock_fd, -1
        await self._doubts.stop()
        keeping, minding = self._tasks[:-1], self._tasks[-1]
        for task in keeping:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)
        for node in list(self._hellos):
            if stop_steps or node in self._keepers:
                with contextlib.suppress(Problem):
                    await self.send(node, Shutdown(stop_steps, grace_ms))
        await self._end_agents(stop_steps=stop_steps, grace_ms=grace_ms)
        minding.cancel()
        await asyncio.gather(minding, return_exceptions=True)
        await asyncio.to_thread(self._end_bridge)
        if not self._borrowed:
            await asyncio.to_thread(self._ray.kill)
        door.place(self._home).unlink(missing_ok=True)
        os.close(lock_fd)
        await self._events.put(None)

    async def _end_agents(self, *, stop_steps: bool, grace_ms: int) -> None:
        keepers = self._keepers.values()
        for keeper in keepers:
            keeper.wake(hears=keeper.node in self._hellos)
        patience_s = (grace_ms / 1000 if stop_steps else 0) + STOP_MARGIN_S
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(keeper.wait_ended() for keeper in keepers)), patience_s)
        for keeper in keepers:
            await asyncio.to_thread(keeper.kill)
            if stop_steps:
                await asyncio.to_thread(keeper.kill_steps)

    # Ray and the bridge.

    async def _keep_ray(self) -> None:
        """Ray, and a bridge to it, for as long as the engine runs."""
        wait_s = RETRY_S_MIN
        while True:
            begun = time.monotonic()
            try:
                await self._live_once()
            except OSError as error:
                log.error("Ray cannot be started: %s", error)
            for machine in list(self._machines):
                await self._lost(machine, "the head has lost Ray")
            wait_s = RETRY_S_MIN if time.monotonic() - begun > READY_S else min(RETRY_S_MAX, wait_s * 2)
            await asyncio.sleep(wait_s)

    async def _live_once(self) -> None:
        """One life of the bridge. It ends when the bridge does, or Ray's own processes here."""
        supervisor = self._ray.living()
        if supervisor is None:
            if not self._borrowed:
                self._ray.place = replace(self._ray.place, port=free_port(self._address))
            supervisor = await asyncio.to_thread(self._ray.start)
        elif not self._borrowed:
            self._ray.place = replace(self._ray.place, port=self._ray.port())  # of the head before this one
        ended = asyncio.create_task(wait_end(supervisor.pid))
        listening = asyncio.create_task(self._open_bridge())
        try:
            await asyncio.wait((ended, listening), return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                log.warning("Ray has ended here; it is built again")
        finally:
            for task in (ended, listening):
                task.cancel()
            await asyncio.gather(ended, listening, return_exceptions=True)
            await asyncio.to_thread(self._end_bridge)

    async def _open_bridge(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._start_bridge(theirs)
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=1 << 20)
        try:
            self._tell_machines()
            while (body := await messages.read(reader)) is not None:
                await self._handle(messages.to_engine.decode(body))
        finally:
            self._writer.close()
            self._writer = None

    def _start_bridge(self, theirs: socket.socket) -> None:
        place = self._ray.place
        with appended(Home(self._home).bridge_log) as output:
            words = ["--site", str(self._home), "--ray", f"{place.address}:{place.port}", "--fd", str(theirs.fileno())]
            self._bridge = subprocess.Popen(
                [sys.executable, "-P", "-m", "mycelium.engine.ray.bridge", *words],
                env=self._ray.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,
                pass_fds=[theirs.fileno()],
            )

    def _end_bridge(self) -> None:
        if self._bridge is not None:
            self._bridge.kill()
            self._bridge.wait()
            self._bridge = None

    def _tell_machines(self) -> None:
        if self._writer is not None:
            self._writer.write(messages.pack(SiteMachines(self._machines)))

    # What the bridge says.

    async def _handle(self, message: messages.ToEngine) -> None:
        match message:
            case Got(node=node, body=body) if node in self._hellos:
                with contextlib.suppress(Problem):
                    await self._events.put(frames.unpack_report(body))
            case Up(machine=machine, body=body):
                await self._up(machine, body)
            case Down(node=node, why=why) if node in self._hellos:
                del self._hellos[node]
                self._doubts.doubt(node)
                await self._events.put(NodeDown(node, why))
            case Silent(machine=machine, why=why):
                self._silent.add(machine)
                for node in self._connected(machine):
                    self._doubts.doubt(node)
                    await self._events.put(NodeDown(node, why))
            case MachineHeard(machine=machine):
                self._silent.discard(machine)
                for node in self._connected(machine):
                    self._doubts.trust(self._hellos[node])
                    await self._events.put(NodeUp(self._hellos[node]))
            case MachineLost(machine=machine, why=why):
                await self._lost(machine, why)
            case Ready():
                self._ready.set()
            case _:
                pass

    async def _up(self, machine: str, body: bytes) -> None:
        """An agent says hello. One of another version, or of a node that is not this machine's, is sent away."""
        with contextlib.suppress(Problem):
            hello = frames.unpack_report(body)
            if not isinstance(hello, Hello) or self._writer is None:
                return
            ours = self._machine_of.get(hello.node) == machine
            if hello.wire != WIRE_VERSION or not ours:
                order = frames.pack(Shutdown(stop_steps=not ours, grace_ms=GRACE_MS))
                self._writer.write(messages.pack(Give(machine, hello.node, order)))
                self._writer.write(messages.pack(PartAgent(machine, hello.node)))
                return
            self._silent.discard(machine)
            self._hellos[hello.node] = hello
            self._doubts.trust(hello)
            await self._events.put(NodeUp(hello))

    async def _lost(self, machine: str, why: str) -> None:
        said = machine in self._silent
        self._silent.discard(machine)
        for node in self._connected(machine):
            del self._hellos[node]
            self._doubts.doubt(node)
            if not said:
                await self._events.put(NodeDown(node, why))

    async def _dead(self, node: NodeId) -> None:
        self._hellos.pop(node, None)
        await self._events.put(NodeDown(node, "nothing of it runs on its machine any more", dead=True))

    def _connected(self, machine: str) -> list[NodeId]:
        return [node for node in self._hellos if self._machine_of.get(node) == machine]

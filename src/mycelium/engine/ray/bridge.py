"""`python -m mycelium.engine.ray.bridge`: the one driver of Ray, in a process of its own beside the head.

Ray ends the process of a driver that loses it; the head must not share that fate. The bridge looks at Ray's membership,
keeps one relay on each machine of the site, asks each for news without end, and passes on what it hears. A relay that
owes an answer for longer than it may is silent: that is our own suspicion, long before Ray's verdict.

Never: decides anything, or keeps anything that the next bridge would miss.
"""

# Much of Ray has no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import secrets
import socket
import sys
from typing import Any

import ray

from mycelium.base.ids import NodeId
from mycelium.engine.ray import messages
from mycelium.engine.ray.messages import (
    Down,
    Give,
    Got,
    MachineHeard,
    MachineLost,
    Ready,
    Silent,
    SiteMachines,
    ToEngine,
    Up,
)
from mycelium.engine.ray.relay import DOWN, GOT, HOLD_S, UP, RayRelay

LOOK_S = 0.5  # between two looks at the membership
ANSWER_S = HOLD_S + 1.5  # no answer after this: the machine is silent
OPEN_S = 30.0  # a worker that is slow to start is not a broken one
RETRY_S_MIN, RETRY_S_MAX = 0.2, 5.0
ORDERS_AT_ONCE = 256
ORDERS_WAITING_MAX = 20_000  # towards one machine; the head repeats what is dropped

log = logging.getLogger("mycelium.bridge")


class Contact:
    """One machine in one life of its raylet: the relay there, and what waits for it."""

    def __init__(self, bridge: Bridge, machine: str, ray_node: str, path: str) -> None:
        self.machine = machine
        self.ray_node = ray_node
        self._path = path
        self._bridge = bridge
        self._orders: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(ORDERS_WAITING_MAX)
        self.task = asyncio.create_task(self._mind())

    def give(self, node: NodeId, body: bytes) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            self._orders.put_nowait((node, body))

    async def _mind(self) -> None:
        """Keep a relay there until cancelled."""
        wait_s = RETRY_S_MIN
        while True:
            actor: Any = None
            why = "its relay is gone"
            try:
                actor = self._make()
                pid = await asyncio.wait_for(_answer(actor.open.remote()), OPEN_S)
                log.info("relay of %s is process %s", self.machine, pid)
                wait_s = RETRY_S_MIN
                await self._carry(actor)
            except asyncio.CancelledError:
                why = "its machine has left Ray"
                raise
            except Exception as error:  # whatever Ray raises: the relay is made anew
                why = f"its relay failed: {_brief(error)}"
                log.warning("relay of %s: %s", self.machine, why)
            finally:
                self._bridge.say(MachineLost(self.machine, why))
                if actor is not None:
                    with contextlib.suppress(Exception):
                        ray.kill(actor)
            await asyncio.sleep(wait_s)
            wait_s = min(RETRY_S_MAX, wait_s * 2)

    def _make(self) -> Any:
        made = ray.remote(RayRelay).options(  # type: ignore[call-overload]  # Ray types functions, not actors
            name=f"relay-{self.machine}-{secrets.token_hex(4)}",
            num_cpus=0,
            max_concurrency=16,
            max_restarts=0,
            label_selector={"ray.io/node-id": self.ray_node},
        )
        return made.remote(self._path)

    async def _carry(self, actor: Any) -> None:
        """Both ways until one of them fails."""
        ways = {asyncio.create_task(self._take(actor)), asyncio.create_task(self._give(actor))}
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in done:
                way.result()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _take(self, actor: Any) -> None:
        while True:
            answer = asyncio.ensure_future(_answer(actor.take.remote()))
            try:
                await asyncio.wait((answer,), timeout=ANSWER_S)
                silent = not answer.done()
                if silent:
                    self._bridge.say(Silent(self.machine, f"no answer for {ANSWER_S:g}s"))
                taken = await answer
                if silent:
                    self._bridge.say(MachineHeard(self.machine))
            finally:
                answer.cancel()
            for what, node, body in taken:
                self._tell(what, NodeId(node), body)

    def _tell(self, what: str, node: NodeId, body: bytes) -> None:
        if what == GOT:
            self._bridge.say(Got(self.machine, node, body))
        elif what == UP:
            self._bridge.say(Up(self.machine, body))
        elif what == DOWN:
            self._bridge.say(Down(self.machine, node, body.decode()))

    async def _give(self, actor: Any) -> None:
        """One call at a time, so that orders keep their order; what came meanwhile travels together."""
        while True:
            orders = [await self._orders.get()]
            while len(orders) < ORDERS_AT_ONCE and not self._orders.empty():
                orders.append(self._orders.get_nowait())
            await _answer(actor.give.remote(orders))


class Bridge:
    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._sockets: dict[str, str] = {}
        self._contacts: dict[str, Contact] = {}
        self._changed = asyncio.Event()

    def say(self, message: ToEngine) -> None:
        self._writer.write(messages.pack(message))

    async def run(self, reader: asyncio.StreamReader) -> None:
        """Until the head is gone."""
        self.say(Ready())
        looking = asyncio.create_task(self._look_for_ever())
        try:
            while (body := await messages.read(reader)) is not None:
                self._handle(messages.to_bridge.decode(body))
        finally:
            looking.cancel()

    def _handle(self, message: messages.ToBridge) -> None:
        if isinstance(message, SiteMachines):
            self._sockets = message.sockets
            self._changed.set()
            return
        contact = self._contacts.get(message.machine)
        if contact is not None:
            contact.give(message.node, message.body if isinstance(message, Give) else b"")

    async def _look_for_ever(self) -> None:
        while True:
            with contextlib.suppress(Exception):  # Ray may be away for a moment; if it is gone, this process ends
                self._meet(await asyncio.to_thread(_members))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), LOOK_S)
            self._changed.clear()

    def _meet(self, members: dict[str, str]) -> None:
        for machine, contact in list(self._contacts.items()):
            if machine not in self._sockets or members.get(machine) != contact.ray_node:
                del self._contacts[machine]
                contact.task.cancel()
        for machine, path in self._sockets.items():
            if machine in members and machine not in self._contacts:
                self._contacts[machine] = Contact(self, machine, members[machine], path)


def _members() -> dict[str, str]:
    """Ray's name for each machine that is alive in Ray's eyes; of a machine's several lives, the last."""
    found: dict[str, tuple[int, str]] = {}
    for node in ray.nodes():
        labels = node.get("Labels", {})
        machine, life = labels.get("myc-machine"), labels.get("myc-life", "0")
        if node["Alive"] and machine and (int(life), node["NodeID"]) > found.get(machine, (-1, "")):
            found[machine] = (int(life), node["NodeID"])
    return {machine: name for machine, (_, name) in found.items()}


async def _answer(reference: Any) -> Any:
    return await reference


def _brief(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


async def _run(fd: int) -> None:
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=fd), limit=1 << 20)
    await Bridge(writer).run(reader)


def main() -> int:
    parser = argparse.ArgumentParser(prog="mycelium.engine.ray.bridge", allow_abbrev=False)
    parser.add_argument("--site", required=True, help="the site's directory, so that its processes can be told apart")
    parser.add_argument("--ray", required=True, metavar="ADDRESS:PORT")
    parser.add_argument("--fd", type=int, required=True, help="the socket to the engine")
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    # A namespace of this life: relays that another bridge left behind cannot be taken for ours.
    ray.init(
        address=options.ray,
        namespace=f"mycelium-{secrets.token_hex(8)}",
        log_to_driver=False,
        configure_logging=False,
    )
    asyncio.run(_run(options.fd))
    return 0


if __name__ == "__main__":
    sys.exit(main())

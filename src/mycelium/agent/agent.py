"""The agent of one node: orders in, reports out, and every second a beat that says all of it again.

Never: decides what runs.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from mycelium.agent import probes
from mycelium.agent.life import Life
from mycelium.agent.link import AgentLink
from mycelium.agent.settings import AgentSettings
from mycelium.agent.steps import tail
from mycelium.agent.steps.held import HeldStep
from mycelium.agent.steps.steps import Steps
from mycelium.base.errors import Unavailable
from mycelium.base.limits import BEAT_MS, FOLLOWERS_MAX
from mycelium.base.version import __version__
from mycelium.carry.carried import Carried, forget_other_boots
from mycelium.engine.orders import (
    WIRE_VERSION,
    Beat,
    Chunk,
    Forget,
    Gone,
    Hello,
    Order,
    Running,
    Shutdown,
    Start,
    Stop,
    Tail,
    Untail,
)
from mycelium.sandbox.probe import SandboxOffer
from mycelium.store.directory import DirectoryObjects
from mycelium.store.objects import Objects

log = logging.getLogger(__name__)


class Agent:
    def __init__(self, settings: AgentSettings, offer: SandboxOffer, etc: Path, link: AgentLink) -> None:
        self.settings = settings
        self.link = link
        self.boot = os.urandom(8).hex()
        # On a machine of its own all objects are copies: what is not here is fetched, what is made here is delivered.
        objects: Objects = DirectoryObjects(settings.objects, durable=settings.way is None)
        if settings.way is not None:
            forget_other_boots(objects)
            objects = Carried(objects, settings.way, settings.porter)
        # Only another machine can be in doubt about this one.
        self.life = Life(settings.files.life_port, settings.address) if settings.way is not None else None
        life_fd = self.life.fd if self.life is not None else -1
        self.steps = Steps(settings, offer, etc, objects, life_fd, link.send, self._spawn)
        self.tails: dict[int, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._beats = 0
        self._finished = asyncio.Event()

    async def run(self) -> None:
        """Live until a `Shutdown`, or until the site's directory is gone."""
        self.steps.open()
        self._spawn(self.link.run(self._greet, self.handle, self._parted))
        self._spawn(self._beat_for_ever())
        if self.life is not None:
            self._spawn(self.life.answer())
        await self._finished.wait()
        await self.link.wait_sent()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.steps.close()
        if self.life is not None:
            self.life.close()

    def finish(self) -> None:
        self._finished.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("agent ends: a task failed", exc_info=error)
            self.finish()  # the engine starts another one, which adopts the steps

    # -- what the head hears ------------------------------------------------------------------------------------------

    def _greet(self) -> None:
        settings = self.settings
        self.link.send(
            Hello(
                wire=WIRE_VERSION,
                node=settings.node,
                name=settings.name,
                boot=self.boot,
                devices=settings.devices,
                labels=settings.labels,
                address=settings.address,
                version=__version__,
                python=settings.labels.get("python", ""),
                ports=self.steps.ports.numbers,
                life_port=self.life.port if self.life is not None else 0,
            )
        )
        self.beat()

    def beat(self) -> None:
        self._beats += 1
        held = self.steps.held.values()
        running = tuple(Running(one.step.id, one.started_ns) for one in held if one.ended is None)
        gone = tuple(Gone(one.step.id, one.ended) for one in held if one.ended is not None)
        about = os.statvfs(self.settings.directory)
        self.link.send(
            Beat(
                node=self.settings.node,
                boot=self.boot,
                number=self._beats,
                running=running,
                gone=gone,
                disk_free_bytes=about.f_bavail * about.f_frsize,
                load=os.getloadavg()[0],
                memory_used_bytes=probes.memory_used_bytes(),
            )
        )

    async def _beat_for_ever(self) -> None:
        while True:
            await asyncio.sleep(BEAT_MS / 1000)
            if not self.settings.directory.is_dir():
                log.error("agent ends: %s is gone", self.settings.directory)
                self.finish()
                return
            self.steps.ports.hold()
            self.beat()

    def _parted(self) -> None:
        """Chunks are for the connection that asked for them."""
        for task in self.tails.values():
            task.cancel()
        self.tails.clear()

    # -- orders -------------------------------------------------------------------------------------------------------

    async def handle(self, order: Order) -> None:
        match order:
            case Start(step):
                self.steps.start(step)
            case Stop(step_id, grace_ms):
                self.steps.stop(step_id, grace_ms)
            case Forget(step_id):
                self.steps.forget(step_id)
            case Tail():
                self.tail(order)
            case Untail(number):
                if number in self.tails:
                    self.tails.pop(number).cancel()
            case Shutdown(stop_steps, grace_ms):
                self._spawn(self._shut_down(stop_steps=stop_steps, grace_ms=grace_ms))

    def tail(self, order: Tail) -> None:
        held = self.steps.held.get(order.step)
        if held is None or len(self.tails) >= FOLLOWERS_MAX or order.tail in self.tails:
            self.link.send(Chunk(order.tail, order.offset, b"", end=True))
            return
        self.tails[order.tail] = self._spawn(self._follow(order, held))

    async def _follow(self, order: Tail, held: HeldStep) -> None:
        held.begin_tail()
        try:
            await tail.send(order, held, self.link.wait_send)
        except Unavailable:
            pass
        finally:
            held.end_tail()
            if self.tails.get(order.tail) is asyncio.current_task():
                del self.tails[order.tail]

    async def _shut_down(self, *, stop_steps: bool, grace_ms: int) -> None:
        if stop_steps:
            await self.steps.stop_all(grace_ms)
        self.finish()

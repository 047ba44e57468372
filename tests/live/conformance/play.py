"""A stage for engines: run a script against a real one, watch what it reports, kill what it runs.

An engine is known here by its name alone; `MAKERS` is the only place that knows how it is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from mycelium.base.ids import NodeId, StepId
from mycelium.base.units import MIB
from mycelium.engine.local.engine import LocalEngine
from mycelium.engine.orders import (
    Beat,
    Chunk,
    Ended,
    Exited,
    Forget,
    Hello,
    Report,
    Sandbox,
    Start,
    Started,
    Step,
    Stop,
    Tail,
)
from mycelium.engine.seam import Engine, NodeDown, NodeUp
from mycelium.nodes.model import Devices
from mycelium.sandbox import process
from mycelium.sandbox.process import Process
from mycelium.store.directory import DirectoryObjects
from tests.live.conformance import rays

MAKERS: dict[str, Callable[[Path, int], Engine]] = {"local": LocalEngine}
if find_spec("ray") is not None:
    MAKERS["ray"] = rays.make
PATIENCE_S = 60.0  # only a broken engine takes this long
NODE = NodeId("node-1")

T = TypeVar("T")
Event = NodeUp | NodeDown | Report


class Site:
    """An engine that runs, and everything it has said so far."""

    def __init__(self, engine: Engine, home: Path) -> None:
        self.engine = engine
        self.home = home
        self.objects = DirectoryObjects(home / "objects")
        self.said: list[Event] = []
        self._news = asyncio.Condition()

    async def listen(self) -> None:
        async for event in self.engine.watch():
            async with self._news:
                self.said.append(event)
                self._news.notify_all()

    async def until(self, sought: Callable[[Event], T | None], *, after: int = 0) -> T:
        """The first thing said, from the `after`-th on, of which `sought` makes something."""
        seen = after
        async with asyncio.timeout(PATIENCE_S), self._news:
            while True:
                while seen < len(self.said):
                    found = sought(self.said[seen])
                    seen += 1
                    if found is not None:
                        return found
                await self._news.wait()

    # -- words of the scripts -----------------------------------------------------------------------------------------

    async def up(self, node: NodeId = NODE, *, after: int = 0) -> Hello:
        def is_it(said: Event) -> Hello | None:
            return said.hello if isinstance(said, NodeUp) and said.hello.node == node else None

        return await self.until(is_it, after=after)

    async def down(self, node: NodeId = NODE, *, after: int = 0) -> NodeDown:
        return await self.until(
            lambda said: said if isinstance(said, NodeDown) and said.node == node else None, after=after
        )

    async def start(self, step: Step, node: NodeId = NODE) -> Step:
        await self.engine.send(node, Start(step))
        return step

    async def stop(self, step: str, grace_ms: int = 5_000, node: NodeId = NODE) -> None:
        await self.engine.send(node, Stop(StepId(step), grace_ms))

    async def forget(self, step: str, node: NodeId = NODE) -> None:
        await self.engine.send(node, Forget(StepId(step)))

    async def started(self, step: str, *, after: int = 0) -> Started:
        return await self.until(
            lambda said: said if isinstance(said, Started) and said.step == step else None, after=after
        )

    async def exited(self, step: str, *, after: int = 0) -> Ended:
        """How the step ended: from the report of its end, or from a beat that repeats it."""

        def is_it(said: Event) -> Ended | None:
            if isinstance(said, Exited):
                return said.ended if said.step == step else None
            gone = said.gone if isinstance(said, Beat) else ()
            return next((each.ended for each in gone if each.step == step), None)

        return await self.until(is_it, after=after)

    async def beat(self, sought: Callable[[Beat], bool] = lambda _: True, *, node: NodeId = NODE) -> Beat:
        """The next beat of which this is true."""

        def is_it(said: Event) -> Beat | None:
            return said if isinstance(said, Beat) and said.node == node and sought(said) else None

        return await self.until(is_it, after=len(self.said))

    async def tail(
        self, number: int, step: str, *, offset: int = 0, follow: bool = True, stream: str = "stdout"
    ) -> None:
        await self.engine.send(NODE, Tail(number, StepId(step), stream, offset, follow))

    async def chunks(self, number: int) -> list[Chunk]:
        """All chunks of a tail, the last one with `end`."""
        await self.until(lambda said: said if isinstance(said, Chunk) and said.tail == number and said.end else None)
        return [said for said in self.said if isinstance(said, Chunk) and said.tail == number]

    def text(self, digest: str | None) -> str:
        return "" if digest is None else self.objects.read(digest).decode()  # type: ignore[arg-type]

    # -- things done to it --------------------------------------------------------------------------------------------

    def agent(self, node: NodeId = NODE) -> Process:
        found = process.read(str(self.home / "nodes" / node / "agent.pid"))
        assert found is not None
        return found

    def shim(self, step: str, node: NodeId = NODE) -> Process:
        found = process.read(str(self.directory(step, node) / "pid"))
        assert found is not None
        return found

    def directory(self, step: str, node: NodeId = NODE) -> Path:
        return self.home / "nodes" / node / "steps" / step


def kill(victim: Process) -> None:
    assert victim.signal(signal.SIGKILL)
    assert victim.wait_gone(10)


class Stage:
    """Where scripts are played; one home directory each, and no process of it may be left at the end."""

    def __init__(self, kind: str, home: Path) -> None:
        self.kind = kind
        self.home = home

    def play(self, *scripts: Callable[[Site], Awaitable[None]], nodes: int = 1, stop_between: bool = False) -> None:
        """Each script on an engine of its own, one after the other in the same home. Steps go on in between."""
        try:
            for number, script in enumerate(scripts):
                asyncio.run(self._play(script, nodes, last=number == len(scripts) - 1))
        finally:
            left = processes_of(self.home)
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        assert left == {}, "processes were left behind"

    async def _play(self, script: Callable[[Site], Awaitable[None]], nodes: int, *, last: bool) -> None:
        async with running(MAKERS[self.kind](self.home, nodes), self.home, stop_steps=last) as site:
            for number in range(nodes):
                await site.up(NodeId(f"node-{number + 1}"))
            await script(site)


@asynccontextmanager
async def running(engine: Engine, home: Path, *, stop_steps: bool) -> AsyncIterator[Site]:
    await engine.start()
    site = Site(engine, home)
    listening = asyncio.create_task(site.listen())
    try:
        yield site
    finally:
        await engine.stop(stop_steps=stop_steps, grace_ms=100)
        await listening


def processes_of(home: Path) -> dict[int, str]:
    """Every living process that has this home in its words, environment or working directory."""
    mark = os.fsencode(home)
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes()
            if (
                mark in words
                or mark in (entry / "environ").read_bytes()
                or mark in os.fsencode((entry / "cwd").readlink())
            ):
                found[int(entry.name)] = words.replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
    return found


def shell(step: str, script: str, *, sandbox: Sandbox = Sandbox.NONE, **more: object) -> Step:
    """A step that runs a shell script."""
    given = {"devices": Devices(100, 256 * MIB), "time_ms": 60_000, "grace_ms": 5_000} | more
    return Step(id=StepId(step), command=("/bin/sh", "-c", script), sandbox=sandbox, **given)  # type: ignore[arg-type]

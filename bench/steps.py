"""How fast a node starts and ends sandboxed steps, and what each part of a start costs.

`python -m bench.steps` runs the full size: 500 no-op steps through the local engine, agent, shim and bubblewrap, with
room for two at once. Bubblewrap alone, the physical bound of a sandboxed step, is measured beside it; the peers
are those of the whole way through the head, in bench.head.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from bench.alone import alone, doing
from bench.row import Row
from mycelium.agent.steps.launcher import Launcher
from mycelium.base.ids import NodeId, StepId
from mycelium.base.units import MIB
from mycelium.engine.local.engine import LocalEngine
from mycelium.engine.orders import Exited, Forget, Sandbox, Start, Started, Step
from mycelium.engine.seam import NodeUp
from mycelium.nodes.model import Devices

NODE = NodeId("node-1")
AT_ONCE = 4  # two that run while two are prepared or collected


def step(number: int, sandbox: Sandbox) -> Step:
    name = StepId(f"job-{number}-a1-r0")
    return Step(name, ("true",), Devices(500, 512 * MIB), time_ms=60_000, grace_ms=1000, sandbox=sandbox)


class Run:
    """Steps through one engine, `at_once` of them on the node at any time."""

    def __init__(self, engine: LocalEngine, first: int, count: int, at_once: int, sandbox: Sandbox) -> None:
        self.engine = engine
        self.waiting = list(range(first, first + count))
        self.left = count
        self.at_once = at_once
        self.sandbox = sandbox
        self.sent_ns: dict[str, int] = {}
        self.start_ms: list[float] = []
        self.whole_ms: list[float] = []

    async def send_next(self) -> None:
        if self.waiting:
            order = Start(step(self.waiting.pop(0), self.sandbox))
            self.sent_ns[order.step.id] = time.perf_counter_ns()
            await self.engine.send(NODE, order)

    async def measure(self) -> float:
        """Steps per second."""
        begun = time.perf_counter()
        for _ in range(self.at_once):
            await self.send_next()
        async for event in self.engine.watch():
            if isinstance(event, Started):
                self.start_ms.append((time.perf_counter_ns() - self.sent_ns[event.step]) / 1e6)
            elif isinstance(event, Exited):
                self.whole_ms.append((time.perf_counter_ns() - self.sent_ns[event.step]) / 1e6)
                assert event.ended.exit_code == 0, event.ended
                await self.engine.send(NODE, Forget(event.step))
                await self.send_next()
                self.left -= 1
                if not self.left:
                    break
        return len(self.whole_ms) / (time.perf_counter() - begun)


async def through_the_engine(count: int, bound: str) -> list[Row]:
    home = Path(tempfile.mkdtemp(prefix="myc-bench-"))
    engine = LocalEngine(home)
    begun = time.perf_counter()
    await engine.start()
    try:
        event = await anext(event async for event in engine.watch() if isinstance(event, NodeUp))
        rows = [Row("a node is up", (time.perf_counter() - begun) * 1000, "ms")]
        doing(f"{count} steps without a sandbox")
        naked = Run(engine, 1, count, AT_ONCE, Sandbox.NONE)
        rows.append(Row(f"{count} no-op steps without a sandbox", await naked.measure(), "/s"))
        if event.hello.labels["sandbox"] == "process":
            rows += await sandboxed(engine, count, bound)
    finally:
        await engine.stop(stop_steps=True, grace_ms=0)
        shutil.rmtree(home, ignore_errors=True)
    return rows


async def sandboxed(engine: LocalEngine, count: int, bound: str) -> list[Row]:
    doing(f"{count} steps in the sandbox")
    boxed = Run(engine, 1_000_001, count, AT_ONCE, Sandbox.PROCESS)
    rate = await boxed.measure()
    doing("steps one by one")
    single = Run(engine, 2_000_001, max(10, count // 10), 1, Sandbox.PROCESS)
    await single.measure()
    started_ms, exited_ms = statistics.median(single.start_ms), statistics.median(single.whole_ms)
    return [
        Row(f"{count} no-op steps in the sandbox", rate, "/s", bound=bound),
        Row("one step, idle node: order to started", started_ms, "ms"),
        Row("one step, idle node: order to exited", exited_ms, "ms"),
    ]


async def fork_server_ms(count: int) -> float:
    """One fork, of a shim that finds no step and ends."""
    launcher = Launcher()
    launcher.open(output=subprocess.DEVNULL)
    try:
        await launcher.launch(Path("/nonexistent"))
        begun = time.perf_counter()
        for _ in range(count):
            await launcher.launch(Path("/nonexistent"))
        return (time.perf_counter() - begun) / count * 1000
    finally:
        launcher.close()


def bwrap_ms(count: int) -> float:
    """Bubblewrap by itself, everything unshared."""
    words = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "/bin/true"]
    begun = time.perf_counter()
    for _ in range(count):
        subprocess.run(words, check=True)
    return (time.perf_counter() - begun) / count * 1000


def run(small: bool = False) -> list[Row]:
    """All figures. Small: 20 steps."""
    count = 20 if small else 500
    doing("the parts of a start")
    parts = [Row("of which the fork of a shim", asyncio.run(fork_server_ms(count)), "ms")]
    bound = ""
    if shutil.which("bwrap"):
        alone_ms = bwrap_ms(max(10, count // 10))
        parts.append(Row("of which bubblewrap, alone", alone_ms, "ms"))
        cpus = os.cpu_count() or 1
        bound = f"one bubblewrap after the other on each of {cpus} cpus: {cpus * 1000 / alone_ms:.0f}/s"
    return [*asyncio.run(through_the_engine(count, bound)), *parts]


if __name__ == "__main__":
    alone("the steps of a node", run)

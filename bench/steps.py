"""How fast a node starts and ends sandboxed steps, and what each part of a start costs.

`python -m bench.steps` runs the full size: 500 no-op steps through the local engine, agent, shim and bubblewrap, with
room for two at once. Peers: Slurm 3.4 no-op jobs/s as shipped and 9.2 tuned on such a machine, `srun true` 28 ms; 6 ms
for bubblewrap alone, which with a fork is the physical bound of a sandboxed step: about 300/s on two cores.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mycelium.agent.launcher import Launcher
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
    return Step(name, ("true",), Devices(500, 64 * MIB), time_ms=60_000, grace_ms=1000, sandbox=sandbox)


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


async def through_the_engine(count: int) -> dict[str, float]:
    home = Path(tempfile.mkdtemp(prefix="myc-bench-"))
    engine = LocalEngine(home)
    begun = time.perf_counter()
    await engine.start()
    try:
        async for event in engine.watch():
            if isinstance(event, NodeUp):
                break
        found = {"node_up_ms": (time.perf_counter() - begun) * 1000}
        naked = Run(engine, 1, count, AT_ONCE, Sandbox.NONE)
        found["naked_steps_per_s"] = await naked.measure()
        if event.hello.labels["sandbox"] == "process":
            boxed = Run(engine, 1_000_001, count, AT_ONCE, Sandbox.PROCESS)
            found["sandboxed_steps_per_s"] = await boxed.measure()
            alone = Run(engine, 2_000_001, max(10, count // 10), 1, Sandbox.PROCESS)
            await alone.measure()
            found["idle_order_to_started_ms_p50"] = statistics.median(alone.start_ms)
            found["idle_order_to_exited_ms_p50"] = statistics.median(alone.whole_ms)
    finally:
        await engine.stop(stop_steps=True, grace_ms=0)
        shutil.rmtree(home, ignore_errors=True)
    return found


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


def run(small: bool = False) -> dict[str, float]:
    """The figures, by name. Units: as in the names."""
    count = 20 if small else 500
    found = asyncio.run(through_the_engine(count))
    found["of_which_fork_of_a_shim_ms"] = asyncio.run(fork_server_ms(count))
    if shutil.which("bwrap"):
        found["of_which_bubblewrap_alone_ms"] = bwrap_ms(max(10, count // 10))
    return found


if __name__ == "__main__":
    for name, figure in run(small="--small" in sys.argv).items():
        print(f"{name:32} {figure:>12,.1f}")

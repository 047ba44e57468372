"""Everything is killed at random, again and again; every step must still come to one end that is true."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from pathlib import Path

import pytest

from mycelium.base.errors import Unavailable
from mycelium.base.ids import StepId
from mycelium.engine.local.engine import LocalEngine
from mycelium.engine.orders import Ended, Reason, Sandbox, Start, Step
from mycelium.sandbox import process, usage
from tests.live.conformance.play import NODE, Site, processes_of, running, shell
from tests.live.walls import offer

STEPS = 24
KILLS = 8


def step(number: int, chance: random.Random) -> Step:
    """Writes a line into a file of its own name, so that a second run would show."""
    sandbox = chance.choice([Sandbox.NONE, Sandbox.PROCESS]) if offer().bwrap else Sandbox.NONE
    text = f"echo run {number}; sleep {chance.choice([0, 0.05, 0.3])}; exit {number % 7}"
    return shell(f"job-{number}-a1-r0", text, sandbox=sandbox)


async def repeat_orders(site: Site, steps: dict[StepId, Step], ends: dict[str, Ended]) -> None:
    """What a head does: until a step has ended, it is ordered again; a shim that ran it once never runs it twice."""
    while len(ends) < len(steps):
        for name, wanted in steps.items():
            if name not in ends:
                with contextlib.suppress(Unavailable):
                    await site.engine.send(NODE, Start(wanted))
        await asyncio.sleep(0.3)
        for said in site.said:
            for gone in getattr(said, "gone", ()):
                ends.setdefault(gone.step, gone.ended)


async def kill_at_random(site: Site, chance: random.Random, lost: set[str]) -> None:
    for _ in range(KILLS):
        await asyncio.sleep(chance.random() * 0.4)
        agent = process.read(str(site.home / "nodes" / NODE / "agent.pid"))
        victim = chance.choice(["agent", "fork server", "shim"])
        if agent is None or not agent.lives():
            continue
        if victim == "agent":
            agent.signal(signal.SIGKILL)
        elif victim == "fork server":
            for pid, parent in usage.parents().items():
                if parent == agent.pid:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        else:
            running_now = list((site.home / "nodes" / NODE / "steps").glob("*/pid"))
            if running_now:
                path = chance.choice(running_now)
                shim = process.read(str(path))
                if shim is not None and shim.signal(signal.SIGKILL):
                    lost.add(path.parent.name)


@pytest.mark.parametrize("seed", [1, 2])
def test_every_step_comes_to_one_true_end_whatever_is_killed(tmp_path: Path, seed: int) -> None:
    home = tmp_path / "home"
    chance = random.Random(seed)
    steps = {wanted.id: wanted for wanted in (step(number, chance) for number in range(1, STEPS + 1))}
    ends: dict[str, Ended] = {}
    lost: set[str] = set()

    async def script() -> None:
        async with running(LocalEngine(home), home, stop_steps=True) as site:
            await site.up()
            killing = asyncio.create_task(kill_at_random(site, chance, lost))
            async with asyncio.timeout(120):
                await repeat_orders(site, steps, ends)
            killing.cancel()
            for name, ended in ends.items():
                number = int(name.split("-")[1])
                if ended.reason is Reason.EXIT:
                    assert ended.exit_code == number % 7
                    assert site.text(ended.stdout) == f"run {number}\n"  # once, and whole
                else:
                    assert ended.reason is Reason.LOST, ended
                    assert name in lost, (name, ended)

    asyncio.run(script())
    assert processes_of(home) == {}

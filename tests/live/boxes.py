"""Steps in a sandbox, on a site of their own, for tests that try to get out of it."""

from __future__ import annotations

import asyncio
import textwrap
from pathlib import Path
from typing import NamedTuple

from mycelium.base.ids import StepId
from mycelium.base.units import GIB, MIB
from mycelium.engine.local.engine import LocalEngine
from mycelium.engine.orders import Ended, Sandbox, Step
from mycelium.nodes.model import Devices
from tests.live.conformance.play import Site, processes_of, running


class Result(NamedTuple):
    ended: Ended
    stdout: str
    stderr: str


def python(name: str, program: str, **more: object) -> Step:
    """A sandboxed step that runs a Python program."""
    given = {"devices": Devices(1000, 256 * MIB), "time_ms": 60_000, "grace_ms": 1_000, "disk_bytes": GIB} | more
    words = ("python3", "-c", textwrap.dedent(program))
    return Step(id=StepId(name), command=words, sandbox=Sandbox.PROCESS, **given)  # type: ignore[arg-type]


async def result(site: Site, step: Step) -> Result:
    await site.start(step)
    ended = await site.exited(step.id)
    return Result(ended, site.text(ended.stdout), site.text(ended.stderr))


def run(home: Path, *steps: Step) -> list[Result]:
    """Each step to its end, at once, on one node; no process may be left."""

    async def all_of_them() -> list[Result]:
        async with running(LocalEngine(home), home, stop_steps=True) as site:
            await site.up()
            return list(await asyncio.gather(*(result(site, step) for step in steps)))

    found = asyncio.run(all_of_them())
    assert processes_of(home) == {}
    return found

"""The end of a step whose shim is gone: what it wrote down, and what the step leaves, kept where the head finds it."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import msgspec

from mycelium.agent.steps import finish
from mycelium.agent.steps.held import HeldStep
from mycelium.base.errors import Unavailable
from mycelium.carry.carried import Carried
from mycelium.engine import step_files
from mycelium.engine.orders import Ended
from mycelium.sandbox.cgroup import Group
from mycelium.sandbox.strays import end_strays
from mycelium.store.objects import Objects

DELIVER_RETRY_S = 1.0

log = logging.getLogger(__name__)


async def collect(held: HeldStep, objects: Objects) -> Ended:
    """Waits until the head can have what the step left: it commits the end as soon as it hears of it."""
    status = step_files.read_json(str(held.directory / step_files.STATUS))
    try:
        ended = finish.from_status(status) if status is not None else await _lose(held)
    except msgspec.ValidationError as error:
        ended = finish.lost(held.started_ns, time.time_ns(), f"its status cannot be read: {error}")
    if finish.has_leavings(held.step, ended, held.directory):
        local = objects.local if isinstance(objects, Carried) else objects
        uid = held.spec.uid if held.spec is not None else None
        ended = await asyncio.to_thread(finish.keep, held.step, ended, held.directory, local, uid)
        if isinstance(objects, Carried):
            await _deliver(ended, objects)
    return ended


async def _lose(held: HeldStep) -> Ended:
    """No status: the shim was killed. Nothing of the step may be left when we say so."""
    spec = held.spec
    if spec is not None and spec.cgroup:
        await asyncio.to_thread(Group(Path(spec.cgroup)).remove)
    elif spec is None or not spec.boxed:
        await asyncio.to_thread(end_strays, held.directory)
    return finish.lost(held.started_ns, time.time_ns(), "its shim is gone without a word")


async def _deliver(ended: Ended, objects: Carried) -> None:
    trees = [ended.outputs] if ended.outputs else []
    plain = [digest for digest in (ended.stdout, ended.stderr) if digest]
    while True:
        try:
            await asyncio.to_thread(objects.deliver, trees, plain)
        except Unavailable as error:
            log.warning("not delivered yet: %s", error)
            await asyncio.sleep(DELIVER_RETRY_S)
        else:
            return

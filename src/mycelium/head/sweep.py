"""Which objects the site still needs: what the domains say of their tables.

What nobody needs and nobody touched for `SPARE_NS` is removed, once an hour. The archive keeps what happened, not what
was written.
"""

from __future__ import annotations

import asyncio
import logging

from mycelium.base.clock import Clock
from mycelium.base.units import DAY_S, HOUR_S, S_NS, format_size
from mycelium.head.core import Core
from mycelium.store.objects import Objects
from mycelium.store.tree import reachable

SWEEP_EVERY_S = HOUR_S
SPARE_NS = DAY_S * S_NS  # an upload may wait this long for the job that refers to it
log = logging.getLogger("mycelium.head")


async def sweep_for_ever(core: Core, objects: Objects, clock: Clock) -> None:
    """Sweep now and then, in a thread, until cancelled."""
    while True:
        needs = core.house.needs(core.site)
        live = needs.plain | await asyncio.to_thread(reachable, objects, needs.trees)
        swept = await asyncio.to_thread(objects.sweep, live, SPARE_NS, clock.now_ns())
        if swept.removed:
            log.info("removed %d objects (%s) that no job needs", swept.removed, format_size(swept.removed_bytes))
        await asyncio.sleep(SWEEP_EVERY_S)

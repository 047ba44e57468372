"""Which objects the site still needs: the working directories, outputs and logs of the jobs that it
remembers, and what models, files and batches hold.

What nobody needs and nobody touched for `SPARE_NS` is removed, once an hour. The archive keeps what happened, not what
was written.
"""

from __future__ import annotations

import asyncio
import logging

from mycelium.base.clock import Clock
from mycelium.base.ids import Digest
from mycelium.base.units import DAY_S, HOUR_S, S_NS, format_size
from mycelium.head.core import Core
from mycelium.head.state import State
from mycelium.store.objects import Objects
from mycelium.store.tree import reachable

SWEEP_EVERY_S = HOUR_S
SPARE_NS = DAY_S * S_NS  # an upload may wait this long for the job that refers to it
log = logging.getLogger("mycelium.head")


def needed(site: State) -> tuple[set[Digest], set[Digest]]:
    """The trees (whose files are needed too) and the plain objects that anything in memory refers to."""
    trees: set[Digest] = set()
    plain: set[Digest] = set()
    inference = site.inference
    trees.update(found.serving.workdir for found in inference.deployments.values() if found.serving.workdir)
    plain.update(model.digest for model in inference.models.values())
    plain.update(part for file in inference.files.values() for part in file.parts)
    plain.update(part for batch in inference.batches.values() for part in (*batch.outputs, *batch.errors))
    for job in site.jobs.by_id.values():
        if job.request.workdir is not None:
            trees.add(job.request.workdir)
        for task in job.tasks.values():
            for end in task.ends:
                if end is None:
                    continue
                trees.update(digest for digest in (end.outputs,) if digest)
                plain.update(digest for digest in (end.stdout, end.stderr) if digest)
    return trees, plain


async def sweep_for_ever(core: Core, objects: Objects, clock: Clock) -> None:
    """Sweep now and then, in a thread, until cancelled."""
    while True:
        trees, plain = needed(core.site)
        live = plain | await asyncio.to_thread(reachable, objects, trees)
        swept = await asyncio.to_thread(objects.sweep, live, SPARE_NS, clock.now_ns())
        if swept.removed:
            log.info("removed %d objects (%s) that no job needs", swept.removed, format_size(swept.removed_bytes))
        await asyncio.sleep(SWEEP_EVERY_S)

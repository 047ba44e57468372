"""When a job that cannot start now could, and on which nodes: from when running tasks must end, at their time limits.

A task that has outlived its limit, or is being stopped, is taken to end within the grace that a node gives it.
Never: a promise. Tasks end before their limits, and others may be asked first by then.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from msgspec import Struct

from mycelium.base.limits import GRACE_MS
from mycelium.base.units import MS_NS
from mycelium.jobs.fit import FOREVER_NS, Wanted
from mycelium.jobs.leases import Leases, Row
from mycelium.jobs.model import LEASED, Job, Site, Task, TaskState
from mycelium.jobs.queue import Queue
from mycelium.jobs.table import DEVICES, Ints


class Reserved(Struct, frozen=True):
    """Nodes kept for a job from `start_ns` on. `spare` is what is left over on each of them then."""

    start_ns: int
    slots: list[int]
    spare: Ints


def leased_tasks(job: Job) -> Iterator[Task]:
    """The tasks of a job that hold a lease. Cost: the newest are looked at first, and no more than needed."""
    left = job.leased
    for task in reversed(job.tasks.values()):
        if left <= 0:
            return
        if task.state in LEASED:
            left -= 1
            yield task


def end_ns(job: Job, task: Task, now_ns: int) -> int:
    """When a task that holds a lease ends at the latest."""
    grace_ns = now_ns + GRACE_MS * MS_NS
    if task.state is TaskState.STOPPING or job.cancelled:
        return grace_ns
    limit_ns = task.placed_ns + job.request.time_ms * MS_NS
    return limit_ns if limit_ns > now_ns else grace_ns


def leases(site: Site, queue: Queue, now_ns: int) -> Leases:
    """Every lease of the site. Cost: about a microsecond a running task of an array or gang; the others are at hand."""
    rows: list[Row] = []
    slots = queue.table.slots
    for job_id in queue.several:
        job = site.jobs.by_id[job_id]
        needs = job.request.needs
        for task in leased_tasks(job):
            end = end_ns(job, task, now_ns)
            for rank, ended in enumerate(task.ends):
                if ended is None:
                    rows.append((end, slots[task.nodes[rank]], needs))
    single = queue.held.leases().honest(now_ns, GRACE_MS * MS_NS)
    return single + Leases.of(rows) if rows else single


def earliest(free: Ints, held: Leases, wanted: Wanted, now_ns: int) -> Reserved | None:
    """The first moment at which enough nodes have what is wanted, and those that have it first; None: there is none.

    Shapes: `free` has a column a node; `held` is all that will still be given back to it.
    """
    needs = wanted.needs[:, None]
    ready_ns = np.full(free.shape[1], FOREVER_NS, dtype=np.int64)
    if len(held.slots):
        order = np.lexsort((held.ends_ns, held.slots))
        slots, ends_ns = held.slots[order], held.ends_ns[order]
        freed = held.devices.take(order, axis=1).cumsum(axis=1)  # `take` keeps a device's numbers side by side
        first = np.flatnonzero(np.diff(slots, prepend=-1))  # where each node's leases begin
        before = np.concatenate((np.zeros((DEVICES, 1), np.int64), freed[:, first[1:] - 1]), axis=1)
        freed -= np.repeat(before, np.diff(first, append=len(slots)), axis=1)
        enough = np.flatnonzero((free.take(slots, axis=1) + freed >= needs).all(axis=0))[::-1]
        ready_ns[slots[enough]] = ends_ns[enough]  # of equal slots the last one written stays: the earliest end
    ready_ns[(free >= needs).all(axis=0)] = now_ns
    ready_ns[~wanted.mask] = FOREVER_NS
    chosen = np.argsort(ready_ns, kind="stable")[: wanted.nodes]
    if len(chosen) < wanted.nodes or ready_ns[chosen[-1]] == FOREVER_NS:
        return None
    start_ns = int(ready_ns[chosen[-1]])
    is_chosen = np.zeros(free.shape[1], np.bool_)
    is_chosen[chosen] = True
    back = held.kept(np.flatnonzero((held.ends_ns <= start_ns) & is_chosen[held.slots]))
    spare = np.stack(
        [
            free[row, chosen] + np.bincount(back.slots, back.devices[row], free.shape[1])[chosen].astype(np.int64)
            for row in range(DEVICES)
        ]
    )
    return Reserved(start_ns, chosen.tolist(), spare - needs)

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
from mycelium.jobs.model import LEASED, Job, Site, Task, TaskState
from mycelium.jobs.queue import Queue
from mycelium.jobs.table import DEVICES, Ints
from mycelium.nodes.model import Devices


class Leases:
    """What is taken of nodes, and until when at most: one row a rank, as arrays."""

    def __init__(self, ends_ns: Ints, slots: Ints, devices: Ints) -> None:
        self.ends_ns = ends_ns
        self.slots = slots
        self.devices = devices

    @classmethod
    def of(cls, rows: list[tuple[int, int, Devices]]) -> Leases:
        """From rows of end, slot and devices."""
        return cls(
            np.array([end for end, _, _ in rows], dtype=np.int64),
            np.array([slot for _, slot, _ in rows], dtype=np.int64),
            np.array([(d.cpu_m, d.memory_bytes, d.gpus) for _, _, d in rows], np.int64).reshape(-1, DEVICES).T,
        )

    def __add__(self, other: Leases) -> Leases:
        return Leases(
            np.concatenate((self.ends_ns, other.ends_ns)),
            np.concatenate((self.slots, other.slots)),
            np.concatenate((self.devices, other.devices), axis=1),
        )

    def kept(self, which: Ints) -> Leases:
        return Leases(self.ends_ns[which], self.slots[which], self.devices[:, which])


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
    limit_ns = (task.started_ns or task.placed_ns) + job.request.time_ms * MS_NS
    if task.state is TaskState.STOPPING:
        return min(grace_ns, max(limit_ns, now_ns))
    return limit_ns if limit_ns > now_ns else grace_ns


def leases(site: Site, queue: Queue, now_ns: int) -> Leases:
    """Every lease of the site. Cost: about a microsecond a running task."""
    rows: list[tuple[int, int, Devices]] = []
    slots = queue.table.slots
    for job_id in queue.running:
        job = site.jobs.by_id[job_id]
        needs = job.request.needs
        for task in leased_tasks(job):
            end = end_ns(job, task, now_ns)
            for rank, ended in enumerate(task.ends):
                if ended is None:
                    rows.append((end, slots[task.nodes[rank]], needs))
    return Leases.of(rows)


def earliest(free: Ints, held: Leases, wanted: Wanted, now_ns: int) -> Reserved | None:
    """The first moment at which enough nodes have what is wanted, and those that have it first; None: there is none.

    Shapes: `free` has a column a node; `held` is all that will still be given back to it.
    """
    needs = wanted.needs[:, None]
    ready_ns = np.full(free.shape[1], FOREVER_NS, dtype=np.int64)
    if len(held.slots):
        order = np.lexsort((held.ends_ns, held.slots))
        slots, ends_ns = held.slots[order], held.ends_ns[order]
        freed = held.devices[:, order].cumsum(axis=1)
        first = np.flatnonzero(np.diff(slots, prepend=-1))  # where each node's leases begin
        before = np.concatenate((np.zeros((DEVICES, 1), np.int64), freed[:, first[1:] - 1]), axis=1)
        freed -= np.repeat(before, np.diff(first, append=len(slots)), axis=1)
        enough = np.flatnonzero((free[:, slots] + freed >= needs).all(axis=0))[::-1]
        ready_ns[slots[enough]] = ends_ns[enough]  # of equal slots the last one written stays: the earliest end
    ready_ns[(free >= needs).all(axis=0)] = now_ns
    ready_ns[~wanted.mask] = FOREVER_NS
    chosen = np.argsort(ready_ns, kind="stable")[: wanted.nodes]
    if len(chosen) < wanted.nodes or ready_ns[chosen[-1]] == FOREVER_NS:
        return None
    start_ns = int(ready_ns[chosen[-1]])
    back = held.kept(np.flatnonzero(held.ends_ns <= start_ns))
    spare = np.stack(
        [
            free[row, chosen] + np.bincount(back.slots, back.devices[row], free.shape[1])[chosen].astype(np.int64)
            for row in range(DEVICES)
        ]
    )
    return Reserved(start_ns, chosen.tolist(), spare - needs)

"""What is derived from the site's state so that questions are quick: kept beside it, never in a snapshot.

`Index.of(site)` builds it anew; `apply` keeps it current. A property test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mycelium.base.ids import JobId, NodeId
from mycelium.base.limits import SHAPES_REMEMBERED_MAX
from mycelium.jobs.model import ENDED, LEASED, Job, Request, Site, Task
from mycelium.jobs.queue import Queue, Shape, shape_of
from mycelium.nodes.model import Node


class Index:
    """Leases by node, jobs that wait for a job, living jobs that take in a job's outputs, and the queue."""

    def __init__(self) -> None:
        self.leases: dict[NodeId, set[tuple[JobId, int]]] = {}
        self.waiters: dict[JobId, set[JobId]] = {}
        self.takers: dict[JobId, set[JobId]] = {}
        self.queue = Queue()
        self._servable: set[Shape] = set()  # what the nodes of that version could run: a memory of answers, no state
        self._servable_version = -1

    @classmethod
    def of(cls, site: Site) -> Index:
        index = cls()
        for node in site.nodes.by_id.values():
            index.node_changed(node)
        for job in site.jobs.by_id.values():
            for awaited in job.waits_for:
                index.waiters.setdefault(awaited, set()).add(job.id)
            if job.state not in ENDED:
                index.takes(job)
            for task in job.tasks.values():
                if task.state in LEASED:
                    index.lease(job, task)
            index.queue.refresh(job)
        return index

    def node_changed(self, node: Node) -> None:
        self.queue.node_changed(node)

    def is_servable(self, nodes_version: int, request: Request) -> bool:
        """Whether these very nodes were found able to run such a request."""
        if nodes_version != self._servable_version or len(self._servable) >= SHAPES_REMEMBERED_MAX:
            self._servable.clear()
            self._servable_version = nodes_version
        return shape_of(request) in self._servable

    def found_servable(self, request: Request) -> None:
        """After `is_servable` said no, and a look at the nodes said yes."""
        self._servable.add(shape_of(request))

    def takes(self, job: Job) -> None:
        for source in job.request.inputs:
            self.takers.setdefault(source, set()).add(job.id)

    def takes_no_more(self, job: Job) -> None:
        for source in job.request.inputs:
            _drop(self.takers, source, job.id)

    def waits_no_more(self, job: JobId, awaited: JobId) -> None:
        _drop(self.waiters, awaited, job)

    def lease(self, job: Job, task: Task) -> None:
        """Every rank whose step may still run holds its node's devices."""
        for rank in task.live_ranks():
            self.leases.setdefault(task.nodes[rank], set()).add((job.id, task.index))
            self.queue.take(task.nodes[rank], job.request.needs)

    def release(self, job: Job, task: Task, rank: int) -> None:
        node = task.nodes[rank]
        _drop(self.leases, node, (job.id, task.index))
        self.queue.give(node, job.request.needs)

    def leased_on(self, site: Site, node: NodeId) -> Iterator[tuple[Job, Task]]:
        """The tasks that hold a lease on a node, in the order of their names.

        Each is read when its turn comes, so the caller may apply events between two of them.
        """
        for job_id, index in sorted(self.leases.get(node, ())):
            job = site.jobs.by_id[job_id]
            if job.tasks[index].state in LEASED:
                yield job, job.tasks[index]


def _drop(sets: dict[Any, set[Any]], key: object, item: object) -> None:
    """Take an item out of its set; no empty set stays behind."""
    found = sets.get(key)
    if found is not None:
        found.discard(item)
        if not found:
            del sets[key]

"""What should run next, and for what cannot, why not."""

from __future__ import annotations

from msgspec import Struct

from mycelium.base.ids import JobId, NodeId
from mycelium.base.limits import PLACEMENTS_PER_PASS
from mycelium.jobs.model import Site
from mycelium.jobs.queue import Queue


class Place(Struct, frozen=True):
    """Give this task (its next attempt) a lease on these nodes, one per rank."""

    job: JobId
    index: int
    nodes: tuple[NodeId, ...]


def plan(site: Site, queue: Queue, now_ns: int, most: int = PLACEMENTS_PER_PASS) -> list[Place]:
    """First come, first served."""
    placed: list[Place] = []
    used = dict(queue.used)
    for job_id in sorted(queue.waiting, key=lambda job: site.jobs.by_id[job].submitted_ns):
        job = site.jobs.by_id[job_id]
        needs = job.request.needs
        for index in job.next_indices(min(job.placeable, most - len(placed))):
            fits = [
                node.id
                for node in queue.nodes.values()
                if node.open and (node.devices - used.get(node.id, needs * 0)).covers(needs)
            ]
            if len(fits) < job.request.nodes:
                break
            chosen = tuple(fits[: job.request.nodes])
            for node in chosen:
                used[node] = used.get(node, needs * 0) + needs
            placed.append(Place(job_id, index, chosen))
    return placed

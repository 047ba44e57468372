"""The waiting jobs and the free devices, arranged so that a planning pass is quick."""

from __future__ import annotations

from mycelium.base.ids import JobId, NodeId
from mycelium.jobs.model import Job
from mycelium.nodes.model import Devices, Node


class Queue:
    """Kept current by `apply`; read by `plan` and `why`."""

    def __init__(self) -> None:
        self.nodes: dict[NodeId, Node] = {}
        self.used: dict[NodeId, Devices] = {}
        self.waiting: dict[JobId, Job] = {}

    def refresh(self, job: Job) -> None:
        """Take the job in, out, or to its new place, as its record now says."""
        if job.placeable > 0:
            self.waiting[job.id] = job
        else:
            self.waiting.pop(job.id, None)

    def drop(self, job: JobId) -> None:
        self.waiting.pop(job, None)

    def node_changed(self, node: Node) -> None:
        self.nodes[node.id] = node

    def take(self, node: NodeId, devices: Devices) -> None:
        self.used[node] = self.used.get(node, Devices()) + devices

    def give(self, node: NodeId, devices: Devices) -> None:
        self.used[node] = self.used.get(node, Devices()) - devices

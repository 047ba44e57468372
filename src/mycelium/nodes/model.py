"""Nodes and their devices.

Never: reads a clock, opens a file, or knows how a node is reached.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct, field

from mycelium.base.ids import NodeId
from mycelium.base.units import format_cpus, format_size


class Devices(Struct, frozen=True, order=True):
    """An amount of what nodes offer: a value, so it adds, subtracts and compares.

    Units: milli-cpus, bytes, whole gpus.
    """

    cpu_m: int = 0
    memory_bytes: int = 0
    gpus: int = 0

    def __add__(self, other: Devices) -> Devices:
        return Devices(self.cpu_m + other.cpu_m, self.memory_bytes + other.memory_bytes, self.gpus + other.gpus)

    def __sub__(self, other: Devices) -> Devices:
        return Devices(self.cpu_m - other.cpu_m, self.memory_bytes - other.memory_bytes, self.gpus - other.gpus)

    def __mul__(self, times: int) -> Devices:
        return Devices(self.cpu_m * times, self.memory_bytes * times, self.gpus * times)

    def covers(self, other: Devices) -> bool:
        return self.cpu_m >= other.cpu_m and self.memory_bytes >= other.memory_bytes and self.gpus >= other.gpus

    def __str__(self) -> str:
        cpus = "1 cpu" if self.cpu_m == 1000 else f"{format_cpus(self.cpu_m)} cpus"
        gpus = "" if not self.gpus else ", 1 gpu" if self.gpus == 1 else f", {self.gpus} gpus"
        return f"{cpus}, {format_size(self.memory_bytes)}{gpus}"


class NodeState(StrEnum):
    JOINING = "joining"  # asks to join; waits for approval, or for its agent's first word
    UP = "up"
    SUSPECT = "suspect"  # silent for a moment: keeps its work, gets no more
    LOST = "lost"  # silent for long: its work is queued again
    DRAINING = "draining"  # ends its work, gets no more
    DRAINED = "drained"  # empty, and may be switched off
    LEFT = "left"  # taken out of the site


class Node(Struct, frozen=True):
    """A machine, or a share of one."""

    id: NodeId
    name: str
    devices: Devices
    labels: dict[str, str]
    state: NodeState
    since_ns: int  # when it entered `state`
    joined_ns: int
    address: str = "127.0.0.1"
    drain_reason: str = ""  # who drains it; kept while a draining node is suspect or lost
    evict: bool = False  # a drain with --now: its steps are stopped and queued again
    lost_count: int = 0
    machine: str = ""  # the hash of the key of the machine that asked to join; empty for the head's own nodes
    approved: bool = False  # of a machine that asked
    invite: str = ""
    ports: tuple[int, ...] = ()  # that its agent holds for gangs, so that they are free when given

    @property
    def draining(self) -> bool:
        return bool(self.drain_reason)

    @property
    def waiting(self) -> bool:
        """Whether it asks to join, and needs somebody's word."""
        return self.state is NodeState.JOINING and not self.approved

    @property
    def present(self) -> bool:
        """Whether it belongs to the site, in whatever state."""
        return self.state is not NodeState.LEFT and self.state is not NodeState.JOINING

    @property
    def open(self) -> bool:
        """Whether new work may be placed here."""
        return self.state is NodeState.UP


class Nodes(Struct):
    """All nodes of the site, and the moments of the last evictions (for their rate limit)."""

    by_id: dict[NodeId, Node] = field(default_factory=dict)
    next_number: int = 1
    evicted_ns: list[int] = field(default_factory=list)
    version: int = 0  # grows with every change, so that what is derived from nodes can be kept

"""The nodes as arrays: what each has, what is taken of it, whether it takes work, and which terms its labels meet.

Slots are in the order of the nodes' numbers, whatever the order in which they became known.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mycelium.base.ids import NodeId, number_of
from mycelium.base.limits import TERMS_REMEMBERED_MAX
from mycelium.nodes.model import Devices, Node
from mycelium.nodes.select import unmet

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
DEVICES = 3  # rows: milli-cpus, bytes, gpus


def row_of(devices: Devices) -> Ints:
    return np.array((devices.cpu_m, devices.memory_bytes, devices.gpus), dtype=np.int64)


class NodeTable:
    """One column a node. `total - used` is free; it is negative where a node has shrunk below what it runs."""

    def __init__(self) -> None:
        self.ids: list[NodeId] = []
        self.nodes: list[Node | None] = []  # None: devices were taken on a node that nobody has described yet
        self.slots: dict[NodeId, int] = {}
        self.total: Ints = np.zeros((DEVICES, 0), dtype=np.int64)
        self.used: Ints = np.zeros((DEVICES, 0), dtype=np.int64)
        self.open: Flags = np.zeros(0, dtype=np.bool_)
        self.present: Flags = np.zeros(0, dtype=np.bool_)  # not taken out of the site
        self._met: dict[str, Flags] = {}  # by term: a memory of what the labels say, no state

    def __len__(self) -> int:
        return len(self.ids)

    def node_changed(self, node: Node) -> None:
        slot = self.slot(node.id)
        known = self.nodes[slot]
        if known is None or known.labels != node.labels:
            self._met.clear()
        self.nodes[slot] = node
        self.total[:, slot] = row_of(node.devices)
        self.open[slot] = node.open
        self.present[slot] = node.present

    def slot(self, node: NodeId) -> int:
        """The node's column. One that nobody has described yet gets one, without devices and closed."""
        slot = self.slots.get(node)
        return self._add(node) if slot is None else slot

    def take(self, node: NodeId, devices: Devices) -> None:
        self.used[:, self.slot(node)] += (devices.cpu_m, devices.memory_bytes, devices.gpus)

    def give(self, node: NodeId, devices: Devices) -> None:
        self.used[:, self.slot(node)] -= (devices.cpu_m, devices.memory_bytes, devices.gpus)

    def accepts(self, terms: tuple[str, ...]) -> Flags:
        """Which nodes' labels meet all terms."""
        met = np.ones(len(self.ids), dtype=np.bool_)
        for term in terms:
            met &= self._meets(term)
        return met

    def _meets(self, term: str) -> Flags:
        known = self._met.get(term)
        if known is None:
            if len(self._met) >= TERMS_REMEMBERED_MAX:
                self._met.clear()
            known = np.array([node is not None and not unmet((term,), node.labels) for node in self.nodes], np.bool_)
            self._met[term] = known
        return known

    def _add(self, node: NodeId) -> int:
        """A column for a node, at its place. Cost: copies the table; nodes join rarely."""
        number = number_of(node)
        slot = len(self.ids)
        while slot and number_of(self.ids[slot - 1]) > number:
            slot -= 1
        self.ids.insert(slot, node)
        self.nodes.insert(slot, None)
        if slot == len(self.ids) - 1:
            self.slots[node] = slot
        else:
            self.slots = {name: place for place, name in enumerate(self.ids)}
        self.total = np.insert(self.total, slot, 0, axis=1)
        self.used = np.insert(self.used, slot, 0, axis=1)
        self.open = np.insert(self.open, slot, False)
        self.present = np.insert(self.present, slot, False)
        self._met.clear()
        return slot

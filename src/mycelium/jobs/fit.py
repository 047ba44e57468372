"""Where a shape fits within one pass: what is free now, and what of it is not kept for jobs that wait.

Level 0 is what is free now. Level k is what a task may take that still runs when the first k planned starts come: never
more than is free now, and on their nodes never more than they leave over. A pass only ever takes, so what did not fit
once does not fit later.
Never: decides whose turn it is.
Source: EASY backfill (Lifka 1995; Mu'alem and Feitelson 2001), for several planned starts and several devices.
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

from mycelium.jobs.queue import Shape
from mycelium.jobs.table import Flags, Ints, NodeTable, row_of
from mycelium.nodes.model import Devices

UNBOUND = np.int64(1) << 62  # what a planned start leaves over on a node that is none of its own
FOREVER_NS = 1 << 62
REFUSALS_COMPARED = 16  # beyond it, comparing costs more than the checks that it saves


class Wanted:
    """A shape in a pass: the nodes that may take it, and from which end on it is known not to fit."""

    __slots__ = ("cost", "mask", "needs", "nodes", "refused_ns", "shape", "thrifty", "unplaced")

    def __init__(self, shape: Shape, mask: Flags, scale: NDArray[np.float64]) -> None:
        self.shape = shape
        self.mask = mask
        self.needs = row_of(shape.needs)
        self.nodes = shape.nodes
        self.cost = float(self.needs @ scale)  # how much fuller it makes a node
        self.thrifty = shape.needs.gpus == 0  # it keeps off nodes with gpus while others fit
        self.refused_ns = FOREVER_NS  # tasks that end then or later do not fit; 0: nothing is free for it at all
        self.unplaced = False  # a job of this shape found no place


class Fit:
    """The free table of one pass."""

    def __init__(self, table: NodeTable, used: Ints) -> None:
        self.table = table
        self.free: Ints = table.total - used
        most = table.total.max(axis=1, initial=1)
        self.scale: NDArray[np.float64] = 1.0 / np.maximum(most, 1)
        self.rest: NDArray[np.float64] = self.scale @ self.free  # how empty each node is: the fullest is chosen
        self.rest_thrifty: NDArray[np.float64] = self.rest + 100.0 * (table.total[2] > 0)
        self.starts: list[int] = []  # that are planned for those who wait, earliest first
        self.left: Ints = self.free[None]  # by level: free, then what each planned start leaves over
        self.usable: Ints = self.left  # by level: the least of the levels up to it
        self._masks: dict[tuple[str, ...], Flags] = {}
        self._wanted: dict[Shape, Wanted] = {}
        self._too_much: dict[tuple[str, ...], list[tuple[Devices, int]]] = {}

    def wanted(self, shape: Shape) -> Wanted:
        known = self._wanted.get(shape)
        if known is None:
            mask = self._masks.get(shape.terms)
            if mask is None:
                mask = self._masks[shape.terms] = self.table.open & self.table.accepts(shape.terms)
            known = self._wanted[shape] = Wanted(shape, mask, self.scale)
        return known

    def hopeless(self, wanted: Wanted, end_ns: int) -> bool:
        """Whether what was refused before says that a task which ends then will not fit either."""
        if end_ns >= wanted.refused_ns:
            return True
        known = self._too_much.get(wanted.shape.terms)
        if known is None:
            return False
        needs, nodes = wanted.shape.needs, wanted.nodes
        for less, of_nodes in known:
            if of_nodes <= nodes and needs.covers(less):
                wanted.refused_ns = 0
                return True
        return False

    def ever(self, wanted: Wanted) -> bool:
        """Whether the open nodes could take it, were nothing running."""
        return int((wanted.mask & (self.table.total >= wanted.needs[:, None]).all(axis=0)).sum()) >= wanted.nodes

    def level(self, end_ns: int) -> int:
        """The level of a task that would end then: starts planned for then or later do not mind it."""
        return bisect_left(self.starts, end_ns) if self.starts else 0

    def find(self, wanted: Wanted, level: int) -> list[int] | None:
        """The fullest nodes that fit, in the order of their numbers; None when there are too few."""
        usable, needs = self.usable[level], wanted.needs
        fits = wanted.mask & (usable[0] >= needs[0])
        fits &= usable[1] >= needs[1]
        if not wanted.thrifty:
            fits &= usable[2] >= needs[2]
        rest = self.rest_thrifty if wanted.thrifty else self.rest
        if wanted.nodes == 1:
            slot = int(np.where(fits, rest, np.inf).argmin()) if len(fits) else 0
            return [slot] if len(fits) and fits[slot] else None
        slots = np.flatnonzero(fits)
        if len(slots) < wanted.nodes:
            return None
        return sorted(slots[np.argsort(rest[slots], kind="stable")[: wanted.nodes]].tolist())

    def take(self, wanted: Wanted, slots: list[int], level: int) -> None:
        """A task of this shape begins there, and ends before the starts above its level."""
        for slot in slots:
            self.rest[slot] -= wanted.cost
            self.rest_thrifty[slot] -= wanted.cost
            self.left[: level + 1, :, slot] -= wanted.needs
            if self.starts:
                self.usable[:, :, slot] = np.minimum.accumulate(self.left[:, :, slot], axis=0)

    def refuse(self, wanted: Wanted, end_ns: int) -> None:
        """Remember that it did not fit for a task that ends then; 0: that too little is free at all."""
        wanted.refused_ns = min(wanted.refused_ns, end_ns)
        if end_ns:
            return
        known = self._too_much.setdefault(wanted.shape.terms, [])
        if len(known) < REFUSALS_COMPARED:
            known.append((wanted.shape.needs, wanted.nodes))

    def keep(self, start_ns: int, slots: list[int], spare: Ints) -> None:
        """Keep those nodes from `start_ns` on; `spare` is what is left over on each then."""
        level = bisect_left(self.starts, start_ns) + 1
        leaves = np.full_like(self.free, UNBOUND)
        leaves[:, slots] = spare
        self.starts.insert(level - 1, start_ns)
        self.left = np.insert(self.left, level, leaves, axis=0)
        self.free = self.left[0]
        self.usable = np.minimum.accumulate(self.left, axis=0)

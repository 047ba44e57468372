"""What should run next: who, in which order, on which nodes.

Order: the priority class; in it the account that has had least (`share.py`), counting each placement at once; of an
account the oldest job. A job that finds no place keeps nodes for the earliest moment at which it could start
(`reserve.py`), and whoever comes after it may start only beside it, or if it ends before. The nodes chosen are the
fullest that fit, and those with gpus only where others do not.
Never: changes the site or the queue. The same site gives the same plan.
Cost: a look at the nodes for each placement and each shape, not for each job; leases are read only to backfill.
"""

from __future__ import annotations

from heapq import heapify, heappop, heapreplace

from msgspec import Struct

from mycelium.base.ids import AccountId, JobId, NodeId, number_of
from mycelium.base.limits import JOBS_KEPT_FOR_MAX, PLACEMENTS_PER_PASS
from mycelium.base.units import MS_NS
from mycelium.jobs.fit import Fit, Wanted
from mycelium.jobs.leases import Leases
from mycelium.jobs.model import Job, Site
from mycelium.jobs.queue import Queue, Shape
from mycelium.jobs.reserve import Reserved, earliest
from mycelium.jobs.share import growth
from mycelium.jobs.table import Ints
from mycelium.jobs.world import LineView, World
from mycelium.nodes.model import Devices


class Place(Struct, frozen=True):
    """Give this task (its next attempt) a lease on these nodes, one per rank."""

    job: JobId
    index: int
    nodes: tuple[NodeId, ...]


def plan(site: Site, queue: Queue, now_ns: int, most: int = PLACEMENTS_PER_PASS) -> list[Place]:
    """The placements that are due, in the order in which they were decided."""
    if not len(queue):
        return []
    ids = queue.table.ids
    return [
        Place(given.job.id, given.index, tuple(ids[slot] for slot in given.slots))
        for given in Pass(World(site, queue, now_ns)).run(most)
    ]


class Placement:
    """A placement, in the terms of a pass."""

    __slots__ = ("index", "job", "slots")

    def __init__(self, job: Job, index: int, slots: list[int]) -> None:
        self.job = job
        self.index = index
        self.slots = slots


class KeptNodes(Struct, frozen=True):
    """Nodes that a pass keeps for a job that could not start."""

    number: int
    wanted: Wanted
    reserved: Reserved


class AccountTurn:
    """An account in a class: how it is served so far, and its lines by the age of their first job."""

    __slots__ = ("account", "lines", "number", "share", "weight")

    def __init__(self, world: World, account: AccountId) -> None:
        self.account = account
        self.number = number_of(account)
        self.share = world.share(account)
        self.weight = world.weight(account)
        self.lines: list[tuple[int, int, LineView, Wanted]] | None = None


class Pass:
    """One look at everything that waits."""

    def __init__(self, world: World, watch: Shape | None = None) -> None:
        self.world = world
        self.watch = watch  # a shape of which it is asked what was free when it found no place
        self.seen: Ints | None = None  # that
        self.fit = Fit(world.table, world.used)
        self.given: list[Placement] = []
        self.kept: list[KeptNodes] = []
        self._unplaced: list[tuple[int, Wanted, int]] = []  # nodes are not yet kept for: number, shape, time limit
        self._leases: Leases | None = None
        self._new: list[tuple[int, int, Devices]] = []  # leases of this pass that `_leases` does not hold yet

    def run(self, most: int, until: int = 0) -> list[Placement]:
        """Place what can be placed, no more than `most` tasks and none after the first of the job numbered `until`."""
        for priority in self.world.classes():
            turns = [AccountTurn(self.world, account) for account in self.world.waiting_accounts(priority)]
            heap = [(turn.share, turn.number, turn) for turn in turns]
            heapify(heap)
            while heap:
                if len(self.given) >= most:
                    return self.given
                turn = heap[0][2]
                if self._serve(priority, turn):
                    if until and number_of(self.given[-1].job.id) == until:
                        return self.given
                    heapreplace(heap, (turn.share, turn.number, turn))
                else:
                    heappop(heap)
        return self.given

    def _serve(self, priority: int, turn: AccountTurn) -> bool:
        """Place one task of an account; False when none of its lines has one that fits."""
        lines = turn.lines
        if lines is None:
            lines = turn.lines = self._lines(priority, turn.account)
        while lines:
            number, order, view, wanted = lines[0]
            end_ns = self.world.now_ns + view.line.time_ms * MS_NS
            slots = None if self.fit.hopeless(wanted, end_ns) else self._find(wanted, end_ns)
            if slots is None:
                if self.watch is not None and self.seen is None and wanted.shape == self.watch:
                    self.seen = self.fit.free.copy()
                self._remember(number, wanted, view.line.time_ms)
                heappop(lines)
                continue
            taken = view.take()
            head = view.head()
            if head is None:
                heappop(lines)
            elif head != number:
                heapreplace(lines, (head, order, view, wanted))
            if taken is None:
                continue
            job, index = taken
            self._take(wanted, slots, end_ns)
            self.given.append(Placement(job, index, slots))
            turn.share += growth(job.request, turn.weight)
            return True
        return False

    def _lines(self, priority: int, account: AccountId) -> list[tuple[int, int, LineView, Wanted]]:
        heap: list[tuple[int, int, LineView, Wanted]] = []
        for order, view in enumerate(self.world.views(priority, account)):
            head = view.head()
            if head is not None:
                heap.append((head, order, view, self.fit.wanted(view.line.shape)))
        heapify(heap)
        return heap

    def _find(self, wanted: Wanted, end_ns: int) -> list[int] | None:
        """Nodes for a task that ends then, beside what is kept for others."""
        fit = self.fit
        if self._unplaced or not fit.starts:
            slots = fit.find(wanted, 0)
            if slots is None:
                fit.refuse(wanted, 0)
                return None
            if self._unplaced:
                self._keep()
            if not fit.starts:
                return slots
        level = fit.level(end_ns)
        slots = fit.find(wanted, level)
        if slots is None:
            fit.refuse(wanted, end_ns if level and fit.find(wanted, 0) is not None else 0)
        return slots

    def _take(self, wanted: Wanted, slots: list[int], end_ns: int) -> None:
        self.fit.take(wanted, slots, self.fit.level(end_ns))
        self._new += [(end_ns, slot, wanted.shape.needs) for slot in slots]

    def _remember(self, number: int, wanted: Wanted, time_ms: int) -> None:
        """Remember the first job of a shape that found no place; nodes are kept for it once others could take them."""
        if wanted.unplaced or len(self.kept) >= JOBS_KEPT_FOR_MAX:
            return
        wanted.unplaced = True
        self._unplaced.append((number, wanted, time_ms))

    def _keep(self) -> None:
        """Keep nodes for those who found no place, in their order, until there are enough who have some."""
        for number, wanted, time_ms in self._unplaced:
            if len(self.kept) >= JOBS_KEPT_FOR_MAX:
                break
            reserved = self._earliest(wanted)
            if reserved is None:
                continue
            self.fit.keep(reserved.start_ns, reserved.slots, reserved.spare)
            self.kept.append(KeptNodes(number, wanted, reserved))
            end_ns = reserved.start_ns + time_ms * MS_NS
            self._new += [(end_ns, slot, wanted.shape.needs) for slot in reserved.slots]
        self._unplaced = []

    def _earliest(self, wanted: Wanted) -> Reserved | None:
        """When and where a job could start, if everybody runs to the limit and those before it are served first."""
        if not self.fit.ever(wanted):
            return None
        if self._leases is None:
            self._leases = self.world.leases()
        if self._new:
            self._leases += Leases.of(self._new)
            self._new = []
        free = self.fit.free.copy()
        for kept in self.kept:  # as if they ran already: so no two jobs are promised the same devices
            free[:, kept.reserved.slots] -= kept.wanted.needs[:, None]
        return earliest(free, self._leases, wanted, self.world.now_ns)

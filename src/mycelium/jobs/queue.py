"""The waiting jobs and the nodes' devices, arranged so that a planning pass is quick.

Waiting jobs that differ only in age stand in one line: a pass looks at a line's first job, and where that does not
fit, at none of the others. A hundred thousand jobs of fifty shapes are a few hundred lines.
Never: holds anything that is not derived from the site.
"""

from __future__ import annotations

from bisect import bisect_left

from msgspec import Struct

from mycelium.base.ids import AccountId, JobId, NodeId, number_of
from mycelium.base.units import MS_NS
from mycelium.jobs.leases import HeldLeases
from mycelium.jobs.model import Job, Request, Sandbox
from mycelium.jobs.table import NodeTable
from mycelium.nodes.model import Devices, Node

SANDBOXED = "sandbox=process"  # what the label of a node says that can keep a step to itself


class Shape(Struct, frozen=True):
    """What a request needs of the nodes: requests of one shape fit or fail together."""

    needs: Devices
    nodes: int
    terms: tuple[str, ...]


def shape_of(request: Request) -> Shape:
    """The shape of a request. The sandbox it asks for is a need like any label."""
    terms = (*request.on, SANDBOXED) if request.sandbox is Sandbox.PROCESS else request.on
    return Shape(request.needs, request.nodes, terms)


class QueueLine:
    """Numbers of waiting jobs of one account, class, shape and time limit, oldest first.

    Cost: constant at both ends, where nearly everything happens; a move of the numbers behind it elsewhere.
    """

    __slots__ = ("account", "numbers", "priority", "shape", "start", "time_ms")

    def __init__(self, priority: int, account: AccountId, shape: Shape, time_ms: int) -> None:
        self.priority = priority
        self.account = account
        self.shape = shape
        self.time_ms = time_ms
        self.numbers: list[int] = []
        self.start = 0  # the numbers before it have left

    def __len__(self) -> int:
        return len(self.numbers) - self.start

    def add(self, number: int) -> None:
        if not self or self.numbers[-1] < number:
            self.numbers.append(number)
        elif self.start and number < self.numbers[self.start]:
            self.start -= 1
            self.numbers[self.start] = number
        else:
            self.numbers.insert(bisect_left(self.numbers, number, self.start), number)

    def remove(self, number: int) -> None:
        if self.numbers[self.start] == number:
            self.start += 1
            if self.start * 2 > len(self.numbers):
                del self.numbers[: self.start]
                self.start = 0
        else:
            del self.numbers[bisect_left(self.numbers, number, self.start)]

    def waiting(self) -> list[int]:
        return self.numbers[self.start :]


Lines = dict[tuple[Shape, int], QueueLine]


class Queue:
    """Kept current by `apply`; read by `plan` and `why`."""

    def __init__(self) -> None:
        self.table = NodeTable()
        self.classes: dict[int, dict[AccountId, Lines]] = {}
        self.places: dict[JobId, QueueLine] = {}  # of every waiting job
        self.held = HeldLeases()  # of jobs of one task on one node
        self.several: set[JobId] = set()  # arrays and gangs that hold leases
        self.lines = 0  # how many there are

    def __len__(self) -> int:
        return len(self.places)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Queue) and self._facts() == other._facts()

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def _facts(self) -> object:
        """What the queue says, whatever the way it came to say it."""
        table = self.table
        lines = {
            (line.priority, line.account, line.shape, line.time_ms): line.waiting()
            for accounts in self.classes.values()
            for lines in accounts.values()
            for line in lines.values()
        }
        return table.ids, table.nodes, table.used.tolist(), lines, set(self.places), self.several, self.held.facts()

    def refresh(self, job: Job) -> None:
        """Take the job in or out, as its record now says. Its age is its number, so it keeps its place for life."""
        place = self.places.get(job.id)
        if job.placeable > 0:
            if place is None:
                self._enter(job)
        elif place is not None:
            self._leave(job.id, place)
        request = job.request
        if request.array is not None or request.nodes > 1:
            if job.leased:
                self.several.add(job.id)
            else:
                self.several.discard(job.id)
        elif job.leased:
            task = job.tasks[0]
            # A cancelled job is being stopped: it is over its time, and what that means is for the reader to say.
            end_ns = 0 if job.cancelled else task.placed_ns + request.time_ms * MS_NS
            self.held.set(job.id, (end_ns, self._slot(task.nodes[0]), request.needs))
        else:
            self.held.set(job.id, None)

    def drop(self, job: JobId) -> None:
        place = self.places.get(job)
        if place is not None:
            self._leave(job, place)
        self.several.discard(job)
        self.held.set(job, None)

    def node_changed(self, node: Node) -> None:
        self._slot(node.id)
        self.table.node_changed(node)

    def take(self, node: NodeId, devices: Devices) -> None:
        self._slot(node)
        self.table.take(node, devices)

    def give(self, node: NodeId, devices: Devices) -> None:
        self._slot(node)
        self.table.give(node, devices)

    def _slot(self, node: NodeId) -> int:
        if node not in self.table.slots:
            self.held.insert_slot(self.table.slot(node))
        return self.table.slots[node]

    def _enter(self, job: Job) -> None:
        request = job.request
        lines = self.classes.setdefault(int(request.priority), {}).setdefault(job.account, {})
        shape = shape_of(request)
        line = lines.get((shape, request.time_ms))
        if line is None:
            line = lines[shape, request.time_ms] = QueueLine(int(request.priority), job.account, shape, request.time_ms)
            self.lines += 1
        line.add(number_of(job.id))
        self.places[job.id] = line

    def _leave(self, job: JobId, line: QueueLine) -> None:
        line.remove(number_of(job))
        del self.places[job]
        if line:
            return
        self.lines -= 1
        accounts = self.classes[line.priority]
        lines = accounts[line.account]
        del lines[line.shape, line.time_ms]
        if not lines:
            del accounts[line.account]
            if not accounts:
                del self.classes[line.priority]

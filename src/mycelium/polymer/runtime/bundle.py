"""One operation while it runs: what is still to be sent of it, what is on the way, what has come back.

A bundle cuts its calls into batches of a size chosen when a worker asks. Never: talks to a pool.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from mycelium.polymer.kernel import Kernel
from mycelium.polymer.runtime.costs import GROWTH, SHARE, Cost
from mycelium.polymer.runtime.pool import BatchDone, Raised, Shared, Work
from mycelium.polymer.runtime.work import FAN, width

REST = "rest"  # calls that a worker left undone: cut into batches when they are asked for, never sent as they are
EAGER_CALLS = 8_192  # in a first batch of unknown cost: numbers that fit one packet
_TINY = (bool, int, float)


class Bundle:
    """The batches of one operation. Subclasses say how they are cut and put together."""

    def __init__(self, at: int, kernel: Kernel, cost: Cost) -> None:
        self.at, self.kernel, self.cost = at, kernel, cost
        self.again: deque[Work] = deque()  # batches to be sent once more
        self.sent: dict[int, Work] = {}  # id: on the way
        self.failed: tuple[int, Raised] | None = None  # the failed call with the lowest index

    def cut(self, slots: int) -> Work | None:
        raise NotImplementedError

    def less(self, rest: Work, slots: int) -> Work:
        """The next batch of what a worker left undone."""
        raise NotImplementedError

    def keep(self, work: Work, given: BatchDone) -> None:
        raise NotImplementedError

    def finished(self) -> bool:
        raise NotImplementedError

    def result(self) -> Any:
        raise NotImplementedError

    def next(self, slots: int) -> Work | None:
        while self.again:
            work = self.again.popleft()
            if self.failed is None or work.first < self.failed[0]:
                return work if work.how != REST else self.less(work, slots)
        return self.cut(slots) if self.failed is None else None

    def fail(self, work: Work, raised: Raised) -> None:
        index = work.first + raised.index
        if self.failed is None or index < self.failed[0]:
            self.failed = (index, raised)

    def settled(self) -> bool:
        """Whether nothing on the way can change the outcome: all is back, or nothing before the failed call is
        missing.
        """
        if self.failed is None:
            return self.finished()
        lowest = self.failed[0]
        return not any(work.first < lowest for work in (*self.sent.values(), *self.again))

    def waiting(self) -> bool:
        """Whether there is something to cut again: a tree's next level."""
        return False

    def progress(self) -> tuple[int, int]:
        """Calls done, and calls in all."""
        return (1, 1) if self.finished() else (0, 1)


class One(Bundle):
    """An operation that is one batch: a call, a fold in order, a scan, a loop."""

    def __init__(
        self,
        at: int,
        kernel: Kernel,
        cost: Cost,
        how: str,
        values: tuple[Any, ...],
        *,
        each: Kernel | None = None,
        test: Kernel | None = None,
        keep: Callable[[Any], None] | None = None,
    ) -> None:
        super().__init__(at, kernel, cost)
        self.keep_result = keep
        self.work: Work | None = Work(how, kernel, values, cost_ns=int(cost.call_ns), place=self, each=each, test=test)
        self.value: list[Any] = []

    def cut(self, slots: int) -> Work | None:
        work, self.work = self.work, None
        return work

    def keep(self, work: Work, given: BatchDone) -> None:
        self.cost.measured(1, given.spent_ns)
        self.value.append(given.value)
        if self.keep_result is not None:
            self.keep_result(given.value)

    def finished(self) -> bool:
        return bool(self.value)

    def result(self) -> Any:
        return self.value[0]


class Many(Bundle):
    """A map: results in the order of the calls, whatever the order in which they come.

    `trip_ns`: see `Pool`. Where a round trip is dear, the first batch is not small, but workers may do a part of it
    (`some`), and no batch should take less than a trip.
    """

    def __init__(
        self,
        at: int,
        kernel: Kernel,
        cost: Cost,
        columns: list[Any],
        shared: list[tuple[int, Shared]],
        *,
        trip_ns: int = 0,
    ) -> None:
        super().__init__(at, kernel, cost)
        self.trip_ns = trip_ns
        self.eager = trip_ns > 0 and all(len(column) and type(column[0]) in _TINY for column in columns)
        self.columns, self.shared = columns, shared
        self.total = len(columns[0])
        self.cursor = 0
        self.back = 0
        self.parts: dict[int, list[Any]] = {}
        self.seen: set[int] = set()

    def cut(self, slots: int) -> Work | None:
        first = self.cursor
        if first >= self.total:
            return None
        left = self.total - first
        if self.eager and not self.cost.calls:
            count = max(1, min(EAGER_CALLS, left // (slots * SHARE)))
            self.cursor = first + count
            work = self.piece(first, count)
            work.how = "some"
            return work
        count = self._count(left, slots)
        self.cursor = first + count
        return self.piece(first, count)

    def less(self, rest: Work, slots: int) -> Work:
        count = self._count(rest.calls, slots)
        if count < rest.calls:
            self._left(rest.first + count, rest.calls - count)
        return self.piece(rest.first, count)

    def _count(self, left: int, slots: int) -> int:
        count = self.cost.batch(left, slots)
        if self.trip_ns and self.cost.calls:
            worth = int(self.trip_ns / max(self.cost.call_ns, 1.0))
            count = max(count, min(worth, left, self.cost.largest * GROWTH))
        return count

    def _left(self, first: int, count: int) -> None:
        self.again.appendleft(Work(REST, self.kernel, (), calls=count, first=first, place=self))

    def waiting(self) -> bool:
        return bool(self.again)

    def piece(self, first: int, count: int) -> Work:
        values = ([column[first : first + count] for column in self.columns], self.shared)
        return Work(
            "each", self.kernel, values, calls=count, first=first, cost_ns=int(self.cost.call_ns * count), place=self
        )

    def halves(self, work: Work) -> list[Work]:
        """The batch as two, so that the call that kills its worker is found and the others are not lost with it."""
        middle = work.calls // 2
        parts = [self.piece(work.first, middle), self.piece(work.first + middle, work.calls - middle)]
        for part in parts:
            part.lost = 1
            part.cost_ns = 0
        return parts

    def keep(self, work: Work, given: BatchDone) -> None:
        done = len(given.value) if work.how == "some" else work.calls
        if done < work.calls:
            self._left(work.first + done, work.calls - done)
        self.cost.measured(done, given.spent_ns)
        self.parts[work.first] = given.value
        self.back += done

    def finished(self) -> bool:
        return self.back == self.total

    def result(self) -> list[Any]:
        if len(self.parts) == 1:
            return next(iter(self.parts.values()))
        out: list[Any] = []
        for first in sorted(self.parts):
            out += self.parts[first]
        return out

    def progress(self) -> tuple[int, int]:
        return self.back, self.total


class Remembered(Many):
    """A map of which some results are known already: only the others are calls."""

    def __init__(
        self,
        at: int,
        kernel: Kernel,
        cost: Cost,
        columns: list[Any],
        shared: list[tuple[int, Shared]],
        known: dict[int, Any],
        keep: Callable[[int, Any], None],
    ) -> None:
        self.missing = [index for index in range(len(columns[0])) if index not in known]
        super().__init__(at, kernel, cost, [[column[index] for index in self.missing] for column in columns], shared)
        self.known, self.keep_result = known, keep

    def keep(self, work: Work, given: BatchDone) -> None:
        super().keep(work, given)
        for index, value in zip(self.missing[work.first : work.first + work.calls], given.value, strict=True):
            self.keep_result(index, value)

    def fail(self, work: Work, raised: Raised) -> None:
        raised.index = self.missing[work.first + raised.index] - work.first
        super().fail(work, raised)

    def result(self) -> list[Any]:
        fresh = dict(zip(self.missing, super().result(), strict=True)) | self.known
        return [fresh[index] for index in range(len(fresh))]


class FoldTree(Many):
    """An associative fold: nodes of the fixed tree first, in parallel, then the nodes' own tree, until one is left."""

    def __init__(self, at: int, kernel: Kernel, cost: Cost, xs: Any, each: Kernel | None, slots: int) -> None:
        super().__init__(at, kernel, cost, [xs], [])
        self.each, self.slots = each, slots
        self._size()

    def _size(self) -> None:
        """The largest node that leaves each slot a few of them."""
        self.node = FAN
        while self.node * FAN * self.slots * 4 <= self.total:
            self.node *= FAN

    def cut(self, slots: int) -> Work | None:
        first = self.cursor
        if first >= self.total:
            return None
        count = self.cost.batch(self.total - first, slots)
        count = min(self.total - first, max(1, count // self.node) * self.node)
        self.cursor = first + count
        return self.piece(first, count)

    def piece(self, first: int, count: int) -> Work:
        values = (self.columns[0][first : first + count], self.node)
        return Work(
            "trees",
            self.kernel,
            values,
            calls=count,
            first=first,
            cost_ns=int(self.cost.call_ns * count),
            place=self,
            each=self.each,
        )

    def halves(self, work: Work) -> list[Work]:
        if work.calls <= self.node:
            return [work.again()]
        middle = work.calls // self.node // 2 * self.node or self.node
        parts = [self.piece(work.first, middle), self.piece(work.first + middle, work.calls - middle)]
        for part in parts:
            part.lost = 1
            part.cost_ns = 0
        return parts

    def finished(self) -> bool:
        if self.back < self.total:
            return False
        nodes = Many.result(self)
        if len(nodes) == 1:
            return True
        self.columns, self.total, self.each = [nodes], len(nodes), None
        self.cursor = self.back = 0
        self.parts = {}
        self._size()
        return False

    def waiting(self) -> bool:
        return self.cursor < self.total

    def result(self) -> Any:
        return Many.result(self)[0]


class Prefix(FoldTree):
    """An associative scan: blocks by themselves, then what comes before each, then both together."""

    def __init__(
        self, at: int, kernel: Kernel, cost: Cost, xs: Any, each: Kernel | None, slots: int, init: list[Any]
    ) -> None:
        super().__init__(at, kernel, cost, xs, each, slots)
        self.init = init
        self.how = "scans"
        self.blocks: list[list[Any]] = []
        self.alone: list[list[Any]] = []  # the first block, where nothing comes before it
        self.before: list[Any] = []

    def _size(self) -> None:
        self.node = width(self.total)

    def piece(self, first: int, count: int) -> Work:
        more: Any = self.init if self.how == "scan" else self.before[first : first + count]
        xs = self.columns[0] if self.how == "scan" else self.columns[0][first : first + count]
        values = (xs, self.node if self.how == "scans" else more)
        cost_ns = int(self.cost.call_ns * count)
        return Work(
            self.how, self.kernel, values, calls=count, first=first, cost_ns=cost_ns, place=self, each=self.each
        )

    def _next(self, how: str, xs: list[Any], total: int) -> None:
        """Begin the next of the three rounds, whose calls cost something else than those of the last."""
        self.how, self.columns, self.total, self.each = how, [xs], total, None
        self.cost, self.node = Cost(), 1
        self.cursor = self.back = 0
        self.parts = {}

    def finished(self) -> bool:
        if self.back < self.total:
            return False
        match self.how:
            case "scans":
                self.blocks = Many.result(self)
                self._next("scan", [block[-1] for block in self.blocks[:-1]], 1)
            case "scan":
                self.before = [*self.init, *Many.result(self)]
                alone = 0 if self.init else 1
                self.alone = self.blocks[:alone]
                self._next("shifts", self.blocks[alone:], len(self.blocks) - alone)
                return self.total == 0
            case _:
                return True
        return False

    def fail(self, work: Work, raised: Raised) -> None:
        """The call is named by the element at which it was, also where a batch counts blocks."""
        if self.how != "scans":
            before = [*self.alone, *self.blocks[len(self.alone) :][: work.first]]
            raised.index += sum(map(len, before)) - work.first
        super().fail(work, raised)

    def result(self) -> list[Any]:
        moved = Many.result(self) if self.total else []
        return [x for block in (*self.alone, *moved) for x in block]

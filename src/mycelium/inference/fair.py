"""Who is next: a queue that is fair between keys, with the lines of batches behind everybody.

Start-time fair queueing: each key has a clock that runs on by the cost of what it asks, and the item with the earliest
start goes first. A flood from one key lines up behind itself.
Never: reads a clock, or waits.

Source: Goyal, Vin, Cheng: Start-time Fair Queueing (SIGCOMM 1996).
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Items of one deployment. `T` must be hashable by identity."""

    def __init__(self) -> None:
        self._now = 0.0  # the start of what went last
        self._ends: dict[str, float] = {}  # by key: when its newest item is through
        self._heap: list[tuple[bool, float, int, str, T]] = []  # batches last, then by start, then by arrival
        self._numbers = itertools.count()
        self._gone: set[int] = set()
        self._waiting: dict[str, int] = {}
        self._batch = 0

    def __len__(self) -> int:
        """Those that are no lines of batches."""
        return sum(self._waiting.values())

    @property
    def batch_lines(self) -> int:
        return self._batch

    def waiting_of(self, key: str) -> int:
        return self._waiting.get(key, 0)

    def push(self, key: str, cost: float, item: T, *, batch: bool = False) -> int:
        """Line up; the number is for `drop`. Batches of one key are apart from its other requests."""
        start = self._charge(key, cost, batch)
        number = next(self._numbers)
        heapq.heappush(self._heap, (batch, start, number, key, item))
        self._count(key, batch, 1)
        return number

    def pass_by(self, key: str, cost: float, *, batch: bool = False) -> None:
        """It need not line up, as there is a place; it is charged all the same."""
        start = self._charge(key, cost, batch)
        if not batch:
            self._now = max(self._now, start)
        self._forget()

    def _charge(self, key: str, cost: float, batch: bool) -> float:
        line = f"batch {key}" if batch else key
        start = max(self._now, self._ends.get(line, 0.0))
        self._ends[line] = start + max(cost, 1.0)
        return start

    def pop(self, may: Callable[[str, bool], bool] = lambda key, batch: True) -> T | None:
        """The next one; None when nobody waits, or the next one's key may not go. Nobody overtakes the next one."""
        while self._heap:
            batch, start, number, key, item = self._heap[0]
            if number in self._gone:
                heapq.heappop(self._heap)
                self._gone.discard(number)
                continue
            if not may(key, batch):
                return None
            heapq.heappop(self._heap)
            self._count(key, batch, -1)
            if not batch:
                self._now = max(self._now, start)
            self._forget()
            return item
        return None

    def drop(self, number: int, key: str, *, batch: bool = False) -> None:
        """Somebody gave up waiting. Call it once, and only while it waits."""
        self._gone.add(number)
        self._count(key, batch, -1)

    def _count(self, key: str, batch: bool, by: int) -> None:
        if batch:
            self._batch += by
            return
        left = self._waiting.get(key, 0) + by
        if left:
            self._waiting[key] = left
        else:
            self._waiting.pop(key, None)

    def _forget(self) -> None:
        """A key whose clock is behind ours is as one that was never here."""
        if len(self._ends) > 2 * len(self._waiting) + 64:
            self._ends = {line: end for line, end in self._ends.items() if end > self._now}

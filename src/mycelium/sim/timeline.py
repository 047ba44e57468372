"""The fake clock: a heap of what happens when, and the one source of chance.

Two things due at the same moment happen in the order in which they were asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random

START_NS = 1_750_000_000_000_000_000
MS_NS = 1_000_000
S_NS = 1_000_000_000


class Timeline:
    """Time that passes only when everything before it has happened."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now_ns = START_NS
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, when_ns: int, do: Callable[[], None]) -> None:
        self._count += 1
        heappush(self._heap, (max(when_ns, self.now_ns), self._count, do))

    def after(self, wait_ns: int, do: Callable[[], None]) -> None:
        self.at(self.now_ns + wait_ns, do)

    def run(self, until_ns: int) -> None:
        """Let everything happen that is due until then."""
        heap = self._heap
        while heap and heap[0][0] <= until_ns:
            self.now_ns, _, do = heappop(heap)
            do()
        self.now_ns = until_ns

    # Chance.

    def drawn_ns(self, mean_ns: float) -> int:
        """A waiting time with that mean, as between calls to a telephone exchange."""
        return int(self.random.expovariate(1.0 / mean_ns)) + 1

    def happens(self, permille: int) -> bool:
        return permille > 0 and self.random.random() * 1000 < permille

    def name(self) -> str:
        """Something that differs every time: a boot's name, an object's digest."""
        return f"{self.random.getrandbits(256):064x}"

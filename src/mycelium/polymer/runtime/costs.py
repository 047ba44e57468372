"""What a call of each kernel costs, as measured, and how many calls one batch should hold."""

from __future__ import annotations

from collections.abc import Sequence

BATCH_NS = 4_000_000  # what one batch should take: long beside a round trip (0.1 ms), short beside a person's patience
GROWTH = 16  # a batch may be so many times larger than the last one that was measured
SHARE = 3  # batches per slot that should be left when the end comes near, so that all workers end together


class Cost:
    """One kernel in one operation: a decaying mean of what a call takes, and the largest batch that was measured.

    `chosen`: calls and nanoseconds of each (kernel, form, device kind), where there was a choice.
    """

    __slots__ = ("call_ns", "calls", "chosen", "largest", "spent_ns")

    def __init__(self) -> None:
        self.call_ns = 0.0
        self.calls = 0
        self.spent_ns = 0
        self.largest = 0
        self.chosen: dict[tuple[str, str, str], tuple[int, int]] = {}

    def chose(self, told: Sequence[tuple[str, str, str, int, int]]) -> None:
        for kernel, form, device, calls, ns in told:
            before = self.chosen.get((kernel, form, device), (0, 0))
            self.chosen[kernel, form, device] = (before[0] + calls, before[1] + ns)

    def measured(self, calls: int, spent_ns: int) -> None:
        one = spent_ns / max(calls, 1)
        weight = 0.5 if calls >= self.largest else 0.2
        self.call_ns = one if self.calls == 0 else (1 - weight) * self.call_ns + weight * one
        self.calls += calls
        self.spent_ns += spent_ns
        self.largest = max(self.largest, calls)

    def batch(self, left: int, slots: int) -> int:
        """How many of the `left` calls the next batch should hold."""
        if self.calls == 0:
            return 1
        wanted = int(BATCH_NS / max(self.call_ns, 1.0))
        return max(1, min(wanted, self.largest * GROWTH, -(-left // (slots * SHARE)), left))

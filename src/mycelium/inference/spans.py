"""Sets of line numbers, kept as spans: sorted, apart, each from its first up to and without its last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mycelium.inference.model import Span


def spans_of(numbers: Iterable[int]) -> tuple[Span, ...]:
    return union((), [(number, number + 1) for number in numbers])


def union(spans: Iterable[Span], more: Iterable[Span]) -> tuple[Span, ...]:
    merged: list[Span] = []
    for first, last in sorted([*spans, *more]):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)


def count(spans: Iterable[Span]) -> int:
    return sum(last - first for first, last in spans)


def overlap(spans: Iterable[Span], others: Iterable[Span]) -> bool:
    kept, added = tuple(spans), tuple(others)
    return count(union(kept, added)) < count(union((), kept)) + count(union((), added))


def missing(spans: Iterable[Span], total: int) -> Iterator[int]:
    """The numbers below `total` that are in no span, in order."""
    at = 0
    for first, last in spans:
        yield from range(at, min(first, total))
        at = last
    yield from range(at, total)

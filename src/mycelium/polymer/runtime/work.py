"""What one batch of calls does, in a worker or in the interpreter: the same few loops, so that results are the same.

An associative fold follows one fixed tree, whatever the pool: neighbours in blocks of `FAN`, again and again. So does
an associative scan, over blocks of `width`. Never: reads a clock; `some`, which stops in time, is given one.
"""

# A program's values may be of any type.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from math import isqrt
from typing import Any

from mycelium.base.errors import Refused

FAN = 16
GROWTH = 16  # while the cost of a call is being found out, so many times as many as before are tried next


class CallFailed(Exception):
    """The call at `index` of a batch raised; the error is its cause. `inputs` are what the call was given."""

    def __init__(self, index: int, inputs: tuple[Any, ...], kernel: int = 0) -> None:
        super().__init__(index)
        self.index, self.inputs, self.kernel = index, inputs, kernel


def call(kernel: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    try:
        return kernel(*arguments)
    except Exception as error:
        raise CallFailed(0, tuple(arguments)) from error


def each(kernel: Callable[..., Any], columns: Sequence[Sequence[Any]], shared: Sequence[tuple[int, Any]]) -> list[Any]:
    """`kernel` on the elements of `columns`; `shared` are (position, value) that every call gets."""
    out: list[Any] = []
    add = out.append
    try:
        if len(columns) == 1 and not shared:
            for x in columns[0]:
                add(kernel(x))
        elif not shared:
            for xs in zip(*columns, strict=True):
                add(kernel(*xs))
        else:
            for xs in zip(*columns, strict=True):
                add(kernel(*_merge(xs, shared)))
    except Exception as error:
        at = len(out)
        raise CallFailed(at, _merge(tuple(column[at] for column in columns), shared)) from error
    return out


def some(
    kernel: Callable[..., Any],
    columns: Sequence[Sequence[Any]],
    shared: Sequence[tuple[int, Any]],
    limit_ns: int,
    clock_ns: Callable[[], int],
) -> list[Any]:
    """`each`, for about so long: the results of as many calls from the first on as were done by then, and at least
    one.
    """
    out: list[Any] = []
    begun_ns, total, size = clock_ns(), len(columns[0]), 1
    while True:
        try:
            out += each(kernel, [column[len(out) : len(out) + size] for column in columns], shared)
        except CallFailed as failed:
            failed.index += len(out)
            raise
        spent_ns = clock_ns() - begun_ns
        if len(out) == total or spent_ns >= limit_ns:
            return out
        size = max(1, min(GROWTH * size, (limit_ns - spent_ns) * len(out) // max(spent_ns, 1)))


def _merge(xs: tuple[Any, ...], shared: Sequence[tuple[int, Any]]) -> tuple[Any, ...]:
    merged = list(xs)
    for position, value in shared:
        merged.insert(position, value)
    return tuple(merged)


def fold(kernel: Callable[..., Any], xs: Sequence[Any], init: Sequence[Any]) -> Any:
    """In order, from the left."""
    items = iter(xs)
    if init:
        so_far = init[0]
    else:
        try:
            so_far = next(items)
        except StopIteration:
            raise CallFailed(0, ()) from TypeError("reduce of an empty list needs an initial value")
    for at, x in enumerate(items, 0 if init else 1):
        try:
            so_far = kernel(so_far, x)
        except Exception as error:
            raise CallFailed(at, (so_far, x)) from error
    return so_far


def tree(kernel: Callable[..., Any], xs: Sequence[Any]) -> Any:
    """The fixed tree over `xs`. Over an aligned piece of a longer list it gives that piece's node of the whole tree."""
    level: Sequence[Any] = xs
    while len(level) > 1:
        level = [_block(kernel, level, at) for at in range(0, len(level), FAN)]
    return fold(kernel, level, ())


def _block(kernel: Callable[..., Any], level: Sequence[Any], at: int) -> Any:
    block = level[at : at + FAN]
    try:
        return reduce(kernel, block)
    except Exception:
        return fold(kernel, block, ())  # again, slowly, so that the error names its inputs


def trees(kernel: Callable[..., Any], xs: Sequence[Any], size: int) -> list[Any]:
    """The nodes of `xs`'s tree above each `size` elements; `size` is a power of `FAN`."""
    return [tree(kernel, xs[at : at + size]) for at in range(0, len(xs), size)]


def scan(kernel: Callable[..., Any], xs: Sequence[Any], init: Sequence[Any]) -> list[Any]:
    """The folds of every beginning of `xs`, as long as `xs`."""
    out: list[Any] = []
    items = iter(xs)
    if init:
        so_far = init[0]
    else:
        first = next(items, out)
        if first is out:
            return out
        so_far = first
        out.append(so_far)
    for x in items:
        try:
            so_far = kernel(so_far, x)
        except Exception as error:
            raise CallFailed(len(out), (so_far, x)) from error
        out.append(so_far)
    return out


def width(count: int) -> int:
    """The size of the blocks of an associative scan: of the length alone, so that every pool cuts alike."""
    return max(FAN, isqrt(count))


def scans(kernel: Callable[..., Any], xs: Sequence[Any], size: int) -> list[list[Any]]:
    """Each block of `size` elements scanned by itself."""
    out: list[list[Any]] = []
    for at in range(0, len(xs), size):
        try:
            out.append(scan(kernel, xs[at : at + size], ()))
        except CallFailed as failed:
            failed.index += at
            raise
    return out


def shifts(kernel: Callable[..., Any], blocks: Sequence[list[Any]], before: Sequence[Any]) -> list[list[Any]]:
    """Blocks scanned by themselves, after what was folded before each."""
    out: list[list[Any]] = []
    for block, so_far in zip(blocks, before, strict=True):
        try:
            out.append(each(partial(kernel, so_far), [block], ()))
        except CallFailed as failed:
            done = sum(map(len, out))
            raise CallFailed(done + failed.index, (so_far, *failed.inputs)) from failed.__cause__
    return out


def prefix(kernel: Callable[..., Any], xs: Sequence[Any], init: Sequence[Any]) -> list[Any]:
    """An associative scan: blocks first, then the folds of what comes before each, then both together.

    Source: W. D. Hillis, G. L. Steele, "Data parallel algorithms", CACM 29 (12), 1986.
    """
    blocks = scans(kernel, xs, width(len(xs)))
    before = [*init, *scan(kernel, [block[-1] for block in blocks[:-1]], init)]
    alone = 0 if init else 1  # without an initial value nothing comes before the first block
    moved = [*blocks[:alone], *shifts(kernel, blocks[alone:], before)]
    return [x for block in moved for x in block]


def loop(test: Callable[..., Any], body: Callable[..., Any], state: Any) -> Any:
    rounds = 0
    try:
        while test(state):
            state = body(state)
            rounds += 1
    except Exception as error:
        raise CallFailed(rounds, (state,)) from error
    return state


FOLDS: dict[str, Callable[..., Any]] = {  # batches over (elements, something more), by name
    "fold": fold,
    "scan": scan,
    "scans": scans,
    "shifts": shifts,
    "trees": trees,
}


def elements(value: Any) -> Sequence[Any]:
    """What a map walks over: a list as it is; of an array its rows, or Python numbers where the rows are scalars."""
    if hasattr(value, "dtype"):
        return value.tolist() if value.ndim == 1 else list(value)
    return value if isinstance(value, list | tuple | range) else list(value)


def zip_lists(reads: list[Any]) -> list[Any]:
    columns = [elements(read) for read in reads]
    equal_lengths("zip", "lists", columns)
    return list(zip(*columns, strict=True))


def equal_lengths(verb: str, kernel: str, columns: list[Any]) -> None:
    lengths = [len(column) for column in columns]
    if len(set(lengths)) > 1:
        raise Refused(f"{verb} of {kernel}: the sequences have different lengths: {', '.join(map(str, lengths))}")

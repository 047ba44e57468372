"""What one batch of calls does, in a worker or in the interpreter: the same few loops, so that results are the same.

An associative fold follows one fixed tree, whatever the pool: neighbours in blocks of `FAN`, again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

FAN = 16


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


def loop(test: Callable[..., Any], body: Callable[..., Any], state: Any) -> Any:
    rounds = 0
    try:
        while test(state):
            state = body(state)
            rounds += 1
    except Exception as error:
        raise CallFailed(rounds, (state,)) from error
    return state


def elements(value: Any) -> Sequence[Any]:
    """What a map walks over: a list as it is; of an array its rows, or Python numbers where the rows are scalars."""
    if hasattr(value, "dtype"):
        return value.tolist() if value.ndim == 1 else list(value)
    return value if isinstance(value, list | tuple | range) else list(value)

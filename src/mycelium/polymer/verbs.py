"""The verbs: inside a program they add an operation to its graph; outside they run at once, on every core.

`map` takes plain lists and arrays and never asks for a chunk size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mycelium.base.errors import Refused
from mycelium.polymer.define import ProgramFunction
from mycelium.polymer.function import as_kernel
from mycelium.polymer.here import execute
from mycelium.polymer.program import trace as tracing
from mycelium.polymer.program.graph import Module
from mycelium.polymer.program.trace import Ref, Trace, Value, current, trace_of, traced
from mycelium.polymer.schema.types import Param
from mycelium.polymer.schema.values import type_of


def ref(value: Any) -> Ref:
    """A value that all calls of a map share: it is carried to each worker once, and not walked over."""
    return Ref(value)


def map(function: Callable[..., Any], *sequences: Any) -> list[Any]:
    """`function` on the elements of equally long lists or arrays, in order; `ref(x)` goes to every call whole.

    Errors: what the first failing call raised, with a note that names the kernel and the call.
    """
    if not sequences:
        raise Refused("map needs at least one list or array")
    kernel = as_kernel(function).kernel
    return _do(lambda trace, *given: tracing.map_(trace, kernel, given), sequences, "map")


def zip(*sequences: Any) -> list[tuple[Any, ...]]:
    """The tuples of the elements of equally long sequences."""
    if not sequences:
        raise Refused("zip needs at least one list or array")
    return _do(lambda trace, *given: tracing.zip_(trace, given), sequences, "zip")


_NOTHING: Any = object()


def reduce(function: Callable[..., Any], sequence: Any, init: Any = _NOTHING, *, associative: bool = False) -> Any:
    """The elements folded into one: in order, or over a fixed tree, in parallel, where `associative` is promised."""
    return _fold("reduce", function, sequence, init, associative)


def scan(function: Callable[..., Any], sequence: Any, init: Any = _NOTHING, *, associative: bool = False) -> list[Any]:
    """The folds of every beginning of the sequence: in order, or in parallel, where `associative` is promised."""
    return _fold("scan", function, sequence, init, associative)


def _fold(verb: str, function: Any, sequence: Any, init: Any, associative: bool) -> Any:
    kernel = as_kernel(function).kernel
    given = (sequence,) if init is _NOTHING else (sequence, init)
    return _do(lambda trace, xs, *start: tracing.fold(trace, verb, kernel, xs, start, associative), given, verb)


def select(condition: Any, first: Any, second: Any) -> Any:
    """`first` where the condition is true, else `second`. In a program both may start before the condition is known."""
    if not (traced((condition, first, second)) or current()):
        return first if condition else second
    return _do(tracing.select_, (condition, first, second), "select")


def loop(test: Callable[..., Any], body: Callable[..., Any], init: Any) -> Any:
    """`state = body(state)` while `test(state)`; `body` is a kernel or a program of one input."""
    tester = as_kernel(test).kernel
    repeated = body.module if isinstance(body, ProgramFunction) else as_kernel(body).kernel
    return _do(lambda trace, state: tracing.loop_(trace, tester, repeated, state), (init,), "loop")


def _do(build: Callable[..., Value], given: Sequence[Any], verb: str) -> Any:
    building = trace_of(given) if traced(given) else current()
    if building is not None:
        return build(building, *given)
    return _now(build, given, verb)


# The verbs that walk over their first argument, and over every other one.
_WALKING = (("map", "zip", "reduce", "scan"), ("map", "zip"))


def _is_loose(value: Any) -> bool:
    """Whether it is walked over but no list yet: a generator, or a tuple, whose elements have types of their own."""
    return isinstance(value, tuple) or (hasattr(value, "__iter__") and not hasattr(value, "__len__"))


def _now(build: Callable[..., Value], given: Sequence[Any], verb: str) -> Any:
    """A program of one operation, run at once."""
    trace = Trace(verb)
    inputs: dict[str, Any] = {}
    values: list[Any] = []
    for number, value in enumerate(given, 1):
        inner = value.value if isinstance(value, Ref) else value
        if verb in _WALKING[number > 1] and not isinstance(value, Ref) and _is_loose(inner):
            inner = list(inner)
        name = f"x{number}"
        inputs[name] = inner
        held = trace.input(Param(name, type_of(inner)))
        values.append(Ref(held) if isinstance(value, Ref) else held)
    output = build(trace, *values)
    module: Module = trace.finish(output)
    return execute(module, inputs)


__all__ = ["as_kernel", "loop", "map", "reduce", "ref", "scan", "select", "zip"]

"""From a Python function to a graph: the function runs once with stand-ins for its inputs, which record what is done.

Plain values that meet a stand-in become constants. Never: calls a kernel's function.
"""

# A program's values may be of any type.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from mycelium.base.errors import Fault, Refused, refuse
from mycelium.base.limits import PROGRAM_OPS_MAX
from mycelium.polymer.kernel import Kernel
from mycelium.polymer.program.graph import Graph, Module, Op
from mycelium.polymer.schema.types import (
    ANY,
    BOOL,
    Anything,
    ListOf,
    Param,
    Signature,
    Tensor,
    TupleOf,
    Type,
    Union,
    element,
)
from mycelium.polymer.schema.unify import Bindings, apply, mismatch
from mycelium.polymer.schema.values import type_of

_current: contextvars.ContextVar[Trace | None] = contextvars.ContextVar("polymer_trace", default=None)


class Value:
    """A stand-in for what an operation will give. It can be passed on and taken apart, not looked at."""

    __slots__ = ("at", "trace", "type")

    def __init__(self, trace: Trace, at: int, kind: Type) -> None:
        self.trace, self.at, self.type = trace, at, kind

    def __getitem__(self, index: int) -> Value:
        if not isinstance(self.type, TupleOf | Anything):
            raise Refused(
                f"only tuples can be taken apart inside a program; this is {self.type}", hint="index it inside a kernel"
            )
        return self.trace.item(self, index)

    def __iter__(self) -> Any:
        if isinstance(self.type, TupleOf):
            return iter([self.trace.item(self, index) for index in range(len(self.type.items))])
        return self._refuse("iterated over")

    def _refuse(self, deed: str) -> Any:
        raise Refused(
            f"a value of program {self.trace.name} was {deed} while the program was being built",
            hint="use select, loop or map, or move this into a kernel",
        )

    def __bool__(self) -> bool:
        return self._refuse("tested")

    def __len__(self) -> int:
        return self._refuse("measured")

    def __repr__(self) -> str:
        return f"<%{self.at}: {self.type}>"


class Ref:
    """A value that all calls of a map share: carried to each worker once, and not walked over."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"ref({type(self.value).__name__})"


class Trace:
    """One program while it is being built."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ops: list[Op] = []
        self.kernels: dict[str, Kernel] = {}
        self.graphs: dict[str, Graph] = {}

    def add(self, op: Op) -> Value:
        if len(self.ops) >= PROGRAM_OPS_MAX:
            raise Refused(f"program {self.name} has more than {PROGRAM_OPS_MAX} operations", hint="use map or loop")
        self.ops.append(op)
        return Value(self, len(self.ops) - 1, op.type)

    def input(self, param: Param) -> Value:
        return self.add(Op("input", (), param.type, name=param.name))

    def lift(self, value: Any) -> Value:
        """A stand-in for any value: itself, a tuple of stand-ins, or a constant."""
        if isinstance(value, Value):
            if value.trace is not self:
                raise Refused(f"a value of program {value.trace.name} is used in program {self.name}")
            return value
        if isinstance(value, tuple | list) and traced(value):
            parts = [self.lift(part) for part in value]
            return self.add(Op("tuple", tuple(part.at for part in parts), TupleOf(tuple(part.type for part in parts))))
        if isinstance(value, Ref) and isinstance(value.value, Value):
            return self.lift(value.value)
        inner = value.value if isinstance(value, Ref) else value
        return self.add(Op("const", (), type_of(inner), value=inner))

    def use(self, kernel: Kernel) -> Kernel:
        """Enter a kernel into the program under its name, or the next free one."""
        name, number = kernel.name, 1
        for held in self.kernels.values():
            if held.forms == kernel.forms:
                return held
        while name in self.kernels or name in self.graphs or name == self.name:
            number += 1
            name = f"{kernel.name}_{number}"
        if name != kernel.name:
            kernel = msgspec.structs.replace(kernel, name=name)
        self.kernels[name] = kernel
        return kernel

    def item(self, value: Value, index: int) -> Value:
        kinds = value.type.items if isinstance(value.type, TupleOf) else None
        if kinds is not None and not -len(kinds) <= index < len(kinds):
            raise IndexError(f"tuple of {len(kinds)} has no element {index}")
        return self.add(Op("item", (value.at,), ANY if kinds is None else kinds[index], index=index))

    def finish(self, result: Any) -> Module:
        output = self.lift(result)
        return Module({self.name: Graph(self.name, tuple(self.ops), output.at), **self.graphs}, dict(self.kernels))


def traced(values: Iterable[Any]) -> bool:
    """Whether any of the values, or of the parts of tuples and lists among them, is a stand-in."""
    return any(_is_traced(value) for value in values)


def _is_traced(value: Any) -> bool:
    if isinstance(value, Ref):
        return isinstance(value.value, Value)
    return isinstance(value, Value) or (isinstance(value, tuple | list) and _deep(value))


def _deep(parts: Sequence[Any]) -> bool:
    # A stand-in inside a long list of plain values is not something people write: the first few tell.
    return any(isinstance(part, Value) or (isinstance(part, tuple | list) and _deep(part)) for part in parts[:64])


def trace_of(values: Iterable[Any]) -> Trace:
    for value in values:
        if isinstance(value, Ref):
            value = value.value
        if isinstance(value, Value):
            return value.trace
        if isinstance(value, tuple | list) and traced(value):
            return trace_of(value)
    raise Refused("no value of a program was given")


def trace(function: Callable[..., Any], name: str, params: Sequence[Param]) -> Module:
    """The program that `function` describes, over inputs `params`."""
    building = Trace(name)
    inputs = [building.input(param) for param in params]
    token = _current.set(building)
    try:
        return building.finish(function(*inputs))
    finally:
        _current.reset(token)


def current() -> Trace | None:
    """The program being built by this thread, if any: verbs without stand-ins among their arguments join it too."""
    return _current.get()


def call(kernel: Kernel, args: Sequence[Any], kwargs: dict[str, Any]) -> Value:
    given = [*args, *kwargs.values()]
    building = (trace_of(given) if traced(given) else None) or current()
    assert building is not None, "a call outside every program is no operation"
    kernel = building.use(kernel)
    ordered = _positional(kernel, args, kwargs)
    values = [building.lift(arg) for arg in ordered]
    kind, faults = apply(kernel.name, kernel.signature, [value.type for value in values], kernel.optional)
    refuse(faults)
    return building.add(Op("call", tuple(value.at for value in values), kind, kernel=kernel.name))


def _positional(kernel: Kernel, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
    ordered, rest = list(args), dict(kwargs)
    for param in kernel.signature.params[len(args) :]:
        if param.name not in rest:
            break
        ordered.append(rest.pop(param.name))
    if rest:
        raise Refused(f"kernel {kernel.name} cannot take {next(iter(rest))!r} by name here", hint="pass it by position")
    return ordered


def _elements(verb: str, kernel: str, values: Sequence[Value]) -> list[Type]:
    kinds = [element(value.type) for value in values]
    refuse(
        [
            Fault(f"{verb} of {kernel}, argument {number}", f"expected a list or an array, got {value.type}")
            for number, (value, kind) in enumerate(zip(values, kinds, strict=True), 1)
            if kind is None
        ]
    )
    return [ANY if kind is None else kind for kind in kinds]


def map_(building: Trace, kernel: Kernel, sequences: Sequence[Any]) -> Value:
    kernel = building.use(kernel)
    shared = tuple(at for at, sequence in enumerate(sequences) if isinstance(sequence, Ref))
    values = [building.lift(sequence) for sequence in sequences]
    if len(shared) == len(values):
        raise Refused(f"map of {kernel.name} has no sequence to walk over", hint="ref() is for what all calls share")
    if len(values) == 1 and building.ops[values[0].at].verb == "zip" and len(kernel.signature.params) > 1:
        zipped = building.ops[values[0].at]
        values = [Value(building, at, building.ops[at].type) for at in zipped.reads]
    walked = [value for at, value in enumerate(values) if at not in shared]
    kinds = iter(_elements("map", kernel.name, walked))
    arguments = [value.type if at in shared else next(kinds) for at, value in enumerate(values)]
    kind, faults = apply(kernel.name, kernel.signature, arguments, kernel.optional)
    refuse(faults)
    reads = tuple(value.at for value in values)
    return building.add(Op("map", reads, ListOf(kind), kernel=kernel.name, shared=shared))


def zip_(building: Trace, sequences: Sequence[Any]) -> Value:
    values = [building.lift(sequence) for sequence in sequences]
    kinds = _elements("zip", "lists", values)
    return building.add(Op("zip", tuple(value.at for value in values), ListOf(TupleOf(tuple(kinds)))))


def fold(building: Trace, verb: str, kernel: Kernel, sequence: Any, init: Sequence[Any], associative: bool) -> Value:
    """`reduce` and `scan`: the kernel takes what was folded so far and the next element."""
    kernel = building.use(kernel)
    over = building.lift(sequence)
    (item,) = _elements(verb, kernel.name, [over])
    starts = [building.lift(value) for value in init]
    so_far = starts[0].type if starts else item
    kind, faults = apply(kernel.name, kernel.signature, [so_far, item], kernel.optional)
    if not faults:
        _, again = apply(kernel.name, kernel.signature, [kind, kind if associative else item], kernel.optional)
        faults = [Fault(fault.where, f"in the second round of {verb}, {fault.message}") for fault in again]
    refuse(faults)
    reads = (over.at, *(start.at for start in starts))
    whole = kind if verb == "reduce" else ListOf(kind)
    return building.add(Op(verb, reads, whole, kernel=kernel.name, associative=associative))


def select_(building: Trace, condition: Any, first: Any, second: Any) -> Value:
    test, one, other = (building.lift(value) for value in (condition, first, second))
    why = mismatch(BOOL, test.type, Bindings(), "condition")
    if why and not isinstance(test.type, Tensor):
        raise Refused(f"select, condition: {why}")
    kind = one.type if not mismatch(one.type, other.type, Bindings(), "b") else Union((one.type, other.type))
    return building.add(Op("select", (test.at, one.at, other.at), kind))


def loop_(building: Trace, test: Kernel, body: Kernel | Module, init: Any) -> Value:
    """`body` is a kernel, or a program whose graph is repeated."""
    state = building.lift(init)
    tester = building.use(test)
    verdict, faults = apply(tester.name, tester.signature, [state.type], tester.optional)
    refuse(faults)
    why = mismatch(BOOL, verdict, Bindings(), "result")
    if why:
        raise Refused(f"loop, test {tester.name}: {why}")
    if isinstance(body, Module):
        name = _enter(building, body)
        graph = building.graphs[name]
        refuse(apply(name, _signature(graph), [state.type])[1])
        after = graph.result()
    else:
        kernel = building.use(body)
        name = kernel.name
        after, faults = apply(name, kernel.signature, [state.type], kernel.optional)
        refuse(faults)
    why = mismatch(state.type, after, Bindings(), "state")
    if why:
        raise Refused(f"loop, body {name}: its result cannot be the next state: {why}")
    return building.add(Op("loop", (state.at,), after, kernel=name, test=tester.name))


def _signature(graph: Graph) -> Signature:
    return Signature(graph.inputs(), graph.result())


def _enter(building: Trace, module: Module) -> str:
    """Take another program's graphs and kernels into the one being built; the name of its main graph here."""
    renamed = {name: building.use(kernel).name for name, kernel in module.kernels.items()}
    names = {name: _free(building, name) for name in module.graphs}
    for name, graph in module.graphs.items():
        ops = tuple(_rename(op, {**renamed, **names}) for op in graph.ops)
        building.graphs[names[name]] = Graph(names[name], ops, graph.output)
    return names[module.main.name]


def _rename(op: Op, names: dict[str, str]) -> Op:
    return msgspec.structs.replace(
        op, kernel=names.get(op.kernel, op.kernel), test=names.get(op.test, op.test), each=names.get(op.each, op.each)
    )


def _free(building: Trace, name: str) -> str:
    taken = {building.name, *building.graphs, *building.kernels}
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def inline(building: Trace, module: Module, args: Sequence[Any]) -> Value:
    """Calling a program inside a program: its operations become part of the one being built."""
    graph = module.main
    params = graph.inputs()
    if len(args) != len(params):
        raise Refused(f"program {graph.name} takes {len(params)} inputs, got {len(args)}")
    values = [building.lift(arg) for arg in args]
    refuse(apply(graph.name, _signature(graph), [value.type for value in values])[1])
    names = {name: building.use(kernel).name for name, kernel in module.kernels.items()}
    for name in list(module.graphs)[1:]:
        inner = Module({name: module.graphs[name]}, module.kernels)
        names[name] = _enter(building, inner)
    given = iter(values)
    place: list[int] = []
    for op in graph.ops:
        if op.verb == "input":
            place.append(next(given).at)
            continue
        moved = msgspec.structs.replace(_rename(op, names), reads=tuple(place[read] for read in op.reads))
        place.append(building.add(moved).at)
    return Value(building, place[graph.output], graph.result())
